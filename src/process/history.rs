//! What has happened to records, the last few thousand times.
//!
//! In: that a record came, ended or went, and when. Out: the same, in order, to any number of readers,
//! each at its own place. Owns a ring of bounded length and weight; what fell out of it a reader is
//! told of as a gap. Knows no clock and no connection.
//!
//! An event holds the record as it was at that moment. What a client asked to start does not change
//! and may be long, so it is shared with the record and with the other events about it; it stays in
//! memory for as long as one of them does, and counts for each of them.
//!
//! Events are numbered from 1024 times the server's start in milliseconds, so that a number also tells
//! the life of a server that it is from: no server makes a million events a second for as long as it
//! lives, so none reaches where a later one begins. A clock that was set back between two lives is the
//! exception. Numbers stay below 2^53, which is exact in every JSON, until the year 2248.
//!
//! Servers of one keeper are one life: numbers go on where the last one ended. One that was killed may
//! have died before it told of something, so there is a number more behind its last one, which nobody
//! ever gets: who comes back is told of a gap. One that takes part in an upgrade hands over what it
//! keeps ([`History::written`]).

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::kept::{self, Written};
use super::life::End;
use super::notify::Notify;
use super::record::Description;
use super::tags::Tags;
use crate::ledger::Records;
use crate::types::{Exit, ProcessId, UnixMs};

/// Events that are kept.
pub(crate) const EVENTS_MAX: usize = 4096;

/// What kept events may say together, in bytes: a client may ask to start something with arguments of
/// two megabytes. The newest event is kept whatever it says.
const BYTES_MAX: usize = 8 << 20;

/// What is handed over to another program: the newest events, so many bytes of them.
const HANDED_MAX: usize = 1 << 20;

/// Numbers for each millisecond from the epoch to the start.
const NUMBERS_PER_MS: u64 = 1024;

/// What has happened to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is there.
    Created,
    /// Somebody of its tree had to die because the tree may have no more memory.
    OutOfMemory,
    /// Its process has ended.
    Exited,
    /// It is gone.
    Deleted {
        /// It has made room for others.
        evicted: bool,
    },
}

/// A record as it was.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// What clients call it.
    pub id: ProcessId,
    /// What was asked for.
    pub description: Rc<Description>,
    /// What it is called besides its id.
    pub tags: Option<Rc<Tags>>,
    /// Whether it ran.
    pub is_running: bool,
    /// Its pid, if it had one that was told.
    pub pid: Option<i32>,
    /// How it had ended.
    pub exit: Option<Exit>,
    /// And when.
    pub exited_at: Option<UnixMs>,
    /// How many of its tree had outlived it.
    pub descendants: Option<u32>,
}

/// Something that has happened.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// What.
    pub kind: Kind,
    /// When.
    pub at: UnixMs,
    /// To which record.
    pub process: Snapshot,
}

/// What a reader finds at its place.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    /// Events that are not kept any more.
    Gap {
        /// The number of the first of them.
        from: u64,
        /// And of the last.
        to: u64,
    },
    /// The event of this number.
    Event(u64, &'a Event),
    /// It has read all there is.
    Nothing,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct History {
    ring: VecDeque<Event>,
    /// The number before the first event of this life.
    base: u64,
    /// The number of the last event.
    last: u64,
    /// What the events in the ring say, as [`weight`] counts it.
    bytes: usize,
    bytes_max: usize,
    changed: Notify,
    /// Where the number of the last event is written down.
    kept: Option<Arc<Records>>,
}

impl History {
    /// Of a server that was started then.
    pub(crate) fn new(started_at: UnixMs) -> Self {
        let base = started_at.0.saturating_mul(NUMBERS_PER_MS);
        Self {
            ring: VecDeque::new(),
            base,
            last: base,
            bytes: 0,
            bytes_max: BYTES_MAX,
            changed: Notify::default(),
            kept: None,
        }
    }

    /// Numbers are written down there from now on, and go on behind those of the servers before this
    /// one. `handed` is what one of them has handed over, and the number of its last event.
    pub(crate) fn keep(&mut self, records: Arc<Records>, (last, handed): (u64, &str)) {
        match records.events() {
            None => records.set_events_from(self.base),
            Some((base, of_all)) => {
                (self.base, self.last) = (base, of_all);
                if last == of_all
                    && let Ok(events) = serde_json::from_str::<Vec<Plain>>(handed)
                {
                    self.ring = events.into_iter().map(Event::from).collect();
                    self.bytes = self.ring.iter().map(weight).sum();
                } else {
                    self.last += 1;
                    records.set_last_event(self.last);
                }
            }
        }
        self.kept = Some(records);
    }

    /// The newest events as text, for another program.
    pub(crate) fn written(&self) -> String {
        let mut bytes = 0;
        let newest = self.ring.iter().rev().take_while(|event| {
            bytes += weight(event) + size_of::<Event>();
            bytes <= HANDED_MAX
        });
        let mut events: Vec<Plain> = newest.map(Plain::from).collect();
        events.reverse();
        serde_json::to_string(&events).unwrap_or_default()
    }

    /// Keeps at most so many bytes, if that is less than usual.
    pub(crate) fn keep_within(&mut self, bytes: usize) {
        self.bytes_max = BYTES_MAX.min(bytes);
    }

    /// What it keeps in memory, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        (self.bytes + self.ring.capacity() * size_of::<Event>()) as u64
    }

    /// Something has happened.
    pub(crate) fn push(&mut self, event: Event) {
        self.bytes += weight(&event);
        self.ring.push_back(event);
        self.last += 1;
        if let Some(records) = &self.kept {
            records.set_last_event(self.last);
        }
        while self.ring.len() > EVENTS_MAX || self.bytes > self.bytes_max && self.ring.len() > 1 {
            if let Some(gone) = self.ring.pop_front() {
                self.bytes -= weight(&gone);
            }
        }
        self.changed.notify();
    }

    /// The number of the last event, or the one before the first of this life.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// The number before the oldest event that is kept.
    pub(crate) fn oldest(&self) -> u64 {
        self.last - self.ring.len() as u64
    }

    /// Whether an event of this number, or the place before the first, was in this life.
    pub(crate) fn is_of_this_life(&self, number: u64) -> bool {
        (self.base..=self.last).contains(&number)
    }

    /// What comes behind the event of the number `seen`.
    pub(crate) fn behind(&self, seen: u64) -> Next<'_> {
        let oldest = self.oldest();
        if seen < oldest {
            return Next::Gap {
                from: seen + 1,
                to: oldest,
            };
        }
        let at = usize::try_from(seen - oldest).unwrap_or(usize::MAX);
        match self.ring.get(at) {
            Some(event) => Next::Event(seen + 1, event),
            None => Next::Nothing,
        }
    }

    /// Tells of new events.
    pub(crate) fn changes(&self) -> &Notify {
        &self.changed
    }
}

/// What an event keeps in memory, besides itself, at most.
fn weight(event: &Event) -> usize {
    let tags = event.process.tags.as_ref().map_or(0, |tags| tags.weight());
    let description = event.process.description.weight();
    usize::try_from(description).unwrap_or(usize::MAX) + tags
}

/// An event that is handed over: numbers, of which 0 is none, and what was asked for.
type Plain = (Vec<u64>, Written);

impl From<&Event> for Plain {
    fn from(event: &Event) -> Self {
        let kind = match event.kind {
            Kind::Created => 1,
            Kind::OutOfMemory => 2,
            Kind::Exited => 3,
            Kind::Deleted { evicted: false } => 4,
            Kind::Deleted { evicted: true } => 5,
        };
        let of = &event.process;
        let numbers = [
            kind,
            event.at.0,
            of.id.0,
            of.is_running.into(),
            of.pid.map_or(0, |pid| pid.unsigned_abs().into()),
            of.exit.map_or(0, |exit| kept::pack(End::Exited(exit))),
            of.exited_at.map_or(0, |at| at.0),
            of.descendants.map_or(0, |count| u64::from(count) + 1),
        ];
        (
            numbers.into(),
            Written::new(&of.description, of.tags.as_deref()),
        )
    }
}

impl From<Plain> for Event {
    fn from((numbers, written): Plain) -> Self {
        let number = |at| numbers.get(at).copied().unwrap_or_default();
        let is_one = |of: &u64| *of != 0;
        let (description, tags) = written.read();
        Self {
            kind: match number(0) {
                1 => Kind::Created,
                2 => Kind::OutOfMemory,
                3 => Kind::Exited,
                kind => Kind::Deleted { evicted: kind == 5 },
            },
            at: UnixMs(number(1)),
            process: Snapshot {
                id: ProcessId(number(2)),
                description: description.into(),
                tags: (!tags.is_empty()).then(|| tags.into()),
                is_running: number(3) != 0,
                pid: i32::try_from(number(4)).ok().filter(|&pid| pid > 0),
                exit: Some(number(5))
                    .filter(is_one)
                    .and_then(|end| kept::unpack(end).exit()),
                exited_at: Some(number(6)).filter(is_one).map(UnixMs),
                descendants: number(7)
                    .checked_sub(1)
                    .and_then(|of| u32::try_from(of).ok()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UnixMs = UnixMs(1_795_394_513_156);

    fn event(id: u64, arg_bytes: usize) -> Event {
        let description = Description {
            args: vec!["x".repeat(arg_bytes)],
            ..Description::default()
        };
        Event {
            kind: Kind::Created,
            at: UnixMs(id),
            process: Snapshot {
                id: ProcessId(id),
                description: description.into(),
                tags: None,
                is_running: true,
                pid: Some(1),
                exit: None,
                exited_at: None,
                descendants: None,
            },
        }
    }

    /// What a reader behind `seen` gets, and the gap before it.
    fn read(history: &History, mut seen: u64) -> (Option<(u64, u64)>, Vec<u64>) {
        let (mut gap, mut ids) = (None, Vec::new());
        loop {
            match history.behind(seen) {
                Next::Gap { from, to } => {
                    assert!(gap.replace((from, to)).is_none() && ids.is_empty());
                    seen = to;
                }
                Next::Event(number, event) => {
                    assert_eq!(number, seen + 1);
                    ids.push(event.process.id.0);
                    seen = number;
                }
                Next::Nothing => return (gap, ids),
            }
        }
    }

    #[test]
    fn every_reader_gets_what_comes_behind_its_place_and_is_told_what_it_missed() {
        let mut history = History::new(START);
        let base = history.last();
        assert!(matches!(history.behind(base), Next::Nothing));
        for id in 1..=EVENTS_MAX as u64 + 10 {
            history.push(event(id, 0));
        }
        assert_eq!(history.last(), base + EVENTS_MAX as u64 + 10);
        assert_eq!(history.oldest(), base + 10);
        let (gap, ids) = read(&history, base + 3);
        assert_eq!(gap, Some((base + 4, base + 10)));
        assert_eq!((ids[0], ids.len()), (11, EVENTS_MAX));
        let (gap, ids) = read(&history, base + 10);
        assert_eq!((gap, ids.len()), (None, EVENTS_MAX));
        let (gap, ids) = read(&history, history.last() - 1);
        assert_eq!((gap, ids), (None, vec![EVENTS_MAX as u64 + 10]));
    }

    #[test]
    fn the_ring_has_a_bound_in_bytes_and_keeps_the_newest_whatever_it_says() {
        let mut history = History::new(START);
        for id in 1..=100 {
            history.push(event(id, 1 << 20));
            assert!(history.bytes <= BYTES_MAX);
        }
        assert_eq!(history.ring.len(), 7);
        history.push(event(101, BYTES_MAX * 2));
        assert_eq!(read(&history, history.oldest()).1, [101]);
        history.push(event(102, 0));
        assert_eq!(read(&history, history.oldest()).1, [102]);
        let empty = weight(&event(0, 0));
        assert_eq!(history.bytes, empty);
    }

    #[test]
    fn the_servers_of_a_keeper_never_use_a_number_twice_and_tell_of_what_may_be_lost() {
        let records = Arc::new(Records::new().unwrap());
        let mut first = History::new(START);
        first.keep(records.clone(), (0, ""));
        first.push(event(1, 3));
        let mut ended = event(2, 0);
        ended.kind = Kind::Deleted { evicted: true };
        ended.process.exit = Some(Exit::from(crate::types::ExitStatus::Code(7)));
        ended.process.exited_at = Some(UnixMs(9));
        ended.process.descendants = Some(0);
        first.push(ended);
        let (base, seen) = (first.last() - 2, first.last());
        let handed = first.written();

        // It was killed.
        let mut second = History::new(UnixMs(START.0 + 5));
        second.keep(records.clone(), (0, ""));
        second.push(event(3, 0));
        assert_eq!(read(&second, base), (Some((base + 1, seen + 1)), vec![3]));
        assert_eq!(read(&second, seen), (Some((seen + 1, seen + 1)), vec![3]));
        // What was handed over before that is not the last.
        let mut third = History::new(START);
        third.keep(records.clone(), (seen, &handed));
        assert_eq!(third.last(), seen + 3);
        assert_eq!(read(&third, seen + 2), (Some((seen + 3, seen + 3)), vec![]));

        // It has handed over.
        records.set_last_event(seen);
        let mut fourth = History::new(UnixMs(START.0 + 5));
        fourth.keep(records, (seen, &handed));
        assert_eq!(read(&fourth, base), (None, vec![1, 2]));
        for (a, b) in first.ring.iter().zip(&fourth.ring) {
            assert_eq!(format!("{a:?}"), format!("{b:?}"));
        }
        assert_eq!(fourth.bytes, first.bytes);
    }

    #[test]
    fn a_number_tells_the_life_that_it_is_from() {
        let mut first = History::new(START);
        for id in 0..1000 {
            first.push(event(id, 0));
        }
        let second = History::new(UnixMs(START.0 + 1));
        assert!(!second.is_of_this_life(first.last()));
        assert!(!first.is_of_this_life(second.last()));
        assert!(!first.is_of_this_life(0) && !first.is_of_this_life(u64::MAX));
        assert!(first.is_of_this_life(first.last()));
        // Exact in every JSON.
        assert!(second.last() < 1 << 53);
    }
}
