//! The server's own end: signals, `--state-dir`, and ten thousand orphans as PID 1.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::abandoned::Leased;
use crate::harness::{Backend, Launch, Server, eventually, on_both, procfs, sh};

on_both!(
    while_it_ends_the_server_refuses_new_work_and_answers_the_rest,
    a_second_signal_ends_the_grace,
    the_next_start_ends_what_a_killed_server_left,
    the_next_start_waits_for_the_lock_that_a_newborn_holds,
    the_next_start_ends_a_child_that_a_killed_server_had_not_brought_to_exec,
    a_server_killed_amid_64_writing_processes_leaves_nothing_to_its_next_start,
    a_living_servers_processes_are_not_touched_by_another_start,
    the_next_start_ends_what_a_killed_server_of_another_user_left,
    the_next_start_spares_whoever_is_below_a_living_server,
    the_next_start_ends_a_process_that_lost_its_main_thread,
    ten_thousand_orphans_are_reaped_as_pid_1,
);

const STUBBORN: &str = "trap '' TERM INT HUP; echo ready; while :; do sleep 0.1; done";

fn state_dir(name: &str, backend: Backend) -> PathBuf {
    let name = format!("state-{name}-{}-{}", std::process::id(), backend.word());
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

/// A server that writes down in `dir` what it has started.
fn launch_in(dir: &Path, cgroup: &str, backend: Backend) -> Server {
    let dir = dir.to_str().unwrap();
    Launch::new(backend)
        .args(&["--no-token", "--state-dir", dir, "--cgroup", cgroup])
        .start()
}

fn with_grace(backend: Backend, seconds: &str) -> Server {
    Launch::new(backend)
        .args(&["--no-token", "--shutdown-grace", seconds])
        .start()
}

fn while_it_ends_the_server_refuses_new_work_and_answers_the_rest(backend: Backend) {
    let mut server = with_grace(backend, "2");
    let id = server.spawn(&sh(STUBBORN));
    server.await_output(&id, "ready");
    server.signal(libc::SIGTERM);
    for (target, body) in [
        ("/v1/processes/run", sh("true")),
        ("/v1/processes", sh("true")),
    ] {
        let refused = eventually("a refusal", || {
            let response = server.post(target, &body);
            (response.status != 200).then_some(response)
        });
        assert_eq!(refused.status, 503, "{target}");
        assert!(refused.header("retry-after").is_some(), "{target}");
    }
    assert_eq!(server.info(&id)["status"], "running");
    assert_eq!(server.await_end(Duration::from_secs(20)).code(), Some(0));
    assert_eq!(server.survivors(), [0; 0], "left behind");
}

fn a_second_signal_ends_the_grace(backend: Backend) {
    let mut server = with_grace(backend, "600");
    let id = server.spawn(&sh(STUBBORN));
    server.await_output(&id, "ready");
    server.signal(libc::SIGINT);
    eventually("the first signal to be seen", || {
        (server.post("/v1/processes/run", &sh("true")).status == 503).then_some(())
    });
    server.signal(libc::SIGINT);
    assert_eq!(server.await_end(Duration::from_secs(20)).code(), Some(0));
    assert_eq!(server.survivors(), [0; 0], "left behind");
}

/// Trees whose leader lives, whose leader is gone, and which left their session.
const LEFT: [&str; 3] = [
    "trap '' TERM HUP; sleep 77 & exec sleep 77",
    "sleep 77 & exit 0",
    "(setsid sleep 77 </dev/null >/dev/null 2>&1 &) ; exec sleep 77",
];

fn is_sleep(pid: &i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
}

fn the_next_start_ends_what_a_killed_server_left(backend: Backend) {
    for cgroup in ["off", "auto"] {
        let dir = state_dir(cgroup, backend);
        let launch = || launch_in(&dir, cgroup, backend);
        let mut server = launch();
        for script in LEFT {
            server.spawn(&sh(script));
        }
        // Five sleepers, once no shell is on its way to become or to leave one.
        eventually("the trees", || {
            let all = server.survivors();
            (all.len() == 5 && all.iter().all(is_sleep)).then_some(())
        });
        let left = server.survivors();
        let gone = server.run(&sh("echo $$"));
        assert_eq!(gone["exitCode"], 0);
        server.signal(libc::SIGKILL);
        server.await_end(Duration::from_secs(20));
        assert_eq!(server.survivors().len(), 5, "they outlive a killed server");
        let mut next = launch();
        assert!(
            left.iter().all(|pid| !procfs::alive(*pid)),
            "{cgroup}: {:?} of {left:?}",
            server.survivors()
        );
        let told = "procring: ended 5 processes that a killed server left behind";
        assert!(next.stderr().contains(told), "{:?}", next.stderr());
        // An orderly end leaves nothing to note.
        next.signal(libc::SIGTERM);
        next.await_end(Duration::from_secs(20));
        let last = launch();
        assert!(!last.stderr().contains("left behind"), "{}", last.stderr());
        drop(last);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

/// A server is killed while a child is between clone and exec: that has a copy of every descriptor,
/// those with the server's locks too.
fn the_next_start_waits_for_the_lock_that_a_newborn_holds(backend: Backend) {
    for cgroup in ["off", "auto"] {
        let dir = state_dir(&format!("newborn-{cgroup}"), backend);
        let launch = || launch_in(&dir, cgroup, backend);
        let mut server = launch();
        let info = server.create(&json!({"command": "sleep", "args": ["77"]}));
        let pid = info["pid"].as_i64().unwrap() as i32;
        let start = procfs::started(pid).expect("alive");
        let record = std::fs::read_dir(&dir).unwrap().next().unwrap();
        let record = std::fs::File::open(record.unwrap().path()).unwrap();
        server.signal(libc::SIGKILL);
        server.await_end(Duration::from_secs(20));
        record.lock().unwrap();
        let next = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(200));
                record.unlock().unwrap();
            });
            launch()
        });
        assert_ne!(procfs::started(pid), Some(start), "{cgroup}");
        drop(next);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

/// The server cannot say who such a child is; it has said before what the child carries.
fn the_next_start_ends_a_child_that_a_killed_server_had_not_brought_to_exec(backend: Backend) {
    for cgroup in ["off", "auto"] {
        let dir = state_dir(&format!("exec-{cgroup}"), backend);
        let launch = || launch_in(&dir, cgroup, backend);
        let mut server = launch();
        // Its program can be opened only when the lease is over.
        let leased = Leased::new("state", backend);
        let body = json!({"command": leased.path.to_str().unwrap(), "args": ["77"]}).to_string();
        let mut conn = server.conn();
        conn.send(format!(
            "POST /v1/processes HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let pid = eventually("a child on its way to exec", || {
            procfs::children_of(server.pid).into_iter().find(|pid| {
                let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
                name.is_ok_and(|name| name.starts_with("spawner"))
            })
        });
        let start = procfs::started(pid).expect("it waits for the lease");
        server.signal(libc::SIGKILL);
        server.await_end(Duration::from_secs(20));
        assert_eq!(procfs::started(pid), Some(start), "it outlives the server");
        let next = launch();
        assert_ne!(
            procfs::started(pid),
            Some(start),
            "{cgroup}: {}",
            next.stderr()
        );
        drop((next, leased));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

/// Writes on for a minute and has a child in a session of its own, whose pid is its first line.
const WRITER: &str = "setsid sleep 77 </dev/null >/dev/null 2>&1 & echo $!; exec perl -e \
                      '$| = 1; for (1..6000) { print \"x\\n\"; select undef, undef, undef, 0.01 }'";

fn a_server_killed_amid_64_writing_processes_leaves_nothing_to_its_next_start(backend: Backend) {
    let _heavy = crate::harness::one_heavy_test_at_a_time();
    for cgroup in ["off", "auto"] {
        let dir = state_dir(&format!("writing-{cgroup}"), backend);
        let launch = || launch_in(&dir, cgroup, backend);
        let mut server = launch();
        // Half of them survive the loss of their pipes; the others die of it and leave the sleeper.
        let writers: Vec<_> = (0..64)
            .map(|n| {
                let stubborn = ["", "trap '' PIPE; "][n % 2];
                let info = server.create(&sh(&format!("{stubborn}{WRITER}")));
                (info["id"].as_str().unwrap().to_owned(), info["pid"].clone())
            })
            .collect();
        let mut left = Vec::new();
        for (id, leader) in &writers {
            let output = server.await_output(id, "\nx\n");
            let sleeper = output.lines().next().and_then(|line| line.parse().ok());
            for pid in [leader.as_i64().map(|pid| pid as i32), sleeper] {
                let pid = pid.expect("a pid");
                left.push((pid, procfs::started(pid).expect("alive")));
            }
        }
        assert_eq!(left.len(), 128);
        server.signal(libc::SIGKILL);
        server.await_end(Duration::from_secs(20));
        let here = |(pid, start): &(i32, u64)| procfs::started(*pid) == Some(*start);
        let outliving = left.iter().filter(|process| here(process)).count();
        assert!(
            outliving >= 96,
            "{cgroup}: only {outliving} are to be ended"
        );

        let mut next = launch();
        // On its start line already nobody is left, those born meanwhile included.
        let still: Vec<_> = left.iter().filter(|process| here(process)).collect();
        assert!(still.is_empty(), "{cgroup}: {still:?}");
        assert_eq!(server.survivors(), [0; 0], "{cgroup}");
        let stderr = next.stderr();
        let told = stderr.lines().find_map(|line| {
            let (_, line) = line.split_once("procring: ended ")?;
            let count = line.strip_suffix(" processes that a killed server left behind")?;
            count.parse::<usize>().ok()
        });
        // Each writer may have a sleep under way, and begin another while it is swept.
        let told = told.unwrap_or_else(|| panic!("{cgroup}: no count in {stderr:?}"));
        assert!((96..=64 * 4).contains(&told), "{cgroup}: {stderr:?}");
        let id = next.spawn(&sh("echo new; sleep 77"));
        next.await_output(&id, "new");
        assert_eq!(next.run(&sh("exit 5"))["exitCode"], 5);
        next.signal(libc::SIGTERM);
        next.await_end(Duration::from_secs(20));
        assert_eq!(next.survivors(), [0; 0], "{cgroup}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

fn a_living_servers_processes_are_not_touched_by_another_start(backend: Backend) {
    let dir = state_dir("shared", backend);
    let launch = || {
        Launch::new(backend)
            .args(&["--no-token", "--state-dir", dir.to_str().unwrap()])
            .start()
    };
    let first = launch();
    let id = first.spawn(&json!({"command": "sleep", "args": ["77"]}));
    let second = launch();
    assert_eq!(first.info(&id)["status"], "running");
    assert_eq!(second.run(&sh("exit 3"))["exitCode"], 3);
    drop((first, second));
    std::fs::remove_dir_all(&dir).unwrap();
}

fn ten_thousand_orphans_are_reaped_as_pid_1(backend: Backend) {
    let _heavy = crate::harness::one_heavy_test_at_a_time();
    let wrapper: &[&str] = &["unshare", "-fp", "--mount-proc", "--kill-child"];
    let can = std::process::Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg("true")
        .output();
    if !can.is_ok_and(|output| output.status.success()) {
        return crate::harness::skipped_anywhere("unshare(1) cannot make a PID namespace");
    }
    let mut server = Launch::new(backend)
        .args(&["--no-token"])
        .through(wrapper)
        .start();
    // Each is forked by a process that is gone before it is.
    let script = "for (1..2500) { unless (fork) { fork and exit; exit } wait } exit 7";
    let body = json!({"command": "perl", "args": ["-e", script], "timeoutMs": 120_000});
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| server.run(&body))).collect();
        for run in runs {
            assert_eq!(run.join().unwrap()["exitCode"], 7);
        }
    });
    eventually("no zombie", || {
        procfs::children_of(server.pid).is_empty().then_some(())
    });
    let start = Instant::now();
    server.signal(libc::SIGTERM);
    let status = server.await_end(Duration::from_secs(20));
    assert!(matches!(status.code(), Some(0 | 143)), "{status:?}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

fn the_next_start_ends_what_a_killed_server_of_another_user_left(backend: Backend) {
    let Some(user) = crate::supervision_trees::unprivileged() else {
        return;
    };
    let name = format!("procring-state-{}-{}", std::process::id(), backend.word());
    let dir = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    std::os::unix::fs::chown(&dir, Some(user.uid), Some(user.uid)).unwrap();
    let launch = || {
        Launch::new(backend)
            .args(&["--no-token", "--cgroup", "off", "--state-dir"])
            .args(&[dir.to_str().unwrap()])
            .program(&user.program)
            .through_exec(&user.prefix())
            .start()
    };
    let mut server = launch();
    let id = server.spawn(&sh(LEFT[2]));
    eventually("a leader and a daemon", || {
        let all = server.survivors();
        (all.len() == 2 && all.iter().all(is_sleep)).then_some(())
    });
    // The daemon only: what is left of a tree whose leader has ended.
    let leader = server.info(&id)["pid"].as_i64().unwrap() as i32;
    crate::harness::server::send_signal(leader, libc::SIGKILL);
    server.await_exit(&id);
    server.signal(libc::SIGKILL);
    server.await_end(Duration::from_secs(20));
    assert_eq!(server.survivors().len(), 1);
    let next = launch();
    assert_eq!(server.survivors(), [0; 0], "{}", next.stderr());
    drop(next);
    std::fs::remove_dir_all(&dir).unwrap();
}

/// It takes more than a mark to be ended at another server's start: whoever may set limits can put
/// one on.
fn the_next_start_spares_whoever_is_below_a_living_server(backend: Backend) {
    let dir = state_dir("living", backend);
    let renamed = dir.with_extension("sandbox-agent");
    std::fs::copy(env!("CARGO_BIN_EXE_procring"), &renamed).unwrap();
    let launch = || launch_in(&dir, "off", backend);
    let mut first = launch();
    let old = first.create(&json!({"command": "sleep", "args": ["77"]}))["pid"]
        .as_i64()
        .unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{old}/limits")).unwrap();
    let mark = limits.lines().find(|line| line.contains("file locks"));
    let mark = mark
        .and_then(|line| line.split_whitespace().nth(3))
        .unwrap();
    // Has the same mark, as if its server had handed it out.
    let same_mark = format!(
        "my $n = pack(q(QQ), {mark}, ~0); syscall({}, 0, {}, $n, 0) == 0 or die; exec qw(sleep 77)",
        libc::SYS_prlimit64,
        libc::RLIMIT_LOCKS,
    );
    let daemon = format!("setsid perl -e '{same_mark}' </dev/null >/dev/null 2>&1 & exec sleep 77");
    let living = Launch::new(backend)
        .args(&["--no-token", "--cgroup", "off"])
        .program(&renamed)
        .start();
    let spared = living.spawn(&sh(&daemon));
    eventually("its daemon", || {
        let all = living.survivors();
        (all.len() == 2 && all.iter().all(is_sleep)).then_some(())
    });
    first.signal(libc::SIGKILL);
    first.await_end(Duration::from_secs(20));
    let next = launch();
    assert!(!procfs::alive(old as i32), "{}", next.stderr());
    assert_eq!(living.info(&spared)["status"], "running");
    assert_eq!(living.survivors().len(), 2, "{}", next.stderr());
    drop((next, living));
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::remove_file(&renamed).unwrap();
}

fn the_next_start_ends_a_process_that_lost_its_main_thread(backend: Backend) {
    use crate::supervision_trees::{lost_main_thread, named};
    for cgroup in ["off", "auto"] {
        let dir = state_dir(&format!("lost-{cgroup}"), backend);
        let launch = || launch_in(&dir, cgroup, backend);
        let name = format!(
            "n{}{}{}",
            &backend.word()[..1],
            &cgroup[..1],
            std::process::id()
        );
        let mut server = launch();
        server.spawn(&lost_main_thread(&name));
        eventually("its main thread to end", || {
            let all = named(&name);
            (all.len() == 1 && procfs::state(all[0]) == Some('Z')).then_some(())
        });
        server.signal(libc::SIGKILL);
        server.await_end(Duration::from_secs(20));
        let next = launch();
        assert_eq!(named(&name), [0; 0], "{cgroup}: {}", next.stderr());
        drop(next);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
