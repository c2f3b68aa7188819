//! Who waits to write to a process, in the order of their coming.
//!
//! In: who comes and who leaves. Out: whose turn it is. Owns numbers, no bytes; a number is never
//! given twice.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;

use crate::process::Notify;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// In order; the first one's turn it is.
    waiting: RefCell<VecDeque<u64>>,
    /// The number that was given last.
    last: Cell<u64>,
    /// Made for the first who has to wait.
    moved: OnceCell<Notify>,
}

impl Line {
    /// A place behind all others; its number is at least 1.
    pub(crate) fn join(&self) -> u64 {
        let number = self.last.get() + 1;
        self.last.set(number);
        self.waiting.borrow_mut().push_back(number);
        number
    }

    /// Gives a place up.
    pub(crate) fn leave(&self, number: u64) {
        self.waiting.borrow_mut().retain(|place| *place != number);
        if let Some(moved) = self.moved.get() {
            moved.notify();
        }
    }

    /// Completes when it is this one's turn.
    pub(crate) async fn turn(&self, number: u64) {
        while self.waiting.borrow().front() != Some(&number) {
            let moved = self.moved.get_or_init(Notify::default);
            moved.changed(moved.version()).await;
        }
    }

    /// The number that was given last; 0 if none was.
    pub(crate) fn last(&self) -> u64 {
        self.last.get()
    }

    /// Whether nobody waits who came up to this one.
    pub(crate) fn is_past(&self, number: u64) -> bool {
        self.waiting
            .borrow()
            .front()
            .is_none_or(|first| *first > number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    fn has_turn(line: &Line, number: u64) -> bool {
        let turn = pin!(line.turn(number));
        turn.poll(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }

    #[test]
    fn whoever_came_first_has_its_turn_first_and_may_leave_before_it() {
        let line = Line::default();
        assert!(line.is_past(u64::MAX));
        let [first, second, third] = [line.join(), line.join(), line.join()];
        assert!(has_turn(&line, first) && !has_turn(&line, second));
        line.leave(second);
        assert!(!has_turn(&line, third) && !line.is_past(first));
        line.leave(first);
        assert!(has_turn(&line, third));
        assert!(line.is_past(second) && !line.is_past(third));
        line.leave(third);
        assert!(line.is_past(third) && line.last() == third);
        assert!(line.join() > third, "a number is not given twice");
    }
}
