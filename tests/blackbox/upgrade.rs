//! An upgrade: another program takes over, and nobody who runs, waits or connects notices.
//!
//! The program is a copy of the built one. The server that goes on is known by what it tells.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::launch::{pid_namespace, run_binary};
use crate::harness::{
    Backend, Conn, Follow, Launch, Server, WAIT, Ws, eventually, on_both, one_heavy_test_at_a_time,
    sh,
};

on_both!(
    what_runs_and_what_has_ended_is_there_after_an_upgrade,
    under_load_nothing_is_lost_and_nobody_refused,
    who_waits_is_answered_by_the_next_server,
    a_signal_from_outside_of_the_pid_namespace_is_heard,
    killed_at_any_moment_of_an_upgrade_nothing_is_lost,
    the_command_says_what_came_of_it,
    a_version_with_a_field_more_or_less_goes_on_in_both_directions,
    a_version_with_another_form_of_the_state_is_refused_with_what_to_do,
    without_a_keeper_it_is_refused_and_said,
    a_crash_after_an_upgrade_loses_nothing,
    what_was_taken_of_an_input_and_what_is_due_goes_on,
);

pub(crate) fn kept(backend: Backend) -> Server {
    Launch::new(backend).args(&["--no-token", "--keep"]).start()
}

pub(crate) fn upgrades(server: &Server) -> usize {
    server.stderr().matches("goes on where").count()
}

/// Upgrades to the same program and waits until it serves.
#[track_caller]
pub(crate) fn upgrade(server: &Server) {
    let refused = || server.stderr().matches("nothing was upgraded").count();
    let before = (upgrades(server), refused());
    server.signal(libc::SIGUSR2);
    eventually("an upgrade", || {
        assert_eq!(refused(), before.1, "{}", server.stderr());
        (upgrades(server) > before.0).then_some(())
    });
}

/// A line a time, until SIGUSR1.
pub(crate) fn counter(code: u8) -> Value {
    sh(&format!(
        "trap 'exit {code}' USR1; i=0; while :; do echo line $i; i=$((i+1)); sleep 0.01; done"
    ))
}

#[track_caller]
pub(crate) fn log(server: &Server, id: &str) -> String {
    let raw = server.get(&format!("/v1/processes/{id}/logs/raw"));
    String::from_utf8(raw.expect(200).body).unwrap()
}

fn what_runs_and_what_has_ended_is_there_after_an_upgrade(backend: Backend) {
    let server = kept(backend);
    let over = server.spawn(&sh("echo out; echo err >&2; exit 7"));
    server.await_exit(&over);
    let body = json!({"command": "cat", "args": ["-u"], "name": "cat", "labels": {"a": "b"},
        "stdin": "open"});
    let cat = server.spawn(&body);
    server.feed(&cat, "before\n");
    server.await_output(&cat, "before");
    let info = |server: &Server| server.get("/v1/server").json();
    let (records, about) = (server.get("/v1/processes").json(), info(&server));
    for _ in 0..3 {
        upgrade(&server);
    }
    assert_eq!(server.get("/v1/processes").json(), records);
    for same in ["pid", "startedAtMs", "backend", "missing", "capabilities"] {
        assert_eq!(info(&server)[same], about[same], "{same}");
    }
    server.feed("cat", "after\n");
    server.await_output(&cat, "before\nafter");
    let end = json!({"data": "", "eof": true});
    server
        .post(&format!("/v1/processes/{cat}/input"), &end)
        .expect(200);
    assert_eq!(server.await_exit(&cat)["exitCode"], 0);
}

/// Numbered lines in bursts, then an end that the number of the writer tells.
const WRITER: &str = r#"
n=$1; i=0; end=$((400 + n * 61 % 700))
while [ $i -lt $end ]; do
  b=$((1 + (i * 7919 + n) % 40)); j=0; text=
  while [ $j -lt $b ] && [ $i -lt $end ]; do text="$text$n $i
"; i=$((i+1)); j=$((j+1)); done
  printf %s "$text"
  [ $((i % 3)) = 0 ] && sleep 0.02
done
exit $((n % 200))
"#;

fn under_load_nothing_is_lost_and_nobody_refused(backend: Backend) {
    let _alone = one_heavy_test_at_a_time();
    let server = kept(backend);
    let writers: Vec<String> = (0..12)
        .map(|number| {
            let tty = number % 4 == 1;
            let script = match tty {
                true => format!("stty raw; {WRITER}"),
                false => WRITER.to_owned(),
            };
            let args = json!(["-c", script, "writer", number.to_string()]);
            server.spawn(&json!({"command": "sh", "args": args, "tty": tty}))
        })
        .collect();
    let watched = server.spawn(&counter(5));
    let shell = server.spawn(&json!({"command": "sh", "args": ["-c",
        "stty -echo; echo ready; while read line; do echo got $line; done"], "tty": true}));
    server.await_output(&shell, "ready");
    let done = AtomicBool::new(false);
    let (answered, runs) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        // Whoever connects is answered, and whoever runs something gets its end.
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(server.get("/v1/health").status, 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let result = server.run(&sh("echo run; exit 3"));
                assert_eq!(
                    (&result["stdout"], &result["exitCode"]),
                    (&json!("run\n"), &json!(3))
                );
                runs.fetch_add(1, Ordering::Relaxed);
            }
        });
        // One connection for all of them.
        scope.spawn(|| {
            let mut conn = server.conn();
            while !done.load(Ordering::Relaxed) {
                conn.send("GET /v1/health HTTP/1.1\r\nHost: h\r\n\r\n");
                assert_eq!(conn.response("GET").status, 200);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let all = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for number in 0..6 {
                let mut viewer = Ws::attach(&server, &shell, "");
                viewer.until("ready");
                let mut follow = Follow::process(&server, &watched);
                follow.take(2);
                upgrade(&server);
                let mut again = Ws::attach(&server, &shell, "");
                again.until("ready");
                again.input(&format!("{number}\n"));
                again.until(&format!("got {number}"));
            }
        }));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = all {
            std::panic::resume_unwind(panic);
        }
    });
    assert!(answered.into_inner() > 6 && runs.into_inner() > 6);
    for (number, id) in writers.iter().enumerate() {
        assert_eq!(server.await_exit(id)["exitCode"], number % 200);
        let end = 400 + number * 61 % 700;
        let expected: String = (0..end).map(|line| format!("{number} {line}\n")).collect();
        assert_eq!(log(&server, id), expected, "writer {number}");
    }
    let text = log(&server, &watched);
    let lines: String = (0..text.lines().count())
        .map(|n| format!("line {n}\n"))
        .collect();
    assert_eq!(text, lines);
}

pub(crate) fn ask(server: &Server, target: &str) -> Conn {
    let mut conn = server.conn();
    conn.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
    conn
}

fn who_waits_is_answered_by_the_next_server(backend: Backend) {
    let server = kept(backend);
    let id = server.spawn(&counter(5));
    server.await_output(&id, "line");
    let mut for_exit = ask(&server, &format!("/v1/processes/{id}/wait?timeoutMs=60000"));
    let mut for_time = ask(&server, &format!("/v1/processes/{id}/wait?timeoutMs=1500"));
    let asked = Instant::now();
    let mut idle = ask(&server, "/v1/health");
    assert_eq!(idle.response("GET").status, 200);
    let mut half = server.conn();
    half.send("GET /v1/heal");
    // Behind one that waits comes another one.
    for_exit.send("GET /v1/health HTTP/1.1\r\nHost: h\r\n\r\n");
    eventually("waits", || {
        let counts = &server.get("/v1/server").json()["counts"];
        (counts["connections"].as_u64() >= Some(5)).then_some(())
    });
    upgrade(&server);
    half.send("th HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(half.response("GET").status, 200);
    idle.send("GET /v1/health HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(idle.response("GET").status, 200);
    let late = for_time.response("GET").json();
    assert_eq!(late["outcome"], "timeout", "{late}");
    assert!(asked.elapsed() >= Duration::from_millis(1500));
    let pid = server.info(&id)["pid"].as_i64().unwrap() as i32;
    crate::harness::server::send_signal(pid, libc::SIGUSR1);
    let ended = for_exit.response("GET").json();
    assert_eq!(ended["process"]["exitCode"], 5, "{ended}");
    assert_eq!(for_exit.response("GET").status, 200);
}

/// Whoever is outside has the number 0 inside.
fn a_signal_from_outside_of_the_pid_namespace_is_heard(backend: Backend) {
    let Some(wrapper) = pid_namespace() else {
        return;
    };
    let server = Launch::new(backend)
        .args(&["--no-token", "--keep"])
        .through(wrapper)
        .start();
    let id = server.spawn(&counter(5));
    server.await_output(&id, "line");
    upgrade(&server);
    assert_counted(&server, &id);
}

/// A file in a folder of its own.
pub(crate) fn program(name: &str, text: &[u8]) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("procring-upgrade-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("procring");
    let (data, new) = (dir.join("data"), dir.join("new"));
    std::fs::write(&data, text).unwrap();
    // By another process: a child of another test that is not exec'd yet would hold it open for
    // writing, and what is open for writing is not exec'd (ETXTBSY).
    let copied = std::process::Command::new("cp")
        .args([&data, &new])
        .status();
    assert!(copied.unwrap().success());
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(new, &path).unwrap();
    path
}

pub(crate) fn built() -> Vec<u8> {
    std::fs::read(env!("CARGO_BIN_EXE_procring")).unwrap()
}

/// What makes another version of a debug build (`ledger::variant`).
const MARKER: &str = "procring-record-variant: 0";

/// The built program as another version; None of a release build.
pub(crate) fn version(backend: Backend, kind: &str, name: &str) -> Option<PathBuf> {
    memchr::memmem::find(&built(), MARKER.as_bytes())?;
    let to = MARKER.replace('0', kind);
    let name = format!("{name}-{backend:?}");
    Some(program(&name, &with(MARKER.as_bytes(), to.as_bytes())))
}

/// The lines of a counter, as many as there are.
#[track_caller]
pub(crate) fn assert_counted(server: &Server, id: &str) {
    let text = log(server, id);
    let count = text.lines().count();
    let lines: String = (0..count).map(|n| format!("line {n}\n")).collect();
    assert!(count > 0 && text == lines, "{text}");
}

/// Kills whoever is the server, the one before, the one after, or the one in between.
fn killed_at_any_moment_of_an_upgrade_nothing_is_lost(backend: Backend) {
    let _alone = one_heavy_test_at_a_time();
    let server = kept(backend);
    let seconds = std::env::var("PROCRING_KEEP_SECONDS");
    let seconds = seconds.map_or(8, |text| text.parse().expect("PROCRING_KEEP_SECONDS"));
    let until = Instant::now() + Duration::from_secs(seconds);
    let writers: Vec<(String, i32)> = (0..6)
        .map(|_| {
            let id = server.spawn(&counter(5));
            server.await_output(&id, "line 1");
            let pid = server.info(&id)["pid"].as_i64().unwrap() as i32;
            (id, pid)
        })
        .collect();
    let cat = server.spawn(&json!({"command": "cat", "args": ["-u"]}));
    let (mut round, mut kills) = (0, 0);
    while Instant::now() < until || kills < 3 {
        round += 1;
        let before = server.kept().expect("a server");
        server.signal(libc::SIGUSR2);
        // From before the program is asked to when another one serves.
        std::thread::sleep(Duration::from_micros(round * 7919 % 60_000));
        if let Some(serving) = server.kept() {
            crate::harness::server::send_signal(serving, libc::SIGKILL);
            kills += 1;
        }
        eventually("another server", || {
            server.kept().filter(|pid| *pid != before)
        });
        // Whoever asks is answered, by the server that is left.
        server.feed(&cat, &format!("of {round} \n"));
        server.await_output(&cat, &format!("of {round} "));
        // Five deaths in a row within 2 s of their starts are the end.
        if round % 3 == 0 {
            std::thread::sleep(Duration::from_millis(2100));
        }
    }
    for (id, pid) in &writers {
        crate::harness::server::send_signal(*pid, libc::SIGUSR1);
        assert_eq!(server.await_exit(id)["exitCode"], 5);
        assert_counted(&server, id);
    }
    let fed: String = (1..=round).map(|n| format!("of {n} \n")).collect();
    assert_eq!(log(&server, &cat), fed);
}

/// A program like the built one, with other bytes in the place of these.
pub(crate) fn with(from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut text = built();
    let found: Vec<usize> = memchr::memmem::find_iter(&text, from).collect();
    assert!(from.len() == to.len() && !found.is_empty());
    for at in found {
        text[at..at + to.len()].copy_from_slice(to);
    }
    text
}

fn the_command_says_what_came_of_it(backend: Backend) {
    let server = kept(backend);
    let url = format!("http://{}", server.address);
    let asks = |more: &[&str]| run_binary(&[&["--url", &url, "upgrade"], more].concat(), None);
    let (code, out, err) = asks(&[]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(
        out,
        format!("procring {} serves\n", env!("CARGO_PKG_VERSION"))
    );
    let (code, _, err) = asks(&["--binary", env!("CARGO_BIN_EXE_procring")]);
    assert_eq!(code, Some(0), "{err}");
    for (path, why) in [
        ("/bin/true", "it is no procring"),
        ("/nothing", "No such file"),
    ] {
        let (code, out, err) = asks(&["--binary", path]);
        assert_eq!((code, &*out), (Some(1), ""), "{err}");
        assert!(err.contains(why), "{err}");
    }
    assert_eq!(upgrades(&server), 2);
}

fn a_version_with_a_field_more_or_less_goes_on_in_both_directions(backend: Backend) {
    let version = |kind, name| version(backend, kind, name);
    let (Some(same), Some(more), Some(less)) = (
        version("0", "same"),
        version("+", "more"),
        version("-", "less"),
    ) else {
        // A release build.
        return;
    };
    let server = kept(backend);
    let made = |number: usize| {
        let mut body = sh("echo $0; read line; exit 3");
        body["name"] = json!(format!("of-{number}"));
        body["labels"] = json!({"number": number.to_string()});
        server.spawn(&body)
    };
    let mut ids = vec![made(0)];
    let mut labelled = vec![true];
    for (number, version) in [&more, &same, &more, &less, &more, &less, &same]
        .iter()
        .enumerate()
    {
        let target = format!("/v1/server/upgrade?binary={}", version.display());
        server.post_empty(&target).expect(200);
        ids.push(made(number + 1));
        labelled.push(*version != &less);
    }
    for (number, id) in ids.iter().enumerate() {
        let info = server.info(&format!("of-{number}"));
        assert_eq!(
            (&info["id"], &info["status"]),
            (&json!(id), &json!("running"))
        );
        match labelled[number] {
            true => assert_eq!(info["labels"], json!({"number": number.to_string()})),
            false => assert_eq!(info["labels"], Value::Null, "{info}"),
        }
        server.feed(id, "\n");
        assert_eq!(server.await_exit(id)["exitCode"], 3);
    }
    for program in [same, more, less] {
        let _ = std::fs::remove_dir_all(program.parent().unwrap());
    }
}

fn a_version_with_another_form_of_the_state_is_refused_with_what_to_do(backend: Backend) {
    let Some(other) = version(backend, "s", "state") else {
        return;
    };
    let server = kept(backend);
    let id = server.spawn(&counter(5));
    server.await_output(&id, "line 3");
    let serving = server.kept();
    let url = format!("http://{}", server.address);
    let binary = other.to_str().unwrap();
    let (code, _, err) = run_binary(&["--url", &url, "upgrade", "--binary", binary], None);
    assert_eq!(code, Some(1), "{err}");
    for part in ["in form 1 (procring", "knows form 2 only", "start it anew"] {
        assert!(err.contains(part), "{part}: {err}");
    }
    assert_eq!(server.kept(), serving);
    let pid = server.info(&id)["pid"].as_i64().unwrap() as i32;
    crate::harness::server::send_signal(pid, libc::SIGUSR1);
    assert_eq!(server.await_exit(&id)["exitCode"], 5);
    assert_counted(&server, &id);
    let _ = std::fs::remove_dir_all(other.parent().unwrap());
}

fn without_a_keeper_it_is_refused_and_said(backend: Backend) {
    let server = Server::open(backend);
    if server.kept().is_some() {
        return;
    }
    server.signal(libc::SIGUSR2);
    eventually("a refusal", || {
        server
            .stderr()
            .contains("start it with --keep")
            .then_some(())
    });
    server.get("/v1/health").expect(200);
}

fn what_was_taken_of_an_input_and_what_is_due_goes_on(backend: Backend) {
    let server = kept(backend);
    let cat = server.spawn(&json!({"command": "cat"}));
    let deaf = server.spawn(&sh("trap '' TERM; echo ready; while :; do sleep 1; done"));
    let fed = |data: &str, offset: u64| {
        let body = json!({"data": data, "encoding": "utf8", "offset": offset});
        server.post(&format!("/v1/processes/{cat}/input"), &body)
    };
    fed("abc", 0).expect(200);
    server.await_output(&deaf, "ready");
    server
        .post_empty(&format!("/v1/processes/{deaf}/stop?graceMs=1500&waitMs=0"))
        .expect(200);
    upgrade(&server);
    upgrade(&server);
    // What was taken is skipped.
    fed("bcd", 1).expect(200);
    server.await_output(&cat, "abcd");
    assert_eq!(server.await_exit(&deaf)["signal"], "SIGKILL");
}

fn a_crash_after_an_upgrade_loses_nothing(backend: Backend) {
    let mut server = kept(backend);
    let id = server.spawn(&counter(5));
    server.await_output(&id, "line 3");
    upgrade(&server);
    let before = server.kept().unwrap();
    crate::harness::server::send_signal(before, libc::SIGKILL);
    eventually("another server", || {
        server.kept().filter(|pid| *pid != before)
    });
    upgrade(&server);
    let pid = server.info(&id)["pid"].as_i64().unwrap() as i32;
    crate::harness::server::send_signal(pid, libc::SIGUSR1);
    assert_eq!(server.await_exit(&id)["exitCode"], 5);
    let text = log(&server, &id);
    let lines: String = (0..text.lines().count())
        .map(|n| format!("line {n}\n"))
        .collect();
    assert_eq!(text, lines);
    server.signal(libc::SIGTERM);
    assert_eq!(server.await_end(WAIT).code(), Some(0));
    assert_eq!(server.survivors(), [0; 0]);
}
