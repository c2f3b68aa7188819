//! Finds and kills what is left of a child's tree.
//!
//! In: who led the tree. Out: how many living members a pass found and killed. Knows no job table
//! and no deadline; the supervisor repeats passes until one finds nothing.
//!
//! Where the tree has a cgroup of its own, `cgroup.kill` ends it; the sweep then only looks for
//! members that moved themselves elsewhere. Without one the sweep is all there is:
//!
//! A member is the leader, a descendant by parentage, or one of the [`Orphans`] that carry the
//! tree's mark.
//!
//! A member is killed together with its process group: a group lies within one session, every
//! session of a tree was made in it, and one killpg(2) reaches also what is forking right now.
//!
//! An orphan that shed all of them lives until the server ends, which kills every descendant.

use std::collections::HashSet;
use std::fs;
use std::sync::{Arc, OnceLock};

use crate::supervisor::cgroup::Group;
use crate::supervisor::tree::mark::Mark;
use crate::supervisor::tree::orphans::Orphans;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};

/// Who led a tree, and the marks of its members.
#[derive(Debug)]
pub struct Tree {
    /// The leader's pid, also its session and group.
    pub leader: i32,
    /// Whether the leader has been reaped; its number may then be somebody else's.
    pub reaped: bool,
    /// What its members carry.
    pub mark: Mark,
    /// Targets of the links in `/proc/<pid>/fd` that belong to this tree only, such as `pipe:[4711]`.
    pub marks: Vec<String>,
    /// The cgroup that only this tree is in.
    pub group: Option<Arc<Group>>,
}

/// Sends a signal to the process group that `leader`, not yet reaped, leads.
pub fn signal_group(leader: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(leader) {
        let _ = kill_process_group(pid, signal);
    }
}

/// One pass: kills every living member of `tree` it can find and returns how many there were.
///
/// What it returns for a tree whose leader has been reaped is the whole truth only if `orphans`
/// were looked for after that.
pub fn pass(tree: &Tree, orphans: &Orphans) -> usize {
    // A group that was killed cannot be used again, so an empty one is left alone.
    if let Some(group) = &tree.group
        && (!tree.reaped || group.is_populated())
    {
        group.kill();
    }
    let mut members = HashSet::new();
    if !tree.reaped {
        signal_group(tree.leader, Signal::KILL);
        collect(tree.leader, &mut members);
    }
    let adopted = orphans.of(tree);
    // Who was alive counts, even if it has died by now: its children may be orphans since.
    let seen = adopted.len();
    for pid in adopted {
        collect(pid, &mut members);
    }
    let found = members.into_iter().filter(|&pid| kill(pid)).count();
    let more = tree.group.as_ref().is_some_and(|g| g.is_populated());
    let unsure = usize::from(!orphans.settled());
    found.max(seen).max(unsure).max(usize::from(more))
}

/// How many of these processes and their descendants are alive.
pub(crate) fn count(pids: impl Iterator<Item = i32>) -> usize {
    let mut members = HashSet::new();
    pids.for_each(|pid| collect(pid, &mut members));
    let alive = |pid: &&i32| stat(**pid).is_some_and(|stat| stat.is_alive());
    members.iter().filter(alive).count()
}

/// One pass over every descendant of the server.
pub fn pass_all() -> usize {
    let mut members = HashSet::new();
    for child in children_of(std::process::id() as i32) {
        collect(child, &mut members);
    }
    members.into_iter().filter(|&pid| kill(pid)).count()
}

/// One pass over every process for which `wanted` is true, and its descendants. Returns who was
/// alive.
pub(crate) fn kill_all_with_descendants(wanted: &dyn Fn(i32, Stat) -> bool) -> Vec<i32> {
    let own = std::process::id() as i32;
    let mut members = HashSet::new();
    for pid in all_pids() {
        if pid != own && stat(pid).is_some_and(|stat| wanted(pid, stat)) {
            collect(pid, &mut members);
        }
    }
    // All are looked at before the first is killed: its whole group may die with it.
    members.retain(|&pid| stat(pid).is_some_and(|stat| stat.is_alive()));
    for &pid in &members {
        kill(pid);
    }
    members.into_iter().collect()
}

/// Whether a server like this one is the process or an ancestor of it.
pub(crate) fn has_server_above(mut pid: i32) -> bool {
    while pid > 0 {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.trim_end() == env!("CARGO_PKG_NAME") {
            return true;
        }
        pid = stat(pid).map_or(0, |stat| stat.parent);
    }
    false
}

/// The timer slack of a process, nanoseconds, where it may be read.
pub(crate) fn timer_slack_ns(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/timerslack_ns")).ok()?;
    text.trim().parse().ok()
}

/// Whether the process is alive (not a zombie); if so, kills it and its process group.
fn kill(pid: i32) -> bool {
    let Some(number) = Pid::from_raw(pid) else {
        return false;
    };
    let Ok(pidfd) = pidfd_open(number, PidfdFlags::empty()) else {
        return false;
    };
    // Looked at after the pidfd was opened: what it says is about the process we will signal.
    match stat(pid) {
        Some(stat) if stat.is_alive() => {
            // A child that has not come to setsid(2) yet is still in the server's group.
            if stat.group > 1 && stat.group != own_group() {
                signal_group(stat.group, Signal::KILL);
            }
            pidfd_send_signal(&pidfd, Signal::KILL).is_ok()
        }
        _ => false,
    }
}

/// The server's process group; 0 if that lies outside of its PID namespace.
fn own_group() -> i32 {
    static GROUP: OnceLock<i32> = OnceLock::new();
    *GROUP.get_or_init(|| stat(std::process::id() as i32).map_or(0, |own| own.group))
}

/// Adds `pid` and its descendants, breadth first.
fn collect(pid: i32, members: &mut HashSet<i32>) {
    let mut todo = vec![pid];
    while let Some(pid) = todo.pop() {
        if members.insert(pid) {
            todo.extend(children_of(pid));
        }
    }
}

/// Children of a process, those of all its threads (proc(5), `task/<tid>/children`, kernel 4.2
/// with CONFIG_PROC_CHILDREN); without that file, a look at every process.
pub(crate) fn children_of(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let mut children = Vec::new();
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => children.extend(
                list.split_ascii_whitespace()
                    .filter_map(|pid| pid.parse::<i32>().ok()),
            ),
            // The thread has ended meanwhile, or the file does not exist on this kernel.
            Err(_) if thread.path().exists() => return children_by_search(pid),
            Err(_) => {}
        }
    }
    children
}

/// Children that the kernel gave to this process, and few others: it gives them to the first
/// thread, while a child that was cloned is its thread's (find_new_reaper in kernel/exit.c). So
/// looking for orphans takes no longer where there are many managed children. None without the
/// file, see [`children_of`].
pub(crate) fn adopted() -> Option<Vec<i32>> {
    let own = std::process::id();
    let list = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).ok()?;
    Some(
        list.split_ascii_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect(),
    )
}

fn children_by_search(parent: i32) -> Vec<i32> {
    all_pids()
        .filter(|&pid| stat(pid).is_some_and(|stat| stat.parent == parent))
        .collect()
}

fn all_pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// What proc_pid_stat(5) says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    state: u8,
    pub(crate) parent: i32,
    group: i32,
    pub(crate) session: i32,
    /// Since boot.
    pub(crate) start_ticks: u64,
}

impl Stat {
    /// Neither a zombie nor further gone.
    pub(crate) fn is_alive(&self) -> bool {
        self.state != b'Z' && self.state != b'X'
    }
}

/// The fields after the command name, which may itself hold spaces and parentheses (proc(5)).
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after = &text[text.iter().rposition(|&b| b == b')')? + 1..];
    let mut fields = std::str::from_utf8(after).ok()?.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    let start_ticks = fields.nth(15)?.parse().ok()?;
    Some(Stat {
        state,
        parent,
        group,
        session,
        start_ticks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::Command;

    #[test]
    fn the_stat_of_a_process_is_read_whatever_its_name_is() {
        let odd = std::env::temp_dir().join(format!("a) Z 0 (b {}", std::process::id()));
        let sleep = ["/bin/sleep", "/usr/bin/sleep"].map(Path::new);
        symlink(sleep.iter().find(|path| path.exists()).unwrap(), &odd).unwrap();
        let mut child = Command::new(&odd)
            .arg("60")
            .process_group(0)
            .spawn()
            .unwrap();
        fs::remove_file(&odd).unwrap();

        let seen = stat(child.id() as i32).unwrap();
        // The kernel says 0 of a session whose leader is outside the pid namespace.
        let mine = stat(std::process::id() as i32).unwrap().session;
        assert_eq!(seen.parent, std::process::id() as i32);
        assert_eq!(seen.group, child.id() as i32);
        assert_eq!(seen.session, mine);
        assert!(seen.is_alive());

        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn children_are_found_by_either_way() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id() as i32;
        let me = std::process::id() as i32;
        assert!(children_of(me).contains(&pid));
        assert!(children_by_search(me).contains(&pid));
        assert!(kill(pid));
        child.wait().unwrap();
        assert!(!kill(pid));
    }
}
