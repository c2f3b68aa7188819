//! How long a tree may live (`deadlineMs`).
//!
//! In: a time, once for a child. Out: the tree is killed then, and the exit of its leader has a
//! reason if it was alive. Other than the timeout of a run this changes nothing of how the end is
//! told, and it holds beyond the exit: what a leader has left ends with the time, too, also if its
//! record has gone meanwhile.

use std::time::Instant;

use crate::supervisor::job::Phase;
use crate::supervisor::{Due, Supervisor};
use crate::types::{ExitReason, JobId};

impl Supervisor {
    /// The tree of a child may live until `at`.
    pub(crate) fn limit_lifetime(&mut self, id: JobId, at: Instant) {
        let lives = match self.jobs.get(&id).map(|job| job.phase) {
            Some(Phase::Starting | Phase::Running) => true,
            Some(Phase::Exited(_)) => self.has_left(id),
            None => false,
        };
        if lives {
            self.write_down_lifetime(id, at);
            self.deadlines.set(at, Due::Lifetime(id));
        }
    }

    pub(crate) fn lifetime_is_over(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let lives = match job.phase {
            Phase::Starting => true,
            Phase::Running => job
                .leader
                .as_ref()
                .is_some_and(|leader| !leader.has_ended()),
            Phase::Exited(_) => false,
        };
        // Whoever is being killed already does not die of this.
        if lives && job.ending.is_none() {
            job.reason = Some(ExitReason::Deadline);
        }
        self.end(id);
    }
}
