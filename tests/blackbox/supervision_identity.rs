//! Numbers come again, and nobody is taken for who had one before: of a terminal, of a process, of
//! a session, of a mark.

use serde_json::{Value, json};

use crate::harness::{Backend, Launch, Server, eventually, on_both, procfs, sh, skipped_anywhere};
use crate::supervision_trees::{cgroups_available, unprivileged};

on_both!(
    the_next_terminal_of_the_same_name_is_not_the_old_records,
    a_later_process_of_the_same_number_is_not_the_old_records,
    a_mark_is_not_handed_out_while_somebody_carries_it,
);

/// Before the server: the first process of a PID namespace, with which ends whatever a failing
/// test would leave, and terminals of its own, so that nobody else takes their names.
const NAMESPACE: [&str; 7] = [
    "unshare",
    "-fp",
    "--mount-proc",
    "--kill-child",
    "sh",
    "-c",
    "mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts /dev/pts && \
     mount --bind /dev/pts/ptmx /dev/ptmx && \
     { [ -z \"$PID_MAX\" ] || echo $PID_MAX > /proc/sys/kernel/pid_max; } && exec \"$@\"",
];

fn namespace() -> Vec<&'static str> {
    // What `sh -c` calls $0.
    NAMESPACE.iter().copied().chain(["sh"]).collect()
}

fn namespaces_available() -> bool {
    let all = namespace();
    let made = std::process::Command::new(all[0])
        .args(&all[1..])
        .arg("true")
        .output()
        .is_ok_and(|output| output.status.success());
    if !made {
        skipped_anywhere("unshare(1) makes no namespaces here; numbers do not come again");
    }
    made
}

/// Servers without and with groups, and one of another user.
fn servers(backend: Backend, launch: &dyn Fn() -> Launch) -> Vec<(&'static str, Server)> {
    let start = |launch: Launch, cgroup| {
        let launch = launch.args(&["--no-token", "--cgroup", cgroup]);
        launch.through(&namespace()).start()
    };
    let mut servers = vec![("a sweep", start(launch(), "off"))];
    if cgroups_available() {
        servers.push(("a group", start(launch(), "on")));
    }
    if let Some(user) = unprivileged() {
        let launch = launch().program(&user.program).through_exec(&user.prefix());
        servers.push(("another user", start(launch, "off")));
    }
    assert!(!servers.is_empty(), "{backend:?}");
    servers
}

/// A daemon that no longer shows the mark it was born with.
fn unmarked() -> String {
    format!(
        "perl -e 'syscall({}, {}, 50000, 0, 0, 0); my $n = pack(q(QQ), ~0, ~0); syscall({}, 0, {}, $n, 0); \
         exec qw(sleep 77)'",
        libc::SYS_prctl,
        libc::PR_SET_TIMERSLACK,
        libc::SYS_prlimit64,
        libc::RLIMIT_LOCKS,
    )
}

/// Whatever the server was asked to do before this, it has had the time for.
fn let_time_pass(server: &Server) {
    for _ in 0..20 {
        assert_eq!(server.run(&sh("exit 3"))["exitCode"], 3);
    }
}

#[track_caller]
fn assert_runs(server: &Server, id: &str, descendants: usize, what: &str) {
    assert_eq!(server.info(id)["status"], "running", "{what}");
    let living = server.survivors().len();
    assert_eq!(living, 1 + descendants, "{what}: alive in all");
}

fn the_next_terminal_of_the_same_name_is_not_the_old_records(backend: Backend) {
    if !namespaces_available() {
        return;
    }
    for (way, server) in servers(backend, &|| Launch::new(backend)) {
        let terminal = |script: &str| {
            let mut body = sh(script);
            body["tty"] = true.into();
            body
        };
        let end = |id: String| {
            server.kill(&id);
            server.delete(&format!("/v1/processes/{id}?tree=true"));
        };
        for background in ["sleep 77", &unmarked()] {
            let what = format!("{way}, {background:.9}");
            let old = server.spawn(&terminal("tty"));
            server.await_exit(&old);
            let name = server.await_output(&old, "/dev/pts/");
            // The name is free once the server has closed its side.
            // Others on this machine let go of lower numbers, which are given out first: they are
            // held until it is the turn of the name.
            let mut others = Vec::new();
            let next = eventually("the name again", || {
                let next = server.spawn(&terminal(&format!(
                    "tty; ({background} &); echo ready; exec sleep 77"
                )));
                let output = server.await_output(&next, "ready");
                if output.starts_with(&name) {
                    return Some(next);
                }
                others.push(next);
                if others.len() > 40 {
                    others.drain(..).for_each(end);
                }
                None
            });
            others.into_iter().for_each(end);
            eventually("its background job", || {
                (server.survivors().len() == 2).then_some(())
            });
            server.kill(&old);
            let_time_pass(&server);
            assert_runs(&server, &next, 1, &format!("{what}: after kill"));
            server.delete(&format!("/v1/processes/{old}?tree=true"));
            let_time_pass(&server);
            assert_runs(&server, &next, 1, &format!("{what}: after delete"));
            server.kill(&next);
            eventually(&format!("{what}: nobody"), || {
                server.survivors().is_empty().then_some(())
            });
        }
    }
}

/// Whether `/proc/sys/kernel/pid_max` is the PID namespace's own (kernel 6.14).
fn pid_max_is_the_namespaces() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|n| n.parse::<u32>().ok());
    (next(), next()) >= (Some(6), Some(14))
}

fn a_later_process_of_the_same_number_is_not_the_old_records(backend: Backend) {
    if !pid_max_is_the_namespaces() {
        return skipped_anywhere("a PID namespace has no pid_max of its own before kernel 6.14");
    }
    if !namespaces_available() {
        return;
    }
    let launch = || Launch::new(backend).env("PID_MAX", "420");
    for (way, server) in servers(backend, &launch) {
        let exited = || {
            let info = server.create(&json!({"command": "true"}));
            let id = info["id"].as_str().unwrap().to_owned();
            server.await_exit(&id);
            (id, info["pid"].as_i64().unwrap())
        };
        // Numbers below 300 do not come again.
        let (old, pid) = eventually("a number that comes again", || {
            let (id, pid) = exited();
            if pid > 310 {
                return Some((id, pid));
            }
            server.delete(&format!("/v1/processes/{id}"));
            None
        });
        let next = eventually("the number again", || {
            let info = server.create(&sh("(sleep 77 &); echo ready; exec sleep 77"));
            let id = info["id"].as_str().unwrap().to_owned();
            if info["pid"] == pid {
                return Some(id);
            }
            server.kill(&id);
            server.delete(&format!("/v1/processes/{id}?tree=true"));
            None
        });
        server.await_output(&next, "ready");
        eventually("its background job, and nobody else", || {
            (server.survivors().len() == 2).then_some(())
        });
        server.kill(&old);
        let_time_pass(&server);
        assert_runs(&server, &next, 1, &format!("{way}: after kill"));
        server.delete(&format!("/v1/processes/{old}?tree=true"));
        let_time_pass(&server);
        assert_runs(&server, &next, 1, &format!("{way}: after delete"));
        server.kill(&next);
        eventually(&format!("{way}: nobody"), || {
            server.survivors().is_empty().then_some(())
        });
    }
}

/// A daemon that starts another one in a session of its own once the file `$F` is there.
const DAEMON: &str = "use POSIX; fork and exit; POSIX::setsid(); fork and exit; \
                      open STDIN, '<', '/dev/null'; open STDOUT, '>', '/dev/null'; \
                      open STDERR, '>', '/dev/null'; \
                      select undef, undef, undef, 0.01 until -e $ENV{F}; \
                      unless (fork) { POSIX::setsid(); fork and exit; exec qw(sleep 78) } \
                      sleep 77";

/// Marks of a server.
const MARKS: usize = 16_383;

fn a_mark_is_not_handed_out_while_somebody_carries_it(backend: Backend) {
    let _heavy = crate::harness::one_heavy_test_at_a_time();
    let Some(user) = unprivileged() else {
        return;
    };
    let server = Launch::new(backend)
        .args(&["--no-token", "--cgroup", "off"])
        .program(&user.program)
        .through_exec(&user.prefix())
        .start();
    // Where another user finds it.
    let name = format!("procring-marks-{}-{}", std::process::id(), backend.word());
    let file = std::env::temp_dir().join(name);
    let mut body = json!({"command": "perl", "args": ["-e", DAEMON]});
    body["env"] = json!({"F": file.display().to_string()});
    assert_eq!(server.run(&body)["exitCode"], 0);
    eventually("the daemon", || {
        (server.survivors().len() == 1).then_some(())
    });
    let mark = |pid: i32| {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let of_locks = limits
            .lines()
            .find(|line| line.starts_with("Max file locks"));
        of_locks.unwrap().to_owned()
    };
    let carried = mark(server.survivors()[0]);
    // They are handed out in turn, also to what cannot be started: after these comes the first one
    // again.
    let run: Value = json!({"command": "/missing"});
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..(MARKS - 4) / 4 {
                    server.post("/v1/processes/run", &run).expect(502);
                }
            });
        }
    });
    let others: Vec<(String, i32)> = (0..8)
        .map(|_| {
            let info = server.create(&json!({"command": "sleep", "args": ["77"]}));
            let id = info["id"].as_str().unwrap().to_owned();
            (id, info["pid"].as_i64().unwrap() as i32)
        })
        .collect();
    assert!(others.iter().all(|(_, pid)| mark(*pid) != carried));
    std::fs::write(&file, "").unwrap();
    let later = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x0078\0")
    };
    let later = eventually("what the daemon started", || {
        server.survivors().into_iter().find(later)
    });
    for (id, _) in &others {
        server.kill(id);
    }
    let_time_pass(&server);
    assert!(
        procfs::alive(later),
        "killed with a process of another tree"
    );
    eventually("the killed to be gone, and nobody else", || {
        (server.survivors().len() == 2).then_some(())
    });
    let _ = std::fs::remove_file(&file);
}
