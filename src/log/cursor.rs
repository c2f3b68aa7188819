//! A reader's place in a log, and the gap when eviction has overtaken it.
//!
//! In: a log. Out: what comes next. Replay and live output are the same walk, so nothing can be
//! lost or repeated between them. Owns a few words; a stalled reader costs nothing else.

use super::select::Select;
use super::store::Log;

/// Entries that are passed in one step: a fraction of a millisecond.
const SKIPPED_MAX: usize = 1 << 16;

/// Entries that were evicted before the reader got them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// First missed sequence number.
    pub from: u64,
    /// Last missed sequence number.
    pub to: u64,
    /// Missed bytes of the streams the reader asked for.
    pub bytes: u64,
}

/// What a reader finds at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Eviction passed the reader; it has been moved to the oldest retained entry.
    Gap(Gap),
    /// Entries up to this sequence number can be read.
    Entries {
        /// The newest entry.
        last: u64,
    },
    /// Nothing new yet.
    Nothing,
}

/// One reader's place.
#[derive(Clone, Debug)]
pub struct Cursor {
    next: u64,
    select: Select,
    /// Bytes of the streams it reads before `next`, delivered or not; unknown while some of those
    /// entries are still to be written, because the reader began ahead of the log.
    passed: Option<u64>,
}

impl Cursor {
    /// A reader of everything after `since` (0 for all). An entry numbered `since` or less is
    /// never shown, not even one written later. If `since` is not 0 and older than the oldest
    /// retained entry, the first [`Cursor::next`] is a gap; a plain replay just begins there.
    pub fn after(log: &Log, select: impl Into<Select>, since: u64) -> Self {
        if since == 0 {
            Self::at(log, select, log.first())
        } else {
            Self::at(log, select, since.saturating_add(1))
        }
    }

    /// A reader of the last `count` matching entries after `since`, and of what follows.
    pub fn tail(log: &Log, select: impl Into<Select>, since: u64, count: u64) -> Self {
        let select = select.into();
        let start = log.start_of_tail(&select, since, count);
        Self::at(log, select, start.max(since.saturating_add(1)))
    }

    /// A reader that begins at sequence number `next`.
    pub fn at(log: &Log, select: impl Into<Select>, next: u64) -> Self {
        let select = select.into();
        let written = next <= log.last() + 1;
        Self {
            next,
            select,
            passed: written.then(|| log.bytes_before(next, select.streams)),
        }
    }

    /// The sequence number it will read next.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Which entries it reads.
    pub fn select(&self) -> &Select {
        &self.select
    }

    /// What is at the reader's place; moves it over a gap.
    pub fn next(&mut self, log: &Log) -> Next {
        if self.next < log.first() {
            let before = log.bytes_before(log.first(), self.select.streams);
            let passed = self
                .passed
                .unwrap_or_else(|| log.bytes_before(self.next, self.select.streams));
            let gap = Gap {
                from: self.next,
                to: log.first() - 1,
                bytes: before.saturating_sub(passed),
            };
            self.next = log.first();
            self.passed = Some(before);
            return Next::Gap(gap);
        }
        if self.next > log.last() {
            return Next::Nothing;
        }
        if self.passed.is_none() {
            self.passed = Some(log.bytes_before(self.next, self.select.streams));
        }
        Next::Entries { last: log.last() }
    }

    /// Moves over entries that it does not read, [`SKIPPED_MAX`] of them at most. Whether it stands
    /// at one that it reads.
    pub fn skip_unwanted(&mut self, log: &Log) -> bool {
        let mut passed = 0;
        let mut arrived = false;
        for entry in log.from(self.next).take(SKIPPED_MAX) {
            if self.select.matches(&entry) {
                arrived = true;
                break;
            }
            if self.select.streams.matches(entry.stream) {
                passed += entry.len as u64;
            }
            self.next = entry.sequence + 1;
        }
        self.passed = self.passed.map(|before| before + passed);
        arrived
    }

    /// Moves past `sequence`, having passed `bytes` bytes of its streams on the way.
    pub fn advance(&mut self, sequence: u64, bytes: u64) {
        self.next = self.next.max(sequence.saturating_add(1));
        self.passed = self.passed.map(|passed| passed + bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::arena::Arena;
    use super::*;
    use crate::types::{Stream, StreamFilter};

    fn append(log: &mut Log, arena: &mut Arena, len: usize, limit: u64) {
        log.tail(arena).unwrap();
        log.commit(arena, len, Stream::Stdout, 1, limit);
    }

    #[test]
    fn follower_behind_eviction_gets_one_gap_and_then_the_oldest_entry() {
        let (mut arena, mut log) = (Arena::new().unwrap(), Log::default());
        append(&mut log, &mut arena, 10, 100);
        let mut cursor = Cursor::after(&log, StreamFilter::Combined, 0);
        cursor.advance(1, 10);
        for _ in 0..30 {
            append(&mut log, &mut arena, 10, 100);
        }
        assert_eq!(
            cursor.next(&log),
            Next::Gap(Gap {
                from: 2,
                to: 21,
                bytes: 200
            })
        );
        assert_eq!(cursor.next(&log), Next::Entries { last: 31 });
        assert_eq!(cursor.position(), 22);
    }

    #[test]
    fn a_gap_counts_only_the_streams_asked_for() {
        let (mut arena, mut log) = (Arena::new().unwrap(), Log::default());
        let mut cursor = Cursor::after(&log, StreamFilter::Only(Stream::Stderr), 0);
        for _ in 0..30 {
            append(&mut log, &mut arena, 10, 100);
        }
        assert_eq!(
            cursor.next(&log),
            Next::Gap(Gap {
                from: 1,
                to: 20,
                bytes: 0
            })
        );
    }

    #[test]
    fn entries_at_or_before_since_are_never_shown_even_if_written_later() {
        let (mut arena, mut log) = (Arena::new().unwrap(), Log::default());
        append(&mut log, &mut arena, 1, 100);
        let mut cursor = Cursor::after(&log, StreamFilter::Combined, 5);
        for _ in 0..4 {
            append(&mut log, &mut arena, 1, 100);
            assert_eq!(cursor.next(&log), Next::Nothing);
        }
        append(&mut log, &mut arena, 1, 100);
        assert_eq!(cursor.next(&log), Next::Entries { last: 6 });
        assert_eq!(cursor.position(), 6);
    }

    #[test]
    fn a_gap_of_a_reader_ahead_of_the_log_counts_nothing_before_its_place() {
        let (mut arena, mut log) = (Arena::new().unwrap(), Log::default());
        append(&mut log, &mut arena, 10, 100);
        let mut cursor = Cursor::after(&log, StreamFilter::Combined, 5);
        for _ in 0..30 {
            append(&mut log, &mut arena, 10, 100);
        }
        let gap = Gap {
            from: 6,
            to: 21,
            bytes: 160,
        };
        assert_eq!(cursor.next(&log), Next::Gap(gap));
    }

    #[test]
    fn only_a_resumed_replay_begins_with_a_gap() {
        let (mut arena, mut log) = (Arena::new().unwrap(), Log::default());
        for _ in 0..30 {
            append(&mut log, &mut arena, 10, 100);
        }
        assert_eq!(
            Cursor::after(&log, StreamFilter::Combined, 0).next(&log),
            Next::Entries { last: 30 }
        );
        let gap = Gap {
            from: 6,
            to: 20,
            bytes: 150,
        };
        assert_eq!(
            Cursor::after(&log, StreamFilter::Combined, 5).next(&log),
            Next::Gap(gap)
        );
    }
}
