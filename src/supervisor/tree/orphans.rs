//! Orphans that the kernel gave to the server, and which tree each came from.
//!
//! In: what /proc says, at one moment. Out: those of a tree. One look serves every tree that is
//! being killed in the same turn: hundreds of trees may end at once, with hundreds of orphans, and
//! a look at each orphan for each tree would take seconds. Kills nobody.
//!
//! Parentage is lost when an orphan is adopted, so it is known by what it kept:
//! - its session is the leader's (the leader calls setsid; a daemon may leave it);
//! - it carries the tree's [`Mark`](super::mark::Mark);
//! - one of its descriptors 0 to 2 is a pipe or terminal of this tree.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::fs;

use rustix::process::{Pid, test_kill_process};

use crate::supervisor::reap;
use crate::supervisor::tree::kill::{self, Stat, Tree};
use crate::supervisor::tree::mark;

/// Looks in a row, while somebody is found dead in each.
const LOOKS_MAX: u32 = 4;

/// Orphans by number in `alive`.
type Index<K> = HashMap<K, Vec<usize>>;

/// The living orphans of one moment.
#[derive(Debug)]
pub struct Orphans {
    alive: Vec<(i32, Stat)>,
    /// Nobody died while he was looked at. Who did may have left children that were not seen.
    settled: Cell<bool>,
    /// Who was reaped meanwhile.
    reaped: Vec<i32>,
    by_session: Index<i32>,
    by_mark: OnceCell<Index<u64>>,
    by_file: OnceCell<Index<String>>,
}

impl Orphans {
    /// Looks; `managed` says which children of the server lead trees. Reaps the dead it meets.
    pub fn look(managed: &dyn Fn(i32) -> bool) -> Self {
        Self::look_at(managed, &|| {
            kill::adopted().unwrap_or_else(|| kill::children_of(std::process::id() as i32))
        })
    }

    /// As [`Orphans::look`], but at all children of the server: a process that was cloned with
    /// CLONE_PARENT by a leader is the spawner thread's child from the beginning.
    pub fn look_everywhere(managed: &dyn Fn(i32) -> bool) -> Self {
        Self::look_at(managed, &|| kill::children_of(std::process::id() as i32))
    }

    fn look_at(managed: &dyn Fn(i32) -> bool, children: &dyn Fn() -> Vec<i32>) -> Self {
        let mut looks = 0;
        let mut reaped = Vec::new();
        loop {
            looks += 1;
            let (mut orphans, dead) =
                Self::among(children().into_iter().filter(|&pid| !managed(pid)));
            // Children of the dead came to the end of the list, perhaps after it was read.
            if dead.is_empty() || looks == LOOKS_MAX {
                orphans.settled.set(dead.is_empty());
                orphans.reaped = reaped;
                return orphans;
            }
            reaped.extend(dead.into_iter().filter(|&pid| reap::reap_orphan(pid)));
        }
    }

    /// Who was found dead and reaped: their numbers may be others' by now.
    pub(crate) fn reaped(&self) -> &[i32] {
        &self.reaped
    }

    /// The living, whoever they belong to.
    pub(crate) fn alive(&self) -> impl Iterator<Item = i32> + '_ {
        self.alive.iter().map(|(pid, _)| *pid)
    }

    /// Whether those of a tree are all that there are.
    pub fn settled(&self) -> bool {
        self.settled.get()
    }

    /// Nothing could be read of a process, which may mean that it has died meanwhile.
    fn found_nothing(&self, pid: i32) {
        if is_dead(pid, kill::stat(pid)) {
            self.settled.set(false);
        }
    }

    /// The living among them, and the dead.
    pub(crate) fn among(pids: impl Iterator<Item = i32>) -> (Self, Vec<i32>) {
        let (mut alive, mut dead) = (Vec::new(), Vec::new());
        for pid in pids {
            let stat = kill::stat(pid);
            if is_dead(pid, stat) {
                dead.push(pid);
            } else if let Some(stat) = stat {
                alive.push((pid, stat));
            }
        }
        let by_session = index(alive.iter().map(|(_, stat)| [stat.session]));
        let orphans = Self {
            alive,
            settled: Cell::new(true),
            reaped: Vec::new(),
            by_session,
            by_mark: OnceCell::new(),
            by_file: OnceCell::new(),
        };
        (orphans, dead)
    }

    /// Who belongs to `tree`; each once.
    pub fn of(&self, tree: &Tree) -> Vec<i32> {
        let mut found: Vec<usize> = Vec::new();
        found.extend(self.by_session.get(&tree.leader).into_iter().flatten());
        let pids = || self.alive.iter().map(|&(pid, _)| pid);
        let carried = |pid| {
            let carried = mark::carried(pid, &tree.mark);
            if carried.is_none() {
                self.found_nothing(pid);
            }
            carried
        };
        // All marks of one server are of one kind, so any tree's will do to read them by.
        let by_mark = self.by_mark.get_or_init(|| index(pids().map(carried)));
        let marked = by_mark.get(&tree.mark.value()).into_iter().flatten();
        found.extend(marked.filter(|&&n| self.alive[n].1.start_ticks >= tree.mark.since_ticks));
        if !tree.marks.is_empty() {
            let files = |pid| {
                let files = files(pid);
                if files.is_empty() {
                    self.found_nothing(pid);
                }
                files
            };
            let by_file = self.by_file.get_or_init(|| index(pids().map(files)));
            for mark in &tree.marks {
                found.extend(by_file.get(mark).into_iter().flatten());
            }
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|n| self.alive[n].0).collect()
    }
}

/// A zombie or gone. Where /proc is mounted with hidepid, a living process may have no `stat`.
fn is_dead(pid: i32, stat: Option<Stat>) -> bool {
    match (stat, Pid::from_raw(pid)) {
        (Some(stat), _) => !stat.is_alive(),
        (None, Some(pid)) => test_kill_process(pid) == Err(rustix::io::Errno::SRCH),
        (None, None) => true,
    }
}

fn index<K: std::hash::Hash + Eq>(keys: impl Iterator<Item: IntoIterator<Item = K>>) -> Index<K> {
    let mut index = Index::new();
    for (n, keys) in keys.enumerate() {
        for key in keys {
            index.entry(key).or_insert_with(Vec::new).push(n);
        }
    }
    index
}

/// What descriptors 0 to 2 of a process are, as far as that may be read.
fn files(pid: i32) -> Vec<String> {
    let target = |fd| fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok();
    (0..3)
        .filter_map(target)
        .filter_map(|target| target.into_os_string().into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::tree::mark::Marks;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    #[test]
    fn each_tree_gets_those_of_its_session_or_with_its_files_and_nobody_else() {
        let (_reader, writer) = std::io::pipe().unwrap();
        let link = files_of(&writer);
        let sleeper = || {
            let mut command = Command::new("sleep");
            command.arg("60").process_group(0);
            command
        };
        let mut with_pipe = sleeper().stdout(Stdio::from(writer)).spawn().unwrap();
        let mut other = sleeper().stdout(Stdio::null()).spawn().unwrap();
        let mut dead = Command::new("true").spawn().unwrap();
        while kill::stat(dead.id() as i32).is_some_and(|stat| stat.is_alive()) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let pids = [&with_pipe, &other, &dead].map(|child| child.id() as i32);
        let (orphans, gone) = Orphans::among(pids.into_iter());
        assert_eq!(gone, [pids[2]]);

        let session = kill::stat(pids[0]).unwrap().session;
        let tree = |leader, marks: Vec<String>| Tree {
            leader,
            reaped: true,
            mark: Marks::new().take(),
            marks,
            group: None,
        };
        assert!(orphans.of(&tree(-1, Vec::new())).is_empty());
        assert_eq!(orphans.of(&tree(-1, vec![link.clone()])), [pids[0]]);
        let both = orphans.of(&tree(session, vec![link]));
        assert_eq!(both, [pids[0], pids[1]]);

        for child in [&mut with_pipe, &mut other] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        dead.wait().unwrap();
    }

    #[test]
    fn who_started_before_the_tree_is_not_of_it_whatever_it_carries() {
        let pid = std::process::id() as i32;
        let (orphans, _) = Orphans::among(std::iter::once(pid));
        let mut mark = Marks::new().take();
        let own = mark::carried(pid, &mark).unwrap();
        match &mut mark.io_priority {
            Some(priority) => *priority = own as i32,
            None => mark.timer_slack_ns = own,
        }
        let started = kill::stat(pid).unwrap().start_ticks;
        let of_tree_since = |since_ticks| {
            orphans.of(&Tree {
                leader: -1,
                reaped: true,
                mark: crate::supervisor::tree::mark::Mark {
                    since_ticks,
                    ..mark
                },
                marks: Vec::new(),
                group: None,
            })
        };
        assert_eq!(of_tree_since(started), [pid]);
        assert!(of_tree_since(started + 1).is_empty());
    }

    fn files_of(fd: &impl std::os::fd::AsRawFd) -> String {
        let link = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
        link.into_os_string().into_string().unwrap()
    }
}
