//! Acts that are runs: what they leave, and how they are left.

use serde_json::Value;

use crate::harness::{eventually, sh};

use super::acts::tagged;
use super::census;
use super::world::Afternoon;

pub(super) fn run_that_leaves_a_daemon(world: &mut Afternoon) -> String {
    let ties = ["null", "closed", "keep"][world.random.below(3)];
    let script = format!("{} daemon {ties}; echo $$", world.room.helper.display());
    let (tag, body) = tagged(world, sh(&script));
    let answer = world.server.run(&body);
    assert_eq!(answer["exitCode"], 0, "{answer}");
    let leader = answer["stdout"]
        .as_str()
        .and_then(|text| text.trim().parse().ok());
    let id = answer["processId"].as_str().map(str::to_owned);
    let members = world.settle(&tag, None, 1);
    let tree = world.enter(None, id, leader.expect("a pid"), members);
    if tree.id.is_none() {
        world.finding("a run that leaves somebody has no record", &tree.what());
    }
    let what = format!("run that leaves a daemon ({ties}), {}", tree.what());
    world.trees.push(tree);
    what
}

/// Three processes, two of which do not end with the third.
fn tree_of_a_run(world: &mut Afternoon) -> (String, Value) {
    let script = format!(
        "{} daemon null; sleep 9999 & exec sleep 9999",
        world.room.helper.display()
    );
    tagged(world, sh(&script))
}

pub(super) fn run_that_times_out(world: &mut Afternoon) -> String {
    let (tag, mut body) = tree_of_a_run(world);
    let milliseconds = 1 + world.random.below(400);
    body["timeoutMs"] = milliseconds.into();
    let answer = world.server.run(&body);
    assert_eq!(answer["timedOut"], true, "{answer}");
    format!("run {tag} that times out after {milliseconds} ms")
}

pub(super) fn run_whose_client_leaves(world: &mut Afternoon) -> String {
    let (tag, body) = tree_of_a_run(world);
    let text = body.to_string();
    let mut conn = world.server.conn();
    conn.send(format!(
        "POST /v1/processes/run HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{text}",
        world.server.address,
        text.len()
    ));
    let how = world.random.below(3);
    if how > 0 {
        eventually(&format!("the processes of run {tag}"), || {
            let pids = census::by_tag().remove(&tag).unwrap_or_default();
            (pids.len() == 3).then_some(())
        });
    }
    let how = match how {
        0 => "at once",
        1 => {
            conn.reset();
            return format!("run {tag} whose client leaves with a reset");
        }
        _ => "in order",
    };
    drop(conn);
    format!("run {tag} whose client leaves {how}")
}
