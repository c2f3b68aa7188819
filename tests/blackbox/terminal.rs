//! Section 11: the handshake, `ready`, output, `exit` and the close of a terminal.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::ws::{CLOSE, Got, PONG, UPGRADE, path};
use crate::harness::{Backend, Launch, Problem, Server, Ws, eventually, on_both, sh};

on_both!(
    refusals_come_as_http_answers_before_the_upgrade,
    a_token_is_taken_from_the_header_or_the_query,
    only_our_own_pages_and_allowed_ones_attach,
    the_first_offered_subprotocol_is_selected,
    ready_then_output_then_exit_then_1000,
    death_by_signal_is_a_null_exit_code,
    an_exited_terminal_shows_its_output_and_ends,
    a_client_close_is_echoed_and_the_process_goes_on,
    every_client_sees_and_types_everything,
    the_exit_frame_follows_the_exit_at_once,
    a_terminal_held_open_by_another_process_ends_in_time_all_the_same,
    closing_the_server_ends_terminals,
);

/// A terminal that runs `script` with `sh -c`.
pub(crate) fn tty(script: &str) -> Value {
    let mut body = sh(script);
    body["tty"] = true.into();
    body
}

fn refusals_come_as_http_answers_before_the_upgrade(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty("sleep 1000"));
    let pipe = server.spawn(&sh("sleep 1000"));
    let over = server.spawn(&sh("true"));
    server.await_exit(&over);
    let ask = |target: &str| Ws::ask(&server, target, &[]).expect_err("no upgrade");
    Problem::no_process("proc_99").check(&ask(&path("proc_99", "")));
    for id in [&pipe, &over] {
        let problem = Problem::conflict("process is not running in tty mode");
        problem.check(&ask(&path(id, "")));
    }
    for query in [
        "?replay=some",
        "?replay=",
        "?replay=all&replay=all",
        "?since=x",
        "?since=-1",
        "?mode=wo",
        "?input=utf8",
    ] {
        ask(&path(&id, query)).problem(400, "invalid_request");
    }
    // Each missing or wrong header, before the lookup of the process.
    for wrong in [
        ("Connection", "keep-alive"),
        ("Upgrade", "h2c"),
        ("Sec-WebSocket-Version", "8"),
        ("Sec-WebSocket-Key", "c2hvcnQ="),
        ("Sec-WebSocket-Key", "not base64 at all!!!!!!!"),
    ] {
        let mut headers = UPGRADE;
        for header in &mut headers {
            if header.0 == wrong.0 {
                *header = wrong;
            }
        }
        let answer = server.request("GET", &path("proc_99", ""), &headers, b"");
        answer.problem(400, "invalid_request");
        if wrong.1 == "8" {
            assert_eq!(answer.header("sec-websocket-version"), Some("13"));
        }
    }
    server.get(&path(&id, "")).problem(400, "invalid_request");
    assert_eq!(server.info(&id)["status"], "running");
    // Upper and lower case, and lists, are fine.
    let mut conn = server.conn();
    conn.send(format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nconnection: keep-alive, UPGRADE\r\nupgrade: WebSocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {}\r\n\r\n",
        path(&id, ""),
        server.address,
        UPGRADE[3].1
    ));
    conn.response("GET").expect(101);
}

fn a_token_is_taken_from_the_header_or_the_query(backend: Backend) {
    let server = Launch::new(backend).args(&["--token", "s3cret"]).start();
    let bearer = ("Authorization", "Bearer s3cret");
    let json = ("Content-Type", "application/json");
    let body = tty("sleep 1000").to_string();
    let made = server.request("POST", "/v1/processes", &[bearer, json], body.as_bytes());
    let id = made.json()["id"].as_str().unwrap().to_owned();
    for (query, headers) in [
        ("", &[][..]),
        ("?access_token=wrong", &[]),
        ("?access_token=", &[]),
        ("", &[("Authorization", "Bearer wrong")]),
    ] {
        let answer = Ws::ask(&server, &path(&id, query), headers).expect_err("401");
        Problem::no_token().check(&answer);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    // Before anything else is looked at.
    let answer = server.get(&path("proc_99", ""));
    Problem::no_token().check(&answer);
    assert!(Ws::ask(&server, &path(&id, ""), &[bearer]).is_ok());
    Ws::attach(&server, &id, "?access_token=s3cret");
    Ws::attach(&server, &id, "?access_token=s3%63ret&replay=none");
}

fn only_our_own_pages_and_allowed_ones_attach(backend: Backend) {
    let launch = Launch::new(backend).args(&["--no-token", "--cors-allow-origin"]);
    let server = launch.args(&["http://a.example"]).start();
    let id = server.spawn(&tty("sleep 1000"));
    let ask = |origin: &str| Ws::ask(&server, &path(&id, ""), &[("Origin", origin)]);
    for foreign in [
        "http://b.example",
        "null",
        "http://127.0.0.1:1",
        "https://a.example",
    ] {
        let answer = ask(foreign).expect_err(foreign);
        answer.problem(403, "forbidden");
    }
    let own = format!("http://{}", server.address);
    for fine in ["http://a.example", &own] {
        assert!(ask(fine).is_ok(), "{fine}");
    }
}

fn the_first_offered_subprotocol_is_selected(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty("sleep 1000"));
    let offer = |lines: &[(&str, &str)]| {
        let ws = Ws::ask(&server, &path(&id, ""), lines).expect("an upgrade");
        let protocol = ws.head.header("sec-websocket-protocol");
        protocol.map(str::to_owned)
    };
    let name = "Sec-WebSocket-Protocol";
    assert_eq!(offer(&[]), None);
    assert_eq!(offer(&[(name, "tty, other")]).as_deref(), Some("tty"));
    assert_eq!(offer(&[(name, " , b"), (name, "a")]).as_deref(), Some("b"));
    // An extension is not negotiated (`Ws::ask` looks).
    offer(&[("Sec-WebSocket-Extensions", "permessage-deflate")]);
}

fn ready_then_output_then_exit_then_1000(backend: Backend) {
    let server = Server::open(backend);
    for round in 0..10 {
        let id = server.spawn(&tty(
            "read line; i=0; while [ $i -lt 500 ]; do echo \"$line $i\"; i=$((i+1)); done; exit 7",
        ));
        let mut ws = Ws::attach(&server, &id, "");
        ws.input("go\n");
        let end = ws.rest();
        let mut expected = "go\r\n".to_owned();
        (0..500).for_each(|i| expected.push_str(&format!("go {i}\r\n")));
        assert_eq!(String::from_utf8(end.output).unwrap(), expected, "{round}");
        assert_eq!(end.texts, [json!({"exitCode": 7, "type": "exit"})]);
        assert_eq!((end.close, end.reason.as_str()), (Some(1000), ""));
        assert_eq!(server.info(&id)["exitCode"], 7);
        assert_eq!(server.output(&id, "pty"), expected.as_bytes());
    }
}

fn death_by_signal_is_a_null_exit_code(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty("sleep 1000"));
    let mut ws = Ws::attach(&server, &id, "");
    assert_eq!(server.kill(&id)["signal"], "SIGKILL");
    let end = ws.rest();
    assert_eq!(end.texts, [json!({"exitCode": null, "type": "exit"})]);
    assert_eq!(end.close, Some(1000));
}

fn an_exited_terminal_shows_its_output_and_ends(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty("echo bye; exit 3"));
    server.await_exit(&id);
    for (query, output) in [
        ("", "bye\r\n"),
        ("?replay=all", "bye\r\n"),
        ("?replay=none", ""),
        ("?since=99", ""),
    ] {
        let end = Ws::attach(&server, &id, query).rest();
        assert_eq!(String::from_utf8(end.output).unwrap(), output, "{query}");
        assert_eq!(end.texts, [json!({"exitCode": 3, "type": "exit"})]);
        assert_eq!(end.close, Some(1000));
    }
    // 14.11: the terminal's own end is no text.
    assert_eq!(server.output(&id, "combined"), b"bye\r\n");
    // Removed with a viewer there: it ends as well.
    let id = server.spawn(&tty("sleep 1000"));
    let mut ws = Ws::attach(&server, &id, "");
    server.kill(&id);
    server.delete(&format!("/v1/processes/{id}")).expect(204);
    assert_eq!(ws.rest().close, Some(1000));
}

fn a_client_close_is_echoed_and_the_process_goes_on(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty("while read line; do echo \"<$line>\"; done"));
    for (sent, echoed) in [
        (&[][..], None),
        (&[0x03, 0xe8], Some(1000)),
        (&[0x03, 0xe9, b'b', b'y', b'e'], Some(1001)),
        (&[0x0f, 0xa0], Some(4000)),
    ] {
        let mut ws = Ws::attach(&server, &id, "?replay=none");
        ws.send(CLOSE, sent);
        assert_eq!(ws.next(), Got::Close(echoed, String::new()));
        assert_eq!(ws.next(), Got::End);
    }
    // Asked for in words: the server closes.
    let mut ws = Ws::attach(&server, &id, "?replay=none");
    ws.json(&json!({"type": "close", "more": 1}));
    let end = ws.rest();
    assert_eq!((end.close, end.texts), (Some(1000), Vec::new()));
    // Without any word.
    Ws::attach(&server, &id, "").cut();
    let mut ws = Ws::attach(&server, &id, "?replay=none");
    ws.input("still here\n");
    ws.until("<still here>");
    assert_eq!(server.info(&id)["status"], "running");
}

fn every_client_sees_and_types_everything(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty(
        "stty -echo; echo on; while read l; do echo \"<$l>\"; done",
    ));
    let mut all: Vec<_> = (0..4).map(|_| Ws::attach(&server, &id, "")).collect();
    for ws in &mut all {
        ws.until("on\r\n");
    }
    for (at, word) in ["a", "b", "c", "d"].into_iter().enumerate() {
        all[at].input(&format!("{word}\n"));
        for ws in &mut all {
            assert_eq!(ws.until(">\r\n"), format!("<{word}>\r\n"));
        }
    }
    let path = format!("/v1/processes/{id}/input");
    server.post(&path, &json!({"data": "rest\u{4}", "encoding": "utf8"}));
    server.post(&path, &json!({"data": "\n\u{4}", "encoding": "utf8"}));
    for ws in &mut all {
        let end = ws.rest();
        assert_eq!(end.output, b"<rest>\r\n");
        assert_eq!(end.close, Some(1000));
    }
}

fn the_exit_frame_follows_the_exit_at_once(backend: Backend) {
    let server = Server::open(backend);
    let mut times = Vec::new();
    for _ in 0..9 {
        let id = server.spawn(&tty("read x; echo \"$x$x\"; exec true"));
        let mut ws = Ws::attach(&server, &id, "?replay=none");
        let begun = Instant::now();
        ws.input("a\n");
        ws.until("aa\r\n");
        assert!(matches!(ws.next(), Got::Text(exit) if exit["type"] == "exit"));
        times.push(begun.elapsed());
    }
    times.sort();
    // 5 ms by the contract, behind a fork, an exec and whatever else the machine does.
    assert!(times[4] < Duration::from_millis(200), "{times:?}");
}

fn a_terminal_held_open_by_another_process_ends_in_time_all_the_same(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty(
        "trap '' HUP; (sleep 1.5; echo late; sleep 1000) & echo early; exit 4",
    ));
    let mut ws = Ws::attach(&server, &id, "");
    let begun = Instant::now();
    let end = ws.rest();
    let took = begun.elapsed();
    assert_eq!(end.output, b"early\r\n");
    assert_eq!(end.texts, [json!({"exitCode": 4, "type": "exit"})]);
    assert_eq!(end.close, Some(1000));
    assert!(took < Duration::from_millis(1400), "{took:?}");
    // What the other one writes later still reaches the log.
    server.await_output(&id, "late");
}

fn closing_the_server_ends_terminals(backend: Backend) {
    let mut server = Server::open(backend);
    let id = server.spawn(&tty("trap '' TERM HUP; echo on; while :; do sleep 1; done"));
    let mut ws = Ws::attach(&server, &id, "");
    ws.until("on");
    ws.send(PONG, b"unasked");
    server.signal(libc::SIGTERM);
    loop {
        match ws.next() {
            Got::End => break,
            Got::Close(..) => ws.send(CLOSE, &[0x03, 0xe8]),
            _ => {}
        }
    }
    server.await_end(Duration::from_secs(20));
    eventually("no process to be left", || {
        server.survivors().is_empty().then_some(())
    });
}
