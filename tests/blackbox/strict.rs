//! `Prefer: handling=strict` (RFC 7240): names that nobody knows are refused, and named.

use serde_json::{Value, json};

use crate::harness::{Backend, Response, Server, Ws, on_both, sh};

on_both!(
    unknown_fields_are_refused_and_named,
    unknown_parameters_are_refused_and_named,
    every_answer_says_that_it_was_strict_and_no_other_does,
    nothing_is_started_or_changed_by_what_is_refused,
);

const STRICT: (&str, &str) = ("Prefer", "handling=strict");

#[track_caller]
fn post(server: &Server, target: &str, body: &Value) -> Response {
    let headers = [("Content-Type", "application/json"), STRICT];
    let answer = server.request("POST", target, &headers, body.to_string().as_bytes());
    assert_eq!(answer.header("preference-applied"), Some("handling=strict"));
    answer
}

#[track_caller]
fn names(answer: &Response, status: u16, text: &str) {
    let problem = answer.problem(status, "invalid_request");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(text), "{detail:?} does not say {text:?}");
}

fn unknown_fields_are_refused_and_named(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let terminal = server.spawn(&json!({"command": "cat", "tty": true}));
    let config = server.get("/v1/processes/config").json();
    for (target, known, wrong, nearest) in [
        (
            "/run".to_owned(),
            json!({"command": "true", "env": {"any": "x"}}),
            "timeout_ms",
            "timeoutMs",
        ),
        (String::new(), sh("exit 0"), "Interactive", "interactive"),
        (
            "/config".to_owned(),
            config,
            "maxOutputByte",
            "maxOutputBytes",
        ),
        (
            format!("/{id}/input"),
            json!({"data": ""}),
            "encodng",
            "encoding",
        ),
        (
            format!("/{terminal}/terminal/resize"),
            json!({"cols": 80, "rows": 24}),
            "row",
            "rows",
        ),
    ] {
        let target = format!("/v1/processes{target}");
        post(&server, &target, &known).expect(200);
        let mut more = known.clone();
        more[wrong] = json!(null);
        let text = format!("{wrong} (nearest known: {nearest})");
        names(&post(&server, &target, &more), 422, &text);
        // As ever without the preference, and with the other one.
        server.post(&target, &more).expect(200);
        let headers = [
            ("Content-Type", "application/json"),
            ("Prefer", "handling=lenient"),
        ];
        server
            .request("POST", &target, &headers, more.to_string().as_bytes())
            .expect(200);
    }
}

fn unknown_parameters_are_refused_and_named(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("exit 0"));
    server.await_exit(&id);
    for (method, target, known, nearest) in [
        ("GET", "/v1/health".to_owned(), "", None),
        (
            "GET",
            "/v1/processes".to_owned(),
            "owner=user",
            Some("owner"),
        ),
        (
            "GET",
            format!("/v1/processes/{id}"),
            "usage=false",
            Some("usage"),
        ),
        (
            "GET",
            format!("/v1/processes/{id}/logs"),
            "stream=stdout&tail=1&since=0&follow=false",
            Some("tail"),
        ),
        (
            "POST",
            format!("/v1/processes/{id}/stop"),
            "waitMs=0&graceMs=5",
            Some("waitMs"),
        ),
        (
            "POST",
            format!("/v1/processes/{id}/kill"),
            "waitMs=0",
            Some("waitMs"),
        ),
    ] {
        let ask = |query: &str, headers: &[_]| {
            server.request(method, &format!("{target}?{query}"), headers, b"")
        };
        ask(known, &[STRICT]).expect(200);
        let wrong = nearest.map_or("x".to_owned(), str::to_uppercase);
        let query = format!("{known}&{wrong}=1");
        let refused = ask(&query, &[STRICT]);
        let text = match nearest {
            Some(nearest) => format!("{wrong} (nearest known: {nearest})"),
            None => format!("{wrong} (none is known here)"),
        };
        names(&refused, 400, &text);
        assert_eq!(
            refused.header("preference-applied"),
            Some("handling=strict")
        );
        ask(&query, &[]).expect(200);
    }
}

fn every_answer_says_that_it_was_strict_and_no_other_does(backend: Backend) {
    let server = Server::open(backend);
    for (method, target, status) in [
        ("GET", "/v1/health", 200),
        ("GET", "/nowhere", 404),
        ("GET", "/v1/processes/proc_1", 404),
        ("DELETE", "/v1/health", 405),
        ("OPTIONS", "/v1/processes", 200),
        ("POST", "/v1/processes", 415),
    ] {
        let strict = server
            .request(method, target, &[STRICT], b"")
            .expect(status);
        assert_eq!(
            strict.header("preference-applied"),
            Some("handling=strict"),
            "{target}"
        );
        for other in ["handling=lenient", "respond-async", "x=\"handling=strict\""] {
            let answer = server
                .request(method, target, &[("Prefer", other)], b"")
                .expect(status);
            assert_eq!(answer.header("preference-applied"), None, "{other}");
        }
    }
}

fn nothing_is_started_or_changed_by_what_is_refused(backend: Backend) {
    let server = Server::open(backend);
    let before = server.get("/v1/processes/config").json();
    let mut config = before.clone();
    config["maxConcurrentProcesses"] = json!(1);
    config["x"] = json!(1);
    names(&post(&server, "/v1/processes/config", &config), 422, "x (");
    assert_eq!(server.get("/v1/processes/config").json(), before);
    let mut body = sh("exit 0");
    body["x"] = json!(1);
    names(&post(&server, "/v1/processes", &body), 422, "x (");
    assert_eq!(server.get("/v1/processes").json(), json!({"processes": []}));
    // The number that a create uses up was not taken either.
    let id = server.spawn(&json!({"command": "cat", "tty": true}));
    assert_eq!(id, "proc_1");
    let target = format!("/v1/processes/{id}/kill?waitms=0");
    let refused = server.request("POST", &target, &[STRICT], b"");
    names(&refused, 400, "waitms (nearest known: waitMs)");
    assert_eq!(server.info(&id)["status"], "running");
    // A terminal is attached to as before, with its own parameters.
    let target = |query: &str| format!("/v1/processes/{id}/terminal/ws?access_token=x&{query}");
    assert!(
        Ws::ask(
            &server,
            &target("replay=all&mode=ro&since=1&input=text"),
            &[STRICT]
        )
        .is_ok()
    );
    let refused = Ws::ask(&server, &target("replays=all"), &[STRICT]).err();
    names(&refused.unwrap(), 400, "replays (nearest known: replay)");
}
