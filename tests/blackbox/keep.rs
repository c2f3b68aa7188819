//! `--keep`: a server that dies loses no process, no byte and no exit code.
//!
//! A keeper is killed never, and the server that it has begun at any time. Who asks before another
//! one is there waits for it: the sockets that are listened on are the keeper's, too.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::launch::run_binary;
use crate::harness::server::send_signal;
use crate::harness::sse::{bytes_of, sequences};
use crate::harness::{
    Backend, Follow, Server, WAIT, Ws, eventually, on_both, one_heavy_test_at_a_time, procfs, sh,
};
use crate::upgrade::kept;

on_both!(
    what_runs_and_what_has_ended_is_there_after_a_kill,
    what_ends_while_no_server_looks_has_its_status,
    a_terminal_goes_on_and_takes_input,
    a_run_in_flight_ends_and_a_recorded_one_goes_on,
    what_a_deleted_record_left_is_ended_with_the_server,
    a_deadline_holds_over_a_kill,
    a_tree_is_killed_by_the_next_server,
    ids_names_and_settings_go_on,
    a_follower_resumes_by_the_last_id,
    nothing_of_the_server_that_died_stays_open,
    at_random_moments_under_load_nothing_is_lost,
    killed_at_any_call_nothing_is_lost,
    a_server_that_always_dies_ends_everything,
    the_end_of_the_keeper_is_the_end_of_all,
    an_end_in_order_is_one,
);

/// Kills the server and waits until another one is there.
#[track_caller]
pub(crate) fn kill_server(server: &Server) {
    let before = server.kept().expect("a server");
    send_signal(before, libc::SIGKILL);
    eventually("another server", || {
        server.kept().filter(|pid| *pid != before)
    });
}

#[track_caller]
fn list(server: &Server) -> Value {
    server.get("/v1/processes").json()
}

/// Writes a line a time until it is told to end: by SIGUSR1, with this code.
fn counter(code: u8) -> Value {
    sh(&format!(
        "trap 'exit {code}' USR1; i=0; while :; do echo line $i; i=$((i+1)); sleep 0.02; done"
    ))
}

#[track_caller]
fn pid_of(server: &Server, id: &str) -> i32 {
    server.info(id)["pid"].as_i64().expect("a pid") as i32
}

/// All of a log as it was written.
#[track_caller]
fn log(server: &Server, id: &str) -> Vec<u8> {
    server
        .get(&format!("/v1/processes/{id}/logs/raw"))
        .expect(200)
        .body
}

fn what_runs_and_what_has_ended_is_there_after_a_kill(backend: Backend) {
    let server = kept(backend);
    let over = server.spawn(&sh("echo out; echo err >&2; exit 7"));
    server.await_exit(&over);
    let body = json!({"command": "cat", "args": ["-u"], "name": "cat", "labels": {"a": "b"},
        "stdin": "open"});
    let cat = server.spawn(&body);
    server.feed(&cat, "before\n");
    server.await_output(&cat, "before");
    let (records, logs) = (list(&server), log(&server, &over));
    kill_server(&server);
    assert_eq!(list(&server), records);
    assert_eq!(log(&server, &over), logs);
    assert_eq!(server.info("cat")["id"], cat.as_str());
    server.feed(&cat, "after\n");
    server.await_output(&cat, "before\nafter");
    // Its input is the same pipe, so its end is its end.
    let eof = server.post(
        &format!("/v1/processes/{cat}/input"),
        &json!({"data": "", "eof": true}),
    );
    eof.expect(200);
    assert_eq!(server.await_exit(&cat)["exitCode"], 0);
    assert_eq!(log(&server, &cat), b"before\nafter\n");
    let stderr = server.stderr();
    assert!(
        stderr.contains("the server died (SIGKILL); another one goes on"),
        "{stderr}"
    );
}

fn what_ends_while_no_server_looks_has_its_status(backend: Backend) {
    let server = kept(backend);
    let ids: Vec<String> = [3, 4]
        .iter()
        .map(|code| server.spawn(&counter(*code)))
        .collect();
    for id in &ids {
        server.await_output(id, "line 3");
    }
    let pids: Vec<i32> = ids.iter().map(|id| pid_of(&server, id)).collect();
    let before = server.kept().unwrap();
    send_signal(before, libc::SIGSTOP);
    eventually("a stopped server", || {
        (procfs::state(before) == Some('T')).then_some(())
    });
    send_signal(pids[0], libc::SIGUSR1);
    send_signal(pids[1], libc::SIGKILL);
    // The keeper has reaped them, and nobody has looked.
    for pid in pids {
        eventually("a reaped child", || {
            procfs::state(pid).is_none().then_some(())
        });
    }
    send_signal(before, libc::SIGKILL);
    assert_eq!(server.await_exit(&ids[0])["exitCode"], 3);
    assert_eq!(server.await_exit(&ids[1])["signal"], "SIGKILL");
}

fn a_terminal_goes_on_and_takes_input(backend: Backend) {
    let server = kept(backend);
    let body = json!({"command": "sh", "args": ["-c",
        "stty -echo; echo ready; while read line; do echo got $line; stty size; done"],
        "tty": true, "cols": 99, "rows": 33});
    let id = server.spawn(&body);
    server.await_output(&id, "ready");
    let mut viewer = Ws::attach(&server, &id, "");
    viewer.until("ready");
    kill_server(&server);
    let mut again = Ws::attach(&server, &id, "");
    again.until("ready");
    again.input("something\n");
    let text = again.until("33 99");
    assert!(text.contains("got something"), "{text:?}");
    again.resize(50, 20);
    again.input("more\n");
    again.until("20 50");
}

fn a_run_in_flight_ends_and_a_recorded_one_goes_on(backend: Backend) {
    let server = kept(backend);
    let mut recorded = counter(5);
    recorded["record"] = json!(true);
    recorded["name"] = json!("recorded");
    let ask = |body: &Value| {
        let mut conn = server.conn();
        conn.send(crate::harness::lines::run_request("1.1", &[], body));
        conn
    };
    let children = || {
        let mut all = procfs::children_of(server.pid);
        all.retain(|pid| Some(*pid) != server.kept());
        all
    };
    let _asked = ask(&sh("exec sleep 1000"));
    let sleeper = eventually("a run", || children().pop());
    let _also = ask(&recorded);
    server.await_output(
        &eventually("a recorded run", || {
            let found = server.get("/v1/processes/recorded");
            (found.status == 200).then(|| found.json()["id"].as_str().unwrap().to_owned())
        }),
        "line 2",
    );
    kill_server(&server);
    eventually("the end of the run", || {
        (!procfs::alive(sleeper)).then_some(())
    });
    let pid = pid_of(&server, "recorded");
    server.await_output("recorded", "line 20");
    send_signal(pid, libc::SIGUSR1);
    assert_eq!(server.await_exit("recorded")["exitCode"], 5);
    let lines: String = (0..)
        .map(|n| format!("line {n}\n"))
        .scan(0, |len, line| {
            *len += line.len();
            Some((*len, line))
        })
        .take_while(|(len, _)| *len <= log(&server, "recorded").len())
        .map(|(_, line)| line)
        .collect();
    assert_eq!(String::from_utf8(log(&server, "recorded")).unwrap(), lines);
}

fn what_a_deleted_record_left_is_ended_with_the_server(backend: Backend) {
    let server = kept(backend);
    let id = server.spawn(&sh("sleep 1000 & echo $!; exit 0"));
    server.await_exit(&id);
    let left: i32 = server.await_output(&id, "\n").trim().parse().unwrap();
    kill_server(&server);
    eventually("the one that is left to be told of", || {
        (server.info(&id)["descendants"] == 1).then_some(())
    });
    assert_eq!(server.delete(&format!("/v1/processes/{id}")).status, 204);
    assert!(procfs::alive(left));
    kill_server(&server);
    assert_eq!(list(&server)["processes"], json!([]));
    server.signal(libc::SIGTERM);
    eventually("the end of all", || (!procfs::alive(left)).then_some(()));
}

fn a_deadline_holds_over_a_kill(backend: Backend) {
    let server = kept(backend);
    let mut body = sh("exec sleep 1000");
    body["deadlineMs"] = json!(1500);
    let id = server.spawn(&body);
    kill_server(&server);
    let info = server.await_exit(&id);
    assert_eq!(
        (&info["signal"], &info["exitReason"]),
        (&json!("SIGKILL"), &json!("deadline"))
    );
}

fn a_tree_is_killed_by_the_next_server(backend: Backend) {
    let server = kept(backend);
    let id = server.spawn(&sh(
        "setsid sh -c 'sleep 1000 & sleep 1000' & (sleep 1000 & exec sleep 1000) & echo ready; wait",
    ));
    server.await_output(&id, "ready");
    kill_server(&server);
    assert_eq!(server.kill(&id)["signal"], "SIGKILL");
    eventually("nobody to be left", || {
        server.survivors().is_empty().then_some(())
    });
}

fn ids_names_and_settings_go_on(backend: Backend) {
    let server = kept(backend);
    server.configure(&[("maxConcurrentProcesses", 3)]);
    let mut body = sh("exec sleep 1000");
    body["name"] = json!("one");
    assert_eq!(server.spawn(&body), "proc_1");
    let gone = server.spawn(&sh("exit 0"));
    server.await_exit(&gone);
    assert_eq!(server.delete(&format!("/v1/processes/{gone}")).status, 204);
    kill_server(&server);
    let config = server.get("/v1/processes/config").json();
    assert_eq!(config["maxConcurrentProcesses"], 3);
    assert_eq!(server.post("/v1/processes", &body).status, 409, "the name");
    let more: Vec<String> = (0..2)
        .map(|_| server.spawn(&sh("exec sleep 1000")))
        .collect();
    assert!(
        more.iter().all(|id| id != "proc_1" && *id != gone),
        "{more:?}"
    );
    let refused = server.post("/v1/processes", &sh("exit 0"));
    assert_eq!(refused.status, 409, "the limit: {}", refused.text());
}

fn a_follower_resumes_by_the_last_id(backend: Backend) {
    let server = kept(backend);
    let id = server.spawn(&counter(0));
    let mut follow = Follow::process(&server, &id);
    let mut items = follow.take(5);
    drop(follow);
    for _ in 0..2 {
        kill_server(&server);
        let last = *sequences(&items).last().unwrap();
        let path = format!("/v1/processes/{id}/logs?follow=true");
        let header = last.to_string();
        let mut follow = Follow::open(&server, &path, &[("Last-Event-ID", &header)]);
        items.extend(follow.take(5));
    }
    let expected: Vec<u64> = (1..=15).collect();
    assert_eq!(sequences(&items), expected);
    let text = bytes_of(&items, "stdout");
    assert!(log(&server, &id).starts_with(&text));
    assert!(text.starts_with(b"line 0\nline 1\n"));
}

fn nothing_of_the_server_that_died_stays_open(backend: Backend) {
    let server = kept(backend);
    let id = server.spawn(&counter(0));
    let descriptors = || {
        std::fs::read_dir(format!("/proc/{}/fd", server.pid))
            .unwrap()
            .count()
    };
    kill_server(&server);
    server.await_output(&id, "line");
    eventually("no connections", || {
        (server.connections() == 0).then_some(())
    });
    let before = descriptors();
    for _ in 0..3 {
        let idle: Vec<_> = (0..20).map(|_| server.conn()).collect();
        let _asked: Vec<_> = (0..5).map(|_| Follow::process(&server, &id)).collect();
        kill_server(&server);
        server.await_output(&id, "line");
        drop(idle);
    }
    eventually("as many descriptors as before", || {
        (descriptors() <= before + 2).then_some(())
    });
}

/// Numbered lines in bursts, then an end that the number of the writer tells.
const WRITER: &str = r#"
n=$1; i=0; end=$((200 + n * 61 % 700))
while [ $i -lt $end ]; do
  b=$((1 + (i * 7919 + n) % 40)); j=0; text=
  while [ $j -lt $b ] && [ $i -lt $end ]; do text="$text$n $i
"; i=$((i+1)); j=$((j+1)); done
  printf %s "$text"
  [ $((i % 5)) = 0 ] && sleep 0.01
done
[ $((n % 5)) = 3 ] && kill -9 $$
exit $((n % 200))
"#;

fn at_random_moments_under_load_nothing_is_lost(backend: Backend) {
    let _alone = one_heavy_test_at_a_time();
    let server = kept(backend);
    let seconds = std::env::var("PROCRING_KEEP_SECONDS");
    let seconds = seconds.map_or(8, |text| text.parse().expect("PROCRING_KEEP_SECONDS"));
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = move |end: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % end
    };
    let (mut writers, mut kills, mut quick) = (Vec::new(), 0, 0);
    let mut compared = 0;
    while Instant::now() < until || kills < 5 {
        let running = list(&server)["processes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|process| process["status"] == "running")
            .count();
        for _ in running..8 {
            let number = writers.len();
            let tty = number % 4 == 1;
            let script = if tty {
                format!("stty raw; {WRITER}")
            } else {
                WRITER.to_owned()
            };
            let args = json!(["-c", script, "writer", number.to_string()]);
            let body = json!({"command": "sh", "args": args, "tty": tty});
            writers.push(server.spawn(&body));
        }
        // Records of what has ended are not kept for ever.
        while compared + 500 < writers.len() {
            assert_written(&server, compared, &writers[compared], kills);
            compared += 1;
        }
        std::thread::sleep(Duration::from_millis(5 + below(120)));
        // Five deaths in a row within 2 s of their starts are the end.
        quick += 1;
        if quick == 5 {
            std::thread::sleep(Duration::from_millis(2100));
            quick = 1;
        }
        kill_server(&server);
        kills += 1;
    }
    for (number, id) in writers.iter().enumerate().skip(compared) {
        assert_written(&server, number, id, kills);
    }
    eprintln!("{kills} kills, {} writers", writers.len());
}

/// A [`WRITER`] has ended as it should, and its log is what it has written.
#[track_caller]
fn assert_written(server: &Server, number: usize, id: &str, kills: usize) {
    let info = server.await_exit(id);
    match number % 5 {
        3 => assert_eq!(info["signal"], "SIGKILL", "{info}"),
        _ => assert_eq!(info["exitCode"], number % 200, "{info}"),
    }
    let end = 200 + number * 61 % 700;
    let expected: String = (0..end).map(|line| format!("{number} {line}\n")).collect();
    let text = String::from_utf8(log(server, id)).unwrap();
    assert_eq!(text, expected, "writer {number} after {kills} kills");
}

fn a_server_that_always_dies_ends_everything(backend: Backend) {
    let mut server = kept(backend);
    server.spawn(&counter(0));
    let mut last = 0;
    for _ in 0..5 {
        last = eventually("a server", || server.kept().filter(|pid| *pid != last));
        send_signal(last, libc::SIGKILL);
    }
    assert_eq!(server.await_end(WAIT).code(), Some(70));
    assert_eq!(server.survivors(), [0; 0]);
    let stderr = server.stderr();
    assert!(stderr.contains("5 times within 2 s"), "{stderr}");
}

fn the_end_of_the_keeper_is_the_end_of_all(backend: Backend) {
    let mut server = kept(backend);
    let id = server.spawn(&sh(
        "trap '' TERM; setsid sleep 1000 & echo ready; wait; sleep 1000",
    ));
    server.await_output(&id, "ready");
    send_signal(server.pid, libc::SIGKILL);
    server.await_end(WAIT);
    eventually("nobody to be left", || {
        server.survivors().is_empty().then_some(())
    });
}

fn an_end_in_order_is_one(backend: Backend) {
    for kills in [0, 2] {
        let mut server = kept(backend);
        let id = server.spawn(&counter(0));
        server.await_output(&id, "line");
        for _ in 0..kills {
            kill_server(&server);
        }
        server.signal(libc::SIGTERM);
        assert_eq!(server.await_end(WAIT).code(), Some(0));
        assert_eq!(server.survivors(), [0; 0]);
    }
}

#[test]
fn what_a_keeper_cannot_do_is_refused_at_start() {
    let dir = std::env::temp_dir().join(format!("procring-keep-{}", std::process::id()));
    let args = ["server", "--port", "0", "--keep", "--state-dir"];
    let (code, _, stderr) = run_binary(&[&args[..], &[dir.to_str().unwrap()]].concat(), None);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(
        stderr.contains("--keep and --state-dir exclude each other"),
        "{stderr}"
    );
    assert!(!dir.exists());
}

/// Without it a next server would not find who runs, or the keeper hear of nobody's end.
#[test]
fn a_keeper_that_is_denied_a_call_is_refused_at_start() {
    for (call, errno) in [
        ("pidfd_open", "ENOSYS"),
        ("waitid", "EPERM"),
        ("rt_sigtimedwait", "EPERM"),
        ("prctl", "EPERM"),
        ("clone", "EAGAIN"),
    ] {
        let output = std::process::Command::new("timeout")
            .args(["30", "strace", "-qq", "-o", "/dev/null", "-e"])
            .arg(format!("inject={call}:error={errno}"))
            .arg(env!("CARGO_BIN_EXE_procring"))
            .args(["server", "--no-token", "--port", "0", "--keep"])
            .output()
            .expect("timeout");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{call}: {stderr}");
        let name = call.trim_start_matches("rt_");
        assert!(stderr.contains("--keep: it needs"), "{call}: {stderr}");
        assert!(stderr.contains(&format!("{name}(2)")), "{call}: {stderr}");
    }
}

/// Kills a thread's process at the call with this number, counted from now (strace(1)); detached
/// when dropped.
struct KilledAt(std::process::Child);

impl KilledAt {
    fn attach(thread: i32, call: usize) -> Self {
        let child = std::process::Command::new("strace")
            .args(["-qq", "-o", "/dev/null"])
            .args(["-e", &format!("inject=all:signal=KILL:when={call}")])
            .args(["-p", &thread.to_string()])
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("strace");
        eventually("strace on a thread", || {
            let status = std::fs::read_to_string(format!("/proc/{thread}/status"));
            // Killed in its first call, it is gone.
            status
                .map_or(true, |text| !text.contains("TracerPid:\t0\n"))
                .then_some(())
        });
        Self(child)
    }
}

impl Drop for KilledAt {
    fn drop(&mut self) {
        send_signal(self.0.id() as i32, libc::SIGINT);
        let _ = self.0.wait();
    }
}

/// One request, as often as it takes to be answered.
fn ask(server: &Server, method: &str, target: &str, body: &Value) -> (u16, Vec<u8>) {
    eventually(&format!("an answer to {method} {target}"), || {
        let mut conn = server.conn();
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        conn.send_some(format!(
            "{method} {target} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ));
        let response = conn.try_response(method, Duration::from_secs(10))?;
        Some((response.status, response.body))
    })
}

/// The server is killed at one system call after the other of a short history, in each of its
/// threads; all of them with `PROCRING_KEEP_CALLS=1`, else one in so many.
fn killed_at_any_call_nothing_is_lost(backend: Backend) {
    let _alone = one_heavy_test_at_a_time();
    let every = std::env::var("PROCRING_KEEP_CALLS").map_or(11, |text| text.parse().unwrap());
    let server = kept(backend);
    let script = "echo out; echo err >&2; sleep 0.05; echo end; exit $0";
    let history = |number: usize| {
        let name = format!("w{number}");
        let args = json!(["-c", script, (number % 200).to_string()]);
        let body = json!({"command": "sh", "args": args, "name": name});
        let created = || ask(&server, "POST", "/v1/processes", &body).0;
        // 409: it was created, and the answer was lost.
        eventually("a process", || matches!(created(), 200 | 409).then_some(()));
        let target = format!("/v1/processes/{name}");
        let info = eventually("its end", || {
            let (status, body) = ask(&server, "GET", &target, &Value::Null);
            let info: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(status, 200, "{info}");
            (info["status"] == "exited").then_some(info)
        });
        assert_eq!(info["exitCode"], number % 200, "{info}");
        for (stream, text) in [("stdout", "out\nend\n"), ("stderr", "err\n")] {
            let target = format!("{target}/logs/raw?stream={stream}");
            let (_, read) = ask(&server, "GET", &target, &Value::Null);
            assert_eq!(String::from_utf8_lossy(&read), text, "{stream} of {name}");
        }
    };
    history(0);
    let (mut number, mut call, mut kills) = (0, 1, 0);
    loop {
        let mut killed = 0;
        for thread in 0..4 {
            number += 1;
            if thread == 3 {
                // The thread that starts programs is there from the first one on.
                ask(
                    &server,
                    "POST",
                    "/v1/processes/run",
                    &json!({"command": "true"}),
                );
            }
            // Five deaths in a row within 2 s of their starts are the end.
            if kills % 4 == 3 {
                std::thread::sleep(Duration::from_millis(2100));
            }
            let before = server.kept().expect("a server");
            let mut threads: Vec<i32> = std::fs::read_dir(format!("/proc/{before}/task"))
                .unwrap()
                .filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok())
                .collect();
            threads.sort_unstable();
            let Some(thread) = threads.get(thread) else {
                continue;
            };
            let at = KilledAt::attach(*thread, call);
            history(number);
            drop(at);
            if server.kept() != Some(before) {
                killed += 1;
                kills += 1;
            }
        }
        call += every;
        if killed == 0 || (every > 1 && kills >= 24) {
            break;
        }
    }
    assert!(kills >= 3, "{kills}");
}
