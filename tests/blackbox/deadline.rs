//! `deadlineMs`: the tree of a process is killed so long after its start.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::json::keys;
use crate::harness::procfs;
use crate::harness::ws::Got;
use crate::harness::{
    Backend, Launch, Server, WAIT, Ws, eventually, on_both, sh, skipped_anywhere,
};
use crate::supervision_bounds::DeadMount;

on_both!(
    a_tree_is_killed_at_its_deadline_and_its_record_says_why,
    without_groups_the_tree_is_killed_as_well,
    who_ends_before_has_no_reason,
    what_an_exit_has_left_ends_with_the_deadline,
    what_a_deleted_record_has_left_ends_with_the_deadline,
    a_deadline_ends_what_ignores_a_stop,
    who_was_killed_before_did_not_die_of_its_deadline,
    a_terminal_has_a_deadline_as_well,
    a_start_that_hangs_is_ended_by_its_deadline,
    a_server_does_not_wait_for_deadlines_when_it_ends,
    deadlines_that_cannot_be_are_refused,
);

/// Longer than any test takes.
const FAR: u64 = 3_600_000;

fn with_deadline(mut body: Value, ms: u64) -> Value {
    body["deadlineMs"] = json!(ms);
    body
}

/// The pids in a log, one a line, once there are so many.
fn pids(server: &Server, id: &str, count: usize) -> Vec<i32> {
    eventually("pids in the log", || {
        let output = String::from_utf8(server.output(id, "stdout")).unwrap();
        let pids: Vec<i32> = output.lines().map_while(|line| line.parse().ok()).collect();
        (output.ends_with('\n') && pids.len() == count).then_some(pids)
    })
}

#[track_caller]
fn await_death(pids: &[i32]) {
    for pid in pids {
        eventually(&format!("{pid} to be gone"), || {
            (!procfs::alive(*pid)).then_some(())
        });
    }
}

#[track_caller]
fn check_reason(info: &Value) {
    assert_eq!(info["exitReason"], "deadline", "{info}");
    assert_eq!(info["signal"], "SIGKILL", "{info}");
    assert!(info.get("exitCode").is_none(), "{info}");
}

/// A shell with a child in its group and one in a session of its own, which say their pids.
const TREE: &str = "echo $$; sleep 777 & echo $!; \
                    setsid sh -c 'echo $$; exec sleep 777' & wait";

fn kill_tree(server: &Server) {
    let created = server.create(&with_deadline(sh(TREE), 1000));
    let id = created["id"].as_str().unwrap();
    assert!(created.get("exitReason").is_none());
    let tree = pids(server, id, 3);
    let info = server.await_exit(id);
    check_reason(&info);
    let lived = info["exitedAtMs"].as_u64().unwrap() - info["createdAtMs"].as_u64().unwrap();
    assert!(lived >= 999, "{lived} ms");
    await_death(&tree);
    eventually("a record without descendants", || {
        server.info(id).get("descendants").is_none().then_some(())
    });
    let order = keys(server.get(&format!("/v1/processes/{id}")).text());
    assert_eq!(order[order.len() - 2..], ["exitReason", "signal"]);
}

fn a_tree_is_killed_at_its_deadline_and_its_record_says_why(backend: Backend) {
    kill_tree(&Server::open(backend));
}

fn without_groups(backend: Backend) -> Server {
    Launch::new(backend)
        .args(&["--no-token", "--cgroup", "off"])
        .start()
}

fn without_groups_the_tree_is_killed_as_well(backend: Backend) {
    kill_tree(&without_groups(backend));
}

fn who_ends_before_has_no_reason(backend: Backend) {
    let server = Server::open(backend);
    for (script, ms) in [("exit 3", FAR), ("kill -9 $$", FAR), ("exit 0", u64::MAX)] {
        let id = server.spawn(&with_deadline(sh(script), ms));
        let info = server.await_exit(&id);
        assert!(info.get("exitReason").is_none(), "{info}");
    }
    let none = server.spawn(&json!({"command": "true", "deadlineMs": null}));
    assert_eq!(server.await_exit(&none)["exitCode"], 0);
}

/// Leaves a daemon that holds none of its pipes, and says its pid.
const DAEMON: &str = "setsid sleep 777 >/dev/null 2>&1 </dev/null & echo $!";

fn what_an_exit_has_left_ends_with_the_deadline(backend: Backend) {
    end_what_is_left(&Server::open(backend));
    end_what_is_left(&without_groups(backend));
}

fn end_what_is_left(server: &Server) {
    let id = server.spawn(&with_deadline(sh(DAEMON), 1500));
    let daemon = pids(server, &id, 1);
    let info = server.await_exit(&id);
    assert_eq!(info["exitCode"], 0, "{info}");
    await_death(&daemon);
    let after = eventually("a record without descendants", || {
        let info = server.info(&id);
        info.get("descendants").is_none().then_some(info)
    });
    // It ended by itself.
    assert!(
        after.get("exitReason").is_none() && after["exitCode"] == 0,
        "{after}"
    );
}

fn what_a_deleted_record_has_left_ends_with_the_deadline(backend: Backend) {
    for server in [Server::open(backend), without_groups(backend)] {
        let id = server.spawn(&with_deadline(sh(DAEMON), 1500));
        let daemon = pids(&server, &id, 1);
        server.await_exit(&id);
        server.delete(&format!("/v1/processes/{id}")).expect(204);
        await_death(&daemon);
    }
}

fn a_deadline_ends_what_ignores_a_stop(backend: Backend) {
    let server = Server::open(backend);
    let script = "trap '' TERM; echo $$; while :; do sleep 0.1; done";
    let id = server.spawn(&with_deadline(sh(script), 1500));
    pids(&server, &id, 1);
    let path = format!("/v1/processes/{id}/stop?waitMs=20000&graceMs={FAR}");
    let info = server.post_empty(&path).json();
    assert_eq!(info["status"], "exited");
    check_reason(&info);
}

fn who_was_killed_before_did_not_die_of_its_deadline(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&with_deadline(json!({"command": "cat"}), FAR));
    let info = server.kill(&id);
    assert_eq!(info["signal"], "SIGKILL");
    assert!(info.get("exitReason").is_none(), "{info}");
}

fn a_terminal_has_a_deadline_as_well(backend: Backend) {
    let server = Server::open(backend);
    let body = json!({"command": "cat", "tty": true});
    let id = server.spawn(&with_deadline(body, 700));
    let mut viewer = Ws::attach(&server, &id, "");
    loop {
        if let Got::Text(frame) = viewer.next() {
            assert_eq!(frame, json!({"exitCode": null, "type": "exit"}));
            break;
        }
    }
    check_reason(&server.info(&id));
}

fn a_start_that_hangs_is_ended_by_its_deadline(backend: Backend) {
    let server = Server::open(backend);
    let Some(mount) = DeadMount::new(backend) else {
        return skipped_anywhere("no FUSE file system can be mounted; hung starts are not tested");
    };
    let program = format!("{}/program", mount.path.to_str().unwrap());
    let body = json!({"command": program, "name": "late", "deadlineMs": 500});
    // It exists, as the newborn that was to become the program.
    server.post("/v1/processes", &body).expect(200);
    check_reason(&server.await_exit("late"));
    eventually("the newborn to be gone", || {
        procfs::children_of(server.pid).is_empty().then_some(())
    });
    drop(mount);
}

fn a_server_does_not_wait_for_deadlines_when_it_ends(backend: Backend) {
    let mut server = Server::open(backend);
    server.spawn(&with_deadline(json!({"command": "cat"}), FAR));
    server.signal(libc::SIGTERM);
    assert!(
        server
            .await_end(WAIT.min(Duration::from_secs(20)))
            .success()
    );
}

fn deadlines_that_cannot_be_are_refused(backend: Backend) {
    let server = Server::open(backend);
    for (value, status) in [
        (json!(0), 400),
        (json!(-1), 422),
        (json!(1.5), 422),
        (json!("1"), 422),
    ] {
        let body = json!({"command": "true", "deadlineMs": value});
        let problem = server
            .post("/v1/processes", &body)
            .problem(status, "invalid_request");
        assert!(problem["detail"].as_str().unwrap().contains("deadlineMs"));
    }
    assert_eq!(server.get("/v1/processes").json(), json!({"processes": []}));
}
