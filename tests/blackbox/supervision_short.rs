//! Every read and write of the server may be short, and every byte arrives all the same.
//!
//! On epoll these are all its reads and writes; on io_uring those on pipes and terminals, since
//! the ring's own receives and sends are no calls of the server. There, a client with a small
//! window makes them short.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::harness::books::Books;
use crate::harness::server::entry_bytes;
use crate::harness::short::{On, Shortened};
use crate::harness::sse::{bytes_of, sequences};
use crate::harness::ws::{Got, path};
use crate::harness::{
    Backend, Conn, Follow, Server, WAIT, Ws, eventually, on_both, sh, skipped_anywhere,
};

on_both!(
    every_byte_arrives_though_every_read_and_write_is_short,
    every_byte_arrives_though_some_reads_and_writes_are_short,
    every_byte_arrives_at_a_client_that_takes_and_gives_little_at_a_time,
);

/// Numbers from 1, a line each: no part of it looks like another.
fn numbers(last: usize) -> String {
    (1..=last).map(|n| format!("{n}\n")).collect()
}

fn every_byte_arrives_though_every_read_and_write_is_short(backend: Backend) {
    flows_with_short_calls(backend, 1, 200, 1);
}

fn every_byte_arrives_though_some_reads_and_writes_are_short(backend: Backend) {
    flows_with_short_calls(backend, 2, 4000, 6);
}

fn flows_with_short_calls(backend: Backend, every: u64, lines: usize, times: usize) {
    let _heavy = crate::harness::one_heavy_test_at_a_time();
    let server = Server::open(backend);
    flows(&server, 50);
    let before = Books::at_rest(&server);
    let shortened = match Shortened::attach(&server, every) {
        Ok(shortened) => shortened,
        Err(error) => {
            return skipped_anywhere(&format!("ptrace: {error}; no call is cut short"));
        }
    };
    let counts = &shortened.counts;
    // How many calls a flow takes is the machine's affair.
    let enough = |on| {
        let seen = on != On::Socket || backend == Backend::Epoll;
        !seen || counts.reads(on) >= 6 && counts.writes(on) >= 6
    };
    let all_enough = || [On::Socket, On::Pipe, On::Terminal].into_iter().all(enough);
    let mut done = 0;
    while done < times || !all_enough() && done < times + 20 {
        flows(&server, lines);
        done += 1;
    }
    assert!(all_enough(), "few calls were cut short: {counts:?}");
    drop(shortened);
    flows(&server, 50);
    before.await_balance(&server, 2 << 10);
    assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
}

/// Output, input, logs, followers and a terminal, each compared byte for byte.
fn flows(server: &Server, lines: usize) {
    let text = numbers(lines);
    let script = format!("seq 1 {lines}; seq 1 {lines} >&2; exit 3");

    let run = server.run(&sh(&script));
    assert_eq!(run["exitCode"], 3);
    assert!(run["stdout"] == text && run["stderr"] == text, "{run:.999}");

    let id = server.spawn(&sh(&script));
    let mut live = Follow::process(server, &id);
    assert_eq!(server.await_exit(&id)["exitCode"], 3);
    let late = Follow::process(server, &id).rest();
    let live = live.rest();
    for items in [&live, &late] {
        assert!(bytes_of(items, "stdout") == text.as_bytes());
        assert!(bytes_of(items, "stderr") == text.as_bytes());
        let last = sequences(items).len() as u64;
        assert!(sequences(items).iter().copied().eq(1..=last));
        assert_eq!(items.last().unwrap().event("exit")["lastSequence"], last);
    }
    assert!(server.output(&id, "stdout") == text.as_bytes());
    assert!(server.output(&id, "stderr") == text.as_bytes());
    server
        .delete(&format!("/v1/processes/{id}"))
        .expect_empty(204);

    let id = server.spawn(&json!({"command": "cat"}));
    let pieces: Vec<&[u8]> = text.as_bytes().chunks(3000).collect();
    for piece in &pieces {
        let input = json!({"data": STANDARD.encode(piece)});
        let answer = server.post(&format!("/v1/processes/{id}/input"), &input);
        assert_eq!(answer.json()["bytesWritten"], piece.len());
    }
    eventually("the input to come back", || {
        (server.output(&id, "stdout").len() >= text.len()).then_some(())
    });
    assert!(server.output(&id, "stdout") == text.as_bytes());
    server.kill(&id);
    server
        .delete(&format!("/v1/processes/{id}"))
        .expect_empty(204);

    several_requests_at_once(server, &text);
    terminal(server, lines);
}

/// A chunked body, and requests behind it on the same connection.
fn several_requests_at_once(server: &Server, text: &str) {
    let body = json!({"command": "printf", "args": ["%s", &text[..text.len().min(3000)]]});
    let body = body.to_string();
    let (a, b) = body.split_at(body.len() / 2);
    let host = server.address;
    let health = format!("GET /v1/health HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let mut conn = server.conn();
    conn.send(format!(
        "{health}POST /v1/processes/run HTTP/1.1\r\nHost: {host}\r\nContent-Type: \
         application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n\
         0\r\n\r\n{health}",
        a.len(),
        b.len()
    ));
    assert_eq!(conn.response("GET").json()["status"], "ok");
    let run = conn.response("POST").json();
    assert_eq!(run["stdout"], text[..text.len().min(3000)]);
    assert_eq!(conn.response("GET").json()["status"], "ok");
}

/// What is typed comes back, from a terminal that changes nothing.
fn terminal(server: &Server, lines: usize) {
    let mut body = sh("stty raw -echo; echo ready; exec cat");
    body["tty"] = true.into();
    let id = server.spawn(&body);
    let mut viewer = Ws::attach(server, &id, "");
    assert_eq!(viewer.until("ready\n"), "ready\n");
    viewer.resize(100, 50);
    // Less than a terminal holds, since nobody else reads what comes back.
    let text = numbers(lines.min(700));
    for line in text.split_inclusive("00\n") {
        viewer.input(line);
    }
    viewer.input("over\n");
    let seen = viewer.until("over\n");
    assert!(seen == format!("{text}over\n"), "{seen:?}");
    let mut second = Ws::attach(server, &id, "?replay=all");
    let replayed = second.until("over\n");
    assert!(replayed == format!("ready\n{text}over\n"), "{replayed:?}");
    server.kill(&id);
    for viewer in [&mut viewer, &mut second] {
        let ending = viewer.rest();
        assert_eq!((ending.output, ending.close), (Vec::new(), Some(1000)));
        assert_eq!(ending.texts, [json!({"exitCode": null, "type": "exit"})]);
    }
    server
        .delete(&format!("/v1/processes/{id}"))
        .expect_empty(204);
}

fn every_byte_arrives_at_a_client_that_takes_and_gives_little_at_a_time(backend: Backend) {
    let _heavy = crate::harness::one_heavy_test_at_a_time();
    let server = Server::open(backend);
    let host = server.address;
    // More than a send buffer grows to (tcp(7), tcp_wmem): a send ends where that is full.
    let text = numbers(900_000);
    let id = server.spawn(&sh("seq 1 900000"));
    assert_eq!(server.await_exit(&id)["exitCode"], 0);
    let head = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");

    let logs = format!("/v1/processes/{id}/logs");
    let mut conn = Conn::narrow(host);
    conn.send_in_bits(head(&logs));
    let answer = conn.response("GET").json();
    let entries = answer["entries"].as_array().unwrap();
    let bytes: Vec<u8> = entries.iter().flat_map(entry_bytes).collect();
    assert!(bytes == text.as_bytes());

    let mut conn = Conn::narrow(host);
    conn.send_in_bits(head(&format!("{logs}?follow=true")));
    let answer = conn.head(WAIT).expect("a head");
    let items = Follow::over(conn, answer).rest();
    assert!(bytes_of(&items, "stdout") == text.as_bytes());
    items.last().unwrap().event("exit");

    let text = numbers(60_000);
    let mut run = sh("seq 1 60000");
    run["maxOutputBytes"] = json!(1_000_000);
    let run = run.to_string();
    let mut conn = Conn::narrow(host);
    conn.send_in_bits(format!(
        "POST /v1/processes/run HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{run}",
        run.len()
    ));
    assert!(conn.response("POST").json()["stdout"] == text);

    let mut body = sh("stty raw; seq 1 60000; sleep 77");
    body["tty"] = true.into();
    let tty = server.spawn(&body);
    let viewer = Ws::ask_over(Conn::narrow(host), &server, &path(&tty, "?replay=all"), &[]);
    let mut viewer = viewer.expect("an upgrade");
    let ready = viewer.next();
    assert_eq!(ready, Got::Text(json!({"processId": tty, "type": "ready"})));
    let seen = viewer.until("\n60000\n");
    assert!(seen == text, "{} of {} bytes", seen.len(), text.len());
    server.kill(&tty);
    assert_eq!(viewer.rest().close, Some(1000));
}
