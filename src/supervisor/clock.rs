//! What time it is for the supervisor: what the kernel says, or what a test does.
//!
//! Slices of work are measured by the kernel's clock all the same: how long something takes is no
//! moment that anybody waits for.

use crate::types::Monotonic;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    #[cfg(test)]
    stopped_at: Option<Monotonic>,
}

#[cfg(not(test))]
impl Clock {
    pub(crate) fn now(&self) -> Monotonic {
        Monotonic::now()
    }
}

#[cfg(test)]
impl Clock {
    pub(crate) fn now(&self) -> Monotonic {
        self.stopped_at.unwrap_or_else(Monotonic::now)
    }

    /// Stands still, at a moment that is so much later.
    pub(crate) fn advance(&mut self, by: std::time::Duration) {
        self.stopped_at = Some(self.now() + by);
    }
}
