//! `--keep`: how processes end, and the server itself, when that is in the middle of something else.
//!
//! The keeper reaps and the server is told, so there are moments in between; and a tracer can hold on
//! to what is dead for as long as it likes.

use serde_json::{Value, json};

use crate::harness::server::send_signal;
use crate::harness::{Backend, Launch, Server, WAIT, eventually, on_both, procfs, sh};
use crate::keep::kill_server;

on_both!(
    an_orphan_that_a_tracer_holds_when_it_is_dead_stops_nobody,
    a_leader_that_a_tracer_holds_when_it_is_dead_has_exited,
    a_run_that_ran_too_long_is_answered_as_without_a_keeper,
    a_server_that_dies_on_its_way_to_the_end_is_followed_by_one_that_ends,
    a_word_to_end_is_not_lost_with_the_server_that_was_to_hear_it,
);

/// With groups where they are to be had, and without.
fn kept(backend: Backend) -> [Server; 2] {
    ["auto", "off"].map(|cgroup| {
        let args = ["--no-token", "--keep", "--cgroup", cgroup];
        Launch::new(backend).args(&args).start()
    })
}

/// A process of another tree that traces this one (ptrace(2), PTRACE_SEIZE) and never waits for it.
#[track_caller]
fn tracer(server: &Server, traced: i32) -> String {
    let seize = format!(
        "$| = 1; syscall({}, 0x4206, {traced}, 0, 0) == 0 and print \"traces\\n\"; sleep 77",
        libc::SYS_ptrace
    );
    let id = server.spawn(&json!({"command": "perl", "args": ["-e", seize]}));
    server.await_output(&id, "traces");
    id
}

fn await_zombie(pid: i32) {
    eventually("a dead process that is held", || {
        (procfs::state(pid) == Some('Z')).then_some(())
    });
}

fn an_orphan_that_a_tracer_holds_when_it_is_dead_stops_nobody(backend: Backend) {
    for server in kept(backend) {
        let id = server.spawn(&sh("sleep 77 & echo $!; sleep 78 & echo over"));
        server.await_exit(&id);
        let said = server.await_output(&id, "over");
        let orphan: i32 = said.split_whitespace().next().unwrap().parse().unwrap();
        let tracer = tracer(&server, orphan);
        send_signal(orphan, libc::SIGKILL);
        await_zombie(orphan);
        for server_is_another in [false, true] {
            if server_is_another {
                kill_server(&server);
            }
            assert_eq!(server.run(&sh("exit 3"))["exitCode"], 3);
            let other = server.spawn(&sh("sleep 77 & exec sleep 78"));
            assert_eq!(server.kill(&other)["signal"], "SIGKILL");
        }
        server
            .delete(&format!("/v1/processes/{id}?tree=true"))
            .expect_empty(204);
        assert_eq!(server.info(&tracer)["status"], "running");
        server.kill(&tracer);
        eventually("a process that its parent has reaped", || {
            procfs::state(orphan).is_none().then_some(())
        });
    }
}

fn a_leader_that_a_tracer_holds_when_it_is_dead_has_exited(backend: Backend) {
    for mut server in kept(backend) {
        let [first, second] = [(); 2].map(|()| server.create(&sh("exec sleep 77")));
        let pid = |of: &Value| of["pid"].as_i64().unwrap() as i32;
        let id = |of: &Value| of["id"].as_str().unwrap().to_owned();
        let tracers = [&first, &second].map(|of| tracer(&server, pid(of)));
        assert_eq!(server.kill(&id(&first))["signal"], "SIGKILL");
        kill_server(&server);
        assert_eq!(server.info(&id(&first))["signal"], "SIGKILL");
        assert_eq!(server.kill(&id(&second))["signal"], "SIGKILL");
        await_zombie(pid(&second));
        server.kill(&tracers[0]);
        eventually("a process that its parent has reaped", || {
            procfs::state(pid(&first)).is_none().then_some(())
        });
        assert_eq!(server.info(&tracers[1])["status"], "running");
        server.signal(libc::SIGTERM);
        assert_eq!(server.await_end(WAIT).code(), Some(0));
        assert_eq!(server.survivors(), [0; 0]);
    }
}

fn a_run_that_ran_too_long_is_answered_as_without_a_keeper(backend: Backend) {
    let without = Launch::new(backend).args(&["--no-token"]).start();
    for server in kept(backend) {
        for body in [
            json!({"command": "sleep", "args": ["77"], "timeoutMs": 100}),
            json!({"command": "sh", "args": ["-c", "trap '' TERM; sleep 77 & sleep 78"],
                "timeoutMs": 100}),
        ] {
            let answer = |server: &Server| {
                let mut answer = server.run(&body);
                answer["durationMs"] = Value::Null;
                answer
            };
            // On a machine that is busy it may be answered before the program has ended.
            let told = |server: &Server| {
                eventually("an answer with how it ended", || {
                    let answer = answer(server);
                    (answer["signal"] == "SIGKILL").then_some(answer)
                })
            };
            let expected = told(&without);
            assert_eq!(expected["timedOut"], true);
            for _ in 0..3 {
                assert_eq!(told(&server), expected);
            }
        }
    }
}

/// Does not end by SIGTERM but when the gate is there, and says when it was to.
fn stubborn(gate: &str) -> Value {
    sh(&format!(
        "trap 'echo told' TERM; echo ready; while ! [ -e '{gate}' ]; do sleep 0.02; done; rm '{gate}'"
    ))
}

/// A server with such a process, and where its gate is.
#[track_caller]
fn with_stubborn(backend: Backend) -> (Server, String, String) {
    let args = ["--no-token", "--keep", "--shutdown-grace", "600"];
    let server = Launch::new(backend).args(&args).start();
    let gate = std::env::temp_dir().join(format!("procring-end-{}", server.pid));
    let gate = gate.display().to_string();
    let id = server.spawn(&stubborn(&gate));
    server.await_output(&id, "ready");
    (server, id, gate)
}

/// A server begins nothing, and ends when the last process has.
#[track_caller]
fn ends(mut server: Server, id: &str, gate: &str) {
    let refused = server.post("/v1/processes", &sh("sleep 77"));
    refused.expect(503);
    assert_eq!(server.info(id)["status"], "running");
    std::fs::write(gate, "").unwrap();
    assert_eq!(server.await_end(WAIT).code(), Some(0));
    assert_eq!(server.survivors(), [0; 0]);
    let stderr = server.stderr();
    assert!(
        stderr.contains("the server died (SIGKILL); another one ends what it was ending"),
        "{stderr}"
    );
}

fn a_server_that_dies_on_its_way_to_the_end_is_followed_by_one_that_ends(backend: Backend) {
    let (server, id, gate) = with_stubborn(backend);
    server.signal(libc::SIGTERM);
    server.await_output(&id, "told");
    for _ in 0..2 {
        kill_server(&server);
    }
    ends(server, &id, &gate);
}

fn a_word_to_end_is_not_lost_with_the_server_that_was_to_hear_it(backend: Backend) {
    let (server, id, gate) = with_stubborn(backend);
    let before = server.kept().expect("a server");
    send_signal(before, libc::SIGSTOP);
    eventually("a stopped server", || {
        (procfs::state(before) == Some('T')).then_some(())
    });
    server.signal(libc::SIGTERM);
    eventually("a signal that waits for the server", || {
        let status = std::fs::read_to_string(format!("/proc/{before}/status")).unwrap();
        let pending = status
            .lines()
            .find_map(|line| line.strip_prefix("ShdPnd:"))
            .map(|mask| u64::from_str_radix(mask.trim(), 16).unwrap());
        (pending.unwrap() & 1 << (libc::SIGTERM - 1) != 0).then_some(())
    });
    kill_server(&server);
    server.await_output(&id, "told");
    ends(server, &id, &gate);
}
