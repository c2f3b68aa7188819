//! A run that is streamed: line by line as it writes, at the pace of its client, to its end.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::json::keys;
use crate::harness::lines::{Lines, NDJSON, run_request, text_of};
use crate::harness::{Backend, Conn, Launch, Server, WAIT, eventually, on_both, procfs, sh};

on_both!(
    lines_come_as_they_are_written_and_the_exit_is_last,
    events_are_named_by_their_type_and_numbered,
    the_accept_header_says_which_and_whether,
    http_1_0_gets_a_body_until_the_connection_closes,
    what_cannot_be_streamed_is_a_plain_problem,
    text_is_sent_in_whole_characters,
    a_maximum_bounds_what_is_sent_and_nothing_else_does,
    stdin_is_fed_while_the_output_flows,
    death_by_signal_and_a_timeout_are_told,
    what_it_leaves_behind_has_a_record,
    others_that_hold_its_output_do_not_hold_up_its_end,
    another_request_may_follow_on_the_connection,
    a_server_that_ends_tells_how_the_run_ended,
);

/// A file that a script waits for.
struct Flag(PathBuf);

impl Flag {
    fn new(server: &Server, name: &str) -> Self {
        let dir = std::fs::canonicalize(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Self(dir.join(format!("stream-{name}-{}", server.pid)))
    }

    /// Shell code that ends once the flag is raised.
    fn awaited(&self) -> String {
        format!("until [ -e {} ]; do sleep 0.02; done", self.0.display())
    }

    fn raise(&self) {
        std::fs::write(&self.0, "").unwrap();
    }
}

impl Drop for Flag {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn text_run(script: &str) -> Value {
    let mut body = sh(script);
    body["outputEncoding"] = json!("utf8");
    body
}

fn answer(server: &Server, version: &str, headers: &[(&str, &str)], body: &Value) -> Conn {
    let mut conn = server.conn();
    conn.send(run_request(version, headers, body));
    conn
}

fn lines_come_as_they_are_written_and_the_exit_is_last(backend: Backend) {
    let server = Server::open(backend);
    let flag = Flag::new(&server, "lines");
    let script = format!("echo one; {}; echo two >&2; exit 3", flag.awaited());
    let mut lines = Lines::run(&server, &sh(&script));
    assert_eq!(lines.head.header("cache-control"), Some("no-store"));
    assert_eq!(lines.head.header("x-accel-buffering"), Some("no"));
    let pid = lines.start();
    assert!(procfs::alive(pid));
    let one = lines.next().unwrap();
    let order = ["type", "sequence", "timestampMs", "data", "encoding"];
    assert_eq!(keys(&one.to_string()).len(), order.len(), "{one}");
    assert_eq!(
        (&one["type"], &one["sequence"]),
        (&json!("stdout"), &json!(1))
    );
    assert_eq!(
        (&one["data"], &one["encoding"]),
        (&json!("b25lCg=="), &json!("base64"))
    );
    assert!(procfs::alive(pid), "it was sent while the program runs");
    flag.raise();
    let two = lines.next().unwrap();
    assert_eq!(
        (&two["type"], &two["sequence"], &two["data"]),
        (&json!("stderr"), &json!(2), &json!("dHdvCg=="))
    );
    let exit = lines.next().unwrap();
    let expected = json!({
        "type": "exit", "exitCode": 3, "timedOut": false, "durationMs": exit["durationMs"],
        "stdoutBytes": 4, "stderrBytes": 4, "stdoutTruncated": false, "stderrTruncated": false,
    });
    assert_eq!(exit, expected);
    assert_eq!(lines.next(), None, "nothing behind it");
    assert!(
        server.get("/v1/processes").json()["processes"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

fn events_are_named_by_their_type_and_numbered(backend: Backend) {
    let server = Server::open(backend);
    let accept = ("Accept", "text/event-stream");
    let mut conn = answer(&server, "1.1", &[accept], &text_run("echo hi; exit 5"));
    let answer = conn.response("POST").expect(200);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    let text = answer.text();
    let number = |key: &str| {
        let rest = text.split(&format!("\"{key}\":")).nth(1).expect(key);
        let end = rest.find([',', '}']).unwrap();
        rest[..end].to_owned()
    };
    let expected = format!(
        "event: start\ndata: {{\"type\":\"start\",\"pid\":{}}}\n\n\
         event: stdout\nid: 1\ndata: {{\"type\":\"stdout\",\"sequence\":1,\"timestampMs\":{},\
         \"data\":\"hi\\n\",\"encoding\":\"utf8\"}}\n\n\
         event: exit\ndata: {{\"type\":\"exit\",\"exitCode\":5,\"timedOut\":false,\
         \"durationMs\":{},\"stdoutBytes\":3,\"stderrBytes\":0,\"stdoutTruncated\":false,\
         \"stderrTruncated\":false}}\n\n",
        number("pid"),
        number("timestampMs"),
        number("durationMs"),
    );
    assert_eq!(text, expected);
}

fn the_accept_header_says_which_and_whether(backend: Backend) {
    let server = Server::open(backend);
    for (accept, content_type) in [
        ("application/x-ndjson", "application/x-ndjson"),
        (
            "text/event-stream, application/x-ndjson",
            "application/x-ndjson",
        ),
        ("application/json, text/event-stream", "text/event-stream"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/event-stream;q=0", "application/json"),
    ] {
        let headers = [("Accept", accept), ("Prefer", "handling=strict")];
        let mut conn = answer(&server, "1.1", &headers, &json!({"command": "true"}));
        let answer = conn.response("POST").expect(200);
        assert_eq!(
            answer.header("content-type"),
            Some(content_type),
            "{accept}"
        );
        assert_eq!(answer.header("preference-applied"), Some("handling=strict"));
    }
}

fn http_1_0_gets_a_body_until_the_connection_closes(backend: Backend) {
    let server = Server::open(backend);
    let body = json!({"command": "cat", "stdin": "abc"});
    let mut conn = answer(&server, "1.0", &[NDJSON], &body);
    let head = conn.head(WAIT).unwrap().expect(200);
    assert_eq!(head.header("transfer-encoding"), None);
    assert!(head.says_close());
    let text = String::from_utf8(conn.read_to_end()).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(text_of(&lines, "stdout"), "abc");
    assert_eq!(lines.last().unwrap()["exitCode"], 0);
}

fn what_cannot_be_streamed_is_a_plain_problem(backend: Backend) {
    let server = Server::open(backend);
    let ask = |extra: &[(&str, &str)], body: &Value| {
        let headers = [&[NDJSON], extra].concat();
        answer(&server, "1.1", &headers, body).response("POST")
    };
    let missing = ask(&[], &json!({"command": "/no/such/program"}));
    let problem = missing.problem(502, "stream_error");
    assert_eq!(problem["code"], "ENOENT");
    let run = json!({"command": "true"});
    for (key, value, named) in [
        ("keep", json!("head"), "keep"),
        ("outputEncoding", json!("latin1"), "outputEncoding"),
    ] {
        let mut body = run.clone();
        body[key] = value;
        let problem = ask(&[], &body).problem(400, "invalid_request");
        assert!(
            problem["detail"].as_str().unwrap().contains(named),
            "{problem}"
        );
    }
    let problem = ask(&[("Idempotency-Key", "k")], &run).problem(400, "invalid_request");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("Idempotency-Key"),
        "{problem}"
    );
    ask(
        &[("Prefer", "handling=strict")],
        &json!({"command": "true", "x": 1}),
    )
    .expect(422);
    let mut wrong = run.clone();
    wrong["outputEncoding"] = json!(7);
    ask(&[], &wrong).expect(422);
    ask(&[], &run).expect(200);
}

fn text_is_sent_in_whole_characters(backend: Backend) {
    let server = Server::open(backend);
    let flag = Flag::new(&server, "text");
    let script = format!(
        "printf 'a\\360\\237'; echo here >&2; {}; printf '\\230\\200b\\377\\342\\202'",
        flag.awaited()
    );
    let mut lines = Lines::run(&server, &text_run(&script));
    lines.start();
    let first = [lines.next().unwrap(), lines.next().unwrap()];
    assert_eq!(text_of(&first, "stdout"), "a");
    assert_eq!(text_of(&first, "stderr"), "here\n");
    flag.raise();
    let whole = lines.next().unwrap();
    assert_eq!(
        (&whole["data"], &whole["sequence"]),
        (&json!("\u{1F600}b\u{FFFD}"), &json!(3))
    );
    let cut = lines.next().unwrap();
    assert_eq!(cut["data"], "\u{FFFD}", "it was never completed: {cut}");
    assert_eq!(lines.exit()["stdoutBytes"], 9);
}

fn a_maximum_bounds_what_is_sent_and_nothing_else_does(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxOutputBytes", 5), ("maxLogBytesPerProcess", 1000)]);
    let script = "head -c 500000 /dev/zero | tr '\\0' x; printf errors >&2";
    let mut lines = Lines::run(&server, &sh(script));
    lines.start();
    let all = lines.rest();
    assert!(text_of(&all, "stdout") == "x".repeat(500_000));
    let exit = all.last().unwrap();
    assert_eq!(
        (&exit["stdoutBytes"], &exit["stdoutTruncated"]),
        (&json!(500_000), &json!(false))
    );
    for max in [0, 1, 100_000] {
        let mut body = sh(script);
        body["maxOutputBytes"] = json!(max);
        let mut lines = Lines::run(&server, &body);
        lines.start();
        let all = lines.rest();
        assert_eq!(text_of(&all, "stdout").len(), max);
        assert_eq!(text_of(&all, "stderr"), "errors"[..max.min(6)]);
        let exit = all.last().unwrap();
        assert_eq!(
            (&exit["stdoutBytes"], &exit["stderrBytes"]),
            (&json!(500_000), &json!(6))
        );
        let truncated = (&exit["stdoutTruncated"], &exit["stderrTruncated"]);
        assert_eq!(truncated, (&json!(true), &json!(max < 6)));
    }
}

fn stdin_is_fed_while_the_output_flows(backend: Backend) {
    let server = Server::open(backend);
    let text: String = (0..100_000).map(|n| format!("{n}\n")).collect();
    let mut lines = Lines::run(&server, &json!({"command": "cat", "stdin": text}));
    lines.start();
    let all = lines.rest();
    assert!(text_of(&all, "stdout") == text);
    let sequences: Vec<_> = all
        .iter()
        .filter_map(|line| line["sequence"].as_u64())
        .collect();
    let expected: Vec<_> = (1..=sequences.len() as u64).collect();
    assert_eq!(sequences, expected, "none is left out");
}

fn death_by_signal_and_a_timeout_are_told(backend: Backend) {
    let server = Server::open(backend);
    let mut lines = Lines::run(&server, &sh("echo x; kill -SEGV $$"));
    lines.start();
    let exit = lines.exit();
    assert_eq!(
        (&exit["exitCode"], &exit["signal"]),
        (&json!(null), &json!("SIGSEGV"))
    );
    assert_eq!(exit["timedOut"], false);
    let mut body = text_run("echo before; setsid sleep 77 & sleep 77");
    body["timeoutMs"] = json!(300);
    let mut lines = Lines::run(&server, &body);
    lines.start();
    let all = lines.rest();
    let exit = all.last().unwrap();
    assert_eq!(text_of(&all, "stdout"), "before\n");
    assert_eq!(
        (&exit["exitCode"], &exit["signal"]),
        (&json!(null), &json!("SIGKILL"))
    );
    assert_eq!(
        (&exit["timedOut"], exit.get("processId")),
        (&json!(true), None)
    );
    assert!(server.survivors().is_empty());
}

fn what_it_leaves_behind_has_a_record(backend: Backend) {
    let server = Server::open(backend);
    let flag = Flag::new(&server, "left");
    let script = format!("({}; echo late; exec sleep 77) & echo now", flag.awaited());
    let mut lines = Lines::run(&server, &text_run(&script));
    lines.start();
    let all = lines.rest();
    assert_eq!(text_of(&all, "stdout"), "now\n");
    let id = all.last().unwrap()["processId"]
        .as_str()
        .expect("an id")
        .to_owned();
    let info = server.info(&id);
    assert_eq!(
        (&info["status"], &info["exitCode"]),
        (&json!("exited"), &json!(0))
    );
    assert!(info["descendants"].is_u64(), "{info}");
    flag.raise();
    server.await_output(&id, "now\nlate\n");
    server.kill(&id);
    assert!(server.survivors().is_empty());
}

fn others_that_hold_its_output_do_not_hold_up_its_end(backend: Backend) {
    let server = Server::open(backend);
    for record in [false, true] {
        // They write on, as fast as they can.
        let mut body = sh("yes & yes >&2 & echo $! >/dev/null; exit 4");
        body["record"] = json!(record);
        let mut lines = Lines::run(&server, &body);
        lines.start();
        let exit = lines.exit();
        assert_eq!(exit["exitCode"], 4);
        let list = server.get("/v1/processes").json();
        let id = list["processes"][0]["id"]
            .as_str()
            .expect("its record")
            .to_owned();
        server
            .delete(&format!("/v1/processes/{id}?tree=true"))
            .expect(204);
        eventually("nothing to be left", || {
            server.survivors().is_empty().then_some(())
        });
    }
}

fn another_request_may_follow_on_the_connection(backend: Backend) {
    let server = Server::open(backend);
    let mut conn = server.conn();
    for _ in 0..3 {
        let mut lines = Lines::over(conn, &sh("echo hi"));
        lines.start();
        assert_eq!(lines.exit()["exitCode"], 0);
        conn = lines.into_conn();
    }
    conn.send("GET /v1/health HTTP/1.1\r\nHost: h\r\n\r\n");
    conn.response("GET").expect(200);
    // Sent ahead, while the run is under way.
    let mut lines = Lines::over(conn, &sh("sleep 0.2; echo hi"));
    lines
        .conn()
        .send("GET /v1/health HTTP/1.1\r\nHost: h\r\n\r\n");
    lines.start();
    assert_eq!(lines.exit()["exitCode"], 0);
    lines.into_conn().response("GET").expect(200);
}

fn a_server_that_ends_tells_how_the_run_ended(backend: Backend) {
    let mut server = Launch::new(backend).args(&["--no-token"]).start();
    let mut polite = Lines::run(
        &server,
        &text_run("trap 'echo bye; exit 9' TERM; echo on; while :; do sleep 0.02; done"),
    );
    let mut body = sh("echo on; exec sleep 77");
    body["record"] = json!(true);
    let mut sleeping = Lines::run(&server, &body);
    for lines in [&mut polite, &mut sleeping] {
        lines.start();
        assert_eq!(lines.next().unwrap()["type"], "stdout");
    }
    server.signal(libc::SIGTERM);
    let all = polite.rest();
    assert_eq!(text_of(&all, "stdout"), "bye\n");
    assert_eq!(all.last().unwrap()["exitCode"], 9);
    assert_eq!(sleeping.exit()["signal"], "SIGTERM");
    server.await_end(Duration::from_secs(20));
}
