//! The end of one tree: passes over it until nobody of it is left.
//!
//! In: a request to kill, a deadline, the death of a leader. Out: [`Event::TimedOut`] where a run
//! waits for it. All trees that are due in one turn of the supervisor share one look at the
//! orphans, taken after everything that has died in that turn was reaped.
//!
//! [`Event::TimedOut`]: super::message::Event::TimedOut

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use crate::supervisor::job::{Ending, Phase};
use crate::supervisor::tree::kill;
use crate::supervisor::tree::orphans::Orphans;
use crate::supervisor::{Due, PASS_PAUSE_MAX, Supervisor};
use crate::types::JobId;

/// Before the second pass; each further pause is twice as long.
const PASS_PAUSE_MIN: Duration = Duration::from_micros(500);

impl Supervisor {
    /// Begins to kill a tree, or does nothing if that is under way.
    pub(crate) fn end(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.ending.is_none() {
            job.ending = Some(Ending {
                pause: PASS_PAUSE_MIN,
                next: Instant::now(),
            });
            self.passing.push(id);
        }
    }

    /// Something has happened to a tree that is being killed: the next pass is due now.
    pub(crate) fn pass_soon(&mut self, id: JobId) {
        if let Some(ending) = self.jobs.get_mut(&id).and_then(|job| job.ending.as_mut()) {
            ending.next = Instant::now();
            self.passing.push(id);
        }
    }

    /// Notes that a starting child must not run unattended: its spawner is to wake us.
    pub(crate) fn hurry(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id)
            && !std::mem::replace(&mut job.hasty, true)
        {
            self.hasty += 1;
        }
    }

    /// One pass over every tree that is due.
    pub(crate) fn run_passes(&mut self) {
        if self.passing.is_empty() {
            return;
        }
        let mut due = std::mem::take(&mut self.passing);
        due.sort_unstable();
        due.dedup();
        let orphans = Orphans::look(&|pid| self.is_managed(pid));
        self.leftovers.reaped(orphans.reaped());
        let everywhere = OnceCell::new();
        for id in due {
            self.pass(id, &orphans, &everywhere);
        }
        if let Some(everywhere) = everywhere.get() {
            self.leftovers.reaped(everywhere.reaped());
        }
    }

    pub(crate) fn is_managed(&self, pid: i32) -> bool {
        self.by_pid.contains_key(&pid) || self.pool.is_in_flight(pid)
    }

    fn pass(&mut self, id: JobId, orphans: &Orphans, everywhere: &OnceCell<Orphans>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let now = Instant::now();
        let Some(ending) = &mut job.ending else {
            return;
        };
        // A pass that a death brought forward has made others superfluous.
        if now < ending.next {
            return;
        }
        if job.phase == Phase::Starting {
            // A start that hangs, on a dead mount for instance; what hangs can often be killed.
            self.pool.kill_in_flight(id);
            ending.next = now + PASS_PAUSE_MAX;
            self.deadlines.set(ending.next, Due::Pass(id));
            return self.hurry(id);
        }
        ending.next = now + ending.pause;
        ending.pause = (ending.pause * 2).min(PASS_PAUSE_MAX);
        let next = ending.next;
        if self.is_gone(id, orphans, everywhere) {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.ending = None;
            }
            self.deadlines.cancel(Due::Pass(id));
            self.tree_is_gone(id);
            self.answer_timeout(id);
            self.remove_if_forgotten(id);
        } else {
            self.deadlines.set(next, Due::Pass(id));
        }
    }

    /// Kills who is left of a tree; whether there was nobody.
    fn is_gone(&self, id: JobId, orphans: &Orphans, everywhere: &OnceCell<Orphans>) -> bool {
        let Some(tree) = self.jobs.get(&id).map(|job| &job.tree) else {
            return true;
        };
        if kill::pass(tree, orphans) > 0 || !tree.reaped {
            return false;
        }
        if tree.group.is_some() {
            // Nobody is missed in a group.
            return true;
        }
        let everywhere =
            everywhere.get_or_init(|| Orphans::look_everywhere(&|pid| self.is_managed(pid)));
        kill::pass(tree, everywhere) == 0
    }
}
