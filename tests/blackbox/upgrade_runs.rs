//! Runs under way at an upgrade: those that another server can go on with, and those that it waits for.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::lines::run_request;
use crate::harness::procfs::{children_of, kib};
use crate::harness::server::send_signal;
use crate::harness::{Backend, Conn, Folder, Launch, eventually, on_both, sh};
use crate::upgrade::{counter, kept, upgrade};

on_both!(
    runs_in_flight_are_answered_by_the_next_server,
    a_run_with_input_that_does_not_end_refuses_the_upgrade,
    what_is_handed_over_of_runs_is_bounded_and_does_not_stay_in_memory,
);

fn runs_in_flight_are_answered_by_the_next_server(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token", "--keep", "--max-concurrent-runs", "6"])
        .start();
    let folder = Folder::new("upgrade-runs", backend);
    let gate = folder.file("gate");
    let gated = |script: &str, more: Value| {
        let mut body = sh(&format!(
            "{script}; while [ ! -e {gate} ]; do sleep 0.02; done; {script}; \
                                    echo err >&2; exit 3"
        ));
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        body
    };
    let asks = |body: &Value| {
        let mut conn = server.conn();
        conn.send(run_request("1.1", &[], body));
        conn
    };
    let flood = "seq 1 60000";
    let bodies = [
        gated("echo out", json!({})),
        gated(flood, json!({})),
        gated(flood, json!({"maxOutputBytes": 70_001})),
        gated(flood, json!({"maxOutputBytes": 70_001, "keep": "tail"})),
        gated(flood, json!({"maxOutputBytes": 70_001, "keep": "both"})),
        gated("echo slow", json!({"timeoutMs": 3000})),
        // In line behind the others.
        gated("echo late", json!({})),
    ];
    let gone = {
        let mut answered: Vec<Conn> = bodies.iter().map(&asks).collect();
        eventually("all runs", || {
            let counts = &server.get("/v1/server").json()["counts"];
            (counts["runs"] == 6).then_some(())
        });
        std::thread::sleep(Duration::from_millis(300));
        // Behind a run comes another request.
        answered[0].send("GET /v1/health HTTP/1.1\r\nHost: h\r\n\r\n");
        upgrade(&server);
        upgrade(&server);
        assert_eq!(server.get("/v1/server").json()["counts"]["runs"], 6);
        let late = answered[5].response("POST").json();
        assert_eq!(late["timedOut"], true, "{late}");
        assert_eq!(late["stdout"], "slow\n");
        assert!(late["durationMs"].as_u64() >= Some(3000), "{late}");
        std::fs::write(&gate, "").unwrap();
        for (at, body) in bodies.iter().enumerate().filter(|(at, _)| *at != 5) {
            let answer = answered[at].response("POST").json();
            // The same that is not interrupted.
            let plain = server.run(body);
            for key in [
                "stdout",
                "stderr",
                "exitCode",
                "timedOut",
                "stdoutTruncated",
            ] {
                assert_eq!(answer[key], plain[key], "{key} of run {at}");
            }
            assert_eq!(answer["exitCode"], 3);
        }
        assert_eq!(answered[0].response("GET").status, 200);
        std::fs::remove_file(&gate).unwrap();
        asks(&bodies[0])
    };
    // Who waits goes away behind an upgrade: the run ends with that.
    let begun = || server.get("/v1/server").json()["counts"]["runs"].as_u64();
    eventually("a run", || (begun() == Some(1)).then_some(()));
    upgrade(&server);
    assert_eq!(begun(), Some(1));
    drop(gone);
    eventually("no run", || (begun() == Some(0)).then_some(()));
    // And so it does behind a crash.
    let _lost = asks(&bodies[0]);
    eventually("a run", || (begun() == Some(1)).then_some(()));
    upgrade(&server);
    send_signal(server.kept().unwrap(), libc::SIGKILL);
    let children = || {
        let mut all = children_of(server.pid);
        all.retain(|pid| Some(*pid) != server.kept());
        all
    };
    eventually("nobody of the run", || children().is_empty().then_some(()));
}

fn a_run_with_input_that_does_not_end_refuses_the_upgrade(backend: Backend) {
    let server = kept(backend);
    let id = server.spawn(&counter(5));
    let mut conn = server.conn();
    let mut body = sh("cat; sleep 8; echo end");
    body["stdin"] = json!("in\n");
    conn.send(run_request("1.1", &[], &body));
    eventually("a run", || {
        (server.get("/v1/server").json()["counts"]["runs"] == 1).then_some(())
    });
    server.signal(libc::SIGUSR2);
    eventually("a refusal", || {
        let stderr = server.stderr();
        stderr
            .contains("nothing was upgraded: after 5 s 1 runs")
            .then_some(())
    });
    server.await_output(&id, "line");
    assert_eq!(conn.response("POST").json()["stdout"], "in\nend\n");
    upgrade(&server);
}

fn what_is_handed_over_of_runs_is_bounded_and_does_not_stay_in_memory(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token", "--keep", "--max-concurrent-runs", "2"])
        .start();
    let folder = Folder::new("upgrade-runs-memory", backend);
    let ask = |gate: &str, runs: usize| -> Vec<Conn> {
        let mut body = sh(&format!(
            "while [ ! -e {gate} ]; do sleep 0.02; done; echo done"
        ));
        // A megabyte each, two of which have begun.
        let long: serde_json::Map<String, Value> = (0..10)
            .map(|at| (format!("LONG_{at}"), json!("x".repeat(100_000))))
            .collect();
        body["env"] = long.into();
        let mut waiting = Vec::new();
        for _ in 0..runs {
            let mut conn = server.conn();
            conn.send(run_request("1.1", &[], &body));
            waiting.push(conn);
        }
        eventually("all runs", || {
            let info = server.get("/v1/server").json();
            let all = info["counts"]["runs"].as_u64()? + info["counts"]["queuedRuns"].as_u64()?;
            (all == runs as u64).then_some(())
        });
        waiting
    };
    let answered = |waiting: Vec<Conn>| {
        for mut conn in waiting {
            assert_eq!(conn.response("POST").json()["stdout"], "done\n");
        }
    };
    let gate = folder.file("few");
    let few = ask(&gate, 12);
    upgrade(&server);
    std::fs::write(&gate, "").unwrap();
    answered(few);
    eventually("little memory", || {
        let pids = [server.pid, server.kept()?];
        (pids.map(|pid| kib(pid, "RssAnon")).iter().sum::<u64>() < 8 << 10).then_some(())
    });
    // More than 16 MiB of them are waited for.
    let gate = folder.file("many");
    let many = ask(&gate, 20);
    server.signal(libc::SIGUSR2);
    eventually("a refusal", || {
        server
            .stderr()
            .contains("nothing was upgraded: after 5 s")
            .then_some(())
    });
    std::fs::write(&gate, "").unwrap();
    answered(many);
    upgrade(&server);
}
