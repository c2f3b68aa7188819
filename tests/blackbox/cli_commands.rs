//! The command line's own promises: what its commands print, how they exit, what they do after a cut.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;

use crate::harness::cli::{Said, begun, command, fed, procring};
use crate::harness::proxy::Proxy;
use crate::harness::{Backend, Launch, Server, eventually, on_both, sh};

on_both!(
    a_run_exits_as_its_command_and_its_streams_are_its_own,
    a_run_whose_reader_goes_ends_its_command,
    processes_are_started_listed_stopped_and_removed,
    logs_follow_over_a_cut_without_loss_or_repetition,
    a_wait_tells_the_code_and_a_text_and_a_port,
    a_log_that_has_lost_its_beginning_says_so_unless_an_end_is_asked_for,
    a_moment_that_logs_print_is_one_that_they_begin_at,
);

fn a_run_exits_as_its_command_and_its_streams_are_its_own(backend: Backend) {
    let server = Server::open(backend);
    let said = procring(
        &server,
        &["run", "--", "sh", "-c", "echo out; echo err >&2; exit 7"],
    );
    let expected = Said {
        code: Some(7),
        out: "out\n".into(),
        err: "err\n".into(),
    };
    assert_eq!(said, expected);
    let code = |args: &[&str]| procring(&server, args).code;
    assert_eq!(code(&["run", "sh", "-c", "kill -TERM $$"]), Some(128 + 15));
    assert_eq!(
        code(&["run", "--timeout", "200ms", "sleep", "600"]),
        Some(124)
    );
    assert_eq!(code(&["run", "no-such-program"]), Some(127));
    for (args, told) in [
        (&["no-such-program"][..], "no program no-such-program"),
        (&["-w", "/no-such", "true"], "directory /no-such"),
    ] {
        for command in ["run", "start"] {
            let said = procring(&server, &[&[command], args].concat());
            assert!(said.err.contains(told), "{said:?}");
        }
    }
    let denied = procring(&server, &["run", "/dev/null"]);
    assert_eq!(denied.code, Some(126));
    assert!(denied.err.contains("/dev/null cannot be"), "{denied:?}");
    assert_eq!(code(&["run", "--tiemout", "1", "true"]), Some(2));
    let said = procring(
        &server,
        &["run", "-e", "A=b c", "-w", "/", "sh", "-c", "echo $A $PWD"],
    );
    assert_eq!(said.good(), "b c /\n");
    // Nothing of them is left.
    assert_eq!(procring(&server, &["ps", "-a", "-q"]).good(), "");
}

fn a_log_that_has_lost_its_beginning_says_so_unless_an_end_is_asked_for(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 70_000)]);
    let id = server.spawn(&sh("yes 1234567 | head -n 40000"));
    server.await_exit(&id);
    let dropped = server.get(&format!("/v1/processes/{id}/logs")).json()["droppedBytes"].clone();
    let lost = format!("{dropped} bytes are lost");
    for (args, is_told) in [
        (&["logs"][..], true),
        (&["logs", "-f"], true),
        (&["logs", "--tail", "all"], true),
        (&["logs", "--tail", "3"], false),
        (&["logs", "--since", "1h"], false),
    ] {
        let said = procring(&server, &[args, &[&*id]].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.out.ends_with("1234567\n"));
        assert_eq!(said.err.contains(&lost), is_told, "{args:?}: {}", said.err);
    }
}

fn a_moment_that_logs_print_is_one_that_they_begin_at(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("while read x; do echo $x; done"));
    for word in ["one", "two"] {
        server.feed(&id, &format!("{word}\n"));
        server.await_output(&id, word);
        let now = server.get(&format!("/v1/processes/{id}/logs")).json()["entries"].clone();
        let last = now.as_array().and_then(|all| all.last()).expect("an entry");
        let at = last["timestampMs"].as_u64().expect("a time");
        // The next one comes in another millisecond.
        eventually("the next millisecond", || {
            let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            (unix.expect("after 1970").as_millis() > u128::from(at)).then_some(())
        });
    }
    let said = procring(&server, &["logs", "-t", &id]).good();
    let second = said.lines().nth(1).expect("two lines");
    let (moment, word) = second.split_once(' ').expect("a time");
    assert_eq!(word, "two");
    let said = procring(&server, &["logs", "--since", moment, &id]).good();
    assert_eq!(said, "two\n");
}

fn a_run_whose_reader_goes_ends_its_command(backend: Backend) {
    let server = Server::open(backend);
    let mut run = begun(&mut command(&server, &["run", "--", "yes"]));
    let mut out = BufReader::new(run.0.stdout.take().expect("a pipe"));
    out.read_line(&mut String::new()).expect("a line");
    drop(out);
    assert_eq!(run.wait_with_output().status.code(), Some(128 + 13));
    eventually("no survivor", || {
        server.survivors().is_empty().then_some(())
    });
}

fn processes_are_started_listed_stopped_and_removed(backend: Backend) {
    let server = Server::open(backend);
    let args = [
        "start", "--name", "web", "-l", "app=shop", "--", "sleep", "600",
    ];
    assert_eq!(procring(&server, &args).good(), "proc_1\n");
    procring(&server, &["start", "sh", "-c", "exit 3"]).good();
    server.await_exit("proc_2");
    assert_eq!(procring(&server, &["ps", "-q"]).good(), "proc_1\n");
    let all = procring(&server, &["ps", "-a"]).good();
    let rows: Vec<Vec<&str>> = all.lines().map(|row| row.split('\t').collect()).collect();
    assert_eq!(rows[0], ["ID", "NAME", "STATUS", "PID", "AGE", "COMMAND"]);
    assert_eq!(
        (&rows[1][..3], rows[1][5]),
        (&["proc_1", "web", "running"][..], "sleep 600")
    );
    assert_eq!(
        (&rows[2][..4], rows[2][5]),
        (&["proc_2", "-", "exited(3)", "-"][..], "sh -c 'exit 3'")
    );
    assert_eq!(
        procring(&server, &["ps", "-q", "-l", "app=shop"]).good(),
        "proc_1\n"
    );
    assert_eq!(procring(&server, &["ps", "-q", "-l", "app=no"]).good(), "");
    let record = procring(&server, &["inspect", "web"]).good();
    let mut record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    let usage = record
        .as_object_mut()
        .and_then(|record| record.remove("usage"));
    assert_eq!(usage.expect("what it uses")["processes"], 1);
    assert_eq!(record, server.info("proc_1"));
    // One that is missing is said, and the others are stopped all the same.
    let said = procring(&server, &["stop", "nope", "web"]);
    assert_eq!((said.code, &*said.out), (Some(1), "web\n"));
    assert!(said.err.contains("nope"), "{said:?}");
    assert_eq!(
        procring(&server, &["rm", "web", "proc_2"]).good(),
        "web\nproc_2\n"
    );
    procring(&server, &["start", "--name", "web", "sleep", "600"]).good();
    let said = procring(&server, &["rm", "web"]);
    assert_eq!(said.code, Some(1), "it runs: {said:?}");
    assert!(said.err.contains("`procring rm -f web`"), "{said:?}");
    procring(&server, &["rm", "-f", "web"]).good();
    assert!(server.survivors().is_empty());
}

fn logs_follow_over_a_cut_without_loss_or_repetition(backend: Backend) {
    let server = Server::open(backend);
    let proxy = Proxy::to(&server);
    let script = "i=0; while read x; do i=$((i+1)); echo $i; done";
    let id = server.spawn(&sh(script));
    let mut follow = begun(&mut command(
        &server,
        &["--url", &proxy.url(), "logs", "-f", &id],
    ));
    let mut out = BufReader::new(follow.0.stdout.take().expect("a pipe"));
    for expected in 1..=12 {
        server.feed(&id, "\n");
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        assert_eq!(line, format!("{expected}\n"));
        if expected % 4 == 0 {
            // It does not come back at once, either.
            proxy.lose_answers("/logs", expected / 4 - 1);
            proxy.cut();
        }
    }
    let mut interrupted = begun(&mut command(&server, &["logs", "-f", &id]));
    let mut lines = BufReader::new(interrupted.0.stdout.take().expect("a pipe"));
    lines.read_line(&mut String::new()).expect("a line");
    interrupted.signal(libc::SIGTERM);
    let status = interrupted.wait_with_output().status;
    assert_eq!(status.signal(), Some(libc::SIGTERM));
    server.kill(&id);
    assert_eq!(follow.wait_with_output().status.code(), Some(0));
    let said = procring(&server, &["logs", "--tail", "2", &id]);
    assert_eq!(said.good(), "11\n12\n");
    let said = procring(&server, &["logs", "--timestamps", "--tail", "1", &id]).good();
    let (moment, rest) = said.split_once(' ').expect("a time");
    assert_eq!(
        (moment.len(), rest),
        ("2026-01-01T00:00:00.000Z".len(), "12\n")
    );
}

fn a_wait_tells_the_code_and_a_text_and_a_port(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("read x; echo it is up; read x; exit 5"));
    let wait = begun(&mut command(&server, &["wait", &id, "--log", "is up"]));
    server.feed(&id, "\n");
    let said = Said::of(wait.wait_with_output());
    assert_eq!((said.code, &*said.out), (Some(0), ""), "{said:?}");
    let said = procring(
        &server,
        &["wait", &id, "--log", "never", "--timeout", "100ms"],
    );
    assert_eq!((said.code, &*said.out, &*said.err), (Some(1), "", ""));
    server.feed(&id, "\n");
    assert_eq!(procring(&server, &["wait", &id]).good(), "5\n");
    assert_eq!(
        procring(&server, &["wait", &id, "--log", "never"]).code,
        Some(1)
    );
    assert_eq!(
        procring(&server, &["wait", &id, "--port", "1"]).code,
        Some(1)
    );
}

#[test]
fn a_recording_is_played_without_a_server() {
    let server = Server::open(Backend::Epoll);
    let cast = "{\"version\":2,\"width\":80,\"height\":24}\n[0.1,\"o\",\"a\\u001b[0m\"]\n\
                [0.2,\"r\",\"90x30\"]\n[3600.2,\"o\",\"b\\r\\n\"]\n";
    let args = ["play", "--idle-max", "10ms", "-"];
    assert_eq!(
        fed(&server, &args, cast.as_bytes()).good(),
        "a\u{1b}[0mb\r\n"
    );
    let said = fed(&server, &["play", "-"], b"no cast\n");
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("asciicast"), "{said:?}");
}

#[test]
fn a_token_is_taken_from_the_environment_and_from_a_file_and_asked_for() {
    let server = Launch::new(Backend::Epoll)
        .args(&["--token", "s3cret"])
        .start();
    let said = procring(&server, &["ps"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("PROCRING_TOKEN"), "{said:?}");
    let output = command(&server, &["health"])
        .env("PROCRING_TOKEN", "s3cret")
        .output();
    Said::of(output.expect("procring")).good();
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("cli-token-{}", std::process::id()));
    std::fs::write(&file, "s3cret\n").expect("a file");
    let path = file.to_str().expect("UTF-8");
    let said = procring(&server, &["ps", "--token-file", path]);
    // As an image's HEALTHCHECK finds it.
    let output = command(&server, &["health"])
        .env("PROCRING_TOKEN_FILE", path)
        .output();
    Said::of(output.expect("procring")).good();
    let _ = std::fs::remove_file(&file);
    said.good();
}

#[test]
fn a_mistake_and_a_missing_server_are_told_in_a_sentence_with_the_way_out() {
    let server = Server::open(Backend::Epoll);
    let said = procring(&server, &["lgos", "x"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("`procring logs`"), "{said:?}");
    let said = procring(&server, &["--url", "http://127.0.0.1:1", "ps"]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.err.contains("procring server") && said.err.contains("--url"),
        "{said:?}"
    );
    assert_eq!(said.err.lines().count(), 1);
    let output = command(&server, &["ps"]).env("PROCRING_TOKN", "x").output();
    let said = Said::of(output.expect("procring"));
    assert!(said.err.contains("nearest is PROCRING_TOKEN"), "{said:?}");
    said.good();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_procring"))
        .args(["server", "--host", "0.0.0.0", "--check-config"])
        .env("PROCRING_NOTOKEN", "true")
        .output();
    let said = Said::of(output.expect("procring"));
    let told = ["nearest is PROCRING_NO_TOKEN", "0.0.0.0"].map(|of| said.err.contains(of));
    assert_eq!(told, [true, true], "{said:?}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            procring(&server, &["completion", shell])
                .good()
                .contains("detach-keys")
        );
    }
}
