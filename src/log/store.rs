//! One process's log: append, evict by entry, free empty slots.
//!
//! In: bytes already read into the tail it lends. Out: entries and their bytes, by number.
//! Owns its slots and its index. Knows no process, no clock (time arrives as an argument). What it
//! is can be found again in the arena's memory ([`super::recovery`]); the rest follows from that.
//!
//! - Entries lie in their slots in order, so the oldest slot is free once its last entry is gone.
//! - The retained bytes never exceed the limit by even one entry after [`Log::commit`].
//! - An idle log holds no slot that no entry points into.

use std::collections::VecDeque;
use std::ops::Range;

use super::arena::{Arena, ArenaError, SLOT_BYTES, SlotId};
use super::index::{Entry, Index, PerStream, Row};
use super::offsets::sum;
use super::recovery::Unentered;
use super::select::Select;
use super::snapshot::Snapshot;
use crate::ledger::blocks::CellId;
use crate::metrics::metrics;
use crate::types::{Stream, StreamFilter};

/// A tail shorter than this is left unused and a new slot begun, so that reads stay large.
const TAIL_BYTES_MIN: usize = 4 << 10;

/// Lengths of evicted entries that are remembered, to say how many bytes a reader has missed
/// that comes back with an old sequence number. 4 bytes each.
const HISTORY_MAX: usize = 4096;

/// The retained output of one process.
#[derive(Debug, Default)]
pub struct Log {
    pub(super) index: Index,
    /// Oldest first; the last one is the tail.
    pub(super) slots: VecDeque<SlotId>,
    /// First unused byte of the tail slot.
    pub(super) tail_start: usize,
    /// Bytes of all evicted entries.
    pub(super) evicted: PerStream,
    /// Bytes of all entries ever.
    pub(super) total: PerStream,
    /// Bytes cut from the front of entries that alone exceeded the limit. Such an entry is the only
    /// one that is retained, so all of them lie before the oldest retained byte.
    pub(super) trimmed: PerStream,
    /// Bytes that were lost before they came to the log.
    pub(super) lost: u64,
    /// The newest evicted entries: length less one << 2 | stream.
    pub(super) history: VecDeque<u32>,
}

impl Log {
    /// Lends the free bytes to read into: at least 4 KiB, at most [`SLOT_BYTES`]. Every call must
    /// be followed by [`Log::commit`], also when nothing was read.
    ///
    /// # Errors
    /// [`ArenaError::Full`] when a new slot is needed and there is none.
    pub fn tail<'a>(&mut self, arena: &'a mut Arena) -> Result<&'a mut [u8], ArenaError> {
        let slot = self.tail_slot(arena)?;
        Ok(arena.tail(slot, self.tail_start))
    }

    /// The same, for a read of `stream` that empties what it reads from: if this process dies in
    /// it, whoever goes on with an arena that [`Arena::keeps`] finds what was read.
    ///
    /// # Errors
    /// As there.
    pub fn tail_of<'a>(
        &mut self,
        arena: &'a mut Arena,
        stream: Stream,
    ) -> Result<&'a mut [u8], ArenaError> {
        self.tail_slot(arena)?;
        self.note_read(arena, stream)?;
        Ok(self.lend(arena))
    }

    /// The tail that was lent before is about to be read to, from `stream`; see [`Log::tail_of`].
    ///
    /// # Errors
    /// [`ArenaError::Full`] when there is no room for the note.
    pub fn note_read(&mut self, arena: &Arena, stream: Stream) -> Result<(), ArenaError> {
        if let Some(&slot) = self.slots.back()
            && arena.keeps()
        {
            let cell = self.index.cell(arena.blocks()).ok_or(ArenaError::Full)?;
            let to = Unentered::place(slot, self.tail_start, stream);
            arena.blocks().intend(cell, to);
        }
        Ok(())
    }

    /// Lends the tail again; nothing if there is none.
    pub fn lend<'a>(&self, arena: &'a mut Arena) -> &'a mut [u8] {
        match self.slots.back() {
            Some(&slot) => arena.tail(slot, self.tail_start),
            None => &mut [],
        }
    }

    fn tail_slot(&mut self, arena: &mut Arena) -> Result<SlotId, ArenaError> {
        match self.slots.back() {
            Some(&slot) if SLOT_BYTES - self.tail_start >= TAIL_BYTES_MIN => Ok(slot),
            _ => {
                let slot = arena.alloc()?;
                self.slots.push_back(slot);
                self.tail_start = 0;
                Ok(slot)
            }
        }
    }

    /// Where this log is found again by who goes on with the arena's memory; None if there is no
    /// room for that.
    pub fn cell(&mut self, arena: &Arena) -> Option<CellId> {
        self.index.cell(arena.blocks())
    }

    /// Slots that it holds.
    pub fn slots_held(&self) -> usize {
        self.slots.len()
    }

    /// Makes the first `len` bytes of the tail an entry of `stream` and evicts what no longer
    /// fits `limit` bytes. If nothing is kept, an unused slot is given back.
    pub fn commit(
        &mut self,
        arena: &mut Arena,
        len: usize,
        stream: Stream,
        now_ms: u64,
        limit: u64,
    ) {
        let Some(&slot) = self.slots.back() else {
            return;
        };
        let len = len.min(SLOT_BYTES - self.tail_start);
        // An entry longer than the whole limit keeps its end.
        let kept = usize::try_from(limit).map_or(len, |limit| len.min(limit));
        let cut = len - kept;
        let row = Row {
            timestamp_ms: now_ms,
            stream,
            slot,
            start: self.tail_start + cut,
            len: kept,
            cut,
        };
        if kept > 0 && self.enter(arena, row) {
            self.tail_start += len;
            self.trimmed[stream as usize] += cut as u64;
            self.total[stream as usize] += kept as u64;
            self.fit(arena, limit);
        } else {
            match kept {
                0 => self.trimmed[stream as usize] += len as u64,
                _ => self.lost(len as u64),
            }
            if len > 0 {
                self.fit(arena, limit);
            }
            self.leave_tail(arena, slot, len);
        }
        if arena.keeps() {
            arena.blocks().is_read();
        }
    }

    /// Whether there was room for it.
    fn enter(&mut self, arena: &Arena, row: Row) -> bool {
        let mut before = self.total;
        for (before, trimmed) in before.iter_mut().zip(self.trimmed) {
            *before += trimmed;
        }
        self.index.push(arena.blocks(), &before, row).is_some()
    }

    /// Nothing of what was read to the tail is kept, `len` bytes.
    fn leave_tail(&mut self, arena: &mut Arena, slot: SlotId, len: usize) {
        if self.tail_start == 0 {
            self.slots.pop_back();
            arena.free(slot);
            // The slot before it, if any, had too short a tail to go on with.
            self.tail_start = SLOT_BYTES;
        } else if arena.keeps() {
            arena.tail(slot, self.tail_start)[..len].fill(0);
        }
    }

    /// Makes a part of a slot that was filled elsewhere an entry of `stream`, the slot being the
    /// log's from now on. Bytes and limit as for [`Log::commit`].
    pub fn adopt(
        &mut self,
        arena: &mut Arena,
        (slot, part): (SlotId, Range<usize>),
        stream: Stream,
        now_ms: u64,
        limit: u64,
    ) {
        self.slots.push_back(slot);
        self.tail_start = part.start;
        self.commit(arena, part.len(), stream, now_ms, limit);
    }

    /// Notes bytes that were written and lost before they came to the log.
    pub fn lost(&mut self, bytes: u64) {
        self.lost += bytes;
        self.index.set_lost(self.lost);
    }

    fn fit(&mut self, arena: &mut Arena, limit: u64) {
        let entries_max = usize::try_from(Self::entries_max(limit)).unwrap_or(usize::MAX);
        let before = sum(&self.evicted, StreamFilter::Combined);
        while self.retained_bytes() > limit || self.index.len() > entries_max {
            self.evict_oldest(arena);
        }
        let evicted = sum(&self.evicted, StreamFilter::Combined) - before;
        metrics(|all| all.evicted_bytes.add(evicted));
    }

    pub(super) fn evict_oldest(&mut self, arena: &mut Arena) {
        let Some(gone) = self.index.pop_front() else {
            return;
        };
        self.evicted[gone.stream as usize] += gone.len as u64;
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "an entry lies in one slot of 2^16 bytes"
        )]
        let len = gone.len as u32;
        self.history.push_back((len - 1) << 2 | gone.stream as u32);
        let oldest = self.index.front().map(|entry| entry.slot);
        while self.slots.len() > 1 && self.slots.front().copied() != oldest {
            if let Some(slot) = self.slots.pop_front() {
                arena.free(slot);
            }
        }
    }

    /// Gives every slot back; the log is empty afterwards and its numbering goes on.
    pub fn clear(&mut self, arena: &mut Arena) {
        self.empty(arena);
        self.index.clear();
    }

    pub(super) fn empty(&mut self, arena: &mut Arena) {
        while !self.index.is_empty() {
            self.evict_oldest(arena);
        }
        for slot in self.slots.drain(..) {
            arena.free(slot);
        }
        self.tail_start = 0;
    }

    /// How many entries a log of at most `limit` bytes may hold.
    pub fn entries_max(limit: u64) -> u64 {
        (limit / 64).max(1024)
    }

    /// The last entry that goes when `len` more bytes are committed under `limit`; 0 if none goes.
    pub fn evicted_by(&self, len: usize, limit: u64) -> u64 {
        let kept = (len as u64).min(limit);
        let entries_max = Self::entries_max(limit);
        let (mut retained, mut entries) =
            (self.retained_bytes() + kept, self.index.len() as u64 + 1);
        if kept == 0 || retained <= limit && entries <= entries_max {
            return 0;
        }
        let mut last = 0;
        for entry in self.from(self.first()) {
            if retained <= limit && entries <= entries_max {
                break;
            }
            retained -= entry.len as u64;
            entries -= 1;
            last = entry.sequence;
        }
        last
    }

    /// Sequence number of the oldest retained entry (of the next one if none is retained).
    pub fn first(&self) -> u64 {
        self.index.first()
    }

    /// Sequence number of the newest entry ever, 0 before the first.
    pub fn last(&self) -> u64 {
        self.index.last()
    }

    /// Bytes of all retained entries.
    pub fn retained_bytes(&self) -> u64 {
        sum(&self.total, StreamFilter::Combined) - sum(&self.evicted, StreamFilter::Combined)
    }

    /// Bytes of all entries ever.
    pub fn entered_bytes(&self) -> u64 {
        sum(&self.total, StreamFilter::Combined)
    }

    /// Bytes the index and the history hold on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.index.heap_bytes() + self.history.capacity() * size_of::<u32>()
    }

    /// The entry with this number, if retained.
    pub fn get(&self, sequence: u64) -> Option<Entry> {
        self.index.get(sequence)
    }

    /// Retained entries from `sequence` on, oldest first.
    pub fn from(&self, sequence: u64) -> impl DoubleEndedIterator<Item = Entry> + '_ {
        self.index.from(sequence)
    }

    /// The retained entries `from..=to` as they are now.
    pub fn snapshot(&self, arena: &mut Arena, from: u64, to: u64) -> Snapshot {
        Snapshot::new(self.index.copy(from, to), arena)
    }

    /// The bytes of an entry of this log.
    pub fn bytes<'a>(&self, arena: &'a Arena, entry: &Entry) -> &'a [u8] {
        arena.bytes(entry.slot, entry.start, entry.len)
    }

    /// The number of the first of the last `count` entries after `since` that match `select`;
    /// past the end if `count` is 0 or none matches.
    pub fn start_of_tail(&self, select: &Select, since: u64, count: u64) -> u64 {
        let mut start = self.last() + 1;
        if count == 0 {
            return start;
        }
        let mut left = count;
        for entry in self.from(since.saturating_add(1)).rev() {
            if select.matches(&entry) {
                start = entry.sequence;
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_exact_to_an_entry() {
        let mut arena = Arena::new().unwrap();
        let mut log = Log::default();
        for i in 0..60u8 {
            log.append(&mut arena, &[i; 1000], Stream::Stdout, 20_000);
        }
        assert_eq!(
            (log.first(), log.last(), log.retained_bytes()),
            (41, 60, 20_000)
        );
        assert_eq!(log.dropped_bytes(), 40_000);
        let oldest = log.get(41).unwrap();
        assert_eq!(log.bytes(&arena, &oldest), [40u8; 1000]);
        assert_eq!(log.bytes_before(6, StreamFilter::Combined), 5_000);
        assert_eq!(log.bytes_before(41, StreamFilter::Combined), 40_000);
        assert_eq!(
            log.bytes_before(61, StreamFilter::Only(Stream::Stdout)),
            60_000
        );
        assert_eq!(log.bytes_before(61, StreamFilter::Only(Stream::Stderr)), 0);
    }

    #[test]
    fn what_a_commit_evicts_is_known_before() {
        let mut arena = Arena::new().unwrap();
        for (len, limit, count) in [
            (1000, 20_000, 60),
            (1, 10_000, 3000),
            (50, 40, 5),
            (9, 0, 3),
        ] {
            let mut log = Log::default();
            for _ in 0..count {
                let (first, going) = (log.first(), log.evicted_by(len, limit));
                log.append(&mut arena, &vec![1; len], Stream::Pty, limit);
                let gone = if log.first() == first {
                    0
                } else {
                    log.first() - 1
                };
                assert_eq!(going, gone);
            }
            log.clear(&mut arena);
        }
    }

    #[test]
    fn an_entry_larger_than_the_limit_keeps_its_last_bytes() {
        let mut arena = Arena::new().unwrap();
        let mut log = Log::default();
        log.append(&mut arena, b"abcdefghij", Stream::Stdout, 4);
        let entry = log.get(1).unwrap();
        assert_eq!(log.bytes(&arena, &entry), b"ghij");
        assert_eq!(log.dropped_bytes(), 6);
    }

    #[test]
    fn one_byte_writes_do_not_grow_the_index_past_its_bound() {
        let mut arena = Arena::new().unwrap();
        let mut log = Log::default();
        for _ in 0..5_000 {
            log.append(&mut arena, b"x", Stream::Stdout, 10_000);
        }
        assert_eq!(log.last() - log.first() + 1, 1024);
        assert!(
            log.heap_bytes() <= 1024 * 32 + HISTORY_MAX * 8,
            "{}",
            log.heap_bytes()
        );
    }

    #[test]
    fn slots_go_back_when_their_last_entry_is_evicted_and_when_the_log_is_cleared() {
        let mut arena = Arena::new().unwrap();
        let mut log = Log::default();
        for i in 0..100u8 {
            log.append(
                &mut arena,
                &vec![i; SLOT_BYTES],
                Stream::Stdout,
                10 * SLOT_BYTES as u64,
            );
        }
        assert_eq!(arena.in_use(), 10);
        log.clear(&mut arena);
        assert_eq!(arena.in_use(), 0);
        assert_eq!((log.first(), log.last()), (101, 100));
        log.append(&mut arena, b"more", Stream::Stdout, 100);
        assert_eq!(log.last(), 101);
    }

    #[test]
    fn a_read_of_nothing_leaves_no_slot_behind() {
        let mut arena = Arena::new().unwrap();
        let mut log = Log::default();
        log.tail(&mut arena).unwrap();
        log.commit(&mut arena, 0, Stream::Stdout, 1, 100);
        assert_eq!(arena.in_use(), 0);
        log.append(&mut arena, &[1; SLOT_BYTES], Stream::Stdout, 1 << 20);
        log.tail(&mut arena).unwrap();
        log.commit(&mut arena, 0, Stream::Stdout, 1, 1 << 20);
        assert_eq!(arena.in_use(), 1);
        log.append(&mut arena, b"after", Stream::Stdout, 1 << 20);
        let entry = log.get(2).unwrap();
        assert_eq!(log.bytes(&arena, &entry), b"after");
    }

    #[test]
    fn slots_that_were_filled_elsewhere_become_entries_and_the_log_goes_on_behind_them() {
        let mut arena = Arena::new().unwrap();
        let keep = crate::log::capture::Keep::Head;
        let mut capture = crate::log::capture::Capture::new(keep, SLOT_BYTES as u64 + 10);
        for part in [&[1; SLOT_BYTES][..], &[2; 20]] {
            capture.append(&mut arena, part);
        }
        let lost = capture.lost();
        assert_eq!(lost, 10);
        let mut log = Log::default();
        log.lost(lost);
        for taken in capture.take(&mut arena) {
            log.adopt(&mut arena, taken, Stream::Stderr, 7, 1 << 20);
        }
        log.append(&mut arena, b"more", Stream::Stdout, 1 << 20);
        let of = |n| {
            (
                log.bytes(&arena, &log.get(n).unwrap()).to_vec(),
                log.get(n).unwrap().stream,
            )
        };
        assert_eq!(of(1), (vec![1; SLOT_BYTES], Stream::Stderr));
        assert_eq!(of(2), (vec![2; 10], Stream::Stderr));
        assert_eq!(of(3), (b"more".to_vec(), Stream::Stdout));
        assert_eq!((log.dropped_bytes(), arena.in_use()), (10, 2));
        log.clear(&mut arena);
        assert_eq!(arena.in_use(), 0);
    }

    #[test]
    fn a_log_that_may_hold_nothing_holds_no_slot_and_counts_what_it_drops() {
        let mut arena = Arena::new().unwrap();
        let mut log = Log::default();
        for _ in 0..3 {
            log.append(&mut arena, &[1; SLOT_BYTES], Stream::Stdout, 0);
            assert_eq!((arena.in_use(), log.last()), (0, 0));
        }
        assert_eq!(log.dropped_bytes(), 3 * SLOT_BYTES as u64);
    }

    #[test]
    fn the_tail_of_a_filtered_log_counts_only_what_matches() {
        let mut arena = Arena::new().unwrap();
        let mut log = Log::default();
        for i in 0..10 {
            let stream = if i % 2 == 0 {
                Stream::Stdout
            } else {
                Stream::Stderr
            };
            log.append(&mut arena, b"x", stream, 100);
        }
        let stderr = Select::from(StreamFilter::Only(Stream::Stderr));
        let pty = Select::from(StreamFilter::Only(Stream::Pty));
        assert_eq!(log.start_of_tail(&stderr, 0, 2), 8);
        assert_eq!(log.start_of_tail(&stderr, 9, 2), 10);
        assert_eq!(log.start_of_tail(&stderr, 0, 0), 11);
        assert_eq!(log.start_of_tail(&pty, 0, 5), 11);
        assert_eq!(log.start_of_tail(&Select::default(), 0, u64::MAX), 1);
    }
}
