//! Trees whose memory has a bound: who of them was killed for want of it.
//!
//! In: news that `memory.events` of a group has changed, exits of leaders. Out: [`Event::OutOfMemory`],
//! and [`ExitReason::OutOfMemory`] for a leader that was killed so. Kills nobody: the kernel does.
//!
//! One inotify(7) descriptor has a watch on that file of each such group, so a tree without a bound
//! costs nothing and one with a bound no descriptor. The kernel tells of one change in 10 ms, and
//! of the first at once, which is most often that a bound was met: until the next one would be
//! told, the file is looked at again and again. So a kill is met while its victim ends, and who is
//! killed by somebody else a moment later is not taken for it.
//!
//! The file counts kills and does not say who. The kernel counts one just before it sends the signal,
//! so at the exit of its victim it is there. Where a count is met first, the leader is looked at: if it
//! is not on its way out then and a moment later, it has been spared, and what kills it later is
//! something else. The kill is told when that is known, so whoever hears of it while the leader runs
//! knows that it was not the leader.

use std::collections::HashMap;
use std::time::Duration;

use rustix::event::epoll;
use rustix::event::epoll::EventFlags;

use crate::supervisor::cgroup::Group;
use crate::supervisor::message::Event;
use crate::supervisor::tree::identity::Leader;
use crate::supervisor::tree::procfs;
use crate::supervisor::{Due, Supervisor, TOKEN_MEMORY};
use crate::types::{ExitReason, ExitStatus, JobId, Monotonic};

/// Between two looks at what has changed, and at a leader. A SIGKILL of somebody else's that a leader
/// gets in twice this time after a kill in its tree is taken for the kernel's.
const PAUSE: Duration = Duration::from_millis(2);

/// Where many trees live at their bounds, so much for each: some twenty times what a look takes. (Not
/// measured each time: a thread that waits for a processor would look later still.)
const PAUSE_EACH: Duration = Duration::from_micros(100);

/// For so long after a change was told, another one may not have been (CGROUP_FILE_NOTIFY_MIN_INTV in
/// kernel/cgroup/cgroup.c, in ticks of up to 10 ms).
const UNTOLD_MAX: Duration = Duration::from_millis(20);

/// What is known of the kills in a tree.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kills {
    /// How many were met.
    met: u64,
    leader: Fate,
}

impl Kills {
    /// So many have been counted by now; whether some are new. The leader is looked at if they are.
    fn meet(&mut self, counted: u64, is_on_its_way_out: impl FnOnce() -> bool) -> bool {
        if counted <= self.met {
            return false;
        }
        self.met = counted;
        if self.leader != Fate::Killed {
            self.leader = match is_on_its_way_out() {
                true => Fate::Killed,
                false => Fate::Unsure,
            };
        }
        true
    }

    /// The second look; whether there was need of it.
    fn settle(&mut self, is_on_its_way_out: impl FnOnce() -> bool) -> bool {
        if self.leader != Fate::Unsure {
            return false;
        }
        self.leader = match is_on_its_way_out() {
            true => Fate::Killed,
            false => Fate::Spared,
        };
        true
    }

    /// Whether the kernel has killed a leader that ended by SIGKILL, where so many kills are counted
    /// after its end. Its server may have sent that signal as well.
    fn explain(&self, counted: u64, asked_to_end: bool) -> bool {
        match self.leader {
            Fate::Killed => true,
            Fate::Unsure => !asked_to_end,
            Fate::Spared => counted > self.met && !asked_to_end,
        }
    }
}

/// What the kills that were met mean for a leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    /// It lives on.
    #[default]
    Spared,
    /// The signal may be on its way.
    Unsure,
    /// It is on its way out.
    Killed,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    /// The descriptor is waited for.
    is_listening: bool,
    jobs: HashMap<i32, JobId>,
    /// Trees that are looked at, since a change was told, and until when.
    changed: Vec<JobId>,
    until: Option<Monotonic>,
    /// Trees whose leaders are to be looked at again.
    unsure: Vec<JobId>,
}

fn data() -> epoll::EventData {
    epoll::EventData::new_u64(TOKEN_MEMORY)
}

fn is_on_its_way_out(leader: Option<&Leader>) -> bool {
    // In this order: a number that a keeper has given back says nothing of the leader, which has ended.
    leader.is_none_or(|leader| procfs::is_on_its_way_out(leader.pid()) || leader.has_ended())
}

impl Supervisor {
    /// A tree is about to be started in a group whose memory has a bound. Where its changes cannot be
    /// watched, they are seen at the exit.
    pub(crate) fn watch_memory(&mut self, id: JobId, group: &Group) {
        let Some(cgroups) = &mut self.cgroups else {
            return;
        };
        let Some((watcher, watch)) = cgroups.watch(group) else {
            return;
        };
        if !self.watches.is_listening {
            let flags = EventFlags::IN | EventFlags::ONESHOT;
            let added = epoll::add(&self.epoll, watcher.descriptor(), data(), flags);
            self.watches.is_listening = added.is_ok();
        }
        self.watches.jobs.insert(watch, id);
    }

    /// Goes on with the tree of a server that is gone, whose group has bounds: kills until now were
    /// told, or nobody knows whom they were of.
    pub(crate) fn watch_memory_on(&mut self, id: JobId, group: &Group) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.kills.met = group.ooms().unwrap_or(0);
        }
        self.watch_memory(id, group);
    }

    /// Nobody asks about the tree in a group any more.
    pub(crate) fn unwatch_memory(&mut self, group: &Group) {
        if let Some(watch) = group.watch() {
            self.watches.jobs.remove(&watch);
        }
    }

    /// Something has changed; it may change again at once.
    pub(crate) fn on_memory(&mut self) {
        let watcher = self.cgroups.as_ref().and_then(|cgroups| cgroups.watcher());
        let changed = watcher.map(|watcher| watcher.changed());
        let jobs = changed.iter().flatten();
        let jobs = jobs.filter_map(|watch| self.watches.jobs.get(watch).copied());
        self.watches.changed = jobs.collect();
        self.watches.until = Some(self.clock.now() + UNTOLD_MAX);
        self.look_at_changed();
    }

    /// Looks at who has changed, and again after a pause.
    fn look_at_changed(&mut self) {
        let changed = std::mem::take(&mut self.watches.changed);
        for &id in &changed {
            self.look_at_memory(id);
        }
        let trees = u32::try_from(changed.len()).unwrap_or(u32::MAX);
        self.watches.changed = changed;
        let pause = PAUSE.max(PAUSE_EACH.saturating_mul(trees));
        self.deadlines.set(self.clock.now() + pause, Due::Memory);
    }

    /// The pause is over.
    pub(crate) fn listen_to_memory(&mut self) {
        for id in std::mem::take(&mut self.watches.unsure) {
            self.settle_memory(id);
        }
        let until = self.watches.until;
        if until.is_some_and(|until| self.clock.now() < until) {
            return self.look_at_changed();
        }
        self.watches.until = None;
        self.watches.changed.clear();
        let watcher = self.cgroups.as_ref().and_then(|cgroups| cgroups.watcher());
        if let Some(watcher) = watcher {
            let flags = EventFlags::IN | EventFlags::ONESHOT;
            let _ = epoll::modify(&self.epoll, watcher.descriptor(), data(), flags);
        }
    }

    /// Tells of a kill that was not known, or soon will.
    fn look_at_memory(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let Some(kills) = job.tree.group.as_ref().and_then(|group| group.ooms()) else {
            return;
        };
        let leader = job.leader.as_ref();
        if job.kills.meet(kills, || is_on_its_way_out(leader)) {
            match job.kills.leader {
                Fate::Unsure => self.watches.unsure.push(id),
                _ => self.events.send(Event::OutOfMemory { job: id }),
            }
        }
    }

    /// Tells of a kill of which it was not known whose it is.
    fn settle_memory(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            let leader = job.leader.as_ref();
            if job.kills.settle(|| is_on_its_way_out(leader)) {
                self.events.send(Event::OutOfMemory { job: id });
            }
        }
    }

    /// Why a leader has died that nobody has asked to end, if it was killed for want of memory.
    pub(crate) fn out_of_memory(&mut self, id: JobId, status: ExitStatus) -> Option<ExitReason> {
        let job = self.jobs.get(&id)?;
        let group = job.tree.group.as_ref()?;
        let killed = status == ExitStatus::Signal(libc::SIGKILL);
        // Of a run without a record nobody is told of other kills.
        let is_told = killed || job.tree.used_before.is_some();
        if !group.bounds_memory() || !is_told {
            return None;
        }
        let before = job.kills;
        let asked_to_end = job.life.is_ending();
        self.look_at_memory(id);
        // Told before its exit.
        self.settle_memory(id);
        let counted = self.jobs.get(&id)?.kills.met;
        let by_kernel = killed && before.explain(counted, asked_to_end);
        by_kernel.then_some(ExitReason::OutOfMemory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After kills that were met while the leader was or was not on its way out, and perhaps a second
    /// look.
    fn kills(met: u64, first: bool, second: Option<bool>) -> Kills {
        let mut kills = Kills::default();
        assert!(kills.meet(met, || first));
        if let Some(second) = second {
            assert_eq!(kills.settle(|| second), !first);
        }
        kills
    }

    #[test]
    fn a_kill_is_the_leaders_if_it_is_on_its_way_out_by_the_second_look() {
        assert!(kills(1, true, None).explain(1, false));
        assert!(kills(1, false, Some(true)).explain(1, false));
        // It is not known yet.
        assert!(kills(1, false, None).explain(1, false));
        // What kills it later is something else, unless there is another kill.
        let spared = kills(1, false, Some(false));
        assert!(!spared.explain(1, false));
        assert!(spared.explain(2, false));
        // Nobody was killed at all; the first kill is met at its end.
        assert!(!Kills::default().explain(0, false));
        assert!(Kills::default().explain(1, false));
    }

    #[test]
    fn where_the_server_has_killed_it_only_what_was_seen_before_counts() {
        assert!(kills(1, true, None).explain(1, true));
        assert!(!kills(1, false, None).explain(1, true));
        assert!(!kills(1, false, Some(false)).explain(2, true));
        assert!(!Kills::default().explain(1, true));
    }

    #[test]
    fn each_kill_is_news_once_and_a_leader_is_looked_at_no_more_than_needed() {
        let mut kills = kills(2, false, Some(false));
        let never = || unreachable!("nothing is new");
        assert!(!kills.meet(2, never));
        assert!(!kills.settle(never));
        assert!(kills.meet(3, || true));
        assert!(!kills.settle(never));
        // It cannot come back.
        assert!(kills.meet(4, never));
        assert_eq!(kills.leader, Fate::Killed);
    }
}
