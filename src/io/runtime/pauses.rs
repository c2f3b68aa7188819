//! Growing pauses between looks at something of which nothing tells.
//!
//! In: whether a look was in vain. Out: how long to wait for the next one. Knows no clock.

use std::time::Duration;

use crate::config::timeouts;

/// Each twice as long as the one before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pauses {
    first: Duration,
    next: Duration,
}

impl Pauses {
    /// Begins with this pause.
    pub(crate) fn from(first: Duration) -> Self {
        Self { first, next: first }
    }

    /// The pause after another look in vain.
    pub(crate) fn longer(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(timeouts::UNTOLD_MAX);
        pause
    }

    /// A look was not in vain.
    pub(crate) fn begin_again(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_begin_again() {
        let mut pauses = Pauses::from(Duration::from_millis(5));
        let mut next = || pauses.longer().as_millis();
        let grown: Vec<_> = (0..8).map(|_| next()).collect();
        assert_eq!(grown, [5, 10, 20, 40, 80, 160, 200, 200]);
        pauses.begin_again();
        assert_eq!(pauses.longer().as_millis(), 5);
    }
}
