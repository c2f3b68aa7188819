//! Section 7 and 14.33: one-shot runs. What becomes of their trees is in `supervision`.

use std::time::{Duration, Instant};

use crate::harness::json::keys;
use crate::harness::{Backend, Launch, Server, on_both, sh};
use serde_json::json;

on_both!(
    every_key_is_there_in_order,
    exit_codes_are_told,
    death_by_signal_gives_null_and_the_signal,
    the_command_is_not_a_shell_line,
    lookup_uses_path_and_the_requests_path,
    cwd_is_taken_and_resolves_relative_commands,
    a_timeout_keeps_the_output_so_far,
    timeouts_are_defaulted_and_capped,
    output_keeps_the_first_bytes,
    output_limits_are_exact,
    output_over_the_limit_never_blocks_the_child,
    the_configured_cap_lowers_the_requests,
    a_cut_character_is_left_out,
    invalid_utf8_becomes_replacement_characters,
    the_longest_output_escapes_right,
    many_and_long_arguments_pass,
    stdin_is_dev_null,
    runs_leave_no_record_and_are_not_limited,
    parallel_runs_do_not_wait_for_each_other,
    many_short_runs_at_once_keep_their_own_exit_codes,
);

fn every_key_is_there_in_order(backend: Backend) {
    let server = Server::open(backend);
    let answer = server.post("/v1/processes/run", &sh("echo out; echo err >&2"));
    let body = answer.json();
    let expected = format!(
        r#"{{"exitCode":0,"timedOut":false,"stdout":"out\n","stderr":"err\n","stdoutTruncated":false,"stderrTruncated":false,"durationMs":{}}}"#,
        body["durationMs"].as_u64().expect("a whole number")
    );
    assert_eq!(answer.text(), expected);
}

fn exit_codes_are_told(backend: Backend) {
    let server = Server::open(backend);
    for code in [0, 1, 7, 127, 255] {
        let run = server.run(&sh(&format!("exit {code}")));
        assert_eq!(
            (&run["exitCode"], &run["timedOut"]),
            (&json!(code), &json!(false))
        );
    }
}

fn death_by_signal_gives_null_and_the_signal(backend: Backend) {
    let server = Server::open(backend);
    for name in ["SIGKILL", "SIGTERM", "SIGSEGV", "SIGHUP", "SIGUSR2"] {
        let answer = server.post(
            "/v1/processes/run",
            &sh(&format!("kill -{} $$", &name[3..])),
        );
        let run = answer.json();
        assert_eq!(
            (&run["exitCode"], &run["timedOut"]),
            (&json!(null), &json!(false))
        );
        assert_eq!(run["signal"], name);
        assert_eq!(keys(answer.text()).last().unwrap(), "signal");
    }
}

fn the_command_is_not_a_shell_line(backend: Backend) {
    let server = Server::open(backend);
    let args = [
        "~",
        "$HOME",
        "*",
        "a b",
        "",
        "\"'",
        "é\u{1F600}",
        "-n",
        "\n",
    ];
    let run = server.run(
        &json!({"command": "printf", "args": ["[%s]", args[0], args[1], args[2],
        args[3], args[4], args[5], args[6], args[7], args[8]]}),
    );
    let expected: String = args.iter().map(|a| format!("[{a}]")).collect();
    assert_eq!(run["stdout"], expected);
    server
        .post("/v1/processes/run", &json!({"command": "echo hi"}))
        .expect(502);
}

fn lookup_uses_path_and_the_requests_path(backend: Backend) {
    let server = Server::open(backend);
    let dir = scratch("path");
    script(&dir.join("only-here"), "#!/bin/sh\necho found in $0\n");
    let found = json!({"command": "only-here", "env": {"PATH": dir.to_str().unwrap()}});
    let run = server.run(&found);
    assert!(
        run["stdout"].as_str().unwrap().contains("only-here"),
        "{run}"
    );
    server
        .post("/v1/processes/run", &json!({"command": "only-here"}))
        .expect(502);
    let hidden = json!({"command": "echo", "env": {"PATH": dir.to_str().unwrap()}});
    server.post("/v1/processes/run", &hidden).expect(502);
    std::fs::remove_dir_all(dir).unwrap();
}

fn cwd_is_taken_and_resolves_relative_commands(backend: Backend) {
    let dir = scratch("cwd");
    std::fs::create_dir(dir.join("sub")).unwrap();
    script(&dir.join("sub/tool"), "#!/bin/sh\npwd -P\n");
    let server = Launch::new(backend).args(&["--no-token"]).cwd(&dir).start();
    let line = |path: &std::path::Path| format!("{}\n", path.display());
    let sub = dir.join("sub");
    let absolute = sub.to_str().unwrap();
    // Without and with null: the server's own directory.
    assert_eq!(server.run(&sh("pwd -P"))["stdout"], line(&dir));
    let body = json!({"command": "pwd", "args": ["-P"], "cwd": null});
    assert_eq!(server.run(&body)["stdout"], line(&dir));
    assert_eq!(
        server.run(&json!({"command": "./tool", "cwd": absolute}))["stdout"],
        line(&sub)
    );
    // A relative cwd is relative to the server's directory.
    assert_eq!(
        server.run(&json!({"command": "./tool", "cwd": "sub"}))["stdout"],
        line(&sub)
    );
    assert_eq!(
        server.run(&json!({"command": "sub/tool"}))["stdout"],
        line(&dir)
    );
    server
        .post("/v1/processes/run", &json!({"command": "./tool"}))
        .expect(502);
    std::fs::remove_dir_all(dir).unwrap();
}

fn a_timeout_keeps_the_output_so_far(backend: Backend) {
    let server = Server::open(backend);
    let mut body = sh("trap '' TERM; echo before; echo oops >&2; exec sleep 60");
    body["timeoutMs"] = json!(400);
    let answer = server.post("/v1/processes/run", &body);
    let run = answer.json();
    assert_eq!(
        (&run["timedOut"], &run["exitCode"]),
        (&json!(true), &json!(null))
    );
    assert_eq!(
        (&run["stdout"], &run["stderr"]),
        (&json!("before\n"), &json!("oops\n"))
    );
    let duration = run["durationMs"].as_u64().unwrap();
    assert!((400..10_000).contains(&duration), "{duration} ms");
    assert_eq!(run["signal"], "SIGKILL");
    assert_eq!(keys(answer.text()).last().unwrap(), "signal");
}

fn timeouts_are_defaulted_and_capped(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("defaultRunTimeoutMs", 300), ("maxRunTimeoutMs", 600)]);
    for (timeout, expected) in [
        (None, 300),
        (Some(json!(null)), 300),
        (Some(json!(0)), 300),
        (Some(json!(100_000)), 600),
        (Some(json!(450)), 450),
    ] {
        let mut body = json!({"command": "sleep", "args": ["30"]});
        if let Some(timeout) = timeout {
            body["timeoutMs"] = timeout;
        }
        let run = server.run(&body);
        assert_eq!(run["timedOut"], true);
        let duration = run["durationMs"].as_u64().unwrap();
        assert!(
            (expected..expected + 5_000).contains(&duration),
            "{duration} for {expected}"
        );
    }
}

fn output_keeps_the_first_bytes(backend: Backend) {
    let server = Server::open(backend);
    let mut body = sh("printf 0123456789; printf abcdef >&2; exit 3");
    body["maxOutputBytes"] = json!(4);
    let run = server.run(&body);
    assert_eq!(
        (&run["stdout"], &run["stdoutTruncated"]),
        (&json!("0123"), &json!(true))
    );
    assert_eq!(
        (&run["stderr"], &run["stderrTruncated"]),
        (&json!("abcd"), &json!(true))
    );
    assert_eq!(run["exitCode"], 3);
}

fn output_limits_are_exact(backend: Backend) {
    let server = Server::open(backend);
    for (limit, stdout, truncated) in [
        (0, "", true),
        (1, "a", true),
        (2, "ab", true),
        (3, "abc", false),
        (4, "abc", false),
    ] {
        let run =
            server.run(&json!({"command": "printf", "args": ["abc"], "maxOutputBytes": limit}));
        assert_eq!(
            (&run["stdout"], &run["stdoutTruncated"]),
            (&json!(stdout), &json!(truncated))
        );
        assert_eq!(run["stderrTruncated"], false, "no output is not truncated");
    }
}

fn output_over_the_limit_never_blocks_the_child(backend: Backend) {
    let server = Server::open(backend);
    let run = server.run(&sh(
        "head -c 20000000 /dev/zero | tr '\\0' x; echo end >&2; exit 5",
    ));
    assert_eq!(run["exitCode"], 5);
    assert_eq!(run["stdout"].as_str().unwrap().len(), 1_048_576);
    assert_eq!(
        (&run["stdoutTruncated"], &run["stderr"]),
        (&json!(true), &json!("end\n"))
    );
}

fn the_configured_cap_lowers_the_requests(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxOutputBytes", 5)]);
    for limit in [json!(null), json!(100), json!(u64::MAX)] {
        let body = json!({"command": "printf", "args": ["0123456789"], "maxOutputBytes": limit});
        assert_eq!(server.run(&body)["stdout"], "01234");
    }
    let body = json!({"command": "printf", "args": ["0123456789"], "maxOutputBytes": 2});
    assert_eq!(server.run(&body)["stdout"], "01");
}

fn a_cut_character_is_left_out(backend: Backend) {
    let server = Server::open(backend);
    for (limit, stdout) in [
        (3, "aé"),
        (4, "aé"),
        (5, "aé"),
        (6, "aé€"),
        (7, "aé€"),
        (9, "aé€"),
    ] {
        let run =
            server.run(&json!({"command": "printf", "args": ["aé€😀"], "maxOutputBytes": limit}));
        assert_eq!(
            (&run["stdout"], &run["stdoutTruncated"]),
            (&json!(stdout), &json!(true))
        );
    }
    let run = server.run(&json!({"command": "printf", "args": ["aé€😀"], "maxOutputBytes": 10}));
    assert_eq!(
        (&run["stdout"], &run["stdoutTruncated"]),
        (&json!("aé€😀"), &json!(false))
    );
}

fn invalid_utf8_becomes_replacement_characters(backend: Backend) {
    let server = Server::open(backend);
    let run = server.run(&sh(r"printf 'a\377b\303('; printf '\360\237\230' >&2"));
    assert_eq!(run["stdout"], "a\u{FFFD}b\u{FFFD}(");
    assert_eq!(run["stderr"], "\u{FFFD}");
    // Control characters come through JSON unharmed.
    let run = server.run(&sh(r#"printf '\000\001\033[1m\r\t"\\\177'"#));
    assert_eq!(run["stdout"], "\0\u{1}\u{1b}[1m\r\t\"\\\u{7f}");
}

fn the_longest_output_escapes_right(backend: Backend) {
    let server = Server::open(backend);
    let run = server.run(&sh(
        "head -c 2000000 /dev/zero; head -c 2000000 /dev/zero | tr '\\0' '\"' >&2",
    ));
    assert!(
        run["stdout"] == "\0".repeat(1_048_576),
        "1 MiB of NUL, six bytes each in JSON"
    );
    assert!(run["stderr"] == "\"".repeat(1_048_576));
    let invalid = server.run(&sh("head -c 2000000 /dev/zero | tr '\\0' '\\377'"));
    assert!(invalid["stdout"] == "\u{FFFD}".repeat(1_048_576));
    assert_eq!(invalid["stdoutTruncated"], true);
}

fn many_and_long_arguments_pass(backend: Backend) {
    let server = Server::open(backend);
    let many: Vec<_> = (0..20_000).map(|n| n.to_string()).collect();
    let mut args = vec!["-c".to_owned(), "echo $#".to_owned(), "sh".to_owned()];
    args.extend(many);
    assert_eq!(
        server.run(&json!({"command": "sh", "args": args}))["stdout"],
        "20000\n"
    );
    let long = "x".repeat(100_000);
    let run = server.run(&json!({"command": "printf", "args": ["%s", long]}));
    assert_eq!(run["stdout"], long);
    let run = server.run(&json!({"command": "sh", "args": ["-c", "printf \"$LONG\""],
        "env": {"LONG": long}}));
    assert_eq!(run["stdout"], long);
}

fn stdin_is_dev_null(backend: Backend) {
    let server = Server::open(backend);
    assert_eq!(
        server.run(&sh("readlink /proc/$$/fd/0; cat"))["stdout"],
        "/dev/null\n"
    );
}

fn runs_leave_no_record_and_are_not_limited(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxConcurrentProcesses", 1)]);
    let id = server.spawn(&json!({"command": "cat"}));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(server.run(&sh("sleep 0.2"))["exitCode"], 0));
        }
    });
    let list = server.get("/v1/processes").json();
    assert_eq!(list["processes"].as_array().unwrap().len(), 1);
    assert_eq!(list["processes"][0]["id"], id.as_str());
}

fn parallel_runs_do_not_wait_for_each_other(backend: Backend) {
    let server = Server::open(backend);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..60 {
            scope.spawn(|| assert_eq!(server.run(&sh("sleep 1"))["exitCode"], 0));
        }
    });
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "one after the other takes 60 s"
    );
}

fn many_short_runs_at_once_keep_their_own_exit_codes(backend: Backend) {
    let server = Server::open(backend);
    std::thread::scope(|scope| {
        for client in 0..32 {
            let server = &server;
            scope.spawn(move || {
                for round in 0..25 {
                    let code = (client + round) % 7;
                    // Now and then an orphan dies at the same moment as the runs do.
                    let run = server.run(&sh(&format!("(true &); exit {code}")));
                    assert_eq!(run["exitCode"], code, "{run}");
                }
            });
        }
    });
}

fn scratch(name: &str) -> std::path::PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let serial = NEXT.fetch_add(1, Ordering::Relaxed);
    let base = std::fs::canonicalize(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = base.join(format!("run-{name}-{}-{serial}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    dir
}

fn script(path: &std::path::Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
