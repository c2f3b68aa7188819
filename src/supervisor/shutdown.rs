//! The server's end: SIGTERM to everything, a grace, SIGKILL, and the word that nobody is left.
//!
//! In: a signal, the death of a child, another pass that is due. Out: [`Event::ShuttingDown`],
//! then [`Event::AllGone`]. What it does to one tree is the supervisor's.

use std::time::Duration;

use crate::config::timeouts;
use crate::supervisor::job;
use crate::supervisor::message::Event;
use crate::supervisor::tree::procfs;
use crate::supervisor::tree::walk::Walk;
use crate::supervisor::{Due, PASS_PAUSE_MAX, Supervisor};
use crate::types::{JobId, Monotonic};

/// A server that ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shutdown {
    give_up_at: Monotonic,
    pause: Duration,
    done: bool,
}

impl Supervisor {
    /// SIGTERM to everything; a second call ends the grace.
    pub(crate) fn begin_shutdown(&mut self) {
        let now = self.clock.now();
        if self.shutdown.is_some() {
            self.pass_all(now);
            return;
        }
        let kill_at = self.ending_since(now) + self.options.shutdown_grace;
        self.shutdown = Some(Shutdown {
            give_up_at: kill_at.max(now) + timeouts::SHUTDOWN_MAX,
            pause: Duration::from_millis(1),
            done: false,
        });
        self.events.send(Event::ShuttingDown);
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        for id in ids {
            self.on_event(id, job::Event::Stop);
        }
        self.deadlines.set(kill_at, Due::PassAll);
        self.look_whether_all_gone();
    }

    /// Since when everything is being ended: a server that has died on its way has told the one that
    /// comes after it.
    fn ending_since(&self, now: Monotonic) -> Monotonic {
        let Some(kept) = &self.options.kept else {
            return now;
        };
        kept.records.ending_since().unwrap_or_else(|| {
            kept.records.set_ending_since(now);
            now
        })
    }

    /// Ends the grace early if nobody needs it. A child whose report is under way may.
    pub(crate) fn look_whether_all_gone(&mut self) {
        if self.shutdown.is_some() && self.by_pid.is_empty() && self.pool.is_quiet() {
            self.pass_all(self.clock.now());
        }
    }

    /// Kills every descendant there is; says so when none is left.
    pub(crate) fn pass_all(&mut self, now: Monotonic) {
        if let Some(cgroups) = &self.cgroups {
            cgroups.kill_all();
        }
        let mut walk = Walk::default();
        walk.add_listed(procfs::children_of_reaper());
        self.end_without_keeper();
        walk.step(None);
        self.reap_orphans();
        let quiet = walk.met().is_empty() && self.by_pid.is_empty() && self.pool.is_quiet();
        let Some(shutdown) = &mut self.shutdown else {
            return;
        };
        if shutdown.done {
            return;
        }
        if quiet || now >= shutdown.give_up_at {
            shutdown.done = true;
            // A run that timed out is answered before the last word.
            let unanswered: Vec<JobId> = self.jobs.keys().copied().collect();
            unanswered
                .into_iter()
                .for_each(|id| self.on_event(id, job::Event::AnswerDue));
            if let Some(cgroups) = &mut self.cgroups {
                cgroups.remove_all();
            }
            if let Some(state) = &mut self.options.state {
                state.remove();
            }
            self.events.send(Event::AllGone);
        } else {
            self.deadlines.set(now + shutdown.pause, Due::PassAll);
            shutdown.pause = (shutdown.pause * 2).min(PASS_PAUSE_MAX);
        }
    }
}
