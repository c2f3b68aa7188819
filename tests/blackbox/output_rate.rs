//! `outputBytesPerSecond`: a program that writes faster waits, and nothing is lost.
//!
//! How long it takes at least is asserted, never how long at most: that is the machine's.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::lines::Lines;
use crate::harness::{Backend, Server, eventually, on_both, procfs, sh};

on_both!(
    a_run_takes_as_long_as_its_output_may_and_loses_nothing,
    a_streamed_run_as_well,
    a_process_as_well,
    a_terminal_as_well,
    both_outputs_count_together,
    others_go_on_as_ever,
    what_is_left_at_the_exit_is_read_at_once,
    what_others_write_later_is_paced_as_before,
    who_is_held_can_be_killed_and_stopped,
    nobody_wakes_up_for_a_limit_while_nothing_is_written,
);

fn limited(mut body: Value, per_second: u64) -> Value {
    body["limits"] = json!({"outputBytesPerSecond": per_second});
    body
}

/// Writes so many bytes as fast as it can.
fn writes(bytes: u64) -> Value {
    json!({"command": "head", "args": ["-c", bytes.to_string(), "/dev/zero"],
        "maxOutputBytes": 0, "keep": "head", "timeoutMs": 300_000})
}

const PER_SECOND: u64 = 200_000;
const BYTES: u64 = 600_000;

/// What a process of that limit may have written beyond it: what its pipe holds, some pages, and
/// what is read of it in 50 ms.
const AHEAD: u64 = 40_000;

/// Milliseconds that so many bytes take at least, whatever the machine does. A twentieth more may
/// come in every second.
fn at_least(bytes: u64, per_second: u64) -> u64 {
    (bytes - AHEAD) * 1000 / per_second * 95 / 100
}

fn a_run_takes_as_long_as_its_output_may_and_loses_nothing(backend: Backend) {
    let server = Server::open(backend);
    let answer = server.run(&limited(writes(BYTES), PER_SECOND));
    assert_eq!(answer["stdoutBytes"], BYTES, "{answer}");
    let took = answer["durationMs"].as_u64().unwrap();
    assert!(took >= at_least(BYTES, PER_SECOND), "{took} ms");
    // All of it is kept, too, and in order.
    let mut body = limited(sh("seq 1 20000"), PER_SECOND);
    body["maxOutputBytes"] = json!(1 << 20);
    let expected: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(server.run(&body)["stdout"], expected);
}

fn a_streamed_run_as_well(backend: Backend) {
    let server = Server::open(backend);
    let mut body = limited(writes(BYTES), PER_SECOND);
    body.as_object_mut()
        .unwrap()
        .retain(|name, _| name != "keep" && name != "maxOutputBytes");
    let mut lines = Lines::run(&server, &body);
    lines.start();
    let exit = lines.exit();
    assert_eq!(exit["stdoutBytes"], BYTES, "{exit}");
    let took = exit["durationMs"].as_u64().unwrap();
    assert!(took >= at_least(BYTES, PER_SECOND), "{took} ms");
}

fn lived(info: &Value) -> u64 {
    info["exitedAtMs"].as_u64().unwrap() - info["createdAtMs"].as_u64().unwrap()
}

fn a_process_as_well(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&limited(writes(BYTES), PER_SECOND));
    let info = server.await_exit(&id);
    assert_eq!(server.output(&id, "stdout").len() as u64, BYTES);
    assert!(lived(&info) >= at_least(BYTES, PER_SECOND), "{info}");
}

fn a_terminal_as_well(backend: Backend) {
    let server = Server::open(backend);
    let mut body = limited(sh("stty raw; head -c 600000 /dev/zero"), PER_SECOND);
    body["tty"] = json!(true);
    let id = server.spawn(&body);
    let info = server.await_exit(&id);
    assert_eq!(server.output(&id, "pty").len() as u64, BYTES);
    // The kernel holds some more of a terminal's output than of a pipe's.
    assert!(
        lived(&info) >= at_least(BYTES - 100_000, PER_SECOND),
        "{info}"
    );
}

fn both_outputs_count_together(backend: Backend) {
    let server = Server::open(backend);
    let script = "head -c 300000 /dev/zero & head -c 300000 /dev/zero >&2; wait";
    let mut body = limited(sh(script), PER_SECOND);
    body["keep"] = json!("head");
    body["timeoutMs"] = json!(300_000);
    let answer = server.run(&body);
    let written = (&answer["stdoutBytes"], &answer["stderrBytes"]);
    assert_eq!(written, (&json!(300_000), &json!(300_000)));
    let took = answer["durationMs"].as_u64().unwrap();
    assert!(took >= at_least(BYTES - AHEAD, PER_SECOND), "{took} ms");
}

fn others_go_on_as_ever(backend: Backend) {
    let server = Server::open(backend);
    let held = server.spawn(&limited(json!({"command": "yes"}), 1000));
    eventually("some of it", || {
        (!server.output(&held, "stdout").is_empty()).then_some(())
    });
    // It would take hours at that speed.
    let answer = server.run(&writes(20_000_000));
    assert_eq!(answer["stdoutBytes"], 20_000_000, "{answer}");
    server.kill(&held);
}

fn what_is_left_at_the_exit_is_read_at_once(backend: Backend) {
    let server = Server::open(backend);
    // An hour and more.
    let body = limited(sh("seq 1 800; seq 1 800 >&2"), 1);
    let expected: String = (1..=800).map(|n| format!("{n}\n")).collect();
    let answer = server.run(&body);
    assert_eq!(answer["stdout"], expected, "{answer}");
    assert_eq!(answer["stderr"], expected, "{answer}");
    let id = server.spawn(&body);
    server.await_exit(&id);
    for stream in ["stdout", "stderr"] {
        assert_eq!(server.output(&id, stream), expected.as_bytes(), "{stream}");
    }
    let mut terminal = limited(sh("stty -opost; seq 1 800"), 1);
    terminal["tty"] = json!(true);
    let id = server.spawn(&terminal);
    server.await_exit(&id);
    assert_eq!(server.output(&id, "pty"), expected.as_bytes());
    let mut lines = Lines::run(&server, &body);
    lines.start();
    assert_eq!(lines.exit()["stdoutBytes"], expected.len());
}

fn what_others_write_later_is_paced_as_before(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&limited(sh("yes & exit 0"), 10_000));
    server.await_exit(&id);
    let length = || server.output(&id, "stdout").len() as u64;
    let (begun, before) = (Instant::now(), length());
    eventually("more of it", || (length() > before + 5000).then_some(()));
    let more = length() - before;
    // Looked at first, so that what comes meanwhile only makes it more.
    let most = u64::try_from(begun.elapsed().as_millis()).unwrap() * 10 + AHEAD;
    assert!(more <= most, "{more} of {most}");
    server.kill(&id);
}

fn who_is_held_can_be_killed_and_stopped(backend: Backend) {
    let server = Server::open(backend);
    for (way, tty) in [
        ("kill", false),
        ("stop", false),
        ("kill", true),
        ("stop", true),
    ] {
        let mut body = limited(json!({"command": "yes"}), 100);
        body["tty"] = json!(tty);
        let id = server.spawn(&body);
        eventually("some of it", || {
            (!server.output(&id, "combined").is_empty()).then_some(())
        });
        let target = format!("/v1/processes/{id}/{way}?waitMs=20000");
        let info = server.post_empty(&target).expect(200).json();
        assert_eq!(info["status"], "exited", "{way}, {tty}: {info}");
    }
    let mut body = limited(json!({"command": "yes"}), 100);
    body["timeoutMs"] = json!(500);
    assert_eq!(server.run(&body)["timedOut"], true);
}

/// Longer than anything that follows activity.
const SETTLE: Duration = Duration::from_millis(2500);
const IDLE: Duration = Duration::from_secs(2);

fn nobody_wakes_up_for_a_limit_while_nothing_is_written(backend: Backend) {
    let server = Server::open(backend);
    for tty in [false, true] {
        let mut body = limited(sh("echo ready; exec sleep 777"), 1000);
        body["tty"] = json!(tty);
        let id = server.spawn(&body);
        server.await_output(&id, "ready");
    }
    std::thread::sleep(SETTLE);
    let before = procfs::switches(server.pid);
    std::thread::sleep(IDLE);
    let wakes = procfs::switches(server.pid) - before;
    // A timer that was given up may wake the server once.
    assert!(wakes <= 2, "{wakes} wakes in {IDLE:?}");
}
