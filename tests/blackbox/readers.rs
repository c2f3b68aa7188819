//! Readers that stall while the log moves on: nothing foreign shown, nothing piled up.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::procfs::kib;
use crate::harness::server::entry_bytes;
use crate::harness::sse::bytes_of;
use crate::harness::{Backend, Conn, Follow, Item, Server, WAIT, eventually, on_both, sh};

on_both!(
    a_stalled_fetch_is_whole_though_everything_was_evicted_meanwhile,
    a_stalled_follower_never_sees_bytes_of_another_process,
    stalled_followers_do_not_make_the_memory_grow,
    stalled_fetches_do_not_make_the_memory_grow,
);

/// Writes numbered lines in three bursts of about 6 MB, one for each line it reads.
const BURSTS: &str =
    "n=0; while read go; do seq $n $((n+800000)); n=$((n+800001)); echo burst >&2; done";

fn burst(server: &Server, id: &str, number: usize) {
    let go = json!({"data": "go\n", "encoding": "utf8"});
    server
        .post(&format!("/v1/processes/{id}/input"), &go)
        .expect(200);
    eventually("the end of the burst", || {
        // Evicted with the rest, so by count: each burst is heard of once.
        let last = server.logs(id, "?stream=stderr&tail=1");
        let entries = last["entries"].as_array().unwrap().len();
        let lines = server.logs(id, "?stream=stdout&tail=1");
        let text = lines["entries"]
            .as_array()
            .and_then(|e| e.last())
            .map(entry_bytes);
        let text = String::from_utf8(text.unwrap_or_default()).unwrap();
        (entries == 1 && text.ends_with(&format!("{}\n", number * 800_001 - 1))).then_some(())
    });
}

/// Asserts that `text` is a run of consecutive numbers, but for cut lines at its ends.
#[track_caller]
fn assert_consecutive(text: &str) {
    let text = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let mut numbers = text.lines().skip(1).map(|line| line.parse::<u64>());
    let mut last = numbers.next().expect("a number").expect("a number");
    for number in numbers {
        let number = number.expect("a number");
        assert_eq!(number, last + 1);
        last = number;
    }
}

/// Fills the arena's free slots with what must not be seen.
fn overwrite(server: &Server) {
    let other = server.spawn(&sh("head -c 12000000 /dev/zero | tr '\\0' B"));
    server.await_exit(&other);
}

fn a_stalled_fetch_is_whole_though_everything_was_evicted_meanwhile(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 5_000_000)]);
    let id = server.spawn(&sh(BURSTS));
    burst(&server, &id, 1);
    // What says that the burst is over may be read before the last of it.
    let said = server.logs(&id, "?stream=stderr");
    let said = said["entries"][0]["sequence"].as_u64().unwrap();
    let mut conn = server.conn();
    let target = format!("/v1/processes/{id}/logs?stream=stdout");
    conn.send(format!(
        "GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n",
        server.address
    ));
    // The answer has begun and fills the socket; all of it is evicted before it is read.
    std::thread::sleep(Duration::from_millis(500));
    burst(&server, &id, 2);
    overwrite(&server);
    burst(&server, &id, 3);
    let logs: Value = conn.response("GET").json();
    let entries = logs["entries"].as_array().unwrap();
    let sequences: Vec<_> = entries
        .iter()
        .map(|e| e["sequence"].as_u64().unwrap())
        .collect();
    assert!(
        sequences
            .windows(2)
            .all(|w| w[0] + 1 == w[1] || w[0] + 1 == said && said + 1 == w[1]),
        "{said} in {sequences:?}"
    );
    let bytes: Vec<u8> = entries.iter().flat_map(entry_bytes).collect();
    assert!(bytes.len() > 4_000_000, "{} bytes", bytes.len());
    assert_consecutive(std::str::from_utf8(&bytes).expect("numbers"));
}

fn a_stalled_follower_never_sees_bytes_of_another_process(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 1_000_000)]);
    let id = server.spawn(&sh(BURSTS));
    let mut follow = Follow::process(&server, &id);
    for number in 1..=3 {
        burst(&server, &id, number);
        overwrite(&server);
    }
    server.kill(&id);
    let items = follow.rest();
    // Between two gaps the numbers follow each other.
    for part in items.split(|item| matches!(item, Item::Event { name, .. } if name == "gap")) {
        let text = String::from_utf8(bytes_of(part, "stdout")).expect("numbers");
        if text.lines().count() > 2 {
            assert_consecutive(&text);
        }
        let words = String::from_utf8(bytes_of(part, "stderr")).unwrap();
        assert!(words.lines().all(|line| line == "burst"), "{words:?}");
    }
    items.last().unwrap().event("exit");
}

/// Resident memory in KiB.
pub(crate) fn resident(server: &Server) -> u64 {
    kib(server.pid, "VmRSS")
}

/// How much the server grows, in KiB, when thirty readers of `query` ask for a full log of
/// 10 MiB and do not read, while it is written anew.
fn growth(backend: Backend, query: &str) -> u64 {
    let server = Server::open(backend);
    let id = server.spawn(&sh(
        "while read go; do head -c 30000000 /dev/zero | tr '\\0' x; done",
    ));
    let go = || {
        let go = json!({"data": "go\n", "encoding": "utf8"});
        server
            .post(&format!("/v1/processes/{id}/input"), &go)
            .expect(200);
    };
    go();
    let dropped = |least: u64| {
        let logs = server.logs(&id, "?tail=0");
        (logs["droppedBytes"].as_u64().unwrap_or(0) >= least).then_some(())
    };
    eventually("the first 30 MB", || dropped(19_000_000));
    let before = resident(&server);
    let ask = |_| {
        let mut conn = server.conn();
        let target = format!("/v1/processes/{id}/logs{query}");
        conn.send(format!(
            "GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n",
            server.address
        ));
        conn
    };
    let mut stalled: Vec<Conn> = (0..30).map(ask).collect();
    go();
    eventually("the second 30 MB", || dropped(49_000_000));
    let end = Instant::now() + Duration::from_secs(1);
    let mut most = 0;
    while Instant::now() < end {
        most = most.max(resident(&server));
        std::thread::sleep(Duration::from_millis(20));
    }
    // Each is served once it reads.
    for conn in &mut stalled {
        assert_eq!(conn.head(WAIT).expect("an answer").status, 200);
    }
    most.saturating_sub(before)
}

fn stalled_followers_do_not_make_the_memory_grow(backend: Backend) {
    let grown = growth(backend, "?follow=true");
    // A cursor and one bounded write each; thirty copies of the log would be 400 MB.
    assert!(grown < 30_000, "{grown} KiB more for 30 stalled followers");
}

fn stalled_fetches_do_not_make_the_memory_grow(backend: Backend) {
    let grown = growth(backend, "");
    assert!(grown < 30_000, "{grown} KiB more for 30 stalled fetches");
}
