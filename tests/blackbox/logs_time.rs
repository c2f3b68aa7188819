//! `sinceMs` and `untilMs`: a part of a log by time, for JSON and for followers.

use serde_json::Value;

use crate::harness::sse::sequences;
use crate::harness::{Backend, Follow, Item, Server, on_both, sh};

on_both!(
    a_moment_is_included_where_it_begins_and_not_where_it_ends,
    a_follower_by_time_gets_its_entries_and_the_exit,
    a_follower_of_a_silent_stream_gets_the_exit_after_a_flood_of_another,
    what_is_no_time_is_refused,
);

/// Six entries, odd ones to stdout and even ones to stderr, at least 70 ms apart, and their times.
fn six_entries(server: &Server) -> (String, Vec<u64>) {
    let id = server.spawn(&sh("pause() { read go; sleep 0.07; }
         for n in 1 3 5; do printf out$n; pause; printf err$((n+1)) >&2; pause; done"));
    server.feed_after_each(&id, &["out1", "err2", "out3", "err4", "out5", "err6"]);
    server.await_exit(&id);
    let logs = server.logs(&id, "");
    let times = |entry: &Value| entry["timestampMs"].as_u64().unwrap();
    let times: Vec<u64> = logs["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(times)
        .collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    (id, times)
}

fn numbers(logs: &Value) -> Vec<u64> {
    let entries = logs["entries"].as_array().unwrap().iter();
    entries.map(|e| e["sequence"].as_u64().unwrap()).collect()
}

fn a_moment_is_included_where_it_begins_and_not_where_it_ends(backend: Backend) {
    let server = Server::open(backend);
    let (id, at) = six_entries(&server);
    for (query, expected) in [
        (format!("sinceMs={}", at[2]), &[3, 4, 5, 6][..]),
        (format!("sinceMs={}", at[2] + 1), &[4, 5, 6]),
        (format!("untilMs={}", at[2]), &[1, 2]),
        (format!("untilMs={}", at[2] + 1), &[1, 2, 3]),
        (format!("sinceMs={}&untilMs={}", at[1], at[4]), &[2, 3, 4]),
        (format!("sinceMs={}&untilMs={}", at[4], at[1]), &[]),
        (format!("sinceMs={}&since=3", at[1]), &[4, 5, 6]),
        (format!("sinceMs={}&stream=stderr", at[2]), &[4, 6]),
        (format!("untilMs={}&tail=2", at[4]), &[3, 4]),
        (format!("untilMs={}&tail=1&stream=stdout", at[5]), &[5]),
        (
            "sinceMs=0&untilMs=18446744073709551615".to_owned(),
            &[1, 2, 3, 4, 5, 6],
        ),
        ("untilMs=0".to_owned(), &[]),
        ("sinceMs=18446744073709551615".to_owned(), &[]),
    ] {
        let logs = server.logs(&id, &format!("?{query}"));
        assert_eq!(numbers(&logs), expected, "{query}");
    }
    // Beyond what is sent in one piece, too.
    let long = server.spawn(&sh("head -c 900000 /dev/zero; read go; echo end"));
    server.feed(&long, "\n");
    server.await_exit(&long);
    let all = server.logs(&long, "");
    let entries = all["entries"].as_array().unwrap();
    let middle = entries[entries.len() / 2]["timestampMs"].as_u64().unwrap();
    let later = server.logs(&long, &format!("?sinceMs={middle}"));
    let earlier = server.logs(&long, &format!("?untilMs={middle}"));
    let numbers = [numbers(&earlier), numbers(&later)].concat();
    assert_eq!(numbers, (1..=entries.len() as u64).collect::<Vec<_>>());
}

fn a_follower_by_time_gets_its_entries_and_the_exit(backend: Backend) {
    let server = Server::open(backend);
    let (id, at) = six_entries(&server);
    let follow = |query: &str| {
        let target = format!("/v1/processes/{id}/logs?follow=true&{query}");
        Follow::open(&server, &target, &[]).rest()
    };
    let items = follow(&format!("sinceMs={}&untilMs={}", at[1], at[5]));
    assert_eq!(sequences(&items), [2, 3, 4, 5]);
    assert_eq!(items.last().unwrap().event("exit")["lastSequence"], 6);
    let items = follow(&format!("sinceMs={}&stream=stdout", at[1]));
    assert_eq!(sequences(&items), [3, 5]);
    // One who waits for a time that is to come gets what comes then.
    let id = server.spawn(&sh("echo early; read go; sleep 0.05; echo late"));
    server.await_output(&id, "early");
    let logs = server.logs(&id, "");
    let early = logs["entries"][0]["timestampMs"].as_u64().unwrap();
    let target = format!("/v1/processes/{id}/logs?follow=true&sinceMs={}", early + 1);
    let mut follow = Follow::open(&server, &target, &[]);
    server.feed(&id, "\n");
    let items = follow.rest();
    assert_eq!(sequences(&items), [2]);
}

/// Defect M7: what nobody wants is passed over, not encoded; all of it, and nothing is missed.
fn a_follower_of_a_silent_stream_gets_the_exit_after_a_flood_of_another(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh(
        "echo first >&2; read go; head -c 30000000 /dev/zero; echo last >&2; exit 3",
    ));
    server.await_output(&id, "first");
    let target = format!("/v1/processes/{id}/logs?follow=true&stream=stderr");
    let mut followers: Vec<_> = (0..4)
        .map(|_| Follow::open(&server, &target, &[]))
        .collect();
    server.feed(&id, "\n");
    for follower in &mut followers {
        let items = follower.rest();
        let texts: Vec<u8> = crate::harness::sse::bytes_of(&items, "stderr");
        assert!(texts.ends_with(b"last\n"), "{items:?}");
        assert_eq!(items.last().unwrap().event("exit")["exitCode"], 3);
        let logs = items
            .iter()
            .filter(|item| matches!(item, Item::Event { name, .. } if name == "log"));
        assert!((1..=2).contains(&logs.count()), "{items:?}");
    }
}

fn what_is_no_time_is_refused(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("true"));
    for name in ["sinceMs", "untilMs"] {
        for value in ["", "-1", "1.5", "now", "2026-11-26T00:00:00Z"] {
            let target = format!("/v1/processes/{id}/logs?{name}={value}");
            let problem = server.get(&target).problem(400, "invalid_request");
            let detail = format!("query parameter {name} must be an unsigned integer");
            assert_eq!(problem["detail"], detail, "{value:?}");
        }
    }
}
