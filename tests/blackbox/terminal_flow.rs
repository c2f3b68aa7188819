//! A terminal is read as fast as the fastest of its viewers reads, and by nobody else's pace.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::ws::{BINARY, Got};
use crate::harness::{Backend, Server, Ws, eventually, on_both};
use crate::terminal::tty;

on_both!(
    one_slow_viewer_loses_nothing_whatever_the_log_may_hold,
    nobody_is_held_for_who_only_looks_or_takes_nothing,
    a_program_that_is_held_is_ended_as_any_other,
    a_program_is_no_longer_held_for_a_viewer_that_has_gone,
    a_client_that_acknowledges_is_sent_a_window_ahead,
    an_acknowledgement_needs_to_be_agreed_on_and_true,
);

/// Waits for a word, then writes the lines from 1 on, raw.
fn writer(last: u32) -> Value {
    tty(&format!("stty raw -echo; echo on; read x; seq 1 {last}"))
}

fn lines(last: u32) -> Vec<u8> {
    let lines = (1..=last).map(|n| format!("{n}\n"));
    lines.collect::<String>().into_bytes()
}

fn attached(server: &Server, id: &str, query: &str) -> Ws {
    let mut ws = Ws::attach(server, id, query);
    ws.until("on\n");
    ws
}

fn one_slow_viewer_loses_nothing_whatever_the_log_may_hold(backend: Backend) {
    let server = Server::open(backend);
    // Far below, about and above what a viewer may be behind; below one read of a terminal.
    for (limit, last) in [
        (1_000, 4_000),
        (5_000, 20_000),
        (100_000, 60_000),
        (1 << 20, 400_000),
    ] {
        server.configure(&[("maxLogBytesPerProcess", limit)]);
        let id = server.spawn(&writer(last));
        let mut ws = attached(&server, &id, "");
        ws.input("go\n");
        let mut seen = Vec::new();
        let mut texts = Vec::new();
        let code = loop {
            match ws.next() {
                Got::Binary(data) => seen.extend(data),
                Got::Text(value) => texts.push(value),
                Got::Close(code, _) => break code,
                other => panic!("{other:?} after {} bytes", seen.len()),
            }
            if seen.len() % 3 == 0 {
                // Slower than the program writes.
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        let expected = lines(last);
        let same = seen
            .iter()
            .zip(&expected)
            .take_while(|(a, b)| a == b)
            .count();
        assert!(
            seen == expected,
            "limit {limit}: {} of {} bytes, the first {same} are right",
            seen.len(),
            expected.len()
        );
        assert_eq!(texts, [json!({"exitCode": 0, "type": "exit"})]);
        assert_eq!(code, Some(1000));
    }
}

fn nobody_is_held_for_who_only_looks_or_takes_nothing(backend: Backend) {
    let server = Server::open(backend);
    let last = 1_000_000;
    // One that only looks.
    let id = server.spawn(&writer(last));
    let mut looks = attached(&server, &id, "?mode=ro");
    server.feed(&id, "go\n");
    server.await_exit(&id);
    // Too far behind to be shown everything.
    let end = looks.rest();
    assert!(end.output.len() < lines(last).len());
    assert_eq!((end.texts.len(), end.close), (1, Some(1000)));
    // One that could type and takes nothing is waited for, but not for ever.
    let id = server.spawn(&writer(last));
    let mut stalled = attached(&server, &id, "");
    stalled.input("go\n");
    server.await_exit(&id);
    let end = stalled.rest();
    assert!(lines(last).starts_with(&end.output[..64 << 10]));
    assert_eq!((end.texts.len(), end.close), (1, Some(1000)));
}

/// A program that always has more to say and a viewer that takes little of it, held by that.
fn held(server: &Server) -> (String, Ws) {
    let id = server.spawn(&tty("stty raw -echo; echo on; read x; exec yes"));
    let mut ws = attached(server, &id, "");
    ws.input("go\n");
    assert!(matches!(ws.next(), Got::Binary(_)));
    (id, ws)
}

/// Whether the log grows: the process is not held.
fn await_growth(server: &Server, id: &str, beyond: u64) {
    eventually("the program to go on", || {
        let logs = server.logs(id, "?tail=1");
        let last = logs["entries"][0]["sequence"].as_u64().unwrap_or(0);
        (last > beyond).then_some(())
    });
}

fn last_entry(server: &Server, id: &str) -> u64 {
    let logs = server.logs(id, "?tail=1");
    logs["entries"][0]["sequence"].as_u64().unwrap_or(0)
}

fn a_program_that_is_held_is_ended_as_any_other(backend: Backend) {
    let mut server = Server::open(backend);
    for ended_by in ["kill", "stop"] {
        let (id, mut ws) = held(&server);
        let answer = server.post_empty(&format!("/v1/processes/{id}/{ended_by}"));
        assert_eq!(answer.json()["status"], "exited", "{ended_by}");
        let end = ws.rest();
        assert_eq!(end.texts, [json!({"exitCode": null, "type": "exit"})]);
        assert_eq!(end.close, Some(1000));
        server
            .delete(&format!("/v1/processes/{id}"))
            .expect_empty(204);
    }
    let (_id, _ws) = held(&server);
    server.signal(libc::SIGTERM);
    assert!(server.await_end(Duration::from_secs(20)).success());
}

fn a_program_is_no_longer_held_for_a_viewer_that_has_gone(backend: Backend) {
    let server = Server::open(backend);
    let (id, ws) = held(&server);
    let before = last_entry(&server, &id);
    ws.cut();
    await_growth(&server, &id, before + 1000);
    server.kill(&id);
}

fn a_client_that_acknowledges_is_sent_a_window_ahead(backend: Backend) {
    let server = Server::open(backend);
    let last = 300_000;
    let id = server.spawn(&writer(last));
    // What is typed before that is echoed by the terminal.
    server.await_output(&id, "on\n");
    let mut ws = Ws::attach(&server, &id, "?flow=ack&replay=none");
    let ack = |ws: &mut Ws, bytes: usize| ws.json(&json!({"type": "ack", "bytes": bytes}));
    ws.input("go\n");
    let mut seen = Vec::new();
    let mut acknowledged = 0;
    let code = loop {
        // It takes all that it is sent at once, as a page does, and acknowledges when no more comes.
        match ws.poll(Duration::from_millis(if acknowledged == 0 {
            500
        } else {
            5
        })) {
            Some(Got::Binary(data)) => seen.extend(data),
            Some(Got::Text(value)) => assert_eq!(value["type"], "exit", "{value}"),
            Some(Got::Close(code, _)) => break code,
            None => {
                let ahead = seen.len() - acknowledged;
                // The way is short here, so the window is the smallest.
                assert!(ahead <= 256 << 10, "{ahead} bytes ahead");
                acknowledged = seen.len();
                ack(&mut ws, acknowledged);
            }
            Some(other) => panic!("{other:?}"),
        }
    };
    assert!(seen == lines(last), "{} bytes", seen.len());
    assert!(acknowledged > 256 << 10, "it was never held");
    assert_eq!(code, Some(1000));
    // What is replayed is acknowledged, too; without that there is no more of it.
    let mut ws = Ws::attach(&server, &id, "?flow=ack&replay=all");
    let end = ws.rest();
    assert!(end.output.ends_with(&seen) && end.close == Some(1000));
}

fn an_acknowledgement_needs_to_be_agreed_on_and_true(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty("stty raw -echo; echo on; read x"));
    let mut ws = attached(&server, &id, "");
    ws.json(&json!({"type": "ack", "bytes": 3}));
    let refused = ws.error();
    ws.json(&json!({"type": "acknowledge"}));
    assert_eq!(refused, ws.error(), "as any type that is not known");
    let mut ws = attached(&server, &id, "?flow=ack&input=binary");
    for good in [0, 1, 3, 2, 3] {
        ws.json(&json!({"type": "ack", "bytes": good}));
    }
    ws.json(&json!({"type": "ack", "bytes": 4}));
    let message = ws.error();
    assert!(
        message.contains('4') && message.contains("3 have been sent"),
        "{message}"
    );
    ws.json(&json!({"type": "ack", "bytes": "many"}));
    assert!(ws.error().contains("bytes"));
    for wrong in [
        "flow=ACK",
        "flow=none",
        "flow=",
        "control=full",
        "offset=-1",
    ] {
        let target = crate::harness::ws::path(&id, &format!("?{wrong}"));
        let refused = Ws::ask(&server, &target, &[]).expect_err("a wrong word");
        assert_eq!(refused.status, 400, "{wrong}");
    }
    ws.send(BINARY, b"x\n");
    assert_eq!(ws.rest().close, Some(1000));
}
