//! `waitMs` and `maxBytes`: a log without streaming, answer by answer, and nothing is lost.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::json::keys;
use crate::harness::server::entry_bytes;
use crate::harness::{Backend, Conn, Response, Server, eventually, on_both, sh};

on_both!(
    an_answer_waits_for_an_entry,
    entries_that_are_not_wanted_are_waited_over_and_passed,
    a_wait_ends_with_the_process,
    pages_put_together_are_the_whole_log,
    a_page_holds_whole_entries_and_at_least_one,
    what_is_there_is_answered_at_once,
    the_head_is_answered_at_once,
    what_is_not_allowed_is_refused,
    a_process_that_is_deleted_meanwhile_is_unknown,
    the_end_of_the_server_answers_who_waits,
    clients_that_hang_up_give_their_connection_back,
    a_client_that_half_closes_is_answered,
);

/// Longer than any test takes: what is answered was not waited out.
const LONG: u64 = 60_000;

/// Sends a request for the log of `id` and does not wait for its answer.
fn ask(server: &Server, id: &str, query: &str) -> Conn {
    let mut conn = server.conn();
    let host = server.address;
    conn.send(format!(
        "GET /v1/processes/{id}/logs?{query} HTTP/1.1\r\nHost: {host}\r\n\r\n"
    ));
    conn
}

fn answer(mut conn: Conn) -> Value {
    conn.response("GET").json()
}

fn numbers(page: &Value) -> Vec<u64> {
    let entries = page["entries"].as_array().unwrap().iter();
    entries.map(|e| e["sequence"].as_u64().unwrap()).collect()
}

/// Waits until the server has begun with a request that it does not answer yet: one that came
/// later on another connection has been answered.
fn begun(server: &Server) {
    server.get("/v1/health").expect(200);
}

fn an_answer_waits_for_an_entry(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("read go; echo one; read go; echo two; read go"));
    let waiting = ask(&server, &id, &format!("waitMs={LONG}"));
    begun(&server);
    server.feed(&id, "\n");
    let page = answer(waiting);
    assert_eq!(numbers(&page), [1]);
    assert_eq!(
        (&page["nextSince"], &page["exited"]),
        (&json!(1), &json!(false))
    );
    let waiting = ask(&server, &id, &format!("since=1&waitMs={LONG}"));
    begun(&server);
    server.feed(&id, "\n");
    let page = answer(waiting);
    assert_eq!((numbers(&page), &page["nextSince"]), (vec![2], &json!(2)));
    // The keys stand behind the old ones; without the parameters there are none.
    let text = |query: &str| {
        let answer = server.get(&format!("/v1/processes/{id}/logs{query}"));
        keys(answer.text())
    };
    let old = ["processId", "stream", "entries"];
    assert_eq!(text(""), old);
    assert_eq!(
        text("?waitMs=0"),
        [&old[..], &["nextSince", "exited"]].concat()
    );
    assert_eq!(
        text("?maxBytes=9"),
        [&old[..], &["nextSince", "exited"]].concat()
    );
}

fn entries_that_are_not_wanted_are_waited_over_and_passed(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("echo 1; read go; echo 2; read go; echo 3 >&2; read go"));
    server.await_output(&id, "1");
    let waiting = ask(&server, &id, &format!("stream=stderr&waitMs={LONG}"));
    begun(&server);
    server.feed_after_each(&id, &["1", "2"]);
    let page = answer(waiting);
    assert_eq!((numbers(&page), &page["nextSince"]), (vec![3], &json!(3)));
    // Nothing that is wanted: what was looked at need not be looked at again.
    for query in ["stream=pty&waitMs=50", "sinceMs=9999999999999&waitMs=50"] {
        let page = answer(ask(&server, &id, query));
        assert!(numbers(&page).is_empty(), "{page}");
        assert_eq!(
            (&page["nextSince"], &page["exited"]),
            (&json!(3), &json!(false))
        );
    }
    let page = answer(ask(&server, &id, "since=7&waitMs=50"));
    assert_eq!((numbers(&page), &page["nextSince"]), (vec![], &json!(7)));
}

fn a_wait_ends_with_the_process(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("echo 1; read go; exit 3"));
    server.await_output(&id, "1");
    let waiting = ask(&server, &id, &format!("since=1&waitMs={LONG}"));
    begun(&server);
    server.feed(&id, "\n");
    let page = answer(waiting);
    assert_eq!((numbers(&page), &page["nextSince"]), (vec![], &json!(1)));
    assert_eq!(page["exited"], true);
    // Over, but there is more behind the page.
    let page = server.logs(&id, &format!("?waitMs={LONG}"));
    assert_eq!((numbers(&page), &page["exited"]), (vec![1], &json!(true)));
    // Somebody holds the output open: the exit is told as to a follower, a moment later.
    let id = server.spawn(&sh("sleep 77 & echo 1"));
    let page = answer(ask(&server, &id, &format!("since=1&waitMs={LONG}")));
    assert_eq!(
        (&page["nextSince"], &page["exited"]),
        (&json!(1), &json!(true))
    );
    server.kill(&id);
}

/// Reads a log page by page as a client would that knows nothing else, until it is told the end.
fn read_all(server: &Server, id: &str, query: &str) -> (Vec<u8>, Vec<u64>) {
    let (mut since, mut bytes, mut sequences) = (0, Vec::new(), Vec::new());
    loop {
        let query = format!("since={since}&waitMs={LONG}&{query}");
        let page = answer(ask(server, id, &query));
        for entry in page["entries"].as_array().unwrap() {
            bytes.extend(entry_bytes(entry));
            sequences.push(entry["sequence"].as_u64().unwrap());
        }
        let next = page["nextSince"].as_u64().unwrap();
        assert!(
            next > since || page["exited"] == true,
            "no progress: {page}"
        );
        since = next;
        if page["exited"] == true {
            return (bytes, sequences);
        }
    }
}

fn pages_put_together_are_the_whole_log(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh(
        "seq 1 200000; echo err >&2; sleep 0.05; seq 200001 400000; sleep 0.05; echo end >&2",
    ));
    let (bytes, sequences) = read_all(&server, &id, "maxBytes=50000&stream=stdout");
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.lines().zip(1..).all(|(line, n)| line == n.to_string()));
    assert_eq!(text.lines().count(), 400_000);
    assert!(sequences.windows(2).all(|pair| pair[0] < pair[1]));
    let (bytes, _) = read_all(&server, &id, "maxBytes=1&stream=stderr");
    assert_eq!(bytes, b"err\nend\n");
    let (bytes, sequences) = read_all(&server, &id, "maxBytes=3000000");
    assert_eq!(bytes, server.output(&id, "combined"));
    let last = sequences.len() as u64;
    assert_eq!(sequences, (1..=last).collect::<Vec<_>>());
}

fn a_page_holds_whole_entries_and_at_least_one(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("for n in 1 2 3 4; do printf 12345; read go; done"));
    for count in 1..=4 {
        eventually("an entry", || {
            (numbers(&server.logs(&id, "")).len() == count).then_some(())
        });
        server.feed(&id, "\n");
    }
    server.await_exit(&id);
    for (max, expected, exited) in [
        (1, &[1][..], false),
        (5, &[1], false),
        (9, &[1], false),
        (10, &[1, 2], false),
        (19, &[1, 2, 3], false),
        (20, &[1, 2, 3, 4], true),
        (u64::MAX, &[1, 2, 3, 4], true),
    ] {
        let page = server.logs(&id, &format!("?maxBytes={max}"));
        assert_eq!(numbers(&page), expected, "{max}");
        assert_eq!(page["nextSince"].as_u64(), expected.last().copied());
        assert_eq!(page["exited"], exited);
    }
    let page = server.logs(&id, "?maxBytes=7&tail=3");
    assert_eq!((numbers(&page), &page["nextSince"]), (vec![2], &json!(2)));
    // What is not wanted before the next one that is has been looked at, too.
    let page = server.logs(&id, "?maxBytes=7&stream=stderr");
    assert_eq!((numbers(&page), &page["nextSince"]), (vec![], &json!(4)));
    assert_eq!(page["exited"], true);
}

fn what_is_there_is_answered_at_once(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("echo 1; read go; exec sleep 77"));
    server.await_output(&id, "1");
    for query in ["", "&tail=1", "&stream=stdout", "&tail=0", "&maxBytes=1"] {
        let page = answer(ask(&server, &id, &format!("waitMs={LONG}{query}")));
        assert_eq!(page["nextSince"], 1, "{query}");
    }
    // Nothing there: what is asked for is waited for, and no longer.
    let start = Instant::now();
    let page = answer(ask(&server, &id, "since=1&waitMs=300"));
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!((numbers(&page), &page["exited"]), (vec![], &json!(false)));
    let unknown = server.get(&format!("/v1/processes/proc_999/logs?waitMs={LONG}"));
    unknown.problem(404, "not_found");
}

fn the_head_is_answered_at_once(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let target = format!("/v1/processes/{id}/logs?waitMs={LONG}");
    let head = server.request("HEAD", &target, &[], b"").expect(200);
    assert_eq!(head.header("content-type"), Some("application/json"));
}

fn what_is_not_allowed_is_refused(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("true"));
    for (query, word) in [
        ("maxBytes=0", "maxBytes"),
        ("maxBytes=", "maxBytes"),
        ("waitMs=-1", "waitMs"),
        ("waitMs=1.5", "waitMs"),
        ("waitMs=1&waitMs=1", "waitMs"),
        ("waitMs=1&follow=true", "waitMs"),
        ("maxBytes=1&format=text", "maxBytes"),
        ("format=xml", "format"),
        ("timestamps=yes", "timestamps"),
    ] {
        let answer: Response = server.get(&format!("/v1/processes/{id}/logs?{query}"));
        let problem = answer.problem(400, "invalid_request");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(word), "{query}: {detail}");
    }
}

fn a_process_that_is_deleted_meanwhile_is_unknown(backend: Backend) {
    let server = Server::open(backend);
    // Over, while somebody holds its output open: for a moment its log is not complete.
    let id = server.spawn(&sh("sleep 77 & read go"));
    let mut waiting = ask(&server, &id, &format!("waitMs={LONG}"));
    begun(&server);
    server.feed(&id, "\n");
    server.await_exit(&id);
    server
        .delete(&format!("/v1/processes/{id}?tree=true"))
        .expect(204);
    let answer = waiting.response("GET");
    // The moment may have passed before the record was deleted.
    if answer.status != 404 {
        assert_eq!(answer.json()["exited"], true);
    }
}

fn the_end_of_the_server_answers_who_waits(backend: Backend) {
    let mut server = Server::open(backend);
    let id = server.spawn(&sh("exec sleep 77"));
    let waiting = ask(&server, &id, &format!("waitMs={LONG}"));
    begun(&server);
    server.signal(libc::SIGTERM);
    let page = answer(waiting);
    assert_eq!((numbers(&page), &page["exited"]), (vec![], &json!(true)));
    server.await_end(Duration::from_secs(20));
}

fn clients_that_hang_up_give_their_connection_back(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let waiting: Vec<_> = (0..20)
        .map(|_| ask(&server, &id, &format!("waitMs={LONG}")))
        .collect();
    begun(&server);
    for conn in waiting {
        conn.reset();
    }
    eventually("the connections to be closed", || {
        (server.connections() == 0).then_some(())
    });
}

fn a_client_that_half_closes_is_answered(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("read go; echo 1; read go"));
    let waiting = ask(&server, &id, &format!("waitMs={LONG}"));
    waiting.finish_writing();
    begun(&server);
    server.feed(&id, "\n");
    assert_eq!(numbers(&answer(waiting)), [1]);
}
