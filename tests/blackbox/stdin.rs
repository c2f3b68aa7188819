//! Own API, section 3: the end of input, offsets, raw bodies of any length.

use std::thread;

use serde_json::{Value, json};

use crate::harness::server::send_signal;
use crate::harness::{Backend, Launch, Problem, Response, Server, eventually, on_both, sh};
use crate::terminal::tty;

on_both!(
    the_end_of_input_comes_behind_what_was_accepted_and_may_be_asked_for_again,
    after_its_end_input_is_409_until_the_exit_says_so_itself,
    what_was_accepted_is_skipped_when_it_is_sent_again,
    every_channel_counts_and_what_the_server_types_does_not,
    an_end_of_input_on_a_terminal_types_its_character_once_each,
    a_terminal_types_the_character_that_its_program_has_chosen,
    a_process_may_begin_with_its_input_closed,
    the_flag_decides_where_the_request_does_not,
);

pub(crate) fn stdin(id: &str) -> String {
    format!("/v1/processes/{id}/stdin")
}

pub(crate) fn input(server: &Server, id: &str, body: Value) -> Response {
    server.post(&format!("/v1/processes/{id}/input"), &body)
}

pub(crate) fn text(data: &str) -> Value {
    json!({"data": data, "encoding": "utf8"})
}

pub(crate) fn text_at(data: &str, offset: u64) -> Value {
    json!({"data": data, "encoding": "utf8", "offset": offset})
}

pub(crate) fn put(server: &Server, id: &str, query: &str, body: &[u8]) -> Response {
    server.request("PUT", &format!("{}{query}", stdin(id)), &[], body)
}

pub(crate) fn close(server: &Server, id: &str) -> Response {
    server.post_empty(&format!("{}/close", stdin(id)))
}

/// The problem of an input that has been asked to end.
#[track_caller]
pub(crate) fn is_closed(answer: &Response) {
    let problem = answer.problem(409, "conflict");
    assert_eq!(problem["code"], "stdin_closed", "{problem}");
}

/// `details` of a problem, without its sentence.
#[track_caller]
pub(crate) fn taken(answer: &Response, status: u16, kind: &str) -> (u64, u64) {
    let details = answer.problem(status, kind)["details"].clone();
    let number = |name: &str| details[name].as_u64().expect("a number");
    (number("bytesWritten"), number("offset"))
}

/// What `cat`, or another program that ends with its input, has written in all.
pub(crate) fn whole_output(server: &Server, id: &str) -> String {
    assert_eq!(server.await_exit(id)["exitCode"], 0);
    String::from_utf8(server.output(id, "stdout")).unwrap()
}

/// What the process has accepted in all.
pub(crate) fn accepted(server: &Server, id: &str) -> u64 {
    let problem = input(server, id, text_at("", u64::MAX)).problem(409, "conflict");
    assert_eq!(problem["code"], "stdin_offset");
    problem["details"]["expectedOffset"].as_u64().unwrap()
}

fn the_end_of_input_comes_behind_what_was_accepted_and_may_be_asked_for_again(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    input(&server, &id, text("one ")).expect(200);
    let last = json!({"data": "two", "encoding": "utf8", "eof": true});
    assert_eq!(input(&server, &id, last).text(), r#"{"bytesWritten":3}"#);
    assert_eq!(whole_output(&server, &id), "one two");
    // Without data.
    let id = server.spawn(&json!({"command": "cat"}));
    let answer = input(&server, &id, json!({"eof": true}));
    assert_eq!(answer.text(), r#"{"bytesWritten":0}"#);
    assert_eq!(whole_output(&server, &id), "");
    // Behind what waits for the process to read it.
    let (id, pid) = server.sleeper();
    let data = "x".repeat(65_000);
    // Fills the pipe but for a part of a page, so that the next one begins to be taken (pipe(7)).
    input(&server, &id, text(&data[..61_441])).expect(200);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| input(&server, &id, text(&data)));
        eventually("the pipe to be full", || {
            (in_pipe(&server, &id) > 61_441).then_some(())
        });
        close(&server, &id).expect_empty(204);
        close(&server, &id).expect_empty(204);
        is_closed(&input(&server, &id, text("late")));
        send_signal(pid, libc::SIGUSR1);
        let written = waiting.join().unwrap().json();
        assert_eq!(written, json!({"bytesWritten": 65_000}));
    });
    assert_eq!(whole_output(&server, &id).len(), 126_441);
    close(&server, &id).expect_empty(204);
    let unknown = close(&server, "proc_99");
    Problem::no_process("proc_99").check(&unknown);
}

/// What the pipe of a process that does not read holds. The process is not asked, nor the server,
/// of which each input waits for those before it.
pub(crate) fn in_pipe(server: &Server, id: &str) -> usize {
    let pid = server.info(id)["pid"].as_i64().unwrap();
    let Ok(pipe) = std::fs::File::open(format!("/proc/{pid}/fd/0")) else {
        return 0;
    };
    rustix::io::ioctl_fionread(&pipe).map_or(0, |held| held as usize)
}

fn after_its_end_input_is_409_until_the_exit_says_so_itself(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("cat; echo end; exec sleep 1000"));
    input(&server, &id, text("a")).expect(200);
    close(&server, &id).expect_empty(204);
    server.await_output(&id, "end");
    is_closed(&input(&server, &id, text("b")));
    is_closed(&input(&server, &id, text("")));
    is_closed(&put(&server, &id, "", b"b"));
    // Nothing more is asked of it than what it has.
    let again = json!({"data": "a", "encoding": "utf8", "offset": 0, "eof": true});
    assert_eq!(
        input(&server, &id, again).text(),
        r#"{"bytesWritten":0,"offset":1}"#
    );
    input(&server, &id, json!({"eof": true})).expect(200);
    assert_eq!(server.info(&id)["status"], "running");
    server.kill(&id);
    let over = Problem::conflict("process is not running");
    over.check(&input(&server, &id, text("b")));
    over.check(&put(&server, &id, "", b"b"));
    assert_eq!(server.output(&id, "stdout"), b"aend\n");
}

fn what_was_accepted_is_skipped_when_it_is_sent_again(backend: Backend) {
    let server = Server::open(backend);
    for body in [
        json!({"command": "cat"}),
        tty("stty raw -echo; echo ready; exec cat"),
    ] {
        let id = server.spawn(&body);
        let stream = if body["tty"] == true { "pty" } else { "stdout" };
        if stream == "pty" {
            eventually("ready", || {
                let output = server.output(&id, stream);
                String::from_utf8_lossy(&output)
                    .contains("ready")
                    .then_some(())
            });
        }
        let send = |data: &str, offset| {
            let answer = input(&server, &id, text_at(data, offset)).json();
            let number = |name: &str| answer[name].as_u64().unwrap();
            (number("bytesWritten"), number("offset"))
        };
        assert_eq!(send("abc", 0), (3, 3));
        // The answer was lost.
        assert_eq!(send("abc", 0), (0, 3));
        assert_eq!(send("abcdef", 0), (3, 6));
        assert_eq!(send("f", 5), (0, 6));
        assert_eq!(send("gh", 6), (2, 8));
        assert_eq!(send("", 0), (0, 8));
        let ahead = input(&server, &id, text_at("z", 9)).problem(409, "conflict");
        assert_eq!(ahead["code"], "stdin_offset");
        assert_eq!(ahead["details"]["expectedOffset"], 8);
        input(&server, &id, text(".")).expect(200);
        eventually("the input to come back", || {
            let output = server.output(&id, stream);
            let text = String::from_utf8(output).unwrap();
            let shown = text.strip_prefix("ready").unwrap_or(&text).trim_start();
            assert!("abcdefgh.".starts_with(shown), "{text:?}");
            (shown == "abcdefgh.").then_some(())
        });
        server.kill(&id);
    }
    let bad = json!({"data": "", "offset": -1});
    let id = server.spawn(&json!({"command": "cat"}));
    input(&server, &id, bad).problem(422, "invalid_request");
    put(&server, &id, "?offset=x", b"").problem(400, "invalid_request");
}

fn every_channel_counts_and_what_the_server_types_does_not(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty("stty raw -echo; echo ready; exec cat > /dev/null"));
    let mut ws = crate::harness::Ws::attach(&server, &id, "");
    ws.until("ready");
    ws.input("12345");
    eventually("what was typed", || {
        (accepted(&server, &id) == 5).then_some(())
    });
    input(&server, &id, text("67")).expect(200);
    close(&server, &id).expect_empty(204);
    let answer = put(&server, &id, "?offset=5", b"678").json();
    assert_eq!(answer, json!({"bytesWritten": 1, "offset": 8}));
}

fn an_end_of_input_on_a_terminal_types_its_character_once_each(backend: Backend) {
    let server = Server::open(backend);
    let script = "stty -echo; echo ready; for n in 1 2 3; do wc -c; done";
    let id = server.spawn(&tty(script));
    let shown = |text: &str| {
        eventually(text, || {
            let output = String::from_utf8(server.output(&id, "pty")).unwrap();
            output.ends_with(text).then_some(())
        });
    };
    shown("ready\r\n");
    let last = json!({"data": "line\n", "encoding": "utf8", "eof": true});
    input(&server, &id, last).expect(200);
    shown("ready\r\n5\r\n");
    close(&server, &id).expect_empty(204);
    shown("ready\r\n5\r\n0\r\n");
    put(&server, &id, "?eof=true", b"abc\n").expect(200);
    shown("ready\r\n5\r\n0\r\n4\r\n");
    assert_eq!(server.await_exit(&id)["exitCode"], 0);
}

fn a_terminal_types_the_character_that_its_program_has_chosen(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty(
        "stty -echo eof x; echo ready; cat; echo end; exec cat",
    ));
    let shown = |text: &str| {
        eventually(text, || {
            let output = String::from_utf8(server.output(&id, "pty")).unwrap();
            output.ends_with(text).then_some(())
        });
    };
    shown("ready\r\n");
    input(&server, &id, json!({"eof": true})).expect(200);
    shown("ready\r\nend\r\n");
}

fn a_process_may_begin_with_its_input_closed(backend: Backend) {
    let server = Server::open(backend);
    let script = "cat; readlink /proc/self/fd/0; exec sleep 1000";
    let mut body = sh(script);
    body["stdin"] = "closed".into();
    let id = server.spawn(&body);
    server.await_output(&id, "/dev/null\n");
    is_closed(&input(&server, &id, text("x")));
    is_closed(&put(&server, &id, "?eof=true", b"x"));
    close(&server, &id).expect_empty(204);
    let mut open = sh("cat");
    open["stdin"] = "open".into();
    let id = server.spawn(&open);
    input(&server, &id, json!({"data": "aGk=", "eof": true})).expect(200);
    assert_eq!(whole_output(&server, &id), "hi");
    let mut wrong = tty("cat");
    for (value, status) in [
        (json!("closed"), 400),
        (json!("shut"), 400),
        (json!(1), 422),
    ] {
        wrong["stdin"] = value;
        let detail = server
            .post("/v1/processes", &wrong)
            .problem(status, "invalid_request");
        let detail = detail["detail"].as_str().unwrap();
        assert!(detail.contains("stdin"), "{detail}");
    }
}

fn the_flag_decides_where_the_request_does_not(backend: Backend) {
    let args = ["--no-token", "--default-stdin", "closed"];
    let server = Launch::new(backend).args(&args).start();
    let id = server.spawn(&sh("cat; echo end"));
    assert_eq!(whole_output(&server, &id), "end\n");
    let mut open = sh("cat");
    open["stdin"] = "open".into();
    let id = server.spawn(&open);
    put(&server, &id, "?eof=true", b"said").expect(200);
    assert_eq!(whole_output(&server, &id), "said");
    // A terminal takes input, whatever the default is.
    let id = server.spawn(&tty("read line; exit 7"));
    input(&server, &id, text("x\n")).expect(200);
    assert_eq!(server.await_exit(&id)["exitCode"], 7);
}
