//! Connections on which nobody has been let in yet: where there is no room, the oldest of them goes.
//!
//! In: connections that come, hold an unfinished head, are let in, and end. Out: the oldest stranger
//! is sent off. Owns the order of them, and how much their heads hold. Knows no bytes: it shuts the
//! socket down, which ends whatever its task waits for, and the task tells its client why.
//!
//! Who is let in (by the token, or by who it is; on an open server by any request) is a stranger no
//! longer and is never sent off. On a socket for metrics all are strangers: none of them stays long.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, RawFd};

use rustix::net::Shutdown;

use crate::budget::Budget;

use crate::io::runtime::source;
use crate::io::server::Server;

/// The part of the budget that their unfinished heads take at most.
const FOR_HEADS: u64 = 16;

/// One in so many goes where descriptors are few: those that come next get the low numbers of those
/// that went, so only now and then a number says that there are too many.
const OF_MANY: usize = 4;

/// How many may be on their way out while more connections are accepted.
const LEAVING_MAX: usize = 64;

/// A stranger's number. Who has come later has a greater one.
pub(super) type Number = NonZeroU64;

#[derive(Debug)]
struct Stranger {
    /// Its connection owns it, and leaves before it is closed.
    socket: RawFd,
    /// Bytes of its unfinished head.
    head: u64,
    /// It has asked for something.
    is_answered: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Strangers {
    last: Cell<Number>,
    all: RefCell<BTreeMap<Number, Stranger>>,
    heads: Cell<u64>,
    /// Those that have been sent off and are still there.
    leaving: Cell<usize>,
}

impl Default for Strangers {
    fn default() -> Self {
        Self {
            last: Cell::new(Number::MIN),
            all: RefCell::default(),
            heads: Cell::new(0),
            leaving: Cell::new(0),
        }
    }
}

impl Strangers {
    /// One more comes.
    pub(super) fn come(&self, socket: RawFd) -> Number {
        let number = self.last.get().saturating_add(1);
        self.last.set(number);
        let stranger = Stranger {
            socket,
            head: 0,
            is_answered: false,
        };
        self.all.borrow_mut().insert(number, stranger);
        number
    }

    /// One is a stranger no longer. False if it has been sent off.
    pub(super) fn let_in(&self, number: Number) -> bool {
        let stranger = self.all.borrow_mut().remove(&number);
        if let Some(stranger) = &stranger {
            self.heads.set(self.heads.get() - stranger.head);
        }
        stranger.is_some()
    }

    /// What one has asked for is being answered, or is no longer.
    pub(super) fn answers(&self, number: Number, on: bool) {
        if let Some(stranger) = self.all.borrow_mut().get_mut(&number) {
            stranger.is_answered = on;
        }
    }

    /// One is there no longer.
    pub(super) fn gone(&self, number: Number) {
        if !self.let_in(number) {
            self.leaving.set(self.leaving.get() - 1);
        }
    }

    /// The unfinished head of one has so many bytes now; 0 if it is finished. Where all of them
    /// together have more than their part of the budget, the oldest that has one goes. False if that
    /// is this one, or it has been sent off before.
    pub(super) fn hold_head(&self, number: Number, bytes: u64, budget: &Budget) -> bool {
        match self.all.borrow_mut().get_mut(&number) {
            Some(stranger) => {
                let before = std::mem::replace(&mut stranger.head, bytes);
                self.heads.set(self.heads.get() - before + bytes);
            }
            None => return false,
        }
        while self.heads.get() > budget.max() / FOR_HEADS {
            let all = self.all.borrow();
            let oldest = all.iter().find(|(_, stranger)| stranger.head > 0);
            let Some((&oldest, _)) = oldest else { break };
            drop(all);
            self.send_off(oldest);
        }
        self.all.borrow().contains_key(&number)
    }

    /// The oldest goes. False if there is none.
    pub(super) fn send_off_oldest(&self) -> bool {
        let oldest = self.all.borrow().keys().next().copied();
        oldest.is_some_and(|oldest| self.send_off(oldest))
    }

    fn send_off(&self, number: Number) -> bool {
        let Some(stranger) = self.all.borrow_mut().remove(&number) else {
            return false;
        };
        self.heads.set(self.heads.get() - stranger.head);
        self.leaving.set(self.leaving.get() + 1);
        // What it has sent, or is about to, is answered or told why not; a peer that takes no answer
        // is not waited for.
        source::shut_down(
            stranger.socket,
            match stranger.is_answered {
                true => Shutdown::Both,
                false => Shutdown::Read,
            },
        );
        true
    }

    /// How many have been sent off and are still there.
    pub(super) fn leaving(&self) -> usize {
        self.leaving.get()
    }

    /// Whether so many are on their way out that they should have a moment for it.
    pub(super) fn are_many_leaving(&self) -> bool {
        self.leaving() >= LEAVING_MAX
    }
}

impl Server {
    /// The strangers among connections of a kind.
    pub(super) fn strangers(&self, for_metrics: bool) -> &Strangers {
        &self.strangers[usize::from(for_metrics)]
    }

    /// A descriptor has come. Strangers make room for it where few are left. Whether they did.
    pub(super) fn make_room_for_descriptor(&self, fd: &impl AsRawFd) -> bool {
        self.are_descriptors_few(fd) && self.make_descriptors()
    }

    /// Strangers make room for descriptors, the oldest first. False if there are none.
    pub(super) fn make_descriptors(&self) -> bool {
        let strangers = self.strangers(false);
        // What the last ones held is about to be free.
        if strangers.leaving() == 0 {
            let count = strangers.all.borrow().len().div_ceil(OF_MANY);
            (0..count).for_each(|_| _ = strangers.send_off_oldest());
        }
        strangers.leaving() > 0
    }

    /// Whether this is one of the last descriptors.
    pub(super) fn are_descriptors_few(&self, fd: &impl AsRawFd) -> bool {
        fd.as_raw_fd() >= self.options.fds_few_from
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    /// Strangers, and the other ends of their connections.
    fn some(count: usize) -> (Strangers, Vec<(Number, UnixStream, UnixStream)>) {
        let strangers = Strangers::default();
        let all = (0..count).map(|_| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            theirs.set_nonblocking(true).unwrap();
            (strangers.come(ours.as_raw_fd()), ours, theirs)
        });
        let all = all.collect();
        (strangers, all)
    }

    fn is_shut(of: &mut UnixStream) -> bool {
        of.read(&mut [0]).is_ok_and(|len| len == 0)
    }

    #[test]
    fn the_oldest_goes_and_nobody_who_was_let_in() {
        let (strangers, mut all) = some(3);
        assert!(strangers.let_in(all[0].0));
        assert!(strangers.send_off_oldest());
        assert_eq!(strangers.leaving(), 1);
        let shut: Vec<bool> = all.iter_mut().map(|(_, ours, _)| is_shut(ours)).collect();
        assert_eq!(shut, [false, true, false]);
        assert!(!strangers.let_in(all[1].0), "it goes already");
        strangers.gone(all[1].0);
        assert_eq!(strangers.leaving(), 0);
        // What it had sent before is there to be answered.
        let (number, ours, theirs) = &mut all[2];
        theirs.write_all(b"x").unwrap();
        assert!(strangers.send_off_oldest() && !strangers.send_off_oldest());
        assert_eq!(ours.read(&mut [0; 2]).unwrap(), 1);
        assert!(is_shut(ours) && !is_shut(theirs));
        strangers.gone(*number);
    }

    #[test]
    fn one_that_is_being_answered_is_not_waited_for() {
        let (strangers, mut all) = some(2);
        strangers.answers(all[0].0, true);
        strangers.answers(all[1].0, true);
        strangers.answers(all[1].0, false);
        assert!(strangers.send_off_oldest() && strangers.send_off_oldest());
        let shut: Vec<bool> = all.iter_mut().map(|(.., theirs)| is_shut(theirs)).collect();
        assert_eq!(shut, [true, false]);
    }

    #[test]
    fn heads_of_strangers_have_a_bound_and_the_oldest_that_holds_one_goes() {
        let (strangers, all) = some(3);
        let budget = Budget::new(100 * FOR_HEADS);
        let [silent, old, new] = [0, 1, 2].map(|at| all[at].0);
        assert!(strangers.hold_head(old, 60, &budget));
        assert!(strangers.hold_head(new, 40, &budget));
        assert!(strangers.hold_head(new, 50, &budget));
        assert!(!strangers.hold_head(old, 70, &budget), "it was the oldest");
        assert_eq!((strangers.leaving(), strangers.heads.get()), (1, 50));
        assert!(strangers.let_in(silent));
        assert!(
            !strangers.hold_head(new, 101, &budget),
            "it has too much itself"
        );
        assert_eq!(strangers.heads.get(), 0);
    }
}
