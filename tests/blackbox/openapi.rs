//! `/openapi.json`: it is there for everybody, and its examples are what a server answers.
//!
//! `PROCRING_BLESS=1` writes src/api/openapi/examples.json anew from what the server answers; then
//! docs/openapi.json has to be made anew, too (src/api/openapi/mod.rs).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::harness::{Backend, Launch, Response, Server, on_both};

on_both!(
    the_document_needs_no_token_and_comes_compressed_to_who_takes_that,
    examples_are_what_the_server_answers,
);

fn document(server: &Server) -> Value {
    let answer = server.get("/openapi.json").expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

fn the_document_needs_no_token_and_comes_compressed_to_who_takes_that(backend: Backend) {
    let server = Launch::new(backend).args(&["--token", "secret"]).start();
    let document = document(&server);
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let plain = server.get("/openapi.json").expect(200);
    assert_eq!(plain.header("content-encoding"), None);
    let accept = [("Accept-Encoding", "br, gzip")];
    let short = server
        .request("GET", "/openapi.json", &accept, b"")
        .expect(200);
    assert_eq!(short.header("content-encoding"), Some("gzip"));
    assert!(short.body.starts_with(b"\x1f\x8b\x08"));
    assert!(short.body.len() * 3 < plain.body.len());
    let vary: Vec<_> = short
        .headers
        .iter()
        .filter(|(name, value)| name == "vary" && value == "accept-encoding")
        .collect();
    assert_eq!(vary.len(), 1, "{:?}", short.headers);
    server
        .request("HEAD", "/openapi.json", &[], b"")
        .expect_empty(200);
}

/// What differs from server to server, and from time to time: only that it is there counts.
const VOLATILE: [&str; 12] = [
    "pid",
    "createdAtMs",
    "exitedAtMs",
    "timestampMs",
    "startedAtMs",
    "durationMs",
    "backend",
    "version",
    "capabilities",
    "limits",
    "counts",
    "missing",
];

fn masked(value: &Value) -> Value {
    match value {
        Value::Object(all) => {
            let masked = all.iter().map(|(key, value)| {
                let value = match VOLATILE.contains(&key.as_str()) {
                    true => json!("masked"),
                    false => masked(value),
                };
                (key.clone(), value)
            });
            Value::Object(masked.collect())
        }
        Value::Array(all) => all.iter().map(masked).collect(),
        // Lines with JSON in them.
        Value::String(text) if text.contains('\n') => {
            let lines = text.lines().map(|line| {
                let at = line.find('{').unwrap_or(line.len());
                match serde_json::from_str::<Value>(&line[at..]) {
                    Ok(object) => format!("{}{}", &line[..at], masked(&object)),
                    Err(_) => line.to_owned(),
                }
            });
            json!(lines.collect::<Vec<_>>().join("\n"))
        }
        other => other.clone(),
    }
}

/// What is asked one after the other, and what becomes of it.
struct Script {
    server: Server,
    document: Value,
    seen: Map<String, Value>,
}

impl Script {
    /// Asks, and compares with the example of this name, in whose route the request is.
    fn ask(
        &mut self,
        route: &str,
        name: &str,
        target: &str,
        body: Option<Value>,
        accept: &str,
    ) -> Response {
        let (path, method, operation) = self.operation(route);
        assert!(fits(target, &path), "{target} is no {path}");
        let mut headers = vec![("Accept", accept)];
        let sent = body.as_ref().map(|body| match body {
            Value::String(bytes) => bytes.clone(),
            body => body.to_string(),
        });
        if body.is_some() {
            headers.push(("Content-Type", "application/json"));
        }
        let sent = sent.unwrap_or_default();
        let method = method.to_uppercase();
        let answer = self
            .server
            .request(&method, target, &headers, sent.as_bytes());
        let media = answer.header("content-type").unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default().to_owned();
        let shown = match media.ends_with("json") && media != "application/x-ndjson" {
            true => serde_json::from_slice(&answer.body).unwrap(),
            false => json!(answer.text()),
        };
        let mut example = json!({
            "name": name, "status": answer.status, "media": media, "answer": shown,
        });
        if let Some(body @ Value::Object(_)) = body {
            example["body"] = body;
        }
        self.compare(route, &operation, &example);
        let all = self.seen.entry(route).or_insert_with(|| json!([]));
        all.as_array_mut().unwrap().push(example);
        answer
    }

    fn get(&mut self, route: &str, name: &str, target: &str) -> Response {
        self.ask(route, name, target, None, "*/*")
    }

    fn post(&mut self, route: &str, name: &str, target: &str, body: Value) -> Response {
        self.ask(route, name, target, Some(body), "*/*")
    }

    /// The path and method of a route, and what is said of it.
    fn operation(&self, route: &str) -> (String, String, Value) {
        let paths = self.document["paths"].as_object().unwrap();
        let all = paths.iter().flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (path, method, operation))
        });
        let mut fitting = all.filter(|(_, _, operation)| operation["operationId"] == route);
        let (path, method, operation) = fitting.next().expect("a route of the document");
        (path.clone(), method.clone(), operation.clone())
    }

    fn compare(&self, route: &str, operation: &Value, example: &Value) {
        if blesses() {
            return;
        }
        let name = example["name"].as_str().unwrap();
        let status = example["status"].to_string();
        let media = example["media"].as_str().unwrap();
        let answers = &operation["responses"][&status];
        assert!(answers.is_object(), "{route} does not document {status}");
        if !media.is_empty() {
            let shown = &answers["content"][media]["examples"][name]["value"];
            assert_eq!(
                masked(shown),
                masked(&example["answer"]),
                "{route}, example {name}: documented, and answered; PROCRING_BLESS=1 writes it"
            );
        }
        if let Some(body) = example.get("body") {
            let content = &operation["requestBody"]["content"]["application/json"];
            assert_eq!(content["examples"][name]["value"], *body, "{route}, {name}");
        }
    }
}

fn blesses() -> bool {
    std::env::var_os("PROCRING_BLESS").is_some()
}

/// Whether a target is one of a path.
fn fits(target: &str, path: &str) -> bool {
    let target = target.split('?').next().unwrap_or_default();
    let (target, path) = (target.split('/'), path.split('/'));
    target.clone().count() == path.clone().count()
        && target
            .zip(path)
            .all(|(one, of)| of.starts_with('{') || one == of)
}

fn examples_are_what_the_server_answers(backend: Backend) {
    let server = Server::open(backend);
    let document = document(&server);
    let seen = Map::new();
    let mut asked = Script {
        server,
        document,
        seen,
    };
    let s = &mut asked;
    s.get("root", "root", "/");
    s.get("healthz", "alive", "/healthz");
    s.get("readyz", "ready", "/readyz");
    s.get("health", "health", "/v1/health");
    s.get("getServer", "server", "/v1/server");
    s.post("upgradeServer", "noKeeper", "/v1/server/upgrade", json!(""));
    let launch = Launch::new(backend).args(&["--no-token", "--keep"]);
    let other = std::mem::replace(&mut s.server, launch.start());
    s.post("upgradeServer", "upgraded", "/v1/server/upgrade", json!(""));
    s.server = other;
    let settings = s
        .get("getConfig", "defaults", "/v1/processes/config")
        .json();
    s.post("setConfig", "defaults", "/v1/processes/config", settings);

    let script = "echo ready; read line; echo \"got $line\"";
    let body = json!({
        "command": "sh", "args": ["-c", script], "name": "greeter", "labels": {"team": "a"},
    });
    s.post("createProcess", "pipes", "/v1/processes", body.clone());
    s.post("createProcess", "nameTaken", "/v1/processes", body);
    let body = json!({"command": "/no/such/program"});
    s.post("createProcess", "noProgram", "/v1/processes", body);
    s.get(
        "waitForProcess",
        "text",
        "/v1/processes/greeter/wait?log=ready",
    );
    s.get("getProcess", "running", "/v1/processes/proc_1");
    s.get("getProcess", "unknown", "/v1/processes/proc_99");
    s.get(
        "listProcesses",
        "byLabel",
        "/v1/processes?label=team=a&limit=10",
    );
    s.get("listProcesses", "badLimit", "/v1/processes?limit=0");
    let body = json!({"data": "hello\n", "encoding": "utf8"});
    s.post(
        "sendProcessInput",
        "text",
        "/v1/processes/proc_1/input",
        body.clone(),
    );
    s.get("waitForProcess", "exit", "/v1/processes/proc_1/wait");
    s.post(
        "sendProcessInput",
        "exited",
        "/v1/processes/proc_1/input",
        body,
    );
    s.get("getProcessLogs", "all", "/v1/processes/proc_1/logs");
    s.get(
        "getProcessLogs",
        "text",
        "/v1/processes/proc_1/logs?format=text",
    );
    s.get(
        "getProcessLogs",
        "followed",
        "/v1/processes/proc_1/logs?follow=true",
    );
    s.get("getProcessRawLogs", "all", "/v1/processes/proc_1/logs/raw");

    let cat = s.server.spawn(&json!({"command": "cat"}));
    let stdin = format!("/v1/processes/{cat}/stdin?offset=0");
    s.ask(
        "writeProcessStdin",
        "bytes",
        &stdin,
        Some(json!("abc")),
        "*/*",
    );
    let stdin = format!("/v1/processes/{cat}/stdin?offset=3&eof=true");
    s.ask(
        "uploadProcessStdin",
        "last",
        &stdin,
        Some(json!("def")),
        "*/*",
    );
    s.post(
        "closeProcessStdin",
        "again",
        &format!("/v1/processes/{cat}/stdin/close"),
        json!(""),
    );
    s.server.await_exit(&cat);

    let sleeper = || json!({"command": "sleep", "args": ["77"]});
    let one = s.server.spawn(&sleeper());
    // Nobody is ended by this one.
    let body = json!({"signal": "SIGWINCH", "scope": "leader"});
    s.post(
        "signalProcess",
        "winch",
        &format!("/v1/processes/{one}/signal"),
        body,
    );
    let body = json!({"signal": "SIGNONE"});
    s.post(
        "signalProcess",
        "noSignal",
        &format!("/v1/processes/{one}/signal"),
        body,
    );
    s.post(
        "stopProcess",
        "stopped",
        &format!("/v1/processes/{one}/stop?waitMs=30000"),
        json!(""),
    );
    let two = s.server.spawn(&sleeper());
    s.ask(
        "deleteProcess",
        "running",
        &format!("/v1/processes/{two}"),
        None,
        "*/*",
    );
    s.post(
        "killProcess",
        "killed",
        &format!("/v1/processes/{two}/kill?waitMs=30000"),
        json!(""),
    );
    s.ask(
        "deleteProcess",
        "exited",
        &format!("/v1/processes/{two}"),
        None,
        "*/*",
    );

    let run = "/v1/processes/run";
    let body = json!({"command": "echo", "args": ["hi"]});
    s.post("runProcess", "echo", run, body.clone());
    s.ask(
        "runProcess",
        "lines",
        run,
        Some(body),
        "application/x-ndjson",
    );
    s.post("runProcess", "noCommand", run, json!({}));
    let body = json!({"command": "head", "args": ["-c", "9", "/dev/zero"], "maxOutputBytes": 0, "keep": "tail"});
    s.post("runProcess", "cut", run, body);

    let body = json!({
        "command": "sh", "args": ["-c", "printf hi; exec sleep 77"],
        "tty": true, "cols": 20, "rows": 3,
    });
    let answer = s.post("createProcess", "terminal", "/v1/processes", body);
    let tty = answer.json()["id"].as_str().unwrap().to_owned();
    s.server.await_output(&tty, "hi");
    s.get(
        "getProcessScreen",
        "screen",
        &format!("/v1/processes/{tty}/terminal/screen"),
    );
    let body = json!({"cols": 100, "rows": 30});
    let resize = format!("/v1/processes/{tty}/terminal/resize");
    s.post("resizeProcessTerminal", "larger", &resize, body.clone());
    s.post(
        "resizeProcessTerminal",
        "noTerminal",
        "/v1/processes/proc_1/terminal/resize",
        body,
    );
    s.server.kill(&tty);
    everything_was_shown(&asked);
    if blesses() && backend == Backend::Uring {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/openapi/examples.json");
        let text = serde_json::to_string_pretty(&asked.seen).unwrap() + "\n";
        std::fs::write(path, text).unwrap();
    }
}

/// No example is there that nobody has asked for, and every JSON that is answered or sent has one.
fn everything_was_shown(script: &Script) {
    let mut seen = BTreeSet::new();
    for (route, examples) in &script.seen {
        for example in examples.as_array().unwrap() {
            seen.insert(format!("{route} {}", example["name"].as_str().unwrap()));
        }
    }
    let paths = script.document["paths"].as_object().unwrap();
    let operations = paths
        .values()
        .flat_map(|path| path.as_object().unwrap().values());
    for operation in operations {
        let route = operation["operationId"].as_str().unwrap();
        let check = |content: &Value| {
            let examples = content["examples"].as_object();
            for name in examples.into_iter().flat_map(|all| all.keys()) {
                assert!(
                    seen.contains(&format!("{route} {name}")),
                    "{route} {name} is not asked for"
                );
            }
            // The document itself is none of its examples.
            let has = examples.is_some() || blesses() || route == "openapi";
            assert!(has, "{route}: an answer or a body has no example");
        };
        let body = &operation["requestBody"]["content"]["application/json"];
        if body.is_object() {
            check(body);
        }
        for (status, answer) in operation["responses"].as_object().unwrap() {
            let json = &answer["content"]["application/json"];
            if status.starts_with('2') && json.is_object() {
                check(json);
            }
        }
    }
}
