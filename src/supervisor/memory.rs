//! Trees whose memory has a bound: who of them was killed for want of it.
//!
//! In: news that `memory.events` of a group has changed, exits of leaders. Out: [`Event::OutOfMemory`],
//! and [`ExitReason::OutOfMemory`] for a leader that was killed so. Kills nobody: the kernel does.
//!
//! One inotify(7) descriptor has a watch on that file of each such group, so a tree without a bound
//! costs nothing and one with a bound no descriptor. A tree that lives at its bound changes the file
//! again and again; it is looked at once in a while.
//!
//! The file counts kills and does not say who. The kernel counts one just before it sends the signal,
//! so at the exit of its victim it is there. Where a count is met first, the leader is looked at: if it
//! is not on its way out then and a moment later, it has been spared, and what kills it later is
//! something else.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::event::epoll::EventFlags;

use crate::supervisor::cgroup::Group;
use crate::supervisor::job::Job;
use crate::supervisor::message::Event;
use crate::supervisor::tree::procfs;
use crate::supervisor::{Due, Supervisor, TOKEN_MEMORY};
use crate::types::{ExitReason, ExitStatus, JobId};

/// Between two looks at what has changed.
const PAUSE: Duration = Duration::from_millis(20);

/// What is known of the kills in a tree.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kills {
    /// How many were told.
    told: u64,
    leader: Fate,
}

/// What the kills that were told mean for a leader.
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
    /// Trees whose leaders are to be looked at again.
    unsure: Vec<JobId>,
}

fn data() -> epoll::EventData {
    epoll::EventData::new_u64(TOKEN_MEMORY)
}

fn is_on_its_way_out(job: &Job) -> bool {
    let leader = job.leader.as_ref();
    leader.is_none_or(|leader| leader.has_ended() || procfs::is_on_its_way_out(leader.pid()))
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
            job.kills.told = group.ooms().unwrap_or(0);
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
        for watch in changed.into_iter().flatten() {
            if let Some(&id) = self.watches.jobs.get(&watch) {
                self.look_at_memory(id);
            }
        }
        self.deadlines.set(Instant::now() + PAUSE, Due::Memory);
    }

    /// The pause is over.
    pub(crate) fn listen_to_memory(&mut self) {
        for id in std::mem::take(&mut self.watches.unsure) {
            if let Some(job) = self.jobs.get_mut(&id)
                && job.kills.leader == Fate::Unsure
            {
                job.kills.leader = match is_on_its_way_out(job) {
                    true => Fate::Killed,
                    false => Fate::Spared,
                };
            }
        }
        let watcher = self.cgroups.as_ref().and_then(|cgroups| cgroups.watcher());
        if let Some(watcher) = watcher {
            let flags = EventFlags::IN | EventFlags::ONESHOT;
            let _ = epoll::modify(&self.epoll, watcher.descriptor(), data(), flags);
        }
    }

    /// Tells of a kill that has not been told.
    fn look_at_memory(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let Some(kills) = job.tree.group.as_ref().and_then(|group| group.ooms()) else {
            return;
        };
        if kills > job.kills.told {
            job.kills.told = kills;
            if job.kills.leader != Fate::Killed {
                job.kills.leader = match is_on_its_way_out(job) {
                    true => Fate::Killed,
                    false => Fate::Unsure,
                };
                self.watches.unsure.push(id);
            }
            self.events.send(Event::OutOfMemory { job: id });
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
        let asked_to_end = job.ending.is_some();
        self.look_at_memory(id);
        let since = self.jobs.get(&id)?.kills.told > before.told;
        let by_kernel = match before.leader {
            Fate::Killed => true,
            Fate::Unsure => !asked_to_end,
            Fate::Spared => since && !asked_to_end,
        };
        (killed && by_kernel).then_some(ExitReason::OutOfMemory)
    }
}
