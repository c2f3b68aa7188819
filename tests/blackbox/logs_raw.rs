//! `GET …/logs/raw`: the bytes of a log, whole, by range and from an offset.

use std::io::Read as _;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Backend, Conn, Response, Server, WAIT, eventually, on_both, sh};

on_both!(
    raw_logs_are_what_was_written_byte_for_byte,
    a_range_is_answered_as_rfc_9110_says,
    what_is_not_there_cannot_be_satisfied,
    everything_else_gets_the_whole,
    an_etag_tells_whether_a_part_is_of_the_same,
    the_length_of_a_running_process_is_not_known,
    offsets_stay_true_after_eviction,
    an_offset_begins_there_and_excludes_a_range,
    a_follower_gets_everything_from_its_offset_to_the_exit,
    a_follower_may_wait_for_an_offset_that_is_to_come,
    a_follower_that_eviction_has_passed_is_cut_off_and_finds_where_to_go_on,
    a_slow_reader_of_ten_megabytes_gets_every_byte,
    entries_of_one_byte_of_two_streams_come_in_their_order,
    a_process_that_is_deleted_meanwhile_is_cut_off,
    readers_that_stall_hold_nothing,
    old_clients_and_pipelined_requests_are_served,
    the_end_of_the_server_ends_a_follower,
);

fn target(id: &str, query: &str) -> String {
    format!("/v1/processes/{id}/logs/raw{query}")
}

fn raw(server: &Server, id: &str, query: &str, headers: &[(&str, &str)]) -> Response {
    server.request("GET", &target(id, query), headers, b"")
}

fn ranged(server: &Server, id: &str, range: &str) -> Response {
    raw(server, id, "", &[("Range", range)])
}

/// The offsets that the head names.
fn offsets(answer: &Response) -> (u64, u64) {
    let number = |name: &str| answer.header(name).expect(name).parse().expect("a number");
    (
        number("procring-first-offset"),
        number("procring-end-offset"),
    )
}

/// Begins a request on a connection of its own, which ends with the answer.
fn ask(server: &Server, target: &str) -> Conn {
    let mut conn = server.conn();
    let host = server.address;
    conn.send(format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    ));
    conn
}

/// An exited process that wrote the digits 0 to 9.
fn digits(server: &Server) -> String {
    let id = server.spawn(&sh("printf 0123456789"));
    server.await_exit(&id);
    id
}

/// A process of which each line of input makes the next thousand bytes of one digit an entry; with
/// a log of 3000 bytes.
fn thousands(server: &Server, count: usize) -> String {
    server.configure(&[("maxLogBytesPerProcess", 3000)]);
    let id = server.spawn(&sh(&format!(
        "i=0; while [ $i -lt {count} ]; do head -c 1000 /dev/zero | tr '\\0' $i; i=$((i+1)); read go
         done; read go"
    )));
    let texts: Vec<_> = (0..count).map(|n| n.to_string().repeat(1000)).collect();
    server.feed_after_each(&id, &texts.iter().map(String::as_str).collect::<Vec<_>>());
    id
}

fn raw_logs_are_what_was_written_byte_for_byte(backend: Backend) {
    let server = Server::open(backend);
    let file = std::env::temp_dir().join(format!("procring-raw-{}-{}", server.pid, backend.word()));
    let path = file.to_str().unwrap();
    let id = server.spawn(&sh(&format!(
        "head -c 9000000 /dev/urandom | tee {path}; printf 'no end' >&2"
    )));
    server.await_exit(&id);
    let written = std::fs::read(&file).expect("what tee wrote");
    std::fs::remove_file(&file).unwrap();
    let answer = raw(&server, &id, "?stream=stdout", &[]).expect(200);
    assert!(answer.body == written, "{} bytes", answer.body.len());
    assert_eq!(
        answer.header("content-type"),
        Some("application/octet-stream")
    );
    assert_eq!(answer.header("content-length"), Some("9000000"));
    assert_eq!(answer.header("accept-ranges"), Some("bytes"));
    assert_eq!(offsets(&answer), (0, 9_000_000));
    assert_eq!(raw(&server, &id, "?stream=stderr", &[]).body, b"no end");
    assert_eq!(raw(&server, &id, "?stream=pty", &[]).expect(200).body, b"");
    let both = raw(&server, &id, "", &[]).expect(200);
    assert_eq!(offsets(&both), (0, 9_000_006));
    assert!(both.body == server.output(&id, "combined"));
    assert_eq!(
        raw(&server, &id, "?stream=combined", &[]).body.len(),
        9_000_006
    );
    let last = ranged(&server, &id, "bytes=-1000").expect(206);
    assert!(last.body == both.body[both.body.len() - 1000..]);
    let tty = server.spawn(&json!({"command": "printf", "args": ["a\nb"], "tty": true}));
    server.await_exit(&tty);
    assert_eq!(raw(&server, &tty, "", &[]).body, b"a\r\nb");
    raw(&server, "proc_999", "", &[]).problem(404, "not_found");
    raw(&server, &id, "?stream=all", &[]).problem(400, "invalid_request");
    let post = server.post_empty(&target(&id, ""));
    assert_eq!((post.status, post.header("allow")), (405, Some("GET,HEAD")));
}

fn a_range_is_answered_as_rfc_9110_says(backend: Backend) {
    let server = Server::open(backend);
    let id = digits(&server);
    for (range, bounds, body) in [
        ("bytes=0-0", "0-0", "0"),
        ("bytes=0-", "0-9", "0123456789"),
        ("bytes=2-4", "2-4", "234"),
        ("bytes=9-9", "9-9", "9"),
        ("bytes=7-100", "7-9", "789"),
        ("bytes=7-99999999999999999999", "7-9", "789"),
        ("bytes=-3", "7-9", "789"),
        ("bytes=-100", "0-9", "0123456789"),
        ("Bytes= 1-1 ,", "1-1", "1"),
    ] {
        let answer = ranged(&server, &id, range).expect(206);
        let expected = format!("bytes {bounds}/10");
        assert_eq!(answer.header("content-range"), Some(&*expected), "{range}");
        assert_eq!(answer.text(), body);
        assert_eq!(offsets(&answer), (0, 10));
    }
}

fn what_is_not_there_cannot_be_satisfied(backend: Backend) {
    let server = Server::open(backend);
    let id = digits(&server);
    let empty = server.spawn(&sh("true"));
    server.await_exit(&empty);
    for (id, range, end) in [
        (&id, "bytes=10-", 10),
        (&id, "bytes=10-20", 10),
        (&id, "bytes=99999999999999999999-", 10),
        (&id, "bytes=-0", 10),
        (&empty, "bytes=0-", 0),
        (&empty, "bytes=-5", 0),
    ] {
        let answer = ranged(&server, id, range);
        let problem = answer.problem(416, "invalid_request");
        let expected = format!("bytes */{end}");
        assert_eq!(answer.header("content-range"), Some(&*expected), "{range}");
        assert_eq!(problem["details"]["firstOffset"], 0);
        assert_eq!(problem["details"]["endOffset"], end);
        assert_eq!(problem["code"], "range_not_satisfiable");
    }
}

fn everything_else_gets_the_whole(backend: Backend) {
    let server = Server::open(backend);
    let id = digits(&server);
    for range in [
        "bytes=0-1,3-4",
        "bytes=0-0,-1",
        "bytes=5-4",
        "bytes=a-b",
        "bytes=",
        "bytes=-",
        "bytes=1-2-3",
        "lines=1-2",
        "bytes 1-2",
        "",
    ] {
        let answer = ranged(&server, &id, range).expect(200);
        assert_eq!(answer.text(), "0123456789", "{range}");
        assert_eq!(answer.header("content-range"), None);
    }
    let twice = [("Range", "bytes=1-2"), ("Range", "bytes=1-2")];
    raw(&server, &id, "", &twice).expect(200);
    // No method but GET knows ranges (RFC 9110, 14.2).
    for headers in [&[][..], &[("Range", "bytes=1-2")]] {
        let head = server
            .request("HEAD", &target(&id, ""), headers, b"")
            .expect(200);
        assert_eq!(head.header("content-length"), Some("10"));
        assert_eq!(offsets(&head), (0, 10));
        assert!(head.header("etag").is_some());
    }
}

fn an_etag_tells_whether_a_part_is_of_the_same(backend: Backend) {
    let server = Server::open(backend);
    let (id, other) = (digits(&server), digits(&server));
    let tag = |id: &str, query: &str| {
        let answer = raw(&server, id, query, &[]).expect(200);
        answer.header("etag").expect("an etag").to_owned()
    };
    let etag = tag(&id, "");
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 2);
    assert_eq!(tag(&id, ""), etag);
    assert_ne!(tag(&id, "?stream=stdout"), etag);
    assert_ne!(tag(&other, ""), etag);
    let part = |value: &str| {
        let headers = [("Range", "bytes=3-"), ("If-Range", value)];
        raw(&server, &id, "", &headers)
    };
    let answer = part(&etag).expect(206);
    assert_eq!(
        (answer.text(), answer.header("etag")),
        ("3456789", Some(&*etag))
    );
    for value in [
        "\"another\"",
        &format!("W/{etag}"),
        "Thu, 26 Nov 2026 10:00:00 GMT",
        "*",
    ] {
        assert_eq!(part(value).expect(200).text(), "0123456789", "{value}");
    }
    for value in [&*etag, "*", &format!("\"x\", W/{etag}")] {
        let answer = raw(&server, &id, "", &[("If-None-Match", value)]);
        let answer = answer.expect_empty(304);
        assert_eq!(answer.header("etag"), Some(&*etag));
    }
    raw(&server, &id, "", &[("If-None-Match", "\"x\"")]).expect(200);
}

fn the_length_of_a_running_process_is_not_known(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("printf 0123456789; read go"));
    server.await_output(&id, "9");
    for (range, bounds, body) in [
        ("bytes=2-4", "bytes 2-4/*", "234"),
        ("bytes=8-", "bytes 8-9/*", "89"),
        ("bytes=-1", "bytes 9-9/*", "9"),
    ] {
        let answer = ranged(&server, &id, range).expect(206);
        assert_eq!(answer.header("content-range"), Some(bounds));
        assert_eq!((answer.text(), answer.header("etag")), (body, None));
    }
    // There is no tag that could be the same.
    let headers = [("Range", "bytes=3-"), ("If-Range", "\"any\"")];
    raw(&server, &id, "", &headers).expect(200);
    raw(&server, &id, "", &[("If-None-Match", "*")]).expect(200);
    let answer = ranged(&server, &id, "bytes=10-");
    assert_eq!(
        answer.problem(416, "invalid_request")["details"]["endOffset"],
        10
    );
    server.feed(&id, "\n");
    server.await_exit(&id);
    let answer = ranged(&server, &id, "bytes=2-4").expect(206);
    assert_eq!(answer.header("content-range"), Some("bytes 2-4/10"));
}

fn offsets_stay_true_after_eviction(backend: Backend) {
    let server = Server::open(backend);
    let id = thousands(&server, 5);
    let whole = raw(&server, &id, "", &[]).expect(200);
    assert_eq!((offsets(&whole), whole.body.len()), ((2000, 5000), 3000));
    assert_eq!(
        whole.text(),
        ["2", "3", "4"].map(|n| n.repeat(1000)).concat()
    );
    let part = ranged(&server, &id, "bytes=2998-3001").expect(206);
    assert_eq!(part.text(), "2233");
    assert_eq!(part.header("content-range"), Some("bytes 2998-3001/*"));
    for range in ["bytes=0-", "bytes=1999-2500"] {
        let answer = ranged(&server, &id, range);
        let problem = answer.problem(416, "invalid_request");
        assert_eq!(problem["details"]["firstOffset"], 2000, "{problem}");
        assert_eq!(answer.header("content-range"), Some("bytes */5000"));
    }
    // A suffix longer than what is retained gives what is.
    let answer = ranged(&server, &id, "bytes=-4000").expect(206);
    assert_eq!(answer.header("content-range"), Some("bytes 2000-4999/*"));
    server.feed(&id, "\n");
    server.await_exit(&id);
    let answer = ranged(&server, &id, "bytes=-4000").expect(206);
    assert_eq!(answer.header("content-range"), Some("bytes 2000-4999/5000"));
    let stderr = raw(&server, &id, "?stream=stderr", &[]).expect(200);
    assert_eq!((offsets(&stderr), stderr.body.len()), ((0, 0), 0));
    // Of an entry that is longer than the log may be, the end is kept, at its place.
    server.configure(&[("maxLogBytesPerProcess", 100)]);
    let id = server.spawn(&sh("head -c 4000 /dev/zero; printf 0123456789"));
    server.await_exit(&id);
    let answer = raw(&server, &id, "", &[]).expect(200);
    let (first, end) = offsets(&answer);
    assert_eq!((end, end - first), (4010, answer.body.len() as u64));
    assert!(answer.body.ends_with(b"0123456789"));
}

fn an_offset_begins_there_and_excludes_a_range(backend: Backend) {
    let server = Server::open(backend);
    let id = digits(&server);
    for (offset, body) in [(0, "0123456789"), (7, "789"), (10, "")] {
        let answer = raw(&server, &id, &format!("?offset={offset}"), &[]).expect(200);
        assert_eq!(answer.text(), body);
        assert_eq!(offsets(&answer), (0, 10));
    }
    raw(&server, &id, "?offset=11", &[]).problem(416, "invalid_request");
    raw(&server, &id, "?offset=11&follow=true", &[]).problem(416, "invalid_request");
    let range = [("Range", "bytes=1-2")];
    for query in ["?offset=1", "?follow=true", "?offset=1&follow=true"] {
        raw(&server, &id, query, &range).problem(400, "invalid_request");
    }
    for query in [
        "?offset=",
        "?offset=-1",
        "?offset=x",
        "?offset=1&offset=1",
        "?follow=1",
    ] {
        raw(&server, &id, query, &[]).problem(400, "invalid_request");
    }
}

fn a_follower_gets_everything_from_its_offset_to_the_exit(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh(
        "printf 0123456789; read go; printf abc; printf err >&2; read go",
    ));
    server.await_output(&id, "9");
    let mut whole = ask(&server, &target(&id, "?follow=true"));
    let mut part = ask(&server, &target(&id, "?follow=true&offset=7&stream=stdout"));
    for conn in [&mut whole, &mut part] {
        let head = conn.head(WAIT).expect("a head");
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
        assert_eq!(head.header("cache-control"), Some("no-store"));
        assert_eq!(head.header("x-accel-buffering"), Some("no"));
        assert_eq!(offsets(&head), (0, 10));
    }
    server.feed(&id, "\n");
    server.await_output(&id, "err");
    server.feed(&id, "\n");
    assert_eq!(part.chunks_to_end(), (b"789abc".to_vec(), true));
    let (all, ended) = whole.chunks_to_end();
    assert_eq!((all, ended), (server.output(&id, "combined"), true));
    // The same of one that has exited.
    let mut conn = ask(&server, &target(&id, "?follow=true&offset=9&stream=stdout"));
    conn.head(WAIT).expect("a head");
    assert_eq!(conn.chunks_to_end(), (b"9abc".to_vec(), true));
}

fn a_follower_may_wait_for_an_offset_that_is_to_come(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("printf 01234; read go; printf 56789"));
    server.await_output(&id, "4");
    let mut conn = ask(&server, &target(&id, "?follow=true&offset=8"));
    conn.head(WAIT).expect("a head");
    raw(&server, &id, "?offset=8", &[]).problem(416, "invalid_request");
    server.feed(&id, "\n");
    assert_eq!(conn.chunks_to_end(), (b"89".to_vec(), true));
}

fn a_follower_that_eviction_has_passed_is_cut_off_and_finds_where_to_go_on(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 1_000_000)]);
    let id = server.spawn(&sh("seq 1 1000; read go; seq 1001 6000000"));
    server.await_output(&id, "1000\n");
    let mut reader = ask(&server, &target(&id, "?follow=true"));
    reader.head(WAIT).expect("a head");
    server.feed(&id, "\n");
    server.await_exit(&id);
    let (mut body, whole) = reader.chunks_to_end();
    assert!(!whole, "{} bytes are not all", body.len());
    let lost = raw(
        &server,
        &id,
        &format!("?follow=true&offset={}", body.len()),
        &[],
    );
    let first = lost.problem(416, "invalid_request")["details"]["firstOffset"]
        .as_u64()
        .unwrap();
    assert!(first > body.len() as u64);
    let mut again = ask(
        &server,
        &target(&id, &format!("?follow=true&offset={first}")),
    );
    again.head(WAIT).expect("a head");
    let (rest, whole) = again.chunks_to_end();
    assert!(whole && rest.ends_with(b"\n5999999\n6000000\n"));
    // What came first and what came last are where their offsets say.
    let total = (1..=6_000_000_u64)
        .map(|n| n.to_string().len() as u64 + 1)
        .sum::<u64>();
    assert_eq!(first + rest.len() as u64, total);
    body.truncate(body.iter().rposition(|byte| *byte == b'\n').unwrap() + 1);
    let text = String::from_utf8(body).unwrap();
    assert!(text.lines().zip(1..).all(|(line, n)| line == n.to_string()));
}

fn a_slow_reader_of_ten_megabytes_gets_every_byte(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("seq 1 1300000"));
    server.await_exit(&id);
    let expected: String = (1..=1_300_000).map(|n| format!("{n}\n")).collect();
    for query in ["", "?follow=true"] {
        let mut conn = ask(&server, &target(&id, query));
        let head = conn.head(WAIT).expect("a head");
        // A little at a time, with the socket full most of the while.
        let (mut stream, mut all) = conn.into_parts();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        let mut piece = vec![0; 10_000];
        let mut reads = 0;
        loop {
            match stream.read(&mut piece).expect("bytes in time") {
                0 => break,
                count => all.extend_from_slice(&piece[..count]),
            }
            reads += 1;
            if reads % 64 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let body = match head.header("content-length") {
            Some(length) => {
                assert_eq!(length, expected.len().to_string());
                all
            }
            None => crate::harness::http::unchunked(&all).0,
        };
        assert!(body == expected.as_bytes(), "{} bytes", body.len());
    }
}

fn entries_of_one_byte_of_two_streams_come_in_their_order(backend: Backend) {
    let server = Server::open(backend);
    let script = "i=0; while [ $i -lt 3000 ]; do printf o; printf e >&2; i=$((i+1)); done";
    let id = server.spawn(&sh(script));
    let mut follower = ask(&server, &target(&id, "?follow=true"));
    follower.head(WAIT).expect("a head");
    server.await_exit(&id);
    let both = server.output(&id, "combined");
    assert_eq!(follower.chunks_to_end(), (both.clone(), true));
    assert_eq!(raw(&server, &id, "", &[]).body, both);
    for (stream, byte) in [("stdout", b'o'), ("stderr", b'e')] {
        let answer = raw(&server, &id, &format!("?stream={stream}"), &[]).expect(200);
        assert_eq!(answer.body, vec![byte; 3000]);
        let query = format!("?stream={stream}&offset=1234");
        assert_eq!(raw(&server, &id, &query, &[]).body.len(), 3000 - 1234);
    }
    for first in [0, 1, 2999, 5999] {
        let range = format!("bytes={first}-{}", first + 9);
        let answer = ranged(&server, &id, &range).expect(206);
        let end = (first + 10).min(6000);
        assert_eq!(answer.body, both[first..end]);
    }
    // One entry each, for sure.
    let id = server.spawn(&sh("for pair in a:b c:d e:f g:h i:j; do
             printf ${pair%:*}; read go; printf ${pair#*:} >&2; read go; done"));
    let letters = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    server.feed_after_each(&id, &letters);
    server.await_exit(&id);
    assert_eq!(server.logs(&id, "?tail=0&maxBytes=1")["nextSince"], 10);
    for (query, text) in [
        ("", "abcdefghij"),
        ("?stream=stdout", "acegi"),
        ("?stream=stderr", "bdfhj"),
        ("?stream=stderr&offset=3", "hj"),
        ("?offset=9", "j"),
    ] {
        assert_eq!(raw(&server, &id, query, &[]).text(), text, "{query}");
    }
    assert_eq!(ranged(&server, &id, "bytes=3-6").text(), "defg");
    let range = [("Range", "bytes=1-3")];
    let part = raw(&server, &id, "?stream=stdout", &range).expect(206);
    assert_eq!(part.text(), "ceg");
}

fn a_process_that_is_deleted_meanwhile_is_cut_off(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("head -c 10000000 /dev/zero"));
    server.await_exit(&id);
    let mut reader = ask(&server, &target(&id, ""));
    let head = reader.head(WAIT).expect("a head");
    assert_eq!(head.header("content-length"), Some("10000000"));
    server.delete(&format!("/v1/processes/{id}")).expect(204);
    // What the sockets hold arrives, and then the end, before the length that was promised.
    let body = reader.read_to_end();
    assert!(body.len() < 10_000_000, "{} bytes", body.len());
    raw(&server, &id, "", &[]).problem(404, "not_found");
}

fn readers_that_stall_hold_nothing(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("head -c 10000000 /dev/zero | tr '\\0' x"));
    server.await_exit(&id);
    let quiet = crate::readers::resident(&server);
    let readers: Vec<_> = (0..30)
        .map(|n| {
            let query = if n % 2 == 0 { "" } else { "?follow=true" };
            let mut conn = ask(&server, &target(&id, query));
            conn.head(WAIT).expect("a head");
            conn
        })
        .collect();
    // The record is gone, and with it the memory of its log, though none of them has read it.
    server.delete(&format!("/v1/processes/{id}")).expect(204);
    eventually("the log's memory to be given back", || {
        let now = crate::readers::resident(&server);
        (now + 4000 < quiet).then_some(())
    });
    drop(readers);
}

fn old_clients_and_pipelined_requests_are_served(backend: Backend) {
    let server = Server::open(backend);
    let id = digits(&server);
    let mut conn = server.conn();
    conn.send(format!("GET {} HTTP/1.0\r\n\r\n", target(&id, "")));
    let head = conn.head(WAIT).expect("a head");
    assert_eq!(head.header("content-length"), Some("10"));
    assert_eq!(conn.read_to_end(), b"0123456789");
    let mut conn = server.conn();
    conn.send(format!(
        "GET {} HTTP/1.0\r\nRange: bytes=2-3\r\n\r\n",
        target(&id, "")
    ));
    assert_eq!(conn.head(WAIT).expect("a head").status, 206);
    assert_eq!(conn.read_to_end(), b"23");
    let mut conn = server.conn();
    conn.send(format!(
        "GET {} HTTP/1.0\r\n\r\n",
        target(&id, "?follow=true")
    ));
    let head = conn.head(WAIT).expect("a head");
    assert_eq!(head.header("content-length"), None);
    assert_eq!(conn.read_to_end(), b"0123456789");
    let mut conn = server.conn();
    let host = server.address;
    let one = |query: &str, more: &str| {
        let target = target(&id, query);
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n")
    };
    conn.send(
        [
            one("", ""),
            one("", "Range: bytes=4-5\r\n"),
            one("?follow=true&offset=8", ""),
            one("", "If-None-Match: *\r\n"),
            one("?offset=9", ""),
        ]
        .concat(),
    );
    assert_eq!(conn.response("GET").text(), "0123456789");
    assert_eq!(conn.response("GET").expect(206).text(), "45");
    assert_eq!(conn.response("GET").text(), "89");
    conn.response("GET").expect_empty(304);
    assert_eq!(conn.response("GET").text(), "9");
}

fn the_end_of_the_server_ends_a_follower(backend: Backend) {
    let mut server = Server::open(backend);
    let id = server.spawn(&sh(
        "exec 2>&-; trap 'printf late; exit 0' TERM; printf begun; while :; do sleep 0.05; done",
    ));
    server.await_output(&id, "begun");
    let mut reader = ask(&server, &target(&id, "?follow=true"));
    reader.head(WAIT).expect("a head");
    server.signal(libc::SIGTERM);
    assert_eq!(reader.chunks_to_end(), (b"begunlate".to_vec(), true));
    server.await_end(Duration::from_secs(20));
}
