//! What outlives the leader of its tree: how many there are, and when nobody is left.
//!
//! In: exits of leaders, deaths of orphans. Out: a count with [`Event::Exited`], and [`Event::Left`]
//! whenever it has changed. Kills nobody.
//!
//! The usual child leaves nobody, and to know that costs two reads: of its group's `cgroup.events`,
//! and of the list of orphans, which is empty or has nobody new in it. That list has who left the
//! group; where there are hundreds of orphans, and for children of the leader's own parent
//! (CLONE_PARENT), a look at all children follows, one for all leaders that have exited meanwhile.
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

use std::collections::{HashMap, HashSet};

use crate::config::timeouts;
use crate::supervisor::cgroup::Group;
use crate::supervisor::message::Event;
use crate::supervisor::tree::walk;
use crate::supervisor::{Due, Supervisor, job, reap};
use crate::types::{JobId, Monotonic};

/// Orphans that are looked at in one go when a leader exits. After more of them the rest is left
/// to a look in steps.
pub(crate) const ORPHANS_AT_ONCE: usize = 64;

/// Where there are groups and more orphans than this are known, their list is not read at each exit.
const ORPHANS_KNOWN_MAX: usize = 256;

/// Deaths in one turn whose groups are asked for; after more of them all trees are looked at.
const DEATHS_ASKED_MAX: usize = 32;

/// Of those who seem to have left the group of a tree so many are asked, and counted.
const LEAVERS_MAX: usize = 32;

/// Trees without leaders.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    /// Trees that live on.
    trees: HashMap<JobId, Left>,
    /// Trees in which somebody has died.
    changed: Vec<JobId>,
    /// Somebody has died and nobody knows in which tree.
    all_changed: bool,
    /// A tree was counted before all orphans were known.
    counted_early: bool,
    /// Trees whose leaders have exited since there was a look at all children.
    unconfirmed: Vec<JobId>,
    /// Those that a look is for, with how many orphans of each are known, and its number.
    confirming: (Vec<(JobId, usize)>, u64),
}

/// What is known of a tree that lives on.
#[derive(Clone, Copy, Debug)]
struct Left {
    /// How many were told last.
    told: u32,
    /// Looks at it since the exit, of those in [`timeouts::LOOK_AFTER`].
    looks: usize,
}

impl Leftovers {
    /// Somebody of these trees has been reaped.
    fn died(&mut self, trees: impl Iterator<Item = JobId>) {
        self.changed
            .extend(trees.filter(|id| self.trees.contains_key(id)));
    }

    /// Whether orphans of any tree were reaped in the course of a look.
    pub(crate) fn look_has_reaped(&mut self, any: bool) {
        self.all_changed |= any && !self.trees.is_empty();
    }

    /// All orphans are known, as of now.
    pub(crate) fn look_is_over(&mut self) {
        self.all_changed |= std::mem::take(&mut self.counted_early);
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
            self.watch_left(id, left);
        }
        if self.leftovers.unconfirmed.is_empty() {
            let at = self.clock.now() + timeouts::LOOK_EVERYWHERE_AFTER;
            self.deadlines.set(at, Due::Unconfirmed);
        }
        self.leftovers.unconfirmed.push(id);
        left
    }

    fn watch_left(&mut self, id: JobId, told: u32) {
        let first = Left { told, looks: 0 };
        self.leftovers.trees.insert(id, first);
        self.deadlines
            .set(self.clock.now() + timeouts::LOOK_AFTER[0], Due::Left(id));
    }

    /// Leaders have exited, and somebody of their trees may not have been found. Of most trees
    /// nobody asks any more.
    pub(crate) fn confirm_left(&mut self) {
        let exited = std::mem::take(&mut self.leftovers.unconfirmed);
        let asked_for = exited.into_iter().filter(|id| self.jobs.contains_key(id));
        let mut trees: Vec<_> = asked_for
            .map(|id| (id, self.orphans.count_of(id)))
            .collect();
        if !trees.is_empty() {
            self.leftovers.confirming.0.append(&mut trees);
            self.leftovers.confirming.1 = self.plan_look();
        }
    }

    /// A look is over: whom it has found of those trees.
    pub(crate) fn count_found(&mut self, number: u64) {
        let (trees, awaited) = &mut self.leftovers.confirming;
        if number < *awaited {
            return;
        }
        for (id, before) in std::mem::take(trees) {
            let known = self.orphans.count_of(id);
            if self.jobs.get(&id).is_some_and(|job| job.ends_if_found) {
                match known {
                    0 => self.remove_if_forgotten(id),
                    _ => self.end_found(id),
                }
                continue;
            }
            let is_counted = self.leftovers.trees.contains_key(&id);
            let found = known > if is_counted { before } else { 0 };
            if found && self.jobs.get(&id).is_some_and(|job| !job.life.is_ending()) {
                if !is_counted {
                    self.watch_left(id, 0);
                }
                self.leftovers.changed.push(id);
            }
        }
    }

    /// A run is over, and somebody of it was found. It has been answered, so it can be no record.
    pub(crate) fn end_found(&mut self, id: JobId) {
        self.events.send(Event::FoundLate);
        self.on_event(id, job::Event::Kill);
    }

    /// Whether somebody of a tree whose leader has exited may not have been found.
    pub(crate) fn is_doubted(&self, id: JobId) -> bool {
        let of = &self.leftovers;
        of.unconfirmed.contains(&id) || of.confirming.0.iter().any(|(of, _)| *of == id)
    }

    /// Looks may have reaped somebody.
    pub(crate) fn note_reaped(&mut self) {
        self.leftovers.look_has_reaped(self.orphans.take_reaped());
        for (id, used) in self.orphans.take_used() {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.reaped.add(used);
            }
        }
    }

    /// Finds out about orphans that are new, if they are few; whether all are known.
    pub(crate) fn learn_orphans(&mut self) -> bool {
        let (by_pid, pool) = (&self.by_pid, &self.pool);
        let managed = |pid| by_pid.contains_key(&pid) || pool.is_in_flight(pid);
        let learned = self.orphans.learn(&self.claims, &managed, ORPHANS_AT_ONCE);
        self.note_reaped();
        learned
    }

    /// A tree is due to be counted again.
    pub(crate) fn look_at_left(&mut self, id: JobId, now: Monotonic) {
        let Some(tree) = self.leftovers.trees.get_mut(&id) else {
            return;
        };
        self.leftovers.changed.push(id);
        if tree.looks == timeouts::LOOK_AFTER.len() {
            return;
        }
        tree.looks += 1;
        if let Some(&pause) = timeouts::LOOK_AFTER.get(tree.looks) {
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
            self.remove_if_forgotten(id);
        }
    }

    /// Whether somebody of a tree without a leader is alive.
    pub(crate) fn has_left(&self, id: JobId) -> bool {
        self.leftovers.trees.contains_key(&id)
    }

    /// Nobody wants to hear of a tree any more; whether somebody would have.
    pub(crate) fn forget_left(&mut self, id: JobId) -> bool {
        let known = self.leftovers.trees.remove(&id).is_some();
        if known {
            self.deadlines.cancel(Due::Left(id));
            self.deadlines.cancel(Due::Lifetime(id));
        }
        known
    }

    /// Reaps an orphan, if it is dead.
    pub(crate) fn reap_orphan(&mut self, pid: i32) {
        let tree = self.tree_by_group(pid);
        if let Some(used) = reap::reap_orphan(pid) {
            let known = self.orphans.reaped(pid);
            if let Some(job) = known.or(tree).and_then(|id| self.jobs.get_mut(&id)) {
                job.reaped.add(used);
            }
            self.leftovers.died(known.into_iter().chain(tree));
        }
    }

    /// Somebody may have died who was reaped elsewhere: those who are known are looked for, and all
    /// trees without leaders are counted.
    pub(crate) fn miss_orphans(&mut self) {
        for pid in self.orphans.pids() {
            self.reap_orphan(pid);
        }
        self.leftovers.look_has_reaped(true);
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
        let again = self.clock.now() + timeouts::LOOK_AFTER_DEATH;
        self.deadlines.set_if_earlier(again, Due::Left(tree));
        Some(tree)
    }

    /// How many of a tree are alive whose leader is not.
    fn count_left(&mut self, id: JobId) -> u32 {
        let group = self.jobs.get(&id).and_then(|job| job.tree.group.clone());
        let count = match group.filter(|_| self.cgroups.is_some()) {
            Some(group) => self.count_in_and_outside(id, &group),
            None => {
                let learned = self.learn_orphans();
                if !learned {
                    self.leftovers.counted_early = true;
                    self.orphans.want(false);
                }
                let of = self.orphans.of(id);
                // Who is dead but not reaped may have left others: one until that is known.
                match of.is_empty() && learned {
                    true => 0,
                    false => walk::count(of).max(1),
                }
            }
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }
    /// Members of the tree's group, and those that have left it.
    fn count_in_and_outside(&mut self, id: JobId, group: &Group) -> usize {
        if self.orphans.known() <= ORPHANS_KNOWN_MAX {
            // If there are many, a look follows.
            self.learn_orphans();
        }
        let Some(cgroups) = &self.cgroups else {
            return 0;
        };
        let populated = group.is_populated();
        let mut outside = self.orphans.of(id);
        if populated && !outside.is_empty() {
            let listed: HashSet<i32> = group.members().into_iter().collect();
            outside.retain(|orphan| !listed.contains(&orphan.pid()));
            // Groups may be deeper than that list goes.
            outside.truncate(LEAVERS_MAX);
            let is_in = |pid| cgroups.name_of(pid).as_deref() == Some(group.name());
            outside.retain(|orphan| !is_in(orphan.pid()));
        }
        let outside = match outside.is_empty() {
            true => 0,
            false => walk::count(outside),
        };
        let within = match populated {
            true => cgroups.members(group).max(1),
            false => 0,
        };
        within + outside
    }
}
