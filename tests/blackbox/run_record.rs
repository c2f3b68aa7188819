//! `record` of a run: a record from its start, with logs, that outlives its answer.

use serde_json::{Value, json};

use crate::harness::json::keys;
use crate::harness::lines::run_request;
use crate::harness::sse::bytes_of;
use crate::harness::{Backend, Follow, Launch, Server, eventually, on_both, sh};

on_both!(
    a_recorded_run_is_answered_and_stays_with_its_log,
    while_it_runs_it_is_a_process_like_others,
    what_is_kept_for_the_answer_does_not_bound_the_log,
    its_client_may_go_and_the_record_tells_what_became_of_it,
    a_start_that_fails_leaves_no_record_and_frees_the_name,
    names_and_labels_are_those_of_records,
    a_timeout_is_told_by_both,
    what_it_leaves_behind_is_shown_in_the_same_record,
    answers_are_whole_while_records_make_room_for_others,
    it_takes_no_place_of_a_managed_process,
    its_input_may_come_later,
);

const RUN: &str = "/v1/processes/run";

fn recorded(script: &str) -> Value {
    let mut body = sh(script);
    body["record"] = json!(true);
    body
}

fn list(server: &Server) -> Vec<Value> {
    let list = server.get("/v1/processes").json();
    list["processes"].as_array().unwrap().clone()
}

/// Sends a run and gives the connection on which it will be answered.
fn send(server: &Server, body: &Value) -> crate::harness::Conn {
    let mut conn = server.conn();
    conn.send(run_request("1.1", &[], body));
    conn
}

/// The record that a run which waits for its file has become.
fn await_running(server: &Server, name: &str) -> Value {
    eventually(&format!("{name} to run"), || {
        let found = server.get(&format!("/v1/processes/{name}"));
        (found.status == 200).then(|| found.json())
    })
}

fn a_recorded_run_is_answered_and_stays_with_its_log(backend: Backend) {
    let server = Server::open(backend);
    let answer = server.post(RUN, &recorded("printf out; printf errors >&2; exit 3"));
    let run = answer.json();
    let order = [
        "exitCode",
        "timedOut",
        "stdout",
        "stderr",
        "stdoutTruncated",
        "stderrTruncated",
        "durationMs",
        "stdoutBytes",
        "stderrBytes",
        "processId",
    ];
    assert_eq!(keys(answer.text()), order);
    assert_eq!(
        (&run["stdout"], &run["stderr"]),
        (&json!("out"), &json!("errors"))
    );
    assert_eq!(
        (&run["stdoutBytes"], &run["stderrBytes"]),
        (&json!(3), &json!(6))
    );
    let id = run["processId"].as_str().unwrap();
    let info = server.info(id);
    assert_eq!(
        (&info["status"], &info["exitCode"]),
        (&json!("exited"), &json!(3))
    );
    assert_eq!(info["command"], "sh");
    assert_eq!(server.output(id, "stdout"), b"out");
    assert_eq!(server.output(id, "stderr"), b"errors");
    // An ordinary run leaves nothing.
    let run = server.run(&json!({"command": "true", "record": false}));
    assert_eq!((run.get("processId"), run.get("stdoutBytes")), (None, None));
    assert_eq!(list(&server).len(), 1);
    server.delete(&format!("/v1/processes/{id}")).expect(204);
    assert!(list(&server).is_empty());
}

fn while_it_runs_it_is_a_process_like_others(backend: Backend) {
    let server = Server::open(backend);
    let mut body =
        recorded("trap 'echo bye; exit 7' TERM; echo here; while :; do sleep 0.05; done");
    body["name"] = json!("worker");
    body["labels"] = json!({"kind": "test"});
    let mut conn = send(&server, &body);
    let info = await_running(&server, "worker");
    let id = info["id"].as_str().unwrap();
    assert_eq!(
        (&info["status"], &info["labels"]),
        (&json!("running"), &json!({"kind": "test"}))
    );
    assert!(info["pid"].as_i64().is_some_and(|pid| pid > 1), "{info}");
    server.await_output(id, "here");
    let mut follow = Follow::process(&server, id);
    assert_eq!(bytes_of(&follow.take(1), "stdout"), b"here\n");
    server.delete("/v1/processes/worker").expect(409);
    let input = json!({"data": "x", "encoding": "utf8"});
    let refused = server.post("/v1/processes/worker/input", &input);
    assert_eq!(refused.problem(409, "conflict")["code"], "stdin_closed");
    let stopped = server
        .post_empty("/v1/processes/worker/stop?waitMs=20000")
        .json();
    assert_eq!(
        (&stopped["status"], &stopped["exitCode"]),
        (&json!("exited"), &json!(7))
    );
    let run = conn.response("POST").json();
    assert_eq!(
        (&run["stdout"], &run["exitCode"]),
        (&json!("here\nbye\n"), &json!(7))
    );
    assert_eq!(run["processId"], id);
    let rest = follow.rest();
    assert_eq!(bytes_of(&rest, "stdout"), b"bye\n");
    assert_eq!(rest.last().unwrap().event("exit")["exitCode"], 7);
}

fn what_is_kept_for_the_answer_does_not_bound_the_log(backend: Backend) {
    let server = Server::open(backend);
    let all: String = (100_000..120_000).map(|n| format!("{n}\n")).collect();
    for (keep, stdout, tail) in [
        ("head", &all[..100], None),
        ("tail", &all[all.len() - 100..], None),
        ("both", &all[..50], Some(&all[all.len() - 50..])),
    ] {
        let mut body = recorded("i=100000; while [ $i -lt 120000 ]; do echo $i; i=$((i+1)); done");
        body["keep"] = json!(keep);
        body["maxOutputBytes"] = json!(100);
        let run = server.run(&body);
        assert_eq!(
            (&run["stdout"], run.get("stdoutTail")),
            (&json!(stdout), tail.map(|t| json!(t)).as_ref())
        );
        assert_eq!(run["stdoutBytes"], all.len());
        let id = run["processId"].as_str().unwrap();
        assert!(server.output(id, "stdout") == all.as_bytes(), "{keep}");
    }
    // The log has the limit that every log has.
    server.configure(&[("maxLogBytesPerProcess", 1000)]);
    let run = server.run(&recorded("head -c 50000 /dev/zero | tr '\\0' x; echo end"));
    assert_eq!(run["stdout"].as_str().unwrap().len(), 50_004);
    let id = run["processId"].as_str().unwrap();
    let kept = server.output(id, "stdout");
    assert!(
        kept.len() <= 1000 && kept.ends_with(b"end\n"),
        "{}",
        kept.len()
    );
}

fn its_client_may_go_and_the_record_tells_what_became_of_it(backend: Backend) {
    let server = Server::open(backend);
    let mut body = recorded("echo here; sleep 77");
    body["name"] = json!("killed");
    let conn = send(&server, &body);
    let id = await_running(&server, "killed")["id"]
        .as_str()
        .unwrap()
        .to_owned();
    conn.reset();
    let info = server.await_exit(&id);
    assert_eq!(info["signal"], "SIGKILL");
    assert!(server.survivors().is_empty());

    let mut body = recorded("echo here; sleep 1; echo later");
    body["name"] = json!("lives");
    body["killOnDisconnect"] = json!(false);
    let conn = send(&server, &body);
    let id = await_running(&server, "lives")["id"]
        .as_str()
        .unwrap()
        .to_owned();
    conn.reset();
    let info = server.await_exit(&id);
    assert_eq!((&info["exitCode"], info.get("signal")), (&json!(0), None));
    assert_eq!(server.output(&id, "stdout"), b"here\nlater\n");
    eventually("no connections", || {
        (server.connections() == 0).then_some(())
    });
}

fn a_start_that_fails_leaves_no_record_and_frees_the_name(backend: Backend) {
    let server = Server::open(backend);
    let mut body = json!({"command": "/no/such/program", "record": true, "name": "same"});
    for _ in 0..3 {
        server.post(RUN, &body).expect(502);
    }
    body["args"] = json!(["a\u{0}b"]);
    server.post(RUN, &body).expect(502);
    assert!(list(&server).is_empty());
    let mut body = recorded("true");
    body["name"] = json!("same");
    assert_eq!(server.run(&body)["exitCode"], 0);
    assert_eq!(list(&server).len(), 1);
}

fn names_and_labels_are_those_of_records(backend: Backend) {
    let server = Server::open(backend);
    for key in ["name", "labels"] {
        let mut body = sh("true");
        body[key] = if key == "name" {
            json!("a")
        } else {
            json!({"a": "b"})
        };
        let problem = server.post(RUN, &body).problem(400, "invalid_request");
        assert!(
            problem["detail"].as_str().unwrap().contains("record"),
            "{problem}"
        );
    }
    let mut body = recorded("true");
    body["name"] = json!("proc_7");
    server.post(RUN, &body).expect(400);
    body["name"] = json!("mine");
    let id = server.run(&body)["processId"].clone();
    let problem = server.post(RUN, &body).problem(409, "conflict");
    assert_eq!(
        (&problem["code"], &problem["details"]["id"]),
        (&json!("name_taken"), &id)
    );
    server
        .post("/v1/processes", &json!({"command": "true", "name": "mine"}))
        .expect(409);
    server.delete("/v1/processes/mine").expect(204);
    server.post(RUN, &body).expect(200);
    server
        .post(RUN, &json!({"command": "true", "record": "yes"}))
        .expect(422);
}

fn a_timeout_is_told_by_both(backend: Backend) {
    let server = Server::open(backend);
    let mut body = recorded("echo before; sleep 77");
    body["timeoutMs"] = json!(300);
    let run = server.run(&body);
    assert_eq!(
        (&run["timedOut"], &run["stdout"]),
        (&json!(true), &json!("before\n"))
    );
    let info = server.info(run["processId"].as_str().unwrap());
    assert_eq!(
        (&info["status"], &info["signal"]),
        (&json!("exited"), &json!("SIGKILL"))
    );
    assert!(server.survivors().is_empty());
}

fn what_it_leaves_behind_is_shown_in_the_same_record(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token", "--max-leftovers", "1"])
        .start();
    let leave = || {
        let script = "(sleep 0.5; echo late; exec sleep 77) & echo now";
        let run = server.run(&recorded(script));
        assert_eq!(run["stdout"], "now\n");
        run["processId"].as_str().expect("an id").to_owned()
    };
    let first = leave();
    assert!(server.info(&first)["descendants"].is_u64());
    assert_eq!(list(&server).len(), 1, "one record, not two");
    server.await_output(&first, "now\nlate\n");
    // Both are of those that --max-leftovers bounds.
    let second = leave();
    eventually("the first tree to end", || {
        server
            .info(&first)
            .get("descendants")
            .is_none()
            .then_some(())
    });
    assert!(server.info(&second)["descendants"].is_u64());
    server
        .delete(&format!("/v1/processes/{second}?tree=true"))
        .expect(204);
    assert!(server.survivors().is_empty());
}

fn answers_are_whole_while_records_make_room_for_others(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token", "--max-exited", "1"])
        .start();
    std::thread::scope(|scope| {
        for client in 0..8 {
            let server = &server;
            scope.spawn(move || {
                for round in 0..10 {
                    let text = format!("{client}-{round}");
                    let run = server.run(&recorded(&format!("sleep 0.02; printf {text}")));
                    assert_eq!(
                        (&run["stdout"], &run["exitCode"]),
                        (&json!(text), &json!(0))
                    );
                    assert!(run["processId"].is_string());
                }
            });
        }
    });
    assert_eq!(list(&server).len(), 1);
}

fn it_takes_no_place_of_a_managed_process(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxConcurrentProcesses", 1)]);
    let cat = server.spawn(&json!({"command": "cat"}));
    assert_eq!(server.run(&recorded("true"))["exitCode"], 0);
    server
        .post("/v1/processes", &json!({"command": "cat"}))
        .expect(409);
    server.kill(&cat);
    server.spawn(&json!({"command": "cat"}));
}

fn its_input_may_come_later(backend: Backend) {
    let server = Server::open(backend);
    let mut body = recorded("cat; echo end");
    body["stdinOpen"] = json!(true);
    body["name"] = json!("fed");
    let mut waiting = send(&server, &body);
    await_running(&server, "fed");
    let id = server.get("/v1/processes/fed").json()["id"].clone();
    let id = id.as_str().unwrap();
    server.feed(id, "one ");
    let target = format!("/v1/processes/{id}/stdin?eof=true");
    server
        .request("POST", &target, &[("Content-Type", "text/plain")], b"two\n")
        .expect(200);
    let answer = waiting.response("POST").expect(200).json();
    assert_eq!(answer["stdout"], "one two\nend\n");
    // It is for records, and for nothing that is there already.
    for (field, value) in [("record", json!(false)), ("stdin", json!("x"))] {
        let mut wrong = body.clone();
        wrong["name"] = json!(null);
        wrong[field] = value;
        let problem = server.post(RUN, &wrong).expect(400);
        assert!(problem.text().contains("stdinOpen"), "{}", problem.text());
    }
}
