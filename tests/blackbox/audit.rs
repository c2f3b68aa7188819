//! The audit log: who changed what, who was refused, and that a full disk refuses nothing.

use serde_json::{Value, json};

use crate::harness::{Backend, Folder, Launch, Server, eventually, on_both, sh};

on_both!(
    changes_and_refusals_are_in_it_and_reads_are_not,
    who_has_no_token_is_known_by_its_address,
    a_file_that_was_moved_is_made_anew_on_a_hangup,
    a_full_disk_refuses_nothing_and_is_told,
    a_change_whose_client_has_gone_is_in_it,
);

/// The file of one test; goes with it.
struct Log(Folder);

impl Log {
    fn new(name: &str, backend: Backend) -> Self {
        Self(Folder::new(&format!("audit-{name}"), backend))
    }

    fn path(&self) -> String {
        self.0.file("log")
    }

    fn launch(&self, backend: Backend) -> Launch {
        Launch::new(backend).args(&["--audit-log", &self.path()])
    }

    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path()).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    /// Its lines, once there are so many.
    #[track_caller]
    fn await_lines(&self, count: usize) -> Vec<Value> {
        eventually("the lines", || {
            let lines = self.lines();
            (lines.len() >= count).then_some(lines)
        })
    }
}

fn changes_and_refusals_are_in_it_and_reads_are_not(backend: Backend) {
    let log = Log::new("changes", backend);
    let server = log.launch(backend).args(&["--token", "s3cret"]).start();
    let ask = |method: &str, target: &str, body: &str| {
        let headers = [
            ("Authorization", "Bearer s3cret"),
            ("Content-Type", "application/json"),
            ("X-Request-Id", "r-7"),
        ];
        server.request(method, target, &headers, body.as_bytes())
    };
    let body = r#"{"command":"sh","name":"web","args":["-c","cat","an-argument"]}"#;
    let created = ask("POST", "/v1/processes", body).expect(200).json();
    let id = &created["id"];
    ask("GET", "/v1/processes/web", "").expect(200);
    ask("GET", "/v1/processes", "").expect(200);
    let input = r#"{"data":"an-input","encoding":"utf8"}"#;
    ask("POST", "/v1/processes/web/input", input).expect(200);
    ask(
        "POST",
        "/v1/processes/web/kill?waitMs=9000&access_token=s3cret",
        "",
    )
    .expect(200);
    ask("DELETE", "/v1/processes/web", "").expect(204);
    ask("POST", "/v1/processes/run", r#"{"command":"true"}"#).expect(200);
    server.get("/v1/processes?access_token=wrong").expect(401);
    ask("POST", "/v1/processes/web/kill", "").expect(404);
    let lines = log.await_lines(7);
    let of: Vec<_> = lines
        .iter()
        .map(|line| (line["action"].as_str(), line["status"].as_u64().unwrap()))
        .collect();
    assert_eq!(
        of,
        [
            (Some("createProcess"), 200),
            (Some("sendProcessInput"), 200),
            (Some("killProcess"), 200),
            (Some("deleteProcess"), 204),
            (Some("runProcess"), 200),
            (None, 401),
            (Some("killProcess"), 404),
        ]
    );
    for line in &lines[..4] {
        assert_eq!((&line["id"], &line["who"]), (id, &json!("token")), "{line}");
        assert_eq!(line["request"], "r-7");
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
        assert!(line["ts"].as_str().unwrap().ends_with('Z'));
    }
    assert_eq!(
        (&lines[0]["command"], &lines[4]["command"]),
        (&json!("sh"), &json!("true"))
    );
    assert_eq!(
        (&lines[5]["reason"], &lines[5]["path"]),
        (&json!("token_invalid"), &json!("/v1/processes"))
    );
    assert!(lines[5]["who"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(
        (&lines[6]["reason"], &lines[6]["id"]),
        (&json!("not_found"), &json!("web"))
    );
    let text = std::fs::read_to_string(log.path()).unwrap();
    for secret in ["s3cret", "wrong", "an-argument", "an-input"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

fn who_has_no_token_is_known_by_its_address(backend: Backend) {
    let log = Log::new("open", backend);
    let server = log.launch(backend).args(&["--no-token"]).start();
    server.run(&sh("exit 0"));
    let lines = log.await_lines(1);
    assert_eq!(lines[0]["who"], lines[0]["peer"]);
    assert!(lines[0]["who"].as_str().unwrap().starts_with("127.0.0.1:"));
}

fn a_file_that_was_moved_is_made_anew_on_a_hangup(backend: Backend) {
    let log = Log::new("moved", backend);
    let moved = Log::new("moved-away", backend);
    let launch = log.launch(backend).args(&["--no-token"]);
    let server = launch.through(&["setsid", "--wait"]).start();
    server.run(&sh("exit 0"));
    log.await_lines(1);
    std::fs::rename(log.path(), moved.path()).unwrap();
    server.run(&sh("exit 0"));
    moved.await_lines(2);
    server.signal(libc::SIGHUP);
    eventually("a file", || {
        std::fs::exists(log.path()).unwrap().then_some(())
    });
    server.run(&sh("exit 0"));
    log.await_lines(1);
    assert_eq!(moved.lines().len(), 2);
}

fn a_full_disk_refuses_nothing_and_is_told(backend: Backend) {
    let args = ["--no-token", "--audit-log", "/dev/full"];
    let server = Launch::new(backend).args(&args).start();
    for _ in 0..3 {
        assert_eq!(server.run(&sh("exit 3"))["exitCode"], 3);
    }
    eventually("a line about it", || {
        let said = server.stderr();
        let line = |line: &&str| line.contains("lines of the audit log are lost");
        said.lines().find(line).map(|line| {
            assert!(
                line.contains("/dev/full: No space left on device"),
                "{line}"
            );
        })
    });
}

fn a_change_whose_client_has_gone_is_in_it(backend: Backend) {
    let log = Log::new("gone", backend);
    let server: Server = log.launch(backend).args(&["--no-token"]).start();
    let body = json!({"command": "sleep", "args": ["77"]}).to_string();
    let mut conn = server.conn();
    conn.send(format!(
        "POST /v1/processes/run HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    ));
    eventually("the run", || {
        let counts = server.get("/v1/server").json()["counts"]["runs"].as_u64();
        (counts == Some(1)).then_some(())
    });
    conn.reset();
    let lines = log.await_lines(1);
    assert_eq!(
        (&lines[0]["action"], &lines[0]["reason"]),
        (&json!("runProcess"), &json!("client_gone"))
    );
    assert_eq!(lines[0]["command"], "sleep");
    assert!(lines[0].get("status").is_none(), "{lines:?}");
}
