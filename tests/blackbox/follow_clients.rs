//! Section 9.1 and 14.25a: followers that read slowly, fall behind, leave, or speak another HTTP.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::follow::{expected_stream, raw_of};
use crate::harness::sse::{bytes_of, sequences};
use crate::harness::{Backend, Follow, Item, Server, on_both, sh};

on_both!(
    a_paused_reader_gets_every_retained_entry,
    a_slow_reader_delays_neither_the_process_nor_another_reader,
    an_overtaken_reader_is_told_the_gap,
    a_replay_behind_the_oldest_begins_with_a_gap,
    deleting_ends_the_stream,
    a_reader_may_leave_at_any_time,
    silence_is_broken_by_a_comment,
    http_1_0_follow_is_not_chunked,
    a_request_pipelined_behind_a_follow_is_answered_after_it,
    a_follow_of_a_half_closed_client_is_served,
);

fn a_paused_reader_gets_every_retained_entry(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("seq 1 1200000"));
    let mut follow = Follow::process(&server, &id);
    // 8.2 MB are within the limit of 10 MiB and far over any socket buffer.
    server.await_exit(&id);
    let items = follow.rest();
    assert!(
        items
            .iter()
            .all(|i| !matches!(i, Item::Event { name, .. } if name == "gap"))
    );
    let seen = sequences(&items);
    assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
    let expected: String = (1..=1_200_000).map(|n| format!("{n}\n")).collect();
    assert!(bytes_of(&items, "stdout") == expected.as_bytes());
    items.last().unwrap().event("exit");
}

fn a_slow_reader_delays_neither_the_process_nor_another_reader(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 1_000_000)]);
    let id = server.spawn(&sh("head -c 60000000 /dev/zero | tr '\\0' x; printf end"));
    let _stalled: Vec<_> = (0..3).map(|_| Follow::process(&server, &id)).collect();
    // Sixty times the retained log: it can only end if nobody waits for the stalled.
    server.await_exit(&id);
    let items = Follow::process(&server, &id).rest();
    assert!(bytes_of(&items, "stdout").ends_with(b"xend"));
    items.last().unwrap().event("exit");
}

fn an_overtaken_reader_is_told_the_gap(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 200_000)]);
    let id = server.spawn(&sh(
        "read go; head -c 30000000 /dev/zero | tr '\\0' x; printf err >&2; printf end",
    ));
    let mut follow = Follow::process(&server, &id);
    server.feed(&id, "\n");
    server.await_exit(&id);
    let items = follow.rest();
    // Entries and gaps together are the whole numbering, and all bytes.
    let (mut next, mut bytes, mut gaps) = (1, 0, 0);
    for item in &items {
        match item {
            Item::Event {
                name, id: Some(id), ..
            } if name == "log" => {
                assert_eq!(*id, next);
                next += 1;
                bytes += bytes_of(std::slice::from_ref(item), "stdout").len() as u64;
                bytes += bytes_of(std::slice::from_ref(item), "stderr").len() as u64;
            }
            Item::Event {
                name, data, raw, ..
            } if name == "gap" => {
                let gap: Value = serde_json::from_str(data).unwrap();
                let (from, to) = (gap["from"].as_u64().unwrap(), gap["to"].as_u64().unwrap());
                let missing = gap["bytes"].as_u64().unwrap();
                let exact = format!(
                    "event: gap\ndata: {{\"from\":{from},\"to\":{to},\"bytes\":{missing}}}\n\n"
                );
                assert_eq!(*raw, exact);
                assert!(from == next && to >= from, "{raw:?} after {next}");
                (next, bytes, gaps) = (to + 1, bytes + missing, gaps + 1);
            }
            item => {
                let exit = item.event("exit");
                assert_eq!(exit, json!({"exitCode": 0, "lastSequence": next - 1}));
            }
        }
    }
    assert!(gaps > 0, "30 MB fitted through a limit of 200 kB");
    assert_eq!(bytes, 30_000_006);
    items.last().unwrap().event("exit");
}

fn a_replay_behind_the_oldest_begins_with_a_gap(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 3_000)]);
    let id = server.spawn(&sh("while read line; do printf %01000d $line; done"));
    server.feed_entries(&id, 8);
    server.kill(&id);
    let target = format!("/v1/processes/{id}/logs?follow=true");
    let first = |query: &str, headers: &[(&str, &str)]| {
        let items = Follow::open(&server, &format!("{target}{query}"), headers).rest();
        assert_eq!(sequences(&items), [6, 7, 8]);
        items[0].clone()
    };
    for gap in [first("&since=2", &[]), first("", &[("Last-Event-ID", "2")])] {
        let gap = gap.event("gap");
        assert_eq!((&gap["from"], &gap["to"]), (&json!(3), &json!(5)));
        assert!(gap["bytes"].as_u64().is_some(), "{gap}");
    }
    // A plain replay, and one that starts at the oldest, are not told of any.
    first("", &[]).event("log");
    first("&since=5", &[]).event("log");
}

fn deleting_ends_the_stream(backend: Backend) {
    let server = Server::open(backend);
    // A grandchild holds the output, so the stream is still open for a moment.
    let id = server.spawn(&sh("echo x"));
    let mut follow = Follow::process(&server, &id);
    follow.next().event("log");
    server.await_exit(&id);
    server.delete(&format!("/v1/processes/{id}")).expect(204);
    for item in follow.rest() {
        item.event("exit");
    }
}

fn a_reader_may_leave_at_any_time(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("i=0; while :; do echo $i; i=$((i+1)); done"));
    for n in 0..40 {
        let mut follow = Follow::process(&server, &id);
        // On a busy machine the log is full by now, and what was oldest is gone.
        for _ in 0..n % 4 {
            follow.next();
        }
        match n % 2 {
            0 => drop(follow),
            _ => follow.into_conn().reset(),
        }
    }
    assert_eq!(server.info(&id)["status"], "running");
    Follow::process(&server, &id).next();
    server.kill(&id);
}

fn silence_is_broken_by_a_comment(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let mut follow = Follow::process(&server, &id);
    let start = Instant::now();
    let item = follow.poll(crate::harness::WAIT);
    assert_eq!(item, Some(Item::Comment(":\n\n".to_owned())));
    assert!(
        start.elapsed() > Duration::from_secs(13),
        "after {:?}",
        start.elapsed()
    );
}

fn http_1_0_follow_is_not_chunked(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("echo x"));
    server.await_exit(&id);
    let mut conn = server.conn();
    conn.send(format!(
        "GET /v1/processes/{id}/logs?follow=true HTTP/1.0\r\nHost: {}\r\n\r\n",
        server.address
    ));
    let head = conn.head(crate::harness::WAIT).expect("a head");
    assert_eq!((head.status, head.header("transfer-encoding")), (200, None));
    assert_eq!(
        String::from_utf8(conn.read_to_end()).unwrap(),
        expected_stream(&server, &id)
    );
}

fn a_request_pipelined_behind_a_follow_is_answered_after_it(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("read go; echo x"));
    let mut conn = server.conn();
    let host = server.address;
    conn.send(format!(
        "GET /v1/processes/{id}/logs?follow=true HTTP/1.1\r\nHost: {host}\r\n\r\n\
         GET /v1/health HTTP/1.1\r\nHost: {host}\r\n\r\n"
    ));
    let head = conn.head(crate::harness::WAIT).expect("a head");
    let mut follow = Follow::over(conn, head);
    server.feed(&id, "\n");
    assert_eq!(raw_of(&follow.rest()), expected_stream(&server, &id));
    let health = follow.conn().response("GET").expect(200);
    assert_eq!(health.text(), r#"{"status":"ok"}"#);
}

fn a_follow_of_a_half_closed_client_is_served(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("seq 1 200000"));
    server.await_exit(&id);
    let mut conn = server.conn();
    conn.send(format!(
        "GET /v1/processes/{id}/logs?follow=true HTTP/1.1\r\nHost: {}\r\n\r\n",
        server.address
    ));
    conn.finish_writing();
    let head = conn.head(crate::harness::WAIT).expect("a head");
    let items = Follow::over(conn, head).rest();
    assert_eq!(raw_of(&items), expected_stream(&server, &id));
}
