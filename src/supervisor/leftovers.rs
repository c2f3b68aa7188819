//! What outlives the leader of its tree: how many there are, and when nobody is left.
//!
//! In: exits of leaders, deaths of orphans. Out: a count with [`Event::Exited`], and [`Event::Left`]
//! whenever it has changed. Kills nobody.
//!
//! The usual child leaves nobody, and to know that costs one read: of its group's `cgroup.events`,
//! or, without a group, of the list of orphans, which is empty or has nobody new in it.
//!
//! Nothing is polled. The last member of a tree has no parent but the server, which hears of its
//! death; whose it was is told by its group, or by the look at it when it became an orphan. Only
//! for a moment after the exit a tree is looked at some more times, because much of what is left
//! then is about to end.
//!
//! The count is that of the last exit or death that the server heard of. Members that have living
//! parents in the tree come and go without a word.
//!
//! [`Event::Exited`]: super::message::Event::Exited

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::supervisor::message::Event;
use crate::supervisor::tree::kill;
use crate::supervisor::tree::orphans::Orphans;
use crate::supervisor::{Due, Supervisor, reap};
use crate::types::JobId;

/// Pauses between the exit of a leader and looks at its tree. What is left after them counts as
/// what will stay: its group keeps no descriptor.
const LOOK_AFTER: [Duration; 3] = [
    Duration::from_millis(5),
    Duration::from_millis(15),
    Duration::from_millis(40),
];

/// A member whose death has been heard of may count as alive for a moment: newer kernels take a
/// task out of its group only after its parent has been told.
const LOOK_AFTER_DEATH: Duration = Duration::from_millis(20);

/// Looks in a row at orphans that are new, while somebody is found dead in each.
const LOOKS_MAX: u32 = 4;

/// Deaths in one turn whose groups are asked for; after more of them all trees are looked at.
const DEATHS_ASKED_MAX: usize = 32;

/// Trees without leaders, and the orphans that have been seen.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    /// Orphans that have been looked at, and the tree that they belong to. Each is reaped by this
    /// thread and leaves the table then, so that a number in it means the process it was.
    known: HashMap<i32, Option<JobId>>,
    /// Trees that live on.
    trees: HashMap<JobId, Left>,
    /// Trees in which somebody has died.
    changed: Vec<JobId>,
    /// Somebody has died and nobody knows in which tree.
    all_changed: bool,
}

/// What is known of a tree that lives on.
#[derive(Clone, Copy, Debug)]
struct Left {
    /// How many were told last.
    told: u32,
    /// Looks at it since the exit, of those in [`LOOK_AFTER`].
    looks: usize,
}

impl Leftovers {
    fn of(&self, id: JobId) -> impl Iterator<Item = i32> + '_ {
        let of = self.known.iter().filter(move |(_, of)| **of == Some(id));
        of.map(|(pid, _)| *pid)
    }

    /// Who was in `tree`, if that is known, has been reaped.
    fn died(&mut self, pid: i32, tree: Option<JobId>) {
        let known = self.known.remove(&pid).flatten();
        let trees = known.into_iter().chain(tree);
        self.changed
            .extend(trees.filter(|id| self.trees.contains_key(id)));
    }

    /// Orphans were reaped in the course of a look.
    pub(crate) fn reaped(&mut self, pids: &[i32]) {
        for pid in pids {
            self.known.remove(pid);
        }
        self.all_changed |= !pids.is_empty() && !self.trees.is_empty();
    }

    /// The trees to be counted, each once.
    fn take_changed(&mut self) -> Vec<JobId> {
        let mut changed = std::mem::take(&mut self.changed);
        if std::mem::take(&mut self.all_changed) {
            changed.extend(self.trees.keys());
        }
        changed.sort_unstable();
        changed.dedup();
        changed
    }
}

impl Supervisor {
    /// How many of the tree of a leader that has just been reaped live on. From now on every
    /// change is told.
    pub(crate) fn left_at_exit(&mut self, id: JobId) -> u32 {
        let left = self.count_left(id);
        if left > 0 {
            let first = Left {
                told: left,
                looks: 0,
            };
            self.leftovers.trees.insert(id, first);
            self.deadlines
                .set(Instant::now() + LOOK_AFTER[0], Due::Left(id));
        }
        left
    }

    /// A tree is due to be counted again.
    pub(crate) fn look_at_left(&mut self, id: JobId, now: Instant) {
        let Some(tree) = self.leftovers.trees.get_mut(&id) else {
            return;
        };
        self.leftovers.changed.push(id);
        if tree.looks == LOOK_AFTER.len() {
            return;
        }
        tree.looks += 1;
        if let Some(&pause) = LOOK_AFTER.get(tree.looks) {
            self.deadlines.set(now + pause, Due::Left(id));
        } else if let (Some(job), Some(cgroups)) = (self.jobs.get_mut(&id), &mut self.cgroups)
            && let Some(group) = &mut job.tree.group
            && group.is_populated()
        {
            *group = cgroups.close(group);
        }
    }

    /// Nobody of a tree is alive, as a count or passes over it have found.
    pub(crate) fn tree_is_gone(&mut self, id: JobId) {
        if self.forget_left(id) {
            self.events.send(Event::Left { job: id, left: 0 });
        }
    }

    /// Nobody wants to hear of a tree any more; whether somebody would have.
    pub(crate) fn forget_left(&mut self, id: JobId) -> bool {
        let known = self.leftovers.trees.remove(&id).is_some();
        if known {
            self.deadlines.cancel(Due::Left(id));
        }
        known
    }

    /// Reaps an orphan, if it is dead.
    pub(crate) fn reap_orphan(&mut self, pid: i32) {
        let tree = self.tree_by_group(pid);
        if reap::reap_orphan(pid) {
            self.leftovers.died(pid, tree);
        }
    }

    /// Counts the trees in which somebody has died, and tells what has changed.
    pub(crate) fn tell_left(&mut self) {
        loop {
            let changed = self.leftovers.take_changed();
            if changed.is_empty() {
                return;
            }
            for id in changed {
                if !self.leftovers.trees.contains_key(&id) {
                    continue;
                }
                let left = self.count_left(id);
                if left == 0 {
                    self.tree_is_gone(id);
                } else if let Some(tree) = self.leftovers.trees.get_mut(&id)
                    && std::mem::replace(&mut tree.told, left) != left
                {
                    self.events.send(Event::Left { job: id, left });
                }
            }
        }
    }

    /// The tree without a leader that a dead process was in, by its group.
    fn tree_by_group(&mut self, pid: i32) -> Option<JobId> {
        let leftovers = &mut self.leftovers;
        let cgroups = self.cgroups.as_ref()?;
        if leftovers.trees.is_empty() || leftovers.all_changed || !reap::has_ended(pid) {
            return None;
        }
        if leftovers.changed.len() >= DEATHS_ASKED_MAX {
            leftovers.all_changed = true;
            return None;
        }
        let name = cgroups.name_of(pid)?;
        let is_in = |id: &JobId| {
            let tree = self.jobs.get(id).map(|job| &job.tree);
            tree.and_then(|tree| tree.group.as_ref())
                .is_some_and(|group| group.name() == name)
        };
        let tree = leftovers.trees.keys().copied().find(is_in)?;
        let again = Instant::now() + LOOK_AFTER_DEATH;
        self.deadlines.set_if_earlier(again, Due::Left(tree));
        Some(tree)
    }

    /// How many of a tree are alive whose leader is not.
    fn count_left(&mut self, id: JobId) -> u32 {
        let Some(job) = self.jobs.get(&id) else {
            return 0;
        };
        let count = match (&job.tree.group, &self.cgroups) {
            (Some(group), Some(cgroups)) => match group.is_populated() {
                true => cgroups.members(group).max(1),
                false => 0,
            },
            _ => {
                self.learn_orphans(id);
                let mut of = self.leftovers.of(id).peekable();
                match of.peek() {
                    // Who is dead but not reaped may have left others: one until that is known.
                    Some(_) => kill::count(of).max(1),
                    None => 0,
                }
            }
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Looks at orphans that have not been looked at: most likely they are of the tree `id`.
    ///
    /// Where the kernel does not list orphans ([`kill::adopted`]) nobody is found: a search among
    /// all processes at every exit would cost too much.
    fn learn_orphans(&mut self, id: JobId) {
        for _ in 0..LOOKS_MAX {
            let mut new = kill::adopted().unwrap_or_default();
            new.retain(|&pid| !self.leftovers.known.contains_key(&pid) && !self.is_managed(pid));
            if new.is_empty() {
                return;
            }
            let (orphans, dead) = Orphans::among(new.into_iter());
            self.assign(&orphans, id);
            for &pid in &dead {
                self.reap_orphan(pid);
            }
            // Children of the dead came to the end of the list, perhaps after it was read.
            if dead.is_empty() {
                return;
            }
        }
    }

    /// Finds out whose these orphans are; `first` is asked first.
    fn assign(&mut self, orphans: &Orphans, first: JobId) {
        let known = &mut self.leftovers.known;
        known.extend(orphans.alive().map(|pid| (pid, None)));
        let mut unclaimed = orphans.alive().count();
        let mut claim = |id: JobId, pids: Vec<i32>| {
            for pid in pids {
                let before = known.insert(pid, Some(id));
                unclaimed -= usize::from(before == Some(None));
            }
            unclaimed == 0
        };
        if let Some(job) = self.jobs.get(&first)
            && claim(first, orphans.of(&job.tree))
        {
            return;
        }
        for (&id, job) in &self.jobs {
            // A tree with a group is counted by it, and one without a leader has no orphans yet.
            let counts = job.tree.group.is_none() && job.tree.leader > 0 && id != first;
            if counts && claim(id, orphans.of(&job.tree)) {
                return;
            }
        }
    }
}
