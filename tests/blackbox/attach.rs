//! Own API, section 8: a process over one WebSocket, both directions.

use std::net::TcpStream;
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::harness::server::send_signal;
use crate::harness::ws::{BINARY, CLOSE, Got, TEXT};
use crate::harness::{Backend, Launch, Problem, Server, WAIT, Ws, eventually, on_both, sh};
use crate::terminal::tty;

on_both!(
    refusals_come_as_http_answers,
    a_token_is_taken_from_each_of_its_places,
    ready_then_output_then_exit_then_1000,
    what_is_no_text_comes_as_base64,
    binary_frames_begin_with_their_channel,
    neither_coming_nor_going_ends_the_input,
    an_end_of_input_comes_behind_what_was_sent,
    a_program_that_speaks_json_lines_is_driven_by_another_client,
    a_client_sees_everything_or_what_it_asks_for,
    a_client_that_does_not_read_gets_a_gap_and_holds_up_nobody,
    a_read_only_client_sees_and_changes_nothing,
    signals_go_to_whom_they_are_sent,
    a_terminal_is_attached_to_as_well,
    garbage_is_answered_and_the_connection_stays,
    input_waits_until_the_process_reads,
    what_was_accepted_is_skipped_here_too,
    a_server_that_ends_tells_the_exit,
);

fn target(id: &str, query: &str) -> String {
    format!("/v1/processes/{id}/attach/ws{query}")
}

/// Attaches and takes `ready`.
#[track_caller]
fn attach(server: &Server, id: &str, query: &str) -> Ws {
    let mut ws = Ws::ask(server, &target(id, query), &[]).expect("an upgrade");
    let ready = json!({"type": "ready", "processId": id});
    assert_eq!(ws.next(), Got::Text(ready));
    ws
}

/// What a client was sent, frame by frame.
#[derive(Debug, Default)]
struct Seen {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    pty: Vec<u8>,
    sequences: Vec<u64>,
    gaps: Vec<Value>,
    errors: Vec<String>,
    exit: Option<Value>,
    close: Option<u16>,
}

impl Seen {
    /// Reads frames until `done`, or to the end.
    #[track_caller]
    fn until(&mut self, ws: &mut Ws, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            match ws.next() {
                Got::Text(frame) => {
                    assert!(self.exit.is_none(), "{frame} after the exit");
                    self.text(frame);
                }
                Got::Binary(frame) => match frame.split_first() {
                    Some((1, data)) => self.stdout.extend(data),
                    Some((2, data)) => self.stderr.extend(data),
                    other => panic!("a frame {other:?}"),
                },
                Got::Ping(_) | Got::Pong(_) => {}
                Got::Close(code, _) => {
                    self.close = code;
                    ws.send(CLOSE, &code.unwrap_or(1000).to_be_bytes());
                }
                Got::End => return,
            }
        }
    }

    fn text(&mut self, frame: Value) {
        match frame["type"].as_str().unwrap() {
            "output" => {
                let data = frame["data"].as_str().unwrap();
                let bytes = match frame["encoding"].as_str().unwrap() {
                    "utf8" => data.as_bytes().to_vec(),
                    "base64" => STANDARD.decode(data).unwrap(),
                    other => panic!("encoding {other}"),
                };
                self.sequences.push(frame["sequence"].as_u64().unwrap());
                match frame["stream"].as_str().unwrap() {
                    "stdout" => self.stdout.extend(bytes),
                    "stderr" => self.stderr.extend(bytes),
                    "pty" => self.pty.extend(bytes),
                    other => panic!("stream {other}"),
                }
            }
            "gap" => self.gaps.push(frame),
            "error" => self
                .errors
                .push(frame["message"].as_str().unwrap().to_owned()),
            "exit" => self.exit = Some(frame),
            other => panic!("a frame of type {other}"),
        }
    }

    /// Everything to the end of the connection.
    #[track_caller]
    fn to_the_end(ws: &mut Ws) -> Self {
        let mut seen = Self::default();
        seen.until(ws, |_| false);
        seen
    }
}

/// Reads until the output holds `text`.
#[track_caller]
fn until_output(ws: &mut Ws, text: &str) -> Seen {
    let mut seen = Seen::default();
    let holds = |all: &[u8]| all.windows(text.len()).any(|part| part == text.as_bytes());
    seen.until(ws, |seen| holds(&seen.stdout) || holds(&seen.pty));
    seen
}

/// A process that reads nothing until it gets SIGUSR1, and then copies all to its output.
fn sleeper(server: &Server) -> (String, i32) {
    let info = server.create(&sh(
        "trap 'go=1' USR1; while [ -z \"$go\" ]; do sleep 0.05; done; exec cat",
    ));
    let pid = info["pid"].as_i64().unwrap() as i32;
    (info["id"].as_str().unwrap().to_owned(), pid)
}

fn refusals_come_as_http_answers(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("sleep 1000"));
    let ask = |target: &str| Ws::ask(&server, target, &[]).expect_err("no upgrade");
    Problem::no_process("proc_99").check(&ask(&target("proc_99", "")));
    for query in [
        "?since=x",
        "?tail=-1",
        "?mode=wo",
        "?frames=text",
        "?frames=",
    ] {
        ask(&target(&id, query)).problem(400, "invalid_request");
    }
    let plain = server.get(&target(&id, ""));
    plain.problem(400, "invalid_request");
    assert_eq!(plain.header("sec-websocket-version"), Some("13"));
    let answer = server.request("POST", &target(&id, ""), &[], b"");
    assert_eq!(answer.expect(405).header("allow"), Some("GET,HEAD"));
    let foreign = [("Origin", "http://evil.example")];
    let answer = Ws::ask(&server, &target(&id, ""), &foreign).expect_err("no upgrade");
    answer.problem(403, "forbidden");
}

fn a_token_is_taken_from_each_of_its_places(backend: Backend) {
    let server = Launch::new(backend).args(&["--token", "s3cret"]).start();
    let bearer = ("Authorization", "Bearer s3cret");
    let kind = ("Content-Type", "application/json");
    let body = sh("sleep 1000").to_string();
    let made = server.request("POST", "/v1/processes", &[bearer, kind], body.as_bytes());
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let answer = Ws::ask(&server, &target(&id, ""), &[]).expect_err("401");
    Problem::no_token().check(&answer);
    assert!(Ws::ask(&server, &target(&id, ""), &[bearer]).is_ok());
    assert!(Ws::ask(&server, &target(&id, "?access_token=s3cret"), &[]).is_ok());
    let offered = "procring.v1, procring.bearer.v1.czNjcmV0";
    let by_protocol = ("Sec-WebSocket-Protocol", offered);
    let ws = Ws::ask(&server, &target(&id, ""), &[by_protocol]).expect("an upgrade");
    assert_eq!(
        ws.head.header("sec-websocket-protocol"),
        Some("procring.v1")
    );
}

fn ready_then_output_then_exit_then_1000(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("read a; echo out-$a; echo err >&2; read b; exit 7"));
    let mut ws = attach(&server, &id, "");
    ws.input("one\n");
    let mut seen = Seen::default();
    seen.until(&mut ws, |seen| {
        !seen.stdout.is_empty() && !seen.stderr.is_empty()
    });
    assert_eq!(
        (&seen.stdout[..], &seen.stderr[..]),
        (&b"out-one\n"[..], &b"err\n"[..])
    );
    assert_eq!(seen.sequences, [1, 2]);
    ws.input("two\n");
    let end = Seen::to_the_end(&mut ws);
    assert_eq!(end.exit, Some(json!({"type": "exit", "exitCode": 7})));
    assert_eq!(end.close, Some(1000));
    // Afterwards the same is to be had, and nothing to be sent.
    let mut late = attach(&server, &id, "");
    let seen = Seen::to_the_end(&mut late);
    assert_eq!(
        (seen.stdout, seen.exit, seen.close),
        (b"out-one\n".to_vec(), end.exit, Some(1000))
    );
    let id = server.spawn(&sh("kill -KILL $$"));
    let seen = Seen::to_the_end(&mut attach(&server, &id, ""));
    let killed = json!({"type": "exit", "exitCode": null, "signal": "SIGKILL"});
    assert_eq!(seen.exit, Some(killed));
}

fn what_is_no_text_comes_as_base64(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh(
        "printf 'é\\n'; read a; printf '\\377'; read b; printf '\\303'; read c; printf '\\251'",
    ));
    let mut ws = attach(&server, &id, "");
    let mut encodings = Vec::new();
    let mut data = Vec::new();
    for _ in 0..4 {
        let Got::Text(frame) = ws.next() else {
            panic!("no output");
        };
        let encoding = frame["encoding"].as_str().unwrap().to_owned();
        let text = frame["data"].as_str().unwrap();
        data.extend(match &*encoding {
            "utf8" => text.as_bytes().to_vec(),
            _ => STANDARD.decode(text).unwrap(),
        });
        encodings.push(encoding);
        ws.input("\n");
    }
    assert_eq!(encodings, ["utf8", "base64", "base64", "base64"]);
    assert_eq!(data, b"\xc3\xa9\n\xff\xc3\xa9");
}

fn binary_frames_begin_with_their_channel(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("head -c 300; echo end >&2"));
    let mut ws = attach(&server, &id, "?frames=binary");
    let data: Vec<u8> = (0..300u32).map(|n| n as u8).collect();
    ws.send(BINARY, &[&[0], &data[..100]].concat());
    // Control stays JSON, and so may input be.
    let text = STANDARD.encode(&data[100..200]);
    ws.json(&json!({"type": "input", "data": text, "encoding": "base64"}));
    ws.send(BINARY, &[&[0], &data[200..]].concat());
    let seen = Seen::to_the_end(&mut ws);
    assert_eq!((seen.stdout, seen.stderr), (data, b"end\n".to_vec()));
    assert_eq!(seen.exit, Some(json!({"type": "exit", "exitCode": 0})));
    assert_eq!((seen.errors.len(), seen.close), (0, Some(1000)));
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
    let (id, pid) = sleeper(&server);
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

impl Ws {
    /// The message of the next error frame; output before it is skipped.
    #[track_caller]
    fn error_among_output(&mut self) -> String {
        loop {
            match self.next() {
                Got::Text(frame) if frame["type"] == "error" => {
                    return frame["message"].as_str().unwrap().to_owned();
                }
                Got::Text(frame) if frame["type"] == "output" => {}
                Got::Binary(_) => {}
                other => panic!("no error frame but {other:?}"),
            }
        }
    }
}

/// Another implementation of WebSocket.
fn other_client(server: &Server, id: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    let url = format!("ws://{}{}", server.address, target(id, ""));
    let (client, _) = tungstenite::client(url, stream).expect("a handshake");
    client
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

fn a_client_sees_everything_or_what_it_asks_for(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("echo 0; while read n; do echo $n; done"));
    server.await_output(&id, "0\n");
    for n in 1..=3 {
        server.feed(&id, &format!("{n}\n"));
        server.await_output(&id, &format!("{n}\n"));
    }
    for (query, sequences) in [
        ("?tail=2", &[3, 4][..]),
        ("?since=2", &[3, 4]),
        ("?since=2&tail=1", &[4]),
        ("?tail=99&since=0", &[1, 2, 3, 4]),
        ("", &[1, 2, 3, 4]),
    ] {
        let mut ws = attach(&server, &id, query);
        let mut seen = Seen::default();
        seen.until(&mut ws, |seen| seen.sequences.last() == Some(&4));
        assert_eq!(seen.sequences, sequences, "{query}");
    }
    for query in ["?tail=0", "?since=4"] {
        let mut ws = attach(&server, &id, query);
        ws.input("new\n");
        let seen = until_output(&mut ws, "new\n");
        assert_eq!(seen.stdout, b"new\n", "{query}");
        if query == "?tail=0" {
            assert_eq!(seen.sequences, [5]);
            break;
        }
    }
}

fn a_client_that_does_not_read_gets_a_gap_and_holds_up_nobody(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 1 << 20)]);
    for query in ["", "?frames=binary"] {
        let id = server.spawn(&sh("read go; yes 0123456789 | head -c 60000000; exit 3"));
        let mut ws = attach(&server, &id, query);
        ws.input("\n");
        // It ends although nobody reads.
        assert_eq!(server.await_exit(&id)["exitCode"], 3);
        let seen = Seen::to_the_end(&mut ws);
        assert!(!seen.gaps.is_empty(), "60 MB without a gap");
        let lost: u64 = seen
            .gaps
            .iter()
            .map(|gap| gap["bytes"].as_u64().unwrap())
            .sum();
        assert_eq!(lost + seen.stdout.len() as u64, 60_000_000);
        assert!(seen.gaps[0]["from"].as_u64() <= seen.gaps[0]["to"].as_u64());
        assert_eq!(seen.exit, Some(json!({"type": "exit", "exitCode": 3})));
        assert_eq!(seen.close, Some(1000));
    }
}

fn a_read_only_client_sees_and_changes_nothing(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let mut ws = attach(&server, &id, "?mode=ro&frames=binary");
    for frame in [
        json!({"type": "input", "data": "x"}),
        json!({"type": "eof"}),
        json!({"type": "signal", "signal": "KILL"}),
        json!({"type": "resize", "cols": 5, "rows": 5}),
    ] {
        ws.json(&frame);
        assert_eq!(
            ws.error_among_output(),
            "this connection is read-only",
            "{frame}"
        );
    }
    ws.send(BINARY, b"\0x");
    assert_eq!(ws.error_among_output(), "this connection is read-only");
    server.feed(&id, "seen");
    assert_eq!(until_output(&mut ws, "seen").stdout, b"seen");
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

fn a_terminal_is_attached_to_as_well(backend: Backend) {
    let server = Server::open(backend);
    let script = "stty -echo; echo ready; read go; stty size; cat; echo end";
    let id = server.spawn(&tty(script));
    let mut ws = attach(&server, &id, "");
    let seen = until_output(&mut ws, "ready");
    assert!(seen.stdout.is_empty(), "{seen:?}");
    let mut binary = attach(&server, &id, "?frames=binary&mode=ro");
    ws.json(&json!({"type": "resize", "cols": 7, "rows": 3}));
    ws.input("\n");
    until_output(&mut ws, "3 7");
    ws.json(&json!({"type": "resize", "cols": 0, "rows": 3}));
    assert!(ws.error_among_output().contains("between 1 and"));
    ws.input("line\n");
    until_output(&mut ws, "line");
    ws.json(&json!({"type": "eof"}));
    let seen = Seen::to_the_end(&mut ws);
    assert!(seen.pty.ends_with(b"end\r\n"), "{seen:?}");
    assert_eq!(seen.exit, Some(json!({"type": "exit", "exitCode": 0})));
    // A terminal writes on the channel of stdout.
    let seen = Seen::to_the_end(&mut binary);
    assert!(
        seen.stdout.ends_with(b"end\r\n") && seen.stderr.is_empty(),
        "{seen:?}"
    );
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
    let (id, pid) = sleeper(&server);
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

fn a_server_that_ends_tells_the_exit(backend: Backend) {
    let mut server = Server::open(backend);
    let id = server.spawn(&sh("exec sleep 1000"));
    let mut ws = attach(&server, &id, "");
    let reader = thread::spawn(move || Seen::to_the_end(&mut ws));
    server.signal(libc::SIGTERM);
    let seen = reader.join().unwrap();
    let ended = json!({"type": "exit", "exitCode": null, "signal": "SIGTERM"});
    assert_eq!((seen.exit, seen.close), (Some(ended), Some(1000)));
    assert!(server.await_end(WAIT).success());
}
