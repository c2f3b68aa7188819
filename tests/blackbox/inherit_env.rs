//! `inheritEnv`: a child that gets nothing of the server's environment.

use serde_json::{Value, json};

use crate::harness::{Backend, Launch, Server, on_both};

on_both!(
    without_inheritance_a_child_has_what_the_request_names_and_a_path,
    by_default_and_with_true_everything_is_inherited,
    the_program_is_looked_up_in_the_path_that_the_child_gets,
    what_is_no_boolean_is_refused,
);

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn server(backend: Backend) -> Server {
    Launch::new(backend)
        .args(&["--no-token"])
        .env("KEPT", "by server")
        .env("TERM", "vt52")
        .start()
}

fn environ(extra: &Value) -> Value {
    let mut body = json!({"command": "cat", "args": ["/proc/self/environ"]});
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn sorted(text: &str) -> Vec<&str> {
    let mut entries: Vec<_> = text.split_terminator('\0').collect();
    entries.sort_unstable();
    entries
}

#[track_caller]
fn of_run(server: &Server, extra: &Value) -> String {
    let answer = server.run(&environ(extra));
    assert_eq!(answer["exitCode"], 0, "{answer}");
    answer["stdout"].as_str().unwrap().to_owned()
}

#[track_caller]
fn of_create(server: &Server, extra: &Value) -> String {
    let id = server.spawn(&environ(extra));
    server.await_exit(&id);
    String::from_utf8(server.output(&id, "combined")).unwrap()
}

fn without_inheritance_a_child_has_what_the_request_names_and_a_path(backend: Backend) {
    let server = server(backend);
    let bare = json!({"inheritEnv": false});
    assert_eq!(
        sorted(&of_run(&server, &bare)),
        [PATH, "TERM=xterm-256color"]
    );
    assert_eq!(sorted(&of_create(&server, &bare)), [PATH]);
    let terminal = json!({"inheritEnv": false, "tty": true});
    assert_eq!(
        sorted(&of_create(&server, &terminal)),
        [PATH, "TERM=xterm-256color"]
    );
    let own = json!({"inheritEnv": false, "env": {"A": "1", "PATH": "/bin", "TERM": "dumb"}});
    for text in [of_run(&server, &own), of_create(&server, &own)] {
        assert_eq!(sorted(&text), ["A=1", "PATH=/bin", "TERM=dumb"]);
    }
}

fn by_default_and_with_true_everything_is_inherited(backend: Backend) {
    let server = server(backend);
    for extra in [json!({}), json!({"inheritEnv": true})] {
        for text in [of_run(&server, &extra), of_create(&server, &extra)] {
            assert!(sorted(&text).contains(&"KEPT=by server"), "{text}");
        }
    }
}

fn the_program_is_looked_up_in_the_path_that_the_child_gets(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token"])
        .env("PATH", "/nowhere")
        .start();
    let found = json!({"command": "true", "inheritEnv": false});
    assert_eq!(server.run(&found)["exitCode"], 0);
    let hidden = json!({"command": "true", "inheritEnv": false, "env": {"PATH": "/nowhere"}});
    server.post("/v1/processes/run", &hidden).expect(502);
    let inherited = json!({"command": "true"});
    server.post("/v1/processes", &inherited).expect(502);
}

fn what_is_no_boolean_is_refused(backend: Backend) {
    let server = server(backend);
    for wrong in [json!(0), json!("false"), json!(null)] {
        for target in ["/v1/processes", "/v1/processes/run"] {
            let body = json!({"command": "true", "inheritEnv": wrong});
            let problem = server.post(target, &body).problem(422, "invalid_request");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("inheritEnv"), "{detail}");
        }
    }
}
