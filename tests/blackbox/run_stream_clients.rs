//! Clients of streamed runs that read slowly, not at all, or go away.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::lines::{Lines, NDJSON, run_request, text_of};
use crate::harness::procfs::kib;
use crate::harness::{Backend, Conn, Server, eventually, on_both, sh};

on_both!(
    a_slow_client_slows_the_program_and_loses_nothing,
    a_slow_client_of_a_recorded_run_loses_nothing_however_small_the_log,
    a_record_that_goes_meanwhile_does_not_cut_the_stream,
    a_client_that_hangs_up_ends_the_tree,
    a_run_that_may_outlive_its_client_does_and_its_record_tells,
    a_half_closed_client_gets_what_happens_within_its_time,
    a_client_that_goes_at_once_leaves_nothing,
);

fn flag(server: &Server, name: &str) -> PathBuf {
    let dir = std::fs::canonicalize(env!("CARGO_TARGET_TMPDIR")).unwrap();
    dir.join(format!("clients-{name}-{}", server.pid))
}

/// A run that has time enough on a machine that is busy.
fn patient(script: &str) -> Value {
    let mut body = sh(script);
    body["timeoutMs"] = json!(300_000);
    body
}

/// Numbers, one a line.
fn numbers(count: u32) -> String {
    (1..=count).map(|n| format!("{n}\n")).collect()
}

/// Bytes that the server has read, of whatever (proc_pid_io(5)).
fn bytes_read(server: &Server) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/io", server.pid)).unwrap();
    let number = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    number.expect("rchar").parse().unwrap()
}

/// Waits until the server reads nothing any more: the client, and so the program, is stuck.
fn await_stuck(server: &Server) {
    let mut last = 0;
    let mut same = 0;
    eventually("the stream to be stuck", || {
        let read = bytes_read(server);
        same = if read == std::mem::replace(&mut last, read) {
            same + 1
        } else {
            0
        };
        (same > 20).then_some(())
    });
}

/// Pipes and connections of the server.
fn fds(server: &Server) -> usize {
    let fds = std::fs::read_dir(format!("/proc/{}/fd", server.pid)).unwrap();
    let links = fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    let of_clients = |link: &PathBuf| {
        let link = link.to_string_lossy();
        link.starts_with("pipe:") || link.starts_with("socket:")
    };
    links.filter(of_clients).count()
}

#[track_caller]
fn await_nothing_left(server: &Server, fds_before: usize, what: &str) {
    eventually(&format!("{what}: nothing to be left"), || {
        let gone = server.survivors().is_empty() && server.connections() == 0;
        (gone && fds(server) <= fds_before).then_some(())
    });
}

fn a_slow_client_slows_the_program_and_loses_nothing(backend: Backend) {
    let server = Server::open(backend);
    server.run(&json!({"command": "true"}));
    let (done, count) = (flag(&server, "slow"), 1_300_000);
    let before = kib(server.pid, "VmHWM");
    let script = format!("seq 1 {count}; touch {}", done.display());
    let mut lines = Lines::run(&server, &patient(&script));
    lines.start();
    await_stuck(&server);
    assert!(!done.exists(), "9 MB fit in no buffer");
    let all = lines.rest();
    assert!(text_of(&all, "stdout") == numbers(count));
    assert_eq!(all.last().unwrap()["exitCode"], 0);
    let grown = kib(server.pid, "VmHWM") - before;
    assert!(grown < 8 << 10, "{grown} KiB more");
    std::fs::remove_file(done).unwrap();
}

fn a_slow_client_of_a_recorded_run_loses_nothing_however_small_the_log(backend: Backend) {
    let server = Server::open(backend);
    for (limit, count) in [(10_000, 1_300_000), (1_000_000, 400_000)] {
        server.configure(&[("maxLogBytesPerProcess", limit)]);
        let mut body = patient(&format!("seq 1 {count}; seq 1 1000 >&2"));
        body["record"] = json!(true);
        let mut lines = Lines::run(&server, &body);
        let start = lines.next().unwrap();
        let id = start["processId"].as_str().expect("an id").to_owned();
        await_stuck(&server);
        if count > 1_000_000 {
            // More than fits anywhere.
            let info = server.info(&id);
            let expected = (&json!("running"), &start["pid"]);
            assert_eq!((&info["status"], &info["pid"]), expected);
        }
        let all = lines.rest();
        assert!(text_of(&all, "stdout") == numbers(count), "{limit}");
        assert!(text_of(&all, "stderr") == numbers(1000), "{limit}");
        let sequences: Vec<_> = all
            .iter()
            .filter_map(|line| line["sequence"].as_u64())
            .collect();
        assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
        // They are those of the log.
        let logs = server.logs(&id, "?tail=1");
        assert_eq!(logs["entries"][0]["sequence"], sequences.len());
        let kept = server.output(&id, "combined").len() as u64;
        assert!(kept <= limit && kept > 0, "{kept} of {limit}");
        assert_eq!(server.info(&id)["exitCode"], 0);
    }
}

fn a_record_that_goes_meanwhile_does_not_cut_the_stream(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 100_000)]);
    let mut body = patient("exec seq 1 20000000");
    body["record"] = json!(true);
    body["name"] = json!("numbers");
    let mut lines = Lines::run(&server, &body);
    lines.start();
    await_stuck(&server);
    assert_eq!(server.kill("numbers")["signal"], "SIGKILL");
    server.delete("/v1/processes/numbers").expect(204);
    server.get("/v1/processes/numbers").expect(404);
    // The name is free while the old stream is not over.
    let again = server.spawn(&json!({"command": "cat", "name": "numbers"}));
    let all = lines.rest();
    let (exit, text) = (all.last().unwrap(), text_of(&all, "stdout"));
    assert_eq!(
        (&exit["type"], &exit["signal"]),
        (&json!("exit"), &json!("SIGKILL"))
    );
    assert_eq!(exit["stdoutBytes"], text.len());
    let enough = numbers(1_500_000);
    let len = text.len().min(enough.len());
    assert!(len > 100_000 && text[..len] == enough[..len]);
    assert_eq!(server.info("numbers")["id"], again.as_str());
    server.kill(&again);
}

fn leave(conn: Conn, by_reset: bool) {
    if by_reset {
        conn.reset();
    }
}

fn a_client_that_hangs_up_ends_the_tree(backend: Backend) {
    let server = Server::open(backend);
    server.run(&json!({"command": "true"}));
    let before = fds(&server);
    for by_reset in [true, false] {
        for script in [
            "echo on; setsid sleep 77 & sleep 77",
            "echo on; setsid yes & yes >&2",
        ] {
            let mut lines = Lines::run(&server, &sh(script));
            lines.start();
            assert_eq!(lines.next().unwrap()["type"], "stdout");
            leave(lines.into_conn(), by_reset);
            await_nothing_left(&server, before, script);
            // One that reads nothing at all, and then goes.
            let mut conn = server.conn();
            conn.send(run_request("1.1", &[NDJSON], &sh(script)));
            eventually("it to start", || {
                (!server.survivors().is_empty()).then_some(())
            });
            await_stuck(&server);
            leave(conn, by_reset);
            await_nothing_left(&server, before, script);
        }
    }
    let list = server.get("/v1/processes").json();
    assert_eq!(list["processes"], json!([]), "it leaves no record");
}

fn a_run_that_may_outlive_its_client_does_and_its_record_tells(backend: Backend) {
    let server = Server::open(backend);
    server.run(&json!({"command": "true"}));
    let before = fds(&server);
    let (go, done) = (flag(&server, "go"), flag(&server, "done"));
    for record in [false, true] {
        let mut body = sh(&format!(
            "echo on; until [ -e {} ]; do sleep 0.02; done; seq 1 100000; touch {}",
            go.display(),
            done.display()
        ));
        body["killOnDisconnect"] = json!(false);
        body["record"] = json!(record);
        let mut lines = Lines::run(&server, &body);
        let start = lines.next().unwrap();
        assert_eq!(lines.next().unwrap()["type"], "stdout");
        leave(lines.into_conn(), record);
        std::fs::write(&go, "").unwrap();
        eventually("it to go on to its end", || done.exists().then_some(()));
        await_nothing_left(&server, before, "it has ended");
        if record {
            let id = start["processId"].as_str().unwrap();
            let info = server.await_exit(id);
            assert_eq!((&info["exitCode"], info.get("signal")), (&json!(0), None));
            let text = String::from_utf8(server.output(id, "stdout")).unwrap();
            assert!(text == format!("on\n{}", numbers(100_000)));
        }
        std::fs::remove_file(&go).unwrap();
        std::fs::remove_file(&done).unwrap();
    }
}

fn a_half_closed_client_gets_what_happens_within_its_time(backend: Backend) {
    let server = Server::open(backend);
    let half_closed = |body: &Value| {
        let mut lines = Lines::run(&server, body);
        lines.start();
        lines.conn().finish_writing();
        lines.rest()
    };
    let all = half_closed(&sh("sleep 0.1; echo done"));
    assert_eq!(text_of(&all, "stdout"), "done\n");
    assert_eq!(all.last().unwrap()["exitCode"], 0);
    // It is ended then, and whoever listens is told.
    for script in ["echo on; sleep 77", "while :; do echo on; sleep 0.05; done"] {
        let all = half_closed(&sh(script));
        assert!(text_of(&all, "stdout").starts_with("on\n"));
        assert_eq!(all.last().unwrap()["signal"], "SIGKILL");
    }
    let mut body = sh("sleep 1.5; echo done");
    body["killOnDisconnect"] = json!(false);
    let all = half_closed(&body);
    assert_eq!(text_of(&all, "stdout"), "done\n");
    assert_eq!(all.last().unwrap()["exitCode"], 0);
    assert!(server.survivors().is_empty());
}

fn a_client_that_goes_at_once_leaves_nothing(backend: Backend) {
    let server = Server::open(backend);
    server.run(&json!({"command": "true"}));
    let before = fds(&server);
    for round in 0..20 {
        let mut body = sh("yes & exec sleep 77");
        body["record"] = json!(round % 2 == 0);
        let mut conn = server.conn();
        conn.send(run_request("1.1", &[NDJSON], &body));
        leave(conn, round % 4 < 2);
    }
    await_nothing_left(&server, before, "all of them");
}
