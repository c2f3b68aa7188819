//! Section 9.1, 14.21, 14.22, 14.25a and the events of section 16: followed logs.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::sse::{bytes_of, sequences};
use crate::harness::{Backend, Follow, Item, Server, on_both, sh};

on_both!(
    events_are_exact_and_the_body_ends_after_exit,
    an_exited_process_is_replayed_and_ended_at_once,
    replay_and_live_meet_without_gap_or_repetition,
    live_entries_arrive_while_the_process_runs,
    thirty_followers_at_once_see_the_same,
    the_accept_header_does_not_matter,
    filters_hold_for_replay_and_live,
    tail_zero_means_live_only,
    since_beyond_the_end_holds_for_live_entries,
    last_event_id_resumes,
    last_event_id_at_the_end_of_an_exited_process_is_204,
    the_exit_event_brings_whoever_comes_back_to_a_204,
    death_by_signal_is_told,
    a_late_grandchild_does_not_hold_the_stream,
);

/// The log event that the contract promises for an entry of a JSON fetch.
fn expected_event(entry: &Value) -> String {
    let entry_text = format!(
        r#"{{"sequence":{},"stream":{},"timestampMs":{},"data":{},"encoding":"base64"}}"#,
        entry["sequence"], entry["stream"], entry["timestampMs"], entry["data"]
    );
    format!(
        "event: log\nid: {}\ndata: {entry_text}\n\n",
        entry["sequence"]
    )
}

pub(crate) fn raw_of(items: &[Item]) -> String {
    let raw = |item: &Item| match item {
        Item::Event { raw, .. } => raw.clone(),
        _ => String::new(),
    };
    items.iter().map(raw).collect()
}

/// The bytes that a fetch of the whole log says a follower has to see, exit included.
pub(crate) fn expected_stream(server: &Server, id: &str) -> String {
    let logs = server.logs(id, "");
    let entries = logs["entries"].as_array().unwrap();
    let events: String = entries.iter().map(expected_event).collect();
    let last = entries
        .last()
        .map_or(0, |e| e["sequence"].as_u64().unwrap());
    let code = &server.info(id)["exitCode"];
    format!(
        "{events}event: exit\nid: {last}\ndata: {{\"exitCode\":{code},\"lastSequence\":{last}}}\n\n"
    )
}

fn events_are_exact_and_the_body_ends_after_exit(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh(
        "printf one; read go; printf two >&2; read go; echo; read go; exit 5",
    ));
    let mut follow = Follow::process(&server, &id);
    assert_eq!(follow.head.header("x-accel-buffering"), Some("no"));
    server.feed_after_each(&id, &["one", "two", "\n"]);
    let items = follow.rest();
    assert_eq!(raw_of(&items), expected_stream(&server, &id));
    assert_eq!(sequences(&items), [1, 2, 3]);
    // The connection is fit for the next request: the body ended, nothing was cut.
    assert!(!follow.head.says_close());
    follow.conn().send(format!(
        "GET /v1/health HTTP/1.1\r\nHost: {}\r\n\r\n",
        server.address
    ));
    follow.conn().response("GET").expect(200);
}

fn an_exited_process_is_replayed_and_ended_at_once(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("echo a; sleep 0.1; echo b >&2"));
    server.await_exit(&id);
    for _ in 0..3 {
        let items = Follow::process(&server, &id).rest();
        assert_eq!(raw_of(&items), expected_stream(&server, &id));
    }
    let silent = server.spawn(&sh("exit 2"));
    server.await_exit(&silent);
    let items = Follow::process(&server, &silent).rest();
    assert_eq!(
        raw_of(&items),
        "event: exit\nid: 0\ndata: {\"exitCode\":2,\"lastSequence\":0}\n\n"
    );
}

fn replay_and_live_meet_without_gap_or_repetition(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh(
        "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done",
    ));
    let joined: Vec<_> = (0..6)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            Follow::process(&server, &id)
        })
        .collect();
    let expected: String = (0..20_000).map(|n| format!("{n}\n")).collect();
    for mut follow in joined {
        let items = follow.rest();
        assert!(bytes_of(&items, "stdout") == expected.as_bytes());
        let seen = sequences(&items);
        assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
        assert_eq!(raw_of(&items), expected_stream(&server, &id));
    }
}

fn live_entries_arrive_while_the_process_runs(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let mut follow = Follow::process(&server, &id);
    for n in 1..=20 {
        let text = format!("line {n}\n");
        server.feed(&id, &text);
        let entry = follow.next();
        assert_eq!(
            bytes_of(std::slice::from_ref(&entry), "stdout"),
            text.as_bytes()
        );
        assert_eq!(entry.event("log")["sequence"], n);
    }
    assert_eq!(follow.poll(Duration::from_millis(200)), None);
}

fn thirty_followers_at_once_see_the_same(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh(
        "read go; for n in 1 2 3 4 5 6 7 8; do head -c 100000 /dev/urandom; echo $n >&2; sleep 0.05; done",
    ));
    let followers: Vec<_> = (0..30).map(|_| Follow::process(&server, &id)).collect();
    server.feed(&id, "\n");
    let streams: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = followers
            .into_iter()
            .map(|mut f| scope.spawn(move || raw_of(&f.rest())))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let expected = expected_stream(&server, &id);
    assert!(streams.iter().all(|stream| *stream == expected));
    assert_eq!(server.output(&id, "stdout").len(), 800_000);
}

fn the_accept_header_does_not_matter(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("echo x"));
    server.await_exit(&id);
    for accept in ["application/json", "text/plain;q=0", "*/*", ""] {
        let target = format!("/v1/processes/{id}/logs?follow=true");
        let items = Follow::open(&server, &target, &[("Accept", accept)]).rest();
        assert_eq!(raw_of(&items), expected_stream(&server, &id));
        let answer = server.request("GET", "/v1/processes", &[("Accept", accept)], b"");
        answer.json();
    }
}

fn filters_hold_for_replay_and_live(backend: Backend) {
    let server = Server::open(backend);
    // A step only when the one before it is in the log: each is an entry, and in this order.
    let id = server.spawn(&sh(
        "for n in 1 2 3 4; do printf out$n; read go; printf err$n >&2; read go; done",
    ));
    server.feed_after_each(&id, &["out1", "err1", "out2"]);
    server.await_output(&id, "err2");
    let open = |query: &str| {
        Follow::open(
            &server,
            &format!("/v1/processes/{id}/logs?follow=true{query}"),
            &[],
        )
    };
    let mut cases = [
        (open("&stream=stdout"), vec![1, 3, 5, 7]),
        (open("&stream=stderr"), vec![2, 4, 6, 8]),
        (open("&stream=pty"), vec![]),
        (open("&since=2"), vec![3, 4, 5, 6, 7, 8]),
        (open("&tail=1"), vec![4, 5, 6, 7, 8]),
        (open("&tail=1&stream=stdout"), vec![3, 5, 7]),
        (open("&since=2&stream=stderr&tail=5"), vec![4, 6, 8]),
    ];
    server.feed_after_each(&id, &["err2", "out3", "err3", "out4", "err4"]);
    for (n, (follow, expected)) in cases.iter_mut().enumerate() {
        let items = follow.rest();
        assert_eq!(sequences(&items), *expected, "case {n}");
        let exit = items.last().expect("an exit event").event("exit");
        assert_eq!(exit, json!({"exitCode": 0, "lastSequence": 8}), "case {n}");
    }
}

fn tail_zero_means_live_only(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("echo old; read go; echo new"));
    server.await_output(&id, "old\n");
    let target = format!("/v1/processes/{id}/logs?follow=true&tail=0");
    let mut follow = Follow::open(&server, &target, &[]);
    assert_eq!(follow.poll(Duration::from_millis(300)), None);
    server.feed(&id, "\n");
    let items = follow.rest();
    assert_eq!(bytes_of(&items, "stdout"), b"new\n");
    assert_eq!(sequences(&items), [2]);
}

fn since_beyond_the_end_holds_for_live_entries(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("while read line; do echo $line; done"));
    let target = format!("/v1/processes/{id}/logs?follow=true");
    let mut by_query = Follow::open(&server, &format!("{target}&since=3"), &[]);
    let mut by_header = Follow::open(
        &server,
        &format!("{target}&since=1"),
        &[("Last-Event-ID", "3")],
    );
    server.feed_entries(&id, 5);
    server.kill(&id);
    assert_eq!(sequences(&by_query.rest()), [4, 5]);
    assert_eq!(sequences(&by_header.rest()), [4, 5]);
}

fn last_event_id_resumes(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh(
        "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done",
    ));
    let (mut all, mut last) = (Vec::new(), None::<u64>);
    // Read a few entries, drop the connection, resume: as a browser does.
    for _ in 0..200 {
        let target = format!("/v1/processes/{id}/logs?follow=true");
        let id_text = last.map(|id| id.to_string());
        let headers: Vec<_> = id_text
            .iter()
            .map(|v| ("Last-Event-ID", v.as_str()))
            .collect();
        let mut conn = server.conn();
        let mut head = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n", server.address);
        for (name, value) in &headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        conn.send(format!("{head}\r\n"));
        let answer = conn.head(crate::harness::WAIT).expect("a head");
        if answer.status == 204 {
            break;
        }
        assert_eq!(answer.status, 200);
        let mut follow = Follow::over(conn, answer);
        for _ in 0..3 {
            match follow.next() {
                Item::End => break,
                item => {
                    if let Item::Event { id: Some(id), .. } = &item {
                        last = Some(*id);
                    }
                    all.push(item);
                }
            }
        }
        // The last part in one go: entries may be many and small.
        if server.info(&id)["status"] == "exited" && all.len() > 12 {
            let value = last.unwrap().to_string();
            let headers = [("Last-Event-ID", value.as_str())];
            let answer = server.request("GET", &format!("/v1/processes/{id}/logs"), &headers, b"");
            if answer.json()["entries"].as_array().unwrap().is_empty() {
                break;
            }
            all.extend(Follow::open(&server, &target, &headers).rest());
            break;
        }
    }
    let expected: String = (0..3000).map(|n| format!("line {n}\n")).collect();
    assert!(bytes_of(&all, "stdout") == expected.as_bytes());
    let seen = sequences(&all);
    assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
}

fn last_event_id_at_the_end_of_an_exited_process_is_204(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("echo a; read go; echo b; read go"));
    server.feed_after_each(&id, &["a\n"]);
    server.await_output(&id, "a\nb\n");
    let target = format!("/v1/processes/{id}/logs?follow=true");
    let ask = |value: &str| server.request("GET", &target, &[("Last-Event-ID", value)], b"");
    // While it runs there may be more: a stream.
    let mut running = Follow::open(&server, &target, &[("Last-Event-ID", "2")]);
    server.feed(&id, "\n");
    assert_eq!(
        raw_of(&running.rest()),
        "event: exit\nid: 2\ndata: {\"exitCode\":0,\"lastSequence\":2}\n\n"
    );
    ask("2").expect_empty(204);
    // Nobody was ever shown these by this process.
    for value in ["3", "18446744073709551615"] {
        assert_eq!(ask(value).problem(410, "gone")["code"], "stale_cursor");
    }
    // Not yet at the end, or without the header: the stream, which the SDK needs.
    let items = Follow::open(&server, &target, &[("Last-Event-ID", "1")]).rest();
    assert_eq!(sequences(&items), [2]);
    let items = Follow::open(&server, &format!("{target}&since=2"), &[]).rest();
    assert_eq!(
        raw_of(&items),
        "event: exit\nid: 2\ndata: {\"exitCode\":0,\"lastSequence\":2}\n\n"
    );
}

fn the_exit_event_brings_whoever_comes_back_to_a_204(backend: Backend) {
    let server = Server::open(backend);
    let silent = server.spawn(&sh("exit 0"));
    let both = server.spawn(&sh("echo a; sleep 0.1; echo b >&2"));
    for id in [&silent, &both] {
        server.await_exit(id);
    }
    // What is shown may be nothing, or end before the log does; its last id does not.
    for (id, query, last) in [
        (&silent, "", "0"),
        (&both, "", "2"),
        (&both, "&stream=stdout", "2"),
        (&both, "&stream=pty", "2"),
        (&both, "&tail=0", "2"),
        (&both, "&since=9", "2"),
    ] {
        let target = format!("/v1/processes/{id}/logs?follow=true{query}");
        let items = Follow::open(&server, &target, &[]).rest();
        match items.last() {
            Some(Item::Event { name, id, .. }) if name == "exit" => {
                assert_eq!(
                    id.map(|id| id.to_string()).as_deref(),
                    Some(last),
                    "{query}"
                );
            }
            other => panic!("{query}: no exit event but {other:?}"),
        }
        server
            .request("GET", &target, &[("Last-Event-ID", last)], b"")
            .expect_empty(204);
    }
}

fn death_by_signal_is_told(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("echo x; exec sleep 60"));
    let mut follow = Follow::process(&server, &id);
    follow.next().event("log");
    server.kill(&id);
    let exit = follow.next().event("exit");
    assert_eq!(
        exit,
        json!({"exitCode": null, "lastSequence": 1, "signal": "SIGKILL"})
    );
    assert_eq!(follow.next(), Item::End);
}

fn a_late_grandchild_does_not_hold_the_stream(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("(sleep 3; echo late) & echo early"));
    let start = Instant::now();
    let items = Follow::process(&server, &id).rest();
    assert!(
        start.elapsed() < Duration::from_millis(2800),
        "held for {:?}",
        start.elapsed()
    );
    assert_eq!(bytes_of(&items, "stdout"), b"early\n");
    assert_eq!(
        items.last().unwrap().event("exit"),
        json!({"exitCode": 0, "lastSequence": 1})
    );
    // A later fetch and a later follow show what came late.
    server.await_output(&id, "early\nlate\n");
    let items = Follow::process(&server, &id).rest();
    assert_eq!(bytes_of(&items, "stdout"), b"early\nlate\n");
    assert_eq!(
        items.last().unwrap().event("exit"),
        json!({"exitCode": 0, "lastSequence": 2})
    );
}
