//! 14.12: terminals whose program does not read, and long pastes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::ws::{BINARY, CLOSE, Got, PING, frame};
use crate::harness::{Backend, Server, Ws, eventually, on_both};
use crate::terminal::tty;

on_both!(
    input_that_no_terminal_program_reads_is_answered_503_with_what_was_taken,
    an_unread_terminal_holds_nothing_else_up,
    a_viewer_whose_input_is_not_read_is_served_on,
    who_types_byte_by_byte_does_not_keep_others_waiting,
    what_is_typed_while_the_program_is_busy_waits_until_it_reads,
    what_may_not_wait_is_refused_whole_and_the_rest_arrives_without_a_hole,
    what_a_viewer_typed_waits_five_seconds_after_it_has_gone,
    what_was_typed_before_a_viewer_left_still_arrives,
    a_paste_of_one_mebibyte_arrives_exact,
    a_paste_to_a_program_that_reads_slowly_arrives_exact,
);

/// A file of one test, gone when dropped.
pub(crate) struct File(pub(crate) PathBuf);

impl File {
    pub(crate) fn new(name: &str, backend: Backend) -> Self {
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
}

fn who_types_byte_by_byte_does_not_keep_others_waiting(backend: Backend) {
    const KEYS: u64 = 3_000;
    let server = Server::open(backend);
    let id = server.spawn(&tty("stty raw -echo; echo on; exec cat >/dev/null"));
    server.await_output(&id, "on");
    let mut ws = Ws::attach(&server, &id, "?input=binary&replay=none");
    let burst = frame(true, BINARY, b"x").repeat(KEYS as usize);
    let typed = || {
        let process = server.get(&format!("/v1/processes/{id}?usage=true"));
        let process: Value = serde_json::from_slice(&process.body).unwrap();
        process["usage"]["inputBytes"].as_u64().unwrap()
    };
    // Where this thread is held up, all may have been typed before it asks.
    for all in (1..=20).map(|round| round * KEYS) {
        ws.raw(&burst);
        let is_answered_meanwhile = typed() < all;
        eventually("all that was typed", || (typed() == all).then_some(()));
        if is_answered_meanwhile {
            return;
        }
    }
    panic!("nobody was answered before all was typed");
}

/// Programs that read nothing until a file is there, and then all of it into another one.
struct Busy {
    server: Server,
    id: String,
    go: File,
    out: File,
}

impl Busy {
    fn new(name: &str, backend: Backend) -> Self {
        let server = Server::open(backend);
        let (go, out) = (
            File::new(&format!("{name}-go"), backend),
            File::new(&format!("{name}-out"), backend),
        );
        let id = server.spawn(&tty(&format!(
            "stty raw -echo; echo on; while [ ! -e {} ]; do sleep 0.05; done; exec cat >{}",
            go.0.display(),
            out.0.display()
        )));
        server.await_output(&id, "on");
        Self {
            server,
            id,
            go,
            out,
        }
    }

    fn attach(&self) -> Ws {
        Ws::attach(&self.server, &self.id, "?input=binary&replay=none")
    }

    /// Lets the program read; gives all that was typed, at least `len` bytes.
    fn read(&self, len: usize) -> Vec<u8> {
        const END: &[u8] = b"the end";
        std::fs::write(&self.go.0, "").unwrap();
        self.out.await_content(len);
        assert_eq!(write(&self.server, &self.id, END).0, 200);
        eventually("all that was typed", || {
            let mut got = std::fs::read(&self.out.0).ok()?;
            let len = got.strip_suffix(END)?.len();
            got.truncate(len);
            Some(got)
        })
    }
}

/// Whether what was sent just now was taken; else what was said of it.
fn taken(ws: &mut Ws) -> Result<(), String> {
    ws.send(PING, b"");
    match ws.next() {
        Got::Pong(_) => Ok(()),
        Got::Text(error) => {
            assert_eq!(error["type"], "error", "{error}");
            assert_eq!(ws.next(), Got::Pong(Vec::new()));
            Err(error["message"].as_str().unwrap().to_owned())
        }
        other => panic!("{other:?}"),
    }
}

fn what_is_typed_while_the_program_is_busy_waits_until_it_reads(backend: Backend) {
    let busy = Busy::new("busy", backend);
    let mut ws = busy.attach();
    // More than the kernel holds, far less than may wait.
    let data = pattern(300_000);
    for piece in data.chunks(50_000) {
        ws.send(BINARY, piece);
    }
    // Longer than an input over REST waits.
    assert_eq!(ws.poll(Duration::from_secs(6)), None, "nothing is given up");
    assert!(busy.read(data.len()) == data, "not what was typed");
    assert_eq!(taken(&mut ws), Ok(()), "no error came");
}

fn what_may_not_wait_is_refused_whole_and_the_rest_arrives_without_a_hole(backend: Backend) {
    let busy = Busy::new("bound", backend);
    let data = pattern(1_500_000);
    let mut pieces = data.chunks(50_000);
    let (mut one, mut other) = (busy.attach(), busy.attach());
    let mut accepted = 0;
    let refusal = loop {
        let piece = pieces.next().expect("a bound");
        one.send(BINARY, piece);
        match taken(&mut one) {
            Ok(()) => accepted += piece.len(),
            Err(refusal) => break refusal,
        }
    };
    assert!((900_000..1_100_000).contains(&accepted), "{accepted}");
    let of = "of these 50000 bytes none was taken";
    assert!(refusal.contains(of), "{refusal}");
    // The bound is that of the process, so the other viewer meets it, too, and at once now.
    other.send(BINARY, &data[..60_000]);
    let refusal = taken(&mut other).unwrap_err();
    let of = "of these 60000 bytes none was taken";
    assert!(refusal.contains(of), "{refusal}");
    // A smaller one would find room; but then there would be a hole where the refused one was.
    for ws in [&mut one, &mut other] {
        ws.send(BINARY, b"x");
        assert!(taken(ws).is_err());
    }
    // Everything else is served.
    one.resize(99, 33);
    assert_eq!(taken(&mut one), Ok(()));
    let got = busy.read(accepted);
    assert!(got == data[..accepted], "not what was taken");
    for ws in [&mut one, &mut other] {
        ws.send(BINARY, b"again");
        assert_eq!(taken(ws), Ok(()));
    }
}

fn what_a_viewer_typed_waits_five_seconds_after_it_has_gone(backend: Backend) {
    let busy = Busy::new("gone", backend);
    let held = fill(&busy.server, &busy.id);
    let mut config = busy.server.get("/v1/processes/config").json();
    config["maxInputBytesPerRequest"] = json!(2_000_000);
    busy.server
        .post("/v1/processes/config", &config)
        .expect(200);
    let leave: [fn(Ws); 3] = [
        |ws| ws.cut(),
        |mut ws| ws.send(CLOSE, &[0x03, 0xe8]),
        |mut ws| ws.raw(&[0xff; 20]),
    ];
    for leave in leave {
        let mut ws = busy.attach();
        for piece in [b'-'; 300_000].chunks(50_000) {
            ws.send(BINARY, piece);
        }
        assert_eq!(taken(&mut ws), Ok(()));
        leave(ws);
    }
    // An input of this size waits alone, so not before all of theirs are given up.
    let mut ws = busy.attach();
    let more = pattern(1_100_000);
    eventually("room", || {
        ws.send(BINARY, &more);
        taken(&mut ws).ok()
    });
    let expected = [held, more].concat();
    let mut got = busy.read(expected.len());
    let typed = got.len();
    got.retain(|byte| *byte != b'-');
    assert!(
        typed - got.len() < 50_000,
        "{typed}: more than the terminal may have taken"
    );
    assert!(got == expected, "not what was typed");
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
