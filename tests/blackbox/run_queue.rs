//! `--max-concurrent-runs` and `--max-queued-runs`: more runs wait in line, in order.

use serde_json::{Value, json};

use crate::harness::{Backend, Conn, Launch, Server, eventually, on_both, sh};

on_both!(
    runs_beyond_the_bound_begin_in_the_order_of_asking,
    one_that_finds_the_line_full_is_told,
    one_that_waits_too_long_is_told_and_has_started_nothing,
    the_time_of_a_run_counts_from_its_start,
    whoever_leaves_the_line_is_passed_over,
    those_in_line_are_told_of_the_end_of_the_server,
    what_a_run_in_line_is_to_start_is_charged_until_it_is_over,
);

fn with(backend: Backend, concurrent: &str, queued: &str) -> Server {
    Launch::new(backend)
        .args(&[
            "--no-token",
            "--max-concurrent-runs",
            concurrent,
            "--max-queued-runs",
            queued,
        ])
        .start()
}

/// Sends a run and does not wait for its answer.
fn ask(server: &Server, body: &Value, accept: &str) -> Conn {
    let mut conn = server.conn();
    let body = body.to_string();
    let head = format!(
        "POST /v1/processes/run HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{accept}\
         Content-Length: {}\r\n\r\n",
        server.address,
        body.len()
    );
    conn.send([head, body].concat());
    conn
}

fn await_count(server: &Server, name: &str, count: u64) {
    eventually(&format!("{name} to be {count}"), || {
        let counts = &server.get("/v1/server").json()["counts"];
        (counts[name] == count).then_some(())
    });
}

/// A run that ends when a line is written to the named pipe, and a run that makes it.
fn gate(server: &Server, name: &str) -> String {
    let dir = env!("CARGO_TARGET_TMPDIR");
    let path = format!("{dir}/gate-{}-{}-{name}", std::process::id(), server.pid);
    assert_eq!(
        server.run(&json!({"command": "mkfifo", "args": [path]}))["exitCode"],
        0
    );
    path
}

fn held_by(gate: &str) -> Value {
    sh(&format!("read line < '{gate}'; echo $line; rm -f '{gate}'"))
}

fn open(gate: &str) {
    std::fs::write(gate, "go\n").unwrap();
}

fn runs_beyond_the_bound_begin_in_the_order_of_asking(backend: Backend) {
    let server = with(backend, "1", "8");
    let out = gate(&server, "order");
    let holds = gate(&server, "holds");
    let mut first = ask(&server, &held_by(&holds), "");
    await_count(&server, "runs", 1);
    let mut waiting = Vec::new();
    for (at, accept) in ["", "Accept: application/x-ndjson\r\n", ""]
        .iter()
        .enumerate()
    {
        let body = sh(&format!("echo {at} >> '{out}.txt'"));
        waiting.push(ask(&server, &body, accept));
        await_count(&server, "queuedRuns", at as u64 + 1);
    }
    assert!(!std::path::Path::new(&format!("{out}.txt")).exists());
    open(&holds);
    assert_eq!(first.response("POST").json()["stdout"], "go\n");
    for conn in &mut waiting {
        assert_eq!(conn.response("POST").status, 200);
    }
    let order = std::fs::read_to_string(format!("{out}.txt")).unwrap();
    assert_eq!(order, "0\n1\n2\n");
    await_count(&server, "queuedRuns", 0);
    for file in [out.clone(), format!("{out}.txt")] {
        let _ = std::fs::remove_file(file);
    }
}

fn one_that_finds_the_line_full_is_told(backend: Backend) {
    let server = with(backend, "1", "1");
    let holds = gate(&server, "full");
    let mut first = ask(&server, &held_by(&holds), "");
    await_count(&server, "runs", 1);
    let mut second = ask(&server, &sh("echo second"), "");
    await_count(&server, "queuedRuns", 1);
    for accept in ["", "Accept: application/x-ndjson\r\n"] {
        let refused = ask(&server, &sh("echo third"), accept).response("POST");
        let problem = refused.problem(503, "unavailable");
        assert_eq!(problem["code"], "runs");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("--max-queued-runs"), "{detail}");
        assert!(refused.header("retry-after").is_some());
    }
    // Managed processes are no runs.
    server.spawn(&json!({"command": "true"}));
    open(&holds);
    assert_eq!(first.response("POST").json()["stdout"], "go\n");
    assert_eq!(second.response("POST").json()["stdout"], "second\n");
}

fn one_that_waits_too_long_is_told_and_has_started_nothing(backend: Backend) {
    let server = with(backend, "1", "8");
    let (holds, trace) = (gate(&server, "late"), gate(&server, "trace"));
    let mut first = ask(&server, &held_by(&holds), "");
    await_count(&server, "runs", 1);
    let mut body = sh(&format!("rm '{trace}'"));
    body["timeoutMs"] = json!(300);
    for accept in ["", "Accept: text/event-stream\r\n"] {
        let refused = ask(&server, &body, accept).response("POST");
        let problem = refused.problem(503, "unavailable");
        assert_eq!(problem["code"], "runs");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("within 300 ms"), "{detail}");
    }
    open(&holds);
    assert_eq!(first.response("POST").json()["stdout"], "go\n");
    assert!(std::path::Path::new(&trace).exists());
    std::fs::remove_file(trace).unwrap();
}

fn the_time_of_a_run_counts_from_its_start(backend: Backend) {
    let server = with(backend, "1", "8");
    // The second waits for longer than it has time left after the first.
    let mut first = ask(&server, &sh("sleep 1.5"), "");
    await_count(&server, "runs", 1);
    let mut body = sh("sleep 1.5; echo whole");
    body["timeoutMs"] = json!(2800);
    let mut second = ask(&server, &body, "");
    first.response("POST").expect(200);
    let answer = second.response("POST").json();
    assert_eq!(answer["timedOut"], false, "{answer}");
    assert_eq!(answer["stdout"], "whole\n");
    assert!(answer["durationMs"].as_u64().unwrap() >= 1500);
}

fn whoever_leaves_the_line_is_passed_over(backend: Backend) {
    let server = with(backend, "1", "2");
    let (holds, trace) = (gate(&server, "leaves"), gate(&server, "left"));
    let mut first = ask(&server, &held_by(&holds), "");
    await_count(&server, "runs", 1);
    let second = ask(&server, &sh(&format!("rm '{trace}'")), "");
    await_count(&server, "queuedRuns", 1);
    let mut third = ask(&server, &sh("echo third"), "");
    await_count(&server, "queuedRuns", 2);
    second.reset();
    await_count(&server, "queuedRuns", 1);
    open(&holds);
    assert_eq!(first.response("POST").json()["stdout"], "go\n");
    assert_eq!(third.response("POST").json()["stdout"], "third\n");
    assert!(std::path::Path::new(&trace).exists());
    std::fs::remove_file(trace).unwrap();
}

fn those_in_line_are_told_of_the_end_of_the_server(backend: Backend) {
    let server = with(backend, "1", "2");
    let _first = ask(&server, &sh("exec sleep 1000"), "");
    await_count(&server, "runs", 1);
    let mut second = ask(&server, &sh("echo second"), "");
    await_count(&server, "queuedRuns", 1);
    server.signal(libc::SIGTERM);
    let problem = second.response("POST").problem(503, "unavailable");
    assert_eq!(problem["code"], "shutting_down");
}

fn what_a_run_in_line_is_to_start_is_charged_until_it_is_over(backend: Backend) {
    let server = with(backend, "1", "8");
    let bodies = || server.get("/v1/server").json()["memory"]["bodiesBytes"].clone();
    let given_back = || {
        eventually("what it was to start to be given back", || {
            (bodies() == 0).then_some(())
        });
    };
    let holds = gate(&server, "charged");
    let mut first = ask(&server, &held_by(&holds), "");
    await_count(&server, "runs", 1);
    let mut body = json!({"command": "true", "args": vec!["x".repeat(10_000); 30]});
    for accept in ["", "Accept: text/event-stream\r\n"] {
        let waits = ask(&server, &body, accept);
        await_count(&server, "queuedRuns", 1);
        assert!(bodies().as_u64() >= Some(300_000), "{accept}{}", bodies());
        // Its place and what it holds go with its client.
        waits.reset();
        await_count(&server, "queuedRuns", 0);
        given_back();
    }
    // One that may be asked for again waits on without its client.
    body["killOnDisconnect"] = json!(false);
    let waits = ask(&server, &body, "Idempotency-Key: waits\r\n");
    await_count(&server, "queuedRuns", 1);
    waits.reset();
    await_count(&server, "connections", 2);
    await_count(&server, "queuedRuns", 1);
    assert!(bodies().as_u64() >= Some(300_000), "{}", bodies());
    open(&holds);
    assert_eq!(first.response("POST").json()["stdout"], "go\n");
    given_back();
    // What has gone to the program is not held any more.
    let holds = gate(&server, "held");
    let mut body = held_by(&holds);
    body["env"] = json!({"A": "x".repeat(100_000), "B": "x".repeat(100_000)});
    let mut first = ask(&server, &body, "");
    await_count(&server, "runs", 1);
    assert!(bodies().as_u64() < Some(1000), "{}", bodies());
    open(&holds);
    first.response("POST").expect(200);
}
