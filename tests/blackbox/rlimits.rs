//! `limits`: what a request may say, and those that each process sets on itself (setrlimit(2)).

use serde_json::{Value, json};

use crate::harness::{Backend, Launch, Response, Server, eventually, on_both, sh};

on_both!(
    each_process_is_held_to_its_own_limits,
    a_terminal_is_held_to_them_as_well,
    what_exceeds_a_limit_is_told_by_the_kernel,
    without_limits_a_child_has_those_of_the_server,
    null_is_absent_and_a_number_may_be_a_float,
    what_is_no_amount_is_422_by_its_name,
    nothing_is_400_where_it_would_stop_everything,
    more_than_the_server_may_have_is_400_and_says_how_much,
    unknown_names_are_refused_where_that_is_asked_for,
    the_command_line_gives_defaults_and_maxima,
    who_asks_for_a_group_without_one_hears_what_is_missing,
    limits_are_a_capability,
);

const TARGETS: [&str; 2] = ["/v1/processes/run", "/v1/processes"];

fn with_limits(mut body: Value, limits: Value) -> Value {
    body["limits"] = limits;
    body
}

/// `ulimit` of both kinds, in the units of getrlimit(2) but for -f and -c (512 bytes) and -v (KiB).
const SHOW: &str = "for kind in S H; do ulimit -${kind}n; ulimit -${kind}f; ulimit -${kind}c; \
                    ulimit -${kind}v; ulimit -${kind}t; done; ulimit -n";

#[track_caller]
fn lines_of_run(server: &Server, body: &Value) -> Vec<String> {
    let answer = server.run(body);
    assert_eq!(answer["exitCode"], 0, "{answer}");
    let text = answer["stdout"].as_str().unwrap();
    text.lines().map(str::to_owned).collect()
}

fn all_of_them() -> Value {
    json!({"nofile": 77, "fileBytes": 1024, "coreBytes": 0, "addressSpaceBytes": 1 << 30,
        "cpuSeconds": 9})
}

const ALL_SHOWN: [&str; 11] = [
    "77", "2", "0", "1048576", "9", "77", "2", "0", "1048576", "14", "77",
];

fn each_process_is_held_to_its_own_limits(backend: Backend) {
    let server = Server::open(backend);
    let body = with_limits(sh(SHOW), all_of_them());
    assert_eq!(lines_of_run(&server, &body), ALL_SHOWN);
    // A grandchild, too.
    let nested = with_limits(sh(&format!("sh -c '{SHOW}'; :")), all_of_them());
    assert_eq!(lines_of_run(&server, &nested), ALL_SHOWN);
    let id = server.spawn(&body);
    server.await_exit(&id);
    let output = String::from_utf8(server.output(&id, "stdout")).unwrap();
    assert_eq!(output.lines().collect::<Vec<_>>(), ALL_SHOWN);
}

fn a_terminal_is_held_to_them_as_well(backend: Backend) {
    let server = Server::open(backend);
    let mut body = with_limits(sh("ulimit -n"), json!({"nofile": 55}));
    body["tty"] = json!(true);
    let id = server.spawn(&body);
    server.await_exit(&id);
    assert_eq!(server.output(&id, "combined"), b"55\r\n");
}

fn what_exceeds_a_limit_is_told_by_the_kernel(backend: Backend) {
    let server = Server::open(backend);
    // SIGXCPU at the soft limit; the sum of both kinds of time counts.
    let busy = with_limits(sh("while :; do :; done"), json!({"cpuSeconds": 1}));
    let ended = server.run(&busy);
    assert_eq!(ended["signal"], "SIGXCPU", "{ended}");
    // And SIGKILL for who ignores that is five seconds later: its limit says so.
    let write = format!("head -c 5000 /dev/zero > /tmp/procring-test-{}", server.pid);
    let script = format!(
        "trap '' XFSZ; {write}; echo $?; rm -f /tmp/procring-test-{}",
        server.pid
    );
    let answer = server.run(&with_limits(sh(&script), json!({"fileBytes": 4096})));
    assert_eq!(answer["stdout"], "1\n", "{answer}");
    let open = "exec 3</dev/null 4</dev/null 5</dev/null 6</dev/null 7</dev/null";
    let answer = server.run(&with_limits(sh(open), json!({"nofile": 6})));
    assert_ne!(answer["exitCode"], 0, "{answer}");
}

fn without_limits_a_child_has_those_of_the_server(backend: Backend) {
    let server = Server::open(backend);
    let own = std::fs::read_to_string("/proc/self/limits").unwrap();
    // The limit of locks is the tree's mark.
    let without_mark = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .filter(|line| !line.starts_with("Max file locks"));
        lines.map(str::to_owned).collect()
    };
    for limits in [json!(null), json!({})] {
        let body = with_limits(
            json!({"command": "cat", "args": ["/proc/self/limits"]}),
            limits,
        );
        let seen = server.run(&body)["stdout"].as_str().unwrap().to_owned();
        assert_eq!(without_mark(&seen), without_mark(&own));
    }
    // The mark stays beside limits, too.
    let marked = with_limits(
        json!({"command": "grep", "args": ["Max file locks", "/proc/self/limits"]}),
        all_of_them(),
    );
    let plain = json!({"command": "grep", "args": ["Max file locks", "/proc/self/limits"]});
    let number = |body: &Value| -> u64 {
        let line = server.run(body)["stdout"].as_str().unwrap().to_owned();
        let field = line.split_whitespace().nth(3).unwrap().to_owned();
        field.parse().unwrap_or(u64::MAX)
    };
    assert_eq!(number(&plain) >> 14, number(&marked) >> 14);
}

fn null_is_absent_and_a_number_may_be_a_float(backend: Backend) {
    let server = Server::open(backend);
    let body = r#"{"command":"sh","args":["-c","ulimit -n"],
        "limits":{"nofile":64.0,"pids":null,"memoryBytes":null,"cpuSeconds":1e3}}"#;
    let answer = server.post_text("/v1/processes/run", body).expect(200);
    assert_eq!(answer.json()["stdout"], "64\n");
}

#[track_caller]
fn refused(answer: &Response, status: u16, parts: &[&str]) -> Value {
    let problem = answer.problem(status, "invalid_request");
    let detail = problem["detail"].as_str().unwrap();
    for part in parts {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    problem
}

/// Nothing was started.
#[track_caller]
fn nothing_is_listed(server: &Server) {
    let list = server.get("/v1/processes").json();
    assert_eq!(list["processes"], json!([]));
}

fn what_is_no_amount_is_422_by_its_name(backend: Backend) {
    let server = Server::open(backend);
    for target in TARGETS {
        for wrong in [
            "-1",
            "1.5",
            "\"1\"",
            "true",
            "[1]",
            "{}",
            "1e30",
            "18446744073709551616",
        ] {
            let body = format!("{{\"command\":\"true\",\"limits\":{{\"pids\":{wrong}}}}}");
            let allowed = "a whole number that is not negative, or null";
            refused(
                &server.post_text(target, &body),
                422,
                &["limits.pids", allowed],
            );
        }
        for wrong in ["[]", "[1,2]", "7", "\"pids\"", "true"] {
            let body = format!("{{\"command\":\"true\",\"limits\":{wrong}}}");
            refused(
                &server.post_text(target, &body),
                422,
                &["limits", "an object of limits"],
            );
        }
        let twice = r#"{"command":"true","limits":{"nofile":7,"nofile":8}}"#;
        refused(
            &server.post_text(target, twice),
            422,
            &["duplicate field `nofile`"],
        );
    }
    nothing_is_listed(&server);
}

fn nothing_is_400_where_it_would_stop_everything(backend: Backend) {
    let server = Server::open(backend);
    let stops = [
        "memoryBytes",
        "cpuMillis",
        "pids",
        "nofile",
        "addressSpaceBytes",
        "cpuSeconds",
        "outputBytesPerSecond",
    ];
    for target in TARGETS {
        for key in stops {
            let body = with_limits(sh("exit 0"), json!({key: 0}));
            let answer = server.post(target, &body);
            refused(&answer, 400, &[&format!("limits.{key} must be at least 1")]);
        }
        // Before what cannot be kept to here.
        let both = with_limits(sh("exit 0"), json!({"memoryBytes": 1 << 30, "nofile": 0}));
        refused(&server.post(target, &both), 400, &["limits.nofile"]);
    }
    nothing_is_listed(&server);
    for key in ["coreBytes", "fileBytes"] {
        let body = with_limits(sh("exit 0"), json!({key: 0}));
        assert_eq!(server.run(&body)["exitCode"], 0, "{key}");
    }
}

fn more_than_the_server_may_have_is_400_and_says_how_much(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token"])
        .through_exec(&["prlimit", "--nofile=500:500", "--cpu=90:100"])
        .start();
    for target in TARGETS {
        for (limits, parts) in [
            (json!({"nofile": 501}), ["limits.nofile", "at most 500"]),
            (
                json!({"cpuSeconds": 101}),
                ["limits.cpuSeconds", "at most 100"],
            ),
        ] {
            let answer = server.post(target, &with_limits(sh("exit 0"), limits));
            assert_eq!(refused(&answer, 400, &parts)["code"], "limit_too_high");
        }
    }
    nothing_is_listed(&server);
    // As much as the server; there is no room for the five seconds more.
    let most = with_limits(
        sh("ulimit -n; ulimit -Ht"),
        json!({"nofile": 500, "cpuSeconds": 98}),
    );
    assert_eq!(lines_of_run(&server, &most), ["500", "100"]);
}

fn unknown_names_are_refused_where_that_is_asked_for(backend: Backend) {
    let server = Server::open(backend);
    let body = with_limits(sh("exit 0"), json!({"nofiles": 5, "memory": "64M"}));
    assert_eq!(server.run(&body)["exitCode"], 0);
    let headers = [
        ("Content-Type", "application/json"),
        ("Prefer", "handling=strict"),
    ];
    for target in TARGETS {
        let text = body.to_string();
        let answer = server.request("POST", target, &headers, text.as_bytes());
        let parts = ["limits.nofiles (nearest known: nofile)", "limits.memory "];
        refused(&answer, 422, &parts);
        let fine = with_limits(sh("exit 0"), json!({"nofile": 50})).to_string();
        let answer = server.request("POST", target, &headers, fine.as_bytes());
        answer.expect(200);
    }
}

fn the_command_line_gives_defaults_and_maxima(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token", "--default-limits", "nofile=60,fileBytes=1K"])
        .args(&["--max-limits", "nofile=70,cpuSeconds=33"])
        .start();
    let show = "ulimit -n; ulimit -f; ulimit -St";
    assert_eq!(lines_of_run(&server, &sh(show)), ["60", "2", "33"]);
    let own = json!({"nofile": 70, "fileBytes": 2048, "cpuSeconds": 7});
    let asked = with_limits(sh(show), own);
    assert_eq!(lines_of_run(&server, &asked), ["70", "4", "7"]);
    for target in TARGETS {
        let answer = server.post(target, &with_limits(sh(show), json!({"nofile": 71})));
        let problem = refused(
            &answer,
            400,
            &["limits.nofile must be at most 70", "--max-limits"],
        );
        assert_eq!(problem["code"], "limit_too_high");
    }
    // As variables, too.
    let server = Launch::new(backend)
        .args(&["--no-token"])
        .env("PROCRING_DEFAULT_LIMITS", "nofile=61,coreBytes=0")
        .start();
    assert_eq!(
        lines_of_run(&server, &sh("ulimit -n; ulimit -c")),
        ["61", "0"]
    );
}

fn who_asks_for_a_group_without_one_hears_what_is_missing(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token", "--cgroup", "off"])
        .start();
    for target in TARGETS {
        for key in ["memoryBytes", "swapBytes", "cpuMillis", "pids"] {
            let body = with_limits(sh("exit 0"), json!({key: 1 << 30}));
            let problem = server.post(target, &body).problem(501, "not_implemented");
            assert_eq!(problem["code"], "limits_unavailable");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains(&format!("limits.{key}")), "{detail}");
        }
    }
    nothing_is_listed(&server);
}

fn limits_are_a_capability(backend: Backend) {
    let server = Server::open(backend);
    let told = server.get("/v1/server").json();
    let words = told["capabilities"].as_array().unwrap();
    assert!(words.contains(&json!("limits")), "{told}");
}

#[test]
fn a_server_that_may_have_no_descriptors_says_so_in_a_sentence() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    for few in ["0", "2", "40"] {
        let output = std::process::Command::new("prlimit")
            .args([
                &format!("--nofile={few}:{few}"),
                env!("CARGO_BIN_EXE_procring"),
            ])
            .args(["server", "--listen", "127.0.0.1:0", "--no-token"])
            .output()
            .expect("prlimit");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{few}: {errors}");
        let said = format!("procring: at most {few} descriptors");
        assert!(errors.starts_with(&said), "{few}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{few}: {errors}");
    }
    // From outside, while it runs: nobody can be waited for, and it ends.
    let mut server = Server::open(Backend::Epoll);
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    prlimit(Pid::from_raw(server.pid), Resource::Nofile, none).expect("a limit");
    let _ = std::net::TcpStream::connect(server.address);
    let status = server.await_end(crate::harness::WAIT);
    assert_eq!(status.code(), Some(1));
    eventually("its last line", || server.stderr_has_ended().then_some(()));
    let told = server.stderr();
    assert!(told.contains("RLIMIT_NOFILE) was set to 0"), "{told}");
}
