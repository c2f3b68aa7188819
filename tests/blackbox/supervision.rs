//! 14.1 to 14.10 for pipe mode: deadlines are bounds, and no tree is left behind.
//!
//! Bounds in here are wide: the contract's own promises are in milliseconds, the machine
//! may be loaded, and what is told apart lies seconds away.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::launch::pid_namespace;
use crate::harness::server::send_signal;
use crate::harness::{
    Backend, Follow, Launch, Server, eventually, on_both, procfs, sh, skipped_anywhere,
};

on_both!(
    a_runs_timeout_is_a_bound_whatever_holds_the_pipes,
    a_timed_out_run_leaves_no_descendant,
    a_run_does_not_wait_for_background_children,
    the_background_child_of_a_run_lives_on_without_sigpipe,
    a_reset_client_ends_the_runs_tree,
    a_client_that_closed_ends_the_runs_tree,
    a_half_closed_client_is_answered_when_the_run_is_short,
    stop_reaches_the_whole_group,
    kill_reaches_descendants_in_sessions_of_their_own,
    kill_wins_against_a_double_fork,
    kill_and_timeout_win_against_a_process_that_forks_and_exits_in_a_loop,
    neither_exit_nor_delete_ends_what_is_left_but_kill_does,
    every_child_leads_a_group_of_its_own,
    kill_0_in_a_child_does_not_reach_the_server,
    sigterm_and_sigint_end_everything_and_exit_0,
    sigterm_during_a_run_ends_it,
    a_second_signal_ends_the_grace,
    stop_and_kill_are_answered_as_soon_as_the_exit_is_seen,
    stop_continues_a_stopped_process,
    a_stopped_process_can_be_killed_and_a_stopped_run_times_out,
    orphans_are_reaped_as_pid_1,
    orphans_are_reaped_as_subreaper,
);

/// A file that a test's process touches to show that it came so far.
fn marker(name: &str, backend: Backend) -> PathBuf {
    let file = format!("{name}-{}-{}", std::process::id(), backend.word());
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(file);
    let _ = std::fs::remove_file(&path);
    path
}

/// Pids that `script` wrote to its output, one a line.
fn pids(output: &str) -> Vec<i32> {
    output
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect()
}

#[track_caller]
fn await_gone(pids: &[i32]) {
    eventually(&format!("the end of {pids:?}"), || {
        pids.iter().all(|pid| !procfs::alive(*pid)).then_some(())
    });
}

#[track_caller]
fn await_nobody(server: &Server) {
    eventually("all descendants to be gone", || {
        server.survivors().is_empty().then_some(())
    });
}

fn timed(server: &Server, script: &str, timeout_ms: u64) -> (Value, Duration) {
    let mut body = sh(script);
    body["timeoutMs"] = json!(timeout_ms);
    let start = Instant::now();
    (server.run(&body), start.elapsed())
}

fn a_runs_timeout_is_a_bound_whatever_holds_the_pipes(backend: Backend) {
    let server = Server::open(backend);
    for script in [
        "echo early; sleep 20; echo hi",
        "trap '' TERM INT HUP; echo early; sleep 20 & wait",
        "echo early; setsid sleep 20 & sleep 20",
        "echo early; kill -STOP $$; sleep 20",
    ] {
        let (run, took) = timed(&server, script, 400);
        assert_eq!(
            (&run["timedOut"], &run["exitCode"]),
            (&json!(true), &json!(null)),
            "{script}"
        );
        assert_eq!(run["stdout"], "early\n", "{script}");
        assert!(
            took < Duration::from_secs(5),
            "{script}: answered after {took:?}"
        );
        assert!(
            took >= Duration::from_millis(400),
            "{script}: answered after {took:?}"
        );
    }
    await_nobody(&server);
}

fn a_timed_out_run_leaves_no_descendant(backend: Backend) {
    let server = Server::open(backend);
    let script = "sleep 77 & echo $!; setsid sleep 77 & echo $!; \
                  sh -c 'trap \"\" TERM; sleep 77 & echo $!; wait' & \
                  (setsid sh -c 'sleep 77 & echo $!; wait' &) ; sleep 77";
    let (run, _) = timed(&server, script, 700);
    assert_eq!(run["timedOut"], true);
    let pids = pids(run["stdout"].as_str().unwrap());
    assert_eq!(pids.len(), 4, "{run}");
    await_gone(&pids);
    await_nobody(&server);
}

fn a_run_does_not_wait_for_background_children(backend: Backend) {
    let server = Server::open(backend);
    for script in [
        "sleep 20 & echo hi; exit 3",
        "setsid sleep 20 & echo hi; exit 3",
    ] {
        let (run, took) = timed(&server, script, 15_000);
        assert_eq!(
            (&run["exitCode"], &run["timedOut"]),
            (&json!(3), &json!(false))
        );
        assert_eq!(run["stdout"], "hi\n");
        assert!(took < Duration::from_secs(5), "answered after {took:?}");
        // And it is not killed with the answer.
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(
        server.survivors().len(),
        2,
        "the background children live on"
    );
}

fn the_background_child_of_a_run_lives_on_without_sigpipe(backend: Backend) {
    let server = Server::open(backend);
    let done = marker("background", backend);
    let script = format!(
        "(sleep 1; echo late; echo later >&2; head -c 300000 /dev/zero; touch {}) & echo hi",
        done.display()
    );
    let (run, _) = timed(&server, &script, 15_000);
    assert_eq!(
        (&run["stdout"], &run["stderr"]),
        (&json!("hi\n"), &json!(""))
    );
    assert!(!done.exists());
    eventually("the background child to write and go on", || {
        done.exists().then_some(())
    });
    std::fs::remove_file(done).unwrap();
    await_nobody(&server);
}

/// Sends a run request for `script`, without reading an answer.
fn send_run(server: &Server, script: &str) -> crate::harness::Conn {
    let mut conn = server.conn();
    let body = sh(script).to_string();
    conn.send(format!(
        "POST /v1/processes/run HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        server.address,
        body.len()
    ));
    conn
}

const TREE: &str = "trap '' TERM; sleep 77 & setsid sleep 77 & sleep 77";

fn a_reset_client_ends_the_runs_tree(backend: Backend) {
    let server = Server::open(backend);
    let conn = send_run(&server, TREE);
    eventually("the tree", || (server.survivors().len() >= 4).then_some(()));
    conn.reset();
    await_nobody(&server);
}

fn a_client_that_closed_ends_the_runs_tree(backend: Backend) {
    let server = Server::open(backend);
    let conn = send_run(&server, TREE);
    eventually("the tree", || (server.survivors().len() >= 4).then_some(()));
    drop(conn);
    await_nobody(&server);
    // The same for a client that only half-closed and waits.
    let mut conn = send_run(&server, TREE);
    eventually("the tree", || (server.survivors().len() >= 4).then_some(()));
    conn.finish_writing();
    await_nobody(&server);
    let _ = conn.read_to_end();
}

fn a_half_closed_client_is_answered_when_the_run_is_short(backend: Backend) {
    let server = Server::open(backend);
    let mut conn = send_run(&server, "sleep 0.2; echo answered");
    conn.finish_writing();
    assert_eq!(conn.response("POST").json()["stdout"], "answered\n");
    conn.expect_closed();
}

fn stop_reaches_the_whole_group(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("sleep 77 & echo $!; sh -c 'sleep 77' & wait"));
    server.await_output(&id, "\n");
    eventually("the tree", || (server.survivors().len() >= 3).then_some(()));
    let info = server
        .post_empty(&format!("/v1/processes/{id}/stop?waitMs=20000"))
        .json();
    assert_eq!(info["signal"], "SIGTERM");
    await_nobody(&server);
}

fn kill_reaches_descendants_in_sessions_of_their_own(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh(TREE));
    eventually("the tree", || (server.survivors().len() >= 4).then_some(()));
    assert_eq!(server.kill(&id)["signal"], "SIGKILL");
    await_nobody(&server);
}

fn kill_wins_against_a_double_fork(backend: Backend) {
    let server = Server::open(backend);
    // Daemons that gave up their parents, sessions and groups.
    let id = server.spawn(&sh(
        "for n in 1 2 3; do (setsid sh -c 'setsid sleep 77 & sleep 77' &); done; echo ready; sleep 77",
    ));
    server.await_output(&id, "ready");
    eventually("the daemons", || {
        (server.survivors().len() >= 8).then_some(())
    });
    server.kill(&id);
    await_nobody(&server);
}

fn kill_and_timeout_win_against_a_process_that_forks_and_exits_in_a_loop(backend: Backend) {
    use std::os::unix::fs::MetadataExt as _;
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return skipped_anywhere("not root: a fork loop cannot be bounded; it is not tested");
    }
    let server = Server::open(backend);
    // There is always one of them, and never the same for long. As a user of its own with a
    // limit on processes: on a busy machine it forks faster than the old ones get to exit.
    let uid = 61_000 + std::process::id() % 4000 + u32::from(backend == Backend::Epoll) * 4000;
    let hopping = &format!(
        "exec setpriv --reuid={uid} --clear-groups prlimit --nproc=48 \
         sh -c 'f() {{ f & }}; f; echo ready; sleep 77' 2>/dev/null"
    );
    let await_quiet = || {
        eventually("nothing to be left for a while", || {
            let seen = |_| {
                std::thread::sleep(Duration::from_millis(10));
                server.survivors().is_empty()
            };
            (0..30).all(seen).then_some(())
        });
    };
    let id = server.spawn(&sh(hopping));
    server.await_output(&id, "ready");
    server.kill(&id);
    await_quiet();
    let (run, _) = timed(&server, hopping, 500);
    assert_eq!(run["timedOut"], true);
    await_quiet();
}

fn neither_exit_nor_delete_ends_what_is_left_but_kill_does(backend: Backend) {
    let server = Server::open(backend);
    for ending in ["kill", "delete"] {
        let path = |id: &str| format!("/v1/processes/{id}");
        let id = server.spawn(&sh(
            "sleep 77 & setsid sleep 77 & (setsid sleep 77 &) ; exit 0",
        ));
        server.await_exit(&id);
        eventually("the tree", || (server.survivors().len() == 3).then_some(()));
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(
            server.survivors().len(),
            3,
            "exit alone has ended something"
        );
        match ending {
            "kill" => assert_eq!(server.kill(&id)["exitCode"], 0),
            _ => {
                server.delete(&path(&id)).expect_empty(204);
                server.get(&path(&id)).expect(404);
                std::thread::sleep(Duration::from_millis(300));
                assert_eq!(server.survivors().len(), 3, "delete has ended something");
                for pid in server.survivors() {
                    crate::harness::server::send_signal(pid, libc::SIGKILL);
                }
            }
        }
        await_nobody(&server);
    }
}

fn every_child_leads_a_group_of_its_own(backend: Backend) {
    let server = Server::open(backend);
    let info = server.create(&json!({"command": "cat"}));
    let pid = info["pid"].as_i64().unwrap() as i32;
    assert_eq!(
        procfs::field(pid, 2),
        Some(pid),
        "the group of a managed process"
    );
    assert_ne!(
        procfs::field(pid, 3),
        procfs::field(server.pid, 3),
        "the server's own session"
    );
    let run = server.run(&sh("cut -d' ' -f1,5 /proc/$$/stat"));
    let line = run["stdout"].as_str().unwrap().trim().to_owned();
    let (pid, group) = line.split_once(' ').unwrap();
    assert_eq!(pid, group, "the group of a run");
}

fn kill_0_in_a_child_does_not_reach_the_server(backend: Backend) {
    let server = Server::open(backend);
    let bystander = server.spawn(&json!({"command": "cat"}));
    assert_eq!(
        server.run(&sh("kill -9 0; echo alive"))["signal"],
        "SIGKILL"
    );
    let id = server.spawn(&sh("kill 0; sleep 0.1"));
    server.await_exit(&id);
    server.get("/v1/health").expect(200);
    assert_eq!(server.info(&bystander)["status"], "running");
}

fn sigterm_and_sigint_end_everything_and_exit_0(backend: Backend) {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut server = Server::open(backend);
        let quiet = server.spawn(&json!({"command": "cat"}));
        server.spawn(&sh(TREE));
        server.spawn(&sh("trap '' TERM INT HUP; while :; do sleep 0.1; done"));
        let orphaned = server.spawn(&sh("setsid sleep 77 & exit 0"));
        server.await_exit(&orphaned);
        eventually("the trees", || {
            (server.survivors().len() >= 7).then_some(())
        });
        let mut follow = Follow::process(&server, &quiet);
        server.signal(signal);
        // Followers see the end of their processes, not a torn connection.
        let items = follow.rest();
        assert_eq!(
            items.last().expect("an exit event").event("exit")["exitCode"],
            json!(null)
        );
        let status = server.await_end(Duration::from_secs(20));
        let fine = status.code() == Some(0) || status.code() == Some(128 + signal);
        assert!(fine && status.signal().is_none(), "{status:?}");
        assert_eq!(server.survivors(), [0; 0], "left behind");
    }
}

fn sigterm_during_a_run_ends_it(backend: Backend) {
    let mut server = Server::open(backend);
    let _waiting = send_run(&server, TREE);
    eventually("the tree", || (server.survivors().len() >= 4).then_some(()));
    server.signal(libc::SIGTERM);
    server.await_end(Duration::from_secs(20));
    assert_eq!(server.survivors(), [0; 0], "left behind");
}

fn a_second_signal_ends_the_grace(backend: Backend) {
    let args = ["--no-token", "--shutdown-grace", "600"];
    let mut server = Launch::new(backend).args(&args).start();
    let id = server.spawn(&sh(
        "trap 'echo heard' TERM; echo ready; while :; do sleep 0.1; done",
    ));
    server.await_output(&id, "ready");
    let mut follow = Follow::process(&server, &id);
    server.signal(libc::SIGTERM);
    follow.next().event("log");
    follow.next().event("log");
    server.signal(libc::SIGTERM);
    let items = follow.rest();
    assert_eq!(
        items.last().expect("an exit event").event("exit")["signal"],
        "SIGKILL"
    );
    let status = server.await_end(Duration::from_secs(20));
    assert!(matches!(status.code(), Some(0 | 143)), "{status:?}");
    assert_eq!(server.survivors(), [0; 0], "left behind");
}

fn stop_and_kill_are_answered_as_soon_as_the_exit_is_seen(backend: Backend) {
    let server = Server::open(backend);
    for verb in ["stop", "kill"] {
        // The best of twenty: a poll every 25 ms would show in nearly all of them.
        let best = (0..20)
            .map(|_| {
                let id = server.spawn(&json!({"command": "sleep", "args": ["77"]}));
                let start = Instant::now();
                let info = server
                    .post_empty(&format!("/v1/processes/{id}/{verb}"))
                    .json();
                assert_eq!(info["status"], "exited");
                start.elapsed()
            })
            .min()
            .unwrap();
        assert!(best < Duration::from_millis(15), "{verb}: {best:?} at best");
    }
}

fn stop_continues_a_stopped_process(backend: Backend) {
    let server = Server::open(backend);
    let info = server.create(&json!({"command": "sleep", "args": ["77"]}));
    let (id, pid) = (
        info["id"].as_str().unwrap(),
        info["pid"].as_i64().unwrap() as i32,
    );
    send_signal(pid, libc::SIGSTOP);
    eventually("the process to stop", || {
        (procfs::state(pid) == Some('T')).then_some(())
    });
    assert_eq!(
        server.info(id)["status"],
        "running",
        "a stop is not an exit"
    );
    let info = server
        .post_empty(&format!("/v1/processes/{id}/stop?waitMs=20000"))
        .json();
    assert_eq!(
        (&info["status"], &info["signal"]),
        (&json!("exited"), &json!("SIGTERM"))
    );
}

fn a_stopped_process_can_be_killed_and_a_stopped_run_times_out(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("echo ready; kill -STOP $$"));
    server.await_output(&id, "ready");
    assert_eq!(server.kill(&id)["signal"], "SIGKILL");
    let (run, _) = timed(&server, "kill -STOP $$; echo never", 300);
    assert_eq!(
        (&run["timedOut"], &run["stdout"]),
        (&json!(true), &json!(""))
    );
}

/// Makes orphans through the server and waits until none is a zombie.
fn orphans_are_reaped(server: &Server) {
    for _ in 0..5 {
        let run = server.run(&sh(
            "n=0; while [ $n -lt 40 ]; do (sleep 0.3 &) ; n=$((n+1)); done",
        ));
        assert_eq!(run["exitCode"], 0);
    }
    // Exit codes of the server's own children stay right meanwhile.
    for code in 1..20 {
        assert_eq!(
            server.run(&sh(&format!("(sleep 0.05 &) ; exit {code}")))["exitCode"],
            code
        );
    }
    eventually("no orphan, alive or dead", || {
        let children = procfs::children_of(server.pid);
        (children.is_empty() && server.survivors().is_empty()).then_some(())
    });
}

fn orphans_are_reaped_as_subreaper(backend: Backend) {
    orphans_are_reaped(&Server::open(backend));
}

fn orphans_are_reaped_as_pid_1(backend: Backend) {
    let Some(wrapper) = pid_namespace() else {
        return;
    };
    let mut server = Launch::new(backend)
        .args(&["--no-token"])
        .through(wrapper)
        .start();
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid)).unwrap();
    let inside = status
        .lines()
        .find_map(|l| l.strip_prefix("NSpid:"))
        .unwrap();
    assert!(inside.ends_with("\t1"), "pids {inside:?}");
    orphans_are_reaped(&server);
    let id = server.spawn(&sh(TREE));
    assert_eq!(server.info(&id)["status"], "running");
    server.signal(libc::SIGTERM);
    let status = server.await_end(Duration::from_secs(20));
    assert!(matches!(status.code(), Some(0 | 143)), "{status:?}");
    assert_eq!(server.survivors(), [0; 0], "left behind");
}
