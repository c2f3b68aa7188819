//! Own API, section 8: what a client sends to a process that it is attached to.

use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::attach::{Seen, attach, target, until_output};
use crate::harness::server::send_signal;
use crate::harness::ws::{BINARY, CLOSE, TEXT};
use crate::harness::{Backend, Server, WAIT, Ws, eventually, on_both, sh};

on_both!(
    neither_coming_nor_going_ends_the_input,
    an_end_of_input_comes_behind_what_was_sent,
    a_program_that_speaks_json_lines_is_driven_by_another_client,
    signals_go_to_whom_they_are_sent,
    garbage_is_answered_and_the_connection_stays,
    input_waits_until_the_process_reads,
    what_was_accepted_is_skipped_here_too,
);

/// Another implementation of WebSocket.
fn other_client(server: &Server, id: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    let url = format!("ws://{}{}", server.address, target(id, ""));
    let (client, _) = tungstenite::client(url, stream).expect("a handshake");
    client
}

/// What a program has written, line by line.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn next(&mut self, client: &mut WebSocket<TcpStream>) -> Value {
        loop {
            if let Some(end) = self.0.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.0.drain(..=end).collect();
                return serde_json::from_slice(&line).unwrap();
            }
            let Message::Text(text) = client.read().unwrap() else {
                continue;
            };
            let frame: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(frame["type"], "output", "{frame}");
            let data = frame["data"].as_str().unwrap();
            match frame["encoding"].as_str().unwrap() {
                "utf8" => self.0.extend(data.bytes()),
                _ => self.0.extend(STANDARD.decode(data).unwrap()),
            }
        }
    }
}

fn neither_coming_nor_going_ends_the_input(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let mut gone = attach(&server, &id, "");
    gone.input("a");
    gone.cut();
    let mut left = attach(&server, &id, "");
    left.input("b");
    left.json(&json!({"type": "close"}));
    assert_eq!(Seen::to_the_end(&mut left).close, Some(1000));
    let mut closed = attach(&server, &id, "");
    closed.input("c");
    closed.send(CLOSE, &1000u16.to_be_bytes());
    assert_eq!(Seen::to_the_end(&mut closed).exit, None);
    let all = eventually("what each of them sent", || {
        let output = server.output(&id, "stdout");
        (output.len() == 3).then_some(output)
    });
    assert!(b"abc".iter().all(|byte| all.contains(byte)), "{all:?}");
    assert_eq!(server.info(&id)["status"], "running");
}

fn an_end_of_input_comes_behind_what_was_sent(backend: Backend) {
    let server = Server::open(backend);
    let (id, pid) = server.sleeper();
    let mut ws = attach(&server, &id, "");
    // More than the pipe holds, so that the end waits, too.
    let piece = "x".repeat(60_000);
    for _ in 0..4 {
        ws.input(&piece);
    }
    ws.json(&json!({"type": "eof"}));
    ws.input("late");
    send_signal(pid, libc::SIGUSR1);
    let seen = Seen::to_the_end(&mut ws);
    assert_eq!(seen.stdout.len(), 240_000);
    assert_eq!(seen.exit, Some(json!({"type": "exit", "exitCode": 0})));
    assert!(
        seen.errors
            .iter()
            .all(|error| error.starts_with("conflict: ")),
        "{:?}",
        seen.errors
    );
    // While it still runs, and for who has not asked for it.
    let id = server.spawn(&sh("cat; echo end; exec sleep 1000"));
    let (mut one, mut other) = (attach(&server, &id, ""), attach(&server, &id, ""));
    one.json(&json!({"type": "eof"}));
    until_output(&mut one, "end");
    other.input("late");
    assert!(other.error_among_output().contains("stdin is closed"));
    one.json(&json!({"type": "eof"}));
    one.json(&json!({"type": "signal", "signal": "KILL"}));
    let seen = Seen::to_the_end(&mut one);
    assert_eq!((seen.errors.len(), seen.close), (0, Some(1000)));
}

fn a_program_that_speaks_json_lines_is_driven_by_another_client(backend: Backend) {
    let server = Server::open(backend);
    // Answers each request by its number, and tells something unasked now and then.
    let program = "import json,sys\nfor line in sys.stdin:\n q=json.loads(line)\n \
                   print(json.dumps({'jsonrpc':'2.0','id':q['id'],'result':q['params'][::-1]}),flush=True)\n \
                   q['id']%10 or print(json.dumps({'jsonrpc':'2.0','method':'tick'}),flush=True)\n";
    let id = server.spawn(&json!({"command": "python3", "args": ["-u", "-c", program]}));
    let mut client = other_client(&server, &id);
    let mut lines = Lines::default();
    let ready: Value = serde_json::from_str(client.read().unwrap().to_text().unwrap()).unwrap();
    assert_eq!(ready["type"], "ready");
    for number in 0..100u64 {
        let params = format!("é\u{1F600}{number}").repeat(1 + number as usize * 30);
        let request = json!({"jsonrpc": "2.0", "id": number, "method": "m", "params": params});
        let frame = json!({"type": "input", "data": format!("{request}\n")});
        client.send(Message::text(frame.to_string())).unwrap();
        loop {
            let answer = lines.next(&mut client);
            if answer["method"] == "tick" {
                continue;
            }
            let reversed: String = params.chars().rev().collect();
            assert_eq!(
                answer,
                json!({"jsonrpc": "2.0", "id": number, "result": reversed})
            );
            break;
        }
    }
    client.send(Message::text(r#"{"type":"eof"}"#)).unwrap();
    let end = loop {
        match client.read() {
            Ok(Message::Text(text)) if text.contains("\"exit\"") => break text,
            Ok(_) => {}
            Err(error) => panic!("{error} before the exit"),
        }
    };
    assert_eq!(end.as_str(), r#"{"type":"exit","exitCode":0}"#);
    assert!(matches!(client.read(), Ok(Message::Close(Some(frame))) if frame.code == 1000.into()));
}

fn signals_go_to_whom_they_are_sent(backend: Backend) {
    let server = Server::open(backend);
    let script = "trap 'echo usr' USR1; echo ready; while :; do sleep 0.05; done";
    let id = server.spawn(&sh(script));
    let mut ws = attach(&server, &id, "");
    until_output(&mut ws, "ready");
    ws.json(&json!({"type": "signal", "signal": "SIGUSR1", "scope": "leader"}));
    until_output(&mut ws, "usr");
    for (frame, says) in [
        (json!({"type": "signal", "signal": "SIGNONE"}), "SIGINT"),
        (
            json!({"type": "signal", "signal": 1, "scope": "all"}),
            "scope",
        ),
        (
            json!({"type": "signal", "signal": 1, "scope": "foreground"}),
            "conflict: ",
        ),
    ] {
        ws.json(&frame);
        let error = ws.error_among_output();
        assert!(error.contains(says), "{frame}: {error}");
    }
    ws.json(&json!({"type": "signal", "signal": 9}));
    let killed = json!({"type": "exit", "exitCode": null, "signal": "SIGKILL"});
    assert_eq!(Seen::to_the_end(&mut ws).exit, Some(killed));
}

fn garbage_is_answered_and_the_connection_stays(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxInputBytesPerRequest", 10)]);
    let id = server.spawn(&json!({"command": "cat"}));
    let mut ws = attach(&server, &id, "?frames=binary");
    for (frame, says) in [
        (&b"nope"[..], "invalid frame: "),
        (b"[]", "invalid frame: "),
        (br#"{"type":"ack"}"#, "input, eof, signal, resize, close"),
        (br#"{"type":"input"}"#, "`data`"),
        (
            br#"{"type":"input","data":"x","encoding":"hex"}"#,
            "encoding",
        ),
        (
            br#"{"type":"input","data":"aGk","encoding":"base64"}"#,
            "base64",
        ),
        (
            br#"{"type":"input","data":"0123456789a"}"#,
            "maxInputBytesPerRequest (10)",
        ),
        (br#"{"type":"resize","cols":5,"rows":5}"#, "tty mode"),
    ] {
        ws.send(TEXT, frame);
        let error = ws.error_among_output();
        assert!(error.contains(says), "{says}: {error}");
    }
    for (frame, says) in [
        (&b""[..], "channel"),
        (b"\x01x", "channel 1"),
        (b"\xffx", "channel 255"),
        (b"\x000123456789a", "maxInputBytesPerRequest (10)"),
    ] {
        ws.send(BINARY, frame);
        let error = ws.error_among_output();
        assert!(error.contains(says), "{says}: {error}");
    }
    let mut plain = attach(&server, &id, "");
    plain.send(BINARY, b"\0x");
    assert!(plain.error_among_output().contains("frames=binary"));
    ws.send(BINARY, b"\0");
    ws.input("still here");
    assert_eq!(until_output(&mut ws, "still here").stdout, b"still here");
    assert_eq!(until_output(&mut plain, "still here").stdout, b"still here");
    // What is no frame at all ends it.
    plain.raw(&[0x81, 0x01, b'x']);
    assert_eq!(Seen::to_the_end(&mut plain).close, Some(1002));
    assert_eq!(server.info(&id)["status"], "running");
}

fn input_waits_until_the_process_reads(backend: Backend) {
    let server = Server::open(backend);
    let (id, pid) = server.sleeper();
    let mut ws = attach(&server, &id, "?frames=binary");
    let data: Vec<u8> = (0..500_000u32).map(|n| (n % 251) as u8).collect();
    for piece in data.chunks(50_000) {
        ws.send(BINARY, &[&[0], piece].concat());
    }
    // The client is read on meanwhile.
    ws.send(BINARY, b"\x05");
    assert!(ws.error_among_output().contains("channel 5"));
    send_signal(pid, libc::SIGUSR1);
    let mut seen = Seen::default();
    seen.until(&mut ws, |seen| seen.stdout.len() >= data.len());
    assert!(seen.stdout == data, "other bytes came back");
}

fn what_was_accepted_is_skipped_here_too(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let mut ws = attach(&server, &id, "");
    let send = |ws: &mut Ws, data: &str, offset: u64| {
        ws.json(&json!({"type": "input", "data": data, "offset": offset}));
    };
    send(&mut ws, "abc", 0);
    send(&mut ws, "abc", 0);
    send(&mut ws, "abcd", 0);
    assert_eq!(until_output(&mut ws, "d").stdout, b"abcd");
    send(&mut ws, "x", 9);
    assert!(
        ws.error_among_output()
            .contains("offset 9 is beyond the 4 bytes")
    );
    send(&mut ws, ".", 4);
    assert_eq!(until_output(&mut ws, ".").stdout, b".");
}
