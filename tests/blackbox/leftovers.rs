//! What outlives its leader (14.3, 14.5): shown, ended on demand, and otherwise left alone.

use serde_json::{Value, json};

use crate::harness::json::keys;
use crate::harness::{Backend, Launch, Server, eventually, on_both, procfs, sh};
use crate::supervision_trees::every_way;

on_both!(
    an_exited_record_says_how_many_of_its_tree_live,
    delete_leaves_a_daemon_alone_and_ends_its_tree_on_demand,
    a_record_whose_tree_lives_outlasts_others,
    what_stop_and_kill_end_is_never_called_left,
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
        if !way.knows_daemons() {
            continue;
        }
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
        if !way.knows_daemons() {
            continue;
        }
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
