//! `?usage=true`: what processes and runs have used, of a whole tree where there is a cgroup.

use serde_json::{Value, json};

use crate::harness::cli::procring;
use crate::harness::json::keys;
use crate::harness::lines::NDJSON;
use crate::harness::{Backend, Launch, Server, eventually, on_both, sh};
use crate::supervision_trees::{Way, every_way};

on_both!(
    a_record_says_what_its_tree_uses_if_asked,
    what_has_exited_says_what_it_has_used,
    one_tree_does_not_answer_for_another_that_had_its_group,
    a_list_says_it_of_each_and_stops_where_it_would_without,
    a_wait_a_run_and_a_streamed_run_say_it,
    bytes_that_went_through_the_server_are_counted,
    the_command_line_shows_who_uses_most_first,
    words_that_are_neither_true_nor_false_are_refused,
);

/// Burns so many milliseconds of a processor.
fn burn(ms: u64) -> String {
    format!("python3 -c 'import time\nwhile time.process_time() < {ms} / 1000: pass'")
}

/// A server that sweeps, and one with groups where they are to be had, each with its scope.
fn servers(backend: Backend) -> Vec<(&'static str, Server)> {
    let servers = every_way(backend).into_iter();
    let scoped = servers.filter_map(|(way, server)| match way {
        Way::Cgroup => Some(("tree", server)),
        Way::SweepAsRoot => Some(("reaped", server)),
        Way::SweepAsNobody => None,
    });
    scoped.collect()
}

#[track_caller]
fn usage(server: &Server, id: &str) -> Value {
    let info = server.get(&format!("/v1/processes/{id}?usage=true"));
    info.expect(200).json()["usage"].clone()
}

fn cpu_us(usage: &Value) -> u64 {
    let us = |key: &str| usage[key].as_u64().unwrap_or_else(|| panic!("{usage}"));
    us("userCpuUs") + us("systemCpuUs")
}

fn a_record_says_what_its_tree_uses_if_asked(backend: Backend) {
    for (scope, server) in servers(backend) {
        // A leader that waits, and a child that works on.
        let child = "import time\nwhile time.process_time() < 0.2: pass\nprint(1, flush=True)\ntime.sleep(777)";
        let script = format!("python3 -c '{child}' & wait");
        let id = server.spawn(&sh(&script));
        let first = usage(&server, &id);
        assert_eq!(first["scope"], scope, "{first}");
        eventually("the child to have worked", || {
            (server.output(&id, "stdout") == b"1\n").then_some(())
        });
        let later = usage(&server, &id);
        assert_eq!(later["processes"], 2, "{later}");
        assert!(later["maxRssBytes"].as_u64().unwrap() > 1 << 20, "{later}");
        // Without a group a child that nobody has reaped is not known of.
        if scope == "tree" {
            assert!(cpu_us(&later) >= 200_000, "{later}");
        }
        let text = server.get(&format!("/v1/processes/{id}?usage=true"));
        let order = keys(text.text());
        assert_eq!(order.last().unwrap(), "usage");
        let (_, shown) = text.text().split_once(r#""usage":"#).unwrap();
        let wanted = [
            "scope",
            "maxRssBytes",
            "userCpuUs",
            "systemCpuUs",
            "processes",
            "inputBytes",
            "outputBytes",
            "followers",
        ];
        assert_eq!(keys(shown.strip_suffix('}').unwrap()), wanted);
        for without in ["", "?usage=false"] {
            let info = server.get(&format!("/v1/processes/{id}{without}"));
            assert!(info.expect(200).json().get("usage").is_none());
        }
    }
}

fn what_has_exited_says_what_it_has_used(backend: Backend) {
    for (scope, server) in servers(backend) {
        let script = format!("{}; {}", burn(150), burn(150));
        let id = server.spawn(&sh(&script));
        server.await_exit(&id);
        let used = usage(&server, &id);
        assert_eq!(used["scope"], scope, "{used}");
        assert!(cpu_us(&used) >= 300_000, "{used}");
        assert_eq!(used["processes"], 0, "{used}");
        let big = "python3 -c 'b = bytearray(100 << 20)'; exit 3";
        let id = server.spawn(&sh(big));
        assert_eq!(server.await_exit(&id)["exitCode"], 3);
        let used = usage(&server, &id);
        assert!(used["maxRssBytes"].as_u64().unwrap() >= 100 << 20, "{used}");
    }
}

fn one_tree_does_not_answer_for_another_that_had_its_group(backend: Backend) {
    for (scope, server) in servers(backend) {
        for _ in 0..3 {
            server.run(&sh(&burn(700)));
        }
        for _ in 0..3 {
            let id = server.spawn(&json!({"command": "true"}));
            server.await_exit(&id);
            let used = usage(&server, &id);
            assert!(cpu_us(&used) < 1_500_000, "{scope}: {used}");
            server.delete(&format!("/v1/processes/{id}")).expect(204);
        }
    }
}

fn a_list_says_it_of_each_and_stops_where_it_would_without(backend: Backend) {
    let server = Server::open(backend);
    let ids: Vec<String> = (0..5)
        .map(|_| server.spawn(&json!({"command": "cat"})))
        .collect();
    let list = |query: &str| {
        let path = format!("/v1/processes?{query}");
        server.get(&path).expect(200).json()
    };
    let all = list("usage=true");
    let listed = all["processes"].as_array().unwrap();
    assert_eq!(listed.len(), 5);
    assert!(
        listed.iter().all(|of| of["usage"]["processes"] == 1),
        "{all}"
    );
    assert!(all.get("nextAfter").is_none());
    for query in [
        "limit=2",
        "limit=5",
        "status=exited",
        "after=proc_3&limit=1",
    ] {
        let (mut with, without) = (list(&format!("{query}&usage=true")), list(query));
        for process in with["processes"].as_array_mut().unwrap() {
            assert!(process.as_object_mut().unwrap().remove("usage").is_some());
        }
        assert_eq!(with, without, "{query}");
    }
    server.kill(&ids[0]);
    assert_eq!(
        list("usage=true&status=exited")["processes"][0]["usage"]["processes"],
        0
    );
}

fn a_wait_a_run_and_a_streamed_run_say_it(backend: Backend) {
    for (scope, server) in servers(backend) {
        let id = server.spawn(&sh(&burn(100)));
        let waited = server.get(&format!("/v1/processes/{id}/wait?usage=true"));
        let waited = waited.expect(200).json();
        assert_eq!(waited["process"]["usage"]["scope"], scope, "{waited}");
        assert!(cpu_us(&waited["process"]["usage"]) >= 100_000, "{waited}");
        let mut body = sh(&format!("{}; printf 12345; kill -9 $$", burn(100)));
        let run = server
            .post("/v1/processes/run?usage=true", &body)
            .expect(200);
        let order = keys(run.text());
        assert_eq!(order[order.len() - 2..], ["usage", "signal"]);
        let run = run.json();
        assert_eq!(run["usage"]["scope"], scope, "{run}");
        assert!(cpu_us(&run["usage"]) >= 100_000, "{run}");
        assert_eq!(run["usage"]["outputBytes"], 5, "{run}");
        assert!(server.run(&body).get("usage").is_none());
        body["record"] = json!(true);
        let run = server
            .post("/v1/processes/run?usage=true", &body)
            .expect(200);
        assert_eq!(run.json()["usage"]["outputBytes"], 5, "{}", run.text());
        let headers = [NDJSON, ("Content-Type", "application/json")];
        let (path, body) = ("/v1/processes/run?usage=true", body.to_string());
        let streamed = server.request("POST", path, &headers, body.as_bytes());
        let last = streamed
            .expect(200)
            .text()
            .lines()
            .last()
            .unwrap()
            .to_owned();
        let order = keys(&last);
        assert_eq!(order[order.len() - 2..], ["usage", "signal"]);
        let last: Value = serde_json::from_str(&last).unwrap();
        assert_eq!(last["usage"]["outputBytes"], 5, "{last}");
        assert!(cpu_us(&last["usage"]) >= 100_000, "{last}");
    }
}

fn bytes_that_went_through_the_server_are_counted(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let counted = |input: u64, output: u64| {
        let used = usage(&server, &id);
        (used["inputBytes"] == input && used["outputBytes"] == output).then_some(())
    };
    server.feed(&id, &"x".repeat(10));
    eventually("ten bytes to go in and out", || counted(10, 10));
    let rest = json!({"data": "y".repeat(60_000), "encoding": "utf8", "eof": true});
    server
        .post(&format!("/v1/processes/{id}/input"), &rest)
        .expect(200);
    server.await_exit(&id);
    eventually("all bytes after the exit", || counted(60_010, 60_010));
    // More than is kept.
    let body = json!({"command": "sh", "args": ["-c", "cat; yes | head -c 300000 >&2"],
        "stdin": "abc", "maxOutputBytes": 100});
    let run = server
        .post("/v1/processes/run?usage=true", &body)
        .expect(200)
        .json();
    assert_eq!(run["usage"]["inputBytes"], 3, "{run}");
    assert_eq!(run["usage"]["outputBytes"], 300_003, "{run}");
}

fn the_command_line_shows_who_uses_most_first(backend: Backend) {
    let server = Server::open(backend);
    let hold = |mib: u32| {
        let script = format!("x = bytearray({mib} << 20); print(1, flush=True); input()");
        let id = server.spawn(&json!({"command": "python3", "args": ["-c", script]}));
        server.await_output(&id, "1\n");
        id
    };
    let ids = [hold(20), hold(120), hold(70)];
    let table = procring(&server, &["top", "--sort", "memory"]).good();
    let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split('\t').collect()).collect();
    assert_eq!(rows[0][..4], ["ID", "NAME", "CPU%", "MEMORY"], "{table}");
    let order: Vec<&str> = rows[1..].iter().map(|row| row[0]).collect();
    assert_eq!(order, [&ids[1], &ids[2], &ids[0]], "{table}");
    for row in &rows[1..] {
        assert!(row[2].parse::<f64>().is_ok(), "{table}");
        assert!(
            row[3].starts_with(|digit: char| digit.is_ascii_digit()),
            "{table}"
        );
        assert_eq!((row[5], row[6]), ("2B", "1"), "{table}");
    }
    let id = server.spawn(&json!({"command": "cat"}));
    server.kill(&id);
    assert!(
        !procring(&server, &["top"]).good().contains(&*id),
        "only what runs"
    );
}

fn words_that_are_neither_true_nor_false_are_refused(backend: Backend) {
    let server = Launch::new(backend).args(&["--no-token"]).start();
    let id = server.spawn(&json!({"command": "cat"}));
    for path in [
        "/v1/processes",
        &format!("/v1/processes/{id}"),
        &format!("/v1/processes/{id}/wait"),
    ] {
        let refused = server.get(&format!("{path}?usage=1"));
        assert_eq!(refused.status, 400, "{path}: {}", refused.text());
        assert!(refused.text().contains("usage"), "{}", refused.text());
    }
    let refused = server.post("/v1/processes/run?usage=yes", &json!({"command": "true"}));
    assert_eq!(refused.status, 400, "{}", refused.text());
    let missing = server.get("/v1/processes/proc_999?usage=true");
    assert_eq!(missing.status, 404);
}
