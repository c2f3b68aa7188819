//! `control=extended`: where in the output a viewer is, what it missed, and the terminal's size.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::ws::{Got, path};
use crate::harness::{Backend, Server, Ws, on_both};
use crate::terminal::tty;

on_both!(
    a_viewer_is_told_where_it_is_and_resumes_at_that_very_byte,
    what_is_no_longer_retained_is_said_and_drawn_anew,
    a_viewer_that_is_outrun_is_told_what_it_missed,
    an_attach_may_bring_its_size_and_the_last_resize_wins,
    who_is_drawn_the_screen_has_the_program_hear_of_another_size_only,
    sizes_out_of_range_are_refused_with_the_range,
    who_has_not_asked_meets_no_other_frame,
    a_viewer_is_told_the_title_and_every_change_of_it,
);

/// The title in the next frame of that type.
fn title(ws: &mut Ws) -> String {
    let (_, texts) = until(ws, "title");
    texts.last().unwrap()["title"].as_str().unwrap().to_owned()
}

fn a_viewer_is_told_the_title_and_every_change_of_it(backend: Backend) {
    let server = Server::open(backend);
    let script = r"stty raw -echo; printf '\033]2;one\007ready'; read x; printf '\033]0;t';
        printf 'wo\033\\'; read x; printf '\033]2;last\007'";
    let id = server.spawn(&tty(script));
    server.await_output(&id, "ready");
    let mut ws = attach(&server, &id, "");
    assert_eq!(title(&mut ws), "one");
    let (_, _, sequence) = cursor(&mut ws);
    // What is shown first does not say it, and it is told all the same.
    assert_eq!(title(&mut attach(&server, &id, "&replay=none")), "one");
    assert_eq!(title(&mut attach(&server, &id, "&replay=screen")), "one");
    // Who goes on where it was is told what changes.
    let mut resumed = attach(&server, &id, &format!("&since={sequence}"));
    cursor(&mut resumed);
    ws.input("x\n");
    assert_eq!(title(&mut ws), "two");
    assert_eq!(title(&mut resumed), "two");
    ws.input("x\n");
    let (_, texts) = until(&mut ws, "exit");
    assert!(texts.contains(&json!({"type": "title", "title": "last"})));
}

/// What came up to a frame of this type, which comes last.
fn until(ws: &mut Ws, kind: &str) -> (Vec<u8>, Vec<Value>) {
    let (mut output, mut texts) = (Vec::new(), Vec::new());
    loop {
        match ws.next() {
            Got::Binary(data) => output.extend(data),
            Got::Text(value) => {
                let last = value["type"] == kind;
                texts.push(value);
                if last {
                    return (output, texts);
                }
            }
            other => panic!("{other:?} before {kind}; so far {texts:?}"),
        }
    }
}

fn attach(server: &Server, id: &str, query: &str) -> Ws {
    let query = format!("?control=extended{query}");
    Ws::attach(server, id, &query)
}

/// The `offset` and `sequence` of the next `cursor`, with what came before it.
fn cursor(ws: &mut Ws) -> (Vec<u8>, u64, u64) {
    let (output, texts) = until(ws, "cursor");
    let last = texts.last().unwrap();
    let number = |key: &str| last[key].as_u64().unwrap();
    (output, number("offset"), number("sequence"))
}

fn a_viewer_is_told_where_it_is_and_resumes_at_that_very_byte(backend: Backend) {
    let server = Server::open(backend);
    let script = "stty raw -echo; printf abc; read x; printf defgh; read x; printf ij";
    let id = server.spawn(&tty(script));
    server.await_output(&id, "abc");
    let mut ws = attach(&server, &id, "");
    let (shown, texts) = until(&mut ws, "cursor");
    assert_eq!(shown, b"abc");
    let resized = json!({"type": "resized", "cols": 80, "rows": 24});
    let last = server.logs(&id, "")["entries"].as_array().unwrap().len();
    let here = json!({"type": "cursor", "sequence": last, "offset": 3});
    let title = json!({"type": "title", "title": ""});
    assert_eq!(texts, [resized, title, here]);
    // It is told when output pauses, and again when more has come.
    ws.input("x\n");
    let mut live = Vec::new();
    let mut at = 3;
    while live.len() < 5 {
        let (more, offset, _) = cursor(&mut ws);
        live.extend(more);
        at += 5;
        if live.len() == 5 {
            assert_eq!(offset, 8);
        }
        assert!(at <= 3 + 5 * 5, "cursors without output");
    }
    assert_eq!(live, b"defgh");
    ws.cut();
    // Every byte that was there may be resumed at, also inside an entry.
    for offset in 0..=8 {
        let mut ws = attach(&server, &id, &format!("&offset={offset}"));
        let (shown, end, sequence) = cursor(&mut ws);
        assert_eq!(shown, b"abcdefgh"[offset..], "{offset}");
        assert_eq!(end, 8);
        // The coarse form.
        let mut coarse = attach(&server, &id, &format!("&since={sequence}"));
        assert_eq!(cursor(&mut coarse), (Vec::new(), 8, sequence));
    }
    let mut ws = attach(&server, &id, "&offset=999");
    assert_eq!(cursor(&mut ws).1, 8, "there is no such byte yet");
    ws.input("x\n");
    // The exit comes after the place of the last byte.
    let (shown, texts) = until(&mut ws, "exit");
    assert_eq!(shown, b"ij");
    let [.., here, exit] = &texts[..] else {
        panic!("{texts:?}");
    };
    assert_eq!(here["type"], "cursor");
    assert_eq!(here["offset"], 10);
    assert_eq!(exit, &json!({"exitCode": 0, "type": "exit"}));
}

fn what_is_no_longer_retained_is_said_and_drawn_anew(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 20_000)]);
    let id = server.spawn(&tty("stty raw -echo; seq 1 20000; read x"));
    server.await_output(&id, "\n20000\n");
    let logs = server.logs(&id, "");
    let entries = logs["entries"].as_array().unwrap();
    let number = |entry: &Value| entry["sequence"].as_u64().unwrap();
    let (first, last) = (number(&entries[0]), number(entries.last().unwrap()));
    assert!(first > 2);
    for query in ["&since=0", "&since=1", "&offset=0", "&offset=3"] {
        let mut ws = attach(&server, &id, query);
        let (_, texts) = until(&mut ws, "redraw");
        let redraw = texts.last().unwrap();
        assert_eq!(redraw["reason"], "evicted", "{query}");
        let (from, to) = (
            redraw["from"].as_u64().unwrap(),
            redraw["to"].as_u64().unwrap(),
        );
        let expected = if query == "&since=1" { 2 } else { 1 };
        assert_eq!(from, expected, "{query}");
        assert!((first - 1..=last).contains(&to), "{query}: {to}");
        let (shown, offset, sequence) = cursor(&mut ws);
        assert!(String::from_utf8_lossy(&shown).contains("20000"), "{query}");
        assert_eq!(sequence, last, "{query}");
        let written = (1..=20_000)
            .map(|n| n.to_string().len() as u64 + 1)
            .sum::<u64>();
        assert_eq!(offset, written, "{query}: it counts what is gone, too");
    }
    // Without `control=extended` it begins with what there is, as before.
    let mut plain = Ws::attach(&server, &id, "?since=1");
    assert!(plain.until("\n20000\n").len() <= 20_000);
}

fn a_viewer_that_is_outrun_is_told_what_it_missed(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty(
        "stty raw -echo; echo on; read x; seq 1 1000000; read x",
    ));
    // Who only looks is not waited for.
    let mut ws = attach(&server, &id, "&mode=ro");
    let before = cursor(&mut ws).2;
    server.feed(&id, "go\n");
    server.await_output(&id, "\n1000000\n");
    let (_, texts) = until(&mut ws, "redraw");
    let redraw = texts.last().unwrap();
    assert_eq!(redraw["reason"], "behind");
    let (from, to) = (
        redraw["from"].as_u64().unwrap(),
        redraw["to"].as_u64().unwrap(),
    );
    assert!(before < from && from <= to, "{redraw}");
    let all = server.logs(&id, "?tail=1");
    let last = all["entries"][0]["sequence"].as_u64().unwrap();
    assert!(to <= last, "{redraw}");
    loop {
        let (_, _, sequence) = cursor(&mut ws);
        if sequence == last {
            break;
        }
    }
}

fn an_attach_may_bring_its_size_and_the_last_resize_wins(backend: Backend) {
    let server = Server::open(backend);
    let script = "stty raw -echo; trap 'stty size' WINCH; echo on; while :; do read x; done";
    let id = server.spawn(&tty(script));
    server.await_output(&id, "on");
    let resized = |cols: u16, rows: u16| json!({"type": "resized", "cols": cols, "rows": rows});
    let mut first = attach(&server, &id, "&cols=100&rows=30");
    assert_eq!(until(&mut first, "resized").1, [resized(100, 30)]);
    server.await_output(&id, "30 100");
    // Only looks, so its size does not count.
    let mut looks = attach(&server, &id, "&mode=ro&cols=7&rows=7");
    assert_eq!(until(&mut looks, "resized").1, [resized(100, 30)]);
    let mut plain = Ws::attach(&server, &id, "?replay=none&cols=90&rows=20");
    for ws in [&mut first, &mut looks] {
        let (_, texts) = until(ws, "resized");
        assert_eq!(texts.last(), Some(&resized(90, 20)));
    }
    server.await_output(&id, "20 90");
    // Who resizes knows; the others are told, also of a resize by a request.
    first.resize(110, 40);
    assert_eq!(
        until(&mut looks, "resized").1.last(),
        Some(&resized(110, 40))
    );
    // Its handler looks for the size when it runs, which must not be after the next one.
    server.await_output(&id, "40 110");
    let target = format!("/v1/processes/{id}/terminal/resize");
    server
        .post(&target, &json!({"cols": 50, "rows": 10}))
        .expect(200);
    for ws in [&mut first, &mut looks] {
        let (_, texts) = until(ws, "resized");
        let sizes: Vec<_> = texts
            .iter()
            .filter(|text| text["type"] == "resized")
            .collect();
        assert_eq!(sizes, [&resized(50, 10)]);
    }
    server.await_output(&id, "10 50");
    // The same size again: no SIGWINCH, no frame.
    let mut same = attach(&server, &id, "&cols=50&rows=10&replay=none");
    let (_, texts) = until(&mut same, "cursor");
    assert_eq!(texts[0], resized(50, 10));
    let told =
        |got: Option<Got>| matches!(&got, Some(Got::Text(text)) if text["type"] == "resized");
    assert!(!told(looks.poll(Duration::from_millis(200))));
    let output = String::from_utf8(server.output(&id, "pty")).unwrap();
    assert_eq!(output.matches("10 50").count(), 1, "{output}");
    // Nobody else has met a frame that it did not ask for.
    loop {
        match plain.poll(Duration::from_millis(100)) {
            Some(Got::Binary(_)) => {}
            None => break,
            Some(other) => panic!("{other:?}"),
        }
    }
    server.kill(&id);
}

fn who_is_drawn_the_screen_has_the_program_hear_of_another_size_only(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 5_000)]);
    let script = "stty raw -echo; trap 'stty size' WINCH; seq 1 20000; echo on;
        while :; do read x && echo got $x; done";
    let mut body = tty(script);
    (body["cols"], body["rows"]) = (90.into(), 30.into());
    let id = server.spawn(&body);
    server.await_output(&id, "on");
    let output = || String::from_utf8(server.output(&id, "pty")).unwrap();
    for (n, query) in [
        "&since=0&cols=90&rows=30",
        "&offset=0",
        "&replay=screen&scrollback=10&cols=90&rows=30",
        "&replay=screen",
        "&mode=ro&replay=screen&cols=100&rows=40",
    ]
    .iter()
    .enumerate()
    {
        let mut ws = attach(&server, &id, query);
        let (shown, _, _) = cursor(&mut ws);
        assert!(String::from_utf8_lossy(&shown).contains("20000"), "{query}");
        // A signal would have come before this.
        server.feed(&id, &format!("{n}\n"));
        server.await_output(&id, &format!("got {n}"));
        assert!(!output().contains("30 90"), "{query}: {}", output());
    }
    let mut ws = attach(&server, &id, "&since=0&cols=91&rows=30");
    cursor(&mut ws);
    server.await_output(&id, "30 91");
    server.feed(&id, "last\n");
    server.await_output(&id, "got last");
    assert_eq!(output().matches("30 91").count(), 1, "{}", output());
    server.kill(&id);
}

fn sizes_out_of_range_are_refused_with_the_range(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty("sleep 1000"));
    for query in [
        "?cols=80",
        "?rows=24",
        "?cols=0&rows=24",
        "?cols=80&rows=0",
        "?cols=1001&rows=24",
        "?cols=80&rows=65536",
        "?cols=80&rows=18446744073709551615",
        "?cols=1001&rows=1&mode=ro",
    ] {
        let refused = Ws::ask(&server, &path(&id, query), &[]).expect_err("a wrong size");
        assert_eq!(refused.status, 400, "{query}");
        let text = refused.text();
        assert!(text.contains("between 1 and 1000"), "{query}: {text}");
    }
    for query in ["?cols=1&rows=1000", "?cols=1000&rows=1"] {
        Ws::attach(&server, &id, query);
    }
    let refused = Ws::ask(&server, &path(&id, "?cols=80&rows=24.5"), &[]);
    assert_eq!(refused.expect_err("no number").status, 400);
}

fn who_has_not_asked_meets_no_other_frame(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 5_000)]);
    let id = server.spawn(&tty("stty raw -echo; echo on; read x; seq 1 20000"));
    let mut ws = Ws::attach(&server, &id, "?since=0");
    let mut looks = Ws::attach(&server, &id, "?mode=ro");
    ws.until("on\n");
    ws.resize(100, 30);
    ws.input("go\n");
    for ws in [&mut ws, &mut looks] {
        let end = ws.rest();
        assert_eq!(end.texts, [json!({"exitCode": 0, "type": "exit"})]);
        assert_eq!(end.close, Some(1000));
    }
}
