//! Section 9 without follow, 14.24, and `firstSequence`/`droppedBytes` of section 16.

use serde_json::{Value, json};

use crate::harness::json::keys;
use crate::harness::server::entry_bytes;
use crate::harness::{Backend, Problem, Server, on_both, sh};

on_both!(
    the_body_is_exact,
    writes_apart_are_entries_in_true_order,
    sequences_count_over_all_streams,
    tail_and_since_filter_after_the_stream,
    last_event_id_acts_like_since,
    an_entry_holds_at_most_64_kib_and_all_bytes_are_there,
    binary_output_survives,
    quick_alternating_writes_lose_nothing,
    eviction_leaves_the_newest_whole_entries,
    an_entry_larger_than_the_limit_keeps_its_last_bytes,
    input_itself_is_not_logged,
    one_byte_at_a_time_stays_within_the_index_bound,
);

fn sequences(logs: &Value) -> Vec<u64> {
    logs["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["sequence"].as_u64().unwrap())
        .collect()
}

/// A process that has written `out1`, `err2`, `out3`, … at least 70 ms apart, and is over.
fn six_entries(server: &Server) -> String {
    let id = server.spawn(&sh("pause() { read go; sleep 0.07; }
         for n in 1 3 5; do printf out$n; pause; printf err$((n+1)) >&2; pause; done"));
    server.feed_after_each(&id, &["out1", "err2", "out3", "err4", "out5", "err6"]);
    server.await_exit(&id);
    id
}

fn the_body_is_exact(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("printf out"));
    server.await_exit(&id);
    let answer = server.get(&format!("/v1/processes/{id}/logs"));
    let at = answer.json()["entries"][0]["timestampMs"].as_u64().unwrap();
    let info = server.info(&id);
    let (from, to) = (&info["createdAtMs"], &info["exitedAtMs"]);
    assert!(
        from.as_u64().unwrap() <= at + 5 && at <= to.as_u64().unwrap() + 1000,
        "{at}: {info}"
    );
    let entry = format!(
        r#"{{"sequence":1,"stream":"stdout","timestampMs":{at},"data":"b3V0","encoding":"base64"}}"#
    );
    let body = |stream: &str, entries: &str| {
        format!(r#"{{"processId":"{id}","stream":"{stream}","entries":[{entries}]}}"#)
    };
    assert_eq!(answer.text(), body("combined", &entry));
    for (stream, entries) in [("stdout", &entry[..]), ("stderr", ""), ("pty", "")] {
        let answer = server.get(&format!("/v1/processes/{id}/logs?stream={stream}"));
        assert_eq!(answer.text(), body(stream, entries));
    }
    let silent = server.spawn(&json!({"command": "true"}));
    let answer = server.get(&format!("/v1/processes/{silent}/logs"));
    let empty = format!(r#"{{"processId":"{silent}","stream":"combined","entries":[]}}"#);
    assert_eq!(answer.text(), empty);
}

fn writes_apart_are_entries_in_true_order(backend: Backend) {
    let server = Server::open(backend);
    let id = six_entries(&server);
    let logs = server.logs(&id, "");
    let entries: Vec<_> = logs["entries"].as_array().unwrap().iter().collect();
    let told: Vec<_> = entries
        .iter()
        .map(|e| {
            let text = String::from_utf8(entry_bytes(e)).unwrap();
            (
                e["sequence"].as_u64().unwrap(),
                e["stream"].as_str().unwrap(),
                text,
            )
        })
        .collect();
    let expected: Vec<_> = (1..=6)
        .map(|n| match n % 2 {
            1 => (n, "stdout", format!("out{n}")),
            _ => (n, "stderr", format!("err{n}")),
        })
        .collect();
    assert_eq!(told, expected);
    let times: Vec<_> = entries
        .iter()
        .map(|e| e["timestampMs"].as_u64().unwrap())
        .collect();
    assert!(times.windows(2).all(|w| w[0] <= w[1]), "{times:?}");
    assert!(
        times[5] - times[0] >= 300,
        "{times:?}: not the times of arrival"
    );
}

fn sequences_count_over_all_streams(backend: Backend) {
    let server = Server::open(backend);
    let id = six_entries(&server);
    assert_eq!(
        sequences(&server.logs(&id, "?stream=combined")),
        [1, 2, 3, 4, 5, 6]
    );
    assert_eq!(sequences(&server.logs(&id, "?stream=stdout")), [1, 3, 5]);
    assert_eq!(sequences(&server.logs(&id, "?stream=stderr")), [2, 4, 6]);
    // Each process counts for itself.
    let other = server.spawn(&sh("echo x"));
    server.await_exit(&other);
    assert_eq!(sequences(&server.logs(&other, "")), [1]);
}

fn tail_and_since_filter_after_the_stream(backend: Backend) {
    let server = Server::open(backend);
    let id = six_entries(&server);
    for (query, expected) in [
        ("?tail=2", &[5, 6][..]),
        ("?tail=0", &[]),
        ("?tail=100", &[1, 2, 3, 4, 5, 6]),
        ("?tail=2&stream=stdout", &[3, 5]),
        ("?since=4", &[5, 6]),
        ("?since=6", &[]),
        ("?since=18446744073709551615", &[]),
        ("?since=0", &[1, 2, 3, 4, 5, 6]),
        ("?since=1&stream=stdout", &[3, 5]),
        ("?since=1&stream=stdout&tail=1", &[5]),
        ("?since=3&tail=10", &[4, 5, 6]),
        ("?tail=1&since=1&follow=false", &[6]),
    ] {
        assert_eq!(sequences(&server.logs(&id, query)), expected, "{query}");
    }
}

fn last_event_id_acts_like_since(backend: Backend) {
    let server = Server::open(backend);
    let id = six_entries(&server);
    let target = format!("/v1/processes/{id}/logs");
    let ask = |query: &str, value: &str| {
        let headers = [("Last-Event-ID", value)];
        server.request("GET", &format!("{target}{query}"), &headers, b"")
    };
    assert_eq!(sequences(&ask("", "4").json()), [5, 6]);
    assert_eq!(sequences(&ask("?since=2", "4").json()), [5, 6]);
    assert_eq!(sequences(&ask("?since=5", "4").json()), [6]);
    assert_eq!(sequences(&ask("?since=5", "").json()), [6]);
    assert_eq!(sequences(&ask("", "0").json()).len(), 6);
    for wrong in ["abc", "-1", "1.5", "1x", "18446744073709551616"] {
        let expected = Problem::invalid("Last-Event-ID must be a positive integer");
        expected.check(&ask("", wrong));
        expected.check(&ask("?follow=true", wrong));
    }
}

fn an_entry_holds_at_most_64_kib_and_all_bytes_are_there(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("head -c 3000000 /dev/zero | tr '\\0' a; printf end"));
    server.await_exit(&id);
    let logs = server.logs(&id, "");
    let sizes: Vec<_> = logs["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| entry_bytes(e).len())
        .collect();
    assert!(sizes.iter().all(|s| (1..=65_536).contains(s)), "{sizes:?}");
    assert_eq!(sizes.iter().sum::<usize>(), 3_000_003);
    let expected: Vec<_> = (1..=sizes.len() as u64).collect();
    assert_eq!(sequences(&logs), expected);
}

fn binary_output_survives(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh(
        "head -c 500000 /dev/urandom | tee /dev/stderr | cksum >&2; exit 0",
    ));
    // The two streams would mix in `combined`; take the sum from a run over the same bytes.
    server.await_exit(&id);
    let output = server.output(&id, "stderr");
    assert!(output.len() > 500_000, "{}", output.len());
    let (data, sum) = output.split_at(500_000);
    let sum = std::str::from_utf8(sum)
        .expect("the sum follows the data")
        .trim();
    assert_eq!(sum, format!("{} 500000", cksum(data)));
}

fn quick_alternating_writes_lose_nothing(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh(
        "i=0; while [ $i -lt 2000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); \
         [ $((i%50)) = 0 ] && sleep 0.01; done",
    ));
    server.await_exit(&id);
    for stream in ["out", "err"] {
        let expected: String = (0..2000).map(|n| format!("{stream} {n}\n")).collect();
        let output = server.output(&id, &format!("std{stream}"));
        assert_eq!(String::from_utf8(output).unwrap(), expected);
    }
    // Both are read fairly: neither stream comes as one block behind the other. Forty
    // bursts could show up to eighty changes.
    let logs = server.logs(&id, "");
    let entries = logs["entries"].as_array().unwrap();
    let streams: Vec<_> = entries.iter().map(|e| &e["stream"]).collect();
    let changes = streams.windows(2).filter(|w| w[0] != w[1]).count();
    assert!(
        changes >= 10,
        "{changes} changes in {} entries",
        streams.len()
    );
}

/// Sixty entries of a thousand bytes each; forty of them over the limit of 20 000.
fn evicted(server: &Server) -> String {
    server.configure(&[("maxLogBytesPerProcess", 20_000)]);
    let id = server.spawn(&sh("while read line; do printf %01000d $line; done"));
    server.feed_entries(&id, 60);
    id
}

fn eviction_leaves_the_newest_whole_entries(backend: Backend) {
    let server = Server::open(backend);
    let id = evicted(&server);
    let answer = server.get(&format!("/v1/processes/{id}/logs"));
    let logs = answer.json();
    assert_eq!(sequences(&logs), (41..=60).collect::<Vec<_>>());
    for (n, entry) in (41..).zip(logs["entries"].as_array().unwrap()) {
        assert_eq!(entry_bytes(entry), format!("{n:01000}").into_bytes());
    }
    assert_eq!(
        sequences(&server.logs(&id, "?since=3")),
        (41..=60).collect::<Vec<_>>()
    );
    assert_eq!(
        sequences(&server.logs(&id, "?since=45&tail=3")),
        [58, 59, 60]
    );
    // What was dropped is told, and only now.
    assert_eq!(logs["firstSequence"], 41);
    assert_eq!(logs["droppedBytes"], 40_000);
    let order = keys(answer.text());
    assert_eq!(order[..3], ["processId", "stream", "entries"]);
    assert_eq!(order.len(), 5, "{order:?}");
}

fn an_entry_larger_than_the_limit_keeps_its_last_bytes(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 10)]);
    let id = server.spawn(&sh("printf 0123456789abcdef; sleep 0.3; exec cat"));
    server.await_output(&id, "6789abcdef");
    assert_eq!(server.output(&id, "stdout"), b"6789abcdef");
    // Much over the limit, in many reads: still the last bytes.
    let id = server.spawn(&sh(
        "head -c 1000000 /dev/zero | tr '\\0' a; sleep 0.3; printf 0123456789",
    ));
    server.await_exit(&id);
    assert_eq!(server.output(&id, "stdout"), b"0123456789");
}

fn input_itself_is_not_logged(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("read line; echo got $line"));
    let input = json!({"data": "word\n", "encoding": "utf8"});
    server
        .post(&format!("/v1/processes/{id}/input"), &input)
        .expect(200);
    server.await_exit(&id);
    assert_eq!(server.output(&id, "combined"), b"got word\n");
}

fn one_byte_at_a_time_stays_within_the_index_bound(backend: Backend) {
    let server = Server::open(backend);
    // max(1024, limit / 64) entries, however small they are.
    server.configure(&[("maxLogBytesPerProcess", 100_000)]);
    let id = server.spawn(&json!({"command": "dd",
        "args": ["if=/dev/zero", "of=/dev/stdout", "bs=1", "count=300000", "status=none"]}));
    server.await_exit(&id);
    let logs = server.logs(&id, "");
    let entries = logs["entries"].as_array().unwrap();
    assert!(entries.len() <= 1_562, "{} entries", entries.len());
    let kept: usize = entries.iter().map(|e| entry_bytes(e).len()).sum();
    assert!(kept <= 100_000, "{kept} bytes");
    if kept < 300_000 {
        assert_eq!(logs["droppedBytes"], 300_000 - kept as u64);
    }
}

/// The sum that cksum(1) prints: CRC-32 of POSIX over the data and its length.
fn cksum(data: &[u8]) -> u32 {
    let step = |crc: u32, byte: u8| {
        (0..8).fold(crc ^ (u32::from(byte) << 24), |crc, _| {
            (crc << 1)
                ^ if crc & 0x8000_0000 == 0 {
                    0
                } else {
                    0x04C1_1DB7
                }
        })
    };
    let mut crc = data.iter().fold(0, |crc, byte| step(crc, *byte));
    let mut length = data.len();
    while length > 0 {
        crc = step(crc, length as u8);
        length >>= 8;
    }
    !crc
}
