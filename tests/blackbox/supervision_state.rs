//! The server's own end: signals, `--state-dir`, and ten thousand orphans as PID 1.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Backend, Launch, Server, eventually, on_both, procfs, sh};

on_both!(
    while_it_ends_the_server_refuses_new_work_and_answers_the_rest,
    a_second_signal_ends_the_grace,
    the_next_start_ends_what_a_killed_server_left,
    a_living_servers_processes_are_not_touched_by_another_start,
    ten_thousand_orphans_are_reaped_as_pid_1,
);

const STUBBORN: &str = "trap '' TERM INT HUP; echo ready; while :; do sleep 0.1; done";

fn state_dir(name: &str, backend: Backend) -> PathBuf {
    let name = format!("state-{name}-{}-{}", std::process::id(), backend.word());
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    dir
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

fn the_next_start_ends_what_a_killed_server_left(backend: Backend) {
    for cgroup in ["off", "auto"] {
        let dir = state_dir(cgroup, backend);
        let launch = || {
            let dir = dir.to_str().unwrap();
            Launch::new(backend)
                .args(&["--no-token", "--state-dir", dir, "--cgroup", cgroup])
                .start()
        };
        let mut server = launch();
        for script in LEFT {
            server.spawn(&sh(script));
        }
        // Five sleepers, once no shell is on its way to become or to leave one.
        let is_sleep = |pid: &i32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
        };
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
