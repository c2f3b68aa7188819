//! Where the pid of a child shows.
//!
//! In: the number, as soon as there is a child. Out: the same, to whoever has to know whether a
//! number is still the child's. In a record, or in memory of its own where nobody goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use super::{RecordId, Records};

/// Where the pid of a child shows as soon as it exists, 0 before: in a record, where a server that
/// goes on finds it, or in memory of its own.
#[derive(Debug)]
pub(crate) enum PidSlot {
    /// Nobody goes on.
    Own(AtomicI32),
    /// The record of its job.
    Kept(Arc<Records>, RecordId),
}

impl Default for PidSlot {
    fn default() -> Self {
        Self::Own(AtomicI32::new(0))
    }
}

impl PidSlot {
    /// Whether this is the number of the child: the slot is emptied before the child is collected, and
    /// a keeper writes down how it has ended before it does that. What was opened by the number before
    /// is the child's then.
    pub(crate) fn is_still(&self, pid: i32) -> bool {
        let has_ended = match self {
            Self::Own(_) => false,
            Self::Kept(records, record) => records.status(*record).is_some(),
        };
        !has_ended && self.load(Ordering::Acquire) == pid
    }
}

impl std::ops::Deref for PidSlot {
    type Target = AtomicI32;

    fn deref(&self) -> &AtomicI32 {
        match self {
            Self::Own(number) => number,
            Self::Kept(records, record) => records.pid_slot(*record),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::types::{ExitStatus, JobId};

    #[test]
    fn a_status_is_of_the_process_that_has_not_ended() {
        let (records, next) = (Arc::new(Records::new().unwrap()), Cell::new(0));
        let [old, new] = [1, 2].map(|job| records.begin(JobId(job), 0, &next).unwrap());
        let slot = PidSlot::Kept(records.clone(), old);
        slot.store(77, Ordering::Release);
        assert_eq!(
            (records.pid(old), records.of_pid(77)),
            (Some(77), Some(old))
        );
        assert!(slot.is_still(77) && !slot.is_still(78));
        for status in [ExitStatus::Code(255), ExitStatus::Signal(9)] {
            records.set_status(old, status);
            assert_eq!(records.status(old), Some(status));
        }
        assert!(!slot.is_still(77), "the keeper has reaped it, or will");
        assert_eq!(records.of_pid(77), None);
        // Its number comes again.
        PidSlot::Kept(records.clone(), new).store(77, Ordering::Release);
        assert_eq!(records.of_pid(77), Some(new));
    }
}
