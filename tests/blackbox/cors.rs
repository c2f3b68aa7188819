//! Section 2.2 and 14.29: what the CORS flags change, and what none of them does.

use crate::harness::{Backend, Launch, Response, Server, on_both};
use serde_json::json;

on_both!(
    without_flags_no_origin_is_allowed,
    a_named_origin_is_allowed_and_no_other,
    methods_and_headers_are_listed,
    credentials_are_allowed_on_every_answer,
    a_star_allows_any_origin,
    origins_are_compared_as_browsers_write_them,
    a_page_may_read_what_is_ours_of_an_answer,
);

const ORIGIN: &str = "http://a.example";

fn asked_from(server: &Server, method: &str, path: &str, origin: &str) -> Response {
    server.request(method, path, &[("Origin", origin)], b"")
}

fn allowed(answer: &Response) -> Option<&str> {
    answer.header("access-control-allow-origin")
}

fn without_flags_no_origin_is_allowed(backend: Backend) {
    let server = Server::open(backend);
    for path in ["/", "/v1/health", "/v1/processes", "/nowhere"] {
        assert_eq!(
            allowed(&asked_from(&server, "GET", path, ORIGIN)),
            None,
            "{path}"
        );
        let preflight = asked_from(&server, "OPTIONS", path, ORIGIN).expect_empty(200);
        assert_eq!(allowed(&preflight), None);
        assert_eq!(preflight.header("access-control-allow-methods"), Some("*"));
        assert_eq!(preflight.header("access-control-allow-headers"), Some("*"));
        assert_eq!(preflight.header("access-control-allow-credentials"), None);
    }
}

fn a_named_origin_is_allowed_and_no_other(backend: Backend) {
    let server = Launch::new(backend)
        .args(&[
            "--no-token",
            "--cors-allow-origin",
            ORIGIN,
            "-O",
            "http://b.example:8080",
        ])
        .start();
    for origin in [ORIGIN, "http://b.example:8080"] {
        for path in ["/v1/health", "/nowhere", "/v1/processes/none"] {
            assert_eq!(
                allowed(&asked_from(&server, "GET", path, origin)),
                Some(origin),
                "{path}"
            );
        }
        assert_eq!(
            allowed(&asked_from(&server, "OPTIONS", "/v1/processes", origin)),
            Some(origin)
        );
    }
    for other in [
        "http://a.example:80",
        "https://a.example",
        "http://A.example.evil",
        "null",
    ] {
        // A read by a foreign page is still executed; the page cannot see the answer.
        let answer = asked_from(&server, "GET", "/v1/health", other).expect(200);
        assert_eq!(allowed(&answer), None, "{other}");
    }
    // A state-changing request from an allowed origin is executed (14.30).
    let headers = [("Origin", ORIGIN), ("Content-Type", "application/json")];
    let body = json!({"command": "true"}).to_string();
    let answer = server.request("POST", "/v1/processes/run", &headers, body.as_bytes());
    assert_eq!(answer.json()["exitCode"], 0);
    assert_eq!(allowed(&answer), Some(ORIGIN));
}

fn methods_and_headers_are_listed(backend: Backend) {
    let server = Launch::new(backend)
        .args(&[
            "--no-token",
            "-O",
            ORIGIN,
            "-M",
            "GET",
            "--cors-allow-method",
            "POST",
        ])
        .args(&["-A", "content-type", "--cors-allow-header", "x-two"])
        .start();
    let headers = [
        ("Origin", ORIGIN),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type"),
    ];
    let preflight = server
        .request("OPTIONS", "/v1/processes", &headers, b"")
        .expect_empty(200);
    assert_eq!(
        preflight.header("access-control-allow-methods"),
        Some("GET,POST")
    );
    assert_eq!(
        preflight.header("access-control-allow-headers"),
        Some("content-type,x-two")
    );
    assert_eq!(allowed(&preflight), Some(ORIGIN));
}

fn credentials_are_allowed_on_every_answer(backend: Backend) {
    let server = Launch::new(backend)
        .args(&[
            "--no-token",
            "-O",
            ORIGIN,
            "-M",
            "GET",
            "-A",
            "content-type",
            "-C",
        ])
        .start();
    for path in ["/", "/v1/health", "/nowhere", "/v1/processes/none"] {
        let answer = asked_from(&server, "GET", path, ORIGIN);
        assert_eq!(
            answer.header("access-control-allow-credentials"),
            Some("true"),
            "{path}"
        );
    }
    let preflight = asked_from(&server, "OPTIONS", "/v1/health", ORIGIN).expect_empty(200);
    assert_eq!(
        preflight.header("access-control-allow-credentials"),
        Some("true")
    );
}

fn a_star_allows_any_origin(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token", "--cors-allow-origin", "*"])
        .start();
    for origin in [ORIGIN, "https://any.example"] {
        let answer = asked_from(&server, "GET", "/v1/health", origin).expect(200);
        let value = allowed(&answer).map(str::to_owned);
        assert!(
            matches!(value.as_deref(), Some(v) if v == "*" || v == origin),
            "{value:?}"
        );
    }
    let headers = [("Origin", ORIGIN), ("Content-Type", "application/json")];
    let body = json!({"command": "true"}).to_string();
    server
        .request("POST", "/v1/processes/run", &headers, body.as_bytes())
        .expect(200);
}

fn origins_are_compared_as_browsers_write_them(backend: Backend) {
    let server = Launch::new(backend)
        .args(&[
            "--no-token",
            "-O",
            "HTTP://B.example:80",
            "-O",
            "https://c:443/",
        ])
        .args(&[
            "-O",
            "http://[0:0::1]:3000/",
            "-O",
            "chrome-extension://abc",
        ])
        .start();
    for origin in [
        "http://b.example",
        "https://c",
        "http://[::1]:3000",
        "chrome-extension://abc",
    ] {
        let answer = asked_from(&server, "POST", "/v1/processes/none/stop", origin).expect(404);
        assert_eq!(allowed(&answer), Some(origin));
    }
    for origin in ["https://b.example", "http://c", "http://b.example:8080"] {
        let answer = asked_from(&server, "POST", "/v1/processes/none/stop", origin);
        let problem = answer.problem(403, "forbidden");
        // Whoever reads it finds what has to be allowed.
        let named = format!("{origin:?}");
        assert!(
            problem["detail"].as_str().unwrap().contains(&named),
            "{problem}"
        );
    }
}

fn a_page_may_read_what_is_ours_of_an_answer(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token", "--cors-allow-origin", ORIGIN])
        .start();
    let id = server.spawn(&json!({"command": "echo", "args": ["hi"]}));
    server.await_exit(&id);
    let raw = format!("/v1/processes/{id}/logs/raw");
    let exposed = |target: &str, headers: &[(&str, &str)]| {
        let answer = server.request("GET", target, headers, b"");
        let names = answer.header("access-control-expose-headers");
        let mut names: Vec<_> = names?.split(", ").map(str::to_owned).collect();
        // Each of them is there.
        assert!(names.iter().all(|name| answer.header(name).is_some()));
        names.sort();
        Some(names)
    };
    let origin = ("Origin", ORIGIN);
    let of_raw = [
        "accept-ranges",
        "etag",
        "procring-end-offset",
        "procring-first-offset",
    ];
    assert_eq!(
        exposed(&raw, &[origin]),
        Some(of_raw.map(str::to_owned).to_vec())
    );
    let asks = [origin, ("Prefer", "handling=strict"), ("X-Request-Id", "r")];
    let both = ["preference-applied", "x-request-id"];
    assert_eq!(
        exposed("/v1/processes", &asks),
        Some(both.map(str::to_owned).to_vec())
    );
    // Nobody else is told, and an answer of the reference is as it was.
    assert_eq!(exposed(&raw, &[]), None);
    assert_eq!(exposed(&raw, &[("Origin", "http://evil.example")]), None);
    assert_eq!(exposed("/v1/processes", &[origin]), None);
}
