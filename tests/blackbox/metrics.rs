//! `GET /metrics`: where it is, who may see it, what it counts, and that others can read it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::{
    Backend, Folder, Follow, Launch, Response, Server, WAIT, Ws, eventually, on_both, sh,
};

on_both!(
    metrics_are_for_who_brings_the_token_unless_they_are_public,
    metrics_have_a_place_of_their_own_and_nothing_else_is_there,
    metrics_without_a_token_may_be_where_others_reach_them,
    a_full_server_still_tells_how_full_it_is,
    what_becomes_of_programs_is_counted,
    what_is_read_and_what_is_missed_is_counted,
    answers_are_counted_by_route_status_and_reason,
    a_slow_turn_of_the_loop_shows,
    others_can_read_both_formats,
    nothing_grows_with_the_number_of_processes,
);

const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";

/// Every number, by its name and labels.
fn numbers(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    lines.map(pair).collect()
}

fn counted(server: &Server) -> BTreeMap<String, f64> {
    numbers(server.get("/metrics").expect(200).text())
}

#[track_caller]
fn number(server: &Server, name: &str) -> f64 {
    let all = counted(server);
    *all.get(name)
        .unwrap_or_else(|| panic!("{name} is not among {:?}", all.keys()))
}

/// The address that a server serves metrics at.
pub(crate) fn metrics_address(server: &Server) -> String {
    eventually("the address of metrics", || {
        let text = server.stderr();
        let line = text.lines().find(|line| line.contains("(metrics, "))?;
        let rest = line.split("http://").nth(1)?;
        Some(rest.split(' ').next()?.to_owned())
    })
}

/// A request to another address than the server's own.
fn get_at(address: &str, target: &str) -> Response {
    let mut conn = crate::harness::Conn::open(address.parse().unwrap());
    conn.send(format!(
        "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    ));
    conn.response("GET")
}

fn metrics_are_for_who_brings_the_token_unless_they_are_public(backend: Backend) {
    let with = [("Authorization", "Bearer secret")];
    let server = Launch::new(backend).args(&["--token", "secret"]).start();
    server.get("/metrics").problem(401, "token_invalid");
    let answer = server.request("GET", "/metrics", &with, b"").expect(200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let args = ["--token", "secret", "--public-metrics"];
    let server = Launch::new(backend).args(&args).start();
    server.get("/metrics").expect(200);
    server.get("/v1/processes").expect(401);
}

fn metrics_have_a_place_of_their_own_and_nothing_else_is_there(backend: Backend) {
    let args = ["--token", "secret", "--metrics-listen", "127.0.0.1:0"];
    let server = Launch::new(backend).args(&args).start();
    let address = metrics_address(&server);
    assert_ne!(address, server.address.to_string());
    for target in ["/metrics", "/healthz", "/readyz"] {
        get_at(&address, target).expect(200);
    }
    for target in [
        "/",
        "/v1/health",
        "/v1/processes",
        "/openapi.json",
        "/nowhere",
    ] {
        get_at(&address, target).expect(404);
    }
    let with = [("Authorization", "Bearer secret")];
    server.request("GET", "/metrics", &with, b"").expect(404);
    server
        .request("GET", "/v1/processes", &with, b"")
        .expect(200);
    server.get("/healthz").expect(200);
}

fn metrics_without_a_token_may_be_where_others_reach_them(backend: Backend) {
    let folder = Folder::new("metrics", backend);
    let unix = format!("unix:{}", folder.file("s"));
    let args = ["--listen", &unix, "--metrics-listen", "0.0.0.0:0"];
    // The harness waits for an address, which is that of the metrics here.
    let mut server = Launch::new(backend).listen(&args).start();
    let address = metrics_address(&server).replace("0.0.0.0", "127.0.0.1");
    get_at(&address, "/metrics").expect(200);
    get_at(&address, "/v1/processes").expect(404);
    get_at(&address, "/console/").expect(404);
    server.signal(libc::SIGTERM);
    assert_eq!(server.await_end(WAIT).code(), Some(0));
    eventually("the end of it", || server.stderr_has_ended().then_some(()));
    // Nobody is sent where there is no console.
    assert!(!server.stderr().contains("console at"));
}

fn a_full_server_still_tells_how_full_it_is(backend: Backend) {
    let args = ["--no-token", "--max-connections", "2"];
    let server = Launch::new(backend)
        .args(&args)
        .args(&["--metrics-listen", "127.0.0.1:0"])
        .start();
    let address = metrics_address(&server);
    let mut all = [server.conn(), server.conn()];
    for conn in &mut all {
        // Who says nothing makes room for others.
        conn.send("GET /v1/health HTTP/1.1\r\nHost: h\r\n\r\n");
        conn.response("GET").expect(200);
    }
    let shown = |name: &str| numbers(get_at(&address, "/metrics").text())[name];
    eventually("a full server", || {
        (shown("procring_connections") == 2.0).then_some(())
    });
    assert_eq!(shown("procring_connections_max"), 2.0);
    server.get("/healthz").expect(503);
    assert_eq!(
        shown(r#"procring_refusals_total{reason="max_connections"}"#),
        1.0
    );
}

fn what_becomes_of_programs_is_counted(backend: Backend) {
    let server = Server::open(backend);
    let lives = server.spawn(&json!({"command": "cat"}));
    let ended = server.spawn(&sh("exit 3"));
    server.await_exit(&ended);
    server.run(&json!({"command": "true"}));
    server.run(&json!({"command": "false"}));
    server.run(&sh("kill -9 $$"));
    server.run(&json!({"command": "sleep", "args": ["77"], "timeoutMs": 20}));
    server
        .post("/v1/processes/run", &json!({"command": "/no/such"}))
        .expect(502);
    server
        .post("/v1/processes", &json!({"command": "/no/such"}))
        .expect(502);
    let left = server.run(&sh("setsid sleep 77 >/dev/null 2>&1 & exit 0"));
    let left = left["processId"].as_str().expect("a record").to_owned();
    let mut gone = server.conn();
    gone.send(crate::harness::lines::run_request(
        "1.1",
        &[],
        &json!({"command": "sleep", "args": ["77"]}),
    ));
    eventually("the run to begin", || {
        (number(&server, "procring_runs_in_progress") == 1.0).then_some(())
    });
    gone.reset();
    eventually("the run to be given up", || {
        let given_up = number(&server, r#"procring_runs_total{result="abandoned"}"#);
        (given_up == 1.0).then_some(())
    });
    eventually("its end to be heard of", || {
        let all = counted(&server);
        let count = |name: &str| all.get(name).copied().unwrap_or_default();
        let starts = count(r#"procring_starts_total{kind="run"}"#);
        let failures = count(r#"procring_start_failures_total{kind="run"}"#);
        let exits: f64 = ["succeeded", "failed", "signaled", "unknown"]
            .map(|how| {
                count(&format!(
                    r#"procring_exits_total{{kind="run",how="{how}"}}"#
                ))
            })
            .iter()
            .sum();
        (starts - failures == exits).then_some(())
    });
    let all = counted(&server);
    for (name, value) in [
        (r#"procring_processes{state="running"}"#, 1.0),
        (r#"procring_processes{state="exited"}"#, 2.0),
        ("procring_leftovers", 1.0),
        ("procring_runs_in_progress", 0.0),
        (r#"procring_runs_total{result="succeeded"}"#, 2.0),
        (r#"procring_runs_total{result="failed"}"#, 1.0),
        (r#"procring_runs_total{result="signaled"}"#, 1.0),
        (r#"procring_runs_total{result="timed_out"}"#, 1.0),
        (r#"procring_runs_total{result="not_started"}"#, 1.0),
        (r#"procring_starts_total{kind="process"}"#, 3.0),
        (r#"procring_starts_total{kind="run"}"#, 7.0),
        (r#"procring_start_failures_total{kind="process"}"#, 1.0),
        (r#"procring_start_failures_total{kind="run"}"#, 1.0),
        (r#"procring_exits_total{kind="process",how="failed"}"#, 1.0),
        (r#"procring_exits_total{kind="run",how="failed"}"#, 1.0),
        (r#"procring_exits_total{kind="run",how="succeeded"}"#, 2.0),
        // Those that ran, whatever became of them.
        ("procring_spawn_seconds_count", 8.0),
    ] {
        assert_eq!(all.get(name), Some(&value), "{name} of {all:?}");
    }
    assert!(all["procring_exit_notice_seconds_count"] >= 5.0);
    server.kill(&left);
    server.kill(&lives);
    assert_eq!(
        number(&server, r#"procring_processes{state="running"}"#),
        0.0
    );
    assert_eq!(number(&server, "procring_leftovers"), 0.0);
}

fn what_is_read_and_what_is_missed_is_counted(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 1000)]);
    let id = server.spawn(&sh(
        "read x; echo $x; while read x; do head -c 600 /dev/zero; done",
    ));
    let mut follow = Follow::process(&server, &id);
    server.feed(&id, "one\n");
    follow.next();
    let streams = |kind: &str| format!(r#"procring_streams{{kind="{kind}"}}"#);
    assert_eq!(number(&server, &streams("follower")), 1.0);
    assert_eq!(number(&server, "procring_input_bytes_total"), 4.0);
    assert_eq!(number(&server, "procring_output_bytes_total"), 4.0);
    assert_eq!(number(&server, "procring_first_byte_seconds_count"), 1.0);
    assert_eq!(number(&server, "procring_evicted_bytes_total"), 0.0);
    // An entry each, and one of them is all that the log holds.
    for times in 1..=3 {
        server.feed(&id, "more\n");
        let all = 4.0 + 600.0 * f64::from(times);
        eventually("all of the output", || {
            (number(&server, "procring_output_bytes_total") == all).then_some(())
        });
    }
    assert!(number(&server, "procring_evicted_bytes_total") >= 604.0);
    // Its own first byte came before.
    assert_eq!(number(&server, "procring_first_byte_seconds_count"), 1.0);
    drop(follow);
    eventually("the follower to be gone", || {
        (number(&server, &streams("follower")) == 0.0).then_some(())
    });
    let before = number(&server, "procring_gaps_total");
    // Who resumes behind what is gone is told so.
    let target = format!("/v1/processes/{id}/logs?follow=true&since=1");
    let mut again = Follow::open(&server, &target, &[]);
    again.next().event("gap");
    assert_eq!(number(&server, "procring_gaps_total"), before + 1.0);
    assert!(number(&server, "procring_sent_bytes_total") > 1000.0);
    assert!(number(&server, "procring_received_bytes_total") > 100.0);
    assert!(number(&server, r#"procring_arena_slots{state="used"}"#) >= 1.0);
    let ws = Ws::ask(&server, &format!("/v1/processes/{id}/attach/ws"), &[]);
    eventually("the attached client", || {
        (number(&server, &streams("attached")) == 1.0).then_some(())
    });
    drop(ws.expect("an upgrade"));
    server.kill(&id);
}

fn answers_are_counted_by_route_status_and_reason(backend: Backend) {
    let server = Server::open(backend);
    server.get("/v1/processes/proc_1").expect(404);
    server.get("/v1/processes/any%2Fname").expect(404);
    server.get("/nowhere").expect(404);
    server.post_text("/v1/processes", "{").expect(400);
    server.post_text("/v1/processes", "{}").expect(422);
    server.post_empty("/v1/health").expect(405);
    let mut conn = server.conn();
    conn.send("no request\r\n\r\n");
    conn.response("GET").expect(400);
    let all = counted(&server);
    let requests = |route: &str, method: &str| {
        let name =
            format!("procring_request_seconds_count{{route=\"{route}\",method=\"{method}\"}}");
        all.get(&name).copied()
    };
    assert_eq!(requests("/v1/processes/{id}", "GET"), Some(2.0), "{all:?}");
    assert_eq!(requests("/v1/processes", "POST"), Some(2.0));
    assert_eq!(requests("/v1/processes/{id}/logs", "GET"), None);
    for (reason, count) in [
        ("not_found", 2.0),
        ("no_route", 1.0),
        ("invalid_request", 2.0),
        ("method_not_allowed", 1.0),
        ("malformed", 1.0),
    ] {
        let name = format!("procring_refusals_total{{reason=\"{reason}\"}}");
        assert_eq!(all.get(&name), Some(&count), "{name} of {all:?}");
    }
    for (status, count) in [(400, 2.0), (404, 3.0), (405, 1.0), (422, 1.0)] {
        let name = format!("procring_answers_total{{status=\"{status}\"}}");
        assert_eq!(all.get(&name), Some(&count), "{name} of {all:?}");
    }
}

fn a_slow_turn_of_the_loop_shows(backend: Backend) {
    let server = Server::open(backend);
    let turns = || {
        let all = counted(&server);
        let of = |name: &str| all[&format!("procring_loop_{name}{{thread=\"io\"}}")];
        [
            of("turn_seconds_count"),
            of("turn_seconds_sum"),
            of("longest_turn_seconds"),
        ]
    };
    let [count, sum, _] = turns();
    for _ in 0..20 {
        server.get("/v1/health").expect(200);
    }
    let [more, busy, longest] = turns();
    assert!(more >= count + 20.0, "{count} {more}");
    assert!(busy > sum && longest > 0.0 && longest <= busy);
    let supervisor = counted(&server)[r#"procring_loop_turn_seconds_count{thread="supervisor"}"#];
    assert!(supervisor > 0.0);
}

/// Feeds a checker; what it says if it does not like what it reads.
fn checked(command: &mut Command, text: &str) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the checker; .ci/run installs it");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let said = child.wait_with_output().unwrap();
    let words = [said.stdout, said.stderr].concat();
    let words = String::from_utf8_lossy(&words);
    assert!(said.status.success(), "{words}\n{text}");
    assert!(words.trim().is_empty(), "{words}");
}

/// Names with their labels, in an order of ours; the bounds of ranges are numbers.
fn series(text: &str) -> Vec<String> {
    let one = |name: String| {
        let (name, labels) = name.split_once('{').unwrap_or((&name, ""));
        let labels = labels.trim_end_matches('}').split("\",");
        let mut labels: Vec<_> = labels
            .map(|label| match label.strip_prefix("le=\"") {
                Some(end) => format!("le {:?}", end.trim_end_matches('"').parse::<f64>()),
                None => label.trim_end_matches('"').to_owned(),
            })
            .collect();
        labels.sort();
        format!("{name} {labels:?}")
    };
    let mut all: Vec<_> = numbers(text).into_keys().map(one).collect();
    all.sort();
    all
}

fn others_can_read_both_formats(backend: Backend) {
    let server = Server::open(backend);
    server.run(&json!({"command": "true"}));
    server.get("/nowhere").expect(404);
    // The first answer is the first of its route.
    counted(&server);
    let classic = server.get("/metrics").expect(200);
    let accept = [("Accept", OPEN_METRICS)];
    let open = server.request("GET", "/metrics", &accept, b"").expect(200);
    assert_eq!(
        open.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(open.text().ends_with("\n# EOF\n"));
    assert_eq!(
        series(classic.text()),
        series(open.text()),
        "the same in both"
    );
    match Command::new("promtool").arg("--version").output() {
        Ok(_) => checked(
            Command::new("promtool").args(["check", "metrics"]),
            classic.text(),
        ),
        Err(_) => crate::harness::skipped("promtool is missing; nobody lints the metrics"),
    }
}

fn nothing_grows_with_the_number_of_processes(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxConcurrentProcesses", 200)]);
    let make = || server.spawn(&json!({"command": "cat"}));
    let first: Vec<_> = (0..2).map(|_| make()).collect();
    // The first answer is the first of its route.
    counted(&server);
    let few = counted(&server);
    let many: Vec<_> = (0..60).map(|_| make()).collect();
    let all = counted(&server);
    assert_eq!(
        few.keys().collect::<Vec<_>>(),
        all.keys().collect::<Vec<_>>(),
        "a series came with a process"
    );
    assert_eq!(all[r#"procring_processes{state="running"}"#], 62.0);
    for id in first.iter().chain(&many) {
        assert!(!all.keys().any(|name| name.contains(id.as_str())));
        server.kill(id);
    }
}
