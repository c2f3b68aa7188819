//! Section 10: the terminal itself. Session, size, environment, job control.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::server::send_signal;
use crate::harness::{Backend, Launch, Problem, Server, Ws, eventually, on_both, procfs, sh};
use crate::terminal::tty;

on_both!(
    a_program_leads_a_session_with_the_terminal_as_its_own,
    a_new_terminal_has_the_usual_settings,
    the_size_may_be_chosen_on_create,
    a_resize_is_seen_and_signalled,
    a_wrong_resize_changes_nothing,
    term_is_set_only_where_nobody_has_said,
    the_window_of_the_server_does_not_reach_terminals,
    erasing_takes_a_character_and_not_a_byte,
    job_control_works,
    the_foreground_is_hung_up_when_the_shell_dies,
    other_terminals_are_not_inherited,
);

fn resize_path(id: &str) -> String {
    format!("/v1/processes/{id}/terminal/resize")
}

/// What a terminal program writes before it ends.
#[track_caller]
fn shown(server: &Server, body: &Value) -> String {
    let id = server.spawn(body);
    server.await_exit(&id);
    String::from_utf8(server.output(&id, "combined")).unwrap()
}

fn a_program_leads_a_session_with_the_terminal_as_its_own(backend: Backend) {
    let server = Server::open(backend);
    let info = server.create(&tty(
        "echo on; (read x </dev/tty; echo \"<$x>\"); sleep 1000",
    ));
    let id = info["id"].as_str().unwrap();
    let pid = pid_of(&info);
    server.await_output(id, "on");
    let [group, session, terminal, foreground] =
        [2, 3, 4, 5].map(|at| procfs::field(pid, at).unwrap());
    assert_eq!((group, session, foreground), (pid, pid, pid));
    assert_ne!(terminal, 0, "no controlling terminal");
    for fd in 0..3 {
        let end = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
        assert!(end.starts_with("/dev/pts/"), "{end:?}");
    }
    let mut ws = Ws::attach(&server, id, "");
    ws.input("hello\n");
    ws.until("<hello>");
}

fn a_new_terminal_has_the_usual_settings(backend: Backend) {
    let server = Server::open(backend);
    let settings = shown(&server, &tty("stty -a"));
    for setting in [
        "speed 38400 baud; rows 24; columns 80;",
        "intr = ^C;",
        "susp = ^Z;",
        " iutf8",
    ] {
        assert!(settings.contains(setting), "{setting}: {settings}");
    }
    let words: Vec<_> = settings.split_whitespace().collect();
    for setting in [
        "isig", "icanon", "echo", "icrnl", "opost", "onlcr", "iexten",
    ] {
        assert!(words.contains(&setting), "{setting}: {settings}");
    }
}

fn the_size_may_be_chosen_on_create(backend: Backend) {
    let server = Server::open(backend);
    let with = |cols: Value, rows: Value| {
        let mut body = tty("stty size");
        body["cols"] = cols;
        body["rows"] = rows;
        body
    };
    for (cols, rows) in [(1, 1), (132, 50), (1000, 1000)] {
        let size = shown(&server, &with(cols.into(), rows.into()));
        assert_eq!(size, format!("{rows} {cols}\r\n"));
    }
    let mut wide = tty("stty size");
    // A float without a fraction is an integer (also below, and in frames).
    wide["cols"] = json!(200.0);
    assert_eq!(shown(&server, &wide), "24 200\r\n");
    for (cols, rows) in [(0, 24), (80, 0), (1001, 24), (80, 1001), (65535, 65535)] {
        let answer = server.post("/v1/processes", &with(cols.into(), rows.into()));
        answer.problem(400, "invalid_request");
    }
    for (cols, rows) in [
        (json!("80"), json!(24)),
        (json!(80), json!(-1)),
        (json!(80.5), json!(24)),
    ] {
        server.post("/v1/processes", &with(cols, rows)).expect(422);
    }
    // Without a terminal they are unknown fields.
    let mut pipe = sh("echo fine");
    pipe["cols"] = 0.into();
    assert_eq!(shown(&server, &pipe), "fine\n");
}

fn a_resize_is_seen_and_signalled(backend: Backend) {
    let server = Server::open(backend);
    // The signal goes to the foreground group: the shell and its child both get it.
    let id = server.spawn(&tty(
        "trap 'stty size' WINCH; echo on; while :; do sleep 0.05; done",
    ));
    let mut ws = Ws::attach(&server, &id, "");
    ws.until("on\r\n");
    let answer = server.post(&resize_path(&id), &json!({"cols": 120, "rows": 40, "x": 1}));
    answer.json();
    assert_eq!(answer.text(), r#"{"cols":120,"rows":40}"#);
    assert_eq!(ws.until("\r\n"), "40 120\r\n");
    ws.resize(81, 25);
    assert_eq!(ws.until("\r\n"), "25 81\r\n");
    server
        .post(&resize_path(&id), &json!({"cols": 1e3, "rows": 1}))
        .json();
    assert_eq!(ws.until("\r\n"), "1 1000\r\n");
    ws.resize(1, 1000);
    assert_eq!(ws.until("\r\n"), "1000 1\r\n");
}

fn a_wrong_resize_changes_nothing(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty("read x; stty size"));
    let path = resize_path(&id);
    let mut ws = Ws::attach(&server, &id, "");
    for (cols, rows) in [
        (0, 24),
        (80, 0),
        (0, 0),
        (1001, 24),
        (80, 1001),
        (65535, 65535),
    ] {
        let answer = server.post(&path, &json!({"cols": cols, "rows": rows}));
        let problem = answer.problem(400, "invalid_request");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("between 1 and 1000"), "{detail}");
        // The same range as on create, and the same words on either way.
        ws.resize(cols, rows);
        assert_eq!(ws.error(), detail);
    }
    for body in [
        json!({"cols": 65536, "rows": 24}),
        json!({"cols": -1, "rows": 24}),
        json!({"cols": 80.5, "rows": 24}),
        json!({"cols": "80", "rows": 24}),
        json!({"cols": 80}),
        json!({"rows": 24}),
        json!({"cols": null, "rows": 24}),
        json!([80, 24]),
    ] {
        server.post(&path, &body).problem(422, "invalid_request");
    }
    let size = json!({"cols": 10, "rows": 10});
    Problem::no_process("proc_99").check(&server.post(&resize_path("proc_99"), &size));
    let pipe = server.spawn(&sh("sleep 1000"));
    Problem::conflict("process is not running in tty mode")
        .check(&server.post(&resize_path(&pipe), &size));
    ws.input("\n");
    server.await_exit(&id);
    assert_eq!(server.output(&id, "pty"), b"\r\n24 80\r\n");
    Problem::conflict("PTY resize handle unavailable").check(&server.post(&path, &size));
}

fn term_is_set_only_where_nobody_has_said(backend: Backend) {
    let script = r#"echo "${TERM-none} ${COLUMNS-none} ${LINES-none}""#;
    let launch = || {
        let launch = Launch::new(backend).args(&["--no-token"]);
        launch.env_remove("COLUMNS").env_remove("LINES")
    };
    let without = launch().env_remove("TERM").start();
    assert_eq!(
        shown(&without, &tty(script)),
        "xterm-256color none none\r\n"
    );
    assert_eq!(shown(&without, &sh(script)), "none none none\n");
    let with = launch().env("TERM", "vt220").start();
    assert_eq!(shown(&with, &tty(script)), "vt220 none none\r\n");
    // What a program without a terminal is given says nothing of this one.
    let dumb = launch().env("TERM", "dumb").start();
    let empty = launch().env("TERM", "").start();
    for server in [&dumb, &empty] {
        assert_eq!(shown(server, &tty(script)), "xterm-256color none none\r\n");
    }
    assert_eq!(shown(&dumb, &sh(script)), "dumb none none\n");
    for server in [&without, &with, &dumb, &empty] {
        for term in ["ansi", "dumb", ""] {
            let mut body = tty(script);
            body["env"] = json!({"TERM": term});
            assert_eq!(shown(server, &body), format!("{term} none none\r\n"));
        }
    }
}

fn the_window_of_the_server_does_not_reach_terminals(backend: Backend) {
    const WINDOW: [&str; 10] = [
        "COLUMNS",
        "LINES",
        "TERMCAP",
        "TMUX",
        "TMUX_PANE",
        "STY",
        "WINDOWID",
        "VTE_VERSION",
        "TERM_PROGRAM",
        "TERM_PROGRAM_VERSION",
    ];
    let mut launch = Launch::new(backend).args(&["--no-token"]).env("STYLE", "7");
    for name in WINDOW {
        launch = launch.env(name, "7");
    }
    let server = launch.start();
    let seen = |body: &Value| {
        let text = shown(&server, body);
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        let mut names: Vec<_> = pairs
            .filter(|(name, value)| *value == "7" && (WINDOW.contains(name) || *name == "STYLE"))
            .map(|(name, _)| name.to_owned())
            .collect();
        names.sort();
        names
    };
    // `env` itself, because a shell sets some of them.
    let env = |tty: bool| json!({"command": "env", "tty": tty});
    assert_eq!(seen(&env(true)), ["STYLE"]);
    assert_eq!(seen(&env(false)).len(), WINDOW.len() + 1);
    // Who asks for one gets it.
    let mut asked = env(true);
    asked["env"] = json!({"LINES": "7", "TERM_PROGRAM": "7", "TMUX": "8"});
    assert_eq!(seen(&asked), ["LINES", "STYLE", "TERM_PROGRAM"]);
}

fn erasing_takes_a_character_and_not_a_byte(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty("echo on; head -n 1 | od -An -tx1"));
    server.await_output(&id, "on");
    // Backspace after two bytes, three and four.
    Ws::attach(&server, &id, "").input("a\u{fc}\u{7f}\u{4e2d}\u{7f}\u{1f600}\u{7f}b\n");
    server.await_exit(&id);
    let output = String::from_utf8_lossy(&server.output(&id, "pty")).into_owned();
    assert!(output.ends_with("\n 61 62 0a\r\n"), "{output}");
}

fn pid_of(info: &Value) -> i32 {
    info["pid"].as_i64().expect("a pid") as i32
}

/// An interactive bash without anybody's startup files.
fn bash() -> Value {
    json!({"command": "bash", "args": ["--norc", "--noprofile", "-i"], "tty": true,
        "env": {"PS1": "$ ", "TERM": "dumb", "HISTFILE": ""}})
}

fn job_control_works(backend: Backend) {
    let server = Server::open(backend);
    let info = server.create(&bash());
    let (id, shell) = (info["id"].as_str().unwrap(), pid_of(&info));
    let mut ws = Ws::attach(&server, id, "");
    ws.until("$ ");
    // Ctrl-C reaches what runs in the foreground, not the shell. A program that says itself
    // that it runs has the terminal by then; the typed words, which are echoed, differ.
    ws.input("sh -c 'echo runn\"\"ing; exec sleep 1000'\n");
    ws.until("running\r\n");
    ws.input("\u{3}");
    ws.until("$ ");
    ws.input("printf '<%s>' $?\n");
    ws.until("<130>");
    // Ctrl-Z stops it, fg brings it back, and it has the terminal again.
    ws.input("sh -c 'echo read\"\"ing; exec cat'\n");
    ws.until("reading\r\n");
    ws.input("once\n");
    ws.until("once\r\nonce\r\n");
    ws.input("\u{1a}");
    ws.until("Stopped");
    ws.until("$ ");
    ws.input("fg\n");
    ws.until("exec cat'\r\n");
    eventually("cat to have the terminal", || {
        let cat = procfs::field(shell, 5)?;
        (cat != shell && procfs::state(cat) == Some('S')).then_some(())
    });
    ws.input("again\n");
    ws.until("again\r\nagain\r\n");
    ws.input("\u{4}");
    ws.until("$ ");
    ws.input("exit 5\n");
    let end = ws.rest();
    assert_eq!(end.texts, [json!({"exitCode": 5, "type": "exit"})]);
    assert_eq!(end.close, Some(1000));
}

fn the_foreground_is_hung_up_when_the_shell_dies(backend: Backend) {
    // Also where the server itself ignores SIGHUP (14.10b).
    let launch = Launch::new(backend).args(&["--no-token"]);
    let server = launch.ignoring_hangup().start();
    let name = format!("hangup-{}-{}", std::process::id(), backend.word());
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let script = format!(
        "sh -c 'trap \"echo hup >{}; exit\" HUP; echo o\"\"n; while :; do sleep 0.05; done'\n",
        file.display()
    );
    let info = server.create(&bash());
    let id = info["id"].as_str().unwrap();
    let mut ws = Ws::attach(&server, id, "");
    ws.until("$ ");
    ws.input(&script);
    ws.until("\r\non\r\n");
    // The shell only, as the kernel's memory killer or a crash would; not the tree.
    send_signal(pid_of(&info), libc::SIGKILL);
    eventually("the foreground program to be hung up", || {
        std::fs::read_to_string(&file)
            .ok()
            .filter(|text| text == "hup\n")
    });
    std::fs::remove_file(&file).unwrap();
    assert_eq!(ws.rest().close, Some(1000));
    eventually("nothing to be left", || {
        server.survivors().is_empty().then_some(())
    });
}

fn other_terminals_are_not_inherited(backend: Backend) {
    let server = Server::open(backend);
    let others: Vec<_> = (0..3).map(|_| server.spawn(&tty("sleep 1000"))).collect();
    let _viewers: Vec<_> = others
        .iter()
        .map(|id| Ws::attach(&server, id, ""))
        .collect();
    // The shell's own, seen by its child.
    let listing = "ls -1 /proc/$$/fd; :";
    assert_eq!(shown(&server, &tty(listing)), "0\r\n1\r\n2\r\n");
    assert_eq!(shown(&server, &sh(listing)), "0\n1\n2\n");
}
