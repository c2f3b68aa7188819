//! 14.30: names a rebinding page would use, and origins that are not the server's own.

use serde_json::json;

use crate::harness::{Backend, Launch, Problem, Response, Server, on_both, sh};

on_both!(
    names_a_rebinding_page_would_use_are_403,
    allowed_hosts_and_tokens_lift_the_name_rule,
    absolute_form_overrides_the_host_header,
    foreign_origins_change_nothing,
    own_and_missing_origins_are_served,
    a_websocket_from_a_foreign_origin_is_403,
    the_order_of_checks_is_host_token_origin_method,
    a_rebound_page_changes_nothing_on_an_open_server_that_others_reach,
);

fn with_host(server: &Server, host: &str) -> Response {
    server.request("GET", "/v1/health", &[("Host", host)], b"")
}

fn names_a_rebinding_page_would_use_are_403(backend: Backend) {
    let server = Server::open(backend);
    let port = server.address.port();
    for host in [
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "a.b",
        "xlocalhost.x",
        "1.2.3",
        "127.0.0.1.evil",
    ] {
        let answer = with_host(&server, host);
        assert_eq!(answer.status, 403, "{host}");
        answer.problem(403, "forbidden");
        // Whatever is asked for, and before it is done.
        let headers = [("Host", host), ("Content-Type", "application/json")];
        let body = json!({"command": "cat"}).to_string();
        let answer = server.request("POST", "/v1/processes", &headers, body.as_bytes());
        answer.problem(403, "forbidden");
    }
    for host in [
        "127.0.0.1".to_owned(),
        format!("127.0.0.1:{port}"),
        "10.1.2.3:99".to_owned(),
        "[::1]".to_owned(),
        "[::1]:80".to_owned(),
        "[fe80::1]:80".to_owned(),
        "localhost".to_owned(),
        format!("LocalHost:{port}"),
        "sandbox-7.localhost:80".to_owned(),
        "container".to_owned(),
        "my_service:8080".to_owned(),
    ] {
        assert_eq!(with_host(&server, &host).status, 200, "{host}");
    }
    assert_eq!(server.get("/v1/processes").json(), json!({"processes": []}));
}

fn allowed_hosts_and_tokens_lift_the_name_rule(backend: Backend) {
    let args = [
        "--no-token",
        "--allowed-host",
        "a.example",
        "--allowed-host",
        "b.example",
    ];
    let server = Launch::new(backend).args(&args).start();
    for host in ["a.example", "b.example:8080", "A.Example", "localhost"] {
        assert_eq!(with_host(&server, host).status, 200, "{host}");
    }
    for host in ["c.example", "x.a.example", "a.example.evil"] {
        with_host(&server, host).problem(403, "forbidden");
    }
    let any = Launch::new(backend)
        .args(&["--no-token", "--allowed-host", "*"])
        .start();
    with_host(&any, "evil.example").expect(200);
    // With a token a page that rebinds its name has nothing to show.
    let locked = Launch::new(backend).args(&["--token", "T"]).start();
    let headers = [("Host", "evil.example"), ("Authorization", "Bearer T")];
    locked
        .request("GET", "/v1/health", &headers, b"")
        .expect(200);
}

fn absolute_form_overrides_the_host_header(backend: Backend) {
    let server = Server::open(backend);
    // RFC 9112, 3.2.2: the target's authority counts, the Host field does not.
    let target = "http://evil.example/v1/health";
    let answer = server.request("GET", target, &[("Host", "localhost")], b"");
    answer.problem(403, "forbidden");
    let target = "http://localhost/v1/health";
    server
        .request("GET", target, &[("Host", "evil.example")], b"")
        .expect(200);
}

fn foreign_origins_change_nothing(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let exited = server.spawn(&sh("true"));
    server.await_exit(&exited);
    let json_type = ("Content-Type", "application/json");
    let other_port = format!("http://127.0.0.1:{}", server.address.port() ^ 1);
    for origin in [
        "http://evil.example",
        "null",
        &other_port,
        "http://127.0.0.1",
        "nonsense",
    ] {
        for (method, path, body) in [
            (
                "POST",
                "/v1/processes/run".to_owned(),
                r#"{"command":"true"}"#,
            ),
            ("POST", "/v1/processes".to_owned(), r#"{"command":"cat"}"#),
            ("POST", "/v1/processes/config".to_owned(), r#"{}"#),
            ("POST", format!("/v1/processes/{id}/stop"), ""),
            ("POST", format!("/v1/processes/{id}/kill"), ""),
            (
                "POST",
                format!("/v1/processes/{id}/input"),
                r#"{"data":"eA=="}"#,
            ),
            ("DELETE", format!("/v1/processes/{exited}"), ""),
        ] {
            let headers = [("Origin", origin), json_type];
            let answer = server.request(method, &path, &headers, body.as_bytes());
            assert_eq!(answer.status, 403, "{origin:?} {method} {path}");
            answer.problem(403, "forbidden");
        }
        // Reading is allowed; without CORS headers the page does not see it.
        let answer = server.request("GET", "/v1/processes", &[("Origin", origin)], b"");
        assert_eq!(answer.status, 200, "{origin:?}");
    }
    assert_eq!(server.info(&id)["status"], "running");
    assert_eq!(server.output(&id, "combined"), b"");
    assert_eq!(
        server.get("/v1/processes").json()["processes"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

fn own_and_missing_origins_are_served(backend: Backend) {
    let server = Server::open(backend);
    let body = r#"{"command":"true"}"#.as_bytes();
    let post = |headers: &[(&str, &str)]| {
        let headers = [headers, &[("Content-Type", "application/json")]].concat();
        server
            .request("POST", "/v1/processes/run", &headers, body)
            .status
    };
    let own = format!("http://{}", server.address);
    assert_eq!(post(&[("Origin", &own)]), 200);
    let named = format!("http://localhost:{}", server.address.port());
    let host = format!("localhost:{}", server.address.port());
    assert_eq!(post(&[("Origin", &named), ("Host", &host)]), 200);
    // The names differ, though they mean the same machine.
    assert_eq!(post(&[("Origin", &named)]), 403);
    assert_eq!(post(&[]), 200);
}

fn a_websocket_from_a_foreign_origin_is_403(backend: Backend) {
    let server = Server::open(backend);
    let upgrade = [
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    // Not `Connection: close`, so by hand.
    let ask = |origin: &str| {
        let mut conn = server.conn();
        let mut head = format!(
            "GET /v1/processes/proc_1/terminal/ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\n",
            server.address
        );
        for (name, value) in upgrade {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        conn.send(format!("{head}Origin: {origin}\r\n\r\n"));
        conn.response("GET")
    };
    ask("http://evil.example").problem(403, "forbidden");
    // From the server's own host the lookup comes next.
    Problem::no_process("proc_1").check(&ask(&format!("http://{}", server.address)));
}

fn the_order_of_checks_is_host_token_origin_method(backend: Backend) {
    let open = Server::open(backend);
    let both = [("Host", "evil.example"), ("Origin", "http://evil.example")];
    open.request("PUT", "/v1/health", &both, b"")
        .problem(403, "forbidden");
    let locked = Launch::new(backend).args(&["--token", "T"]).start();
    let foreign = ("Origin", "http://evil.example");
    let answer = locked.request("POST", "/v1/processes/x/stop", &[foreign], b"");
    Problem::no_token().check(&answer);
    let headers = [foreign, ("Authorization", "Bearer T")];
    locked
        .request("POST", "/v1/processes/x/stop", &headers, b"")
        .problem(403, "forbidden");
    locked
        .request("DELETE", "/v1/processes", &headers, b"")
        .problem(403, "forbidden");
}

fn a_rebound_page_changes_nothing_on_an_open_server_that_others_reach(backend: Backend) {
    let open = ["--no-token", "--host", "0.0.0.0"];
    let server = Launch::new(backend).args(&open).start();
    let port = server.address.port();
    // What a page sends to the server that it came from, by the name it knows it by.
    let from_own_page = |server: &Server, method: &str, path: &str, host: &str| {
        let origin = format!("http://{host}");
        let headers = [
            ("Host", host),
            ("Origin", origin.as_str()),
            ("Content-Type", "application/json"),
        ];
        server.request(method, path, &headers, br#"{"command":"true"}"#)
    };
    let id = server.spawn(&json!({"command": "cat"}));
    for host in [format!("evil.example:{port}"), "evil.example".to_owned()] {
        for (method, path) in [
            ("POST", "/v1/processes/run".to_owned()),
            ("POST", format!("/v1/processes/{id}/kill?waitMs=0")),
            ("DELETE", format!("/v1/processes/{id}")),
        ] {
            let answer = from_own_page(&server, method, &path, &host);
            let problem = answer.problem(403, "forbidden");
            let named = format!("\"http://{host}\"");
            assert!(
                problem["detail"].as_str().unwrap().contains(&named),
                "{problem}"
            );
        }
        // Whoever sends no origin is no page, whatever name it uses.
        let headers = [("Host", host.as_str())];
        let path = format!("/v1/processes/{id}/stop?waitMs=0&graceMs=60000");
        server
            .request("GET", "/v1/processes", &headers, b"")
            .expect(200);
        server
            .request("POST", &path.replace(&id, "none"), &headers, b"")
            .expect(404);
    }
    assert_eq!(server.info(&id)["status"], "running");
    for host in [
        format!("127.0.0.1:{port}"),
        "10.0.0.7".to_owned(),
        "[::1]:9".to_owned(),
        format!("localhost:{port}"),
        "a.localhost".to_owned(),
        "box:1".to_owned(),
    ] {
        from_own_page(&server, "POST", "/v1/processes/run", &host).expect(200);
    }
    // Named by the flags, or asked for a token, it is served.
    let named = Launch::new(backend)
        .args(&open)
        .args(&["--allowed-host", "tool.example"])
        .start();
    from_own_page(&named, "POST", "/v1/processes/run", "tool.example:80").expect(200);
    from_own_page(&named, "POST", "/v1/processes/run", "evil.example").problem(403, "forbidden");
    let by_origin = Launch::new(backend)
        .args(&open)
        .args(&["-O", "http://tool.example"])
        .start();
    from_own_page(&by_origin, "POST", "/v1/processes/run", "tool.example").expect(200);
    let locked = Launch::new(backend)
        .args(&["--token", "T", "--host", "0.0.0.0"])
        .start();
    let headers = [
        ("Host", "tool.example"),
        ("Origin", "http://tool.example"),
        ("Authorization", "Bearer T"),
        ("Content-Type", "application/json"),
    ];
    locked
        .request(
            "POST",
            "/v1/processes/run",
            &headers,
            br#"{"command":"true"}"#,
        )
        .expect(200);
}
