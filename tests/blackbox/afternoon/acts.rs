//! The acts: each does one thing to a server, or puts a stranger beside it, and tells the model
//! what must be so afterwards.

use serde_json::{Value, json};

use crate::harness::ws::path as terminal_path;
use crate::harness::{Conn, Server, Ws};

use super::beside::{come_neighbour, come_stranger, restart_after_a_kill};
use super::census::{Member, TAG};
use super::kinds::{After, KINDS, Kind};
use super::namespace::next_pid;
use super::runs::{run_that_leaves_a_daemon, run_that_times_out, run_whose_client_leaves};
use super::tree::Tree;
use super::world::Afternoon;

/// Trees beyond which no more are begun; the numbers of the namespace are few.
const TREES_MAX: usize = 40;
const VIEWERS_MAX: usize = 20;

/// A wait that no act needs whole.
const LONG: &str = "waitMs=20000";

/// Somebody who looks at a process.
pub(super) enum Viewer {
    Terminal(Ws),
    Follower(Conn),
}

/// What an act is, by how often it is chosen.
#[derive(Clone, Copy, Debug)]
enum Act {
    Create,
    CreateNamesake,
    RunTrue,
    RunThatLeavesADaemon,
    RunThatTimesOut,
    RunWhoseClientLeaves,
    RunsInARow,
    Stop,
    Kill,
    KillExited,
    Delete,
    DeleteTree,
    DeleteRunning,
    EndByHand,
    LastInput,
    Input,
    Resize,
    Attach,
    Follow,
    HangUp,
    Logs,
    Configure,
    Poke,
    ComeStranger,
    ComeNeighbour,
    RestartInOrder,
    RestartAfterAKill,
}

const ACTS: [(Act, usize); 27] = [
    (Act::Create, 22),
    (Act::CreateNamesake, 12),
    (Act::RunTrue, 2),
    (Act::RunThatLeavesADaemon, 6),
    (Act::RunThatTimesOut, 3),
    (Act::RunWhoseClientLeaves, 4),
    (Act::RunsInARow, 1),
    (Act::Stop, 8),
    (Act::Kill, 6),
    (Act::KillExited, 5),
    (Act::Delete, 8),
    (Act::DeleteTree, 4),
    (Act::DeleteRunning, 2),
    (Act::EndByHand, 4),
    (Act::LastInput, 6),
    (Act::Input, 3),
    (Act::Resize, 2),
    (Act::Attach, 5),
    (Act::Follow, 4),
    (Act::HangUp, 5),
    (Act::Logs, 3),
    (Act::Configure, 1),
    (Act::Poke, 4),
    (Act::ComeStranger, 8),
    (Act::ComeNeighbour, 5),
    (Act::RestartInOrder, 1),
    (Act::RestartAfterAKill, 3),
];

/// Where there are too many trees.
const ENDINGS: [Act; 6] = [
    Act::Stop,
    Act::Kill,
    Act::KillExited,
    Act::Delete,
    Act::DeleteTree,
    Act::EndByHand,
];

/// Does one act; gives what it was.
pub(super) fn one(world: &mut Afternoon, restarts: bool) -> String {
    if let Some(old) = world.namesake.take()
        && !world.random.one_in(4)
    {
        let ending = [Act::Delete, Act::DeleteTree, Act::KillExited][world.random.below(3)];
        if let Some(at) = world
            .trees
            .iter()
            .position(|tree| tree.serial == old && tree.id.is_some())
        {
            return format!("of the namesake: {}", exited(world, ending, at));
        }
    }
    loop {
        let act = choose(world);
        let restart = matches!(act, Act::RestartInOrder | Act::RestartAfterAKill);
        if (restarts || !restart)
            && let Some(what) = perform(world, act)
        {
            return what;
        }
    }
}

fn choose(world: &mut Afternoon) -> Act {
    let living = world.trees.iter().filter(|tree| tree.has_members()).count();
    if living >= TREES_MAX {
        return ENDINGS[world.random.below(ENDINGS.len())];
    }
    let all: usize = ACTS.iter().map(|(_, weight)| weight).sum();
    let mut at = world.random.below(all);
    for (act, weight) in ACTS {
        if at < weight {
            return act;
        }
        at -= weight;
    }
    Act::Create
}

/// None where there is nothing to do it to.
fn perform(world: &mut Afternoon, act: Act) -> Option<String> {
    match act {
        Act::Create => Some(create(world, None)),
        Act::CreateNamesake => {
            let old = any(world, |tree| is_exited(tree) && is_free(tree.leader_pid))?;
            Some(create(world, Some(old)))
        }
        Act::RunTrue => {
            let answer = world.server.run(&json!({"command": "true"}));
            assert_eq!(answer["exitCode"], 0, "{answer}");
            Some("run of true".to_owned())
        }
        Act::RunThatLeavesADaemon => Some(run_that_leaves_a_daemon(world)),
        Act::RunThatTimesOut => Some(run_that_times_out(world)),
        Act::RunWhoseClientLeaves => Some(run_whose_client_leaves(world)),
        Act::RunsInARow => {
            for _ in 0..100 {
                world.server.run(&json!({"command": "true"}));
            }
            Some("a hundred runs of true".to_owned())
        }
        Act::Stop => {
            let at = any(world, Tree::is_running)?;
            Some(stop(world, at))
        }
        Act::Kill => {
            let at = any(world, Tree::is_running)?;
            let tree = &mut world.trees[at];
            let what = format!("kill {}", tree.what());
            post(&world.server, tree, &format!("kill?{LONG}"));
            tree.becomes(After::Nobody);
            Some(what)
        }
        Act::KillExited | Act::Delete | Act::DeleteTree => {
            let somebody = world.random.one_in(2);
            let at = any(world, |tree| {
                is_exited(tree) && (!somebody || !tree.others.is_empty())
            })?;
            Some(exited(world, act, at))
        }
        Act::DeleteRunning => {
            let at = any(world, Tree::is_running)?;
            let tree = &world.trees[at];
            let answer = world.server.delete(&target(tree, ""));
            answer.problem(409, "conflict");
            Some(format!("delete running {}", tree.what()))
        }
        Act::EndByHand => {
            let at = any(world, |tree| tree.leader.is_none() && tree.has_members())?;
            let tree = &mut world.trees[at];
            let what = format!("{} ends without the server", tree.what());
            tree.others.iter().for_each(Member::kill);
            tree.becomes(After::Nobody);
            Some(what)
        }
        Act::LastInput => {
            let at = any(world, |tree| {
                tree.is_running() && tree.kind.is_some_and(|kind| kind.last_input().is_some())
            })?;
            let tree = &mut world.trees[at];
            let (text, after) = tree.kind?.last_input()?;
            let what = format!("last input to {}", tree.what());
            input(&world.server, tree, text);
            tree.becomes(after);
            Some(what)
        }
        Act::Input => {
            let at = any(world, |tree| {
                tree.is_running() && tree.kind.is_some_and(Kind::bears_input)
            })?;
            input(&world.server, &world.trees[at], "something\n");
            Some(format!("input to {}", world.trees[at].what()))
        }
        Act::Resize => {
            let at = any(world, |tree| tree.id.is_some() && is_terminal(tree))?;
            let size =
                json!({"cols": 20 + world.random.below(200), "rows": 5 + world.random.below(80)});
            let tree = &world.trees[at];
            let answer = world.server.post(&target(tree, "/terminal/resize"), &size);
            let expected = if tree.is_running() { 200 } else { 409 };
            assert_eq!(answer.status, expected, "{}", tree.what());
            Some(format!("resize {}", tree.what()))
        }
        Act::Attach | Act::Follow if world.viewers.len() >= VIEWERS_MAX => None,
        Act::Attach => {
            let at = any(world, |tree| tree.id.is_some() && is_terminal(tree))?;
            let tree = &world.trees[at];
            let ws = Ws::ask(&world.server, &terminal_path(tree.id.as_deref()?, ""), &[]);
            world
                .viewers
                .push(Viewer::Terminal(ws.expect("an upgrade")));
            Some(format!("attach to {}", tree.what()))
        }
        Act::Follow => {
            let at = any(world, |tree| tree.id.is_some())?;
            let tree = &world.trees[at];
            let mut conn = world.server.conn();
            let target = target(tree, "/logs?follow=true");
            conn.send(format!(
                "GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n",
                world.server.address
            ));
            let head = conn.head(crate::harness::WAIT).expect("a head");
            assert_eq!(head.status, 200);
            world.viewers.push(Viewer::Follower(conn));
            Some(format!("follow {}", tree.what()))
        }
        Act::HangUp => hang_up(world),
        Act::Logs => {
            let at = any(world, |tree| tree.id.is_some())?;
            let query = ["", "?tail=3", "?stream=stdout", "?since=2"][world.random.below(4)];
            let tree = &world.trees[at];
            world
                .server
                .get(&target(tree, &format!("/logs{query}")))
                .expect(200);
            Some(format!("logs of {}", tree.what()))
        }
        Act::Configure => {
            let kib = 1 + world.random.below(64) as u64;
            world
                .server
                .configure(&[("maxLogBytesPerProcess", kib << 10)]);
            Some(format!("logs of {kib} KiB"))
        }
        Act::Poke => poke(world),
        Act::ComeStranger => Some(come_stranger(world)),
        Act::ComeNeighbour => Some(come_neighbour(world)),
        Act::RestartInOrder => {
            world.restart(libc::SIGTERM, |_| ());
            Some("SIGTERM to the server, and the next one".to_owned())
        }
        Act::RestartAfterAKill => Some(restart_after_a_kill(world)),
    }
}

/// Any tree of the server for which `fits` is true.
pub(super) fn any(world: &mut Afternoon, fits: impl Fn(&Tree) -> bool) -> Option<usize> {
    let fitting: Vec<_> = (0..world.trees.len())
        .filter(|&at| fits(&world.trees[at]))
        .collect();
    world.random.choose(&fitting).copied()
}

fn is_exited(tree: &Tree) -> bool {
    tree.id.is_some() && tree.leader.is_none()
}

fn is_terminal(tree: &Tree) -> bool {
    tree.kind.is_some_and(Kind::is_terminal)
}

pub(super) fn is_free(pid: i32) -> bool {
    pid > 1 && !std::path::Path::new(&format!("/proc/{pid}")).exists()
}

fn target(tree: &Tree, more: &str) -> String {
    let id = tree.id.as_deref().expect("a record");
    format!("/v1/processes/{id}{more}")
}

fn post(server: &Server, tree: &Tree, more: &str) -> Value {
    server.post_empty(&target(tree, &format!("/{more}"))).json()
}

fn input(server: &Server, tree: &Tree, text: &str) {
    let body = json!({"data": text, "encoding": "utf8"});
    server.post(&target(tree, "/input"), &body).expect(200);
}

/// A new process, if that can be with the number that the leader of the tree `namesake` had.
fn create(world: &mut Afternoon, namesake: Option<usize>) -> String {
    let privileged = world.is_privileged();
    let possible: Vec<_> = KINDS
        .into_iter()
        .filter(|kind| kind.is_possible(&world.room, privileged))
        .collect();
    let kind = *world.random.choose(&possible).expect("a kind");
    let body = kind.body(&world.room, privileged, &mut world.random);
    let (tag, mut body) = tagged(world, body);
    if kind == Kind::Shell {
        body["env"]["PS1"] = "$ ".into();
    }
    let old = namesake.map(|at| (world.trees[at].serial, world.trees[at].leader_pid));
    if let Some((_, pid)) = old {
        next_pid(pid);
    }
    let info = world.server.create(&body);
    let id = info["id"].as_str().expect("an id").to_owned();
    let pid = info["pid"].as_i64().expect("a pid") as i32;
    if let Some(text) = kind.first_input() {
        let body = json!({"data": text, "encoding": "utf8"});
        world
            .server
            .post(&format!("/v1/processes/{id}/input"), &body)
            .expect(200);
    }
    let leader = (!kind.leader_leaves()).then_some(pid);
    let members = world.settle(&tag, leader, kind.others());
    let tree = world.enter(Some(kind), Some(id), pid, members);
    let mut what = format!("create {}", tree.what());
    world.trees.push(tree);
    if let Some((serial, old)) = old {
        world.namesake = (old == pid).then_some(serial);
        let got = if old == pid { "has" } else { "has not" };
        what.push_str(&format!(", which {got} the number of t{serial}"));
    }
    what
}

/// The request with a tag of its own in its environment.
pub(super) fn tagged(world: &mut Afternoon, mut body: Value) -> (String, Value) {
    world.serial += 1;
    let tag = format!("t{}", world.serial);
    body["env"] = json!({TAG: tag});
    (tag, body)
}

fn stop(world: &mut Afternoon, at: usize) -> String {
    let (grace, gone) = (world.random.one_in(2), world.random.one_in(3));
    let tree = &mut world.trees[at];
    let what = tree.what();
    let after = tree.kind.map_or(After::Nobody, Kind::after_stop);
    if after != After::Everybody {
        post(&world.server, tree, &format!("stop?{LONG}"));
        tree.becomes(after);
        return format!("stop {what}");
    }
    if grace {
        post(&world.server, tree, &format!("stop?graceMs=30&{LONG}"));
        tree.becomes(After::Nobody);
        return format!("stop with grace {what}");
    }
    if gone {
        let mut conn = world.server.conn();
        let target = target(tree, "/stop?waitMs=31536000000");
        conn.send(format!(
            "POST {target} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
            world.server.address
        ));
        return format!("stop in vain, and hang up, {what}");
    }
    let info = post(&world.server, tree, "stop?waitMs=20");
    assert_eq!(info["status"], "running", "{info}");
    format!("stop in vain {what}")
}

/// Something to a record whose leader is gone.
fn exited(world: &mut Afternoon, act: Act, at: usize) -> String {
    let tree = &mut world.trees[at];
    let what = tree.what();
    let others = tree.others.len();
    match act {
        Act::KillExited => {
            post(&world.server, tree, &format!("kill?{LONG}"));
            tree.becomes(After::Nobody);
            format!("kill exited {what}, {others} others")
        }
        Act::DeleteTree => {
            world
                .server
                .delete(&target(tree, "?tree=true"))
                .expect_empty(204);
            tree.id = None;
            tree.becomes(After::Nobody);
            format!("delete with its tree {what}, {others} others")
        }
        _ => {
            world.server.delete(&target(tree, "")).expect_empty(204);
            tree.id = None;
            format!("delete {what}, {others} others")
        }
    }
}

fn hang_up(world: &mut Afternoon) -> Option<String> {
    if world.viewers.is_empty() {
        return None;
    }
    let at = world.random.below(world.viewers.len());
    let hard = world.random.one_in(2);
    match world.viewers.swap_remove(at) {
        Viewer::Terminal(ws) if hard => ws.cut(),
        Viewer::Follower(conn) if hard => conn.reset(),
        viewer => drop(viewer),
    }
    Some("a viewer hangs up".to_owned())
}

/// A daemon of some tree starts another one, in a session of its own.
fn poke(world: &mut Afternoon) -> Option<String> {
    let at = any(world, |tree| {
        tree.others.iter().any(|member| member.name().0 == "daemon")
    })?;
    let tree = &world.trees[at];
    let daemon = tree
        .others
        .iter()
        .find(|member| member.name().0 == "daemon")?;
    daemon.signal(rustix::process::Signal::USR1);
    let (tag, what) = (tree.tag(), tree.what());
    let leader = tree.leader.as_ref().map(|leader| leader.pid);
    let count = tree.others.len() + 1;
    let (leader, others) = world.settle(&tag, leader, count);
    let tree = &mut world.trees[at];
    (tree.leader, tree.others) = (leader, others);
    tree.grown |= tree.leader.is_none();
    Some(format!("a daemon of {what} starts another"))
}
