//! Entries of a log: sequence number, time, stream and where the bytes are.
//!
//! In: facts about one read. Out: the same facts by sequence number. Knows no bytes.
//!
//! They lie in shared memory ([`Blocks`]) and nowhere else, so that whoever goes on with that memory
//! finds them, at whatever store this process has died ([`Index::recover`]):
//!
//! ```text
//! cell:  last | evicted | lost | head
//! block: first | next | before, of each stream | 13 entries of two numbers
//! ```
//!
//! - Two numbers decide: `last` is stored after its entry and the link to its block, `evicted` before
//!   the entry's slot or block is used again. All others lead to them or follow from them.
//! - Blocks are full but for the last one, so an entry is found by its number.
//! - `before` counts the bytes of all streams before the first entry of the block; what lies before
//!   another entry follows. So no count has to be kept with every entry.
//! - An empty index keeps its last block, for what it counts.
//!
//! Here are the numbers of the blocks, 4 bytes for each 256, and what is asked for all the time.

use std::collections::VecDeque;
use std::rc::Rc;

use super::arena::{SLOT_BYTES, SlotId};
use crate::ledger::blocks::{BLOCK_WORDS, Blocks, CELL_WORDS, CellId};
use crate::types::Stream;

/// Bytes per stream, indexed by `Stream as usize`.
pub(super) type PerStream = [u64; Stream::COUNT];

/// Places in a cell.
const LAST: usize = 0;
const EVICTED: usize = 1;
const LOST: usize = 2;
const HEAD: usize = 3;

/// Places in a block.
const FIRST: usize = 0;
const NEXT: usize = 1;
const BEFORE: usize = 2;
const ROWS: usize = BEFORE + Stream::COUNT;

/// Numbers of one entry.
const ROW_WORDS: usize = 2;

/// Entries in one block.
const PER_BLOCK: u64 = 13;

const _: () = assert!(HEAD < CELL_WORDS && ROWS + 13 * ROW_WORDS <= BLOCK_WORDS);

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

/// `stamp` is bytes that were cut from its front << 46 | milliseconds << 2 | stream: 44 bits of
/// milliseconds are five hundred years. `place` is length less one << 48 | start << 32 | slot.
#[derive(Clone, Copy, Debug)]
struct Packed {
    stamp: u64,
    place: u64,
}

/// Bits of a stamp.
const MS_BITS: u32 = 44;

/// The last moment that an entry can have, in the year 2527; what comes later has this one.
const MS_MAX: u64 = (1 << MS_BITS) - 1;
const CUT_SHIFT: u32 = MS_BITS + 2;

const _: () = assert!(size_of::<Packed>() == 16 && SLOT_BYTES == 1 << 16);

/// The retained entries of one log, oldest first.
#[derive(Debug, Default)]
pub struct Index {
    /// None before the first entry.
    kept: Option<Box<Kept>>,
}

#[derive(Debug)]
struct Kept {
    memory: Rc<Blocks>,
    /// None when all was given back.
    cell: Option<CellId>,
    /// Oldest first.
    blocks: VecDeque<u32>,
    /// The number of the first entry of the first block.
    front: u64,
    /// Entries evicted so far; also the sequence number before the first retained one.
    evicted: u64,
    last: u64,
    lost: u64,
}

/// Bytes that an index which was gone on with tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Of all evicted entries, with what was cut from them.
    pub(super) evicted: PerStream,
    /// That, and what is retained.
    pub(super) total: PerStream,
    /// Cut from the front of retained entries.
    pub(super) cut: PerStream,
    /// Lost before they came to the log.
    pub(super) lost: u64,
}

/// A read that is to become an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) timestamp_ms: u64,
    pub(super) stream: Stream,
    /// `start + len` lies inside it, and `len` is not 0.
    pub(super) slot: SlotId,
    pub(super) start: usize,
    pub(super) len: usize,
    /// Bytes that were cut from its front; less than a slot has.
    pub(super) cut: usize,
}

impl Index {
    /// Sequence number of the oldest retained entry, or of the next one if none is retained.
    pub fn first(&self) -> u64 {
        self.kept.as_ref().map_or(0, |kept| kept.evicted) + 1
    }

    /// Sequence number of the newest entry ever, 0 before the first.
    pub fn last(&self) -> u64 {
        self.kept.as_ref().map_or(0, |kept| kept.last)
    }

    /// Retained entries.
    pub fn len(&self) -> usize {
        let retained = self.last() + 1 - self.first();
        usize::try_from(retained).unwrap_or(usize::MAX)
    }

    /// Whether nothing is retained.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where it begins, in this memory; None if there is no room for that.
    pub(super) fn cell(&mut self, memory: &Rc<Blocks>) -> Option<CellId> {
        let kept = self.kept.get_or_insert_with(|| {
            Box::new(Kept {
                memory: memory.clone(),
                cell: None,
                blocks: VecDeque::new(),
                front: 1,
                evicted: 0,
                last: 0,
                lost: 0,
            })
        });
        if kept.cell.is_none() {
            let cell = memory.alloc_cell()?;
            // In this order: it is empty whenever this ends.
            memory.set_cell(cell, HEAD, 0);
            memory.set_cell(cell, LOST, kept.lost);
            memory.set_cell(cell, EVICTED, u64::MAX);
            memory.set_cell(cell, LAST, kept.last);
            memory.set_cell(cell, EVICTED, kept.evicted);
            kept.cell = Some(cell);
        }
        kept.cell
    }

    /// Appends an entry and returns its sequence number; None if there is no room for it. `before`
    /// is how many bytes of each stream came before it and before what was cut from it.
    pub(super) fn push(
        &mut self,
        memory: &Rc<Blocks>,
        before: &PerStream,
        row: Row,
    ) -> Option<u64> {
        debug_assert!(row.len >= 1 && row.start + row.len <= SLOT_BYTES && row.cut < SLOT_BYTES);
        let cell = self.cell(memory)?;
        let kept = self.kept.as_mut()?;
        let sequence = kept.last + 1;
        let known = kept.blocks.back().copied();
        let block = match known {
            Some(block) if sequence - kept.front < kept.blocks.len() as u64 * PER_BLOCK => block,
            _ => {
                let block = memory.alloc()?;
                memory.set(block, FIRST, sequence);
                memory.set(block, NEXT, 0);
                for (stream, bytes) in before.iter().enumerate() {
                    memory.set(block, BEFORE + stream, *bytes);
                }
                match known {
                    Some(last) => memory.set(last, NEXT, u64::from(block)),
                    None => {
                        kept.front = sequence;
                        memory.set_cell(cell, HEAD, u64::from(block));
                    }
                }
                kept.blocks.push_back(block);
                block
            }
        };
        let Packed { stamp, place } = pack(row);
        let at = place_of((sequence - kept.front) % PER_BLOCK);
        memory.set(block, at, stamp);
        memory.set(block, at + 1, place);
        // From here on it is in the log.
        memory.set_cell(cell, LAST, sequence);
        kept.last = sequence;
        kept.give_back();
        Some(sequence)
    }

    /// The entry with this sequence number, if retained.
    pub fn get(&self, sequence: u64) -> Option<Entry> {
        let kept = self.kept.as_ref()?;
        (sequence > kept.evicted && sequence <= kept.last).then(|| kept.entry(sequence))
    }

    /// The oldest retained entry.
    pub fn front(&self) -> Option<Entry> {
        self.get(self.first())
    }

    /// Forgets the oldest entry; its number is never used again.
    pub fn pop_front(&mut self) -> Option<Entry> {
        let entry = self.front()?;
        let kept = self.kept.as_mut()?;
        kept.evicted = entry.sequence;
        if let Some(cell) = kept.cell {
            // Its slot may be used again from here on.
            kept.memory.set_cell(cell, EVICTED, kept.evicted);
        }
        kept.give_back();
        Some(entry)
    }

    /// Forgets all entries and gives back what it holds. Its numbers go on.
    pub fn clear(&mut self) {
        let Some(kept) = &mut self.kept else {
            return;
        };
        kept.evicted = kept.last;
        if let Some(cell) = kept.cell.take() {
            kept.memory.set_cell(cell, EVICTED, kept.evicted);
            kept.memory.set_cell(cell, HEAD, 0);
            kept.memory.free_cell(cell);
        }
        for block in std::mem::take(&mut kept.blocks) {
            kept.memory.free(block);
        }
    }

    /// Notes how many bytes were lost before they came to the log, if it has begun.
    pub(super) fn set_lost(&mut self, lost: u64) {
        if let Some(kept) = &mut self.kept {
            kept.lost = lost;
            if let Some(cell) = kept.cell {
                kept.memory.set_cell(cell, LOST, lost);
            }
        }
    }

    /// Entries from `sequence` on, oldest first.
    pub fn from(&self, sequence: u64) -> impl DoubleEndedIterator<Item = Entry> + '_ {
        let end = self.last() + 1;
        let first = sequence.max(self.first()).min(end);
        let kept = self.kept.as_deref();
        (first..end).filter_map(move |sequence| Some(kept?.entry(sequence)))
    }

    /// A copy of the entries `from..=to` that are retained, and the number of the first.
    pub fn copy(&self, from: u64, to: u64) -> Copied {
        let first = from.max(self.first());
        let end = to.saturating_add(1).min(self.last() + 1);
        let kept = self.kept.as_deref();
        let packed = (first..end).filter_map(|sequence| Some(kept?.packed(sequence)));
        Copied {
            first,
            entries: packed.collect(),
        }
    }

    /// Bytes the index itself holds.
    pub fn heap_bytes(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| {
            let blocks = kept.blocks.len() * BLOCK_WORDS * size_of::<u64>();
            size_of::<Kept>() + blocks + kept.blocks.capacity() * size_of::<u32>()
        })
    }

    /// Goes on with an index that its process has left; None if it is damaged. `uses` is told of
    /// every block.
    pub(super) fn recover(
        memory: &Rc<Blocks>,
        cell: CellId,
        mut uses: impl FnMut(u32),
    ) -> Option<(Self, Counts)> {
        let [last, evicted, lost, head] =
            [LAST, EVICTED, LOST, HEAD].map(|at| memory.cell(cell, at));
        if evicted == u64::MAX {
            // It was being begun.
            return Some(Default::default());
        }
        let mut kept = Kept {
            memory: memory.clone(),
            cell: Some(cell),
            blocks: VecDeque::new(),
            front: evicted.checked_add(1)?,
            evicted,
            last,
            lost,
        };
        let mut next = head;
        let mut expected = None;
        while next != 0 {
            if !memory.is_block(next) {
                return None;
            }
            let block = u32::try_from(next).ok()?;
            let first = memory.get(block, FIRST);
            if first == 0 {
                // Entries are counted from 1.
                return None;
            }
            if first > last {
                // Linked, and its first entry was never committed.
                break;
            }
            if expected.is_some_and(|expected| expected != first) {
                return None;
            }
            if expected.is_none() {
                kept.front = first;
            }
            kept.blocks.push_back(block);
            expected = Some(first.checked_add(PER_BLOCK)?);
            next = memory.get(block, NEXT);
        }
        match kept.blocks.back() {
            Some(&block) => memory.set(block, NEXT, 0),
            None => memory.set_cell(cell, HEAD, 0),
        }
        let end = expected.unwrap_or(kept.front);
        if evicted > last || last > evicted && (end <= last || kept.front > evicted + 1) {
            return None;
        }
        kept.give_back();
        kept.blocks.iter().copied().for_each(&mut uses);
        let mut counts = Counts {
            lost,
            ..Counts::default()
        };
        if let Some(&block) = kept.blocks.front() {
            for (stream, bytes) in counts.evicted.iter_mut().enumerate() {
                *bytes = memory.get(block, BEFORE + stream);
            }
        }
        for sequence in kept.front..=evicted {
            let entry = kept.entry(sequence);
            let bytes = entry.len as u64 + kept.cut(sequence);
            let evicted = &mut counts.evicted[entry.stream as usize];
            *evicted = evicted.checked_add(bytes)?;
        }
        counts.total = counts.evicted;
        for sequence in evicted + 1..=last {
            let entry = kept.entry(sequence);
            let total = &mut counts.total[entry.stream as usize];
            *total = total.checked_add(entry.len as u64)?;
            counts.cut[entry.stream as usize] += kept.cut(sequence);
        }
        // More than anybody can have written is damage, and must not overflow.
        if counts
            .total
            .iter()
            .chain([&lost])
            .any(|&bytes| bytes >> 60 != 0)
        {
            return None;
        }
        let kept = Some(Box::new(kept));
        Some((Self { kept }, counts))
    }
}

impl Kept {
    fn packed(&self, sequence: u64) -> Packed {
        let at = sequence - self.front;
        let number = usize::try_from(at / PER_BLOCK).unwrap_or(usize::MAX);
        // There is a block for each retained entry.
        let block = self.blocks.get(number).copied().unwrap_or_default();
        let at = place_of(at % PER_BLOCK);
        Packed {
            stamp: self.memory.get(block, at),
            place: self.memory.get(block, at + 1),
        }
    }

    fn entry(&self, sequence: u64) -> Entry {
        unpack(sequence, self.packed(sequence))
    }

    fn cut(&self, sequence: u64) -> u64 {
        self.packed(sequence).stamp >> CUT_SHIFT
    }

    /// Gives blocks back that only evicted entries are in; not the last one.
    fn give_back(&mut self) {
        let Some(cell) = self.cell else {
            return;
        };
        while self.blocks.len() > 1 && self.evicted + 1 >= self.front + PER_BLOCK {
            self.memory.set_cell(cell, HEAD, u64::from(self.blocks[1]));
            self.front += PER_BLOCK;
            if let Some(block) = self.blocks.pop_front() {
                self.memory.free(block);
            }
        }
        if self.blocks.capacity() > 256 && self.blocks.len() < self.blocks.capacity() / 4 {
            self.blocks.shrink_to(self.blocks.len() * 2);
        }
    }
}

/// Where the entry at this place in its block begins.
fn place_of(at: u64) -> usize {
    ROWS + ROW_WORDS * usize::try_from(at).unwrap_or_default()
}

/// Some entries of a log, by themselves; 16 bytes each.
#[derive(Debug)]
pub struct Copied {
    first: u64,
    entries: Box<[Packed]>,
}

impl Copied {
    /// Bytes that it takes.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.entries)
    }

    /// The entries from position `at` on.
    pub fn from(&self, at: usize) -> impl Iterator<Item = Entry> + '_ {
        let entries = self.entries.iter().enumerate().skip(at);
        entries.map(|(i, packed)| unpack(self.first + i as u64, *packed))
    }
}

fn pack(row: Row) -> Packed {
    let ms = row.timestamp_ms.min(MS_MAX);
    let len = row.len as u64 - 1;
    Packed {
        stamp: (row.cut as u64) << CUT_SHIFT | ms << 2 | row.stream as u64,
        place: len << 48 | (row.start as u64) << 32 | u64::from(row.slot.number()),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "each part is cut to its bits, which fit a usize of 32 bits, too"
)]
fn unpack(sequence: u64, packed: Packed) -> Entry {
    Entry {
        sequence,
        timestamp_ms: packed.stamp >> 2 & MS_MAX,
        stream: match packed.stamp & 3 {
            0 => Stream::Stdout,
            1 => Stream::Stderr,
            _ => Stream::Pty,
        },
        slot: SlotId::from_number(packed.place as u32),
        start: (packed.place >> 32) as usize & (SLOT_BYTES - 1),
        len: (packed.place >> 48) as usize + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Rc<Blocks> {
        Rc::new(Blocks::new().unwrap())
    }

    fn row(timestamp_ms: u64, stream: Stream, start: usize, len: usize) -> Row {
        Row {
            timestamp_ms,
            stream,
            slot: SlotId::from_number(u32::MAX),
            start,
            len,
            cut: 0,
        }
    }

    #[test]
    fn a_moment_that_is_too_late_is_the_last_there_is() {
        for (at, kept) in [(MS_MAX - 1, MS_MAX - 1), (u64::MAX, MS_MAX)] {
            let entry = unpack(1, pack(row(at, Stream::Pty, 3, 5)));
            assert_eq!(entry.timestamp_ms, kept);
            assert_eq!((entry.stream, entry.start, entry.len), (Stream::Pty, 3, 5));
        }
    }

    #[test]
    fn an_entry_costs_at_most_32_bytes_with_its_container() {
        let (memory, mut index) = (memory(), Index::default());
        for i in 0..100_000u64 {
            index.push(&memory, &[0; 3], row(i, Stream::Stdout, 0, 1));
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
        let (memory, mut index) = (memory(), Index::default());
        let slot = SlotId::from_number(u32::MAX);
        let pty = row(1_795_394_513_156, Stream::Pty, 0, SLOT_BYTES);
        let cut = SLOT_BYTES - 1;
        index.push(&memory, &[0; 3], Row { cut, ..pty });
        let stderr = row(1_795_394_513_157, Stream::Stderr, SLOT_BYTES - 1, 1);
        index.push(&memory, &[0; 3], stderr);
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
