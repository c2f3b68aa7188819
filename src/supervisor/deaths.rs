//! Deaths: of managed children, announced by their pidfds, and of orphans, by SIGCHLD.
//!
//! In: signals, an exited child's pidfd, a look that is due. Out: [`Event::Exited`]; nobody stays a
//! zombie. What it means for a tree that is being killed is `ending`'s.

use std::time::Duration;

use crate::config::timeouts;
use crate::supervisor::job;
use crate::supervisor::message::Event;
use crate::supervisor::signals::Word;
use crate::supervisor::tree::procfs;
use crate::supervisor::{Due, Supervisor, kept, reap};
use crate::types::{Exit, ExitStatus, JobId};

/// So many are asked one by one whether they are dead. The kernel finds the dead ones among more
/// sooner, but looks at the managed children, too. So many are reaped in one go.
const ORPHANS_MANY: usize = 256;

/// One sweep in so many looks at all children: who was cloned with CLONE_PARENT by a managed child
/// is not among the adopted.
const SWEEPS_OF_ALL: u32 = 32;

impl Supervisor {
    /// Tells of a managed child and reaps it, if it is dead.
    pub(crate) fn on_exit(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let Some(leader) = job.leader.take() else {
            return;
        };
        let (pid, record) = (leader.pid(), job.record);
        self.unwritten.remove(&id);
        // If it can be reaped, its number is anybody's from here on.
        self.claims.left(id, pid);
        let status = match kept::reap(self.options.kept.as_ref(), record, leader) {
            Ok((status, used)) => {
                // Where a keeper reaps, its number may be another child's already.
                if self.by_pid.get(&pid) == Some(&id) {
                    self.by_pid.remove(&pid);
                }
                self.orphans.reaped(pid);
                job.reaped.add(used);
                status
            }
            Err(leader) if !leader.has_ended() => {
                self.claims.led(id, pid);
                job.leader = Some(leader);
                return;
            }
            Err(leader) if self.options.kept.is_some() && !reap::is_traced(pid) => {
                // The keeper rings when it has written that down.
                self.claims.led(id, pid);
                job.leader = Some(leader);
                self.unwritten.insert(id);
                return;
            }
            Err(leader) => {
                // A tracer has not let go of it; what will tell of that is SIGCHLD, or the keeper's
                // bell.
                self.unwatched = true;
                self.claims.led(id, pid);
                job.leader = Some(leader);
                procfs::stat(pid).map_or(ExitStatus::Signal(libc::SIGKILL), |stat| {
                    reap::from_wait_status(stat.exit_status)
                })
            }
        };
        let seen = self.clock.now();
        let is_news = !job.life.has_exited();
        let effects = job.life.on(job::Event::Exited(status), seen);
        if is_news {
            let reason = job.life.reason();
            let reason = reason.or_else(|| self.out_of_memory(id, status));
            if effects.tell_exit {
                let left = self.left_at_exit(id);
                if left == 0 {
                    self.deadlines.cancel(Due::Lifetime(id));
                }
                self.events.send(Event::Exited {
                    job: id,
                    seen,
                    exit: Exit { status, reason },
                    left,
                });
            }
        }
        self.cancel_limits(id);
        self.carry_out(id, effects);
        if is_news && self.jobs.get(&id).is_some_and(|job| !job.life.is_ending()) {
            // Passes over its tree have found nobody before this was known.
            self.on_event(id, job::Event::AnswerDue);
        }
        self.remove_if_forgotten(id);
        self.look_whether_all_gone();
    }

    /// Takes what the signalfd has: deaths, and the word to end.
    pub(crate) fn on_signals(&mut self) {
        let mut merged = false;
        while let Some(word) = self.signals.next() {
            match word {
                // Our own children come through their pidfds as well.
                Word::ChildDied(pid) => {
                    self.reap(pid);
                    merged = true;
                }
                Word::End => self.begin_shutdown(),
                Word::Reload => self.events.send(Event::Reload),
                Word::Upgrade => self.events.send(Event::Upgrade),
            }
        }
        // One signal may stand for several deaths.
        if merged {
            self.look_for_orphans();
        }
    }

    /// Looks for orphans that died unnoticed, in a moment.
    pub(crate) fn look_for_orphans(&mut self) {
        self.look_for_orphans_after(timeouts::ORPHAN_CHECK_AFTER);
    }

    fn look_for_orphans_after(&mut self, pause: Duration) {
        if !std::mem::replace(&mut self.orphan_check, true) {
            self.deadlines.set(self.clock.now() + pause, Due::Orphans);
        }
    }

    /// Reaps every dead child that nobody manages.
    pub(crate) fn reap_orphans(&mut self) {
        if self.options.kept.is_some() {
            return self.miss_orphans();
        }
        let adopted = procfs::adopted().filter(|pids| pids.len() <= ORPHANS_MANY);
        self.sweeps = self.sweeps.wrapping_add(1);
        if !self.unwatched
            && !self.sweeps.is_multiple_of(SWEEPS_OF_ALL)
            && let Some(adopted) = adopted
        {
            adopted.into_iter().for_each(|pid| self.reap(pid));
            return;
        }
        for _ in 0..ORPHANS_MANY {
            let Some(reap::Dead { pid, .. }) = reap::peek_any() else {
                return;
            };
            if self.pool.is_in_flight(pid) {
                // It will be reported in a moment, and hides the others until then.
                return self.look_for_orphans_after(Duration::from_millis(2));
            }
            self.reap(pid);
        }
        // The others after what else there is to do.
        self.look_for_orphans_after(Duration::ZERO);
    }

    /// Reaps a child if it is dead, unless its spawner has yet to report it.
    pub(crate) fn reap(&mut self, pid: i32) {
        if let Some(&job) = self.by_pid.get(&pid) {
            self.on_exit(job);
        } else if !self.pool.is_in_flight(pid) {
            self.reap_orphan(pid);
        }
    }
}
