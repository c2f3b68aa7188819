//! One budget for all memory that clients can make the server hold.
//!
//! In: who takes how much, and what for. Out: a [`Charge`] that gives it back when dropped, or a
//! refusal; how much is held of each kind. Owns counts, no bytes. Knows nothing of what is charged:
//! who gives something up when there is no room is decided where it is held
//! (`process::table::memory`).
//!
//! - What is charged and what is promised together never exceed the maximum, but for what is held
//!   whatever comes of it ([`Budget::hold`]): small things, and what has been told to a client.
//! - A promise is room that nobody else gets. It turns into slots as they are taken.

pub(crate) mod host;

use std::cell::Cell;
use std::rc::Rc;

/// What memory is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What clients have sent: bodies, messages, what is typed and not read yet.
    Bodies,
    /// What is on its way to clients, and answers that are kept for repeats.
    Answers,
    /// What is kept of processes besides their output.
    Records,
    /// Where the entries of logs are.
    Index,
}

impl Kind {
    const COUNT: usize = 4;
}

#[derive(Debug)]
struct State {
    max: Cell<u64>,
    charged: [Cell<u64>; Kind::COUNT],
    slots: Cell<u64>,
    promised: Cell<u64>,
}

/// See the module. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Budget(Rc<State>);

impl Default for Budget {
    /// One without a bound.
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(max: u64) -> Self {
        Self(Rc::new(State {
            max: Cell::new(max),
            charged: Default::default(),
            slots: Cell::new(0),
            promised: Cell::new(0),
        }))
    }

    /// Bytes that may be held in all.
    pub fn max(&self) -> u64 {
        self.0.max.get()
    }

    /// So many may be from now on. What is held beyond that stays until it is given back.
    pub fn set_max(&self, max: u64) {
        self.0.max.set(max);
    }

    /// Bytes that are held or promised beyond the maximum.
    pub fn excess(&self) -> u64 {
        self.taken().saturating_sub(self.max())
    }

    fn taken(&self) -> u64 {
        self.total().saturating_add(self.0.promised.get())
    }

    /// Bytes that are held of a kind.
    pub fn held(&self, kind: Kind) -> u64 {
        self.0.charged[kind as usize].get()
    }

    /// Bytes of slots that are in use.
    pub fn slots(&self) -> u64 {
        self.0.slots.get()
    }

    /// Bytes that are held.
    pub fn total(&self) -> u64 {
        let charged = self.0.charged.iter().map(Cell::get);
        charged.fold(self.slots(), u64::saturating_add)
    }

    /// Bytes that anybody may take.
    pub fn free(&self) -> u64 {
        self.max().saturating_sub(self.taken())
    }

    /// Takes so many bytes for as long as the charge lives. None if there is no room.
    pub fn charge(&self, kind: Kind, bytes: u64) -> Option<Charge> {
        (bytes <= self.free()).then(|| self.hold(kind, bytes))
    }

    /// Counts bytes that are there already.
    pub fn hold(&self, kind: Kind, bytes: u64) -> Charge {
        let charge = Charge {
            budget: self.clone(),
            kind,
            bytes,
        };
        self.recount(kind, 0, bytes);
        charge
    }

    /// What was `before` bytes is `now` bytes.
    pub fn recount(&self, kind: Kind, before: u64, now: u64) {
        change(&self.0.charged[kind as usize], before, now);
    }

    /// Notes the bytes of all slots in use.
    pub fn set_slots(&self, bytes: u64) {
        self.0.slots.set(bytes);
    }

    /// Where `before` bytes were promised it is `now`.
    pub fn promise(&self, before: u64, now: u64) {
        change(&self.0.promised, before, now);
    }
}

fn change(count: &Cell<u64>, before: u64, now: u64) {
    count.set(count.get().saturating_sub(before).saturating_add(now));
}

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Budget,
    kind: Kind,
    bytes: u64,
}

impl Charge {
    /// Bytes that it stands for.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes it stand for so many bytes. False, and nothing has changed, if there is no room.
    pub fn resize(&mut self, bytes: u64) -> bool {
        if bytes.saturating_sub(self.bytes) > self.budget.free() && bytes > self.bytes {
            return false;
        }
        self.set(bytes);
        true
    }

    /// Makes it stand for what is there already.
    pub fn set(&mut self, bytes: u64) {
        self.budget.recount(self.kind, self.bytes, bytes);
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.recount(self.kind, self.bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_counted_and_given_back() {
        let budget = Budget::new(100);
        let mut bodies = budget.charge(Kind::Bodies, 40).unwrap();
        let answers = budget.charge(Kind::Answers, 60).unwrap();
        assert!(budget.charge(Kind::Bodies, 1).is_none());
        assert!(!bodies.resize(41) && bodies.resize(40) && bodies.resize(30));
        assert_eq!((budget.held(Kind::Bodies), budget.free()), (30, 10));
        drop(answers);
        assert_eq!((budget.total(), budget.free()), (30, 70));
        drop(bodies);
        assert_eq!(budget.total(), 0);
    }

    #[test]
    fn a_promise_is_nobody_elses_and_turns_into_slots() {
        let budget = Budget::new(100);
        budget.promise(0, 60);
        assert_eq!((budget.free(), budget.total()), (40, 0));
        budget.set_slots(20);
        budget.promise(60, 40);
        assert_eq!((budget.free(), budget.total()), (40, 20));
    }

    #[test]
    fn what_is_there_already_is_counted_whatever_the_maximum_is() {
        let budget = Budget::new(10);
        let mut held = budget.hold(Kind::Records, 30);
        assert_eq!((budget.total(), budget.free()), (30, 0));
        assert!(budget.charge(Kind::Bodies, 0).is_some() && held.resize(20));
        assert!(!held.resize(21));
        held.set(25);
        assert_eq!(budget.held(Kind::Records), 25);
    }
}
