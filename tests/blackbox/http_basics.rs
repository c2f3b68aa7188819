//! Section 2: framing, paths, queries, bodies and methods as existing clients meet them.

use crate::harness::{Backend, Problem, Server, on_both, sh};
use serde_json::json;

on_both!(
    every_routed_answer_has_vary_and_date_and_no_server,
    keep_alive_serves_many_requests,
    who_asks_for_keep_alive_is_told_how_long,
    pipelined_requests_are_answered_in_order,
    http_1_0_is_answered_and_closed,
    a_request_in_single_bytes_is_the_same,
    chunked_request_bodies_are_read,
    expect_continue_is_honoured,
    absolute_form_targets_work,
    head_works_wherever_get_does,
    a_body_of_two_mib_passes_and_one_byte_more_is_413,
    oversized_heads_are_refused,
    paths_are_taken_literally,
    ids_are_percent_decoded,
    query_values_are_percent_decoded,
    unknown_query_parameters_are_ignored,
    known_parameters_must_be_single_and_filled,
    json_content_types,
    unknown_json_fields_are_ignored,
    duplicate_known_fields_are_422,
    wrong_methods_are_405_with_allow,
    options_answers_every_path,
);

const VARY: &str = "origin, access-control-request-method, access-control-request-headers";

fn every_routed_answer_has_vary_and_date_and_no_server(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "true"}));
    server.await_exit(&id);
    let answers = [
        server.get("/"),
        server.get("/v1/health"),
        server.get("/v1/processes"),
        server.get("/v1/processes/config"),
        server.get(&format!("/v1/processes/{id}/logs")),
        server.get("/v1/processes/none"),
        server.get("/nowhere"),
        server.post_text("/v1/processes/run", "{"),
        server.post("/v1/processes/run", &json!({"command": "true"})),
        server.request("PUT", "/v1/processes", &[], b""),
        server.request("OPTIONS", "/v1/processes", &[], b""),
        server.delete(&format!("/v1/processes/{id}")),
    ];
    for answer in answers {
        assert_eq!(answer.header("vary"), Some(VARY), "{answer:?}");
        let date = answer.header("date").expect("a date");
        let date = httpdate::parse_http_date(date).expect("an HTTP date");
        let age = std::time::SystemTime::now()
            .duration_since(date)
            .expect("a date not ahead");
        assert!(age.as_secs() < 60, "{age:?} old");
        assert_eq!(answer.header("server"), None);
    }
}

fn keep_alive_serves_many_requests(backend: Backend) {
    let server = Server::open(backend);
    let mut conn = server.conn();
    for _ in 0..200 {
        conn.send(format!(
            "GET /v1/health HTTP/1.1\r\nHost: {}\r\n\r\n",
            server.address
        ));
        let answer = conn.response("GET").expect(200);
        assert_eq!(answer.version, "HTTP/1.1");
        assert!(!answer.says_close());
    }
}

fn who_asks_for_keep_alive_is_told_how_long(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "true"}));
    server.await_exit(&id);
    let mut conn = server.conn();
    let mut ask = |version: &str, target: &str, connection: &str| {
        conn.send(format!(
            "GET {target} HTTP/1.{version}\r\nHost: {}\r\n{connection}\r\n",
            server.address
        ));
        let answer = conn.response("GET");
        let field = |name: &str| answer.header(name).map(str::to_owned);
        (field("connection"), field("keep-alive"))
    };
    let told = (
        Some("keep-alive".to_owned()),
        Some("timeout=120".to_owned()),
    );
    let follow = format!("/v1/processes/{id}/logs?follow=true");
    for target in ["/v1/health", "/nowhere", &follow] {
        assert_eq!(
            ask("1", target, "Connection: Keep-Alive\r\n"),
            told,
            "{target}"
        );
        // Everybody else gets the bytes of the reference.
        assert_eq!(ask("1", target, ""), (None, None), "{target}");
    }
    assert_eq!(ask("0", "/v1/health", "Connection: keep-alive\r\n"), told);
    let closing = "Connection: keep-alive, close\r\n";
    let closes = (Some("close".to_owned()), None);
    assert_eq!(ask("1", "/v1/health", closing), closes);
}

fn pipelined_requests_are_answered_in_order(backend: Backend) {
    let server = Server::open(backend);
    let host = server.address;
    let body = json!({"command": "sh", "args": ["-c", "sleep 0.2; echo slow"]}).to_string();
    let mut batch = format!(
        "POST /v1/processes/run HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for n in 0..50 {
        batch.push_str(&format!(
            "GET /v1/processes/none{n} HTTP/1.1\r\nHost: {host}\r\n\r\n"
        ));
    }
    let mut conn = server.conn();
    conn.send(batch);
    assert_eq!(conn.response("POST").json()["stdout"], "slow\n");
    for n in 0..50 {
        Problem::no_process(&format!("none{n}")).check(&conn.response("GET"));
    }
}

fn http_1_0_is_answered_and_closed(backend: Backend) {
    let server = Server::open(backend);
    let mut conn = server.conn();
    conn.send(format!(
        "GET /v1/health HTTP/1.0\r\nHost: {}\r\n\r\n",
        server.address
    ));
    assert_eq!(
        conn.response("GET").expect(200).text(),
        r#"{"status":"ok"}"#
    );
    conn.expect_closed();
}

fn a_request_in_single_bytes_is_the_same(backend: Backend) {
    let server = Server::open(backend);
    let body = json!({"command": "echo", "args": ["drop by drop"]}).to_string();
    let by_length = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let by_chunks = format!(
        "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    let mut conn = server.conn();
    for framed in [by_length, by_chunks] {
        let request = format!(
            "POST /v1/processes/run HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{framed}",
            server.address
        );
        for byte in request.as_bytes() {
            conn.send([*byte]);
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        assert_eq!(conn.response("POST").json()["stdout"], "drop by drop\n");
    }
}

fn chunked_request_bodies_are_read(backend: Backend) {
    let server = Server::open(backend);
    let mut conn = server.conn();
    let body = json!({"command": "echo", "args": ["in chunks"]}).to_string();
    let head = format!(
        "POST /v1/processes/run HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        server.address
    );
    for size in [1, 3, body.len()] {
        conn.send(&head);
        for piece in body.as_bytes().chunks(size) {
            conn.send(format!("{:X}\r\n", piece.len()));
            conn.send(piece);
            conn.send("\r\n");
        }
        conn.send("0\r\n\r\n");
        assert_eq!(conn.response("POST").json()["stdout"], "in chunks\n");
    }
}

fn expect_continue_is_honoured(backend: Backend) {
    let server = Server::open(backend);
    let mut conn = server.conn();
    let body = json!({"command": "echo", "args": ["continued"]}).to_string();
    conn.send(format!(
        "POST /v1/processes/run HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        server.address,
        body.len()
    ));
    assert_eq!(conn.response("POST").status, 100);
    conn.send(&body);
    assert_eq!(conn.response("POST").json()["stdout"], "continued\n");
}

fn absolute_form_targets_work(backend: Backend) {
    let server = Server::open(backend);
    let target = format!("http://{}/v1/processes?owner=user", server.address);
    assert_eq!(server.get(&target).json(), json!({"processes": []}));
}

fn head_works_wherever_get_does(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let paths = [
        "/".to_owned(),
        "/v1/health".to_owned(),
        "/v1/processes".to_owned(),
        "/v1/processes/config".to_owned(),
        format!("/v1/processes/{id}"),
        format!("/v1/processes/{id}/logs"),
    ];
    for path in &paths {
        let head = server.request("HEAD", path, &[], b"").expect_empty(200);
        assert_eq!(
            head.header("content-type"),
            Some("application/json"),
            "{path}"
        );
    }
    server
        .request("HEAD", "/v1/processes/none", &[], b"")
        .expect_empty(404);
    // A HEAD of a follow is answered at once, though the process is running.
    let target = format!("/v1/processes/{id}/logs?follow=true");
    let head = server.request("HEAD", &target, &[], b"").expect_empty(200);
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
}

fn a_body_of_two_mib_passes_and_one_byte_more_is_413(backend: Backend) {
    const LIMIT: usize = 2_097_152;
    let server = Server::open(backend);
    let json = r#"{"command":"true"}"#;
    let exact = format!("{json}{}", " ".repeat(LIMIT - json.len()));
    server.post_text("/v1/processes/run", &exact).expect(200);
    server
        .post_text("/v1/processes/run", &format!("{exact} "))
        .problem(413, "invalid_request");
    // The same with chunks, where the length is not known beforehand.
    let mut conn = server.conn();
    conn.send(format!(
        "POST /v1/processes/run HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        server.address
    ));
    conn.send_some(format!("{:x}\r\n{exact} \r\n0\r\n\r\n", LIMIT + 1));
    conn.response("POST").problem(413, "invalid_request");
    // The server goes on.
    server.get("/v1/health").expect(200);
}

fn oversized_heads_are_refused(backend: Backend) {
    let server = Server::open(backend);
    let long = "a".repeat(20_000);
    server
        .request("GET", "/v1/health", &[("X-Long", &long)], b"")
        .expect(200);

    let refused = |request: String, status: u16| {
        let mut conn = server.conn();
        conn.send_some(request);
        conn.response("GET").expect_empty(status);
        conn.expect_closed();
    };
    let host = server.address;
    let many: String = (0..150).map(|n| format!("X-{n}: v\r\n")).collect();
    refused(
        format!("GET /v1/health HTTP/1.1\r\nHost: {host}\r\n{many}\r\n"),
        431,
    );
    let huge = "a".repeat(600_000);
    refused(
        format!("GET /v1/health HTTP/1.1\r\nHost: {host}\r\nX-Huge: {huge}\r\n\r\n"),
        431,
    );
    let path = "a".repeat(70_000);
    refused(format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n"), 414);
}

fn paths_are_taken_literally(backend: Backend) {
    let server = Server::open(backend);
    let paths = [
        "/v1",
        "/v1/",
        "/V1/health",
        "/v1/Health",
        "/v1/health/",
        "//v1/health",
        "/v1//health",
        "/v1/./health",
        "/v1/x/../health",
        "/v1/processes/",
        "/v1/processes/proc_1/",
        "/v1/processes/proc_1/unknown",
        "/v1/processes/proc_1/logs/x",
    ];
    for path in paths {
        let answer = server.get(path);
        assert_eq!(answer.status, 404, "{path}");
        Problem::no_route().check(&answer);
    }
}

fn ids_are_percent_decoded(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "true"}));
    assert_eq!(id, "proc_1");
    assert_eq!(server.get("/v1/processes/proc%5F1").json()["id"], "proc_1");
    Problem::no_process("a/b").check(&server.get("/v1/processes/a%2Fb"));
    Problem::no_process("%zz").check(&server.get("/v1/processes/%zz"));
    Problem::no_process("é").check(&server.get("/v1/processes/%C3%A9"));
    server
        .get("/v1/processes/%ff")
        .problem(400, "invalid_request");
    // `config` is a process name where more follows.
    Problem::no_process("config").check(&server.get("/v1/processes/config/logs"));
    Problem::no_process("run").check(&server.post_empty("/v1/processes/run/stop"));
}

fn query_values_are_percent_decoded(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("echo out; echo err >&2"));
    server.await_exit(&id);
    let logs = server.logs(&id, "?stream=std%6Fut&t%61il=%31");
    assert_eq!(
        (&logs["stream"], logs["entries"].as_array().unwrap().len()),
        (&json!("stdout"), 1)
    );
    let answer = server.get(&format!("/v1/processes/{id}/logs?stream=std%zzut"));
    answer.problem(400, "invalid_request");
}

fn unknown_query_parameters_are_ignored(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "echo", "args": ["x"]}));
    server.await_exit(&id);
    let logs = server.logs(&id, "?Stream=nonsense&Tail=&color=red&color=blue&=&x");
    assert_eq!(logs["stream"], "combined");
    assert_eq!(logs["entries"].as_array().unwrap().len(), 1);
}

fn known_parameters_must_be_single_and_filled(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "true"}));
    for query in [
        "tail=1&tail=1",
        "tail=",
        "tail=-1",
        "tail=1.5",
        "tail=x",
        "since=1&since=2",
        "since=",
        "since=18446744073709551616",
        "stream=",
        "stream=Stdout",
        "stream=stdout&stream=stderr",
        "follow=",
        "follow=1",
        "follow=True",
        "follow=true&follow=true",
    ] {
        let answer = server.get(&format!("/v1/processes/{id}/logs?{query}"));
        assert_eq!(answer.status, 400, "{query}");
        answer.problem(400, "invalid_request");
    }
    for query in [
        "waitMs=",
        "waitMs=-1",
        "waitMs=1.5",
        "waitMs=abc",
        "waitMs=1&waitMs=1",
    ] {
        for verb in ["stop", "kill"] {
            let answer = server.post_empty(&format!("/v1/processes/{id}/{verb}?{query}"));
            assert_eq!(answer.status, 400, "{verb} {query}");
            answer.problem(400, "invalid_request");
        }
    }
    for query in [
        "owner=",
        "owner=User",
        "owner=root",
        "owner=user&owner=user",
    ] {
        server
            .get(&format!("/v1/processes?{query}"))
            .problem(400, "invalid_request");
    }
}

fn json_content_types(backend: Backend) {
    let server = Server::open(backend);
    let body = br#"{"command":"true"}"#;
    let post = |content_type: Option<&str>| {
        let headers: Vec<_> = content_type
            .map(|v| ("Content-Type", v))
            .into_iter()
            .collect();
        server.request("POST", "/v1/processes/run", &headers, body)
    };
    for good in [
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=utf-8",
        "application/problem+json",
        "application/vnd.example.v1+json",
        "Application/JSON",
    ] {
        assert_eq!(post(Some(good)).status, 200, "{good}");
    }
    for bad in [
        None,
        Some("text/plain"),
        Some("text/json"),
        Some("application/jsonp"),
        Some("json"),
    ] {
        let answer = post(bad);
        assert_eq!(answer.status, 415, "{bad:?}");
        answer.problem(415, "unsupported_media_type");
    }
    // Handlers without a body ignore body and content type.
    let id = server.spawn(&json!({"command": "cat"}));
    let target = format!("/v1/processes/{id}/kill?waitMs=20000");
    let killed = server.request(
        "POST",
        &target,
        &[("Content-Type", "text/plain")],
        b"{not json",
    );
    assert_eq!(killed.json()["status"], "exited");
}

fn unknown_json_fields_are_ignored(backend: Backend) {
    let server = Server::open(backend);
    // `timeout_ms` is not `timeoutMs`: the run is not cut off.
    let body = json!({"command": "sh", "args": ["-c", "sleep 0.3; echo done"], "timeout_ms": 1,
        "owner": 7, "extra": {"nested": []}});
    assert_eq!(server.run(&body)["stdout"], "done\n");
    let mut body = sh("true");
    body["owner"] = json!("system");
    body["timeoutMs"] = json!("not a number");
    assert_eq!(server.create(&body)["owner"], "user");
}

fn duplicate_known_fields_are_422(backend: Backend) {
    let server = Server::open(backend);
    for body in [
        r#"{"command":"true","command":"true"}"#,
        r#"{"command":"true","args":[],"args":[]}"#,
        r#"{"command":"true","env":{},"env":{}}"#,
    ] {
        server
            .post_text("/v1/processes/run", body)
            .problem(422, "invalid_request");
        server
            .post_text("/v1/processes", body)
            .problem(422, "invalid_request");
    }
    server
        .post_text("/v1/processes/run", r#"{"command":"true","x":1,"x":2}"#)
        .expect(200);
}

/// Each path with the value of `allow`.
const METHODS: [(&str, &str); 11] = [
    ("/", "GET,HEAD"),
    ("/v1/health", "GET,HEAD"),
    ("/v1/processes/p/logs", "GET,HEAD"),
    ("/v1/processes/p/terminal/ws", "GET,HEAD"),
    ("/v1/processes", "GET,HEAD,POST"),
    ("/v1/processes/config", "GET,HEAD,POST"),
    ("/v1/processes/p", "GET,HEAD,DELETE"),
    ("/v1/processes/run", "POST"),
    ("/v1/processes/p/stop", "POST"),
    ("/v1/processes/p/kill", "POST"),
    ("/v1/processes/p/input", "POST"),
];

fn wrong_methods_are_405_with_allow(backend: Backend) {
    let server = Server::open(backend);
    for (path, allow) in METHODS
        .into_iter()
        .chain([("/v1/processes/p/terminal/resize", "POST")])
    {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"] {
            if allow.split(',').any(|allowed| allowed == method) {
                continue;
            }
            let answer = server.request(method, path, &[], b"");
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
            assert!(answer.body.is_empty(), "{method} {path}");
        }
    }
}

fn options_answers_every_path(backend: Backend) {
    let server = Server::open(backend);
    for (path, allow) in METHODS {
        let answer = server.request("OPTIONS", path, &[], b"").expect_empty(200);
        assert_eq!(answer.header("allow"), Some(allow), "{path}");
        assert_eq!(
            answer.header("access-control-allow-methods"),
            Some("*"),
            "{path}"
        );
        assert_eq!(
            answer.header("access-control-allow-headers"),
            Some("*"),
            "{path}"
        );
        assert_eq!(answer.header("access-control-allow-origin"), None, "{path}");
    }
    server
        .request("OPTIONS", "/nowhere", &[], b"")
        .expect_empty(200);
}
