//! `GET /v1/server`: what the server is, what works here and what does not, and how much of it there
//! is.

use serde_json::{Value, json};

use crate::harness::json::keys;
use crate::harness::{Backend, Launch, Server, eventually, on_both, sh};

on_both!(
    the_server_says_what_it_is_and_what_it_keeps_to,
    what_there_is_of_everything_is_counted,
    what_does_not_work_is_said_at_the_start_and_when_asked,
    defaults_that_cannot_be_kept_are_said_at_the_start,
    a_server_in_groups_misses_none,
    who_has_no_token_learns_nothing,
);

/// What the server tells of itself.
fn info(server: &Server) -> Value {
    server.get("/v1/server").expect(200).json()
}

fn words(info: &Value) -> Vec<&str> {
    let words = info["capabilities"].as_array().unwrap();
    words.iter().map(|word| word.as_str().unwrap()).collect()
}

fn missing(info: &Value) -> Vec<String> {
    let sentences = info["missing"].as_array().unwrap();
    let text = |sentence: &Value| sentence.as_str().unwrap().to_owned();
    sentences.iter().map(text).collect()
}

fn the_server_says_what_it_is_and_what_it_keeps_to(backend: Backend) {
    let args = ["--no-token", "--max-exited", "7", "--max-connections", "99"];
    let server = Launch::new(backend).args(&args).start();
    let answer = server.get("/v1/server").expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        keys(answer.text()),
        [
            "name",
            "version",
            "backend",
            "startedAtMs",
            "pid",
            "capabilities",
            "limits",
            "counts",
            "memory",
            "missing"
        ]
    );
    let told = answer.json();
    assert_eq!(told["name"], "procring");
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(told["backend"], backend.word());
    assert_eq!(
        words(&told).contains(&"io_uring"),
        backend == Backend::Uring
    );
    assert_eq!(told["pid"], server.pid);
    let created = server.create(&json!({"command": "true"}));
    let started = told["startedAtMs"].as_u64().unwrap();
    assert!(started > 1_600_000_000_000 && started <= created["createdAtMs"].as_u64().unwrap());
    // The six limits as they are in force, and what the command line says.
    server.configure(&[("maxOutputBytes", 4711)]);
    let limits = &info(&server)["limits"];
    let config = server.get("/v1/processes/config").json();
    for (name, value) in config.as_object().unwrap() {
        assert_eq!(limits[name], *value, "{name}");
    }
    assert_eq!(limits["maxOutputBytes"], 4711);
    assert_eq!(limits["maxExited"], 7);
    assert_eq!(limits["maxConnections"], 99);
    assert_eq!(limits["maxRequestBodyBytes"], 2 << 20);
    let head = server.request("HEAD", "/v1/server", &[], b"");
    head.expect_empty(200);
}

fn what_there_is_of_everything_is_counted(backend: Backend) {
    let server = Server::open(backend);
    let counts = |name: &str| info(&server)["counts"][name].as_u64().unwrap();
    let all = ["runningProcesses", "exitedProcesses", "leftovers", "runs"];
    assert_eq!(all.map(counts), [0; 4]);
    let lives = server.spawn(&json!({"command": "cat"}));
    let ended = server.spawn(&json!({"command": "true"}));
    server.await_exit(&ended);
    assert_eq!(all.map(counts), [1, 1, 0, 0]);
    // A run that waits, on a connection of its own.
    let mut runner = server.conn();
    let body = json!({"command": "cat", "args": ["/dev/zero"], "maxOutputBytes": 1}).to_string();
    let head = format!(
        "POST /v1/processes/run HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        server.address,
        body.len()
    );
    runner.send([head, body].concat());
    eventually("the run to count", || (counts("runs") == 1).then_some(()));
    // The runner's, and that of whoever asks.
    assert!(counts("connections") >= 2);
    runner.reset();
    eventually("the run to end", || (counts("runs") == 0).then_some(()));
    // What a run leaves is a record.
    let left = server.run(&sh("setsid sleep 77 >/dev/null 2>&1 & exit 0"));
    let id = left["processId"].as_str().expect("a record").to_owned();
    assert_eq!(all.map(counts), [1, 2, 1, 0]);
    server.kill(&id);
    server.kill(&lives);
    assert_eq!(all.map(counts), [0, 3, 0, 0]);
}

fn what_does_not_work_is_said_at_the_start_and_when_asked(backend: Backend) {
    let args = ["--no-token", "--cgroup", "off"];
    let server = Launch::new(backend).args(&args).start();
    // Asked at once, while the start may still be finding out.
    let told = info(&server);
    assert!(!words(&told).contains(&"cgroup"), "{told}");
    let sentences = missing(&told);
    let about = |what: &str| sentences.iter().filter(|of| of.contains(what)).count();
    assert_eq!(about("(--cgroup off)"), 1, "{sentences:?}");
    assert_eq!(about("hides on purpose"), 1, "{sentences:?}");
    let denied = usize::from(backend == Backend::Epoll);
    assert_eq!(about("io_uring is not available"), denied, "{sentences:?}");
    for sentence in &sentences {
        let said = || {
            let said = server.stderr();
            said.lines().filter(|line| line.ends_with(sentence)).count()
        };
        // It was written before the answer; the harness may have yet to read it.
        eventually(sentence, || (said() > 0).then_some(()));
        assert_eq!(said(), 1, "{sentence}: {}", server.stderr());
    }
    assert_eq!(missing(&info(&server)), sentences);
}

fn defaults_that_cannot_be_kept_are_said_at_the_start(backend: Backend) {
    for (flag, value, name) in [
        (
            "--default-limits",
            "memoryBytes=64M,nofile=99",
            "memoryBytes",
        ),
        ("--max-limits", "pids=9", "pids"),
    ] {
        let args = ["--no-token", "--cgroup", "off", flag, value];
        let server = Launch::new(backend).args(&args).start();
        let line = eventually("a line about it", || {
            let said = server.stderr();
            let line = said.lines().find(|line| line.contains("is refused (501"));
            line.map(str::to_owned)
        });
        assert!(
            line.contains(&format!("each of them {name}, which")),
            "{line}"
        );
        assert!(line.contains("warn"), "{line}");
        let told = missing(&info(&server));
        let same = told.iter().filter(|sentence| line.ends_with(*sentence));
        assert_eq!(same.count(), 1, "{told:?}");
        for path in ["/v1/processes", "/v1/processes/run"] {
            server.post(path, &sh("exit 0")).expect(501);
        }
    }
}

fn a_server_in_groups_misses_none(backend: Backend) {
    let server = Server::open(backend);
    let told = info(&server);
    let seen = server.run(&sh("grep -q procring- /proc/self/cgroup"));
    let in_a_group = seen["exitCode"] == 0;
    assert_eq!(words(&told).contains(&"cgroup"), in_a_group, "{told}");
    let says_none = missing(&told).iter().any(|of| of.contains("no cgroup"));
    assert_eq!(says_none, !in_a_group, "{told}");
}

fn who_has_no_token_learns_nothing(backend: Backend) {
    let server = Launch::new(backend).args(&["--token", "secret"]).start();
    server.get("/v1/server").expect(401);
    let headers = [("Authorization", "Bearer secret")];
    server
        .request("GET", "/v1/server", &headers, b"")
        .expect(200);
}
