//! How long a tree may live (`deadlineMs`).
//!
//! In: a time, once for a child. Out: the tree is killed then, and the exit of its leader has a
//! reason if it was alive. Other than the timeout of a run this changes nothing of how the end is
//! told, and it holds beyond the exit: what a leader has left ends with the time, too, also if its
//! record has gone meanwhile.

use crate::supervisor::job::Event;
use crate::supervisor::tree::identity::Leader;
use crate::supervisor::{Due, Supervisor};
use crate::types::{JobId, Monotonic};

impl Supervisor {
    /// The tree of a child may live until `at`.
    pub(crate) fn limit_lifetime(&mut self, id: JobId, at: Monotonic) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        if !job.life.has_exited() || self.has_left(id) {
            self.write_down_lifetime(id, at);
            self.deadlines.set(at, Due::Lifetime(id));
        }
    }

    pub(crate) fn lifetime_is_over(&mut self, id: JobId) {
        let leader = self.jobs.get(&id).and_then(|job| job.leader.as_ref());
        let has_ended = leader.is_none_or(Leader::has_ended);
        self.on_event(id, Event::LifetimeOver { has_ended });
    }
}
