//! Own API, section 3: raw bodies of any length that a process takes as its input.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::procfs::kib;
use crate::harness::server::send_signal;
use crate::harness::{
    Backend, Launch, Response, Server, eventually, on_both, one_heavy_test_at_a_time, sh,
};
use crate::stdin::{
    accepted, close, in_pipe, input, is_closed, put, stdin, taken, text, whole_output,
};

on_both!(
    a_body_of_any_type_and_framing_arrives,
    two_hundred_megabytes_arrive_exact_in_flat_memory,
    what_is_sent_to_a_process_that_does_not_read_stays_with_the_client,
    a_body_that_is_not_taken_for_thirty_seconds_is_answered_503,
    a_process_that_ends_meanwhile_is_answered_409_with_what_was_taken,
    a_process_that_has_taken_all_may_end_before_the_body_has,
    a_server_that_ends_meanwhile_answers,
    a_body_that_breaks_off_is_no_end_of_input,
    a_second_body_waits_and_a_small_input_does_not,
    an_end_of_input_comes_between_the_pieces_of_a_body,
    a_body_goes_on_at_its_offset,
    refusals_come_before_the_body,
    requests_behind_a_body_are_answered,
    an_archive_from_curl_is_counted_by_tar,
);

/// Bytes of which no two stretches of a mebibyte are alike, `len` in all.
fn pour(len: u64, mut to: impl FnMut(&[u8])) {
    let mut piece = Vec::with_capacity(1 << 20);
    let (mut made, mut line) = (0, 0u64);
    while made < len {
        piece.clear();
        while piece.len() + 16 <= piece.capacity() {
            piece.extend(line.to_be_bytes());
            piece.extend((line ^ 0x5555_5555_5555_5555).to_le_bytes());
            line += 1;
        }
        let left = usize::try_from(len - made).unwrap();
        piece.truncate(left);
        to(&piece);
        made += piece.len() as u64;
    }
}

/// What sha256sum says of that many bytes of [`pour`].
fn sum_of(len: u64) -> String {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pour(len, |piece| pipe.write_all(piece).unwrap());
    drop(pipe);
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

/// The head of a raw body whose length is `length`, on a connection that stays.
fn head(server: &Server, target: &str, framing: &str) -> String {
    format!(
        "PUT {target} HTTP/1.1\r\nHost: {}\r\n{framing}\r\n\r\n",
        server.address
    )
}

impl Response {
    /// The body of a problem that has been checked.
    fn json_of_problem(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn a_body_of_any_type_and_framing_arrives(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let target = stdin(&id);
    let kinds = [
        ("Content-Type", "text/plain"),
        ("Content-Type", "application/x-tar"),
    ];
    for (at, method) in ["POST", "PUT"].into_iter().enumerate() {
        let answer = server.request(method, &target, &kinds[at..=at], b"\0\xff.");
        let offset = 3 * (at + 1);
        let expected = format!(r#"{{"bytesWritten":3,"offset":{offset}}}"#);
        assert_eq!(answer.expect(200).text(), expected);
    }
    let mut conn = server.conn();
    // In chunks, with what may stand beside them.
    conn.send(head(
        &server,
        &target,
        "Transfer-Encoding: chunked\r\nTrailer: x",
    ));
    conn.send("3;a=\"b\"\r\nabc\r\n");
    conn.send("2\r\nde\r\n0\r\nx: y\r\n\r\n");
    assert_eq!(conn.response("PUT").json()["bytesWritten"], 5);
    // The client waits to be told.
    conn.send(head(
        &server,
        &target,
        "Content-Length: 2\r\nExpect: 100-continue",
    ));
    conn.response("PUT").expect(100);
    conn.send("fg");
    assert_eq!(conn.response("PUT").json()["bytesWritten"], 2);
    // Of the old version, and of no length at all.
    conn.send(format!(
        "POST {target} HTTP/1.0\r\nHost: {}\r\nContent-Length: 1\r\n\r\nh",
        server.address
    ));
    let answer = conn.response("POST").expect(200);
    assert!(answer.says_close());
    conn.expect_closed();
    assert_eq!(put(&server, &id, "", b"").json()["bytesWritten"], 0);
    assert_eq!(
        put(&server, &id, "?eof=true", b"").json()["bytesWritten"],
        0
    );
    server.await_exit(&id);
    assert_eq!(server.output(&id, "stdout"), b"\0\xff.\0\xff.abcdefgh");
}

fn two_hundred_megabytes_arrive_exact_in_flat_memory(backend: Backend) {
    let _alone = one_heavy_test_at_a_time();
    const LEN: u64 = 200_000_000;
    let expected = sum_of(LEN);
    let server = Server::open(backend);
    for framing in [
        format!("Content-Length: {LEN}"),
        "Transfer-Encoding: chunked".to_owned(),
    ] {
        let id = server.spawn(&json!({"command": "sha256sum"}));
        let before = kib(server.pid, "VmRSS");
        let mut conn = server.conn();
        conn.send(head(&server, &format!("{}?eof=true", stdin(&id)), &framing));
        let chunked = framing.starts_with('T');
        pour(LEN, |piece| {
            if chunked {
                conn.send(format!("{:x}\r\n", piece.len()));
            }
            conn.send(piece);
            if chunked {
                conn.send("\r\n");
            }
        });
        if chunked {
            conn.send("0\r\n\r\n");
        }
        assert_eq!(conn.response("PUT").json()["bytesWritten"], LEN);
        assert_eq!(whole_output(&server, &id), expected);
        let grown = kib(server.pid, "VmHWM").saturating_sub(before);
        assert!(grown < 4096, "{grown} KiB for a body of {LEN} bytes");
    }
}

fn what_is_sent_to_a_process_that_does_not_read_stays_with_the_client(backend: Backend) {
    let server = Server::open(backend);
    let (id, pid) = server.sleeper();
    let before = kib(server.pid, "VmRSS");
    let mut conn = server.conn();
    const LEN: u64 = 64 << 20;
    conn.send(head(
        &server,
        &format!("{}?eof=true", stdin(&id)),
        &format!("Content-Length: {LEN}"),
    ));
    let (mut reading, mut writing) = conn.split();
    thread::scope(|scope| {
        let sender = scope.spawn(move || {
            pour(LEN, |piece| writing.write_all(piece).unwrap());
        });
        eventually("a full pipe", || {
            (in_pipe(&server, &id) >= 60_000).then_some(())
        });
        // Another request has its answer, and the body has not moved on meanwhile.
        server.get("/v1/health").expect(200);
        assert!(!sender.is_finished(), "64 MiB were taken from the client");
        let held = kib(server.pid, "VmRSS").saturating_sub(before);
        assert!(held < 2048, "{held} KiB are held");
        // Its output is 64 MiB, which the log keeps the end of.
        send_signal(pid, libc::SIGUSR1);
        sender.join().unwrap();
    });
    server.await_exit(&id);
    let mut answer = [0; 12];
    reading.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

fn a_body_that_is_not_taken_for_thirty_seconds_is_answered_503(backend: Backend) {
    let server = Server::open(backend);
    let (id, pid) = server.sleeper();
    let begun = std::time::Instant::now();
    let mut conn = server.conn();
    let data = vec![b'a'; 100_000];
    conn.send(head(&server, &stdin(&id), "Content-Length: 100000"));
    conn.send(&data);
    let answer = conn
        .try_response("PUT", Duration::from_secs(60))
        .expect("an answer");
    assert!(begun.elapsed() >= Duration::from_secs(29));
    assert!(answer.says_close());
    let (written, offset) = taken(&answer, 503, "timeout");
    assert_eq!(written, offset);
    assert!(written < 100_000);
    // What was taken is there, and the rest follows where the client goes on.
    send_signal(pid, libc::SIGUSR1);
    let rest = put(&server, &id, "?offset=0&eof=true", &data).json();
    assert_eq!(
        rest,
        json!({"bytesWritten": 100_000 - written, "offset": 100_000})
    );
    assert_eq!(whole_output(&server, &id).len(), 100_000);
}

fn a_process_that_ends_meanwhile_is_answered_409_with_what_was_taken(backend: Backend) {
    let server = Server::open(backend);
    // While it does not take what has come, and while nothing comes.
    for sent in [200_000, 10] {
        let id = server.spawn(&sh("exec sleep 1000"));
        let mut conn = server.conn();
        conn.send(head(&server, &stdin(&id), "Content-Length: 1000000"));
        conn.send(vec![b'a'; sent]);
        let full = sent.min(60_000);
        eventually("the input", || {
            (in_pipe(&server, &id) >= full).then_some(())
        });
        server.kill(&id);
        let answer = conn.response("PUT");
        assert!(answer.says_close());
        let details = taken(&answer, 409, "conflict");
        assert_eq!(details.0, details.1);
        assert!((full as u64..=65_536).contains(&details.0), "{details:?}");
        assert_eq!(
            answer.json_of_problem()["detail"],
            "conflict: process is not running"
        );
    }
}

fn a_process_that_has_taken_all_may_end_before_the_body_has(backend: Backend) {
    let server = Server::open(backend);
    let whole = json!({"bytesWritten": 5, "offset": 5});
    for (rest, status) in [("0\r\n\r\n", 200), ("1\r\nx\r\n0\r\n\r\n", 409)] {
        let id = server.spawn(&sh("exec head -c 5"));
        let mut conn = server.conn();
        let path = format!("{}?eof=true", stdin(&id));
        conn.send(head(&server, &path, "Transfer-Encoding: chunked"));
        conn.send("5\r\nhello\r\n");
        server.await_exit(&id);
        conn.send(rest);
        let answer = conn.response("PUT");
        match status {
            200 => assert_eq!(answer.json(), whole),
            _ => assert_eq!(taken(&answer, 409, "conflict"), (5, 5)),
        }
    }
}

fn a_server_that_ends_meanwhile_answers(backend: Backend) {
    let mut server = Server::open(backend);
    let id = server.spawn(&sh("exec sleep 1000"));
    let mut conn = server.conn();
    conn.send(head(&server, &stdin(&id), "Content-Length: 100"));
    conn.send("abc");
    eventually("the input", || (in_pipe(&server, &id) == 3).then_some(()));
    server.signal(libc::SIGTERM);
    assert_eq!(taken(&conn.response("PUT"), 409, "conflict"), (3, 3));
    assert!(server.await_end(crate::harness::WAIT).success());
}

fn a_body_that_breaks_off_is_no_end_of_input(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let target = format!("{}?eof=true", stdin(&id));
    let begin = |framing: &str, sent: &str| {
        let mut conn = server.conn();
        conn.send(head(&server, &target, framing));
        conn.send(sent);
        conn
    };
    // Half-closed, so it can still be told.
    let mut conn = begin("Content-Length: 9", "one");
    conn.finish_writing();
    assert_eq!(taken(&conn.response("PUT"), 400, "invalid_request"), (3, 3));
    let mut conn = begin("Transfer-Encoding: chunked", "3\r\ntwo\r\n3\r\n");
    conn.finish_writing();
    assert_eq!(taken(&conn.response("PUT"), 400, "invalid_request"), (3, 6));
    // In the middle of the framing: what came before it has been passed on.
    let mut conn = begin("Transfer-Encoding: chunked", "5\r\nthree\r\n");
    eventually("the first chunk", || {
        (accepted(&server, &id) == 11).then_some(())
    });
    conn.send("x\r\n");
    assert_eq!(
        taken(&conn.response("PUT"), 400, "invalid_request"),
        (5, 11)
    );
    let conn = begin("Content-Length: 9", "four");
    eventually("its beginning", || {
        (accepted(&server, &id) == 15).then_some(())
    });
    conn.reset();
    assert_eq!(server.info(&id)["status"], "running");
    let answer = put(&server, &id, "?offset=15&eof=true", b"five").json();
    assert_eq!(answer, json!({"bytesWritten": 4, "offset": 19}));
    assert_eq!(whole_output(&server, &id), "onetwothreefourfive");
}

fn a_second_body_waits_and_a_small_input_does_not(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let mut first = server.conn();
    first.send(head(&server, &stdin(&id), "Content-Length: 4"));
    first.send("ab");
    eventually("the first body", || {
        (accepted(&server, &id) == 2).then_some(())
    });
    let mut second = server.conn();
    second.send(head(&server, &stdin(&id), "Content-Length: 2"));
    second.send("yz");
    input(&server, &id, text("-")).expect(200);
    // One that is given up while it waits leaves the line.
    let mut third = server.conn();
    third.send(head(&server, &stdin(&id), "Content-Length: 2"));
    third.reset();
    assert_eq!(accepted(&server, &id), 3);
    first.send("cd");
    assert_eq!(first.response("PUT").json()["bytesWritten"], 2 + 2);
    assert_eq!(
        second.response("PUT").json(),
        json!({"bytesWritten": 2, "offset": 7})
    );
    put(&server, &id, "?eof=true", b"").expect(200);
    assert_eq!(whole_output(&server, &id), "ab-cdyz");
}

fn an_end_of_input_comes_between_the_pieces_of_a_body(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("cat; echo :end; exec sleep 1000"));
    let mut conn = server.conn();
    let path = format!("{}?eof=true", stdin(&id));
    conn.send(head(&server, &path, "Content-Length: 8"));
    conn.send("came");
    server.await_output(&id, "came");
    // Whoever sends the body may never end it, as `tail -f` does not.
    close(&server, &id).expect_empty(204);
    server.await_output(&id, "came:end");
    conn.send("more");
    let answer = conn.response("PUT");
    is_closed(&answer);
    assert_eq!(taken(&answer, 409, "conflict"), (4, 4));
    // What has come to the server and not to the process yet is before it, too.
    let (id, pid) = server.sleeper();
    let mut conn = server.conn();
    conn.send(head(&server, &stdin(&id), "Content-Length: 200000"));
    conn.send(vec![b'a'; 100_000]);
    eventually("a full pipe", || {
        (in_pipe(&server, &id) >= 60_000).then_some(())
    });
    close(&server, &id).expect_empty(204);
    conn.send(vec![b'b'; 100_000]);
    send_signal(pid, libc::SIGUSR1);
    let answer = conn.response("PUT");
    let (written, offset) = taken(&answer, 409, "conflict");
    assert_eq!(written, offset);
    assert!((60_000..200_000).contains(&written), "{written}");
    assert_eq!(whole_output(&server, &id).len() as u64, written);
}

fn a_body_goes_on_at_its_offset(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let data: Vec<u8> = (0..300_000u32).map(|n| b'a' + (n % 23) as u8).collect();
    put(&server, &id, "", &data[..100_000]).expect(200);
    let whole = put(&server, &id, "?offset=0", &data).json();
    assert_eq!(whole, json!({"bytesWritten": 200_000, "offset": 300_000}));
    let again = put(&server, &id, "?offset=0&eof=true", &data).json();
    assert_eq!(again, json!({"bytesWritten": 0, "offset": 300_000}));
    assert_eq!(server.await_exit(&id)["exitCode"], 0);
    assert!(server.output(&id, "stdout") == data);
    let id = server.spawn(&json!({"command": "cat"}));
    let problem = put(&server, &id, "?offset=1", &data).problem(409, "conflict");
    assert_eq!(problem["code"], "stdin_offset");
    assert_eq!(problem["details"]["expectedOffset"], 0);
}

fn refusals_come_before_the_body(backend: Backend) {
    let server = Launch::new(backend).args(&["--token", "T"]).start();
    let over = {
        let token = ("Authorization", "Bearer T");
        let json = ("Content-Type", "application/json");
        let body = sh("true").to_string();
        let made = server.request("POST", "/v1/processes", &[token, json], body.as_bytes());
        made.json()["id"].as_str().unwrap().to_owned()
    };
    let token = "Authorization: Bearer T\r\n";
    for (target, token, status) in [
        (stdin(&over), "", 401),
        (stdin("proc_99"), token, 404),
        (format!("{}?eof=1", stdin(&over)), token, 400),
    ] {
        let mut conn = server.conn();
        let framing = format!("{token}Content-Length: 99999999999\r\nExpect: 100-continue");
        conn.send(head(&server, &target, &framing));
        let answer = conn.response("PUT").expect(status);
        assert!(answer.says_close(), "{target}");
    }
    for method in ["GET", "HEAD", "DELETE"] {
        let bearer = ("Authorization", "Bearer T");
        let answer = server.request(method, &stdin(&over), &[bearer], b"");
        assert_eq!(answer.expect(405).header("allow"), Some("POST,PUT"));
    }
    let foreign = [
        ("Authorization", "Bearer T"),
        ("Origin", "http://evil.example"),
    ];
    server
        .request("PUT", &stdin(&over), &foreign, b"x")
        .problem(403, "forbidden");
}

fn requests_behind_a_body_are_answered(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let mut conn = server.conn();
    let target = stdin(&id);
    let get = format!(
        "GET /v1/health HTTP/1.1\r\nHost: {}\r\n\r\n",
        server.address
    );
    let bodies = [
        head(&server, &target, "Content-Length: 3") + "abc",
        head(&server, &target, "Transfer-Encoding: chunked") + "3\r\ndef\r\n0\r\n\r\n",
        head(&server, &target, "Content-Length: 0"),
        // The process is not known, and the body is read away.
        head(&server, &stdin("proc_99"), "Content-Length: 3") + "xxx",
    ];
    conn.send(bodies.map(|body| body + &get).concat());
    for status in [200, 200, 200, 404] {
        conn.response("PUT").expect(status);
        conn.response("GET").expect(200);
    }
    put(&server, &id, "?eof=true", b"").expect(200);
    assert_eq!(whole_output(&server, &id), "abcdef");
}

fn an_archive_from_curl_is_counted_by_tar(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("tar t | wc -l"));
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let url = format!("http://{}{}?eof=true", server.address, stdin(&id));
    let script = format!("tar c . | curl -sS --fail -m 60 -T - '{url}'; find . | wc -l");
    let sent = Command::new("sh")
        .args(["-c", &script])
        .current_dir(here)
        .output()
        .unwrap();
    let said = String::from_utf8(sent.stdout).unwrap();
    let (answer, count) = said.split_once('}').expect("an answer and a count");
    assert!(answer.starts_with("{\"bytesWritten\":"), "{said}");
    assert_eq!(whole_output(&server, &id).trim(), count.trim());
}
