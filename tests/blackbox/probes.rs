//! `/healthz` and `/readyz`: whether both loops go round, and whether new work is taken.

use serde_json::json;

use crate::harness::server::send_signal;
use crate::harness::{Backend, Launch, Server, eventually, on_both, sh, skipped_anywhere};
use crate::service::Stopped;

on_both!(
    probes_need_no_token_and_the_old_one_stays_as_it_was,
    a_supervisor_that_is_stuck_fails_the_probe_until_it_goes_on,
    a_server_that_ends_is_not_ready_and_still_alive,
    a_probe_that_nobody_sends_wakes_nobody,
);

fn probes_need_no_token_and_the_old_one_stays_as_it_was(backend: Backend) {
    let server = Launch::new(backend).args(&["--token", "secret"]).start();
    let alive = server.get("/healthz").expect(200);
    assert_eq!(alive.text(), r#"{"status":"ok"}"#);
    assert_eq!(alive.header("content-type"), Some("application/json"));
    assert_eq!(alive.header("cache-control"), Some("no-store"));
    let ready = server.get("/readyz").expect(200);
    assert_eq!(ready.text(), r#"{"status":"ready"}"#);
    server
        .request("HEAD", "/healthz", &[], b"")
        .expect_empty(200);
    server.post_empty("/healthz").expect(405);
    server.get("/v1/health").expect(401);
    let headers = [("Authorization", "Bearer secret")];
    let old = server
        .request("GET", "/v1/health", &headers, b"")
        .expect(200);
    assert_eq!(old.text(), r#"{"status":"ok"}"#);
    assert_eq!(old.header("cache-control"), None);
}

fn a_supervisor_that_is_stuck_fails_the_probe_until_it_goes_on(backend: Backend) {
    let server = Server::open(backend);
    server.get("/healthz").expect(200);
    let stopped = match Stopped::new(&server, "supervisor") {
        Ok(stopped) => stopped,
        Err(error) => return skipped_anywhere(&format!("ptrace(2) is refused: {error}")),
    };
    for _ in 0..2 {
        let answer = server.get("/healthz");
        let problem = answer.problem(503, "unavailable");
        assert_eq!(problem["code"], "supervisor_stuck", "{problem}");
        assert!(answer.header("retry-after").is_some());
    }
    // What the I/O thread does alone goes on, and tells of it.
    server.get("/v1/health").expect(200);
    let metrics = server.get("/metrics").expect(200);
    let line = "\nprocring_supervisor_answers 0\n";
    assert!(metrics.text().contains(line), "{}", metrics.text());
    drop(stopped);
    eventually("the supervisor to go on", || {
        (server.get("/healthz").status == 200).then_some(())
    });
    let metrics = server.get("/metrics").expect(200);
    let line = "\nprocring_supervisor_answers 1\n";
    assert!(metrics.text().contains(line), "{}", metrics.text());
}

fn a_server_that_ends_is_not_ready_and_still_alive(backend: Backend) {
    let args = ["--no-token", "--shutdown-grace", "60"];
    let server = Launch::new(backend).args(&args).start();
    let id = server.spawn(&sh("trap '' TERM; echo deaf; while :; do sleep 1; done"));
    server.await_output(&id, "deaf");
    send_signal(server.pid, libc::SIGTERM);
    eventually("the server to be ending", || {
        (server.get("/readyz").status == 503).then_some(())
    });
    let problem = server.get("/readyz").problem(503, "unavailable");
    assert_eq!(problem["code"], "shutting_down", "{problem}");
    server.get("/healthz").expect(200);
    let metrics = server.get("/metrics").expect(200);
    assert!(metrics.text().contains("\nprocring_ending 1\n"));
    server
        .post("/v1/processes", &json!({"command": "true"}))
        .expect(503);
    server.kill(&id);
}

/// How often the threads of a server have gone to sleep by themselves.
fn sleeps(server: &Server) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid)).unwrap();
    let of = |task: std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.map_or(0, |count| count.trim().parse::<u64>().unwrap())
    };
    tasks.flatten().map(of).sum()
}

fn a_probe_that_nobody_sends_wakes_nobody(backend: Backend) {
    let server = Server::open(backend);
    server.get("/healthz").expect(200);
    server.get("/metrics").expect(200);
    // Whatever follows a request has come to rest when nothing changes for a second.
    let quiet = || {
        let before = sleeps(&server);
        std::thread::sleep(std::time::Duration::from_secs(1));
        sleeps(&server) == before
    };
    eventually("a server at rest", || quiet().then_some(()));
    assert!(quiet() || quiet(), "an idle server wakes up");
}
