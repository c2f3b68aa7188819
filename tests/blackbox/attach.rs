//! Own API, section 8: a process over one WebSocket, both directions.

use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::ws::{BINARY, CLOSE, Got};
use crate::harness::{Backend, Launch, Problem, Server, WAIT, Ws, on_both, sh};
use crate::terminal::tty;

on_both!(
    refusals_come_as_http_answers,
    a_token_is_taken_from_each_of_its_places,
    ready_then_output_then_exit_then_1000,
    what_is_no_text_comes_as_base64,
    text_that_reads_have_cut_is_text,
    half_a_character_at_the_end_is_not_lost,
    binary_frames_begin_with_their_channel,
    a_client_sees_everything_or_what_it_asks_for,
    a_client_that_does_not_read_gets_a_gap_and_holds_up_nobody,
    a_gap_counts_the_characters_that_it_cut,
    a_read_only_client_sees_and_changes_nothing,
    a_terminal_is_attached_to_as_well,
    a_server_that_ends_tells_the_exit,
);

pub(crate) fn target(id: &str, query: &str) -> String {
    format!("/v1/processes/{id}/attach/ws{query}")
}

/// Attaches and takes `ready`.
#[track_caller]
pub(crate) fn attach(server: &Server, id: &str, query: &str) -> Ws {
    let mut ws = Ws::ask(server, &target(id, query), &[]).expect("an upgrade");
    let ready = json!({"type": "ready", "processId": id});
    assert_eq!(ws.next(), Got::Text(ready));
    ws
}

/// What a client was sent, frame by frame.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) stdout: Vec<u8>,
    stderr: Vec<u8>,
    pty: Vec<u8>,
    sequences: Vec<u64>,
    gaps: Vec<Value>,
    pub(crate) errors: Vec<String>,
    pub(crate) exit: Option<Value>,
    pub(crate) close: Option<u16>,
}

impl Seen {
    /// Reads frames until `done`, or to the end.
    #[track_caller]
    pub(crate) fn until(&mut self, ws: &mut Ws, done: impl Fn(&Self) -> bool) {
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
    pub(crate) fn to_the_end(ws: &mut Ws) -> Self {
        let mut seen = Self::default();
        seen.until(ws, |_| false);
        seen
    }
}

impl Ws {
    /// The message of the next error frame; output before it is skipped.
    #[track_caller]
    pub(crate) fn error_among_output(&mut self) -> String {
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

/// Reads until the output holds `text`.
#[track_caller]
pub(crate) fn until_output(ws: &mut Ws, text: &str) -> Seen {
    let mut seen = Seen::default();
    let holds = |all: &[u8]| all.windows(text.len()).any(|part| part == text.as_bytes());
    seen.until(ws, |seen| holds(&seen.stdout) || holds(&seen.pty));
    seen
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

fn text_that_reads_have_cut_is_text(backend: Backend) {
    let server = Server::open(backend);
    // Seven bytes: a read ends in one of them somewhere.
    let id = server.spawn(&sh("yes €€ | head -c 350000"));
    let seen = |query: &str| {
        let mut ws = attach(&server, &id, query);
        let (mut frames, mut text) = (Vec::new(), String::new());
        loop {
            match ws.next() {
                Got::Text(frame) if frame["type"] == "output" => {
                    if frame["encoding"] != "utf8" {
                        return Err(frame["sequence"].clone());
                    }
                    text.push_str(frame["data"].as_str().unwrap());
                    frames.push((frame["sequence"].as_u64().unwrap(), text.len()));
                }
                Got::Text(frame) => {
                    assert_eq!(frame["type"], "exit");
                    return Ok((frames, text));
                }
                other => panic!("{other:?}"),
            }
        }
    };
    let live = seen("");
    let log = server.get(&format!("/v1/processes/{id}/logs")).json();
    let entries = log["entries"].as_array().unwrap();
    let cut = |entry: &Value| {
        let data = STANDARD.decode(entry["data"].as_str().unwrap()).unwrap();
        std::str::from_utf8(&data).is_err()
    };
    assert!(entries.iter().any(cut), "no read has cut a character");
    let at = |entry: &Value| entry["timestampMs"].as_u64().unwrap();
    let stood_still = entries
        .windows(2)
        .any(|two| at(&two[0]) + 1000 <= at(&two[1]));
    let Ok(live) = live else {
        // A second between two parts of a character: the machine had other work.
        assert!(stood_still, "{live:?} is no text");
        return;
    };
    assert_eq!(live.1, "€€\n".repeat(50_000));
    assert_eq!(seen("").as_ref(), Ok(&live));
    // Whoever comes back has the rest, wherever the cut was.
    let step = live.0.len() / 20 + 1;
    for (sequence, had) in live.0.into_iter().step_by(step) {
        let (_, rest) = seen(&format!("?since={sequence}")).unwrap();
        assert_eq!(rest, live.1[had..], "since {sequence}");
    }
}

fn half_a_character_at_the_end_is_not_lost(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("printf 'caf\\303'"));
    let seen = Seen::to_the_end(&mut attach(&server, &id, ""));
    assert_eq!(seen.stdout, b"caf\xc3");
    assert_eq!(seen.exit, Some(json!({"type": "exit", "exitCode": 0})));
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

fn a_gap_counts_the_characters_that_it_cut(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 1 << 20)]);
    // Whether a character is cut where the gap begins, and by how much, differs each time.
    for _ in 0..4 {
        let id = server.spawn(&sh("read go; yes €€ | head -c 30000000"));
        let mut ws = attach(&server, &id, "");
        ws.input("\n");
        server.await_exit(&id);
        let seen = Seen::to_the_end(&mut ws);
        let bytes = |gap: &Value| gap["bytes"].as_u64().unwrap();
        assert!(!seen.gaps.is_empty(), "30 MB without a gap");
        let lost: u64 = seen.gaps.iter().map(bytes).sum();
        assert_eq!(lost + seen.stdout.len() as u64, 30_000_000);
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
