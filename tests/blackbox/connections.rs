//! Connections without a token, where there is no room for more: the oldest of them goes.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Backend, Conn, Launch, Server, WAIT, eventually, on_both};

on_both!(
    where_connections_are_full_who_has_a_token_gets_in_and_the_oldest_without_one_goes,
    who_was_let_in_is_not_sent_off_and_one_more_is_told,
    on_an_open_server_who_never_asked_goes_first,
    idle_strangers_leave_descriptors_for_what_others_start,
    unfinished_heads_of_strangers_have_a_bound_together,
    a_full_metrics_address_answers_the_next_scrape,
);

const TOKEN: &str = "Authorization: Bearer secret\r\n";

fn with(backend: Backend, args: &[&str]) -> Server {
    Launch::new(backend)
        .args(&["--token", "secret"])
        .args(args)
        .start()
}

/// The status of a list of processes that is asked for with these fields.
fn ask(conn: &mut Conn, fields: &str) -> u16 {
    conn.send_some(format!(
        "GET /v1/processes HTTP/1.1\r\nHost: h\r\n{fields}\r\n"
    ));
    conn.response("GET").status
}

/// A connection that had to make room is told so, whether it has asked or not: it may be about to.
fn expect_sent_off(conn: &mut Conn) {
    let told = conn.response("GET");
    let problem = told.problem(503, "unavailable");
    assert_eq!(problem["code"], "limit_reached");
    assert!(told.says_close() && told.header("retry-after").is_some());
    conn.expect_closed();
}

fn where_connections_are_full_who_has_a_token_gets_in_and_the_oldest_without_one_goes(
    backend: Backend,
) {
    let server = with(backend, &["--max-connections", "64"]);
    let mut first = server.conn();
    assert_eq!(ask(&mut first, TOKEN), 200);
    // All others are strangers' : one that was refused, one that has not said all, and many that say
    // nothing.
    let mut refused = server.conn();
    assert_eq!(ask(&mut refused, ""), 401);
    let mut unfinished = server.conn();
    unfinished.send("GET /v1/processes HTTP/1.1\r\nHost");
    let mut idle: Vec<Conn> = (0..61).map(|_| server.conn()).collect();
    eventually("all places to be taken", || {
        (server.connections() == 64).then_some(())
    });
    let mut more = [server.conn(), server.conn()];
    for conn in &mut more {
        assert_eq!(ask(conn, TOKEN), 200);
    }
    for conn in [&mut refused, &mut unfinished] {
        expect_sent_off(conn);
    }
    assert_eq!(ask(&mut first, TOKEN), 200);
    // Any number of strangers keeps nobody out.
    for _ in 0..5 {
        idle.extend((0..100).map(|_| server.conn()));
        assert_eq!(ask(&mut server.conn(), TOKEN), 200);
        assert_eq!(ask(&mut first, TOKEN), 200);
    }
    for conn in &mut more {
        assert_eq!(ask(conn, TOKEN), 200);
    }
}

fn who_was_let_in_is_not_sent_off_and_one_more_is_told(backend: Backend) {
    let server = with(backend, &["--max-connections", "3"]);
    let mut all: Vec<Conn> = (0..3).map(|_| server.conn()).collect();
    for conn in &mut all {
        assert_eq!(ask(conn, TOKEN), 200);
    }
    let mut more = server.conn();
    assert_eq!(ask(&mut more, TOKEN), 503);
    for conn in &mut all {
        assert_eq!(ask(conn, TOKEN), 200);
    }
}

fn on_an_open_server_who_never_asked_goes_first(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token", "--max-connections", "3"])
        .start();
    let mut known = server.conn();
    assert_eq!(ask(&mut known, ""), 200);
    let mut idle = [server.conn(), server.conn()];
    let mut more = server.conn();
    assert_eq!(ask(&mut more, ""), 200);
    expect_sent_off(&mut idle[0]);
    assert_eq!(ask(&mut known, ""), 200);
}

fn idle_strangers_leave_descriptors_for_what_others_start(backend: Backend) {
    let wrapper = ["sh", "-c", "ulimit -n 128; exec \"$@\"", "sh"];
    let server = Launch::new(backend)
        .args(&["--token", "secret"])
        .through_exec(&wrapper)
        .start();
    let mut operator = server.conn();
    assert_eq!(ask(&mut operator, TOKEN), 200);
    let _idle: Vec<Conn> = (0..300).map(|_| server.conn()).collect();
    let body = json!({"command": "echo", "args": ["x"]}).to_string();
    let run = |conn: &mut Conn| {
        conn.send(format!(
            "POST /v1/processes/run HTTP/1.1\r\nHost: h\r\n{TOKEN}Content-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let answer = conn.try_response("POST", WAIT)?;
        (answer.status == 200).then(|| assert_eq!(answer.json()["stdout"], "x\n"))
    };
    // It may have to wait for strangers that are about to go.
    eventually("a run on an open connection", || run(&mut operator));
    eventually("one on a new connection", || run(&mut server.conn()));
}

fn unfinished_heads_of_strangers_have_a_bound_together(backend: Backend) {
    let server = with(backend, &["--memory-max", "8M"]);
    let mut operator = server.conn();
    // 512 KiB: a sixteenth of the budget.
    let head = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(100_000));
    let mut all: Vec<Conn> = (0..20)
        .map(|_| {
            let mut conn = server.conn();
            conn.send_some(&head);
            conn
        })
        .collect();
    let told = all[0].response("GET");
    assert_eq!(told.problem(503, "unavailable")["code"], "limit_reached");
    let end = Instant::now() + WAIT;
    loop {
        operator.send(format!("GET /v1/server HTTP/1.1\r\nHost: h\r\n{TOKEN}\r\n"));
        let info = operator.response("GET").expect(200).json();
        // Those that go hold theirs until their tasks have had a turn.
        if info["counts"]["connections"].as_u64() < Some(8) {
            let held = info["memory"]["bodiesBytes"].as_u64().unwrap();
            assert!(held <= 800_000, "{held}");
            break;
        }
        assert!(Instant::now() < end, "{info}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn a_full_metrics_address_answers_the_next_scrape(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token", "--metrics-listen", "127.0.0.1:0"])
        .start();
    let address = crate::metrics::metrics_address(&server);
    let address = address.parse().expect("an address");
    let _idle: Vec<Conn> = (0..40).map(|_| Conn::open(address)).collect();
    for _ in 0..3 {
        let mut scrape = Conn::open(address);
        scrape.send("GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n");
        scrape.response("GET").expect(200);
    }
}
