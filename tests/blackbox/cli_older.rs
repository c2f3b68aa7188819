//! The command line with a server that is older than it, or the reference: what works there works,
//! and anything else is said in one sentence.
//!
//! The server here is a few answers, those that the reference gives: no `/v1/server`, a stop without
//! a grace, an event stream that says nothing of an exit.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::cli::Said;

/// How often the record was asked for; it has exited from the third time on.
static ASKED: AtomicUsize = AtomicUsize::new(0);

fn record(status: &str) -> Value {
    let code = if status == "exited" {
        json!(0)
    } else {
        Value::Null
    };
    json!({"id": "proc_1", "command": "sleep", "args": ["9"], "tty": false, "interactive": false,
           "status": status, "pid": 7, "exitCode": code, "createdAtMs": 1})
}

fn entry(sequence: u64) -> Value {
    let data = ["YQo=", "Ygo=", "Ywo="][usize::try_from(sequence - 1).expect("few")];
    json!({"sequence": sequence, "stream": "stdout", "timestampMs": sequence, "encoding": "base64",
           "data": data})
}

/// What the reference says to a request; None is a route that it does not have.
fn answer(method: &str, target: &str) -> Option<Value> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Some(match (method, path) {
        ("GET", "/v1/health") => json!({"status": "ok"}),
        ("GET", "/v1/processes") => json!({"processes": [record("running")]}),
        ("POST", "/v1/processes") => record("running"),
        ("GET", "/v1/processes/proc_1") => {
            let is_over = ASKED.fetch_add(1, Ordering::SeqCst) >= 2;
            record(if is_over { "exited" } else { "running" })
        }
        ("GET", "/v1/processes/proc_1/logs") if !query.contains("follow") => {
            let since = query
                .strip_prefix("since=")
                .map_or(0, |n| n.parse().expect("a number"));
            let written = ASKED.load(Ordering::SeqCst).clamp(1, 3) as u64;
            let entries: Vec<_> = (since + 1..=written).map(entry).collect();
            json!({"processId": "proc_1", "stream": "combined", "entries": entries})
        }
        // It ignores SIGTERM.
        ("POST", "/v1/processes/proc_1/stop") => record("running"),
        ("POST", "/v1/processes/proc_1/kill") => record("exited"),
        ("POST", "/v1/processes/proc_1/input") => json!({"bytesWritten": 1}),
        ("POST", "/v1/processes/run") => {
            json!({"exitCode": 3, "timedOut": false, "stdout": "out\n",
            "stderr": "err\n", "stdoutTruncated": false, "stderrTruncated": false, "durationMs": 1})
        }
        ("GET", "/v1/processes/config") => json!({"maxOutputBytes": 1}),
        _ => return None,
    })
}

fn serve(stream: TcpStream) {
    let mut reader = BufReader::new(&stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_lowercase());
    }
    let length = head
        .iter()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a length"))];
    let _ = reader.read_exact(&mut body);
    let mut words = head[0].split(' ').map(str::to_uppercase);
    let method = words.next().unwrap_or_default();
    let target = head[0].split(' ').nth(1).unwrap_or_default();
    let (status, body) = match answer(&method, target) {
        Some(body) => ("200 OK", body),
        None => (
            "404 Not Found",
            json!({"type": "about:blank", "title": "Not Found",
                                         "status": 404, "detail": "endpoint not found"}),
        ),
    };
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    let _ = (&stream).write_all(format!("{head}{body}").as_bytes());
}

#[test]
fn an_older_server_does_what_it_can_and_the_rest_is_said_in_one_sentence() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    let procring = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_procring"));
        let command = command
            .args(["--url", &url])
            .args(args)
            .stdin(Stdio::null());
        Said::of(
            command
                .env_remove("PROCRING_TOKEN")
                .output()
                .expect("procring"),
        )
    };
    for (args, code) in [
        (&["start", "--name", "web", "true"][..], 1),
        (&["start", "-l", "a=b", "true"], 1),
        (&["start", "--stdin", "open", "true"], 1),
        (&["start", "--deadline", "1s", "true"], 1),
        (&["start", "--limit", "pids=5", "true"], 1),
        (&["start", "--user", "nobody", "true"], 1),
        (&["run", "--name", "web", "true"], 125),
        (&["run", "--limit", "pids=5", "true"], 125),
        (&["ps", "-l", "a=b"], 1),
        (&["attach", "proc_1"], 1),
        (&["kill", "-s", "USR1", "proc_1"], 1),
        (&["wait", "proc_1"], 1),
        (&["wait", "proc_1", "--port", "1"], 1),
        (&["input", "proc_1"], 1),
        (&["input", "--eof", "proc_1", "x"], 1),
        (&["screen", "proc_1"], 1),
        (&["record", "proc_1"], 1),
        (&["events"], 1),
        (&["upgrade"], 1),
    ] {
        let said = procring(args);
        assert_eq!(
            (said.code, &*said.out),
            (Some(code), ""),
            "{args:?} {said:?}"
        );
        assert!(said.err.contains("it is too old"), "{args:?} {said:?}");
        assert_eq!(said.err.lines().count(), 1, "{args:?} {said:?}");
    }
    ASKED.store(0, Ordering::SeqCst);
    for args in [
        &["health"][..],
        &["ps"],
        &["top"],
        &["config"],
        &["inspect", "proc_1"],
        &["logs", "proc_1"],
        &["input", "proc_1", "x"],
        &["kill", "proc_1"],
        // What does not end in its grace is killed from here.
        &["stop", "-t", "10ms", "proc_1"],
    ] {
        let said = procring(args);
        assert_eq!((said.code, &*said.err), (Some(0), ""), "{args:?} {said:?}");
    }
    let said = procring(&["run", "true"]);
    assert_eq!(
        (said.code, &*said.out, &*said.err),
        (Some(3), "out\n", "err\n")
    );
    // It ends with the process, and each line comes once.
    ASKED.store(0, Ordering::SeqCst);
    let said = procring(&["logs", "-f", "proc_1"]);
    assert_eq!((said.code, &*said.out), (Some(0), "a\nb\nc\n"), "{said:?}");
}
