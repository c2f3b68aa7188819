//! Terminals that their program closes: for a while, or for good.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use serde_json::json;

use crate::harness::ws::{Got, PING};
use crate::harness::{Backend, Server, Ws, eventually, on_both, skipped};
use crate::terminal::tty;
use crate::terminal_input::File;
use crate::terminal_programs::found;

on_both!(
    what_is_shown_on_a_terminal_that_was_opened_again_is_seen_before_the_exit,
    a_terminal_that_is_opened_for_each_line_loses_none,
    agetty_that_hangs_up_before_it_begins_serves_its_shell,
    what_is_typed_while_nobody_has_the_terminal_open_waits,
    a_program_that_closed_its_terminal_for_good_runs_on_and_ends,
);

/// Lets go of the terminal.
const CLOSE: &str = "exec <&- >&- 2>&-";

/// Takes it back.
const OPEN: &str = "exec </dev/tty >/dev/tty 2>&1";

/// Two files: the program makes the first when it has let go of its terminal, the test the second
/// when it may go on.
struct Meeting(File, File);

impl Meeting {
    fn new(name: &str, backend: Backend) -> Self {
        Self(
            File::new(&format!("{name}-closed"), backend),
            File::new(&format!("{name}-go"), backend),
        )
    }

    fn script(&self) -> String {
        let (closed, go) = (self.0.0.display(), self.1.0.display());
        format!("{CLOSE}; : >{closed}; while [ ! -e {go} ]; do sleep 0.05; done")
    }

    fn await_closed(&self) {
        eventually("the terminal to be closed", || {
            self.0.0.exists().then_some(())
        });
    }

    fn go(&self) {
        std::fs::write(&self.1.0, "").unwrap();
    }
}

fn what_is_shown_on_a_terminal_that_was_opened_again_is_seen_before_the_exit(backend: Backend) {
    let server = Server::open(backend);
    let meeting = Meeting::new("again", backend);
    // More than the terminal holds, and the end right behind it.
    let script = format!("{}; {OPEN}; seq 100000; printf done", meeting.script());
    let id = server.spawn(&tty(&script));
    let mut ws = Ws::attach(&server, &id, "");
    meeting.await_closed();
    // The end of the terminal as it was has been seen by the time that this is answered.
    assert_eq!(server.info(&id)["status"], "running");
    meeting.go();
    let end = ws.rest();
    assert_eq!(end.texts, [json!({"exitCode": 0, "type": "exit"})]);
    let lines: String = (1..=100_000).map(|n| format!("{n}\r\n")).collect();
    assert!(end.output == (lines + "done").as_bytes(), "output is lost");
    assert_eq!(end.close, Some(1000));
}

fn a_terminal_that_is_opened_for_each_line_loses_none(backend: Backend) {
    let server = Server::open(backend);
    // More than the terminal holds, so it must be read again and again.
    let lines = "n=0; while [ $n -lt 9000 ]; do n=$((n+1)); echo \"line $n\" >/dev/tty; done";
    let id = server.spawn(&tty(&format!("{CLOSE}; {lines}")));
    server.await_exit(&id);
    let expected: String = (1..=9000).map(|n| format!("line {n}\r\n")).collect();
    let output = server.output(&id, "pty");
    assert!(output == expected.as_bytes(), "{} bytes", output.len());
}

fn agetty_that_hangs_up_before_it_begins_serves_its_shell(backend: Backend) {
    if !found("agetty") {
        return;
    }
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return skipped("agetty needs root");
    }
    let server = Server::open(backend);
    let getty = "exec agetty -R -n -l /bin/sh $(tty | sed s,/dev/,,) xterm";
    let mut body = tty(getty);
    body["env"] = json!({"PS1": "ready> "});
    // The terminal may be waited for in the very moment of its hang-up, which the ring refuses.
    for _ in 0..20 {
        let id = server.spawn(&body);
        let mut ws = Ws::attach(&server, &id, "");
        ws.until("ready> ");
        ws.input("echo he\"\"re\n");
        ws.until("\r\nhere\r\n");
        ws.input("exit 3\n");
        let end = ws.rest();
        assert_eq!(end.texts, [json!({"exitCode": 3, "type": "exit"})]);
    }
}

fn what_is_typed_while_nobody_has_the_terminal_open_waits(backend: Backend) {
    let server = Server::open(backend);
    let meeting = Meeting::new("typed", backend);
    let script = format!("{}; {OPEN}; read x; echo \"<$x>\"", meeting.script());
    let id = server.spawn(&tty(&script));
    let mut ws = Ws::attach(&server, &id, "");
    meeting.await_closed();
    ws.input("hello\n");
    ws.send(PING, b"");
    assert_eq!(ws.next(), Got::Pong(Vec::new()));
    meeting.go();
    let end = ws.rest();
    let output = String::from_utf8(end.output).unwrap();
    assert!(output.ends_with("<hello>\r\n"), "{output}");
    assert_eq!(end.texts, [json!({"exitCode": 0, "type": "exit"})]);
}

fn a_program_that_closed_its_terminal_for_good_runs_on_and_ends(backend: Backend) {
    let server = Server::open(backend);
    let closed = File::new("for-good", backend);
    let script = format!("{CLOSE}; : >{}; exec sleep 1000", closed.0.display());
    let id = server.spawn(&tty(&script));
    let mut ws = Ws::attach(&server, &id, "");
    eventually("the terminal to be closed", || {
        closed.0.exists().then_some(())
    });
    assert_eq!(ws.poll(Duration::from_millis(300)), None, "no end yet");
    assert_eq!(server.info(&id)["status"], "running");
    // Typed for nobody: it holds nothing up.
    ws.input("x");
    assert_eq!(server.kill(&id)["status"], "exited");
    let end = ws.rest();
    let exit = json!({"exitCode": null, "type": "exit"});
    assert_eq!(end.texts.last(), Some(&exit));
    assert_eq!(end.close, Some(1000));
}
