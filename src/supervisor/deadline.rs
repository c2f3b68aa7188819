//! What is due when: a heap of absolute times.
//!
//! In: things and their times. Out: those whose time has come, earliest first. Entries are never
//! taken back; who pops one checks whether it still matters.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Things due, by time.
#[derive(Debug)]
pub struct Deadlines<T> {
    heap: BinaryHeap<Reverse<(Instant, u64, T)>>,
    pushed: u64,
}

impl<T: Ord> Default for Deadlines<T> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            pushed: 0,
        }
    }
}

impl<T: Ord> Deadlines<T> {
    /// Makes `what` due at `when`.
    pub fn push(&mut self, when: Instant, what: T) {
        self.pushed += 1;
        self.heap.push(Reverse((when, self.pushed, what)));
    }

    /// When the next thing is due.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((when, ..))| *when)
    }

    /// Takes the earliest thing that is due at `now`.
    pub fn pop(&mut self, now: Instant) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, _, what))| what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn things_come_in_the_order_of_their_times_and_never_early() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut deadlines = Deadlines::default();
        for (ms, what) in [(30, 'c'), (10, 'a'), (20, 'b'), (10, 'z')] {
            deadlines.push(at(ms), what);
        }
        assert_eq!(deadlines.pop(at(9)), None);
        assert_eq!(deadlines.next(), Some(at(10)));
        let due: Vec<_> = std::iter::from_fn(|| deadlines.pop(at(20))).collect();
        assert_eq!(due, ['a', 'z', 'b']);
        assert_eq!(deadlines.pop(at(29)), None);
        assert_eq!(deadlines.pop(at(30)), Some('c'));
    }
}
