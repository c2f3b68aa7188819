//! Whole trees (14.2, 14.5) in each of the ways that a server has to end them: by cgroup, by a
//! sweep as root, and by a sweep as a user without privileges.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Backend, Launch, Server, eventually, on_both, procfs, sh, skipped_anywhere};

on_both!(
    daemons_that_shed_every_tie_end_with_their_process,
    a_sibling_that_a_leader_made_ends_with_its_tree,
    processes_that_only_fork_and_exit_are_caught,
    a_timed_out_run_that_forks_in_a_loop_is_answered_and_swept,
    a_fork_loop_at_its_process_limit_is_swept,
    the_groups_of_a_killed_server_go_when_nobody_lives_in_them_any_more,
    a_member_that_moved_to_another_group_ends_with_its_tree,
    a_leader_that_is_held_by_a_tracer_of_its_tree_has_exited,
    a_leader_that_is_held_by_a_tracer_of_another_tree_has_exited,
    a_process_that_lost_its_main_thread_ends_with_its_tree,
    children_are_in_groups_that_are_used_again_and_removed_at_the_end,
);

/// How a server ends trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Cgroup,
    SweepAsRoot,
    SweepAsNobody,
}

/// A server for each way that this machine offers.
///
/// Each is the first process of a PID namespace, where there can be any: with it ends whatever a
/// failing test would leave.
pub(crate) fn every_way(backend: Backend) -> Vec<(Way, Server)> {
    every_way_with(backend, &[])
}

/// The same, with more arguments for the servers.
pub(crate) fn every_way_with(backend: Backend, args: &[&str]) -> Vec<(Way, Server)> {
    let namespace: &[&str] = &["unshare", "-fp", "--mount-proc", "--kill-child"];
    let wrapped = Command::new(namespace[0])
        .args(&namespace[1..])
        .arg("true")
        .output()
        .is_ok_and(|output| output.status.success());
    let open = |cgroup: &str| {
        let launch = Launch::new(backend)
            .args(&["--no-token", "--cgroup", cgroup])
            .args(args);
        if wrapped {
            launch.through(namespace)
        } else {
            launch
        }
    };
    let mut servers = vec![(Way::SweepAsRoot, open("off").start())];
    if cgroups_available() {
        servers.push((Way::Cgroup, open("on").start()));
    }
    if let Some(user) = unprivileged() {
        let server = open("off")
            .program(&user.program)
            .through_exec(&user.prefix())
            .start();
        servers.push((Way::SweepAsNobody, server));
    }
    servers
}

/// Whether a server can make cgroups here; says so in plain sight where it cannot.
pub(crate) fn cgroups_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let unified = std::fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .lines()
            .find(|line| line.contains(" - cgroup2 "))
            .and_then(|line| line.split(' ').nth(4).map(PathBuf::from));
        let probe = unified.map(|dir| dir.join(format!("procring-test-{}", std::process::id())));
        let made = probe.is_some_and(|dir| {
            std::fs::create_dir(&dir).is_ok() && {
                let can_kill = dir.join("cgroup.kill").exists();
                std::fs::remove_dir(&dir).unwrap();
                can_kill
            }
        });
        if !made {
            skipped_anywhere("no cgroup v2 hierarchy can be written to; only sweeps are tested");
        }
        made
    })
}

/// Another user, and a copy of the program that this user can execute.
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) program: PathBuf,
}

impl User {
    pub(crate) fn prefix(&self) -> Vec<String> {
        let uid = self.uid.to_string();
        [
            "setpriv",
            "--reuid",
            &uid,
            "--regid",
            &uid,
            "--clear-groups",
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

/// A user without privileges; says so in plain sight where the tests cannot become one.
pub(crate) fn unprivileged() -> Option<User> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let runs = |program: &Path| {
        Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(program)
            .arg("--version")
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let program = PROGRAM.get_or_init(|| {
        let built = PathBuf::from(env!("CARGO_BIN_EXE_procring"));
        if runs(&built) {
            return Some(built);
        }
        let copy = std::env::temp_dir().join(format!("procring-test-{}", std::process::id()));
        if std::fs::copy(&built, &copy).is_ok() && runs(&copy) {
            return Some(copy);
        }
        skipped_anywhere("setpriv(1) cannot start the server as another user; that is not tested");
        None
    });
    // A number of its own for each server, since the kernel counts processes by user.
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let serial = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    program.clone().map(|program| User {
        uid: 1_600_000_000 + std::process::id() * 64 + serial,
        program,
    })
}

#[track_caller]
fn await_nobody(server: &Server, what: &str) {
    eventually(&format!("{what}: all descendants to be gone"), || {
        server.survivors().is_empty().then_some(())
    });
}

/// Daemons in sessions of their own, orphaned, without the descriptors they were born with.
const DAEMONS: &str = "(setsid sh -c 'exec <&- >&- 2>&-; (setsid sleep 77 &) ; exec sleep 77' &) ; \
                       (setsid sh -c 'exec </dev/null >/dev/null 2>&1; exec setsid sleep 77' &) ; \
                       echo ready; exec sleep 77";

fn daemons_that_shed_every_tie_end_with_their_process(backend: Backend) {
    for (way, server) in every_way(backend) {
        let bystander = server.spawn(&sh(
            "(setsid sleep 78 </dev/null >/dev/null 2>&1 &); exec sleep 78",
        ));
        eventually("the bystander", || {
            (server.survivors().len() == 2).then_some(())
        });
        for ending in ["kill", "delete", "timeout"] {
            let what = format!("{way:?}, {ending}");
            if ending == "timeout" {
                let mut body = sh(DAEMONS);
                body["timeoutMs"] = json!(1500);
                assert_eq!(server.run(&body)["timedOut"], true, "{what}");
            } else {
                let id = server.spawn(&sh(DAEMONS));
                server.await_output(&id, "ready");
                eventually("the daemons", || {
                    (server.survivors().len() == 6).then_some(())
                });
                server.kill(&id);
                if ending == "delete" {
                    server
                        .delete(&format!("/v1/processes/{id}"))
                        .expect_empty(204);
                }
            }
            eventually(&format!("{what}: the tree to be gone"), || {
                (server.survivors().len() <= 2).then_some(())
            });
            assert_eq!(
                server.survivors().len(),
                2,
                "{what}: the bystander lives on"
            );
        }
        server.kill(&bystander);
        await_nobody(&server, &format!("{way:?}"));
    }
}

/// Chains of processes that only ever fork and exit; the second kind also leaves its session.
fn chains() -> [serde_json::Value; 2] {
    let plain = sh("r() { r & }; r & r & echo ready; sleep 77");
    let mut sessions = sh("sh -c \"$S\"; echo ready; sleep 77");
    sessions["env"] = json!({"S": "setsid sh -c \"$S\" &"});
    [plain, sessions]
}

/// By clone(2) with CLONE_PARENT: the server's child from the beginning, and nobody's orphan.
fn a_sibling_that_a_leader_made_ends_with_its_tree(backend: Backend) {
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    let script = format!(
        "use POSIX; $| = 1; my $pid = syscall({}, {flags}, 0, 0, 0, 0); \
         if (!$pid) {{ POSIX::setsid(); exec 'sleep', '77' }} print \"ready\\n\"; sleep 77",
        libc::SYS_clone
    );
    for (way, server) in every_way(backend) {
        let id = server.spawn(&json!({"command": "perl", "args": ["-e", script]}));
        server.await_output(&id, "ready");
        eventually("the sibling", || {
            (server.survivors().len() == 2).then_some(())
        });
        server.kill(&id);
        await_nobody(&server, &format!("{way:?}"));
    }
}

fn processes_that_only_fork_and_exit_are_caught(backend: Backend) {
    for (way, server) in every_way(backend) {
        for body in chains() {
            let id = server.spawn(&body);
            server.await_output(&id, "ready");
            std::thread::sleep(Duration::from_millis(100));
            let start = Instant::now();
            server.kill(&id);
            await_nobody(&server, &format!("{way:?}: {body}"));
            let took = start.elapsed();
            assert!(took < Duration::from_secs(10), "{way:?}: {body}: {took:?}");
        }
        server.get("/v1/health").expect(200);
    }
}

fn a_timed_out_run_that_forks_in_a_loop_is_answered_and_swept(backend: Backend) {
    for (way, server) in every_way(backend) {
        for mut body in chains() {
            body["timeoutMs"] = json!(500);
            let start = Instant::now();
            let run = server.run(&body);
            let took = start.elapsed();
            assert_eq!(run["timedOut"], true, "{way:?}: {run}");
            assert!(
                took < Duration::from_secs(4),
                "{way:?}: answered after {took:?}"
            );
            await_nobody(&server, &format!("{way:?}: {body}"));
        }
    }
}

fn a_fork_loop_at_its_process_limit_is_swept(backend: Backend) {
    // Only a user without privileges is held to such a limit.
    let mut servers = every_way(backend).into_iter();
    let Some((_, server)) = servers.find(|(way, _)| *way == Way::SweepAsNobody) else {
        return;
    };
    let limited = |program: &str, args: &[&str]| {
        let args: Vec<&str> = [&["--nproc=60:60", program], args].concat();
        json!({"command": "prlimit", "args": args})
    };
    let limit = server.run(&limited("cat", &["/proc/self/limits"]))["stdout"].to_string();
    let held = limit.contains("Max processes             60 ");
    assert!(held, "nothing would hold the loop: {limit}");
    let id = server.spawn(&limited("perl", &["-e", "fork while 1"]));
    eventually("the loop", || {
        (server.survivors().len() >= 40).then_some(())
    });
    server.kill(&id);
    await_nobody(&server, "a fork loop");
    assert_eq!(server.run(&sh("exit 7"))["exitCode"], 7);
}

/// The group that a process is in, as /proc shows it.
fn group_of(pid: i32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let own = text.lines().find_map(|line| line.strip_prefix("0::"));
    own.expect("a version 2 line").to_owned()
}

fn children_are_in_groups_that_are_used_again_and_removed_at_the_end(backend: Backend) {
    if !cgroups_available() {
        return;
    }
    let launch = || {
        Launch::new(backend)
            .args(&["--no-token", "--cgroup", "on"])
            .start()
    };
    let mut server = launch();
    let info = server.create(&json!({"command": "sleep", "args": ["77"]}));
    let pid = info["pid"].as_i64().unwrap() as i32;
    let own = group_of(server.pid);
    let group = group_of(pid);
    let below = group.strip_prefix(own.trim_end_matches('/')).unwrap();
    assert!(
        below.starts_with(&format!("/procring-{}-", server.pid)),
        "{group}"
    );
    let mount = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mount
        .lines()
        .find(|line| line.contains(" - cgroup2 "))
        .unwrap();
    let groups = PathBuf::from(format!("{}{group}", mount.split(' ').nth(4).unwrap()));
    let groups = groups.parent().unwrap().to_owned();
    let count = || {
        let entries = std::fs::read_dir(&groups).unwrap();
        entries
            .filter(|e| e.as_ref().unwrap().file_type().unwrap().is_dir())
            .count()
    };
    for code in 0..30 {
        assert_eq!(server.run(&sh(&format!("exit {code}")))["exitCode"], code);
    }
    assert!(count() <= 4, "{} groups", count());
    // Somebody left in a group keeps it from the next job; without him it is removed.
    let run = server.run(&sh("setsid sleep 77 </dev/null >/dev/null 2>&1 & echo $!"));
    let left: i32 = run["stdout"].as_str().unwrap().trim().parse().unwrap();
    let inside = server.run(&sh("cat /proc/self/cgroup"))["stdout"].to_string();
    assert!(
        !inside.contains(&format!("{}\\n", group_of(left))),
        "{inside}"
    );
    assert!(procfs::alive(left));
    // Killed, the server can remove nothing; the next one removes what is empty.
    server.signal(libc::SIGKILL);
    server.await_end(Duration::from_secs(20));
    assert!(groups.exists());
    for pid in server.survivors() {
        crate::harness::server::send_signal(pid, libc::SIGKILL);
    }
    await_nobody(&server, "killed by hand");
    let mut next = launch();
    eventually("the stale groups to be removed", || {
        (!groups.exists()).then_some(())
    });
    let info = next.create(&json!({"command": "sleep", "args": ["77"]}));
    let group = group_of(info["pid"].as_i64().unwrap() as i32);
    let mount = mount.split(' ').nth(4).unwrap();
    let groups = PathBuf::from(format!("{mount}{group}"));
    let groups = groups.parent().unwrap();
    assert!(groups.exists());
    next.signal(libc::SIGTERM);
    next.await_end(Duration::from_secs(20));
    assert!(!groups.exists(), "left behind: {}", groups.display());
}

fn the_groups_of_a_killed_server_go_when_nobody_lives_in_them_any_more(backend: Backend) {
    if !cgroups_available() {
        return;
    }
    let launch = || {
        let launch = Launch::new(backend).args(&["--no-token", "--cgroup", "on"]);
        launch.start()
    };
    let mount = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mount.lines().find(|line| line.contains(" - cgroup2 "));
    let mount = mount.and_then(|line| line.split(' ').nth(4)).unwrap();
    let killed = || {
        let mut server = launch();
        let info = server.create(&json!({"command": "sleep", "args": ["77"]}));
        let group = group_of(info["pid"].as_i64().unwrap() as i32);
        server.signal(libc::SIGKILL);
        server.await_end(Duration::from_secs(20));
        let groups = PathBuf::from(format!("{mount}{group}"));
        (server, groups.parent().unwrap().to_owned())
    };
    let [first, second] = [killed(), killed()];
    let mut next = launch();
    let bystander = next.spawn(&json!({"command": "sleep", "args": ["77"]}));
    let end = |server: &Server| {
        for pid in server.survivors() {
            crate::harness::server::send_signal(pid, libc::SIGKILL);
        }
        await_nobody(server, "killed by hand");
    };
    assert!(first.1.exists() && second.1.exists());
    end(&first.0);
    // Each of these wants another group.
    eventually("the first groups to be removed", || {
        next.spawn(&json!({"command": "sleep", "args": ["77"]}));
        (!first.1.exists()).then_some(())
    });
    assert!(second.1.exists(), "somebody lives there");
    assert_eq!(next.info(&bystander)["status"], "running");
    end(&second.0);
    next.signal(libc::SIGTERM);
    next.await_end(Duration::from_secs(20));
    assert!(!second.1.exists());
}

/// Is of the tree by its mark alone: the child of the server from the beginning (CLONE_PARENT), in a
/// session of its own, and in a group that is not the job's.
fn a_member_that_moved_to_another_group_ends_with_its_tree(backend: Backend) {
    let servers = every_way(backend).into_iter();
    let Some((_, server)) = servers.into_iter().find(|(way, _)| *way == Way::Cgroup) else {
        return;
    };
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let mount = mount.and_then(|line| line.split(' ').nth(4)).unwrap();
    let script = format!(
        "use POSIX; $| = 1; my $pid = syscall({}, {}, 0, 0, 0, 0); \
         if (!$pid) {{ POSIX::setsid(); open my $f, '>', '{mount}/cgroup.procs'; print $f $$; \
         close $f or die; exec 'sh', '-c', 'exec sleep 77 </dev/null >/dev/null 2>&1' }} \
         print \"ready\\n\"; sleep 77",
        libc::SYS_clone,
        libc::CLONE_PARENT | libc::SIGCHLD,
    );
    let bystander = server.spawn(&sh("exec sleep 78"));
    for ending in ["kill", "timeout"] {
        let mut body = json!({"command": "perl", "args": ["-e", script]});
        if ending == "timeout" {
            body["timeoutMs"] = json!(1500);
            let run = server.run(&body);
            assert_eq!(
                (&run["timedOut"], &run["stdout"]),
                (&json!(true), &json!("ready\n"))
            );
        } else {
            let id = server.spawn(&body);
            server.await_output(&id, "ready");
            eventually("the sibling, elsewhere", || {
                let elsewhere = |pid: &&i32| !group_of(**pid).contains("procring-");
                let all = server.survivors();
                (all.len() == 3 && all.iter().filter(elsewhere).count() == 1).then_some(())
            });
            server.kill(&id);
        }
        eventually(&format!("{ending}: the tree to be gone"), || {
            (server.survivors().len() == 1).then_some(())
        });
    }
    assert_eq!(server.info(&bystander)["status"], "running");
    server.kill(&bystander);
    await_nobody(&server, "the bystander");
}

/// A leader, and a daemon that shed every tie to it but that it traces it (ptrace(2), PTRACE_SEIZE)
/// and never waits for it. From then on any signal would stop the leader, that of its child's death,
/// too.
fn traced_leader() -> serde_json::Value {
    let script = format!(
        "use POSIX; $| = 1; my $l = $$; pipe R, W; unless (fork) {{ POSIX::setsid(); fork and POSIX::_exit(0); \
         open STDIN, '<', '/dev/null'; open STDOUT, '>', '/dev/null'; open STDERR, '>', '/dev/null'; \
         syscall({}, {}, 50000, 0, 0, 0); my $n = pack('QQ', ~0, ~0); syscall({}, 0, {}, $n, 0); \
         sysread R, my $go, 1; syscall({}, 0x4206, $l, 0, 0); sleep 77; exit }} \
         wait; syswrite W, 'x'; \
         for (1..3000) {{ open my $f, '<', '/proc/self/status'; my $t = join '', <$f>; \
         if ($t =~ /TracerPid:\\t[1-9]/) {{ print \"traced\\n\"; sleep 77 }} \
         select undef, undef, undef, 0.01 }}",
        libc::SYS_prctl,
        libc::PR_SET_TIMERSLACK,
        libc::SYS_prlimit64,
        libc::RLIMIT_LOCKS,
        libc::SYS_ptrace,
    );
    json!({"command": "perl", "args": ["-e", script]})
}

fn a_leader_that_is_held_by_a_tracer_of_its_tree_has_exited(backend: Backend) {
    for (way, server) in every_way(backend) {
        let what = format!("{way:?}");
        let id = server.spawn(&traced_leader());
        server.await_output(&id, "traced");
        assert_eq!(server.kill(&id)["signal"], "SIGKILL", "{what}");
        await_nobody(&server, &what);
        server
            .delete(&format!("/v1/processes/{id}"))
            .expect_empty(204);
        let mut body = traced_leader();
        body["timeoutMs"] = json!(2000);
        assert_eq!(server.run(&body)["timedOut"], true, "{what}");
        await_nobody(&server, &what);
        eventually(&format!("{what}: no zombie"), || {
            procfs::zombies_of(server.pid).is_empty().then_some(())
        });
    }
}

/// A debugger of another tree is nobody's member, and the exit is told all the same.
fn a_leader_that_is_held_by_a_tracer_of_another_tree_has_exited(backend: Backend) {
    for (way, server) in every_way(backend) {
        let what = format!("{way:?}");
        let traced = server.create(&sh("echo $$; exec sleep 77"));
        let id = traced["id"].as_str().unwrap();
        let seize = format!(
            "$| = 1; syscall({}, 0x4206, {}, 0, 0) == 0 and print \"traces\\n\"; sleep 77",
            libc::SYS_ptrace,
            traced["pid"]
        );
        let debugger = server.spawn(&json!({"command": "perl", "args": ["-e", seize]}));
        server.await_output(&debugger, "traces");
        assert_eq!(server.kill(id)["signal"], "SIGKILL", "{what}");
        server
            .delete(&format!("/v1/processes/{id}?tree=true"))
            .expect_empty(204);
        assert_eq!(server.run(&sh("exit 3"))["exitCode"], 3);
        assert_eq!(server.info(&debugger)["status"], "running", "{what}");
        server.kill(&debugger);
        eventually(&format!("{what}: no zombie"), || {
            procfs::zombies_of(server.pid).is_empty().then_some(())
        });
    }
}

/// Has a child in a session of its own that loses its main thread and goes on in another one.
pub(crate) fn lost_main_thread(name: &str) -> serde_json::Value {
    let script = format!(
        "import ctypes, os, threading, time\n\
         if os.fork() == 0:\n  \
           os.setsid()\n  \
           open('/proc/self/comm', 'w').write('{name}')\n  \
           threading.Thread(target=time.sleep, args=(77,)).start()\n  \
           ctypes.CDLL(None).syscall({}, 0)\n\
         print('ready', flush=True)\n\
         time.sleep(77)",
        libc::SYS_exit
    );
    json!({"command": "python3", "args": ["-c", script]})
}

/// Living processes of this name.
pub(crate) fn named(name: &str) -> Vec<i32> {
    let has_name = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
    };
    procfs::all_pids()
        .filter(has_name)
        .filter(|pid| procfs::alive(*pid))
        .collect()
}

fn a_process_that_lost_its_main_thread_ends_with_its_tree(backend: Backend) {
    let mut serial = 0;
    for (way, mut server) in every_way(backend) {
        for ending in ["kill", "timeout", "shutdown"] {
            let what = format!("{way:?}, {ending}");
            serial += 1;
            let name = format!("l{}{}{serial}", &backend.word()[..1], std::process::id());
            let mut body = lost_main_thread(&name);
            let is_there = || {
                let lost = |pid: &i32| procfs::state(*pid) == Some('Z');
                let all = named(&name);
                all.len() == 1 && all.iter().all(lost)
            };
            if ending == "timeout" {
                // On a busy machine it is not that far within the first.
                let reached = [3000, 30_000].iter().any(|timeout| {
                    body["timeoutMs"] = json!(timeout);
                    std::thread::scope(|scope| {
                        let run = scope.spawn(|| server.run(&body));
                        let was_there = eventually(&what, || {
                            let is_there = is_there();
                            (is_there || run.is_finished()).then_some(is_there)
                        });
                        assert_eq!(run.join().unwrap()["timedOut"], true, "{what}");
                        was_there
                    })
                });
                assert!(reached, "{what}: its main thread is to end");
            } else {
                let id = server.spawn(&body);
                eventually(&format!("{what}: its main thread to end"), || {
                    is_there().then_some(())
                });
                if ending == "kill" {
                    server.kill(&id);
                } else {
                    server.signal(libc::SIGTERM);
                    server.await_end(Duration::from_secs(20));
                }
            }
            eventually(&format!("{what}: nobody"), || {
                named(&name).is_empty().then_some(())
            });
        }
    }
}
