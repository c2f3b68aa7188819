//! `format=text`: logs as people read them, with times, the last lines, and until the exit.

use std::io::Read as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::server::entry_bytes;
use crate::harness::{Backend, Conn, Server, WAIT, eventually, on_both, sh};

on_both!(
    text_is_what_was_written,
    the_last_lines_are_counted_not_entries,
    each_line_begins_with_the_time_of_its_first_byte,
    lines_of_two_streams_stay_whole_where_they_have_times,
    text_by_time_and_by_sequence,
    text_is_followed_until_the_exit,
    a_follower_of_text_ends_with_the_time_that_it_asked_for,
    what_was_evicted_before_is_told_in_the_head,
    text_that_eviction_overtakes_is_cut_off,
    text_of_a_process_that_is_deleted_meanwhile_is_cut_off,
    an_old_client_that_eviction_overtakes_gets_a_reset,
    an_old_client_gets_a_body_up_to_the_end_of_the_connection,
    a_client_that_half_closes_gets_everything,
    readers_of_text_may_leave_at_any_time,
    the_end_of_the_server_ends_text_that_is_followed,
    strict_handling_knows_what_logs_take,
);

fn text(server: &Server, id: &str, query: &str) -> Vec<u8> {
    let answer = server.get(&format!("/v1/processes/{id}/logs?format=text&{query}"));
    let answer = answer.expect(200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    answer.body
}

fn as_str(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// Begins a request for `target` on a connection of its own.
fn ask(server: &Server, target: &str) -> Conn {
    let mut conn = server.conn();
    let host = server.address;
    conn.send(format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    ));
    conn
}

/// A time as it stands before a line, of a `timestampMs`.
fn rfc3339(ms: u64) -> String {
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{}", ms / 1000), "+%Y-%m-%dT%H:%M:%S"])
        .output()
        .expect("date(1)");
    let seconds = String::from_utf8(output.stdout).unwrap();
    format!("{}.{:03}Z ", seconds.trim(), ms % 1000)
}

/// The entries of a log: stream, time, text.
fn entries(server: &Server, id: &str) -> Vec<(String, u64, String)> {
    let logs = server.logs(id, "");
    let entry = |entry: &Value| {
        let stream = entry["stream"].as_str().unwrap().to_owned();
        let text = String::from_utf8(entry_bytes(entry)).unwrap();
        (stream, entry["timestampMs"].as_u64().unwrap(), text)
    };
    logs["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(entry)
        .collect()
}

fn text_is_what_was_written(backend: Backend) {
    let server = Server::open(backend);
    let script = r"printf 'one\r\n\n\303\274\377\000two'; printf 'no end' >&2";
    let id = server.spawn(&sh(script));
    server.await_exit(&id);
    let expected = b"one\r\n\n\xc3\xbc\xff\0two";
    assert_eq!(text(&server, &id, "stream=stdout"), expected);
    assert_eq!(text(&server, &id, "stream=stderr"), b"no end");
    assert_eq!(text(&server, &id, "stream=pty"), b"");
    let both = text(&server, &id, "");
    assert_eq!(both.len(), expected.len() + 6);
    assert_eq!(both, server.output(&id, "combined"));
    let answer = server.get(&format!("/v1/processes/{id}/logs?format=text"));
    assert_eq!(answer.header("procring-dropped-bytes"), None);
    // HEAD: the same head, at once, also where a body would go on.
    let target = format!("/v1/processes/{id}/logs?format=text&follow=true");
    let head = server.request("HEAD", &target, &[], b"").expect(200);
    assert_eq!(head.header("content-type"), answer.header("content-type"));
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    // JSON as ever, named or not.
    let json = server.get(&format!("/v1/processes/{id}/logs"));
    let named = server.get(&format!(
        "/v1/processes/{id}/logs?format=json&timestamps=true"
    ));
    assert_eq!(json.body, named.body);
    // A terminal ends its lines with CR LF.
    let tty = server.spawn(&json!({"command": "printf", "args": ["a\nb\n"], "tty": true}));
    server.await_exit(&tty);
    assert_eq!(text(&server, &tty, ""), b"a\r\nb\r\n");
    assert_eq!(text(&server, &tty, "tail=1"), b"b\r\n");
    let silent = server.spawn(&json!({"command": "true"}));
    server.await_exit(&silent);
    assert_eq!(text(&server, &silent, "tail=3&timestamps=true"), b"");
    let unknown = server.get("/v1/processes/proc_999/logs?format=text");
    unknown.problem(404, "not_found");
}

fn the_last_lines_are_counted_not_entries(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh(
        "seq 1 100000; printf 'half '; read go; printf 'a line\\nlast'; echo err >&2",
    ));
    server.await_output(&id, "half ");
    server.feed(&id, "\n");
    server.await_exit(&id);
    let stdout = |query: &str| {
        let text = text(&server, &id, &format!("stream=stdout&{query}"));
        as_str(&text).to_owned()
    };
    assert_eq!(stdout("tail=0"), "");
    assert_eq!(stdout("tail=1"), "last");
    assert_eq!(stdout("tail=3"), "100000\nhalf a line\nlast");
    let all = stdout("");
    assert_eq!(all.lines().count(), 100_002);
    for count in [1000, 99_999, 100_002, 1_000_000] {
        let lines: Vec<_> = all.split_inclusive('\n').collect();
        let last = lines[lines.len().saturating_sub(count)..].concat();
        assert_eq!(stdout(&format!("tail={count}")), last, "{count}");
    }
    assert_eq!(text(&server, &id, "stream=stderr&tail=5"), b"err\n");
    // Lines of both: which was the last depends on which pipe was read first.
    let both = text(&server, &id, "tail=3");
    let both = as_str(&both);
    assert!(both.contains("half a line\n"), "{both:?}");
    assert!(both.contains("last") && both.contains("err\n"), "{both:?}");
    assert!(!both.contains("100000"), "{both:?}");
}

fn each_line_begins_with_the_time_of_its_first_byte(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh(
        "printf 'a\\nb'; read go; printf 'b\\r\\n\\nc'; read go; printf 'c'",
    ));
    server.feed_after_each(&id, &["b", "\nc"]);
    server.await_exit(&id);
    let times: Vec<_> = entries(&server, &id).iter().map(|e| rfc3339(e.1)).collect();
    let [first, second, _] = &times[..] else {
        panic!("{times:?}");
    };
    let expected = format!("{first}a\n{first}bb\r\n{second}\n{second}cc");
    for query in ["timestamps=true", "timestamps=true&stream=stdout"] {
        assert_eq!(as_str(&text(&server, &id, query)), expected);
    }
    let last = text(&server, &id, "timestamps=true&tail=2");
    assert_eq!(as_str(&last), format!("{second}\n{second}cc"));
    // A line that does not fit one entry, and many small ones.
    let id = server.spawn(&sh(
        "head -c 200000 /dev/zero | tr '\\0' x; echo; yes '' | head -n 100000",
    ));
    server.await_exit(&id);
    let timed = text(&server, &id, "timestamps=true");
    let lines: Vec<_> = as_str(&timed).split_inclusive('\n').collect();
    assert_eq!(lines.len(), 100_001);
    assert_eq!(&lines[0][25..], format!("{}\n", "x".repeat(200_000)));
    assert!(
        lines[1..]
            .iter()
            .all(|line| line.len() == 26 && line.ends_with("Z \n"))
    );
}

/// As `docker logs`: what one stream writes does not stand in the middle of a line of another.
fn lines_of_two_streams_stay_whole_where_they_have_times(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("printf 'working... '; read go
         printf 'warning\\nand ' >&2; read go
         printf 'done\\nnext'; read go
         printf 'more\\n' >&2"));
    server.feed_after_each(&id, &["working... ", "and ", "next"]);
    server.await_exit(&id);
    let times: Vec<_> = entries(&server, &id).iter().map(|e| rfc3339(e.1)).collect();
    let [t1, t2, t3, _] = &times[..] else {
        panic!("{times:?}");
    };
    let timed = text(&server, &id, "timestamps=true");
    let expected = format!("{t2}warning\n{t1}working... done\n{t2}and more\n{t3}next");
    assert_eq!(as_str(&timed), expected);
    // Without times the bytes are what a terminal would have shown.
    let plain = "working... warning\nand done\nnextmore\n";
    assert_eq!(as_str(&text(&server, &id, "")), plain);
    assert_eq!(as_str(&text(&server, &id, "tail=1")), "and more\n");
    let timed = text(&server, &id, "timestamps=true&tail=2");
    assert_eq!(as_str(&timed), format!("{t2}and more\n{t3}next"));
}

fn text_by_time_and_by_sequence(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("pause() { read go; sleep 0.01; }
         echo one; pause; echo two; pause; echo three; pause; echo four >&2"));
    server.feed_after_each(&id, &["one", "two", "three"]);
    server.await_exit(&id);
    let entries = entries(&server, &id);
    let at = |entry: usize| entries[entry].1;
    for (query, expected) in [
        (format!("sinceMs={}", at(1)), "two\nthree\nfour\n"),
        (format!("untilMs={}", at(2)), "one\ntwo\n"),
        (format!("untilMs={}&tail=1", at(2)), "two\n"),
        (format!("sinceMs={}&stream=stdout", at(2)), "three\n"),
        (format!("sinceMs={}&tail=1", at(3) + 1), ""),
        ("since=2".to_owned(), "three\nfour\n"),
        ("since=2&tail=9&stream=stdout".to_owned(), "three\n"),
        ("since=99".to_owned(), ""),
    ] {
        assert_eq!(as_str(&text(&server, &id, &query)), expected, "{query}");
    }
}

fn text_is_followed_until_the_exit(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh(
        "printf 'prompt> '; read go; echo $go; echo oops >&2; read go; exit 3",
    ));
    server.await_output(&id, "prompt> ");
    let target = |query: &str| format!("/v1/processes/{id}/logs?format=text&follow=true&{query}");
    let mut plain = ask(&server, &target(""));
    let mut timed = ask(&server, &target("timestamps=true&stream=stdout"));
    let mut later = ask(&server, &target("tail=0"));
    for conn in [&mut plain, &mut timed, &mut later] {
        conn.head(WAIT).expect("a head");
    }
    let until = Instant::now() + WAIT;
    // At once, though the line is not over.
    assert_eq!(plain.chunk(until), Some(b"prompt> ".to_vec()));
    let first = timed.chunk(until).expect("a chunk");
    assert_eq!(&first[24..], b" prompt> ");
    server.feed(&id, "word\n");
    server.await_output(&id, "oops");
    server.feed(&id, "\n");
    server.await_exit(&id);
    let rest = |mut conn: Conn| {
        let mut text = Vec::new();
        while let Some(chunk) = conn.chunk(until) {
            text.extend(chunk);
        }
        String::from_utf8(text).unwrap()
    };
    let plain = rest(plain);
    assert!(
        plain == "word\noops\n" || plain == "oops\nword\n",
        "{plain:?}"
    );
    assert_eq!(rest(timed), "word\n");
    assert_eq!(rest(later), plain);
    // Of one that has exited: everything, then the end.
    let again = text(&server, &id, "follow=true");
    assert_eq!(as_str(&again), format!("prompt> {plain}"));
    // The connection serves the next request.
    let mut conn = server.conn();
    let host = server.address;
    conn.send(format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\n\r\nGET /v1/health HTTP/1.1\r\nHost: {host}\r\n\r\n",
        target("")
    ));
    assert_eq!(conn.response("GET").expect(200).body, again);
    conn.response("GET").expect(200);
}

fn a_follower_of_text_ends_with_the_time_that_it_asked_for(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("echo early; exec sleep 77"));
    server.await_output(&id, "early");
    let logs = server.logs(&id, "");
    let at = logs["entries"][0]["timestampMs"].as_u64().unwrap();
    let query = format!("follow=true&untilMs={}", at + 400);
    assert_eq!(text(&server, &id, &query), b"early\n");
    assert_eq!(server.info(&id)["status"], "running");
}

fn what_was_evicted_before_is_told_in_the_head(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 2000)]);
    let id = server.spawn(&sh(
        "i=0; while [ $i -lt 5 ]; do head -c 1000 /dev/zero | tr '\\0' $i; i=$((i+1)); read go; done",
    ));
    let texts: Vec<_> = (0..5).map(|n| n.to_string().repeat(1000)).collect();
    server.feed_after_each(&id, &texts.iter().map(String::as_str).collect::<Vec<_>>());
    server.await_exit(&id);
    for (query, dropped) in [
        ("", "3000"),
        ("&stream=stdout", "3000"),
        ("&stream=stderr", ""),
    ] {
        let answer = server.get(&format!("/v1/processes/{id}/logs?format=text{query}"));
        let told = answer.header("procring-dropped-bytes").unwrap_or_default();
        assert_eq!(told, dropped);
        if !dropped.is_empty() {
            assert_eq!(answer.body, texts[3..].concat().into_bytes());
        }
    }
}

/// A process that floods its log once it is told to, and ends.
fn flood(server: &Server) -> String {
    server.spawn(&sh("seq 1 1000; read go; seq 1001 6000000; echo over >&2"))
}

fn text_that_eviction_overtakes_is_cut_off(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 1_000_000)]);
    for query in ["", "&timestamps=true"] {
        let id = flood(&server);
        server.await_output(&id, "1000\n");
        let target =
            format!("/v1/processes/{id}/logs?format=text&follow=true&stream=stdout{query}");
        let mut reader = ask(&server, &target);
        reader.head(WAIT).expect("a head");
        let until = Instant::now() + WAIT;
        let mut body = Vec::new();
        while !body.ends_with(b"1000\n") {
            body.extend(reader.chunk(until).expect("what is retained"));
        }
        // It does not read on until all is over; the socket holds less than was written.
        server.feed(&id, "\n");
        server.await_exit(&id);
        let (rest, whole) = reader.chunks_to_end();
        body.extend(rest);
        assert!(!whole, "{} bytes are not all", body.len());
        let lines: Vec<_> = as_str(&body).lines().collect();
        assert!(lines.len() >= 1000);
        for (line, number) in lines[..lines.len() - 1].iter().zip(1..) {
            let line = if query.is_empty() { line } else { &line[25..] };
            assert_eq!(line, &number.to_string());
        }
    }
}

fn text_of_a_process_that_is_deleted_meanwhile_is_cut_off(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("seq 1 1200000"));
    server.await_exit(&id);
    let mut reader = ask(&server, &format!("/v1/processes/{id}/logs?format=text"));
    reader.head(WAIT).expect("a head");
    server.delete(&format!("/v1/processes/{id}")).expect(204);
    let (body, whole) = reader.chunks_to_end();
    // All of it may have been under way.
    assert_eq!(whole, body.len() == 8_488_896, "{} bytes", body.len());
    server
        .get(&format!("/v1/processes/{id}/logs?format=text"))
        .problem(404, "not_found");
}

/// Nothing but a reset tells a client of HTTP/1.0 that a body without a length is not whole.
fn an_old_client_that_eviction_overtakes_gets_a_reset(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 1_000_000)]);
    let id = flood(&server);
    server.await_output(&id, "1000\n");
    let mut conn = server.conn();
    let target = format!("/v1/processes/{id}/logs?format=text&follow=true");
    conn.send(format!("GET {target} HTTP/1.0\r\n\r\n"));
    conn.head(WAIT).expect("a head");
    server.feed(&id, "\n");
    server.await_exit(&id);
    let (mut stream, _) = conn.into_parts();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    let mut rest = Vec::new();
    let end = stream.read_to_end(&mut rest);
    let end = end.map_err(|error| error.kind());
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
}

fn an_old_client_gets_a_body_up_to_the_end_of_the_connection(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("seq 1 100000; read go; echo end"));
    for query in [
        "",
        "&timestamps=true",
        "&follow=true",
        "&follow=true&timestamps=true",
    ] {
        let mut conn = server.conn();
        let target = format!("/v1/processes/{id}/logs?format=text{query}");
        conn.send(format!("GET {target} HTTP/1.0\r\n\r\n"));
        if query.starts_with("&follow") {
            server.await_output(&id, "\n100000\n");
            if server.info(&id)["status"] == "running" {
                server.feed(&id, "\n");
            }
            server.await_exit(&id);
        }
        let head = conn.head(WAIT).expect("a head");
        assert_eq!(head.header("transfer-encoding"), None);
        assert_eq!(head.header("content-length"), None);
        assert!(head.says_close());
        let body = conn.read_to_end();
        if query.starts_with("&follow") {
            assert!(as_str(&body).ends_with("end\n"));
            assert_eq!(as_str(&body).lines().count(), 100_001);
        }
    }
}

fn a_client_that_half_closes_gets_everything(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("echo begun; read go; echo end"));
    let target = format!("/v1/processes/{id}/logs?format=text&follow=true");
    let mut conn = ask(&server, &target);
    conn.finish_writing();
    conn.head(WAIT).expect("a head");
    assert_eq!(conn.chunk(Instant::now() + WAIT), Some(b"begun\n".to_vec()));
    server.feed(&id, "\n");
    let (body, whole) = conn.chunks_to_end();
    assert_eq!((as_str(&body), whole), ("end\n", true));
}

fn readers_of_text_may_leave_at_any_time(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("i=0; while :; do echo $i; i=$((i+1)); done"));
    for n in 0..40 {
        let query = if n % 3 == 0 { "&timestamps=true" } else { "" };
        let target = format!("/v1/processes/{id}/logs?format=text&follow=true{query}");
        let mut reader = ask(&server, &target);
        if n % 4 > 0 {
            reader.head(WAIT).expect("a head");
        }
        match n % 2 {
            0 => drop(reader),
            _ => reader.reset(),
        }
    }
    let quiet = server.spawn(&json!({"command": "cat"}));
    let reader = ask(
        &server,
        &format!("/v1/processes/{quiet}/logs?format=text&follow=true"),
    );
    reader.reset();
    server.kill(&id);
    eventually("the connections of those who left to be closed", || {
        (server.connections() <= 1).then_some(())
    });
}

fn the_end_of_the_server_ends_text_that_is_followed(backend: Backend) {
    let mut server = Server::open(backend);
    let id = server.spawn(&sh("echo begun; exec sleep 77"));
    server.await_output(&id, "begun");
    let mut reader = ask(
        &server,
        &format!("/v1/processes/{id}/logs?format=text&follow=true"),
    );
    reader.head(WAIT).expect("a head");
    assert_eq!(
        reader.chunk(Instant::now() + WAIT),
        Some(b"begun\n".to_vec())
    );
    server.signal(libc::SIGTERM);
    let (body, whole) = reader.chunks_to_end();
    assert_eq!((body.len(), whole), (0, true));
    server.await_end(Duration::from_secs(20));
}

fn strict_handling_knows_what_logs_take(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("true"));
    let strict = |query: &str| {
        let target = format!("/v1/processes/{id}/logs{query}");
        server.request("GET", &target, &[("Prefer", "handling=strict")], b"")
    };
    strict("?format=text&timestamps=true&sinceMs=0&untilMs=1&tail=3").expect(200);
    strict("?waitMs=0&maxBytes=5&since=0").expect(200);
    strict("/raw?stream=stdout&offset=0&follow=false").expect(200);
    for (query, name) in [
        ("?timestamp=true", "timestamp (nearest known: timestamps)"),
        ("?sinceMS=0", "sinceMS (nearest known: sinceMs)"),
        ("/raw?tail=1", "tail"),
        ("/raw?sinceMs=1", "sinceMs"),
    ] {
        let problem = strict(query).problem(400, "invalid_request");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(name), "{detail}");
    }
}
