//! The command line where connections break: what was typed goes on, nothing goes twice, and what
//! is not known is said.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use crate::harness::cli::{Said, begun, command};
use crate::harness::proxy::Proxy;
use crate::harness::{Backend, Server, eventually, on_both, sh};

on_both!(
    input_that_was_under_way_at_a_cut_is_told_and_not_sent_again,
    what_comes_while_an_attached_client_is_cut_off_is_shown,
    what_happens_while_a_watcher_is_cut_off_before_its_first_event_is_told,
    input_of_a_run_goes_on_where_its_connection_broke,
    a_run_whose_connection_broke_is_ended_and_its_end_is_told,
);

fn input_that_was_under_way_at_a_cut_is_told_and_not_sent_again(backend: Backend) {
    let server = Server::open(backend);
    let proxy = Proxy::to(&server);
    let id = server.spawn(&sh("cat"));
    let args = ["--url", &proxy.url(), "attach", &id];
    let mut attach = begun(command(&server, &args).stdin(Stdio::piped()));
    let mut input = attach.0.stdin.take().expect("a pipe");
    let mut out = BufReader::new(attach.0.stdout.take().expect("a pipe"));
    let mut errors = BufReader::new(attach.0.stderr.take().expect("a pipe"));
    let mut line = String::new();
    let mut hears = |expected: &str| {
        line.clear();
        out.read_line(&mut line).expect("a line");
        assert_eq!(line, expected);
    };
    input.write_all(b"one\n").expect("attach");
    hears("one\n");
    input.write_all(b"two\n").expect("attach");
    hears("two\n");
    proxy.swallow(true);
    input.write_all(b"never\n").expect("attach");
    eventually("it to be under way", || {
        (proxy.swallowed() > 6).then_some(())
    });
    proxy.swallow(false);
    proxy.cut();
    let mut told = String::new();
    errors.read_line(&mut told).expect("a line");
    // Whether the last that was answered has arrived may not have been heard.
    let is_right = ["; 6 bytes of input", "; 10 bytes of input"].map(|bytes| told.contains(bytes));
    assert!(is_right.contains(&true), "{told}");
    // The proxy is there and its server is not, twice.
    proxy.lose_answers("/attach/ws", 2);
    proxy.cut();
    eventually("two tries", || (proxy.to_lose() == 0).then_some(()));
    input.write_all(b"three\n").expect("attach");
    hears("three\n");
    drop(input);
    attach.0.stderr = Some(errors.into_inner());
    let said = Said::of(attach.wait_with_output());
    assert_eq!((said.code, &*said.err), (Some(0), ""));
    assert_eq!(server.output(&id, "stdout"), b"one\ntwo\nthree\n");
}

fn input_of_a_run_goes_on_where_its_connection_broke(backend: Backend) {
    let server = Server::open(backend);
    let proxy = Proxy::to(&server);
    proxy.lose_answers("/stdin?", 3);
    let args = ["--url", &proxy.url(), "run", "--", "cat"];
    let mut run = begun(command(&server, &args).stdin(Stdio::piped()));
    let mut stdin = run.0.stdin.take().expect("a pipe");
    let lines: String = (0..200_000).map(|n| format!("{n}\n")).collect();
    let input = lines.clone();
    let feeder = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let said = Said::of(run.wait_with_output());
    feeder.join().expect("a feeder").expect("all of it");
    assert_eq!((said.code, &*said.err), (Some(0), ""));
    assert!(
        said.out == lines,
        "{} of {} bytes",
        said.out.len(),
        lines.len()
    );
    assert_eq!(proxy.to_lose(), 0);
}

fn a_run_whose_connection_broke_is_ended_and_its_end_is_told(backend: Backend) {
    let server = Server::open(backend);
    let proxy = Proxy::to(&server);
    let args = [
        "--url",
        &proxy.url(),
        "run",
        "--",
        "sh",
        "-c",
        "echo up; sleep 600",
    ];
    let mut run = begun(&mut command(&server, &args));
    let mut out = BufReader::new(run.0.stdout.take().expect("a pipe"));
    out.read_line(&mut String::new()).expect("a line");
    proxy.cut();
    let said = Said::of(run.wait_with_output());
    assert_eq!(said.code, Some(125), "{said:?}");
    let told = "the connection broke while the command ran; it has ended since, exited(SIGKILL); `procring \
                logs proc_1` has what it wrote";
    assert!(said.err.contains(told), "{said:?}");
    eventually("no survivor", || {
        server.survivors().is_empty().then_some(())
    });
}

fn what_comes_while_an_attached_client_is_cut_off_is_shown(backend: Backend) {
    let server = Server::open(backend);
    let proxy = Proxy::to(&server);
    let id = server.spawn(&sh("echo before; cat"));
    server.await_output(&id, "before");
    let args = ["--url", &proxy.url(), "attach", "--read-only", &id];
    let mut attach = begun(&mut command(&server, &args));
    let is_there = || {
        let usage = server.get(&format!("/v1/processes/{id}?usage=true")).json()["usage"].clone();
        (usage["followers"] == 1).then_some(())
    };
    eventually("the client", is_there);
    // Nothing has come yet, and it does not come back at once.
    proxy.lose_answers("/attach/ws", 2);
    proxy.cut();
    server.feed(&id, "meanwhile\n");
    let mut out = BufReader::new(attach.0.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    assert_eq!(line, "meanwhile\n");
}

fn what_happens_while_a_watcher_is_cut_off_before_its_first_event_is_told(backend: Backend) {
    let server = Server::open(backend);
    let proxy = Proxy::to(&server);
    let args = ["--url", &proxy.url(), "events"];
    let line = eventually("a watcher that has heard where it is", || {
        // One that had not heard it has ended, and left answers to lose to the next one.
        proxy.lose_answers("/v1/events", 0);
        let mut events = begun(&mut command(&server, &args));
        let watches = || {
            let metrics = server.get("/metrics").text().to_owned();
            let kind = "procring_streams{kind=\"watcher\"} 1\n";
            metrics.contains(kind).then_some(())
        };
        eventually("the watcher", watches);
        // It does not come back at once.
        proxy.lose_answers("/v1/events", 2);
        proxy.cut();
        server.spawn(&sh("true"));
        let mut out = BufReader::new(events.0.stdout.take().expect("a pipe"));
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        (!line.is_empty()).then_some(line)
    });
    assert!(line.contains("created proc_"), "{line:?}");
}
