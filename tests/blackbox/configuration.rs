//! The configuration file, and SIGHUP: what is taken from where, what can change while a server runs,
//! and that it is all or nothing.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::launch::run_binary;
use crate::harness::server::send_signal;
use crate::harness::{Backend, Folder, Launch, Server, eventually, on_both, sh};

on_both!(
    a_file_is_under_variables_and_those_are_under_flags,
    a_hangup_takes_what_the_file_says,
    a_broken_file_changes_nothing_and_says_so,
    what_needs_a_restart_changes_nothing_and_is_named,
    a_token_is_changed_while_the_server_runs,
    limits_of_the_file_hold_for_the_next_server_of_a_keeper,
    what_a_server_would_refuse_is_not_called_valid,
);

/// A server in a session of its own: with a terminal SIGHUP would end it.
pub(crate) fn launch(backend: Backend, file: &str) -> Launch {
    Launch::new(backend)
        .args(&["--config", file])
        .through(&["setsid", "--wait"])
}

/// What it has said that came of hangups.
fn answers(server: &Server) -> Vec<String> {
    let said = server.stderr();
    let is_answer =
        |line: &&str| line.contains("was read again") || line.contains("nothing was reloaded");
    said.lines().filter(is_answer).map(str::to_owned).collect()
}

/// Hangs up, and waits until the server has said what came of it.
#[track_caller]
pub(crate) fn hang_up(server: &Server) -> String {
    let before = answers(server).len();
    server.signal(libc::SIGHUP);
    eventually("a line about it", || {
        answers(server).into_iter().nth(before)
    })
}

fn limits(server: &Server) -> Value {
    server.get("/v1/processes/config").expect(200).json()
}

fn a_file_is_under_variables_and_those_are_under_flags(backend: Backend) {
    let folder = Folder::new("configuration-under", backend);
    let text = "no_token = true\nmax_output_bytes = \"1K\"\nmax_run_timeout_ms = \"1m\"\n\
                max_concurrent_processes = 3\nmax_exited = 5\n";
    let file = folder.write("c.toml", text);
    let server = launch(backend, &file)
        .args(&["--max-concurrent-processes", "7"])
        .env("PROCRING_MAX_CONCURRENT_PROCESSES", "6")
        .env("PROCRING_MAX_RUN_TIMEOUT_MS", "90s")
        .start();
    let limits = limits(&server);
    assert_eq!(limits["maxConcurrentProcesses"], 7, "{limits}");
    assert_eq!(limits["maxRunTimeoutMs"], 90_000, "{limits}");
    assert_eq!(limits["maxOutputBytes"], 1024, "{limits}");
    assert_eq!(limits["maxInputBytesPerRequest"], 65_536, "{limits}");
    let shown = server.get("/v1/server").expect(200).json();
    assert_eq!(shown["limits"]["maxExited"], 5);
    // A child gets none of it.
    let run = server.run(&sh("env | grep -c ^PROCRING_MAX"));
    assert_eq!(run["stdout"], "0\n", "{run}");
}

fn a_hangup_takes_what_the_file_says(backend: Backend) {
    let folder = Folder::new("configuration-hangup", backend);
    let write = |text: &str| folder.write("c.toml", &format!("no_token = true\n{text}"));
    let file = write("max_output_bytes = 100\nmax_exited = 5\n");
    let server = launch(backend, &file).start();
    server.configure(&[("maxOutputBytes", 7), ("maxInputBytesPerRequest", 9)]);
    // A client's word counts until here, and longer where the file says nothing.
    let line = hang_up(&server);
    assert!(line.contains("max_output_bytes from 7 to 100"), "{line}");
    let now = limits(&server);
    assert_eq!(
        (&now["maxOutputBytes"], &now["maxInputBytesPerRequest"]),
        (&json!(100), &json!(9))
    );
    write("max_exited = 6\nmax_connections = 9\nlog_level = \"debug\"\n");
    let line = hang_up(&server);
    for text in [
        "max_exited from 5 to 6",
        "max_connections from 8192 to 9",
        "log_level from info to debug",
        // What the file no longer says is the default again.
        "max_output_bytes from 100 to 1048576",
    ] {
        assert!(line.contains(text), "{line}");
    }
    let shown = server.get("/v1/server").expect(200).json();
    assert_eq!(shown["limits"]["maxExited"], 6);
    assert_eq!(shown["limits"]["maxConnections"], 9);
    server.run(&json!({"command": "echo", "args": ["shown-now"]}));
    assert!(server.told_so_far().contains("shown-now"));
    let line = hang_up(&server);
    assert!(line.ends_with("nothing has changed"), "{line}");
}

fn a_broken_file_changes_nothing_and_says_so(backend: Backend) {
    let folder = Folder::new("configuration-broken", backend);
    let file = folder.write("c.toml", "no_token = true\nmax_exited = 5\n");
    let server = launch(backend, &file).start();
    server.configure(&[("maxOutputBytes", 7)]);
    for (text, told) in [
        (
            "max_output_bytes = 3\nmax_exitd = 6\n",
            "c.toml:2:1: unknown key \"max_exitd\"; the nearest known one is max_exited",
        ),
        (
            "max_output_bytes = 3\nmax_exited = 0\n",
            "c.toml:2:14: max_exited \"0\": must be a number greater than 0",
        ),
        ("max_output_bytes = 3\nmax_exited = \n", "c.toml:2:"),
        // Read in full, and not possible.
        (
            "max_output_bytes = 3\nunix_token = true\nno_token = true\n",
            "there is no token",
        ),
    ] {
        folder.write("c.toml", text);
        let line = hang_up(&server);
        assert!(line.contains("error: nothing was reloaded: "), "{line}");
        assert!(line.contains(told), "{line}");
        assert_eq!(limits(&server)["maxOutputBytes"], 7);
        assert_eq!(server.get("/v1/server").json()["limits"]["maxExited"], 5);
    }
    std::fs::remove_file(&file).unwrap();
    assert!(hang_up(&server).contains("nothing was reloaded"));
    assert_eq!(server.run(&sh("exit 3"))["exitCode"], 3);
    // At the start the same file is shown with its line.
    let broken = folder.write("c.toml", "no_token = true\nmax_exitd = 6\n");
    let (code, _, said) = run_binary(&["server", "--config", &broken], None);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("c.toml:2:1: unknown key \"max_exitd\""),
        "{said}"
    );
    assert!(said.contains("\n2 | max_exitd\n  | ^^^^^^^^^"), "{said}");
    for (args, expected) in [
        (["--check-config", "--no-token"], Some(2)),
        (["--print-config", "--no-token"], Some(2)),
    ] {
        let args = [&["server", "--config", &broken], &args[..]].concat();
        assert_eq!(run_binary(&args, None).0, expected);
    }
    let good = folder.write("c.toml", "token = \"s3cret\"\nmax_exited = 6\n");
    let (code, said, _) = run_binary(&["server", "--config", &good, "--check-config"], None);
    assert_eq!((code, &*said), (Some(0), "the configuration is valid\n"));
    // What only a server's own cgroup can tell is not said to be fine.
    let limits = ["--default-limits", "memoryBytes=64M"];
    let args = [
        &["server", "--config", &good, "--check-config"],
        &limits[..],
    ]
    .concat();
    let (code, said, _) = run_binary(&args, None);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("is told when it starts"), "{said}");
    let (code, said, _) = run_binary(&["server", "--config", &good, "--print-config"], None);
    assert_eq!(code, Some(0));
    assert!(
        said.contains("\nmax_exited = 6 # file\n") && !said.contains("s3cret"),
        "{said}"
    );
}

fn what_needs_a_restart_changes_nothing_and_is_named(backend: Backend) {
    let folder = Folder::new("configuration-restart", backend);
    let file = folder.write("c.toml", "no_token = true\nmax_exited = 5\n");
    let server = launch(backend, &file).start();
    folder.write(
        "c.toml",
        "no_token = true\nmax_exited = 6\ncgroup = \"off\"\n",
    );
    let line = hang_up(&server);
    assert!(
        line.contains("a restart is needed for cgroup from auto to off"),
        "{line}"
    );
    assert_eq!(server.get("/v1/server").json()["limits"]["maxExited"], 5);
}

fn a_token_is_changed_while_the_server_runs(backend: Backend) {
    let folder = Folder::new("configuration-token", backend);
    let secret = folder.write("token", "first\n");
    let file = folder.write("c.toml", &format!("token_file = {secret:?}\n"));
    let mut server = launch(backend, &file).start();
    let ask = |server: &Server, token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        server.request("GET", "/v1/processes", &headers, b"").status
    };
    assert_eq!((ask(&server, "first"), ask(&server, "second")), (200, 401));
    folder.write("token", "second\n");
    let line = hang_up(&server);
    assert!(
        line.contains("the token") && !line.contains("second"),
        "{line}"
    );
    assert_eq!((ask(&server, "first"), ask(&server, "second")), (401, 200));
    // A secret that went missing never means an open server.
    folder.write("token", "\n");
    assert!(hang_up(&server).contains("nothing was reloaded"));
    assert_eq!((ask(&server, ""), ask(&server, "second")), (401, 200));
    folder.write("c.toml", "# token_file is gone\n");
    assert!(hang_up(&server).contains("nothing was reloaded: there was a token"));
    assert_eq!((ask(&server, ""), ask(&server, "second")), (401, 200));
    server.signal(libc::SIGTERM);
    assert_eq!(server.await_end(Duration::from_secs(20)).code(), Some(0));
}

fn limits_of_the_file_hold_for_the_next_server_of_a_keeper(backend: Backend) {
    let folder = Folder::new("configuration-kept", backend);
    let write = |megabytes: u32| {
        let text = format!(
            "no_token = true\nmax_output_bytes = 100\nmax_log_bytes_per_process = \"{megabytes}M\"\n"
        );
        folder.write("c.toml", &text)
    };
    let file = write(20);
    let server = launch(backend, &file).args(&["--keep"]).start();
    // More than the usual limit of a log.
    let id = server.spawn(&sh("head -c 12000000 /dev/zero; exec sleep 77"));
    let raw = format!("/v1/processes/{id}/logs/raw");
    let kept = || {
        let answer = server.request("HEAD", &raw, &[], b"");
        let of = |name: &str| answer.header(name).map(str::to_owned);
        (of("procring-first-offset"), of("procring-end-offset"))
    };
    let all = (Some("0".to_owned()), Some("12000000".to_owned()));
    eventually("its output", || (kept() == all).then_some(()));
    let kill = || {
        let before = server.kept().expect("a server");
        send_signal(before, libc::SIGKILL);
        eventually("another server", || {
            server.kept().filter(|pid| *pid != before)
        });
    };
    let before = limits(&server);
    kill();
    assert_eq!((kept(), limits(&server)), (all.clone(), before));
    write(30);
    hang_up(&server);
    server.configure(&[("maxOutputBytes", 7)]);
    let before = limits(&server);
    assert_eq!(before["maxLogBytesPerProcess"], 30 << 20);
    kill();
    assert_eq!((kept(), limits(&server)), (all, before));
}

fn what_a_server_would_refuse_is_not_called_valid(_: Backend) {
    let state = env!("CARGO_TARGET_TMPDIR");
    for args in [
        &["--keep", "--state-dir", state][..],
        &["--unix-allow-uid", "nobody-has-this-name"],
    ] {
        let args = [&["server", "--check-config"], args].concat();
        let (code, said, why) = run_binary(&args, None);
        assert_ne!(code, Some(0), "{args:?}: {said}");
        assert!(!why.is_empty() && said.is_empty(), "{said}{why}");
    }
}
