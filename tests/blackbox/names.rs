//! Names and labels: given at creation, unique, and as good as an id wherever one may stand.

use serde_json::{Value, json};

use crate::harness::json::keys;
use crate::harness::procfs;
use crate::harness::{Backend, Launch, Problem, Server, Ws, eventually, on_both, sh};
use crate::harness::{skipped_anywhere, ws};
use crate::supervision_bounds::DeadMount;

on_both!(
    a_record_shows_its_name_and_labels_behind_the_keys_of_the_reference,
    a_name_stands_for_the_id_in_every_path,
    a_name_is_taken_until_its_record_goes,
    a_name_is_free_again_after_eviction_and_after_a_failed_start,
    a_name_is_held_while_its_start_hangs,
    of_many_who_want_a_name_one_gets_it,
    names_and_labels_out_of_bounds_are_refused_and_start_nothing,
);

fn with(mut body: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn named(name: &str) -> Value {
    with(json!({"command": "cat"}), &json!({"name": name}))
}

#[track_caller]
fn refused_for(server: &Server, name: &str, holder: &str) {
    let answer = server.post("/v1/processes", &named(name));
    let problem = answer.problem(409, "conflict");
    assert_eq!(problem["code"], "name_taken");
    assert_eq!(problem["details"]["id"], holder);
    assert!(problem["detail"].as_str().unwrap().contains(name));
}

fn a_record_shows_its_name_and_labels_behind_the_keys_of_the_reference(backend: Backend) {
    let server = Server::open(backend);
    let plain = server.post("/v1/processes", &json!({"command": "cat"}));
    let labels = json!({"b": "2", "a": "x=\"\u{e9}", "": ""});
    let refused = with(json!({"command": "cat"}), &json!({"labels": labels}));
    server.post("/v1/processes", &refused).expect(400);
    let labels = json!({"b": "2", "a": "x=\"\u{e9}"});
    let body = with(named("web.1"), &json!({"labels": labels}));
    let both = server.post("/v1/processes", &body);
    let mut expected = keys(plain.text());
    expected.extend(["name".to_owned(), "labels".to_owned()]);
    assert_eq!(keys(both.text()), expected);
    assert_eq!(both.json()["name"], "web.1");
    assert_eq!(both.json()["labels"], labels);
    // The same wherever the record is shown.
    assert_eq!(server.info("proc_2"), both.json());
    let list = server.get("/v1/processes").json();
    assert_eq!(list["processes"][1], both.json());
    let empty = json!({"command": "cat", "name": null, "labels": {}});
    assert_eq!(server.create(&empty)["labels"], json!({}));
    let stopped = server.kill("web.1");
    assert_eq!(
        (&stopped["name"], &stopped["signal"]),
        (&json!("web.1"), &json!("SIGKILL"))
    );
    let answer = server.get("/v1/processes/web.1");
    let order = keys(answer.text());
    assert_eq!(order[order.len() - 3..], ["name", "labels", "signal"]);
}

fn a_name_stands_for_the_id_in_every_path(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&with(named("a-b"), &json!({"tty": true})));
    let path = |behind: &str| format!("/v1/processes/a-b{behind}");
    assert_eq!(server.get(&path("")).json()["id"], *id);
    assert_eq!(server.get("/v1/processes/a%2Db").json()["id"], *id);
    server.feed("a-b", "hello\n");
    server.await_output("a-b", "hello");
    assert_eq!(server.logs("a-b", "")["processId"], *id);
    let size = json!({"cols": 90, "rows": 20});
    assert_eq!(server.post(&path("/terminal/resize"), &size).json(), size);
    let viewer = Ws::ask(&server, &ws::path("a-b", "?mode=ro"), &[]);
    assert_eq!(viewer.unwrap().head.status, 101);
    let signalled = server.post(&path("/signal"), &json!({"signal": "SIGWINCH"}));
    assert_eq!(signalled.json()["id"], *id);
    let stopped = server.post_empty(&path("/stop?waitMs=0")).json();
    assert_eq!(stopped["id"], *id);
    assert_eq!(
        server.post_empty(&path("/kill?waitMs=20000")).json()["status"],
        "exited"
    );
    server.delete(&path("")).expect(204);
    for behind in ["", "/logs"] {
        Problem::no_process("a-b").check(&server.get(&path(behind)));
    }
    Problem::no_process("a-b").check(&server.delete(&path("")));
    Problem::no_process("a-b").check(&server.post_empty(&path("/kill")));
    // What a path names otherwise, and ids, are no names.
    Problem::no_process("config").check(&server.get("/v1/processes/config/logs"));
    Problem::no_process("proc_01").check(&server.get("/v1/processes/proc_01"));
}

fn a_name_is_taken_until_its_record_goes(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&named("db"));
    refused_for(&server, "db", &id);
    // Names differ by case, and none is the beginning of another.
    server.spawn(&named("DB"));
    server.spawn(&named("d"));
    server.kill("db");
    refused_for(&server, "db", &id);
    assert_eq!(server.get("/v1/processes/db").json()["id"], *id);
    server.delete("/v1/processes/db").expect(204);
    // The refusals have not used up an id.
    assert_eq!(server.spawn(&named("db")), "proc_4");
    assert_eq!(server.get("/v1/processes/db").json()["id"], "proc_4");
}

fn a_name_is_free_again_after_eviction_and_after_a_failed_start(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token", "--max-exited", "1"])
        .start();
    let first = server.spawn(&with(sh("exit 0"), &json!({"name": "job"})));
    server.await_exit(&first);
    refused_for(&server, "job", &first);
    let other = server.spawn(&sh("exit 0"));
    server.await_exit(&other);
    eventually("the first record to make room", || {
        (server.get("/v1/processes/job").status == 404).then_some(())
    });
    let missing = json!({"command": "/no/such/program", "name": "job"});
    server.post("/v1/processes", &missing).expect(502);
    let bad = json!({"command": "nul\u{0}byte", "name": "job"});
    server.post("/v1/processes", &bad).expect(502);
    assert_eq!(server.create(&named("job"))["name"], "job");
}

fn a_name_is_held_while_its_start_hangs(backend: Backend) {
    let server = Server::open(backend);
    let Some(mount) = DeadMount::new(backend) else {
        return skipped_anywhere("no FUSE file system can be mounted; hung starts are not tested");
    };
    let program = format!("{}/program", mount.path.to_str().unwrap());
    let body = json!({"command": program, "name": "slow"});
    std::thread::scope(|scope| {
        let hung = scope.spawn(|| server.post("/v1/processes", &body));
        eventually("a start that hangs", || procfs::starting(server.pid).pop());
        let second = json!({"command": "true", "name": "slow"});
        let holder = server
            .post("/v1/processes", &second)
            .problem(409, "conflict");
        let id = holder["details"]["id"].as_str().unwrap();
        // A start that has taken a second is listed: it can be seen and ended.
        let listed = eventually("the start to be listed", || {
            let list = server.get("/v1/processes?name=slow").json();
            list["processes"].as_array().unwrap().first().cloned()
        });
        for of in [&listed, &server.info(id), &server.info("slow")] {
            assert_eq!((&of["id"], &of["status"]), (&json!(id), &json!("running")));
            assert_eq!(of["pid"], json!(null));
        }
        // The mount's end fails the start, and gives the name back.
        drop(mount);
        hung.join().unwrap().expect(502);
    });
    server.spawn(&named("slow"));
}

fn of_many_who_want_a_name_one_gets_it(backend: Backend) {
    let server = Server::open(backend);
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| server.post("/v1/processes", &named("one")).status))
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let count = |status| answers.iter().filter(|of| **of == status).count();
    assert_eq!((count(200), count(409)), (1, 7), "{answers:?}");
}

fn names_and_labels_out_of_bounds_are_refused_and_start_nothing(backend: Backend) {
    let server = Server::open(backend);
    let many: Value = (0..17).map(|n| (n.to_string(), json!("v"))).collect();
    let long = |len: usize| "x".repeat(len);
    for (field, value, status) in [
        ("name", json!(""), 400),
        ("name", json!("proc_1"), 400),
        ("name", json!("run"), 400),
        ("name", json!("config"), 400),
        ("name", json!("a/b"), 400),
        ("name", json!("\u{e9}"), 400),
        ("name", json!(long(65)), 400),
        ("name", json!(7), 422),
        ("labels", many, 400),
        ("labels", json!({"": "v"}), 400),
        ("labels", json!({long(64): "v"}), 400),
        ("labels", json!({"k": long(257)}), 400),
        ("labels", json!({"k": 1}), 422),
        ("labels", json!({"k": null}), 422),
        ("labels", json!([]), 422),
    ] {
        let body = with(json!({"command": "true"}), &json!({field: value}));
        let problem = server
            .post("/v1/processes", &body)
            .problem(status, "invalid_request");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(field), "{detail}");
    }
    assert_eq!(server.get("/v1/processes").json(), json!({"processes": []}));
    let most: Value = (0..16).map(|n| (n.to_string(), json!("v"))).collect();
    let body = with(named(&long(64)), &json!({"labels": most}));
    let created = server.create(&body);
    assert_eq!(
        (&created["id"], &created["labels"]),
        (&json!("proc_1"), &most)
    );
    let label = json!({long(63): long(256)});
    let body = json!({"command": "true", "labels": label});
    assert_eq!(server.create(&body)["labels"], label);
}
