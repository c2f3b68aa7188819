//! 14.12: terminals whose program does not read, and long pastes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::ws::{BINARY, CLOSE, Got, PING};
use crate::harness::{Backend, Server, Ws, eventually, on_both};
use crate::terminal::tty;

on_both!(
    input_that_no_terminal_program_reads_is_answered_503_with_what_was_taken,
    an_unread_terminal_holds_nothing_else_up,
    a_viewer_whose_input_is_not_read_is_served_on,
    what_was_typed_before_a_viewer_left_still_arrives,
    a_paste_of_one_mebibyte_arrives_exact,
    a_paste_to_a_program_that_reads_slowly_arrives_exact,
);

/// A file of one test, gone when dropped.
struct File(PathBuf);

impl File {
    fn new(name: &str, backend: Backend) -> Self {
        let name = format!("{name}-{}-{}", std::process::id(), backend.word());
        Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    fn await_content(&self, len: usize) -> Vec<u8> {
        eventually(&format!("{len} bytes"), || {
            let there = std::fs::metadata(&self.0).map_or(0, |meta| meta.len());
            (there as usize >= len).then_some(())
        });
        std::fs::read(&self.0).unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Bytes of which no two stretches are alike.
fn pattern(len: usize) -> Vec<u8> {
    let lines = (0u32..).flat_map(|n| format!("{n:07}\n").into_bytes());
    lines.take(len).collect()
}

fn write(server: &Server, id: &str, data: &[u8]) -> (u16, Value) {
    let path = format!("/v1/processes/{id}/input");
    let text = std::str::from_utf8(data).unwrap();
    let answer = server.post(&path, &json!({"data": text, "encoding": "utf8"}));
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

/// Writes until the terminal takes no more; gives the bytes that it took.
fn fill(server: &Server, id: &str) -> Vec<u8> {
    let data = pattern(60_000);
    let mut taken = Vec::new();
    loop {
        let begun = Instant::now();
        let (status, answer) = write(server, id, &data);
        if status == 200 {
            assert_eq!(answer["bytesWritten"], data.len());
            taken.extend(&data);
            assert!(taken.len() < 4 << 20, "a terminal without an end");
            continue;
        }
        let took = begun.elapsed();
        assert_eq!(status, 503, "{answer}");
        assert_eq!(answer["type"], "urn:sandbox-agent:error:timeout");
        let expected = Duration::from_secs(4)..Duration::from_secs(9);
        assert!(expected.contains(&took), "{took:?}");
        let written = answer["details"]["bytesWritten"].as_u64().expect("a count");
        taken.extend(&data[..written as usize]);
        return taken;
    }
}

fn input_that_no_terminal_program_reads_is_answered_503_with_what_was_taken(backend: Backend) {
    let server = Server::open(backend);
    let (go, out) = (
        File::new("unread-go", backend),
        File::new("unread-out", backend),
    );
    let id = server.spawn(&tty(&format!(
        "stty raw -echo; echo on; while [ ! -e {} ]; do sleep 0.05; done; exec cat >{}",
        go.0.display(),
        out.0.display()
    )));
    server.await_output(&id, "on");
    let taken = fill(&server, &id);
    // The program reads again: it finds what was said to be taken, and nothing else.
    std::fs::write(&go.0, "").unwrap();
    out.await_content(taken.len());
    let (status, _) = write(&server, &id, b"the end");
    assert_eq!(status, 200);
    let all = [taken, b"the end".to_vec()].concat();
    assert!(out.await_content(all.len()) == all);
}

fn an_unread_terminal_holds_nothing_else_up(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty("stty raw -echo; trap 'stty size' WINCH; n=0; \
         while :; do n=$((n+1)); echo \"tick $n\"; sleep 0.05; done"));
    let mut typist = Ws::attach(&server, &id, "?input=binary");
    let mut viewer = Ws::attach(&server, &id, "");
    typist.until("tick 1\n");
    for _ in 0..8 {
        typist.send(BINARY, &pattern(60_000));
    }
    std::thread::scope(|scope| {
        // Several at once, over both ways in.
        let waiting = scope.spawn(|| write(&server, &id, &pattern(60_000)));
        let begun = Instant::now();
        let end = begun + Duration::from_secs(3);
        let mut rounds = 0u64;
        while Instant::now() < end {
            let asked = Instant::now();
            server.get("/v1/processes").expect(200);
            assert_eq!(server.info(&id)["status"], "running");
            server.logs(&id, "?tail=1");
            let size = json!({"cols": 100 + rounds % 50, "rows": 30});
            let resize = format!("/v1/processes/{id}/terminal/resize");
            server.post(&resize, &size).expect(200);
            viewer.until(&format!("30 {}\n", 100 + rounds % 50));
            viewer.until("tick ");
            let took = asked.elapsed();
            assert!(took < Duration::from_secs(2), "{took:?}");
            rounds += 1;
        }
        assert!(rounds > 3);
        // Output goes on for the one whose input waits, too.
        typist.until("tick ");
        let asked = Instant::now();
        let stopped = server.post_empty(&format!("/v1/processes/{id}/stop?waitMs=20000"));
        assert_eq!(stopped.json()["signal"], "SIGTERM");
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
        // Either it was too late already, or the process ended first.
        let (status, _) = waiting.join().unwrap();
        assert!(status == 409 || status == 503, "{status}");
    });
    assert_eq!(viewer.rest().close, Some(1000));
    assert_eq!(typist.rest().close, Some(1000));
}

fn a_viewer_whose_input_is_not_read_is_served_on(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty(
        "stty raw -echo; echo on; trap 'stty size' WINCH; while :; do sleep 0.05; done",
    ));
    fill(&server, &id);
    let mut ws = Ws::attach(&server, &id, "?replay=none");
    let begun = Instant::now();
    for _ in 0..3 {
        ws.input("not read");
    }
    ws.send(PING, b"there?");
    assert_eq!(ws.next(), Got::Pong(b"there?".to_vec()));
    ws.resize(99, 33);
    ws.until("33 99\n");
    ws.send(CLOSE, &[0x03, 0xe8]);
    assert_eq!(ws.next(), Got::Close(Some(1000), String::new()));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    // One that stays is told what became of each of its inputs, in bounded time.
    let mut ws = Ws::attach(&server, &id, "?replay=none");
    let begun = Instant::now();
    for _ in 0..5 {
        ws.input("not read");
    }
    for _ in 0..5 {
        let message = ws.error();
        assert!(message.contains("0 of 8 bytes"), "{message}");
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(9), "{took:?}");
}

fn what_was_typed_before_a_viewer_left_still_arrives(backend: Backend) {
    let server = Server::open(backend);
    let out = File::new("left", backend);
    let script = format!("stty raw -echo; echo on; exec cat >{}", out.0.display());
    let id = server.spawn(&tty(&script));
    server.await_output(&id, "on");
    let data = pattern(300_000);
    for (round, leave) in [
        |ws: &mut Ws| ws.send(CLOSE, &[0x03, 0xe8]),
        |ws: &mut Ws| ws.json(&json!({"type": "close"})),
        |ws: &mut Ws| ws.raw(&[0xff; 20]),
        |ws: &mut Ws| ws.finish_writing(),
    ]
    .into_iter()
    .enumerate()
    {
        let mut ws = Ws::attach(&server, &id, "?input=binary&replay=none");
        for piece in data.chunks(60_000) {
            ws.send(BINARY, piece);
        }
        leave(&mut ws);
        while ws.next() != Got::End {}
        let got = out.await_content(data.len() * (round + 1));
        assert!(got == data.repeat(round + 1), "{round}: {}", got.len());
    }
}

fn paste(backend: Backend, name: &str, program: &str, query: &str) {
    let server = Server::open(backend);
    let out = File::new(name, backend);
    let script = program.replace("OUT", &out.0.display().to_string());
    let id = server.spawn(&tty(&format!("stty raw -echo; echo on; {script}")));
    let mut ws = Ws::attach(&server, &id, query);
    ws.until("on\n");
    let data = pattern(1 << 20);
    for piece in data.chunks(65_536) {
        if query.is_empty() {
            ws.input(std::str::from_utf8(piece).unwrap());
        } else {
            ws.send(BINARY, piece);
        }
    }
    let got = out.await_content(data.len());
    assert!(got == data, "{} bytes, not the ones sent", got.len());
    assert_eq!(ws.poll(Duration::from_millis(50)), None, "no error");
}

fn a_paste_of_one_mebibyte_arrives_exact(backend: Backend) {
    paste(backend, "paste", "exec cat >OUT", "?input=binary");
    paste(backend, "paste-text", "exec cat >OUT", "");
}

fn a_paste_to_a_program_that_reads_slowly_arrives_exact(backend: Backend) {
    // Some 200 KB a second at most: none waits long, all together longer than one may.
    let slowly = "while dd bs=4096 count=6 status=none >>OUT; do sleep 0.1; done";
    let begun = Instant::now();
    paste(backend, "paste-slow", slowly, "?input=binary");
    assert!(begun.elapsed() > Duration::from_secs(4), "not slow enough");
}
