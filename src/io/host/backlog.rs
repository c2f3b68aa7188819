//! What waits for one process to read its input, of all its viewers together.
//!
//! In: how much an input needs, and when the process took some. Out: room for it, given back when
//! dropped, or none. Owns the count, no bytes.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use crate::budget::Charge;
use crate::config::timeouts;
use crate::process::Notify;

use crate::io::runtime::race::race;
use crate::io::runtime::timer::sleep_until;

/// What may wait. A single input that is larger waits alone.
pub(crate) const BYTES_MAX: usize = 1 << 20;

/// See the module. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Backlog(Rc<State>);

#[derive(Debug)]
struct State {
    bytes: Cell<usize>,
    /// Since when there has been no room for what came.
    full: Cell<Option<Instant>>,
    freed: Notify,
}

/// Room for one input.
#[derive(Debug)]
pub(crate) struct Place {
    backlog: Backlog,
    bytes: usize,
    charge: Option<Charge>,
}

impl Place {
    /// The same, charged to the budget of all.
    pub(crate) fn charged(mut self, charge: Charge) -> Self {
        self.charge = Some(charge);
        self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let state = &self.backlog.0;
        state
            .bytes
            .set(state.bytes.get().saturating_sub(self.bytes));
        state.freed.notify();
    }
}

impl Backlog {
    /// Nothing waits.
    pub(crate) fn new() -> Self {
        Self(Rc::new(State {
            bytes: Cell::new(0),
            full: Cell::new(None),
            freed: Notify::default(),
        }))
    }

    /// What waits now, in bytes.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes.get()
    }

    /// Room for an input; waits for it as long as the process takes something now and then. None
    /// if it does not. `taken` is when it last took a byte.
    pub(crate) async fn place(&self, bytes: usize, taken: &Cell<Instant>) -> Option<Place> {
        let asked = Instant::now();
        loop {
            let seen = self.0.freed.version();
            if let Some(place) = self.place_now(bytes) {
                return Some(place);
            }
            let full = self.0.full.get().unwrap_or(asked);
            self.0.full.set(Some(full));
            let stuck = full.max(taken.get()) + timeouts::BACKLOG_STUCK_AFTER;
            let until = stuck.min(asked + timeouts::BACKLOG_WAIT_MAX);
            if until <= Instant::now() {
                return None;
            }
            race(pin!(self.0.freed.changed(seen)), pin!(sleep_until(until))).await;
        }
    }

    /// Whether there is room for an input now.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let waiting = self.0.bytes.get();
        waiting == 0 || waiting.saturating_add(bytes) <= BYTES_MAX
    }

    fn place_now(&self, bytes: usize) -> Option<Place> {
        if !self.has_room(bytes) {
            return None;
        }
        self.0.full.set(None);
        Some(self.hold(bytes))
    }

    /// The room of an input that has had it before another server.
    pub(crate) fn hold(&self, bytes: usize) -> Place {
        self.0.bytes.set(self.0.bytes.get() + bytes);
        Place {
            backlog: self.clone(),
            bytes,
            charge: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_over_all_and_given_back() {
        let backlog = Backlog::new();
        let half = BYTES_MAX / 2;
        let first = backlog.place_now(half).unwrap();
        let second = backlog.clone().place_now(half).unwrap();
        assert!(backlog.place_now(1).is_none());
        assert_eq!(backlog.bytes(), BYTES_MAX);
        drop(first);
        assert!(backlog.place_now(half + 1).is_none());
        let third = backlog.place_now(half).unwrap();
        drop((second, third));
        assert_eq!(backlog.bytes(), 0);
    }

    #[test]
    fn an_input_larger_than_all_room_waits_alone() {
        let backlog = Backlog::new();
        let large = backlog.place_now(BYTES_MAX * 3).unwrap();
        assert!(backlog.place_now(0).is_none());
        drop(large);
        let small = backlog.place_now(1).unwrap();
        assert!(backlog.place_now(BYTES_MAX).is_none());
        drop(small);
        assert!(backlog.place_now(usize::MAX).is_some());
    }
}
