//! Section 8.8 and 14.13: bytes into a process's pipe, also one that nobody reads.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::server::send_signal;
use crate::harness::{Backend, Problem, Response, Server, eventually, on_both, sh};

on_both!(
    every_encoding_is_written_exactly,
    wrong_encodings_and_base64_are_400,
    the_size_limit_is_exact_and_counts_decoded_bytes,
    input_to_an_exited_process_is_409,
    input_after_stdin_was_closed_is_502,
    input_longer_than_a_pipe_goes_through_while_it_is_read,
    input_that_nobody_reads_is_answered_503_with_what_was_taken,
    a_stuck_input_delays_nothing_else,
    input_goes_through_when_reading_resumes_in_time,
    an_open_input_is_answered_409_when_the_process_ends,
);

fn path(id: &str) -> String {
    format!("/v1/processes/{id}/input")
}

fn utf8(server: &Server, id: &str, data: &str) -> Response {
    server.post(&path(id), &json!({"data": data, "encoding": "utf8"}))
}

fn every_encoding_is_written_exactly(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let mut expected = Vec::new();
    let all: Vec<u8> = (0..=255).collect();
    for (body, written) in [
        (json!({"data": STANDARD.encode(&all)}), all),
        (
            json!({"data": "aGk=", "encoding": "base64"}),
            b"hi".to_vec(),
        ),
        (json!({"data": "aGk=", "encoding": null}), b"hi".to_vec()),
        (json!({"data": "", "encoding": "base64"}), Vec::new()),
        (
            json!({"data": "é\u{1F600}\0\n", "encoding": "utf8"}),
            "é\u{1F600}\0\n".into(),
        ),
        (
            json!({"data": "aGk=", "encoding": "text"}),
            b"aGk=".to_vec(),
        ),
        (
            json!({"data": "", "encoding": "utf8", "other": 1}),
            Vec::new(),
        ),
    ] {
        let answer = server.post(&path(&id), &body);
        answer.json();
        assert_eq!(
            answer.text(),
            format!(r#"{{"bytesWritten":{}}}"#, written.len()),
            "{body}"
        );
        expected.extend(written);
    }
    eventually("all input to come back", || {
        (server.output(&id, "stdout") == expected).then_some(())
    });
}

fn wrong_encodings_and_base64_are_400(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    for encoding in ["utf-8", "UTF8", "hex", "BASE64", "", "ascii"] {
        let answer = server.post(&path(&id), &json!({"data": "aGk=", "encoding": encoding}));
        Problem::invalid("encoding must be one of: base64, utf8, text").check(&answer);
    }
    for data in ["aGk", "aGk=\n", "a Gk=", "aG-_", "=", "====", "aGk==", "é"] {
        let answer = server.post(&path(&id), &json!({"data": data}));
        let detail = answer.problem(400, "invalid_request")["detail"].clone();
        let start = "invalid request: invalid base64 input: ";
        assert!(
            detail.as_str().unwrap().starts_with(start),
            "{data:?}: {detail}"
        );
        // Most who see this meant text, and did not know what is the default.
        assert!(
            detail.as_str().unwrap().contains(r#""encoding":"utf8""#),
            "{data:?}: {detail}"
        );
    }
    utf8(&server, &id, "only this").expect(200);
    assert_eq!(server.await_output(&id, "this"), "only this");
}

fn the_size_limit_is_exact_and_counts_decoded_bytes(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxInputBytesPerRequest", 10)]);
    let id = server.spawn(&json!({"command": "cat"}));
    for data in [
        json!({"data": STANDARD.encode(b"0123456789")}),
        json!({"data": "0123456789", "encoding": "utf8"}),
    ] {
        assert_eq!(
            server.post(&path(&id), &data).json(),
            json!({"bytesWritten": 10})
        );
    }
    for data in [
        json!({"data": STANDARD.encode(b"0123456789a")}),
        json!({"data": "0123456789a", "encoding": "text"}),
        json!({"data": "01234é6789", "encoding": "text"}),
    ] {
        Problem::input_too_large(10).check(&server.post(&path(&id), &data));
    }
    server.await_output(&id, "01234567890123456789");
    server.configure(&[("maxInputBytesPerRequest", 65_536)]);
    let whole = json!({"data": STANDARD.encode(vec![b'x'; 65_536])});
    assert_eq!(
        server.post(&path(&id), &whole).json(),
        json!({"bytesWritten": 65_536})
    );
}

fn input_to_an_exited_process_is_409(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("true"));
    server.await_exit(&id);
    Problem::conflict("process is not running").check(&utf8(&server, &id, "x"));
    // The checks of the request itself come first.
    server
        .post(&path(&id), &json!({"data": "x", "encoding": "hex"}))
        .expect(400);
}

fn input_after_stdin_was_closed_is_502(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("exec 0<&-; echo closed; exec sleep 60"));
    server.await_output(&id, "closed");
    let broken = "failed to write stdin: Broken pipe (os error 32)";
    Problem::refused_by_os(broken)
        .code("EPIPE")
        .check(&utf8(&server, &id, "x"));
    assert_eq!(server.info(&id)["status"], "running");
}

fn input_longer_than_a_pipe_goes_through_while_it_is_read(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxInputBytesPerRequest", 1_000_000)]);
    let id = server.spawn(&json!({"command": "cat"}));
    let data = pattern(1_000_000);
    let body = json!({"data": STANDARD.encode(&data)});
    assert_eq!(
        server.post(&path(&id), &body).json(),
        json!({"bytesWritten": 1_000_000})
    );
    eventually("all input to come back", || {
        let output = server.output(&id, "stdout");
        assert!(data.starts_with(&output), "other bytes came back");
        (output.len() == data.len()).then_some(())
    });
}

/// Checks the problem of 14.13; gives `bytesWritten`.
#[track_caller]
fn taken(answer: &Response) -> usize {
    let problem: Value = answer.problem(503, "timeout");
    let taken = problem["details"]["bytesWritten"]
        .as_u64()
        .expect("details.bytesWritten");
    usize::try_from(taken).unwrap()
}

fn input_that_nobody_reads_is_answered_503_with_what_was_taken(backend: Backend) {
    let server = Server::open(backend);
    let (id, pid) = server.sleeper();
    let data = pattern(130_000);
    let (first, second) = data.split_at(65_000);
    // The first fits into the pipe, the second only in part.
    let body = json!({"data": STANDARD.encode(first)});
    assert_eq!(
        server.post(&path(&id), &body).json(),
        json!({"bytesWritten": 65_000})
    );
    let start = Instant::now();
    let taken = taken(&server.post(&path(&id), &json!({"data": STANDARD.encode(second)})));
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "answered after {:?}",
        start.elapsed()
    );
    assert!(
        start.elapsed() > Duration::from_secs(3),
        "gave up after {:?}",
        start.elapsed()
    );
    assert!(taken < second.len());
    // What was not taken is not written later; what was taken is there, in order.
    send_signal(pid, libc::SIGUSR1);
    let expected = &data[..65_000 + taken];
    eventually("the taken bytes", || {
        (server.output(&id, "stdout").len() >= expected.len()).then_some(())
    });
    utf8(&server, &id, "END").expect(200);
    server.await_output(&id, "END");
    assert!(server.output(&id, "stdout") == [expected, b"END"].concat());
}

fn a_stuck_input_delays_nothing_else(backend: Backend) {
    let server = Server::open(backend);
    let (stuck, _) = server.sleeper();
    let other = server.spawn(&json!({"command": "cat"}));
    let full = json!({"data": STANDARD.encode(pattern(65_000))});
    server.post(&path(&stuck), &full).expect(200);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| server.post(&path(&stuck), &full));
        std::thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        server.get("/v1/health").expect(200);
        server.get("/v1/processes").expect(200);
        server.info(&stuck);
        server.logs(&stuck, "");
        server.run(&sh("true"));
        utf8(&server, &other, "x").expect(200);
        assert!(
            !waiting.is_finished(),
            "nothing was stuck after {:?}",
            start.elapsed()
        );
        // Which ends the sleeper, and with it the wait.
        server
            .post_empty(&format!("/v1/processes/{stuck}/stop?waitMs=0"))
            .expect(200);
        server.kill(&stuck);
        waiting.join().unwrap();
    });
}

fn input_goes_through_when_reading_resumes_in_time(backend: Backend) {
    let server = Server::open(backend);
    let (id, pid) = server.sleeper();
    let data = pattern(130_000);
    let (first, second) = data.split_at(65_000);
    server
        .post(&path(&id), &json!({"data": STANDARD.encode(first)}))
        .expect(200);
    std::thread::scope(|scope| {
        let body = json!({"data": STANDARD.encode(second)});
        let (server, id) = (&server, &id);
        let waiting = scope.spawn(move || server.post(&path(id), &body));
        std::thread::sleep(Duration::from_millis(500));
        send_signal(pid, libc::SIGUSR1);
        assert_eq!(
            waiting.join().unwrap().json(),
            json!({"bytesWritten": 65_000})
        );
    });
    eventually("all input to come back", || {
        (server.output(&id, "stdout") == data).then_some(())
    });
}

fn an_open_input_is_answered_409_when_the_process_ends(backend: Backend) {
    let server = Server::open(backend);
    let (id, _) = server.sleeper();
    let full = json!({"data": STANDARD.encode(pattern(65_000))});
    server.post(&path(&id), &full).expect(200);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| server.post(&path(&id), &full));
        std::thread::sleep(Duration::from_millis(300));
        server.kill(&id);
        let answer = waiting.join().unwrap();
        let problem = answer.problem(409, "conflict");
        assert_eq!(problem["detail"], "conflict: process is not running");
    });
}

/// Bytes without a short period, so that a lost or doubled piece shows.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}
