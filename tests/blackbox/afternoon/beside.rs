//! Acts that put somebody beside the server: strangers, and processes of another server.

use crate::harness::eventually;

use super::acts::{any, is_free, tagged};
use super::census::Member;
use super::kinds::Kind;
use super::namespace::next_pid;
use super::strangers::{SHAPES, Shape, Stranger, liken};
use super::tree::Tree;
use super::world::Afternoon;

const STRANGERS_MAX: usize = 20;

const NEIGHBOURS_MAX: usize = 10;

pub(super) fn come_stranger(world: &mut Afternoon) -> String {
    if world.strangers.len() >= STRANGERS_MAX {
        let at = world.random.below(world.strangers.len());
        let stranger = world.strangers.swap_remove(at);
        let what = format!("{} is sent away", stranger.what);
        stranger.send_away();
        return what;
    }
    if world.random.one_in(3)
        && let Some(what) = mark_stranger(world)
    {
        return what;
    }
    let shape = SHAPES[world.random.below(SHAPES.len())];
    let old = any(world, |tree| {
        tree.leader.is_none() && is_free(tree.leader_pid)
    });
    let pid = old.map(|at| world.trees[at].leader_pid);
    let may_be_like = !world.random.one_in(3);
    add_stranger(world, shape, pid, may_be_like)
}

/// A stranger gets the marks of a tree that began after it.
fn mark_stranger(world: &mut Afternoon) -> Option<String> {
    let at = any(world, has_living_leader)?;
    let like = world.trees[at].leader_pid;
    let mut marked = None;
    for stranger in &mut world.strangers {
        if stranger.liken(&world.room, like) {
            marked = Some(stranger.what.clone());
            break;
        }
    }
    marked
}

fn has_living_leader(tree: &Tree) -> bool {
    tree.leader.as_ref().is_some_and(Member::is_alive)
}

fn add_stranger(
    world: &mut Afternoon,
    shape: Shape,
    pid: Option<i32>,
    may_be_like: bool,
) -> String {
    world.serial += 1;
    let model = any(world, |tree| may_be_like && has_living_leader(tree));
    let like = model.map(|at| world.trees[at].leader_pid);
    let stranger = Stranger::start(&world.room, world.serial, shape, pid, like);
    let wanted = pid.map_or(String::new(), |pid| format!(", wanted {pid}"));
    let what = format!("{} comes{wanted}", stranger.what);
    world.strangers.push(stranger);
    what
}

pub(super) fn come_neighbour(world: &mut Afternoon) -> String {
    if world.neighbours.len() >= NEIGHBOURS_MAX {
        let at = world.random.below(world.neighbours.len());
        let mut tree = world.neighbours.swap_remove(at);
        tree.put_away(&world.neighbour);
        return format!("the other server ends its {}", tree.what());
    }
    let kinds = [
        Kind::Jobs,
        Kind::OrphanJobs,
        Kind::Daemon,
        Kind::Leaver,
        Kind::TerminalDaemon,
    ];
    let kind = kinds[world.random.below(kinds.len())];
    let privileged = world.is_privileged();
    let body = kind.body(&world.room, privileged, &mut world.random);
    let (tag, body) = tagged(world, body);
    let old = any(world, |tree| {
        tree.leader.is_none() && is_free(tree.leader_pid)
    });
    if let Some(at) = old {
        next_pid(world.trees[at].leader_pid);
    }
    let info = world.neighbour.create(&body);
    let id = info["id"].as_str().expect("an id").to_owned();
    let pid = info["pid"].as_i64().expect("a pid") as i32;
    let leader = (!kind.leader_leaves()).then_some(pid);
    let members = world.settle(&tag, leader, kind.others());
    let tree = world.enter(Some(kind), Some(id), pid, members);
    let mut what = format!("the other server creates {}", tree.what());
    // Marks of different servers may be the same. A daemon needs its own: what it has given up
    // is all else that its server could know it by.
    if matches!(kind, Kind::Jobs | Kind::OrphanJobs)
        && let Some(at) = any(world, |tree| tree.leader.is_some())
    {
        let from = world.trees[at].leader_pid;
        for member in tree.leader.iter().chain(&tree.others) {
            liken(&world.room, from, member.pid);
        }
        what.push_str(&format!(", marked as {from}"));
    }
    world.neighbours.push(tree);
    what
}

/// Some leaders die with the server, and strangers get their numbers before the next one starts.
pub(super) fn restart_after_a_kill(world: &mut Afternoon) -> String {
    let mut what = "SIGKILL to the server".to_owned();
    world.restart(libc::SIGKILL, |world| {
        let mut free = Vec::new();
        for at in 0..world.trees.len() {
            if world.random.one_in(3)
                && let Some(leader) = &world.trees[at].leader
            {
                leader.kill();
                let pid = leader.pid;
                eventually("a leader to go", || (!leader.is_alive()).then_some(()));
                free.push(pid);
            }
        }
        for pid in free.into_iter().take(3) {
            if world.strangers.len() >= STRANGERS_MAX {
                break;
            }
            let shape = [Shape::Session, Shape::Terminal, Shape::Headless][world.random.below(3)];
            what.push_str(&format!(
                ", {}",
                add_stranger(world, shape, Some(pid), false)
            ));
        }
    });
    what + ", and the next one"
}
