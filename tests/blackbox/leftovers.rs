//! What outlives its leader (14.3, 14.5): shown, ended on demand, and otherwise left alone.

use serde_json::{Value, json};

use crate::harness::json::keys;
use crate::harness::{Backend, Launch, Server, eventually, on_both, procfs, sh};
use crate::supervision_trees::{every_way, every_way_with};

on_both!(
    an_exited_record_says_how_many_of_its_tree_live,
    delete_leaves_a_daemon_alone_and_ends_its_tree_on_demand,
    a_record_whose_tree_lives_outlasts_others,
    what_stop_and_kill_end_is_never_called_left,
    a_run_that_leaves_something_becomes_a_record,
    what_a_run_leaves_may_write_on_and_its_record_tells,
    beyond_so_many_leftovers_the_oldest_is_ended,
    what_is_left_does_not_take_the_descriptors_that_work_needs,
    a_run_that_timed_out_or_lost_its_client_leaves_no_record,
    what_a_run_left_ends_with_the_server,
);

/// A child of a shell, and a daemon: in a session of its own, orphaned, its descriptors closed.
const TWO: &str = "sleep 77 & (setsid sh -c 'exec sleep 77 </dev/null >/dev/null 2>&1' &)";

fn path(id: &str) -> String {
    format!("/v1/processes/{id}")
}

#[track_caller]
fn await_left(server: &Server, id: &str, left: impl Into<Option<u64>>, what: &str) -> Value {
    let left = left.into();
    eventually(&format!("{what}: descendants {left:?}"), || {
        let info = server.info(id);
        (info["status"] == "exited" && info["descendants"].as_u64() == left).then_some(info)
    })
}

#[track_caller]
fn await_alive(server: &Server, count: usize, what: &str) -> Vec<i32> {
    eventually(&format!("{what}: {count} alive"), || {
        let alive = server.survivors();
        (alive.len() == count).then_some(alive)
    })
}

fn end(pid: i32) {
    crate::harness::server::send_signal(pid, libc::SIGKILL);
}

fn an_exited_record_says_how_many_of_its_tree_live(backend: Backend) {
    for (way, server) in every_way(backend) {
        let what = format!("{way:?}");
        let id = server.spawn(&sh(&format!("{TWO}; kill -9 $$")));
        await_left(&server, &id, 2, &what);
        let text = server.get(&path(&id)).text().to_owned();
        let names = keys(&text);
        assert_eq!(
            names[names.len() - 3..],
            ["exitedAtMs", "descendants", "signal"],
            "{what}"
        );
        let list = server.get("/v1/processes").json();
        assert_eq!(list["processes"][0]["descendants"], 2, "{what}: {list}");
        // It goes as they go, whoever ends them.
        let alive = await_alive(&server, 2, &what);
        end(alive[0]);
        await_left(&server, &id, 1, &what);
        end(alive[1]);
        let info = await_left(&server, &id, None, &what);
        assert_eq!(info["signal"], "SIGKILL", "{what}");
        // A whole family: who has a living parent counts, too, and what its end leaves behind.
        let id = server.spawn(&sh("setsid sh -c 'sleep 77 & sleep 77; :' & echo $!"));
        await_left(&server, &id, 3, &what);
        let parent = String::from_utf8(server.output(&id, "stdout")).unwrap();
        let alive = await_alive(&server, 3, &what);
        if alive.contains(&parent.trim().parse().unwrap()) {
            end(parent.trim().parse().unwrap());
        } else {
            // The server is in a PID namespace of its own.
            let is_parent = |pid: &i32| alive.iter().any(|of| procfs::field(*of, 1) == Some(*pid));
            end(alive.iter().copied().find(is_parent).unwrap());
        }
        await_left(&server, &id, 2, &what);
        let killed = server.kill(&id);
        assert_eq!(killed["descendants"], Value::Null, "{what}: {killed}");
        await_alive(&server, 0, &what);
    }
}

fn delete_leaves_a_daemon_alone_and_ends_its_tree_on_demand(backend: Backend) {
    for (way, server) in every_way(backend) {
        let what = format!("{way:?}");
        let id = server.spawn(&sh(TWO));
        await_left(&server, &id, 2, &what);
        server.delete(&path(&id)).expect_empty(204);
        server.get(&path(&id)).expect(404);
        let id = server.spawn(&sh(TWO));
        await_left(&server, &id, 2, &what);
        let alive = await_alive(&server, 4, &what);
        for value in ["", "yes", "TRUE", "1"] {
            server
                .delete(&format!("{}?tree={value}", path(&id)))
                .expect(400);
        }
        server
            .delete(&format!("{}?tree=true", path(&id)))
            .expect_empty(204);
        server.get(&path(&id)).expect(404);
        // Answered when they had ended.
        let left = server.survivors();
        assert_eq!(left.len(), 2, "{what}: of {alive:?}");
        left.into_iter().for_each(end);
        await_alive(&server, 0, &what);
        let id = server.spawn(&json!({"command": "sleep", "args": ["77"]}));
        server
            .delete(&format!("{}?tree=true", path(&id)))
            .expect(409);
        assert_eq!(server.info(&id)["status"], "running", "{what}");
        server.kill(&id);
        server
            .delete(&format!("{}?tree=false", path(&id)))
            .expect(204);
    }
}

fn a_record_whose_tree_lives_outlasts_others(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token", "--max-exited", "2"])
        .start();
    let keeps = |ids: &[&str]| {
        for id in ids {
            server.get(&path(id)).expect(200);
        }
        let list = server.get("/v1/processes").json();
        assert_eq!(list["processes"].as_array().unwrap().len(), ids.len());
    };
    let exited = |script: &str, left: Option<u64>| {
        let id = server.spawn(&sh(script));
        await_left(&server, &id, left, script);
        id
    };
    let first = exited("sleep 77 & exit 0", Some(1));
    let second = exited("exit 0", None);
    keeps(&[&first, &second]);
    let third = exited("exit 0", None);
    keeps(&[&first, &third]);
    // All others live: the oldest goes, and what it left does not.
    let fourth = exited("sleep 77 & exit 0", Some(1));
    keeps(&[&first, &fourth]);
    let fifth = exited("exit 0", None);
    keeps(&[&fourth, &fifth]);
    await_alive(&server, 2, "a record that is gone ends nobody");
    // Once its tree is gone, a record is as good as any other.
    server.kill(&fourth);
    let sixth = exited("exit 0", None);
    keeps(&[&fifth, &sixth]);
}

/// What is on its way out with the leader shows in no answer: the reference never has that key.
fn what_stop_and_kill_end_is_never_called_left(backend: Backend) {
    for (way, server) in every_way(backend) {
        for (n, ending) in ["stop", "kill"].iter().cycle().take(20).enumerate() {
            let what = format!("{way:?}, {ending} {n}");
            let id = server.spawn(&sh("sleep 77 & sleep 77 & sleep 77 & echo ready; wait"));
            server.await_output(&id, "ready");
            let answer = server.post_empty(&format!("{}/{ending}?waitMs=20000", path(&id)));
            let info = answer.json();
            assert_eq!(info["status"], "exited", "{what}");
            assert_eq!(info["descendants"], Value::Null, "{what}: {info}");
        }
        // What survives is shown in the end.
        let id = server.spawn(&sh("setsid sleep 77 & echo ready; wait"));
        server.await_output(&id, "ready");
        eventually("the other session", || {
            let leads = |pid: &i32| procfs::field(*pid, 3) == Some(*pid);
            (server.survivors().iter().filter(|pid| leads(pid)).count() == 2).then_some(())
        });
        server.post_empty(&format!("{}/stop?waitMs=20000", path(&id)));
        await_left(&server, &id, 1, "a stop that does not reach all");
        server.kill(&id);
    }
}

/// Keys of a run's answer, in order.
const RUN_KEYS: [&str; 7] = [
    "exitCode",
    "timedOut",
    "stdout",
    "stderr",
    "stdoutTruncated",
    "stderrTruncated",
    "durationMs",
];

/// The answer to a run, and the id of the record it has become.
#[track_caller]
fn run_and_leave(server: &Server, script: &str, what: &str) -> (Value, String) {
    let answer = server.post("/v1/processes/run", &sh(script));
    let names = [&RUN_KEYS[..], &["processId"]].concat();
    assert_eq!(keys(answer.text()), names, "{what}");
    let run = answer.json();
    let id = run["processId"].as_str().expect("an id").to_owned();
    (run, id)
}

fn a_run_that_leaves_something_becomes_a_record(backend: Backend) {
    for (way, server) in every_way(backend) {
        let what = format!("{way:?}");
        for nothing in ["exit 3", "sleep 0.01 & exit 3"] {
            let answer = server.post("/v1/processes/run", &sh(nothing));
            assert_eq!(keys(answer.text()), RUN_KEYS, "{what}: {nothing}");
        }
        // Ids are for records only, and each is new.
        let first = server.spawn(&sh("exit 0"));
        assert_eq!(first, "proc_1", "{what}");
        let bare = "(setsid sh -c 'exec sleep 77 <&- >&- 2>&-' &)";
        for (n, script) in ["sleep 77 &", bare].into_iter().enumerate() {
            let what = format!("{what}: {script}");
            let script = format!("echo out; echo err >&2; {script}\nexit 5");
            let mut body = sh(&script);
            body["cwd"] = json!("/");
            let answer = server.post("/v1/processes/run", &body);
            let run = answer.json();
            let id = run["processId"].as_str().expect("an id");
            assert_eq!(id, format!("proc_{}", n + 2), "{what}");
            let ended = (&run["exitCode"], &run["timedOut"], &run["stdout"]);
            assert_eq!(ended, (&json!(5), &json!(false), &json!("out\n")), "{what}");
            let text = server.get(&path(id)).text().to_owned();
            let info: Value = serde_json::from_str(&text).unwrap();
            let expected = format!(
                r#"{{"id":"{id}","command":"sh","args":["-c",{}],"cwd":"/","tty":false,"interactive":false,"owner":"user","status":"exited","exitCode":5,"createdAtMs":{},"exitedAtMs":{},"descendants":1}}"#,
                json!(script),
                info["createdAtMs"],
                info["exitedAtMs"]
            );
            assert_eq!(text, expected, "{what}");
            let took = info["exitedAtMs"].as_u64().unwrap() - info["createdAtMs"].as_u64().unwrap();
            assert!(took <= run["durationMs"].as_u64().unwrap() + 1, "{what}");
            assert_eq!(server.output(id, "stdout"), b"out\n", "{what}");
            assert_eq!(server.output(id, "stderr"), b"err\n", "{what}");
            let killed = server.kill(id);
            assert_eq!(killed["descendants"], Value::Null, "{what}: {killed}");
            assert_eq!(killed["exitCode"], 5, "{what}: {killed}");
            await_alive(&server, 0, &what);
            server.delete(&path(id)).expect_empty(204);
            server.get(&path(id)).expect(404);
        }
        let next = server.spawn(&sh("exit 0"));
        assert_eq!(next, "proc_4", "{what}");
    }
}

fn what_a_run_leaves_may_write_on_and_its_record_tells(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxOutputBytes", 1000)]);
    let script = "head -c 1500 /dev/zero | tr '\\0' a; (read go <\"$F\"; \
                  i=0; while [ $i -lt 30 ]; do echo \"line $i\"; i=$((i + 1)); done; \
                  head -c 500000 /dev/zero | tr '\\0' b; echo end; exec sleep 77) &";
    let fifo =
        std::env::temp_dir().join(format!("procring-left-{}-{backend:?}", std::process::id()));
    let name = std::ffi::CString::new(fifo.to_str().unwrap()).unwrap();
    // SAFETY: a C string that outlives the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let mut body = sh(script);
    body["env"] = json!({"F": fifo.to_str().unwrap()});
    let run = server.run(&body);
    assert_eq!(run["stdout"], "a".repeat(1000));
    assert_eq!(run["stdoutTruncated"], true);
    let id = run["processId"].as_str().expect("an id").to_owned();
    assert_eq!(server.output(&id, "stdout"), "a".repeat(1000).as_bytes());
    let logs = server.logs(&id, "");
    assert_eq!(
        (&logs["firstSequence"], &logs["droppedBytes"]),
        (&json!(1), &json!(500))
    );
    // Half a megabyte neither blocks nor breaks the pipe, and no more of it is kept than of a run.
    std::fs::write(&fifo, "go\n").unwrap();
    std::fs::remove_file(&fifo).unwrap();
    let kept = server.await_output(&id, "end\n");
    assert!(kept.len() <= 2000, "{} bytes", kept.len());
    let logs = server.logs(&id, "");
    let dropped = logs["droppedBytes"].as_u64().unwrap();
    let lines: usize = (0..30).map(|i| format!("line {i}\n").len()).sum();
    assert_eq!(dropped as usize + kept.len(), 1500 + lines + 500_000 + 4);
    let events = server.get(&format!("{}/logs?follow=true&since=0", path(&id)));
    assert!(events.text().contains("event: exit\n"));
    assert_eq!(server.info(&id)["descendants"], 1);
    server
        .delete(&format!("{}?tree=true", path(&id)))
        .expect_empty(204);
    await_alive(&server, 0, "deleted with its tree");
}

fn beyond_so_many_leftovers_the_oldest_is_ended(backend: Backend) {
    for (way, server) in every_way_with(backend, &["--max-leftovers", "2"]) {
        let what = format!("{way:?}");
        let managed = server.spawn(&sh("sleep 77 & exit 0"));
        await_left(&server, &managed, 1, &what);
        let ids: Vec<String> = (0..4)
            .map(|_| run_and_leave(&server, "sleep 77 & exit 0", &what).1)
            .collect();
        for (id, left) in ids.iter().zip([None, None, Some(1), Some(1)]) {
            await_left(&server, id, left, &what);
        }
        await_left(
            &server,
            &managed,
            1,
            &format!("{what}: not of their number"),
        );
        await_alive(&server, 3, &what);
        let said = server.told_so_far();
        let lines: Vec<_> = said
            .lines()
            .filter(|line| line.contains("--max-leftovers"))
            .collect();
        assert_eq!(lines.len(), 2, "{what}: {said}");
        for (line, id) in lines.iter().zip(&ids) {
            assert!(line.contains(&format!("run {id} ")), "{what}: {line}");
        }
        // Who ends by itself makes room.
        server.kill(&ids[2]);
        run_and_leave(&server, "sleep 77 & exit 0", &what);
        await_left(&server, &ids[3], 1, &what);
    }
}

/// Does something `count` times, four at the same time.
fn at_once(count: usize, what: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for first in 0..4 {
            let what = &what;
            scope.spawn(move || (first..count).step_by(4).for_each(what));
        }
    });
}

/// Descriptors that the server has open.
fn descriptors(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.pid)).map_or(0, Iterator::count)
}

/// With so few that the pipes and groups of what is left would use them up.
fn what_is_left_does_not_take_the_descriptors_that_work_needs(backend: Backend) {
    let _heavy = crate::harness::one_heavy_test_at_a_time();
    for cgroup in ["auto", "off"] {
        let server = Launch::new(backend)
            .args(&["--no-token", "--cgroup", cgroup])
            .through_exec(&["sh", "-c", "ulimit -n 160; exec \"$@\"", "sh"])
            .start();
        let work = |what: &str| {
            let run = server.run(&sh("echo on"));
            assert_eq!(run["stdout"], "on\n", "--cgroup {cgroup}: {what}");
            let id = server.spawn(&sh("exit 0"));
            server.await_exit(&id);
            server.delete(&path(&id)).expect(204);
        };
        work("before");
        let before = descriptors(&server);
        // Runs whose pipes are held: the oldest are ended.
        at_once(28, |n| {
            run_and_leave(&server, "sleep 77 & exit 0", &format!("run {n}"));
        });
        let last = run_and_leave(&server, "sleep 77 & exit 0", cgroup).1;
        work("beside runs");
        let said = server.told_so_far();
        assert!(said.contains("(RLIMIT_NOFILE)"), "{said}");
        assert_eq!(server.info(&last)["descendants"], 1, "{cgroup}");
        // What they hold is bounded, and what they did not hold was never opened.
        let bound = before + 160 / 4 + 2;
        eventually("no more descriptors than there may be", || {
            (descriptors(&server) <= bound).then_some(())
        });
        // Managed ones, and those that no record tells of any more.
        at_once(28, |_| {
            let id = server.spawn(&sh("sleep 77 & exit 0"));
            server.await_exit(&id);
            server.delete(&path(&id)).expect(204);
        });
        work("beside deleted ones");
        eventually("no more descriptors than there may be", || {
            (descriptors(&server) <= bound).then_some(())
        });
        assert!(server.survivors().len() >= 28, "deleted, not ended");
        // Daemons hold no pipe: their number is bound by nothing but --max-leftovers.
        let ended = |text: String| text.matches("ended what").count();
        let so_far = ended(server.told_so_far());
        at_once(80, |n| {
            let daemon = "setsid sleep 77 </dev/null >/dev/null 2>&1 & exit 0";
            run_and_leave(&server, daemon, &format!("daemon {n}"));
        });
        work("beside daemons");
        assert_eq!(ended(server.told_so_far()), so_far, "{cgroup}");
        eventually("no more descriptors than there may be", || {
            (descriptors(&server) <= bound).then_some(())
        });
    }
}

fn a_run_that_timed_out_or_lost_its_client_leaves_no_record(backend: Backend) {
    for (way, server) in every_way(backend) {
        let what = format!("{way:?}");
        let mut body = sh("sleep 77 & sleep 77");
        body["timeoutMs"] = json!(200);
        let answer = server.post("/v1/processes/run", &body);
        assert_eq!(answer.json()["timedOut"], true, "{what}");
        assert!(
            !keys(answer.text()).contains(&"processId".to_owned()),
            "{what}"
        );
        await_alive(&server, 0, &what);
        // The client goes while the answer waits for pipes that the rest of the tree holds.
        let text = sh("sleep 77 & echo $$; exit 0").to_string();
        let request = format!(
            "POST /v1/processes/run HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{text}",
            server.address,
            text.len()
        );
        let records = || server.get("/v1/processes").json()["processes"].clone();
        eventually(&format!("{what}: a client that goes in time"), || {
            let mut conn = server.conn();
            conn.send(request.clone());
            await_alive(&server, 1, &what);
            conn.reset();
            // Answered before that, on a busy machine, it is a record.
            let recorded = eventually(
                &format!("{what}: its end, or its record"),
                || match records().as_array().unwrap().first() {
                    Some(record) => Some(Some(record["id"].as_str().unwrap().to_owned())),
                    None => server.survivors().is_empty().then_some(None),
                },
            );
            if let Some(id) = &recorded {
                server
                    .delete(&format!("{}?tree=true", path(id)))
                    .expect_empty(204);
            }
            recorded.is_none().then_some(())
        });
        assert_eq!(records(), json!([]), "{what}");
    }
}

/// The server's end is the end of what is left, and so is, with a state directory, that of a
/// server that was killed.
fn what_a_run_left_ends_with_the_server(backend: Backend) {
    let dir = std::env::temp_dir().join(format!(
        "procring-left-state-{}-{backend:?}",
        std::process::id()
    ));
    for cgroup in ["auto", "off"] {
        let launch = || {
            Launch::new(backend)
                .args(&[
                    "--no-token",
                    "--cgroup",
                    cgroup,
                    "--state-dir",
                    dir.to_str().unwrap(),
                ])
                .start()
        };
        let leave = |server: &Server| {
            run_and_leave(server, "setsid sleep 77 & exit 0", cgroup);
            await_alive(server, 1, cgroup);
        };
        let mut server = launch();
        leave(&server);
        server.signal(libc::SIGTERM);
        let status = server.await_end(std::time::Duration::from_secs(20));
        assert!(matches!(status.code(), Some(0 | 143)), "{status:?}");
        assert_eq!(server.survivors(), [0; 0], "{cgroup}");
        let mut server = launch();
        leave(&server);
        server.signal(libc::SIGKILL);
        server.await_end(std::time::Duration::from_secs(20));
        assert_eq!(server.survivors().len(), 1, "{cgroup}");
        let _next = launch();
        assert_eq!(server.survivors(), [0; 0], "{cgroup}");
    }
    std::fs::remove_dir_all(dir).unwrap();
}
