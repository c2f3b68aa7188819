//! Section 11, client to server: what frames do, and what becomes of wrong ones.

use serde_json::json;

use crate::harness::ws::{BINARY, CLOSE, CONTINUATION, Ending, Got, PING, PONG, TEXT, frame};
use crate::harness::{Backend, Server, Ws, eventually, on_both};
use crate::terminal::tty;

on_both!(
    input_is_text_unless_it_says_otherwise,
    wrong_frames_get_an_error_and_the_connection_stays,
    too_long_an_input_writes_nothing,
    binary_frames_are_input_where_asked_for,
    a_read_only_viewer_only_reads,
    messages_may_be_cut_anywhere,
    every_violation_ends_with_its_code_and_leaves_all_well,
    a_message_may_be_long_but_not_endless,
);

/// A terminal that shows its input in hexadecimal, line by line.
const HEX: &str = "stty raw -echo; echo on; exec od -An -v -tx1 -w1";

fn input_is_text_unless_it_says_otherwise(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty(
        "stty -echo; echo on; while read -r l; do echo \"<$l>\"; done",
    ));
    let mut ws = Ws::attach(&server, &id, "");
    ws.until("on\r\n");
    for (frame, line) in [
        (json!({"type": "input", "data": "aGk=\n"}), "<aGk=>"),
        (
            json!({"type": "input", "data": "é\u{1f600}\n", "encoding": "utf8"}),
            "<é\u{1f600}>",
        ),
        (
            json!({"type": "input", "data": "aGk=\n", "encoding": "text"}),
            "<aGk=>",
        ),
        (
            json!({"type": "input", "data": "aGkK", "encoding": "base64"}),
            "<hi>",
        ),
        (
            json!({"type": "input", "data": "x\n", "encoding": null, "more": [1]}),
            "<x>",
        ),
    ] {
        ws.json(&frame);
        assert_eq!(ws.until("\r\n"), format!("{line}\r\n"), "{frame}");
    }
}

fn wrong_frames_get_an_error_and_the_connection_stays(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty("while read l; do echo \"<$l>\"; done"));
    let mut ws = Ws::attach(&server, &id, "");
    for text in [
        "",
        "hello",
        "{",
        "[]",
        "null",
        "{}",
        r#"{"type":"output"}"#,
        r#"{"type":1}"#,
        r#"{"type":"input"}"#,
        r#"{"type":"input","data":1}"#,
        r#"{"type":"input","data":null}"#,
        r#"{"type":"Input","data":"x"}"#,
        r#"{"type":"resize","cols":80}"#,
        r#"{"type":"resize","cols":80,"rows":-1}"#,
        r#"{"type":"resize","cols":80,"rows":65536}"#,
        r#"{"type":"resize","cols":"80","rows":24}"#,
        r#"{"type":"close"} x"#,
    ] {
        ws.send(TEXT, text.as_bytes());
        let message = ws.error();
        assert!(
            message.starts_with("invalid terminal frame: "),
            "{text}: {message}"
        );
    }
    for (frame, start) in [
        (
            json!({"type": "input", "data": "x", "encoding": "hex"}),
            "invalid request: encoding must be one of: base64, utf8, text",
        ),
        (
            json!({"type": "input", "data": "a", "encoding": "base64"}),
            "invalid request: invalid base64 input: ",
        ),
        (
            json!({"type": "resize", "cols": 0, "rows": 24}),
            "invalid request: ",
        ),
        (
            json!({"type": "resize", "cols": 80, "rows": 0}),
            "invalid request: ",
        ),
    ] {
        ws.json(&frame);
        let message = ws.error();
        assert!(message.starts_with(start), "{frame}: {message}");
    }
    ws.send(BINARY, b"ls\n");
    assert_eq!(
        ws.error(),
        "binary input is not supported; use text JSON frames"
    );
    ws.input("alive\n");
    ws.until("<alive>");
    assert_eq!(server.output(&id, "pty"), b"alive\r\n<alive>\r\n");
}

fn too_long_an_input_writes_nothing(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxInputBytesPerRequest", 10)]);
    let id = server.spawn(&tty(HEX));
    let mut ws = Ws::attach(&server, &id, "?input=binary");
    ws.until("on\n");
    let message = "input payload exceeds maxInputBytesPerRequest (10)";
    ws.input("0123456789a");
    assert_eq!(ws.error(), message);
    ws.json(&json!({"type": "input", "data": "MDEyMzQ1Njc4OWE=", "encoding": "base64"}));
    assert_eq!(ws.error(), message);
    ws.send(BINARY, b"0123456789a");
    assert_eq!(ws.error(), message);
    ws.input("\u{1}123456789");
    let shown = ws.until("39");
    assert!(shown.trim_start().starts_with("01"), "{shown}");
}

fn binary_frames_are_input_where_asked_for(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty("stty raw -echo; echo on; exec od -An -v -tx1 -w256"));
    let mut ws = Ws::attach(&server, &id, "?input=binary");
    ws.until("on");
    let all: Vec<u8> = (0..=255).collect();
    ws.raw(&frame(false, BINARY, &all[..100]));
    ws.raw(&frame(true, CONTINUATION, &all[100..]));
    let shown = ws.until("ff");
    let bytes: Vec<u8> = shown
        .split_whitespace()
        .filter_map(|hex| u8::from_str_radix(hex, 16).ok())
        .collect();
    assert_eq!(bytes, all);
    // JSON works as well.
    ws.resize(100, 30);
    ws.send(BINARY, b"");
    ws.send(TEXT, b"x");
    assert!(ws.error().starts_with("invalid terminal frame: "));
}

fn a_read_only_viewer_only_reads(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty("while read l; do echo \"<$l>\"; stty size; done"));
    let mut reader = Ws::attach(&server, &id, "?mode=ro&input=binary");
    let mut writer = Ws::attach(&server, &id, "?mode=rw&input=text");
    reader.input("no\n");
    reader.error();
    reader.resize(10, 10);
    reader.error();
    reader.send(BINARY, b"no\n");
    reader.error();
    writer.input("yes\n");
    assert_eq!(reader.until("80\r\n"), "yes\r\n<yes>\r\n24 80\r\n");
    reader.send(PING, b"there?");
    assert_eq!(reader.next(), Got::Pong(b"there?".to_vec()));
    reader.json(&json!({"type": "close"}));
    assert_eq!(reader.rest().close, Some(1000));
}

fn messages_may_be_cut_anywhere(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty(
        "stty -echo; echo on; while read -r l; do echo \"<$l>\"; done",
    ));
    let mut ws = Ws::attach(&server, &id, "");
    ws.until("on\r\n");
    let text = "{\"type\":\"input\",\"data\":\"grüße \u{1f600}\\n\"}".as_bytes();
    // Fragments that cut characters, with control frames and empty ones between them.
    ws.raw(&frame(false, TEXT, &text[..1]));
    for byte in &text[1..] {
        ws.raw(&frame(false, CONTINUATION, &[*byte]));
        ws.send(PONG, b"");
        ws.raw(&frame(false, CONTINUATION, b""));
    }
    ws.send(PING, b"in the middle");
    assert_eq!(ws.next(), Got::Pong(b"in the middle".to_vec()));
    ws.raw(&frame(true, CONTINUATION, b""));
    assert_eq!(ws.until("\r\n"), "<grüße \u{1f600}>\r\n");
    // TCP segments that cut frames.
    for byte in frame(true, TEXT, text) {
        ws.raw(&[byte]);
    }
    assert_eq!(ws.until("\r\n"), "<grüße \u{1f600}>\r\n");
    // Many frames in one segment.
    let many: Vec<u8> = (0..300).flat_map(|_| frame(true, TEXT, text)).collect();
    ws.raw(&many);
    let mut shown = String::new();
    while shown.matches('>').count() < 300 {
        shown.push_str(&ws.until("\n"));
    }
    assert_eq!(shown, "<grüße \u{1f600}>\r\n".repeat(300));
}

fn every_violation_ends_with_its_code_and_leaves_all_well(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty("while read l; do echo \"<$l>\"; done"));
    let descriptors = || {
        let path = format!("/proc/{}/fd", server.pid);
        std::fs::read_dir(path)
            .expect("the server's descriptors")
            .count()
    };
    // Once, so that whatever is made on first use is there.
    Ws::attach(&server, &id, "").cut();
    eventually("the connection to end", || {
        (server.connections() == 0).then_some(())
    });
    let before = descriptors();
    let input = br#"{"type":"input","data":"never\n"}"#;
    let mut unmasked = vec![0x81, input.len() as u8];
    unmasked.extend(input);
    let cut = |mut frame: Vec<u8>, len: usize| {
        frame.truncate(len);
        frame
    };
    let with_head = |first: u8, second: u8| {
        let mut frame = frame(true, TEXT, input);
        (frame[0], frame[1]) = (first, second);
        frame
    };
    let violations: Vec<(&str, u16, Vec<u8>)> = vec![
        ("unmasked", 1002, unmasked),
        ("RSV1", 1002, with_head(0xc1, 0x80 | input.len() as u8)),
        ("RSV2", 1002, with_head(0xa1, 0x80 | input.len() as u8)),
        ("RSV3", 1002, with_head(0x91, 0x80 | input.len() as u8)),
        ("opcode 3", 1002, frame(true, 3, input)),
        ("opcode 7", 1002, frame(true, 7, b"")),
        ("opcode 11", 1002, frame(true, 11, b"")),
        ("opcode 15", 1002, frame(true, 15, b"")),
        ("long ping", 1002, frame(true, PING, &[0; 126])),
        ("long close", 1002, frame(true, CLOSE, &[3; 126])),
        ("fragmented ping", 1002, frame(false, PING, b"x")),
        ("fragmented close", 1002, frame(false, CLOSE, b"")),
        ("continuation alone", 1002, frame(true, CONTINUATION, input)),
        (
            "message inside a message",
            1002,
            [frame(false, TEXT, b"{"), frame(true, TEXT, input)].concat(),
        ),
        (
            "long form of a short length",
            1002,
            vec![0x81, 0xfe, 0, 5, 0, 0, 0, 0],
        ),
        (
            "longest form of a short length",
            1002,
            vec![0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0],
        ),
        (
            "top bit of the length",
            1002,
            vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        ("close of one byte", 1002, frame(true, CLOSE, &[3])),
        ("close with 1005", 1002, frame(true, CLOSE, &[0x03, 0xed])),
        ("close with 999", 1002, frame(true, CLOSE, &[0x03, 0xe7])),
        (
            "close with a bad reason",
            1007,
            frame(true, CLOSE, &[0x03, 0xe8, 0xff]),
        ),
        (
            "text that is not UTF-8",
            1007,
            frame(true, TEXT, b"{\"\xff\"}"),
        ),
        (
            "an overlong character",
            1007,
            frame(true, TEXT, b"\xc0\xaf"),
        ),
        ("a surrogate", 1007, frame(true, TEXT, b"\xed\xa0\x80")),
        (
            "a character cut off by the end",
            1007,
            frame(true, TEXT, b"\xf0\x9f\x98"),
        ),
        (
            "bad text in an open fragment",
            1007,
            frame(false, TEXT, b"abc\xff"),
        ),
        (
            "bad text in an unfinished frame",
            1007,
            cut(
                frame(true, TEXT, &[b"abc\xff".as_slice(), &[b'x'; 200]].concat()),
                50,
            ),
        ),
        (
            "a frame over 16 MiB",
            1009,
            vec![0x82, 0xff, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0],
        ),
        (
            "an exabyte",
            1009,
            vec![
                0x81, 0xff, 0x0f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
            ],
        ),
    ];
    for (what, code, bytes) in violations {
        let mut ws = Ws::attach(&server, &id, "?replay=none");
        ws.raw(&bytes);
        let end = ws.rest();
        let Ending {
            output,
            texts,
            close,
            reason,
        } = end;
        assert_eq!(
            (close, texts),
            (Some(code), Vec::new()),
            "{what}: {reason:?}"
        );
        assert!(!reason.is_empty() && output.is_empty(), "{what}");
        // The same, cut off by the client in the middle: nobody answers, nothing stays.
        let mut ws = Ws::attach(&server, &id, "?replay=none");
        ws.raw(&bytes[..bytes.len() - 1]);
        ws.cut();
    }
    assert_eq!(server.info(&id)["status"], "running");
    let mut ws = Ws::attach(&server, &id, "?replay=none");
    ws.input("well\n");
    assert_eq!(ws.until("<well>\r\n"), "well\r\n<well>\r\n");
    ws.cut();
    assert!(!String::from_utf8_lossy(&server.output(&id, "pty")).contains("never"));
    eventually("descriptors to be back", || {
        (descriptors() == before).then_some(())
    });
}

fn a_message_may_be_long_but_not_endless(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty("sleep 1000"));
    // 200 KB and 15 MiB are read; they are only too long as input.
    for len in [200_000, 15 << 20] {
        let mut ws = Ws::attach(&server, &id, "?input=binary");
        ws.send(BINARY, &vec![b'x'; len]);
        assert!(ws.error().starts_with("input payload exceeds"));
    }
    // Fragments add up; none of them is too long by itself.
    let mut ws = Ws::attach(&server, &id, "?input=binary");
    ws.raw(&frame(false, BINARY, &vec![0; 9 << 20]));
    ws.raw(&frame(false, CONTINUATION, &vec![0; 6 << 20]));
    ws.raw(&frame(true, CONTINUATION, &vec![0; (1 << 20) + 1]));
    assert_eq!(ws.rest().close, Some(1009));
}
