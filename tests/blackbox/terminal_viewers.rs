//! 14.15 and 14.16: what a viewer is shown first, and what a slow one gets.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::procfs::kib;
use crate::harness::server::entry_bytes;
use crate::harness::ws::{Got, PONG};
use crate::harness::{Backend, Server, Ws, on_both};
use crate::terminal::tty;

on_both!(
    a_viewer_is_shown_recent_output_or_what_it_asks_for,
    queries_are_cut_from_what_is_replayed_and_from_nothing_else,
    viewers_that_come_and_go_in_the_middle_miss_and_repeat_nothing,
    slow_viewers_hold_nobody_up_and_are_shown_the_end,
    a_viewer_that_eviction_has_passed_is_shown_the_end_and_stays,
    a_silent_viewer_is_asked_whether_it_lives,
);

fn a_viewer_is_shown_recent_output_or_what_it_asks_for(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty("seq 1 60000; read x; echo \"<$x>\""));
    server.await_output(&id, "\n60000\r\n");
    let logs = server.logs(&id, "");
    let entries = logs["entries"].as_array().unwrap();
    let all: Vec<u8> = entries.iter().flat_map(entry_bytes).collect();
    assert!(all.len() > 400_000);
    // Whole entries, as many of the newest as fit into 256 KiB.
    let mut recent = Vec::new();
    for entry in entries.iter().rev() {
        let bytes = entry_bytes(entry);
        if recent.len() + bytes.len() > 256 << 10 {
            break;
        }
        recent.splice(0..0, bytes);
    }
    assert!(recent.len() > 128 << 10);
    let middle = entries.len() / 2;
    let since = entries[middle]["sequence"].as_u64().unwrap();
    let later: Vec<u8> = entries[middle + 1..].iter().flat_map(entry_bytes).collect();
    let mut viewers = [
        ("?replay=tail".to_owned(), recent),
        ("?replay=all".to_owned(), all.clone()),
        ("?since=0".to_owned(), all),
        (format!("?since={since}"), later),
        ("?replay=none".to_owned(), Vec::new()),
        ("?since=999999".to_owned(), Vec::new()),
    ]
    .map(|(query, expected)| (Ws::attach(&server, &id, &query), query, expected));
    // The one with a number to come waits for it and does not get what is before it.
    let live = b"x\r\n<x>\r\n";
    viewers[0].0.input("x\n");
    for (ws, query, expected) in &mut viewers {
        let end = ws.rest();
        if query != "?since=999999" {
            expected.extend(live);
        }
        assert!(
            end.output == *expected,
            "{query}: {} bytes",
            end.output.len()
        );
        assert_eq!(end.close, Some(1000), "{query}");
    }
}

fn queries_are_cut_from_what_is_replayed_and_from_nothing_else(backend: Backend) {
    let server = Server::open(backend);
    let queries = [
        r"\033[5n",
        r"\033[6n",
        r"\033[?6n",
        r"\033[c",
        r"\033[0c",
        r"\033[>c",
        r"\033[=c",
        r"\033[?2026\$p",
        r"\033[4\$p",
        r"\033P\$qm\033\\\\",
        r"\033[>0q",
        r"\033P+q544e\033\\\\",
        r"\033]10;?\033\\\\",
        r"\033]11;?\007",
        r"\033]4;1;?\007",
    ];
    let kept = r"\033[31m\033]0;title\007\033[1;2H\033[?25h";
    let script = format!(
        "stty -echo; echo on; read x; printf \"a{}b{kept}c\"; read x",
        queries.join("-")
    );
    let id = server.spawn(&tty(&script));
    let mut live = Ws::attach(&server, &id, "");
    live.until("on\r\n");
    live.input("\n");
    let seen = live.until("b\u{1b}[31m\u{1b}]0;title\u{7}\u{1b}[1;2H\u{1b}[?25hc");
    assert_eq!(
        server.output(&id, "pty"),
        format!("on\r\n{seen}").as_bytes()
    );
    for query in [
        "\u{1b}[6n",
        "\u{1b}[c",
        "\u{1b}P$qm\u{1b}\\",
        "\u{1b}]11;?\u{7}",
    ] {
        assert!(seen.contains(query), "{query:?} in {seen:?}");
    }
    let expected = format!(
        "on\r\na{}b\u{1b}[31m\u{1b}]0;title\u{7}\u{1b}[1;2H\u{1b}[?25hc",
        "-".repeat(queries.len() - 1)
    );
    for query in ["", "?replay=all", "?since=0", "?replay=tail"] {
        let mut ws = Ws::attach(&server, &id, query);
        assert_eq!(ws.until("hc"), expected, "{query}");
    }
    live.input("\n");
    assert_eq!(live.rest().close, Some(1000));
    assert_eq!(
        Ws::attach(&server, &id, "").rest().output,
        expected.as_bytes()
    );
}

/// The lines `1` to `last` as `seq` writes them to a raw terminal.
fn lines(last: u32) -> Vec<u8> {
    (1..=last)
        .flat_map(|n| format!("{n}\n").into_bytes())
        .collect()
}

fn viewers_that_come_and_go_in_the_middle_miss_and_repeat_nothing(backend: Backend) {
    let server = Server::open(backend);
    // Less than a viewer may be behind before it is only shown where things are.
    let expected = [b"\n".to_vec(), lines(150_000)].concat();
    assert!(expected.len() < 1 << 20);
    let id = server.spawn(&tty("stty raw -echo; echo; read x; seq 1 150000"));
    let mut first = Ws::attach(&server, &id, "");
    assert_eq!(first.until("\n"), "\n");
    first.input("x\n");
    std::thread::scope(|scope| {
        let whole: Vec<_> = (0..6)
            .map(|n: u64| {
                let (server, id, expected) = (&server, &id, &expected);
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(n * 20));
                    // One that leaves, then one that stays.
                    let mut brief = Ws::attach(server, id, "?replay=all");
                    let mut seen = Vec::new();
                    while seen.len() < 10_000 * n as usize {
                        match brief.next() {
                            Got::Binary(data) => seen.extend(data),
                            _ => break,
                        }
                    }
                    brief.cut();
                    let end = Ws::attach(server, id, "?replay=all").rest();
                    assert!(expected.starts_with(&seen), "{n}: the part differs");
                    assert!(end.output == *expected, "{n}: {}", end.output.len());
                    assert_eq!(end.close, Some(1000));
                })
            })
            .collect();
        assert!(first.rest().output == expected[1..]);
        whole.into_iter().for_each(|viewer| viewer.join().unwrap());
    });
    // A viewer of recent output has the end of it, whole lines or not.
    let end = Ws::attach(&server, &id, "?replay=tail").rest();
    assert!(expected.ends_with(&end.output) && end.output.len() > 128 << 10);
}

fn slow_viewers_hold_nobody_up_and_are_shown_the_end(backend: Backend) {
    let server = Server::open(backend);
    let expected = with_returns(&lines(1_500_000)[..9_200_000]);
    let id = server.spawn(&tty(
        "stty -echo; echo; read x; seq 1 1500000 | head -c 9200000",
    ));
    // Nothing is evicted but the first line; what is lost is lost because they are slow.
    let mut slow: Vec<_> = (0..3)
        .map(|_| Ws::attach(&server, &id, "?replay=none"))
        .collect();
    let mut fast = Ws::attach(&server, &id, "");
    fast.until("\n");
    let before = kib(server.pid, "RssAnon");
    for ws in &mut slow {
        let _ = ws.poll(Duration::from_millis(50));
    }
    fast.input("go\n");
    // The fast one has everything, and the program has ended, before a slow one reads on.
    let end = fast.rest();
    assert!(end.output == expected, "{} bytes", end.output.len());
    assert_eq!(server.info(&id)["status"], "exited");
    let grown = kib(server.pid, "RssAnon").saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} KiB for three slow viewers");
    for ws in &mut slow {
        let mut end = ws.rest();
        if end.output.starts_with(b"\r\n") {
            end.output.drain(..2);
        }
        assert_redrawn(&end.output, &expected);
        // Nobody who has not asked for it meets another frame.
        assert_eq!(end.texts, [json!({"exitCode": 0, "type": "exit"})]);
        assert_eq!(end.close, Some(1000));
    }
}

/// What a terminal makes of it unless it is raw.
fn with_returns(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() * 5 / 4);
    for &byte in text {
        if byte == b'\n' {
            out.push(b'\r');
        }
        out.push(byte);
    }
    out
}

/// What a viewer got is not all of `written`, but its beginning, and at last its end.
fn assert_redrawn(got: &[u8], written: &[u8]) {
    assert!(got.len() < written.len(), "nothing was left out");
    let same = got.iter().zip(written).take_while(|(a, b)| a == b).count();
    assert!(same > 64 << 10, "only {same} bytes of the beginning");
    let end = &written[written.len() - 100..];
    let shown = String::from_utf8_lossy(&got[got.len() - 4000..]);
    for line in String::from_utf8_lossy(end).lines().skip(1) {
        assert!(shown.contains(line), "{line:?} is not in {shown:?}");
    }
}

fn a_viewer_that_eviction_has_passed_is_shown_the_end_and_stays(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 1 << 20)]);
    let written = with_returns(&lines(1_300_000));
    let id = server.spawn(&tty("stty -echo; echo; read x; seq 1 1300000; read x"));
    let mut overtaken = Ws::attach(&server, &id, "?replay=none");
    let mut typist = Ws::attach(&server, &id, "");
    typist.until("\n");
    typist.input("go\n");
    typist.until("\n1300000\r\n");
    // It may type on, and the program hears it.
    overtaken.input("end\n");
    let end = overtaken.rest();
    assert_redrawn(
        end.output.strip_prefix(b"\r\n").unwrap_or(&end.output),
        &written,
    );
    assert_eq!(end.texts, [json!({"exitCode": 0, "type": "exit"})]);
    assert_eq!(end.close, Some(1000));
    assert_eq!(typist.rest().close, Some(1000));
}

fn a_silent_viewer_is_asked_whether_it_lives(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty("sleep 1000"));
    let mut ws = Ws::attach(&server, &id, "");
    let begun = Instant::now();
    let ping = ws.poll(Duration::from_secs(40));
    let silence = begun.elapsed();
    let Some(Got::Ping(payload)) = ping else {
        panic!("no ping but {ping:?}");
    };
    let expected = Duration::from_millis(19_500)..Duration::from_secs(30);
    assert!(expected.contains(&silence), "{silence:?}");
    ws.send(PONG, &payload);
    assert_eq!(ws.poll(Duration::from_millis(300)), None);
}
