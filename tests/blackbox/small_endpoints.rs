//! Section 5: `/` and `/v1/health`.

use crate::harness::json::keys;
use crate::harness::{Backend, Launch, Server, eventually, on_both, sh};

on_both!(
    root_names_the_server,
    health_is_exactly_ok,
    health_stays_ok_while_the_server_ends,
    head_has_the_headers_of_get
);

fn root_names_the_server(backend: Backend) {
    let server = Server::open(backend);
    let root = server.get("/").expect(200);
    assert_eq!(keys(root.text()), ["docs", "name"]);
    let root = root.json();
    assert_eq!(root["name"], "Sandbox Agent");
    assert!(root["docs"].is_string());
}

fn health_is_exactly_ok(backend: Backend) {
    let server = Server::open(backend);
    let health = server.get("/v1/health").expect(200);
    assert_eq!(health.header("content-type"), Some("application/json"));
    assert_eq!(health.text(), r#"{"status":"ok"}"#);
}

fn health_stays_ok_while_the_server_ends(backend: Backend) {
    let launch = Launch::new(backend).args(&["--no-token", "--shutdown-grace", "600"]);
    let server = launch.start();
    let id = server.spawn(&sh("trap '' TERM; echo ready; while :; do sleep 0.1; done"));
    server.await_output(&id, "ready");
    server.signal(libc::SIGTERM);
    eventually("the refusal of new work", || {
        let answer = server.post("/v1/processes", &sh("exit 0"));
        (answer.status == 503).then_some(())
    });
    // On a new connection, too: who asks whether it lives must not make it die sooner.
    let health = server.get("/v1/health").expect(200);
    assert_eq!(health.text(), r#"{"status":"ok"}"#);
}

fn head_has_the_headers_of_get(backend: Backend) {
    let server = Server::open(backend);
    for path in ["/", "/v1/health"] {
        let get = server.get(path).expect(200);
        let head = server.request("HEAD", path, &[], b"").expect_empty(200);
        let names = |r: &crate::harness::Response| {
            let mut names: Vec<_> = r.headers.iter().map(|(n, _)| n.to_lowercase()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&head), names(&get));
        assert_eq!(head.header("content-length"), get.header("content-length"));
    }
}
