//! The request fixtures over real sockets: one answer for one request, none for a part of one,
//! and never a second answer where the framing is in doubt.

use std::time::{Duration, Instant};

use crate::harness::{Backend, Conn, Server, WAIT, on_both};

#[path = "../fixtures/reader.rs"]
mod reader;
use reader::{Fixture, fixtures};

on_both!(
    whole_requests_have_one_answer_and_keep_the_connection,
    refused_requests_have_one_answer_and_end_the_connection,
    parts_of_requests_have_no_answer,
    bodies_that_stop_are_given_up,
);

/// A request that would be answered on every connection that is still in step.
const PROBE: &[u8] = b"GET /v1/health HTTP/1.1\r\nHost: h\r\n\r\n";

/// A fixture as it is sent: one with a body goes to a route that reads bodies.
fn bytes_of(fixture: &Fixture) -> Vec<u8> {
    let text = fixture
        .bytes
        .strip_prefix(b"POST / HTTP/1.1\r\nHost: h\r\n");
    match text {
        Some(rest) => [
            &b"POST /v1/processes/run HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"[..],
            rest,
        ]
        .concat(),
        None => fixture.bytes.clone(),
    }
}

/// Sends a fixture in one piece, or in two with a pause between them.
fn send(server: &Server, fixture: &Fixture, halves: bool) -> Conn {
    let bytes = bytes_of(fixture);
    let mut conn = server.conn();
    if halves {
        let (front, back) = bytes.split_at(bytes.len() / 2);
        conn.send_some(front);
        std::thread::sleep(Duration::from_millis(2));
        conn.send_some(back);
    } else {
        conn.send_some(bytes);
    }
    conn
}

fn each(server: &Server, wanted: impl Fn(&str) -> bool, check: impl Fn(&Fixture, Conn)) {
    let mut count = 0;
    for fixture in fixtures() {
        if wanted(fixture.outcome) {
            for halves in [false, true] {
                check(&fixture, send(server, &fixture, halves));
            }
            count += 1;
        }
    }
    assert!(count > 2, "{count} fixtures");
    server.get("/v1/health").expect(200);
    assert_eq!(
        server.get("/v1/processes").json()["processes"],
        serde_json::json!([])
    );
}

fn whole_requests_have_one_answer_and_keep_the_connection(backend: Backend) {
    let server = Server::open(backend);
    each(
        &server,
        |outcome| matches!(outcome, "ok" | "more"),
        |Fixture { name, outcome, .. }, mut conn| {
            let first = conn.try_response("GET", WAIT);
            let first = first.unwrap_or_else(|| panic!("{name}: no answer"));
            assert!(first.status >= 200, "{name}: {first:?}");
            if *outcome == "ok" && !first.says_close() {
                conn.send_some(PROBE);
                let next = conn.try_response("GET", WAIT);
                let next = next.unwrap_or_else(|| panic!("{name}: no second answer"));
                assert_eq!(next.status, 200, "{name}");
            }
            conn.finish_writing();
            conn.expect_closed();
        },
    );
}

fn refused_requests_have_one_answer_and_end_the_connection(backend: Backend) {
    let server = Server::open(backend);
    each(
        &server,
        |outcome| !matches!(outcome, "ok" | "more" | "wait"),
        |Fixture { name, outcome, .. }, mut conn| {
            conn.send_some(PROBE);
            let answer = conn.try_response("POST", WAIT);
            let answer = answer.unwrap_or_else(|| panic!("{name}: no answer"));
            if let Ok(status) = outcome.parse::<u16>() {
                assert_eq!(answer.status, status, "{name}");
            }
            assert!(answer.says_close(), "{name}: {:?}", answer.headers);
            conn.expect_closed();
        },
    );
}

fn parts_of_requests_have_no_answer(backend: Backend) {
    let server = Server::open(backend);
    let mut waiting = Vec::new();
    for fixture in fixtures().iter().filter(|f| f.outcome == "wait") {
        waiting.push((fixture.name, send(&server, fixture, true)));
    }
    server.get("/v1/health").expect(200);
    std::thread::sleep(Duration::from_millis(300));
    for (name, mut conn) in waiting {
        conn.finish_writing();
        assert!(conn.read_to_end().is_empty(), "{name}");
    }
}

fn bodies_that_stop_are_given_up(backend: Backend) {
    let server = Server::open(backend);
    let start = Instant::now();
    let mut waiting = Vec::new();
    for framing in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        for part in ["", "5\r\nhe"] {
            let mut conn = server.conn();
            conn.send(format!(
                "POST /v1/processes/run HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
                 {framing}\r\n\r\n{}",
                if framing.starts_with('C') && !part.is_empty() {
                    "{"
                } else {
                    part
                }
            ));
            waiting.push(conn);
        }
    }
    for conn in &mut waiting {
        let answer = conn.try_response("POST", WAIT).expect("408");
        assert!(answer.says_close());
        answer.problem(408, "invalid_request");
        conn.expect_closed();
    }
    let waited = start.elapsed();
    assert!(waited > Duration::from_secs(10), "{waited:?} is no time");
}
