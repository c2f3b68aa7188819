//! Section 12, 14.10b and 14.14: what a child inherits, and what it must not.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::procfs;
use crate::harness::{Backend, Launch, Server, on_both, sh};

on_both!(
    the_servers_environment_then_the_requests,
    odd_names_are_passed_on,
    runs_get_a_term_and_managed_processes_inherit,
    signals_are_default_and_unblocked,
    children_of_a_server_under_nohup_hear_hangups,
    children_have_descriptors_0_1_2_only,
    the_soft_descriptor_limit_and_umask_are_the_servers_own,
    managed_stdin_is_an_open_pipe,
    the_server_is_not_killed_first_for_lack_of_memory,
    what_is_between_the_server_and_its_own_starter_reaches_no_child,
    a_flag_given_as_a_variable_holds_and_reaches_no_child,
);

/// What `body` writes to its output, once as a run and once as a managed process.
fn both_ways(server: &Server, body: &Value) -> [String; 2] {
    let run = server.run(body);
    assert_eq!(run["exitCode"], 0, "{run}");
    let id = server.spawn(body);
    server.await_exit(&id);
    let managed = String::from_utf8(server.output(&id, "stdout")).unwrap();
    [run["stdout"].as_str().unwrap().to_owned(), managed]
}

fn entries(environment: &str) -> Vec<&str> {
    environment.split_terminator('\0').collect()
}

fn the_servers_environment_then_the_requests(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token"])
        .env("KEPT", "by server")
        .env("OVERRIDDEN", "old")
        .start();
    let body = json!({"command": "cat", "args": ["/proc/self/environ"],
        "env": {"OVERRIDDEN": "new", "ADDED": "é $HOME", "EMPTY": ""}});
    for environment in both_ways(&server, &body) {
        let entries = entries(&environment);
        for expected in [
            "KEPT=by server",
            "OVERRIDDEN=new",
            "ADDED=é $HOME",
            "EMPTY=",
        ] {
            assert_eq!(
                entries.iter().filter(|e| *e == &expected).count(),
                1,
                "{expected}"
            );
        }
        assert!(!entries.contains(&"OVERRIDDEN=old"));
        assert!(entries.iter().any(|e| e.starts_with("PATH=")));
    }
    // No variable comes from the server's own making, TERM of runs apart.
    let env = |body: &str| json!({"command": "cat", "args": [body]});
    let [run, managed] = both_ways(&server, &env("/proc/self/environ"));
    let inherited: Vec<_> = server
        .environment()
        .into_iter()
        .chain([
            ("KEPT".into(), "by server".into()),
            ("OVERRIDDEN".into(), "old".into()),
        ])
        .map(|(name, value)| format!("{name}={value}\0"))
        .collect();
    let server_side = inherited.concat();
    let sorted = |text: &str| {
        let mut entries: Vec<_> = entries(text)
            .into_iter()
            .filter(|e| !e.starts_with("TERM="))
            .map(str::to_owned)
            .collect();
        entries.sort();
        entries
    };
    assert_eq!(sorted(&managed), sorted(&server_side));
    assert_eq!(sorted(&run), sorted(&server_side));
}

fn what_is_between_the_server_and_its_own_starter_reaches_no_child(backend: Backend) {
    const ITS_OWN: [&str; 17] = [
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_PIDFDID",
        "LISTEN_FDNAMES",
        "FDSTORE",
        "MAINPID",
        "SYSTEMD_EXEC_PID",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "CREDENTIALS_DIRECTORY",
        "MEMORY_PRESSURE_WATCH",
        "MEMORY_PRESSURE_WRITE",
        "NODE_CHANNEL_FD",
        "NODE_CHANNEL_SERIALIZATION_MODE",
    ];
    let mut launch = Launch::new(backend).args(&["--no-token"]);
    for name in ITS_OWN {
        launch = launch.env(name, "1");
    }
    let server = launch.env("NOTIFY_SOCKETS", "kept").start();
    let cat = json!({"command": "cat", "args": ["/proc/self/environ"]});
    for environment in both_ways(&server, &cat) {
        let entries = entries(&environment);
        assert!(entries.contains(&"NOTIFY_SOCKETS=kept"), "{entries:?}");
        for name in ITS_OWN {
            let leaked = entries.iter().any(|e| e.split('=').next() == Some(name));
            assert!(!leaked, "{name}: {entries:?}");
        }
    }
    // Who asks for one has a reason.
    let mut body = cat;
    body["env"] = json!({"NOTIFY_SOCKET": "/mine", "LISTEN_FDS": "0"});
    for environment in both_ways(&server, &body) {
        let entries = entries(&environment);
        for asked in ["NOTIFY_SOCKET=/mine", "LISTEN_FDS=0"] {
            assert!(entries.contains(&asked), "{asked}: {entries:?}");
        }
    }
}

fn a_flag_given_as_a_variable_holds_and_reaches_no_child(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token"])
        .env(
            "PROCRING_CORS_ALLOW_ORIGIN",
            "http://a.example, http://b.example",
        )
        .env("PROCRING_OTHER", "kept")
        .start();
    let origin = [("Origin", "http://b.example")];
    let answer = server.request("GET", "/v1/health", &origin, b"");
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("http://b.example")
    );
    let cat = json!({"command": "cat", "args": ["/proc/self/environ"]});
    for environment in both_ways(&server, &cat) {
        assert!(!environment.contains("CORS_ALLOW"), "{environment:?}");
        assert!(environment.contains("PROCRING_OTHER=kept"));
    }
}

fn odd_names_are_passed_on(backend: Backend) {
    let server = Server::open(backend);
    let body = json!({"command": "cat", "args": ["/proc/self/environ"],
        "env": {"": "nameless", "A=B": "c", "with blank": "x", "ü": "y"}});
    for environment in both_ways(&server, &body) {
        let entries = entries(&environment);
        for expected in ["=nameless", "A=B=c", "with blank=x", "ü=y"] {
            assert!(
                entries.contains(&expected),
                "{expected} is not in {entries:?}"
            );
        }
    }
}

fn runs_get_a_term_and_managed_processes_inherit(backend: Backend) {
    let body = json!({"command": "cat", "args": ["/proc/self/environ"]});
    let term = |environment: &str| {
        let terms: Vec<_> = entries(environment)
            .into_iter()
            .filter_map(|e| e.strip_prefix("TERM="))
            .collect();
        assert!(terms.len() < 2, "{terms:?}");
        terms.first().map(|t| (*t).to_owned())
    };
    let without = Launch::new(backend)
        .args(&["--no-token"])
        .env_remove("TERM")
        .start();
    let [run, managed] = both_ways(&without, &body);
    assert_eq!(
        (term(&run).as_deref(), term(&managed)),
        (Some("xterm-256color"), None)
    );
    let with = Launch::new(backend)
        .args(&["--no-token"])
        .env("TERM", "vt52")
        .start();
    let [run, managed] = both_ways(&with, &body);
    assert_eq!(term(&run).as_deref(), Some("xterm-256color"));
    assert_eq!(term(&managed).as_deref(), Some("vt52"));
    let mut body = body;
    body["env"] = json!({"TERM": "dumb"});
    for environment in both_ways(&with, &body) {
        assert_eq!(term(&environment).as_deref(), Some("dumb"));
    }
}

fn assert_clean_signals(server: &Server) {
    let body = json!({"command": "cat", "args": ["/proc/self/status"]});
    for status in both_ways(server, &body) {
        for name in ["SigIgn", "SigBlk", "SigPnd", "ShdPnd"] {
            assert_eq!(procfs::mask(&status, name), 0, "{name}");
        }
    }
}

fn signals_are_default_and_unblocked(backend: Backend) {
    assert_clean_signals(&Server::open(backend));
}

fn children_of_a_server_under_nohup_hear_hangups(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token"])
        .ignoring_hangup()
        .start();
    assert_clean_signals(&server);
    let run = server.run(&sh("kill -HUP $$; echo deaf"));
    assert_eq!(
        (&run["stdout"], &run["signal"]),
        (&json!(""), &json!("SIGHUP"))
    );
}

fn children_have_descriptors_0_1_2_only(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token"])
        .leaking_descriptor()
        .start();
    // Neighbours with pipes, and open connections, that could leak.
    for _ in 0..5 {
        server.spawn(&json!({"command": "cat"}));
    }
    let _idle: Vec<_> = (0..5).map(|_| server.conn()).collect();
    server.get("/v1/health").expect(200);
    let listing = sh("ls /proc/$$/fd; :");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for listed in both_ways(&server, &listing) {
                    assert_eq!(
                        listed.split_whitespace().collect::<Vec<_>>(),
                        ["0", "1", "2"]
                    );
                }
            });
        }
    });
}

fn the_soft_descriptor_limit_and_umask_are_the_servers_own(backend: Backend) {
    let wrapper = ["sh", "-c", "ulimit -Sn 333; umask 027; exec \"$@\"", "sh"];
    // `exec` keeps the pid, so the wrapper is the server.
    let server = Launch::new(backend)
        .args(&["--no-token"])
        .through_exec(&wrapper)
        .start();
    for text in both_ways(&server, &sh("ulimit -Sn; umask")) {
        assert_eq!(text, "333\n0027\n");
    }
}

fn managed_stdin_is_an_open_pipe(backend: Backend) {
    let server = Server::open(backend);
    let read = "readlink /proc/$$/fd/0; cat";
    for interactive in [false, true] {
        let mut body = sh(read);
        body["interactive"] = json!(interactive);
        let id = server.spawn(&body);
        server.await_output(&id, "pipe:[");
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(server.info(&id)["status"], "running");
    }
}

fn the_server_is_not_killed_first_for_lack_of_memory(backend: Backend) {
    let server = Server::open(backend);
    let own = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", server.pid)).unwrap();
    let own: i32 = own.trim().parse().unwrap();
    // The score may be set from outside, just after the start; it is inherited from then on.
    for text in both_ways(&server, &sh("sleep 0.3; cat /proc/self/oom_score_adj")) {
        let child: i32 = text.trim().parse().unwrap();
        assert!(child > own, "child {child}, server {own}");
    }
}
