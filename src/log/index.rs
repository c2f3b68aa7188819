//! Entries of a log: sequence number, time, stream and where the bytes are.
//!
//! In: facts about one read. Out: the same facts by sequence number. Knows no bytes.
//!
//! An entry is packed into 16 bytes. The deque that holds them may have twice the capacity it
//! needs, so an entry costs at most 32 bytes.

use std::collections::VecDeque;

use super::arena::{SLOT_BYTES, SlotId};
use crate::types::Stream;

/// One read of a pipe or terminal, as a reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// From 1, one more for every entry of the log.
    pub sequence: u64,
    /// Arrival, milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// Which stream it came from.
    pub stream: Stream,
    /// The slot that holds the bytes.
    pub slot: SlotId,
    /// Offset in the slot, bytes.
    pub start: usize,
    /// Length, bytes; 1 to [`SLOT_BYTES`].
    pub len: usize,
}

/// `stamp` is milliseconds << 2 | stream: 62 bits of milliseconds outlast any clock.
#[derive(Clone, Copy, Debug)]
struct Packed {
    stamp: u64,
    slot: u32,
    start: u16,
    len_less_one: u16,
}

const _: () = assert!(size_of::<Packed>() == 16 && SLOT_BYTES == 1 << 16);

/// The retained entries of one log, oldest first.
#[derive(Debug, Default)]
pub struct Index {
    entries: VecDeque<Packed>,
    /// Entries evicted so far; also the sequence number before the first retained one.
    evicted: u64,
}

impl Index {
    /// Sequence number of the oldest retained entry, or of the next one if none is retained.
    pub fn first(&self) -> u64 {
        self.evicted + 1
    }

    /// Sequence number of the newest entry ever, 0 before the first.
    pub fn last(&self) -> u64 {
        self.evicted + self.entries.len() as u64
    }

    /// Retained entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is retained.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends an entry and returns its sequence number. `start + len` must lie inside a slot and
    /// `len` must not be 0; the store has checked both.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a slot has 2^16 bytes: where an entry starts, and its length less one, are less"
    )]
    pub fn push(
        &mut self,
        timestamp_ms: u64,
        stream: Stream,
        slot: SlotId,
        start: usize,
        len: usize,
    ) -> u64 {
        debug_assert!(len >= 1 && start + len <= SLOT_BYTES);
        self.entries.push_back(Packed {
            stamp: timestamp_ms << 2 | stream as u64,
            slot: slot.number(),
            start: start as u16,
            len_less_one: (len - 1) as u16,
        });
        self.last()
    }

    /// The entry with this sequence number, if retained.
    pub fn get(&self, sequence: u64) -> Option<Entry> {
        let at = sequence.checked_sub(self.first())?;
        let packed = self.entries.get(usize::try_from(at).ok()?)?;
        Some(unpack(sequence, packed))
    }

    /// The oldest retained entry.
    pub fn front(&self) -> Option<Entry> {
        self.get(self.first())
    }

    /// Forgets the oldest entry; its number is never used again.
    pub fn pop_front(&mut self) -> Option<Entry> {
        let entry = self.front()?;
        self.entries.pop_front();
        self.evicted += 1;
        if self.entries.capacity() > 256 && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        Some(entry)
    }

    /// Entries from `sequence` on, oldest first.
    pub fn from(&self, sequence: u64) -> impl DoubleEndedIterator<Item = Entry> + '_ {
        let skip = usize::try_from(sequence.saturating_sub(self.first()))
            .unwrap_or(usize::MAX)
            .min(self.len());
        let first = self.first() + skip as u64;
        self.entries
            .range(skip..)
            .enumerate()
            .map(move |(i, packed)| unpack(first + i as u64, packed))
    }

    /// A copy of the entries `from..=to` that are retained, and the number of the first.
    pub fn copy(&self, from: u64, to: u64) -> Copied {
        let first = from.max(self.first());
        let skip = usize::try_from(first - self.first()).unwrap_or(usize::MAX);
        let take = usize::try_from((to + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        let packed = self.entries.iter().skip(skip).take(take).copied();
        Copied {
            first,
            entries: packed.collect(),
        }
    }

    /// Bytes the index itself holds.
    pub fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Packed>()
    }
}

/// Some entries of a log, by themselves; 16 bytes each.
#[derive(Debug)]
pub struct Copied {
    first: u64,
    entries: Box<[Packed]>,
}

impl Copied {
    /// The entries from position `at` on.
    pub fn from(&self, at: usize) -> impl Iterator<Item = Entry> + '_ {
        let entries = self.entries.iter().enumerate().skip(at);
        entries.map(|(i, packed)| unpack(self.first + i as u64, packed))
    }
}

fn unpack(sequence: u64, packed: &Packed) -> Entry {
    Entry {
        sequence,
        timestamp_ms: packed.stamp >> 2,
        stream: match packed.stamp & 3 {
            0 => Stream::Stdout,
            1 => Stream::Stderr,
            _ => Stream::Pty,
        },
        slot: SlotId::from_number(packed.slot),
        start: usize::from(packed.start),
        len: usize::from(packed.len_less_one) + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_costs_at_most_32_bytes_with_its_container() {
        let mut index = Index::default();
        for i in 0..100_000u64 {
            index.push(i, Stream::Stdout, SlotId::from_number(0), 0, 1);
        }
        assert!(
            index.heap_bytes() <= 100_000 * 32 + 4096,
            "{}",
            index.heap_bytes()
        );
        for _ in 0..99_900 {
            index.pop_front();
        }
        assert!(index.heap_bytes() <= 256 * 32, "{}", index.heap_bytes());
        assert_eq!((index.first(), index.last()), (99_901, 100_000));
    }

    #[test]
    fn what_goes_in_comes_out() {
        let mut index = Index::default();
        let slot = SlotId::from_number(u32::MAX);
        index.push(1_795_394_513_156, Stream::Pty, slot, 0, SLOT_BYTES);
        index.push(1_795_394_513_157, Stream::Stderr, slot, SLOT_BYTES - 1, 1);
        let one = index.get(1).unwrap();
        assert_eq!(
            (one.timestamp_ms, one.stream, one.slot, one.start, one.len),
            (1_795_394_513_156, Stream::Pty, slot, 0, SLOT_BYTES)
        );
        let two = index.get(2).unwrap();
        assert_eq!(
            (two.stream, two.start, two.len),
            (Stream::Stderr, SLOT_BYTES - 1, 1)
        );
        assert_eq!(index.get(0), None);
        assert_eq!(index.get(3), None);
    }
}
