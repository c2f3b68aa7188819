//! Logs that another process has left in this memory, at whatever store it died.
//!
//! In: the arena, whose process is gone, and the cells of the logs that are known. Out: the logs, and
//! the bytes of a read that was under way. Everything else of the memory is free afterwards.
//!
//! A process that dies in read(2) has emptied a pipe and does not know by how much. So it notes
//! before where it reads to ([`Log::tail_of`]): bytes that are zeros then. What was read ends with
//! the last byte that is none. Only a read that ends in NUL bytes is found too short.

use std::collections::{HashSet, VecDeque};

use super::arena::{Arena, SLOT_BYTES, SlotId};
use super::index::Index;
use super::store::Log;
use crate::ledger::blocks::CellId;
use crate::types::Stream;

/// See the module.
#[derive(Debug)]
pub struct Recovery<'a> {
    arena: &'a mut Arena,
    slots: HashSet<SlotId>,
    blocks: HashSet<u32>,
    cells: HashSet<CellId>,
}

/// What was read and not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unentered {
    /// Of which log.
    pub cell: CellId,
    pub(super) stream: Stream,
    pub(super) slot: SlotId,
    pub(super) start: usize,
    pub(super) len: usize,
}

impl Unentered {
    /// Where is read to, as one number.
    pub(super) fn place(slot: SlotId, start: usize, stream: Stream) -> u64 {
        u64::from(slot.number()) << 32 | (start as u64) << 2 | stream as u64
    }
}

impl Log {
    /// Goes on with a log whose process is gone; None if what is left of it is damaged. `uses` is
    /// told of every block. What evicted entries were like is forgotten but for their bytes.
    fn recover(arena: &Arena, cell: CellId, uses: impl FnMut(u32)) -> Option<Self> {
        if !arena.blocks().is_written_cell(cell) {
            return None;
        }
        let (index, counts) = Index::recover(arena.blocks(), cell, uses)?;
        let mut slots: VecDeque<SlotId> = VecDeque::new();
        let mut tail_start = 0;
        for entry in index.from(0) {
            if entry.start + entry.len > SLOT_BYTES {
                return None;
            }
            if slots.back() != Some(&entry.slot) {
                if !arena.is_written(entry.slot, entry.start) {
                    return None;
                }
                slots.push_back(entry.slot);
            }
            tail_start = entry.start + entry.len;
        }
        Some(Self {
            index,
            slots,
            tail_start,
            evicted: counts.evicted,
            total: counts.total,
            trimmed: counts.cut,
            lost: counts.lost,
            history: VecDeque::new(),
        })
    }

    /// The slots that it holds, oldest first.
    fn slots(&self) -> impl Iterator<Item = SlotId> + '_ {
        self.slots.iter().copied()
    }

    /// Enters what its process had read when it died, unless that is in the log. Time and limit as
    /// for [`Log::commit`].
    pub fn enter_read(&mut self, arena: &mut Arena, read: Unentered, now_ms: u64, limit: u64) {
        let newest = self.index.get(self.last());
        let is_in =
            newest.is_some_and(|entry| entry.slot == read.slot && entry.start >= read.start);
        if is_in || read.len == 0 {
            return arena.blocks().is_read();
        }
        if self.slots.back() != Some(&read.slot) {
            self.slots.push_back(read.slot);
        }
        self.tail_start = read.start;
        self.commit(arena, read.len, read.stream, now_ms, limit);
    }
}

impl<'a> Recovery<'a> {
    /// Begins; nothing else is to be done with the arena before [`Recovery::finish`].
    pub fn begin(arena: &'a mut Arena) -> Self {
        Self {
            arena,
            slots: HashSet::new(),
            blocks: HashSet::new(),
            cells: HashSet::new(),
        }
    }

    /// The log of this cell; None if what is left of it is damaged, or another one's.
    pub fn log(&mut self, cell: CellId) -> Option<Log> {
        let mut blocks = Vec::new();
        let log = Log::recover(self.arena, cell, |block| blocks.push(block))?;
        let is_others = self.cells.contains(&cell)
            || blocks.iter().any(|block| self.blocks.contains(block))
            || log.slots().any(|slot| self.slots.contains(&slot));
        if is_others {
            return None;
        }
        self.blocks.extend(blocks);
        self.slots.extend(log.slots());
        self.cells.insert(cell);
        Some(log)
    }

    /// What another program has in these slots goes on.
    pub(crate) fn holds(&mut self, slots: impl Iterator<Item = u32>) {
        self.slots.extend(slots.map(SlotId::from_number));
    }

    /// A text of so many bytes; None if it is damaged, or another one's.
    pub(crate) fn text(&mut self, first: u32, bytes: u32) -> Option<Vec<u8>> {
        let mut used = HashSet::new();
        let uses = |block| !self.blocks.contains(&block) && used.insert(block);
        let text = self.arena.blocks().read_text(first, bytes, uses)?;
        self.blocks.extend(used);
        Some(text)
    }

    /// All logs are known. What was read and is to be entered into one of them
    /// ([`Log::enter_read`]), before anything else is read.
    pub fn finish(mut self) -> Option<Unentered> {
        let unentered = self.unentered();
        self.slots.extend(unentered.map(|read| read.slot));
        self.arena.blocks().recover(&self.blocks, &self.cells);
        self.arena.recover(&self.slots);
        if unentered.is_none() {
            self.arena.blocks().is_read();
        }
        unentered
    }

    fn unentered(&self) -> Option<Unentered> {
        let (cell, to) = self.arena.blocks().intent()?;
        let slot = SlotId::from_number(u32::try_from(to >> 32).ok()?);
        let start = usize::try_from(to >> 2 & 0x3fff_ffff).ok()?;
        let stream = match to & 3 {
            0 => Stream::Stdout,
            1 => Stream::Stderr,
            _ => Stream::Pty,
        };
        let can_be = start < SLOT_BYTES && self.arena.is_written(slot, start);
        if !self.cells.contains(&cell) || !can_be {
            return None;
        }
        let bytes = self.arena.bytes(slot, start, SLOT_BYTES - start);
        let len = bytes.iter().rposition(|&byte| byte != 0)? + 1;
        Some(Unentered {
            cell,
            stream,
            slot,
            start,
            len,
        })
    }
}

#[cfg(test)]
mod tests;
