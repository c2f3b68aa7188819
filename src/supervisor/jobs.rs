//! The jobs: each goes on with its life, until nobody asks for it any more.
//!
//! In: events of a life. Out: what that asks for, carried out. What a life is, is [`job`]'s.
//!
//! [`job`]: super::job

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use crate::config::timeouts;
use crate::supervisor::cgroup::Group;
use crate::supervisor::job::{Effects, Event};
use crate::supervisor::{Due, Supervisor, message};
use crate::types::JobId;

impl Supervisor {
    /// Has the life of a job go on, if there is one, and carries out what that asks for.
    pub(super) fn on_event(&mut self, id: JobId, event: Event) {
        if let Some(job) = self.jobs.get_mut(&id) {
            let effects = job.life.on(event, self.clock.now());
            self.carry_out(id, effects);
        }
    }

    /// What is to be done for a job; its exit is told by who has seen it.
    pub(super) fn carry_out(&mut self, id: JobId, effects: Effects) {
        self.awaited += usize::from(effects.awaited);
        self.awaited -= usize::from(effects.no_longer_awaited);
        if effects.stop
            && let Some(leader) = self.jobs.get(&id).and_then(|job| job.leader.as_ref())
        {
            leader.signal_group(Signal::TERM);
            // A stopped process handles SIGTERM only once it goes on.
            leader.signal_group(Signal::CONT);
        }
        if let Some(status) = effects.tell_timeout {
            self.events
                .send(message::Event::TimedOut { job: id, status });
        }
        if effects.answer_soon {
            let at = self.clock.now() + timeouts::ANSWER_AFTER;
            self.deadlines.set(at, Due::Answer(id));
        }
        if effects.pass {
            self.passing.push(id);
        }
    }

    /// Has the tree of a job killed after `grace`, unless its leader has exited by then. One grace
    /// per job: the earlier end holds, as it would if each stop had its own.
    pub(super) fn give_grace(&mut self, id: JobId, grace: Duration) {
        if self.jobs.get(&id).is_some_and(|job| !job.life.has_exited()) {
            self.deadlines
                .set_if_earlier(self.clock.now() + grace, Due::Grace(id));
        }
    }

    /// Cancels what is due only to a leader that runs.
    pub(super) fn cancel_limits(&mut self, id: JobId) {
        self.deadlines.cancel(Due::Timeout(id));
        self.deadlines.cancel(Due::Grace(id));
        self.cancel_escalations(id);
    }

    /// Nobody asks for a job any more.
    pub(super) fn forget(&mut self, id: JobId) {
        self.on_event(id, Event::Forgotten);
        self.remove_if_forgotten(id);
    }

    /// Nobody asks for a run any more, and nobody of it is known to be alive. It is remembered until
    /// there has been a look at all children, so that whom that finds is known to be of it.
    pub(super) fn run_is_over(&mut self, id: JobId) {
        self.on_event(id, Event::Forgotten);
        if self.has_left(id) {
            // Found when the answer was on its way.
            return self.end_found(id);
        }
        let is_doubted = self.is_doubted(id);
        match self.jobs.get_mut(&id) {
            Some(job) if is_doubted && job.life.is_done() => {
                job.ends_if_found = true;
                if let (Some(kept), Some(record)) = (&self.options.kept, job.record) {
                    // The next one in it is not to be ended for this one by another server.
                    kept.records.leaves_group(record);
                }
                if let Some(group) = job.tree.group.take() {
                    self.give_back(group);
                }
            }
            _ => self.remove_if_forgotten(id),
        }
    }

    fn give_back(&mut self, group: Arc<Group>) {
        self.unwatch_memory(&group);
        if let Some(cgroups) = &mut self.cgroups {
            cgroups.give_back(group);
        }
    }

    /// Removes a job that nobody asks for and that nothing is to be done with.
    pub(super) fn remove_if_forgotten(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get(&id)
            && job.life.is_done()
            // What it left is to be ended when its time is over.
            && !self.deadlines.is_set(Due::Lifetime(id))
        {
            self.remove(id);
        }
    }

    pub(super) fn remove(&mut self, id: JobId) {
        self.cancel_limits(id);
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        self.deadlines.cancel(Due::Answer(id));
        self.deadlines.cancel(Due::Lifetime(id));
        self.deadlines.cancel(Due::Pass(id));
        let lives = self.forget_left(id);
        self.forget_ports(id);
        let tree = &job.tree;
        self.claims.forget(id, tree.session, tree.mark, &tree.files);
        self.orphans
            .forget(id, tree.mark.value().map(|(_, value)| value));
        if let Some(leader) = &job.leader {
            // A tracer holds on to it; it is reaped like an orphan.
            self.by_pid.remove(&leader.pid());
        }
        if let Some(state) = &mut self.options.state {
            state.forgotten(id, lives);
        }
        if let Some(group) = job.tree.group {
            self.give_back(group);
        }
        if let (Some(kept), Some(record)) = (&self.options.kept, job.record) {
            kept.records.supervisor_is_done(record);
        }
    }
}
