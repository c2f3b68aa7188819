//! Section 3: problem bodies byte for byte, and what is refused before a handler runs.

use crate::harness::{Backend, Problem, Server, on_both, sh};
use serde_json::{Value, json};

on_both!(
    unknown_routes_and_processes,
    empty_commands_are_400_before_the_limit,
    spawn_errors_are_502_with_the_os_text,
    bodies_that_are_not_json_are_400,
    bodies_of_the_wrong_shape_are_422,
    text_after_the_value_is_400_and_an_array_422,
    validation_order,
    nesting_without_end_is_refused_or_skipped,
    odd_text_in_json_and_paths,
);

fn unknown_routes_and_processes(backend: Backend) {
    let server = Server::open(backend);
    Problem::no_route().check(&server.get("/nowhere"));
    Problem::no_route().check(&server.post("/v2/processes", &json!({})));
    let data = json!({"data": ""});
    let unknown = Problem::no_process("proc_9");
    unknown.check(&server.get("/v1/processes/proc_9"));
    unknown.check(&server.delete("/v1/processes/proc_9"));
    unknown.check(&server.get("/v1/processes/proc_9/logs"));
    unknown.check(&server.get("/v1/processes/proc_9/logs?follow=true"));
    unknown.check(&server.post_empty("/v1/processes/proc_9/stop"));
    unknown.check(&server.post_empty("/v1/processes/proc_9/kill"));
    unknown.check(&server.post("/v1/processes/proc_9/input", &data));
    // Ids are compared as text, and quoting is right for odd ones.
    Problem::no_process("proc_01").check(&server.get("/v1/processes/proc_01"));
    Problem::no_process("a\"b\\c\n").check(&server.get("/v1/processes/a%22b%5Cc%0A"));
}

fn empty_commands_are_400_before_the_limit(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxConcurrentProcesses", 1)]);
    server.spawn(&json!({"command": "cat"}));
    for command in ["", " ", " \t\n"] {
        for target in ["/v1/processes", "/v1/processes/run"] {
            let answer = server.post(target, &json!({"command": command}));
            Problem::invalid("command must not be empty").check(&answer);
        }
    }
}

fn spawn_errors_are_502_with_the_os_text(backend: Backend) {
    let server = Server::open(backend);
    let long = "x".repeat(200_000);
    let cases: [(Value, &str, Option<&'static str>); 9] = [
        (
            json!({"command": "no-such-command-here"}),
            "No such file or directory (os error 2)",
            Some("ENOENT"),
        ),
        (
            json!({"command": "/no/such/file"}),
            "No such file or directory (os error 2)",
            Some("ENOENT"),
        ),
        (
            json!({"command": "/etc/passwd"}),
            "Permission denied (os error 13)",
            Some("EACCES"),
        ),
        (
            json!({"command": "/tmp"}),
            "Permission denied (os error 13)",
            Some("EACCES"),
        ),
        (
            json!({"command": "true", "cwd": "/no/such/directory"}),
            "No such file or directory (os error 2)",
            Some("cwd_missing"),
        ),
        (
            json!({"command": "true", "cwd": ""}),
            "No such file or directory (os error 2)",
            Some("cwd_missing"),
        ),
        (
            json!({"command": "true", "cwd": "/etc/passwd"}),
            "Not a directory (os error 20)",
            None,
        ),
        (
            json!({"command": "true", "args": [long]}),
            "Argument list too long (os error 7)",
            Some("E2BIG"),
        ),
        (
            json!({"command": "tr\0ue"}),
            "nul byte found in provided data",
            None,
        ),
    ];
    for (body, text, code) in &cases {
        for target in ["/v1/processes/run", "/v1/processes"] {
            let problem = Problem::refused_by_os(&format!("failed to spawn process: {text}"));
            let problem = match code {
                Some(code) => problem.code(code),
                None => problem.any_code(),
            };
            // One text for two things that can be missing: the details say which it was.
            let problem = match code {
                Some("ENOENT") => problem.path(body["command"].as_str().unwrap()),
                Some("cwd_missing") => problem.path(body["cwd"].as_str().unwrap()),
                _ => problem,
            };
            problem.check(&server.post(target, body));
        }
    }
    let nul = "failed to spawn process: nul byte found in provided data";
    for body in [
        json!({"command": "true", "args": ["a\0b"]}),
        json!({"command": "true", "env": {"A": "b\0"}}),
        json!({"command": "true", "env": {"A\0": "b"}}),
    ] {
        Problem::refused_by_os(nul)
            .any_code()
            .check(&server.post("/v1/processes/run", &body));
    }
    // Nine failed creates used up nine numbers.
    assert_eq!(server.get("/v1/processes").json(), json!({"processes": []}));
    assert_eq!(server.spawn(&sh("true")), "proc_10");
}

fn bodies_that_are_not_json_are_400(backend: Backend) {
    let server = Server::open(backend);
    for target in [
        "/v1/processes",
        "/v1/processes/run",
        "/v1/processes/config",
        "/v1/processes/none/input",
    ] {
        for body in [
            "",
            " ",
            "{",
            "nope",
            "{\"command\":\"true\"",
            "{'command':'true'}",
            "{\"a\":01}",
        ] {
            let answer = server.post_text(target, body);
            assert_eq!(answer.status, 400, "{target} {body:?}");
            answer.problem(400, "invalid_request");
        }
        // Where the invalid bytes lie in a known field: others are skipped unread.
        if target.ends_with("/config") {
            continue;
        }
        let latin1 = b"{\"command\":\"caf\xe9\",\"data\":\"\xe9\"}";
        let json = [("Content-Type", "application/json")];
        server
            .request("POST", target, &json, latin1)
            .problem(400, "invalid_request");
    }
}

fn bodies_of_the_wrong_shape_are_422(backend: Backend) {
    let server = Server::open(backend);
    let shared = [
        json!({}),
        json!(null),
        json!("true"),
        json!({"args": []}),
        json!({"command": null}),
        json!({"command": 7}),
        json!({"command": "true", "args": null}),
        json!({"command": "true", "args": "x"}),
        json!({"command": "true", "args": [1]}),
        json!({"command": "true", "args": [null]}),
        json!({"command": "true", "cwd": 1}),
        json!({"command": "true", "env": null}),
        json!({"command": "true", "env": []}),
        json!({"command": "true", "env": {"A": 1}}),
        json!({"command": "true", "env": {"A": null}}),
    ];
    let refused = |target: &str, body: &Value| {
        let answer = server.post(target, body);
        assert_eq!(answer.status, 422, "{target} {body}");
        answer.problem(422, "invalid_request");
    };
    for body in &shared {
        refused("/v1/processes/run", body);
        refused("/v1/processes", body);
    }
    for number in [json!(-1), json!(1.5), json!("5"), json!(1e30), json!(true)] {
        refused(
            "/v1/processes/run",
            &json!({"command": "true", "timeoutMs": number}),
        );
        refused(
            "/v1/processes/run",
            &json!({"command": "true", "maxOutputBytes": number}),
        );
    }
    for flag in [json!(null), json!(1), json!("true")] {
        refused("/v1/processes", &json!({"command": "true", "tty": flag}));
        refused(
            "/v1/processes",
            &json!({"command": "true", "interactive": flag}),
        );
    }
    for body in [
        json!({}),
        json!({"data": null}),
        json!({"data": 1}),
        json!({"data": "", "encoding": 1}),
        json!({"encoding": "utf8"}),
    ] {
        refused("/v1/processes/none/input", &body);
    }
    // A number that JSON allows and u64 does not.
    let huge = r#"{"command":"true","timeoutMs":18446744073709551616}"#;
    server
        .post_text("/v1/processes/run", huge)
        .problem(422, "invalid_request");
}

fn text_after_the_value_is_400_and_an_array_422(backend: Backend) {
    let server = Server::open(backend);
    for target in ["/v1/processes/run", "/v1/processes"] {
        for body in [
            r#"{"command":"true"} x"#,
            r#"{"command":"true"}{}"#,
            r#"{"command":"true"},"#,
        ] {
            server
                .post_text(target, body)
                .problem(400, "invalid_request");
        }
        for body in [r#"["true",[]]"#, r#"["true"]"#, "[]"] {
            server
                .post_text(target, body)
                .problem(422, "invalid_request");
        }
    }
    server
        .post_text("/v1/processes/run", " \r\n\t{\"command\":\"true\"}\r\n ")
        .expect(200);
}

fn validation_order(backend: Backend) {
    let server = Server::open(backend);
    // Headers and query before the process lookup.
    server
        .get("/v1/processes/none/logs?tail=x")
        .problem(400, "invalid_request");
    server
        .post_empty("/v1/processes/none/stop?waitMs=abc")
        .problem(400, "invalid_request");
    server
        .post_empty("/v1/processes/none/kill?waitMs=abc")
        .problem(400, "invalid_request");
    // Content type before body, body before shape.
    let plain = [("Content-Type", "text/plain")];
    let answer = server.request("POST", "/v1/processes/run", &plain, b"{");
    answer.problem(415, "unsupported_media_type");
    // For input: encoding, base64 and size before the lookup.
    let input = "/v1/processes/none/input";
    let answer = server.post(input, &json!({"data": "x", "encoding": "hex"}));
    Problem::invalid("encoding must be one of: base64, utf8, text").check(&answer);
    server
        .post(input, &json!({"data": "***"}))
        .problem(400, "invalid_request");
    let long = json!({"data": "x".repeat(65_537), "encoding": "utf8"});
    Problem::input_too_large(65_536).check(&server.post(input, &long));
}

fn nesting_without_end_is_refused_or_skipped(backend: Backend) {
    let server = Server::open(backend);
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let depth = 200_000;
        let nested = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        for target in ["/v1/processes/run", "/v1/processes/config"] {
            let answer = server.post_text(target, &nested);
            assert!(matches!(answer.status, 400 | 422), "{}", answer.status);
        }
        // In an unknown field, which is skipped without being built.
        let inside = format!(r#"{{"command":"true","x":{nested}}}"#);
        let answer = server.post_text("/v1/processes/run", &inside);
        assert!(matches!(answer.status, 200 | 400), "{}", answer.status);
        // In a known field of another type.
        let inside = format!(r#"{{"command":{nested}}}"#);
        let answer = server.post_text("/v1/processes/run", &inside);
        assert!(matches!(answer.status, 400 | 422), "{}", answer.status);
    }
    server.get("/v1/health").expect(200);
}

fn odd_text_in_json_and_paths(backend: Backend) {
    let server = Server::open(backend);
    // A lone surrogate is no character, so this is no JSON text.
    let lone = r#"{"command":"echo","args":["\ud800"]}"#;
    server
        .post_text("/v1/processes/run", lone)
        .problem(400, "invalid_request");
    let pair = r#"{"command":"echo","args":["\ud83d\ude00\u00e9"]}"#;
    assert_eq!(
        server.post_text("/v1/processes/run", pair).json()["stdout"],
        "\u{1F600}é\n"
    );
    // A raw control character inside a string is none either.
    let raw = "{\"command\":\"echo\",\"args\":[\"a\nb\"]}";
    server
        .post_text("/v1/processes/run", raw)
        .problem(400, "invalid_request");
    // A byte order mark is not JSON (RFC 8259, 8.1).
    let marked = "\u{feff}{\"command\":\"true\"}";
    server
        .post_text("/v1/processes/run", marked)
        .problem(400, "invalid_request");
    Problem::no_process("\0").check(&server.get("/v1/processes/%00"));
    Problem::no_process("\u{1}\u{7f}").check(&server.get("/v1/processes/%01%7F"));
    Problem::no_process("..").check(&server.get("/v1/processes/%2e%2e"));
    // Integers as JSON has them (a float without a fraction is one), in no other spelling.
    for number in ["1e4", "94388.0", "-0", "0.0"] {
        let body = format!(r#"{{"command":"true","timeoutMs":{number},"maxOutputBytes":1.0}}"#);
        let answer = server.post_text("/v1/processes/run", &body).json();
        assert_eq!(answer["exitCode"], 0, "{number}");
    }
    for number in ["1e-3", "1.5", "-1.0", "1e20", "0x10", "1_000"] {
        let body = format!(r#"{{"command":"true","timeoutMs":{number}}}"#);
        let status = server.post_text("/v1/processes/run", &body).status;
        assert!(matches!(status, 400 | 422), "{number}: {status}");
    }
}
