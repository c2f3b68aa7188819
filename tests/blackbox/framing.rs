//! 14.30a, 14.31 and RFC 9112: refusing every doubt about where a request ends.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::books::Books;
use crate::harness::{Backend, Conn, Problem, Response, Server, eventually, on_both, procfs, sh};

on_both!(
    doubtful_framing_is_400_and_closed,
    doubtful_hosts_are_400_and_closed,
    doubtful_chunks_are_refused,
    chunked_wins_over_content_length_and_nothing_follows,
    a_bad_request_does_not_hurt_the_one_before_it,
    a_half_sent_head_is_not_kept_open,
    a_half_close_after_the_request_is_answered,
    unread_request_bodies_do_not_become_requests,
    a_storm_of_broken_clients_leaves_nothing_behind,
);

/// Sends raw bytes; the answer, if there is one, must be followed by the close.
#[track_caller]
fn raw(server: &Server, bytes: impl AsRef<[u8]>) -> Response {
    let mut conn = server.conn();
    conn.send_some(bytes.as_ref());
    let answer = conn.response("GET");
    conn.expect_closed();
    answer
}

fn doubtful_framing_is_400_and_closed(backend: Backend) {
    let server = Server::open(backend);
    let host = format!("Host: {}", server.address);
    let run =
        format!("POST /v1/processes/run HTTP/1.1\r\n{host}\r\nContent-Type: application/json");
    let get = format!("GET /v1/health HTTP/1.1\r\n{host}");
    let cases: Vec<(&str, String)> = vec![
        (
            "two lengths",
            format!("{run}\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{{}} "),
        ),
        (
            "a list of lengths",
            format!("{run}\r\nContent-Length: 2, 3\r\n\r\n{{}}"),
        ),
        (
            "plus sign",
            format!("{run}\r\nContent-Length: +2\r\n\r\n{{}}"),
        ),
        (
            "minus sign",
            format!("{run}\r\nContent-Length: -2\r\n\r\n{{}}"),
        ),
        (
            "hexadecimal",
            format!("{run}\r\nContent-Length: 0x2\r\n\r\n{{}}"),
        ),
        ("empty length", format!("{run}\r\nContent-Length:\r\n\r\n")),
        (
            "length over u64",
            format!("{run}\r\nContent-Length: 18446744073709551616\r\n\r\n"),
        ),
        (
            "length with a unit",
            format!("{run}\r\nContent-Length: 2 bytes\r\n\r\n{{}}"),
        ),
        (
            "unknown coding",
            format!("{run}\r\nTransfer-Encoding: gzip\r\n\r\n"),
        ),
        (
            "chunked not last",
            format!("{run}\r\nTransfer-Encoding: chunked, gzip\r\n\r\n"),
        ),
        (
            "chunked twice",
            format!("{run}\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            "coding with a tab",
            format!("{run}\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            "identity",
            format!("{run}\r\nTransfer-Encoding: identity\r\n\r\n"),
        ),
        (
            "blank before the colon",
            format!("{get}\r\nX-A : b\r\n\r\n"),
        ),
        (
            "length with a blank",
            format!("{run}\r\nContent-Length : 2\r\n\r\n{{}}"),
        ),
        ("folded line", format!("{get}\r\nX-A: b\r\n c\r\n\r\n")),
        ("folded by a tab", format!("{get}\r\nX-A: b\r\n\tc\r\n\r\n")),
        (
            "blank before the first header",
            format!("GET / HTTP/1.1\r\n {host}\r\n\r\n"),
        ),
        ("no colon", format!("{get}\r\nnonsense\r\n\r\n")),
        ("empty name", format!("{get}\r\n: x\r\n\r\n")),
        ("name with a separator", format!("{get}\r\nX(A): x\r\n\r\n")),
        ("NUL in a value", format!("{get}\r\nX-A: a\0b\r\n\r\n")),
        ("bare CR in a value", format!("{get}\r\nX-A: a\rb\r\n\r\n")),
        (
            "bare LF ends",
            format!("GET /v1/health HTTP/1.1\n{host}\n\n"),
        ),
        ("bare LF inside", format!("{get}\r\nX-A: a\nX-B: b\r\n\r\n")),
        (
            "NUL in the target",
            format!("GET /v1/he\0alth HTTP/1.1\r\n{host}\r\n\r\n"),
        ),
        (
            "two blanks",
            format!("GET  /v1/health HTTP/1.1\r\n{host}\r\n\r\n"),
        ),
        (
            "blank in the target",
            format!("GET /v1/health x HTTP/1.1\r\n{host}\r\n\r\n"),
        ),
        ("no version", format!("GET /v1/health\r\n{host}\r\n\r\n")),
        (
            "lower-case version",
            format!("GET /v1/health http/1.1\r\n{host}\r\n\r\n"),
        ),
        (
            "version 2.0",
            format!("GET /v1/health HTTP/2.0\r\n{host}\r\n\r\n"),
        ),
        ("no target", format!("GET HTTP/1.1\r\n{host}\r\n\r\n")),
        (
            "method with a separator",
            format!("G(T / HTTP/1.1\r\n{host}\r\n\r\n"),
        ),
        (
            "HTTP/2 preface",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        ),
        ("garbage", "\x01\x02\x03\x04\r\n\r\n".to_owned()),
        (
            "TLS",
            "\x16\x03\x01\x02\x00\x01\x00\x01\u{7f}\x03\x03\r\n\r\n".to_owned(),
        ),
    ];
    for (name, bytes) in cases {
        let mut conn = server.conn();
        conn.send_some(&bytes);
        let answer = conn.response("GET");
        // A version this server does not speak may be called so (RFC 9110, 15.6.6).
        let version = matches!(name, "version 2.0" | "HTTP/2 preface");
        assert!(
            answer.status == 400 || version && answer.status == 505,
            "{name}: {answer:?}"
        );
        assert!(answer.body.is_empty(), "{name}: {answer:?}");
        conn.expect_closed();
    }
    server.get("/v1/health").expect(200);
}

fn doubtful_hosts_are_400_and_closed(backend: Backend) {
    let server = Server::open(backend);
    let good = server.address;
    raw(&server, "GET /v1/health HTTP/1.1\r\n\r\n").expect_empty(400);
    let doubled = format!("GET /v1/health HTTP/1.1\r\nHost: {good}\r\nHost: {good}\r\n\r\n");
    raw(&server, doubled).expect_empty(400);
    for host in [
        "a b",
        "a/b",
        "user@127.0.0.1",
        "127.0.0.1:port",
        "127.0.0.1:1:2",
        "127.0.0.1, localhost",
        "[::1",
        "::1]",
        "localhost#x",
        "localhost?x",
        "local\\host",
    ] {
        let answer = raw(
            &server,
            format!("GET /v1/health HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        );
        assert_eq!(answer.status, 400, "{host}");
        assert!(answer.body.is_empty(), "{host}");
    }
    // HTTP/1.0 knows no Host.
    raw(&server, "GET /v1/health HTTP/1.0\r\n\r\n").expect(200);
}

fn doubtful_chunks_are_refused(backend: Backend) {
    let server = Server::open(backend);
    let head = format!(
        "POST /v1/processes/run HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        server.address
    );
    let marker = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
        "chunks-{}-{}",
        std::process::id(),
        backend.word()
    ));
    let json = json!({"command": "touch", "args": [marker.to_str().unwrap()]}).to_string();
    let size = json.len();
    let spaces = " ".repeat(70_000);
    for (name, body) in [
        ("no size", format!("\r\n{json}\r\n0\r\n\r\n")),
        ("sign", format!("+{size:x}\r\n{json}\r\n0\r\n\r\n")),
        ("0x", format!("0x{size:x}\r\n{json}\r\n0\r\n\r\n")),
        (
            "blank in front",
            format!(" {size:x}\r\n{json}\r\n0\r\n\r\n"),
        ),
        ("overflow", format!("1{:016x}\r\n{json}\r\n0\r\n\r\n", size)),
        (
            "too short",
            format!("{:x}\r\n{json}\r\n0\r\n\r\n", size - 1),
        ),
        ("too long", format!("{:x}\r\n{json}\r\n0\r\n\r\n", size + 1)),
        (
            "bare LF after the size",
            format!("{size:x}\n{json}\r\n0\r\n\r\n"),
        ),
        (
            "bare LF after the data",
            format!("{size:x}\r\n{json}\n0\r\n\r\n"),
        ),
        (
            "endless extension",
            format!("{size:x};a={spaces}\r\n{json}\r\n0\r\n\r\n"),
        ),
        (
            "endless trailers",
            format!("{size:x}\r\n{json}\r\n0\r\nX-T: {spaces}\r\n\r\n"),
        ),
    ] {
        let mut conn = server.conn();
        conn.send_some(&head);
        conn.send_some(&body);
        let answer = conn.response("POST");
        assert!(
            matches!(answer.status, 400 | 413 | 431),
            "{name}: {answer:?}"
        );
        conn.expect_closed();
        assert!(!marker.exists(), "{name}: the request was executed");
    }
    // Short extensions and trailers are allowed, and ignored.
    let mut conn = server.conn();
    let body = r#"{"command":"true"}"#;
    conn.send(format!(
        "{head}{:x};name=\"v\"\r\n{body}\r\n0\r\nX-Trailer: v\r\n\r\n",
        body.len()
    ));
    conn.response("POST").expect(200);
}

fn chunked_wins_over_content_length_and_nothing_follows(backend: Backend) {
    let server = Server::open(backend);
    let host = server.address;
    let body = r#"{"command":"echo","args":["chunked"]}"#;
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let smuggled = format!("GET /v1/processes/smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for (lengths, codings) in [
        (
            format!("Content-Length: {}\r\n", chunks.len()),
            "Transfer-Encoding: chunked\r\n",
        ),
        (
            "Content-Length: 4\r\n".to_owned(),
            "Transfer-Encoding: chunked\r\n",
        ),
        (
            "Content-Length: 0\r\n".to_owned(),
            "Transfer-Encoding: Chunked\r\n",
        ),
    ] {
        for fields in [format!("{lengths}{codings}"), format!("{codings}{lengths}")] {
            let mut conn = server.conn();
            conn.send_some(format!(
                "POST /v1/processes/run HTTP/1.1\r\nHost: {host}\r\n\
                 Content-Type: application/json\r\n{fields}\r\n{chunks}{smuggled}"
            ));
            let answer = conn.response("POST");
            assert!(matches!(answer.status, 200 | 400), "{answer:?}");
            if answer.status == 200 {
                assert_eq!(answer.json()["stdout"], "chunked\n");
            }
            conn.expect_closed();
        }
    }
}

fn a_bad_request_does_not_hurt_the_one_before_it(backend: Backend) {
    let server = Server::open(backend);
    let mut conn = server.conn();
    let get = format!(
        "GET /v1/health HTTP/1.1\r\nHost: {}\r\n\r\n",
        server.address
    );
    conn.send(format!("{get}{get}nonsense\r\n\r\n{get}"));
    conn.response("GET").expect(200);
    conn.response("GET").expect(200);
    conn.response("GET").expect_empty(400);
    conn.expect_closed();
}

fn a_half_sent_head_is_not_kept_open(backend: Backend) {
    let server = Server::open(backend);
    let start = Instant::now();
    let mut halves: Vec<Conn> = [
        "G",
        "GET /v1/health HTTP/1.1\r\n",
        "GET /v1/health HTTP/1.1\r\nHost: localhost\r\nX-A: b",
    ]
    .map(|half| {
        let mut conn = server.conn();
        conn.send(half);
        conn
    })
    .into();
    // One that drips a byte now and then, and one that has been served before.
    let mut dripping = TcpStream::connect(server.address).unwrap();
    let drip = std::thread::spawn(move || {
        let end = Instant::now() + crate::harness::WAIT;
        dripping
            .write_all(b"GET /v1/health HTTP/1.1\r\nX-Slow: ")
            .unwrap();
        while dripping.write_all(b"x").is_ok() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(300));
        }
        Instant::now() < end
    });
    let mut served = server.conn();
    served.send(format!(
        "GET /v1/health HTTP/1.1\r\nHost: {}\r\n\r\nGET /v1",
        server.address
    ));
    served.response("GET").expect(200);
    halves.push(served);
    for conn in &mut halves {
        if let Some(answer) = conn.try_response("GET", crate::harness::WAIT) {
            answer.expect_empty(408);
            conn.expect_closed();
        }
    }
    assert!(
        start.elapsed() > Duration::from_secs(2),
        "{:?} is no time",
        start.elapsed()
    );
    assert!(
        drip.join().unwrap(),
        "the dripping connection was kept open"
    );
    server.get("/v1/health").expect(200);
}

fn a_half_close_after_the_request_is_answered(backend: Backend) {
    let server = Server::open(backend);
    let mut conn = server.conn();
    conn.send(format!(
        "GET /v1/health HTTP/1.1\r\nHost: {}\r\n\r\n",
        server.address
    ));
    conn.finish_writing();
    conn.response("GET").expect(200);
    conn.expect_closed();
    // A half-close in the middle of a request ends it without an execution.
    let mut conn = server.conn();
    conn.send(format!(
        "POST /v1/processes HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n{{\"command\":\"cat\"}}",
        server.address
    ));
    conn.finish_writing();
    if let Some(answer) = conn.try_response("POST", crate::harness::WAIT) {
        answer.expect(400);
    }
    assert_eq!(server.get("/v1/processes").json(), json!({"processes": []}));
}

fn unread_request_bodies_do_not_become_requests(backend: Backend) {
    let server = Server::open(backend);
    let host = server.address;
    let inner = format!("POST /v1/processes HTTP/1.1\r\nHost: {host}\r\n\r\n");
    // Answered without looking at the body: 404, 405, 415, and a GET with a body.
    for (line, status) in [
        ("POST /nowhere", 404),
        ("PUT /v1/processes", 405),
        ("POST /v1/processes/run", 415),
        ("GET /v1/health", 200),
        ("POST /v1/processes/none/kill", 404),
    ] {
        let mut conn = server.conn();
        conn.send_some(format!(
            "{line} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{inner}",
            inner.len()
        ));
        conn.send_some(format!(
            "GET /v1/processes/next HTTP/1.1\r\nHost: {host}\r\n\r\n"
        ));
        let method = line.split(' ').next().unwrap();
        let answer = conn.response(method);
        assert_eq!(answer.status, status, "{line}");
        // Either the body was skipped and the next request is answered, or it ends here.
        match conn.try_response("GET", crate::harness::WAIT) {
            Some(next) => Problem::no_process("next").check(&next),
            None => assert!(answer.says_close(), "{line}: closed without a word"),
        }
    }
}

fn a_storm_of_broken_clients_leaves_nothing_behind(backend: Backend) {
    let server = Server::open(backend);
    let host = server.address;
    let id = server.spawn(&sh(
        "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.01; done",
    ));
    server.await_output(&id, "line 1\n");
    // A run that was cut off before it began leaves its group to the next one.
    let descriptors = || Books::of(&server).descriptors;
    let before = descriptors();
    let one = |n: usize| {
        let mut conn = server.conn();
        match n % 8 {
            0 => conn.send_some("GET /v1/hea"),
            1 => conn.send_some([0xff; 5000]),
            2 => {
                let target = format!("/v1/processes/{id}/logs?follow=true");
                conn.send_some(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
                std::thread::sleep(Duration::from_millis(30));
            }
            3 => conn.send_some(format!(
                "POST /v1/processes/run HTTP/1.1\r\nHost: {host}\r\nContent-Length: 900\r\n\r\n{{"
            )),
            4 => {
                let get = format!("GET /v1/processes HTTP/1.1\r\nHost: {host}\r\n\r\n");
                conn.send_some(get.repeat(50));
            }
            5 => {
                let body = r#"{"command":"sleep","args":["30"]}"#;
                conn.send_some(format!(
                    "POST /v1/processes/run HTTP/1.1\r\nHost: {host}\r\n\
                     Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ));
                std::thread::sleep(Duration::from_millis(20));
            }
            6 => conn.finish_writing(),
            _ => {}
        }
        if n.is_multiple_of(3) {
            conn.reset();
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..10 {
            let one = &one;
            scope.spawn(move || (0..20).for_each(|n| one(thread * 20 + n)));
        }
    });
    server.get("/v1/health").expect(200);
    eventually("the descriptors of the dead connections", || {
        (server.connections() == 0 && descriptors() <= before).then_some(())
    });
    // The cut-off runs are gone as well: only the writer and its sleep are left.
    eventually("the trees of the cut-off runs", || {
        let sleeps = server.survivors().into_iter().filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line == b"sleep\x0030\0"
        });
        (sleeps.count() == 0 && procfs::zombies_of(server.pid).is_empty()).then_some(())
    });
    assert_eq!(server.info(&id)["status"], "running");
}
