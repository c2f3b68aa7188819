//! What a terminal shows: to who asks for the screen, to who attaches, and as a recording.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::procfs::kib;
use crate::harness::{Backend, Launch, Server, Ws, on_both, sh};
use crate::terminal::tty;

on_both!(
    a_screen_is_told_in_three_forms_and_only_of_a_terminal,
    a_screen_is_whole_after_its_output_was_evicted,
    what_screens_have_taken_is_given_back,
    a_screen_is_whole_where_more_is_written_at_once_than_the_log_holds,
    a_screen_is_whole_after_its_output_made_room_in_memory,
    sizes_hold_for_what_was_written_under_them,
    who_attaches_is_shown_the_screen_where_output_alone_would_not_do,
    nothing_that_is_replayed_acts_again,
    a_question_reaches_the_first_who_may_answer_once,
    output_that_costs_too_much_holds_nobody_up,
    the_very_end_of_output_that_costs_too_much_is_shown,
    a_recording_plays_from_the_beginning_or_from_the_screen,
    a_recording_that_is_followed_ends_with_its_process,
);

fn screen(server: &Server, id: &str, query: &str) -> Value {
    let path = format!("/v1/processes/{id}/terminal/screen{query}");
    serde_json::from_slice(&server.get(&path).expect(200).body).unwrap()
}

/// Waits until a line of the screen is `line`.
fn await_line(server: &Server, id: &str, line: &str) -> Value {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let screen = screen(server, id, "");
        if screen["lines"].as_array().unwrap().contains(&json!(line)) {
            return screen;
        }
        assert!(Instant::now() < end, "no {line:?} in {screen}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn a_screen_is_told_in_three_forms_and_only_of_a_terminal(backend: Backend) {
    let server = Server::open(backend);
    let mut body = tty(r"printf 'one\r\ntwo\r\n\033]0;hi\007\033[1mthree  \r\nfour'; read x");
    body["cols"] = 20.into();
    body["rows"] = 3.into();
    let id = server.spawn(&body);
    let shown = await_line(&server, &id, "four");
    let expected = json!({
        "cols": 20, "rows": 3, "cursor": {"col": 4, "row": 2, "visible": true},
        "altScreen": false, "title": "hi", "sequence": shown["sequence"], "complete": true,
        "scrollback": [], "lines": ["two", "three", "four"],
    });
    assert_eq!(shown, expected);
    let shown = screen(&server, &id, "?scrollback=1000&format=json");
    assert_eq!(shown["scrollback"], json!(["one"]));
    let path = format!("/v1/processes/{id}/terminal/screen");
    let text = server.get(&format!("{path}?format=text&scrollback=1"));
    let text = text.expect(200);
    assert_eq!(
        text.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(text.text(), "one\ntwo\nthree\nfour\n");
    let ansi = server.get(&format!("{path}?format=ansi")).expect(200);
    assert_eq!(
        ansi.header("content-type"),
        Some("application/octet-stream")
    );
    assert!(
        ansi.text().starts_with("\u{18}\u{1b}c"),
        "{:?}",
        ansi.text()
    );
    assert!(
        ansi.text().contains("\u{1b}[0;1mthree"),
        "{:?}",
        ansi.text()
    );
    for (query, named) in [
        ("?scrollback=1001", "between 0 and 1000"),
        ("?scrollback=x", "scrollback"),
        ("?format=html", "json, text, ansi"),
    ] {
        let refused = server.get(&format!("{path}{query}")).expect(400);
        assert!(
            refused.text().contains(named),
            "{query}: {}",
            refused.text()
        );
    }
    let refused = Ws::ask(
        &server,
        &format!("/v1/processes/{id}/terminal/ws?scrollback=1001"),
        &[],
    );
    let refused = refused.err().unwrap().expect(400);
    assert!(refused.text().contains("between 0 and 1000"));
    let pipe = server.spawn(&sh("sleep 1000"));
    for of in ["terminal/screen", "logs/recording"] {
        server
            .get(&format!("/v1/processes/{pipe}/{of}"))
            .expect(409);
        server
            .get(&format!("/v1/processes/proc_999/{of}"))
            .expect(404);
    }
    // An exited process shows what it showed last.
    server.feed(&id, "\n");
    server.await_exit(&id);
    let shown = screen(&server, &id, "");
    assert_eq!(shown["lines"], json!(["three", "four", ""]));
}

/// Draws a frame on the alternate screen, then writes one corner of it again and again: more than
/// the log holds, and nothing but the first bytes tells of the frame.
const FRAME: &str = r#"printf '\033[?1049h\033[2J\033[H\033[7mheadline\033[m\r\n\033[3;5Hframe\033[?1000h\033[?2004h'
    stty -echo
    i=0; while [ $i -lt 6000 ]; do i=$((i+1)); printf '\033[10;10H\033[3%dm%06d\033[K' $((i%8)) $i; done
    printf '\033[12;1Hdone'; read x; printf '\033[13;1Hlast\033[?1049l'"#;

fn a_screen_is_whole_after_its_output_was_evicted(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 10_000)]);
    let id = server.spawn(&tty(FRAME));
    let shown = await_line(&server, &id, "done");
    let first = server.logs(&id, "")["firstSequence"].as_u64().unwrap();
    assert!(first > 1, "nothing was evicted");
    let is_whole = |shown: &Value| {
        assert_eq!(shown["complete"], true);
        assert_eq!(shown["altScreen"], true);
        assert_eq!(shown["lines"][0], "headline");
        assert_eq!(shown["lines"][2], "    frame");
        assert_eq!(shown["lines"][9], "         006000");
    };
    is_whole(&shown);
    // When the screen that was in use while output was evicted has become a drawing.
    std::thread::sleep(Duration::from_millis(2500));
    is_whole(&screen(&server, &id, ""));
    // Who attaches is drawn the same, modes included, and live output follows.
    for query in ["", "?replay=screen"] {
        let mut ws = Ws::attach(&server, &id, query);
        let drawn = ws.until("done");
        for part in [
            "\u{1b}[?1049h",
            "headline",
            "frame",
            "\u{1b}[?1000h",
            "\u{1b}[?2004h",
        ] {
            assert!(drawn.contains(part), "{query}: no {part:?} in {drawn:?}");
        }
    }
    let mut ws = Ws::attach(&server, &id, "?replay=screen");
    ws.until("done");
    ws.input("\n");
    assert!(ws.until("\u{1b}[?1049l").contains("last"));
}

fn what_screens_have_taken_is_given_back(backend: Backend) {
    const TERMINALS: u64 = 40;
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 10_000)]);
    let begin = |script: &str| {
        let ids: Vec<String> = (0..TERMINALS / 4)
            .map(|_| server.spawn(&tty(script)))
            .collect();
        for id in &ids {
            await_line(&server, id, "done");
        }
    };
    let script = "stty -echo; seq 1 3000; printf 'done'; read x";
    // What the first ones make the server hold anyway.
    begin(script);
    let before = kib(server.pid, "RssAnon");
    for _ in 0..4 {
        begin(script);
    }
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let each = kib(server.pid, "RssAnon").saturating_sub(before) / TERMINALS;
        if each <= 16 {
            return;
        }
        assert!(Instant::now() < end, "{each} KiB each");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn a_screen_is_whole_where_more_is_written_at_once_than_the_log_holds(backend: Backend) {
    let server = Server::open(backend);
    for limit in [1000, 100, 1] {
        server.configure(&[("maxLogBytesPerProcess", limit)]);
        let id = server.spawn(&tty(
            r"printf '%s\033[5;1H' headline $(seq 1 400); printf '\033[7;1Hdone'; read x",
        ));
        let shown = await_line(&server, &id, "done");
        assert_eq!(shown["lines"][0], "headline", "{limit}");
        assert_eq!(shown["lines"][4], "400", "{limit}");
        assert_eq!(shown["complete"], true, "{limit}");
        assert!(server.logs(&id, "")["firstSequence"].as_u64().unwrap() > 1);
    }
}

fn a_screen_is_whole_after_its_output_made_room_in_memory(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token", "--memory-max", "2M"])
        .start();
    let draw = |bytes: usize| {
        server.spawn(&tty(&format!(
            r#"stty -echo; printf '\033[?1049h\033[2J\033[Hheadline'
            yes "$(printf '\033[10;10Hx')" | head -c {bytes}; printf '\033[12;1Hdone'; read x"#
        )))
    };
    let gone = |id: &str| {
        server.logs(id, "?tail=1")["droppedBytes"]
            .as_u64()
            .unwrap_or(0)
    };
    let is_whole = |shown: &Value| {
        assert_eq!(shown["complete"], true);
        assert_eq!(shown["lines"][0], "headline");
        assert_eq!(shown["lines"][9], "         x");
    };
    // For itself: it may have no more.
    let id = draw(3_000_000);
    is_whole(&await_line(&server, &id, "done"));
    assert!(gone(&id) > 0, "nothing was given up");
    server.kill(&id);
    server
        .delete(&format!("/v1/processes/{id}"))
        .expect_empty(204);
    // For others that begin.
    let id = draw(1_000_000);
    is_whole(&await_line(&server, &id, "done"));
    assert_eq!(gone(&id), 0);
    while gone(&id) == 0 {
        server.spawn(&sh("exec sleep 1000"));
    }
    is_whole(&screen(&server, &id, ""));
}

fn sizes_hold_for_what_was_written_under_them(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 4000)]);
    let mut body = tty(
        r"stty -echo; while read x; do printf '\033[H\033[2J%s' aaaaaaaaaabbbbbbbbbb; printf '%2000s\r\n\r\n%s' '' $x; done",
    );
    body["cols"] = 10.into();
    body["rows"] = 5.into();
    let id = server.spawn(&body);
    for (at, cols) in [(1, 10), (2, 15), (3, 40), (4, 7), (5, 20)] {
        let size = json!({"cols": cols, "rows": 6});
        server
            .post(&format!("/v1/processes/{id}/terminal/resize"), &size)
            .expect(200);
        server.feed(&id, &format!("end{at}\n"));
        let shown = await_line(&server, &id, &format!("end{at}"));
        assert_eq!((&shown["cols"], &shown["rows"]), (&json!(cols), &json!(6)));
        assert_eq!(shown["complete"], true);
    }
}

fn who_attaches_is_shown_the_screen_where_output_alone_would_not_do(backend: Backend) {
    let server = Server::open(backend);
    // All of a short history on the main screen is shown as it was.
    let id = server.spawn(&tty("printf 'a\\033[31mb'; read x"));
    server.await_output(&id, "b");
    assert_eq!(Ws::attach(&server, &id, "").until("b"), "a\u{1b}[31mb");
    assert!(
        Ws::attach(&server, &id, "?replay=screen")
            .until("b")
            .starts_with("\u{18}\u{1b}c")
    );
    // A program that has the screen for itself, and a long history, are drawn.
    let id = server.spawn(&tty("printf '\\033[?1049hb'; read x"));
    server.await_output(&id, "b");
    assert!(
        Ws::attach(&server, &id, "")
            .until("b")
            .starts_with("\u{18}\u{1b}c")
    );
    assert_eq!(
        Ws::attach(&server, &id, "?replay=tail").until("b"),
        "\u{1b}[?1049hb"
    );
    let id = server.spawn(&tty("seq 1 60000; read x"));
    server.await_output(&id, "\n60000\r\n");
    let drawn = Ws::attach(&server, &id, "?replay=screen&scrollback=2").until("60000");
    assert!(drawn.contains("59976\r\n59977\r\n59978"), "{drawn:?}");
    assert!(!drawn.contains("59975"), "{drawn:?}");
    let drawn = Ws::attach(&server, &id, "").until("60000");
    assert!(drawn.starts_with("\u{18}\u{1b}c") && drawn.contains("\r\n59000\r\n"));
}

fn nothing_that_is_replayed_acts_again(backend: Backend) {
    let server = Server::open(backend);
    let acts = r"\007-\033]52;c;aGk=\007-\033]9;done\007-\033]777;notify;a;b\033\\-\033]1337;File=x:eA==\007-\033[8;30;90t-\033[?4m-\033[?1;1;0S-\005";
    let id = server.spawn(&tty(&format!("printf '<{acts}>'; read x")));
    server.await_output(&id, ">");
    for query in [
        "",
        "?replay=all",
        "?replay=tail",
        "?since=0",
        "?replay=screen",
    ] {
        let mut ws = Ws::attach(
            &server,
            &id,
            &format!("{query}{}mode=ro", if query.is_empty() { "?" } else { "&" }),
        );
        let seen = ws.until(">");
        let text = seen.trim_start_matches("\u{18}\u{1b}c");
        // A run of one character is drawn as one.
        let text = text.replace("\u{1b}[7b", "-------");
        assert_eq!(text, "<-------->", "{query}");
    }
}

fn a_question_reaches_the_first_who_may_answer_once(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty(r"stty raw -echo; printf 'asks\033[6n\033[c'; dd bs=1 count=6 2>/dev/null | od -c; printf end; sleep 1000"));
    server.await_output(&id, "\u{1b}[c");
    // Who may not answer is not asked.
    assert_eq!(Ws::attach(&server, &id, "?mode=ro").until("asks"), "asks");
    let mut first = Ws::attach(&server, &id, "");
    assert_eq!(first.until("\u{1b}[c"), "asks\u{1b}[6n\u{1b}[c");
    let mut second = Ws::attach(&server, &id, "");
    first.input("\u{1b}[1;1R");
    first.until("end");
    let seen = second.until("end");
    assert!(
        seen.starts_with("asks") && !seen.contains("\u{1b}[6n"),
        "{seen:?}"
    );
    drop((first, second));
    let third = Ws::attach(&server, &id, "").until("end");
    assert!(!third.contains("\u{1b}[6n"), "{third:?}");
}

/// A terminal of so many columns and lines that has written what costs a screen so many times more than
/// it may.
fn dear(server: &Server, size: u16, times: u16) -> String {
    server.configure(&[("maxLogBytesPerProcess", 50_000)]);
    let dear = r"\033#8x\033[?1049h\033[?1049l\033[2J\033[9999bx\033[3J\033#8x\033[?1049h\033[?1049l\033[2J\033[9999bx\033[3J";
    let mut body = tty(&format!(
        r"stty raw -echo; i=0; while [ $i -lt {times} ]; do i=$((i+1)); printf '{dear}'; done; printf '\033[?1049l\033[m\033[H\033[2Jover'; sleep 1000",
    ));
    body["cols"] = size.into();
    body["rows"] = size.into();
    let id = server.spawn(&body);
    server.await_output(&id, "over");
    id
}

fn output_that_costs_too_much_holds_nobody_up(backend: Backend) {
    let server = Server::open(backend);
    let id = dear(&server, 200, 1200);
    // Everybody else has been served meanwhile, and still is.
    let begun = Instant::now();
    let done = std::thread::scope(|scope| {
        let slow = scope.spawn(|| screen(&server, &id, ""));
        let mut served = 0;
        while !slow.is_finished() {
            server.get("/v1/health").expect(200);
            served += 1;
        }
        (served, slow.join().unwrap())
    });
    assert!(done.0 > 0, "{:?}", begun.elapsed());
    assert_eq!(done.1["lines"][0], "over");
    assert_eq!(done.1["complete"], false);
}

/// Where the last 4 KiB cost too much as well, less is looked at.
fn the_very_end_of_output_that_costs_too_much_is_shown(backend: Backend) {
    let server = Server::open(backend);
    let id = dear(&server, 400, 600);
    let shown = screen(&server, &id, "");
    assert_eq!(shown["lines"][0], "over");
    assert_eq!(shown["complete"], false);
}

/// The lines of a recording: its header and its events.
fn recording(body: &[u8]) -> (Value, Vec<(f64, String, String)>) {
    let text = std::str::from_utf8(body).unwrap();
    assert!(text.ends_with('\n'));
    let mut lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let header = lines.next().unwrap();
    assert_eq!(header["version"], 2);
    assert!(header["timestamp"].as_u64().unwrap() > 1_700_000_000);
    let mut before = 0.0;
    let events = lines.map(|event| {
        let at = event[0].as_f64().unwrap();
        assert!(
            at >= before && event.as_array().unwrap().len() == 3,
            "{event}"
        );
        before = at;
        let text = |n: usize| event[n].as_str().unwrap().to_owned();
        assert!(["o", "r"].contains(&text(1).as_str()));
        (at, text(1), text(2))
    });
    (header, events.collect())
}

fn played(events: &[(f64, String, String)]) -> String {
    let output = events.iter().filter(|(_, code, _)| code == "o");
    output.map(|(_, _, text)| text.as_str()).collect()
}

fn a_recording_plays_from_the_beginning_or_from_the_screen(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty(
        r"stty -echo; printf 'gr\303'; sleep 0.2; printf '\274\303\237e\007\033[6n\r\n'; read x; stty size; read x",
    ));
    server.await_output(&id, "\u{1b}[6n");
    let size = json!({"cols": 100, "rows": 30});
    server
        .post(&format!("/v1/processes/{id}/terminal/resize"), &size)
        .expect(200);
    server.feed(&id, "\n");
    server.await_output(&id, "30 100");
    let path = format!("/v1/processes/{id}/logs/recording");
    let answer = server.get(&path).expect(200);
    assert_eq!(
        answer.header("content-type"),
        Some("application/x-asciicast")
    );
    let (header, events) = recording(&answer.body);
    assert_eq!(
        (&header["width"], &header["height"]),
        (&json!(80), &json!(24))
    );
    // All that was written is in it, whole characters in each event.
    assert_eq!(played(&events).as_bytes(), server.output(&id, "pty"));
    let resized: Vec<_> = events.iter().filter(|(_, code, _)| code == "r").collect();
    assert_eq!(resized.len(), 1);
    assert_eq!(resized[0].2, "100x30");
    let at = events.iter().position(|(_, code, _)| code == "r").unwrap();
    assert!(!played(&events[..at]).contains("30 100") && played(&events[at..]).contains("30 100"));
    let head = server.request("HEAD", &path, &[], b"").expect(200);
    assert!(head.body.is_empty());

    server.configure(&[("maxLogBytesPerProcess", 10_000)]);
    let id = server.spawn(&tty(FRAME));
    await_line(&server, &id, "done");
    let path = format!("/v1/processes/{id}/logs/recording");
    let (_, events) = recording(&server.get(&path).expect(200).body);
    let (first, rest) = events.split_first().unwrap();
    assert!(
        first.2.contains("headline") && first.2.contains("\u{1b}[?1049h"),
        "{first:?}"
    );
    assert!(played(rest).ends_with("\u{1b}[12;1Hdone"));
    assert!(
        server
            .output(&id, "pty")
            .ends_with(played(&rest[rest.len() / 2..]).as_bytes())
    );
}

fn a_recording_that_is_followed_ends_with_its_process(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty("stty -echo; echo begun; read x; echo over"));
    server.await_output(&id, "begun");
    let mut conn = server.conn();
    conn.send(format!(
        "GET /v1/processes/{id}/logs/recording?follow=true HTTP/1.1\r\nhost: localhost\r\n\r\n"
    ));
    let head = conn.head(Duration::from_secs(30)).unwrap();
    assert_eq!(head.status, 200);
    let end = Instant::now() + Duration::from_secs(30);
    let mut body = conn.chunk(end).unwrap();
    assert!(String::from_utf8_lossy(&body).contains("begun"));
    server.feed(&id, "\n");
    while let Some(chunk) = conn.chunk(end) {
        body.extend(chunk);
    }
    let (_, events) = recording(&body);
    assert_eq!(played(&events), "begun\r\nover\r\n");
}
