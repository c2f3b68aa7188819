//! Section 8 (without input), 14.10a and 14.28: managed processes and their records.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::harness::json::keys;
use crate::harness::{Backend, Launch, Problem, Server, WAIT, eventually, on_both, procfs, sh};
use serde_json::json;

on_both!(
    info_has_its_keys_in_order_while_running_and_after,
    info_echoes_what_was_sent,
    death_by_signal_has_no_exit_code_but_the_signal,
    a_trapped_term_gives_its_own_exit_code,
    ids_count_up_and_failed_spawns_use_one,
    the_list_is_in_number_order,
    the_list_filters_by_owner,
    stop_waits_until_exit_or_wait_ms,
    stop_never_escalates_but_grace_ms_does,
    every_stop_sends_one_more_signal,
    stop_and_kill_on_an_exited_process_change_nothing,
    kill_waits_for_the_end,
    delete_needs_an_exited_process,
    who_sees_a_process_end_may_delete_it_at_once,
    the_default_concurrency_limit_is_64,
    the_concurrency_limit_counts_running_processes_only,
    exactly_one_of_eight_parallel_creates_gets_the_last_slot,
    all_output_is_in_the_log_when_exited_shows,
    a_grandchild_holding_the_pipes_does_not_delay_exited,
    terminal_routes_refuse_pipe_mode,
    exited_records_are_bounded,
    the_bound_on_exited_records_can_be_set,
);

fn info_has_its_keys_in_order_while_running_and_after(backend: Backend) {
    let server = Server::open(backend);
    let mut body = sh("read line; exit 3");
    body["cwd"] = json!("/tmp");
    let created = server.post("/v1/processes", &body);
    let info = created.json();
    let (pid, at) = (
        info["pid"].as_u64().unwrap(),
        info["createdAtMs"].as_u64().unwrap(),
    );
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let now = now.as_millis() as u64;
    assert!(
        at <= now && now - at < 60_000,
        "{at} is not just before {now}"
    );
    let common = r#""id":"proc_1","command":"sh","args":["-c","read line; exit 3"],"cwd":"/tmp","tty":false,"interactive":false,"owner":"user""#;
    let running = format!(r#"{{{common},"status":"running","pid":{pid},"createdAtMs":{at}}}"#);
    assert_eq!(created.text(), running);
    assert_eq!(server.get("/v1/processes/proc_1").text(), running);
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());

    let newline = json!({"data": "\n", "encoding": "utf8"});
    server
        .post("/v1/processes/proc_1/input", &newline)
        .expect(200);
    let ended = server.await_exit("proc_1")["exitedAtMs"].as_u64().unwrap();
    assert!(ended >= at && ended - at < 60_000);
    let exited = format!(
        r#"{{{common},"status":"exited","exitCode":3,"createdAtMs":{at},"exitedAtMs":{ended}}}"#
    );
    assert_eq!(server.get("/v1/processes/proc_1").text(), exited);
    assert_eq!(
        server.get("/v1/processes").text(),
        format!(r#"{{"processes":[{exited}]}}"#)
    );
}

fn info_echoes_what_was_sent(backend: Backend) {
    let server = Server::open(backend);
    let info = server.create(&json!({"command": "true"}));
    assert_eq!(info["args"], json!([]));
    assert_eq!(info.get("cwd"), None);
    let info = server.create(&json!({"command": "cat", "cwd": null, "interactive": true}));
    assert_eq!(info.get("cwd"), None);
    assert_eq!(info["interactive"], true);
    let info = server.create(&json!({"command": "printf", "args": ["é\"\\\n\u{1}", ""]}));
    assert_eq!(info["args"], json!(["é\"\\\n\u{1}", ""]));
    // The environment is not shown.
    let info = server.create(&json!({"command": "true", "env": {"SECRET": "x"}}));
    assert_eq!(info.get("env"), None);
}

fn death_by_signal_has_no_exit_code_but_the_signal(backend: Backend) {
    let server = Server::open(backend);
    for name in ["SIGTERM", "SIGKILL", "SIGSEGV"] {
        let id = server.spawn(&sh(&format!("kill -{} $$", &name[3..])));
        server.await_exit(&id);
        let answer = server.get(&format!("/v1/processes/{id}"));
        let expected = [
            "id",
            "command",
            "args",
            "tty",
            "interactive",
            "owner",
            "status",
            "createdAtMs",
            "exitedAtMs",
            "signal",
        ];
        assert_eq!(keys(answer.text()), expected);
        assert_eq!(answer.json()["signal"], name);
    }
}

fn a_trapped_term_gives_its_own_exit_code(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh(
        "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done",
    ));
    server.await_output(&id, "ready");
    let info = server
        .post_empty(&format!("/v1/processes/{id}/stop?waitMs=20000"))
        .json();
    assert_eq!(
        (&info["status"], &info["exitCode"]),
        (&json!("exited"), &json!(9))
    );
    assert_eq!(info.get("signal"), None);
}

fn ids_count_up_and_failed_spawns_use_one(backend: Backend) {
    let server = Server::open(backend);
    assert_eq!(server.spawn(&sh("true")), "proc_1");
    server
        .post("/v1/processes", &json!({"command": "no-such-command"}))
        .expect(502);
    assert_eq!(server.spawn(&sh("true")), "proc_3");
    server
        .post("/v1/processes", &json!({"command": ""}))
        .expect(400);
    server.configure(&[("maxConcurrentProcesses", 1)]);
    server.await_exit("proc_1");
    server.await_exit("proc_3");
    assert_eq!(server.spawn(&json!({"command": "cat"})), "proc_4");
    server.post("/v1/processes", &sh("true")).expect(409);
    server.kill("proc_4");
    // Deleting does not free a number.
    server.delete("/v1/processes/proc_4").expect(204);
    assert_eq!(server.spawn(&sh("true")), "proc_5");
}

fn the_list_is_in_number_order(backend: Backend) {
    let server = Server::open(backend);
    for _ in 0..12 {
        server.spawn(&json!({"command": "true"}));
    }
    let list = server.get("/v1/processes").json();
    let ids: Vec<_> = list["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p["id"])
        .collect();
    let expected: Vec<_> = (1..=12).map(|n| json!(format!("proc_{n}"))).collect();
    assert_eq!(ids, expected.iter().collect::<Vec<_>>());
}

fn the_list_filters_by_owner(backend: Backend) {
    let server = Server::open(backend);
    assert_eq!(server.get("/v1/processes").text(), r#"{"processes":[]}"#);
    server.spawn(&json!({"command": "cat"}));
    let count = |query: &str| {
        let list = server.get(&format!("/v1/processes{query}")).json();
        list["processes"].as_array().unwrap().len()
    };
    assert_eq!((count(""), count("?owner=user")), (1, 1));
    assert_eq!((count("?owner=desktop"), count("?owner=system")), (0, 0));
}

fn stop_waits_until_exit_or_wait_ms(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let info = server
        .post_empty(&format!("/v1/processes/{id}/stop"))
        .json();
    assert_eq!(
        (&info["status"], &info["signal"]),
        (&json!("exited"), &json!("SIGTERM"))
    );

    let deaf = server.spawn(&sh(
        "trap '' TERM; echo ready; while :; do sleep 0.05; done",
    ));
    server.await_output(&deaf, "ready");
    for (query, least, below) in [
        ("?waitMs=300", 300, 2000),
        ("?waitMs=0", 0, 1500),
        ("", 2000, 9000),
    ] {
        let start = Instant::now();
        let info = server
            .post_empty(&format!("/v1/processes/{deaf}/stop{query}"))
            .json();
        assert_eq!(info["status"], "running");
        let took = start.elapsed().as_millis();
        assert!(
            (least..below).contains(&took),
            "{query}: answered after {took} ms"
        );
    }
    // A wait longer than any clock ends with the process.
    std::thread::scope(|scope| {
        let target = format!("/v1/processes/{deaf}/stop?waitMs={}", u64::MAX);
        let server = &server;
        let waiting = scope.spawn(move || server.post_empty(&target).json());
        std::thread::sleep(Duration::from_millis(200));
        server.kill(&deaf);
        assert_eq!(waiting.join().unwrap()["status"], "exited");
    });
}

fn stop_never_escalates_but_grace_ms_does(backend: Backend) {
    let server = Server::open(backend);
    let deaf = sh("trap '' TERM; echo ready; while :; do sleep 0.05; done");
    let id = server.spawn(&deaf);
    server.await_output(&id, "ready");
    server
        .post_empty(&format!("/v1/processes/{id}/stop?waitMs=2500"))
        .expect(200);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(server.info(&id)["status"], "running");

    let target = format!("/v1/processes/{id}/stop?graceMs=300&waitMs=20000");
    let info = server.post_empty(&target).json();
    assert_eq!(
        (&info["status"], &info["signal"]),
        (&json!("exited"), &json!("SIGKILL"))
    );
    // Who obeys the TERM is not killed.
    let id = server.spawn(&sh(
        "trap 'sleep 0.1; exit 4' TERM; echo ready; while :; do sleep 0.05; done",
    ));
    server.await_output(&id, "ready");
    let target = format!("/v1/processes/{id}/stop?graceMs=15000&waitMs=20000");
    assert_eq!(server.post_empty(&target).json()["exitCode"], 4);
    for query in ["graceMs=", "graceMs=-1", "graceMs=x", "graceMs=1&graceMs=2"] {
        let answer = server.post_empty(&format!("/v1/processes/{id}/stop?{query}"));
        answer.problem(400, "invalid_request");
    }
}

fn every_stop_sends_one_more_signal(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh(
        "n=0; trap 'n=$((n+1)); echo term $n; [ $n = 3 ] && exit 3' TERM; echo ready; \
         while :; do sleep 0.02; done",
    ));
    server.await_output(&id, "ready");
    for n in 1..=3 {
        server
            .post_empty(&format!("/v1/processes/{id}/stop?waitMs=0"))
            .expect(200);
        server.await_output(&id, &format!("term {n}"));
    }
    assert_eq!(server.await_exit(&id)["exitCode"], 3);
}

fn stop_and_kill_on_an_exited_process_change_nothing(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("exit 6"));
    server.await_exit(&id);
    let record = server.get(&format!("/v1/processes/{id}"));
    for verb in ["stop", "kill", "stop?waitMs=5000", "kill?waitMs=5000"] {
        let start = Instant::now();
        let answer = server.post_empty(&format!("/v1/processes/{id}/{verb}"));
        answer.json();
        assert_eq!(answer.text(), record.text());
        assert!(
            start.elapsed() < Duration::from_secs(4),
            "{verb} waited for nothing"
        );
    }
}

fn kill_waits_for_the_end(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh(
        "trap '' TERM HUP INT; echo ready; while :; do sleep 0.05; done",
    ));
    server.await_output(&id, "ready");
    let info = server
        .post_empty(&format!("/v1/processes/{id}/kill"))
        .json();
    assert_eq!(
        (&info["status"], &info["signal"]),
        (&json!("exited"), &json!("SIGKILL"))
    );
    assert_eq!(info.get("pid"), None);
    // Without waiting, the end comes all the same.
    let id = server.spawn(&json!({"command": "cat"}));
    server
        .post_empty(&format!("/v1/processes/{id}/kill?waitMs=0"))
        .expect(200);
    assert_eq!(server.await_exit(&id)["signal"], "SIGKILL");
}

fn delete_needs_an_exited_process(backend: Backend) {
    delete_needs_an_exit(&Server::open(backend));
    let keeps = Launch::new(backend).args(&["--no-token", "--keep"]);
    delete_needs_an_exit(&keeps.start());
}

fn delete_needs_an_exit(server: &Server) {
    let id = server.spawn(&json!({"command": "cat"}));
    let path = format!("/v1/processes/{id}");
    let running = Problem::conflict("process is still running; stop or kill it before delete");
    let asked = Instant::now();
    running.check(&server.delete(&path));
    // At once: whether it has ended is asked, not waited for.
    assert!(asked.elapsed() < Duration::from_millis(900));
    server.kill(&id);
    let deleted = server.delete(&path).expect_empty(204);
    assert_eq!(deleted.header("content-type"), None);
    let gone = Problem::no_process(&id);
    gone.check(&server.get(&path));
    gone.check(&server.get(&format!("{path}/logs")));
    gone.check(&server.delete(&path));
    assert_eq!(server.get("/v1/processes").json(), json!({"processes": []}));
}

fn who_sees_a_process_end_may_delete_it_at_once(backend: Backend) {
    let server = Server::open(backend);
    for round in 0..60 {
        let mut body = sh("read line; echo done");
        body["tty"] = (round % 2 == 1).into();
        let id = server.spawn(&body);
        let pid = server.info(&id)["pid"].as_i64().unwrap() as i32;
        server.feed(&id, "\n");
        // Without a pause: the server is not to hear of it much sooner.
        let until = Instant::now() + WAIT;
        while procfs::alive(pid) {
            assert!(Instant::now() < until, "{id} does not end");
        }
        server
            .delete(&format!("/v1/processes/{id}"))
            .expect_empty(204);
    }
}

fn the_default_concurrency_limit_is_64(backend: Backend) {
    let server = Server::open(backend);
    for _ in 0..64 {
        server.spawn(&json!({"command": "cat"}));
    }
    let full = Problem::conflict("max concurrent process limit reached (64)").code("limit_reached");
    full.check(&server.post("/v1/processes", &json!({"command": "cat"})));
    assert_eq!(
        server.run(&sh("echo x"))["stdout"],
        "x\n",
        "runs are not counted"
    );
}

fn the_concurrency_limit_counts_running_processes_only(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxConcurrentProcesses", 2)]);
    let exited = server.spawn(&sh("true"));
    server.await_exit(&exited);
    let first = server.spawn(&json!({"command": "cat"}));
    server.spawn(&json!({"command": "cat"}));
    let full = Problem::conflict("max concurrent process limit reached (2)").code("limit_reached");
    full.check(&server.post("/v1/processes", &sh("true")));
    // Raised, it applies at once; lowered below what runs, it ends nothing.
    server.configure(&[("maxConcurrentProcesses", 3)]);
    let third = server.spawn(&json!({"command": "cat"}));
    server.configure(&[("maxConcurrentProcesses", 1)]);
    server.kill(&first);
    let full = Problem::conflict("max concurrent process limit reached (1)").code("limit_reached");
    full.check(&server.post("/v1/processes", &sh("true")));
    assert_eq!(server.info(&third)["status"], "running");
    // A slot that a failed spawn held is free again.
    server.configure(&[("maxConcurrentProcesses", 3)]);
    for _ in 0..5 {
        server
            .post("/v1/processes", &json!({"command": "no-such-command"}))
            .expect(502);
    }
    server.spawn(&json!({"command": "cat"}));
}

fn exactly_one_of_eight_parallel_creates_gets_the_last_slot(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxConcurrentProcesses", 3)]);
    server.spawn(&json!({"command": "cat"}));
    server.spawn(&json!({"command": "cat"}));
    for _ in 0..10 {
        let barrier = Barrier::new(8);
        let answers: Vec<_> = std::thread::scope(|scope| {
            let create = || {
                barrier.wait();
                server.post("/v1/processes", &json!({"command": "cat"}))
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a.status == 200);
        assert_eq!(made.len(), 1);
        let full = Problem::conflict("max concurrent process limit reached (3)");
        let full = full.code("limit_reached");
        refused.iter().for_each(|answer| full.check(answer));
        server.kill(made[0].json()["id"].as_str().unwrap());
    }
}

fn all_output_is_in_the_log_when_exited_shows(backend: Backend) {
    let server = Server::open(backend);
    for _ in 0..20 {
        let id = server.spawn(&sh("seq 1 20000; echo end >&2"));
        server.await_exit(&id);
        let output = server.output(&id, "stdout");
        let expected: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
        assert!(
            output == expected.as_bytes(),
            "{} of {} bytes",
            output.len(),
            expected.len()
        );
        assert_eq!(server.output(&id, "stderr"), b"end\n");
        server.delete(&format!("/v1/processes/{id}")).expect(204);
    }
}

fn a_grandchild_holding_the_pipes_does_not_delay_exited(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("(sleep 2; echo late) & echo early"));
    let info = server.await_exit(&id);
    let lived = info["exitedAtMs"].as_u64().unwrap() - info["createdAtMs"].as_u64().unwrap();
    assert!(lived < 1900, "{lived} ms: the grandchild was waited for");
    assert_eq!(server.output(&id, "combined"), b"early\n");
    // Exit alone ends nothing; what comes late is still appended.
    server.await_output(&id, "early\nlate\n");
}

fn terminal_routes_refuse_pipe_mode(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let not_tty = Problem::conflict("process is not running in tty mode");
    let size = json!({"cols": 80, "rows": 24});
    let resize = |id: &str| server.post(&format!("/v1/processes/{id}/terminal/resize"), &size);
    // Not `Connection: close`, so by hand.
    let attach = |id: &str| {
        let mut conn = server.conn();
        conn.send(format!(
            "GET /v1/processes/{id}/terminal/ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            server.address
        ));
        conn.response("GET")
    };
    not_tty.check(&resize(&id));
    not_tty.check(&attach(&id));
    server.kill(&id);
    not_tty.check(&resize(&id));
    not_tty.check(&attach(&id));
    let unknown = Problem::no_process("none");
    unknown.check(&resize("none"));
    unknown.check(&attach("none"));
    // Without the headers of an upgrade the lookup is not reached.
    for id in [id.as_str(), "none"] {
        server
            .get(&format!("/v1/processes/{id}/terminal/ws"))
            .problem(400, "invalid_request");
    }
}

fn exited_records_are_bounded(backend: Backend) {
    let server = Server::open(backend);
    let running = server.spawn(&json!({"command": "cat"}));
    let mut conn = server.conn();
    let body = json!({"command": "true"}).to_string();
    for _ in 0..1_200 {
        conn.send(format!(
            "POST /v1/processes HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            server.address,
            body.len()
        ));
        // The limit on running ones may be met where children are slow to end.
        while conn.response("POST").status == 409 {
            std::thread::sleep(Duration::from_millis(5));
            conn.send(format!(
                "POST /v1/processes HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                server.address,
                body.len()
            ));
        }
    }
    let records = eventually("all but one to exit", || {
        let list = server.get("/v1/processes").json();
        let records = list["processes"].as_array().unwrap().clone();
        (records.iter().filter(|r| r["status"] == "running").count() == 1).then_some(records)
    });
    // 1024 exited ones and the running one, which is the oldest and stays.
    assert_eq!(records.len(), 1_025);
    assert_eq!(records[0]["id"], running.as_str());
    // The newest are kept; failed tries at the limit used up no number.
    assert_eq!(records[1_024]["id"], "proc_1201");
}

fn the_bound_on_exited_records_can_be_set(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token", "--max-exited", "3"])
        .start();
    let running = server.spawn(&json!({"command": "cat"}));
    for _ in 0..6 {
        let id = server.spawn(&sh("echo x"));
        server.await_exit(&id);
    }
    let list = server.get("/v1/processes").json();
    let ids: Vec<_> = list["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p["id"])
        .collect();
    assert_eq!(json!(ids), json!([running, "proc_5", "proc_6", "proc_7"]));
    Problem::no_process("proc_4").check(&server.get("/v1/processes/proc_4"));
    assert_eq!(server.output("proc_5", "stdout"), b"x\n");
}
