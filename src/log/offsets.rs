//! Where bytes stand among all that ever came to a log, whatever was evicted since.
//!
//! In: an entry's number, or an offset, and which streams count. Out: the other one. Bytes of
//! evicted entries are counted, and the last few thousand of those entries are remembered, for a
//! reader that comes back.

use super::index::PerStream;
use super::store::Log;
use crate::types::{Stream, StreamFilter};

impl Log {
    /// Bytes that were once in the log and are no longer.
    pub fn dropped_bytes(&self) -> u64 {
        self.first_offset(StreamFilter::Combined) + self.lost
    }

    /// The same of some streams. What was lost before it came to the log is of none of them.
    pub fn dropped_bytes_of(&self, filter: StreamFilter) -> u64 {
        match filter {
            StreamFilter::Combined => self.dropped_bytes(),
            StreamFilter::Only(_) => self.first_offset(filter),
        }
    }

    /// Where the oldest retained byte of `filter` stands among all that came to this log, counted
    /// from the first one. Bytes keep their offsets whatever is evicted.
    pub fn first_offset(&self, filter: StreamFilter) -> u64 {
        sum(&self.evicted, filter) + sum(&self.trimmed, filter)
    }

    /// The offset behind the newest byte of `filter`.
    pub fn end_offset(&self, filter: StreamFilter) -> u64 {
        sum(&self.total, filter) + sum(&self.trimmed, filter)
    }

    /// The number of the entry that holds the byte of `filter` at this offset: of the oldest retained
    /// one where that byte was evicted, of the next one to come where it is still to be written.
    pub fn entry_at(&self, offset: u64, filter: StreamFilter) -> u64 {
        let (first, end) = (self.first_offset(filter), self.end_offset(filter));
        if offset <= first {
            return self.first();
        }
        if offset >= end {
            return self.last() + 1;
        }
        let all = self.from(self.first());
        let mut wanted = all.filter(|entry| filter.matches(entry.stream));
        // From the nearer end.
        let found = if offset - first <= end - offset {
            let mut behind = first;
            wanted.find(|entry| {
                behind += entry.len as u64;
                behind > offset
            })
        } else {
            let mut before = end;
            wanted.rev().find(|entry| {
                before -= entry.len as u64;
                before <= offset
            })
        };
        found.map_or(self.last() + 1, |entry| entry.sequence)
    }

    /// Where the first byte of `filter` in entry `sequence`, or behind it, stands among all that ever
    /// came; that of the oldest retained one where that entry was evicted.
    pub fn offset_of(&self, sequence: u64, filter: StreamFilter) -> u64 {
        let first = self.first();
        let before = self.bytes_before(sequence.max(first), filter);
        self.first_offset(filter) + before.saturating_sub(self.bytes_before(first, filter))
    }

    /// Bytes of all entries before `sequence` that match `filter`.
    ///
    /// Exact for every retained entry and for the last few thousand evicted ones; before those it
    /// assumes entries of equal length, because nothing about them is kept.
    pub fn bytes_before(&self, sequence: u64, filter: StreamFilter) -> u64 {
        let sum = |per: &PerStream| sum(per, filter);
        if sequence > self.last() {
            return sum(&self.total);
        }
        let first = self.first();
        if sequence == first {
            return sum(&self.evicted);
        }
        if sequence > first {
            let newer: u64 = self
                .from(sequence)
                .filter(|e| filter.matches(e.stream))
                .map(|e| e.len as u64)
                .sum();
            return sum(&self.total) - newer;
        }
        let missing = usize::try_from(first - sequence).unwrap_or(usize::MAX);
        let remembered = missing.min(self.history.len());
        let newer: u64 = self
            .history
            .range(self.history.len() - remembered..)
            .filter(|&&h| filter.matches(history_stream(h)))
            .map(|&h| u64::from(h >> 2) + 1)
            .sum();
        let before_history = sum(&self.evicted) - newer;
        if remembered == missing {
            return before_history;
        }
        // `sequence` lies before the history: the share of those bytes that its share of numbers is.
        let history_first = first - self.history.len() as u64;
        let share = u128::from(before_history) * u128::from(sequence.saturating_sub(1))
            / u128::from((history_first - 1).max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    }
}

pub(super) fn sum(per: &PerStream, filter: StreamFilter) -> u64 {
    match filter {
        StreamFilter::Combined => per.iter().sum(),
        StreamFilter::Only(stream) => per[stream as usize],
    }
}

fn history_stream(packed: u32) -> Stream {
    match packed & 3 {
        0 => Stream::Stdout,
        1 => Stream::Stderr,
        _ => Stream::Pty,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Arena;

    #[test]
    fn offsets_count_what_was_evicted_and_trimmed_of_each_stream() {
        let mut arena = Arena::new().unwrap();
        let mut log = Log::default();
        let (out, err) = (
            StreamFilter::Only(Stream::Stdout),
            StreamFilter::Only(Stream::Stderr),
        );
        let bounds = |log: &Log, filter| (log.first_offset(filter), log.end_offset(filter));
        log.append(&mut arena, &[1; 300], Stream::Stdout, 1000);
        log.append(&mut arena, &[2; 500], Stream::Stderr, 1000);
        log.append(&mut arena, &[3; 400], Stream::Stdout, 1000);
        assert_eq!(bounds(&log, out), (300, 700));
        assert_eq!(bounds(&log, err), (0, 500));
        assert_eq!(bounds(&log, StreamFilter::Combined), (300, 1200));
        log.append(&mut arena, &[4; 1500], Stream::Stdout, 1000);
        assert_eq!(bounds(&log, out), (1200, 2200));
        assert_eq!(bounds(&log, err), (500, 500));
        assert_eq!(bounds(&log, StreamFilter::Combined), (1700, 2700));
        assert_eq!(log.dropped_bytes(), 1700);
        log.clear(&mut arena);
        assert_eq!(bounds(&log, out), (2200, 2200));
    }
}
