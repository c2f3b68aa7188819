//! The command line's streams: input that is passed on, and interrupts.

use std::io::{BufRead as _, BufReader};

use crate::harness::cli::{Said, begun, command, fed, procring};
use crate::harness::{Backend, Server, eventually, on_both, sh};

on_both!(
    a_run_passes_on_input_of_any_length,
    a_run_that_is_interrupted_ends_its_command,
    input_goes_as_text_and_as_a_stream,
    a_run_that_leaves_something_says_so_and_how_to_end_it,
    a_killed_run_leaves_nothing_and_says_nothing,
);

fn a_run_passes_on_input_of_any_length(backend: Backend) {
    let server = Server::open(backend);
    let mut input = vec![b'x'; 20 << 20];
    input.push(b'\n');
    let said = fed(&server, &["run", "--", "wc", "-c"], &input);
    assert_eq!(said.good().trim(), input.len().to_string());
    // One that does not read it ends all the same.
    assert_eq!(fed(&server, &["run", "--", "true"], &input).code, Some(0));
}

fn a_run_that_is_interrupted_ends_its_command(backend: Backend) {
    let server = Server::open(backend);
    let script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done";
    let mut run = begun(&mut command(&server, &["run", "--", "sh", "-c", script]));
    let mut out = BufReader::new(run.0.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    run.signal(libc::SIGINT);
    line.clear();
    out.read_line(&mut line).expect("a line");
    assert_eq!(line, "caught\n");
    assert_eq!(run.wait_with_output().status.code(), Some(9));
    // One that does not listen is killed by the second.
    let script = "trap '' INT; echo ready; while :; do sleep 0.1; done";
    let mut run = begun(&mut command(&server, &["run", "--", "sh", "-c", script]));
    let mut out = BufReader::new(run.0.stdout.take().expect("a pipe"));
    out.read_line(&mut line).expect("a line");
    run.signal(libc::SIGINT);
    run.signal(libc::SIGINT);
    let ended = eventually("the second Ctrl-C", || {
        run.signal(libc::SIGINT);
        run.0.try_wait().expect("a child")
    });
    assert_eq!(ended.code(), Some(128 + 9));
    assert!(server.survivors().is_empty());
}

fn input_goes_as_text_and_as_a_stream(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("cat; echo end"));
    procring(&server, &["input", &id, "one"]).good();
    procring(&server, &["input", "--line", &id, " line"]).good();
    fed(&server, &["input", "--eof", &id], b"two\n").good();
    server.await_exit(&id);
    assert_eq!(
        procring(&server, &["logs", &id]).good(),
        "one line\ntwo\nend\n"
    );
    let said = procring(&server, &["input", &id, "more"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("not running"), "{said:?}");
}

fn a_killed_run_leaves_nothing_and_says_nothing(backend: Backend) {
    let server = Server::open(backend);
    // Many, so that some of them are still on their way out at its end.
    let script = "for i in $(seq 50); do setsid sleep 600 & done; echo ready; wait";
    let timed = procring(
        &server,
        &["run", "--timeout", "1", "--", "sh", "-c", script],
    );
    assert_eq!((timed.code, &*timed.err), (Some(124), ""));
    let ignoring = format!("trap '' INT; {script}; sleep 600");
    for (signal, code) in [(libc::SIGINT, 128 + 9), (libc::SIGTERM, 128 + 15)] {
        let mut run = begun(&mut command(&server, &["run", "--", "sh", "-c", &ignoring]));
        let mut out = BufReader::new(run.0.stdout.take().expect("a pipe"));
        out.read_line(&mut String::new()).expect("a line");
        let ended = eventually("its end", || {
            run.signal(signal);
            run.0.try_wait().expect("a child")
        });
        assert_eq!(ended.code(), Some(code));
        assert_eq!(Said::of(run.wait_with_output()).err, "");
    }
    assert_eq!(procring(&server, &["ps", "-a", "-q"]).good(), "");
}

fn a_run_that_leaves_something_says_so_and_how_to_end_it(backend: Backend) {
    let server = Server::open(backend);
    let script = "sleep 1000 </dev/null >/dev/null 2>&1 & echo $!";
    let run = procring(&server, &["run", "--", "sh", "-c", script]);
    assert_eq!(run.code, Some(0));
    let left: i32 = run.out.trim().parse().expect("a number");
    let word = run.err.split("`procring kill ").nth(1).unwrap_or_default();
    let id = word.split('`').next().unwrap_or_default();
    assert!(run.err.contains("1 process of"), "{}", run.err);
    let listed = procring(&server, &["ps", "-a", "-q"]).good();
    assert_eq!(listed.trim(), id);
    procring(&server, &["kill", id]).good();
    eventually("the end of what was left", || {
        let is_there = std::fs::exists(format!("/proc/{left}")).expect("an answer");
        (!is_there).then_some(())
    });
    // Of one that leaves nothing no record stays.
    procring(&server, &["rm", id]).good();
    procring(&server, &["run", "--", "true"]).good();
    assert_eq!(procring(&server, &["ps", "-a", "-q"]).good().trim(), "");
}
