//! What keeps those who look for a text in a log from being outrun by the program.
//!
//! In: how far each search has come. Out: how much may be read into the log now, and what may be
//! evicted. The program waits in write(2) meanwhile, as it does for whoever reads slowly; but a search
//! takes the server's thread and nothing else, so nobody's client can hold a program by it. Owns some
//! words for each search. Knows no pipe and no clock.
//!
//! - While the program runs, half of its log at most has not been looked at. So what is in its pipes
//!   at its exit has room as a rule, and nobody waits for it.
//! - What has not been looked at is evicted for nobody.
//!
//! docs/design/029-waits.md

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::log::Log;
use crate::log::find::Search;

use super::notify::Notify;

/// The least that is read at a time, unless the log is smaller: small reads would make small entries.
const READ_BYTES_MIN: u64 = 16 << 10;

/// What one search, or each of several, has behind it.
#[derive(Clone, Copy, Debug)]
struct Passed {
    bytes: u64,
    entry: u64,
}

/// Those under way in one log. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Searches(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    under_way: RefCell<Vec<Rc<Cell<Passed>>>>,
    moved: Notify,
}

impl Searches {
    /// One more begins; nothing of the log has been looked at for it.
    pub(crate) fn begin(&self, log: &Log) -> Place {
        let passed = Rc::new(Cell::new(Passed {
            bytes: log.entered_bytes() - log.retained_bytes(),
            entry: log.first() - 1,
        }));
        self.0.under_way.borrow_mut().push(passed.clone());
        Place {
            of: self.clone(),
            passed,
        }
    }

    /// Whether nothing is looked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.under_way.borrow().is_empty()
    }

    /// What all of them have behind them; None if there is none.
    fn passed(&self) -> Option<Passed> {
        let under_way = self.0.under_way.borrow();
        let all = under_way.iter().map(|of| of.get());
        all.reduce(|one, other| Passed {
            bytes: one.bytes.min(other.bytes),
            entry: one.entry.min(other.entry),
        })
    }

    /// How many bytes may be read into the log, if that may hold `limit`: into all of it what was in
    /// the pipes at the exit.
    pub(crate) fn room(&self, log: &Log, limit: u64, is_rest: bool) -> usize {
        let passed = self.passed().filter(|_| limit > 0);
        // Nobody waits for what is not kept.
        let Some(passed) = passed else {
            return usize::MAX;
        };
        let most = |of: u64| if is_rest { of } else { of - of / 2 };
        let behind = log.entered_bytes().saturating_sub(passed.bytes);
        let entries = log.last().saturating_sub(passed.entry);
        let room = most(limit).saturating_sub(behind);
        let is_full = entries >= most(Log::entries_max(limit)) || room < READ_BYTES_MIN;
        match behind {
            0 => usize::try_from(room.max(1)).unwrap_or(usize::MAX),
            _ if is_full => 0,
            _ => usize::try_from(room).unwrap_or(usize::MAX),
        }
    }

    /// Whether this entry has been looked at for all of them.
    pub(crate) fn have_passed(&self, sequence: u64) -> bool {
        self.passed().is_none_or(|passed| passed.entry >= sequence)
    }

    /// Tells of more room; None if nothing is looked for.
    pub(crate) fn moved(&self) -> Option<Notify> {
        (!self.is_empty()).then(|| self.0.moved.clone())
    }
}

/// A search under way. Ends with it, whether it has found anything or not.
#[derive(Debug)]
pub(crate) struct Place {
    of: Searches,
    passed: Rc<Cell<Passed>>,
}

impl Place {
    /// It has come so far.
    pub(crate) fn moved(&self, search: &Search, log: &Log) {
        self.passed.set(Passed {
            bytes: search.passed(),
            // It may begin behind what there is.
            entry: log.last().min(search.position() - 1),
        });
        self.of.0.moved.notify();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut under_way = self.of.0.under_way.borrow_mut();
        under_way.retain(|of| !Rc::ptr_eq(of, &self.passed));
        if under_way.is_empty() {
            *under_way = Vec::new();
        }
        drop(under_way);
        self.of.0.moved.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Arena;
    use crate::log::find::Step;
    use crate::types::{Stream, StreamFilter};

    fn search(text: &[u8]) -> Search {
        Search::new(text, StreamFilter::Combined, 0).unwrap()
    }

    fn write(
        searches: &Searches,
        log: &mut Log,
        arena: &mut Arena,
        limit: u64,
        is_rest: bool,
    ) -> usize {
        let room = searches.room(log, limit, is_rest);
        let tail = log.tail(arena).unwrap();
        let len = tail.len().min(room);
        tail[..len].fill(b'a');
        log.commit(arena, len, Stream::Stdout, 1, limit);
        len
    }

    #[test]
    fn nothing_is_evicted_that_was_not_looked_at_and_nobody_is_held_for_ever() {
        for limit in [1, 2, 1000, 65_536, 65_537, 300_000, 1 << 20] {
            let (mut arena, mut log) = (Arena::new().unwrap(), Log::default());
            let searches = Searches::default();
            let mut slow = (search(b"b"), searches.begin(&log));
            let mut fast = (search(b"b"), searches.begin(&log));
            let step = |(search, place): &mut (Search, Place), log: &Log, arena: &Arena| {
                let step = search.step(log, arena, 1000);
                place.moved(search, log);
                step
            };
            for _ in 0..50 {
                let mut written = 0;
                loop {
                    while step(&mut fast, &log, &arena) == Step::More {}
                    match write(&searches, &mut log, &mut arena, limit, false) {
                        0 => break,
                        len => written += len,
                    }
                    assert!(log.first() <= slow.0.position(), "{limit}");
                    if written > 10 * usize::try_from(limit).unwrap() {
                        break;
                    }
                    if log.entered_bytes() - slow.0.passed() == 0 {
                        break;
                    }
                }
                assert!(log.first() <= slow.0.position(), "{limit}");
                // It goes on once this one has: until then it was full, or had written something.
                while step(&mut slow, &log, &arena) == Step::More {}
                assert!(searches.room(&log, limit, false) > 0, "{limit}");
            }
        }
    }

    #[test]
    fn what_is_in_the_pipes_at_the_exit_has_the_other_half() {
        const LIMIT: u64 = 1 << 20;
        let (mut arena, mut log) = (Arena::new().unwrap(), Log::default());
        let searches = Searches::default();
        let place = searches.begin(&log);
        let mut fill = |is_rest| {
            let mut filled = 0;
            loop {
                match write(&searches, &mut log, &mut arena, LIMIT, is_rest) {
                    0 => return (filled, log.first()),
                    len => filled += len as u64,
                }
            }
        };
        assert_eq!(fill(false), (LIMIT / 2, 1));
        assert_eq!(fill(true), (LIMIT / 2, 1));
        let moved = searches.moved().unwrap();
        let seen = moved.version();
        drop(place);
        assert_ne!(moved.version(), seen, "who waits for room hears of it");
        assert_eq!(searches.room(&log, LIMIT, false), usize::MAX);
        assert!(searches.moved().is_none());
    }

    #[test]
    fn tiny_entries_are_held_back_before_the_index_is_full() {
        const LIMIT: u64 = 1 << 20;
        let (mut arena, mut log) = (Arena::new().unwrap(), Log::default());
        let searches = Searches::default();
        let _place = searches.begin(&log);
        while searches.room(&log, LIMIT, false) > 0 {
            log.tail(&mut arena).unwrap();
            log.commit(&mut arena, 1, Stream::Stdout, 1, LIMIT);
        }
        assert_eq!((log.first(), log.last()), (1, Log::entries_max(LIMIT) / 2));
        assert!(searches.have_passed(0) && !searches.have_passed(1));
    }

    #[test]
    fn who_looks_for_what_is_to_come_holds_nobody() {
        let (mut arena, mut log) = (Arena::new().unwrap(), Log::default());
        let searches = Searches::default();
        for _ in 0..10 {
            log.tail(&mut arena).unwrap();
            log.commit(&mut arena, 10_000, Stream::Stdout, 1, 100_000);
        }
        let mut search = Search::new(b"b", StreamFilter::Combined, u64::MAX).unwrap();
        let place = searches.begin(&log);
        assert_eq!(
            searches.room(&log, 100_000, false),
            0,
            "it has not looked yet"
        );
        assert_eq!(search.step(&log, &arena, 1), Step::Nothing);
        place.moved(&search, &log);
        assert_eq!(searches.room(&log, 100_000, false), 50_000);
        assert!(searches.have_passed(10));
    }
}
