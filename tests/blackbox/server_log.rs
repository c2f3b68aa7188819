//! The server's own log: what it tells of starts, ends, refusals and its own end, and what never.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use rustix::pipe::pipe;
use serde_json::{Value, json};

use crate::harness::{Backend, Launch, Response, Server, eventually, on_both, sh};

on_both!(
    every_process_and_run_has_a_start_and_an_end_with_its_request,
    one_can_tell_why_requests_were_refused,
    many_refusals_are_few_lines_that_count_all_of_them,
    no_secret_no_input_and_no_output_is_in_the_log,
    arguments_are_shown_where_they_are_asked_for_only,
    a_level_leaves_out_what_is_less_important,
    a_standard_error_that_nobody_reads_holds_up_nothing_and_loses_are_counted,
    a_journal_gets_priorities_and_no_times,
    the_end_tells_what_was_ended,
    an_id_of_a_request_comes_back_and_no_other,
);

const TOKEN: &str = "s3cret-t0ken";

fn launch(backend: Backend, format: &str) -> Launch {
    Launch::new(backend).args(&["--no-token", "--log-format", format])
}

/// The lines that are JSON, as they came. The start line is looked for by the harness as text.
fn events(text: &str) -> Vec<Value> {
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// Those of them that are called so.
fn named<'e>(events: &'e [Value], name: &str) -> Vec<&'e Value> {
    let is_it = |event: &&Value| event["event"] == name;
    events.iter().filter(is_it).collect()
}

#[track_caller]
fn post_as(server: &Server, request: &str, target: &str, body: &Value) -> Response {
    let headers = [
        ("Content-Type", "application/json"),
        ("X-Request-Id", request),
    ];
    server.request("POST", target, &headers, body.to_string().as_bytes())
}

fn every_process_and_run_has_a_start_and_an_end_with_its_request(backend: Backend) {
    let server = launch(backend, "json").start();
    let body = json!({"command": "sh", "args": ["-c", "echo out; exit 3"], "name": "web"});
    let created = post_as(&server, "made-it", "/v1/processes", &body).expect(200);
    let id = created.json()["id"].as_str().unwrap().to_owned();
    server.await_exit(&id);
    post_as(
        &server,
        "ran-it",
        "/v1/processes/run",
        &sh("printf 1234; kill -9 $$"),
    )
    .expect(200);
    let record = json!({"command": "true", "record": true});
    post_as(&server, "kept-it", "/v1/processes/run", &record).expect(200);
    let late = json!({"command": "sleep", "args": ["77"], "timeoutMs": 50});
    post_as(&server, "too-long", "/v1/processes/run", &late).expect(200);
    let missing = json!({"command": "no-such-program"});
    post_as(&server, "not-there", "/v1/processes/run", &missing).expect(502);
    let missing = json!({"command": "no-such-program", "record": true});
    post_as(&server, "not-kept", "/v1/processes/run", &missing).expect(502);
    let events = events(&server.told_so_far());
    let of = |name: &str, request: &str| {
        let found = named(&events, name);
        let found: Vec<_> = found
            .into_iter()
            .filter(|of| of["request"] == request)
            .collect();
        assert_eq!(found.len(), 1, "{name} of {request}: {events:?}");
        found[0].clone()
    };
    let started = of("process_started", "made-it");
    assert_eq!(
        (&started["id"], &started["name"]),
        (&json!(id), &json!("web"))
    );
    assert!(started["pid"].as_i64().unwrap() > 1 && started["command"] == "sh");
    let ended = of("process_exited", "made-it");
    assert_eq!((&ended["id"], &ended["exitCode"]), (&json!(id), &json!(3)));
    assert_eq!(ended["outputBytes"], 4);
    assert!(ended["durationMs"].is_u64());
    let ran = of("run_ended", "ran-it");
    assert_eq!(of("run_started", "ran-it")["run"], ran["run"]);
    assert_eq!(
        (&ran["signal"], &ran["outputBytes"]),
        (&json!("SIGKILL"), &json!(4))
    );
    assert!(
        ran.get("exitCode").is_none() && ran.get("id").is_none(),
        "{ran}"
    );
    let kept = of("run_ended", "kept-it");
    assert!(kept["id"].as_str().unwrap().starts_with("proc_"), "{kept}");
    assert_eq!(of("run_started", "kept-it")["id"], kept["id"]);
    assert_eq!(of("run_ended", "too-long")["reason"], "timeout");
    assert_eq!(of("run_ended", "not-there")["reason"], "not_started");
    assert_eq!(of("refused", "not-there")["reason"], "ENOENT");
    assert_eq!(of("run_ended", "not-kept")["reason"], "not_started");
    for event in &events {
        assert!(event["ts"].as_str().unwrap().ends_with('Z'), "{event}");
        assert!(event["level"].is_string(), "{event}");
    }
}

fn one_can_tell_why_requests_were_refused(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--token", TOKEN, "--log-format", "json"])
        .env("PROCRING_MAX_EXITD", "1")
        .start();
    let bearer = format!("Bearer {TOKEN}");
    let ask = |method: &str, target: &str, body: &str| {
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
        ];
        server.request(method, target, &headers, body.as_bytes())
    };
    server.get("/v1/processes").expect(401);
    let foreign = [
        ("Authorization", bearer.as_str()),
        ("Origin", "http://evil.example"),
    ];
    server
        .request("POST", "/v1/processes/x/kill", &foreign, b"")
        .expect(403);
    ask("GET", "/v1/processes/proc_77", "").expect(404);
    ask("GET", "/v2", "").expect(404);
    ask("PUT", "/v1/processes", "").expect(405);
    ask("POST", "/v1/processes", "{").expect(400);
    ask("POST", "/v1/processes/run", "[").expect(400);
    ask("POST", "/v1/processes", r#"{"command":7}"#).expect(422);
    ask("POST", "/v1/processes/run", r#"{"command":"/no/such"}"#).expect(502);
    let huge = format!(r#"{{"command":"{}"}}"#, "x".repeat(2 << 20));
    ask("POST", "/v1/processes", &huge).expect(413);
    let config = ask("GET", "/v1/processes/config", "").json();
    let mut one = config.clone();
    one["maxConcurrentProcesses"] = 1.into();
    ask("POST", "/v1/processes/config", &one.to_string()).expect(200);
    let sleep = r#"{"command":"sleep","args":["77"]}"#;
    ask("POST", "/v1/processes", sleep).expect(200);
    ask("POST", "/v1/processes", sleep).expect(409);
    let mut conn = server.conn();
    conn.send("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n");
    conn.response("GET").expect(400);
    let reasons = eventually("a line for each", || {
        let events = events(&server.stderr());
        let refused = named(&events, "refused");
        let of = |event: &&Value| {
            let reason = event["reason"].as_str().unwrap().to_owned();
            (reason, event["status"].as_u64().unwrap())
        };
        let mut all: Vec<_> = refused.iter().map(of).collect();
        // Within one second: each has a line of its own, since its cause is another one.
        all.retain(|of| *of != ("invalid_request".to_owned(), 400));
        let reasons: BTreeMap<_, _> = all.into_iter().collect();
        let bodies = refused
            .iter()
            .filter(|of| of["reason"] == "invalid_request");
        (reasons.len() >= 10 && bodies.count() >= 3).then_some(reasons)
    });
    for (reason, status) in [
        ("token_invalid", 401),
        ("origin_not_allowed", 403),
        ("not_found", 404),
        ("no_route", 404),
        ("method_not_allowed", 405),
        ("invalid_request", 422),
        ("ENOENT", 502),
        ("body_too_long", 413),
        ("max_processes", 409),
        ("malformed", 400),
    ] {
        assert_eq!(reasons.get(reason), Some(&status), "{reason}: {reasons:?}");
    }
    let events = events(&server.stderr());
    let refused = named(&events, "refused");
    let unknown = refused.iter().find(|of| of["reason"] == "not_found");
    assert_eq!(unknown.unwrap()["id"], "proc_77");
    let warnings = named(&events, "warning");
    let of = |event: &&Value| event["message"].as_str().unwrap().to_owned();
    let told = "the variable PROCRING_MAX_EXITD means nothing; the nearest is PROCRING_MAX_EXITED";
    assert!(warnings.iter().map(of).any(|warning| warning == told));
    let wrong = refused
        .iter()
        .find(|of| of["reason"] == "method_not_allowed");
    let detail = wrong.unwrap()["detail"].as_str().unwrap();
    assert!(detail.contains("GET,HEAD,POST"), "{detail}");
    let missing = refused.iter().find(|of| of["reason"] == "ENOENT");
    let detail = missing.unwrap()["detail"].as_str().unwrap();
    assert!(detail.ends_with(": /no/such"), "{detail}");
    let token = refused.iter().find(|of| of["reason"] == "token_invalid");
    assert!(
        token.unwrap()["peer"]
            .as_str()
            .unwrap()
            .starts_with("127.0.0.1:")
    );
    let origin = refused
        .iter()
        .find(|of| of["reason"] == "origin_not_allowed");
    assert!(
        origin.unwrap()["detail"]
            .as_str()
            .unwrap()
            .contains("http://evil.example")
    );
}

fn many_refusals_are_few_lines_that_count_all_of_them(backend: Backend) {
    let server = launch(backend, "json").start();
    let count = 500;
    let mut conn = server.conn();
    let begin = std::time::Instant::now();
    for n in 0..count {
        conn.send(format!(
            "GET /v1/processes/proc_9{n} HTTP/1.1\r\nhost: a\r\n\r\n"
        ));
        conn.response("GET").expect(404);
    }
    // Without another request: what is kept back is told all the same.
    let lines = eventually("all of them to be counted", || {
        let events = events(&server.stderr());
        let lines: Vec<u64> = named(&events, "refused")
            .iter()
            .map(|of| of.get("count").map_or(1, |n| n.as_u64().unwrap()))
            .collect();
        (lines.iter().sum::<u64>() == count).then_some(lines)
    });
    let seconds = begin.elapsed().as_secs() as usize;
    assert!(lines.len() <= seconds + 2, "{lines:?} in {seconds} s");
    assert_eq!(lines[0], 1, "the first is told at once");
}

fn no_secret_no_input_and_no_output_is_in_the_log(backend: Backend) {
    let secrets = [
        "hunter2in",
        "hunter2out",
        "hunter2arg",
        "hunter2env",
        "hunter2query",
        TOKEN,
    ];
    for (level, format) in [("info", "text"), ("debug", "json")] {
        let server = Launch::new(backend)
            .args(&[
                "--token",
                TOKEN,
                "--log-level",
                level,
                "--log-format",
                format,
            ])
            .start();
        let bearer = format!("Bearer {TOKEN}");
        let ask = |method: &str, target: &str, body: &str| {
            let headers = [
                ("Authorization", bearer.as_str()),
                ("Content-Type", "application/json"),
            ];
            server.request(method, target, &headers, body.as_bytes())
        };
        ask("GET", "/v1/processes?access_token=hunter2query", "").expect(200);
        server
            .get("/v1/processes/x/terminal/ws?access_token=hunter2query")
            .expect(401);
        server.get("/v1/nope?access_token=hunter2query").expect(404);
        let run = r#"{"command":"sh -c hunter2arg","env":{"A":"hunter2env"}}"#;
        ask("POST", "/v1/processes/run", run).expect(502);
        let run = r#"{"command":"cat","stdin":"hunter2out"}"#;
        ask("POST", "/v1/processes/run", run).expect(200);
        for wrong in [
            r#"{"command":"cat","args":"hunter2arg"}"#,
            r#"{"command":"cat","env":{"A":["hunter2env"]}}"#,
            r#"{"command":"cat","timeoutMs":"hunter2in"}"#,
        ] {
            ask("POST", "/v1/processes/run", wrong).expect(422);
        }
        let body = ask("POST", "/v1/processes", r#"{"command":"cat"}"#).json();
        let id = body["id"].as_str().unwrap();
        for wrong in [
            r#"{"data":["hunter2in"]}"#,
            r#"{"data":"hunter2in","encoding":"hunter2in"}"#,
        ] {
            let answer = ask("POST", &format!("/v1/processes/{id}/input"), wrong);
            assert!(answer.status >= 400);
        }
        let good = r#"{"data":"hunter2in","encoding":"utf8"}"#;
        ask("POST", &format!("/v1/processes/{id}/input"), good).expect(200);
        ask("POST", &format!("/v1/processes/{id}/kill?waitMs=9000"), "").expect(200);
        ask("GET", "/v1/processes/last", "").expect(404);
        let text = eventually("the last line", || {
            let text = server.stderr();
            (text.contains("/v1/processes/last") && text.contains("process_exited")).then_some(text)
        });
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

fn arguments_are_shown_where_they_are_asked_for_only(backend: Backend) {
    for (level, shown) in [("info", false), ("debug", true)] {
        let server = launch(backend, "json")
            .args(&["--log-level", level])
            .start();
        server.run(&json!({"command": "echo", "args": ["an argument", "\n"]}));
        let events = events(&server.told_so_far());
        let started = named(&events, "run_started");
        let args = started[0].get("args");
        assert_eq!(
            args,
            shown.then_some(&json!(["an argument", "\n"])),
            "{level}"
        );
    }
}

fn a_level_leaves_out_what_is_less_important(backend: Backend) {
    // A server that says nothing has no start line.
    let server = launch(backend, "text")
        .args(&["--log-level", "off"])
        .stderr(Stdio::piped())
        .start();
    server.run(&sh("exit 3"));
    server.get("/v1/processes/proc_9").expect(404);
    let mut server = server;
    server.signal(libc::SIGTERM);
    assert_eq!(server.await_end(Duration::from_secs(20)).code(), Some(0));
    eventually("the end of it", || server.stderr_has_ended().then_some(()));
    assert_eq!(server.stderr(), "");
}

fn a_standard_error_that_nobody_reads_holds_up_nothing_and_loses_are_counted(backend: Backend) {
    let (reader, writer) = pipe().unwrap();
    let mut server = launch(backend, "json").stderr(writer).start();
    // Far more than the pipe and the server hold.
    let command = format!("{}bin/true", "/".repeat(900));
    for _ in 0..400 {
        assert_eq!(server.run(&json!({"command": command}))["exitCode"], 0);
    }
    assert_eq!(server.run(&sh("exit 3"))["exitCode"], 3);
    let metrics = server.get("/metrics").expect(200);
    let counted = metrics
        .text()
        .lines()
        .find_map(|line| line.strip_prefix("procring_log_lines_dropped_total "));
    assert!(counted.is_some_and(|count| count.parse::<u64>().unwrap() > 100));
    // Now somebody reads.
    let lines = BufReader::new(std::fs::File::from(reader)).lines();
    let (mut told, mut lost) = (0, 0);
    for line in lines.map_while(Result::ok) {
        let event: Value = serde_json::from_str(&line).expect("JSON");
        match event["event"].as_str() {
            Some("run_started" | "run_ended") => told += 1,
            Some("lines_lost") => lost += event["lines"].as_u64().unwrap(),
            _ => {}
        }
        if told + lost >= 802 {
            break;
        }
    }
    assert!(lost > 100, "{told} and {lost}");
    server.signal(libc::SIGTERM);
    assert_eq!(server.await_end(Duration::from_secs(20)).code(), Some(0));
}

fn a_journal_gets_priorities_and_no_times(backend: Backend) {
    let server = launch(backend, "journal").start();
    assert!(
        server.start_line.starts_with("<6>listening on http"),
        "{}",
        server.start_line
    );
    server.run(&sh("exit 3"));
    let text = server.told_so_far();
    for line in text.lines() {
        let (priority, rest) = line.split_at(3);
        assert!(["<3>", "<4>", "<6>"].contains(&priority), "{line}");
        assert!(
            !rest.starts_with("procring") && !rest.starts_with("20"),
            "{line}"
        );
    }
}

fn the_end_tells_what_was_ended(backend: Backend) {
    let mut server = launch(backend, "json").start();
    for _ in 0..2 {
        server.spawn(&json!({"command": "sleep", "args": ["77"]}));
    }
    server.signal(libc::SIGTERM);
    assert_eq!(server.await_end(Duration::from_secs(20)).code(), Some(0));
    eventually("the end of it", || server.stderr_has_ended().then_some(()));
    let events = events(&server.stderr());
    assert_eq!(named(&events, "stopping")[0]["processes"], 2);
    assert_eq!(named(&events, "process_exited").len(), 2);
    let stopped = named(&events, "stopped");
    assert_eq!((stopped.len(), &stopped[0]["processes"]), (1, &json!(2)));
    let start = named(&events, "start")[0];
    assert_eq!(start["version"], env!("CARGO_PKG_VERSION"));
    assert!(
        start["descriptors"].is_u64() && start["descriptorsWanted"].is_u64(),
        "{start}"
    );
}

fn an_id_of_a_request_comes_back_and_no_other(backend: Backend) {
    let server = Server::open(backend);
    let ask = |id: &str| {
        let headers = [("X-Request-Id", id)];
        server.request("GET", "/v1/processes", &headers, b"")
    };
    let longest = "~".repeat(128);
    for id in ["a", "0af7651916cd43dd8448eb211c80319c", &longest] {
        assert_eq!(ask(id).header("x-request-id"), Some(id));
    }
    assert_eq!(server.get("/v1/processes").header("x-request-id"), None);
    let mut made = Vec::new();
    for wrong in [&format!("{longest}~"), "a b", "\u{e9}"] {
        let answer = ask(wrong);
        let id = answer.header("x-request-id").expect("an id").to_owned();
        assert!((1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()));
        assert_ne!(id, wrong);
        made.push(id);
    }
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 3);
    // Also where there is no such thing, and on what goes on.
    let headers = [("X-Request-Id", "r-1")];
    let missing = server.request("GET", "/nope", &headers, b"");
    assert_eq!(missing.expect(404).header("x-request-id"), Some("r-1"));
    let id = server.spawn(&sh("exit 0"));
    server.await_exit(&id);
    let target = format!("/v1/processes/{id}/logs/raw");
    let raw = server.request("GET", &target, &headers, b"").expect(200);
    assert_eq!(raw.header("x-request-id"), Some("r-1"));
}
