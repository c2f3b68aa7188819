//! Fixed-size slots in one sealed memfd: where child output lives.
//!
//! In: `io::runtime::source` reads into a tail slot. Out: `log::cursor` lends slices.
//! Owns the memory, that of the indexes of logs, and the free list. Knows no process, stream or HTTP.
//!
//! - A slot is in one log or in a free list, never in both.
//! - Bytes outside an index entry are never lent: a recycled slot holds another child's output.
//! - A pinned slot keeps its bytes: freed meanwhile, it is handed out only after the last unpin.
//! - A freed slot is handed out again first while its pages are hot; all but
//!   [`HOT_SLOTS`] of the free ones give their pages back when [`Arena::trim`] is called.
//!
//! # Safety
//! The only `unsafe` is the two slices cut from the mapping. `&self` and `&mut self` carry the usual
//! borrow rules over to the mapped bytes: whoever else has the mapping goes on with it only when this
//! process is gone.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;

use crate::ledger::blocks::Blocks;
use crate::ledger::memory::Shared;

use crate::budget::Budget;

/// Bytes in one slot. 64 KiB is one full pipe, so one `read(2)` can fill a slot.
pub const SLOT_BYTES: usize = 64 << 10;

/// Free slots that keep their pages: 4 MiB, about what a burst of short runs recycles.
pub(crate) const HOT_SLOTS: usize = 64;

/// Slots whose pages are taken out of the mapping at once: 4 MiB, which takes the kernel 0.4 ms.
const UNMAPPED_AT_ONCE: u32 = 64;

/// Virtual sizes to try, largest first; only touched pages cost memory. A limit on the address
/// space or on file sizes (`RLIMIT_AS`, `RLIMIT_FSIZE`) lets a smaller one through.
const SIZES: [usize; 5] = [1 << 40, 256 << 30, 16 << 30, 1 << 30, 64 << 20];

/// Names one slot of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotId(u32);

impl SlotId {
    /// The number, for packing into an index entry.
    pub(super) fn number(self) -> u32 {
        self.0
    }

    /// The slot that [`SlotId::number`] was taken from.
    pub(super) fn from_number(number: u32) -> Self {
        Self(number)
    }
}

/// Why there is no slot.
#[derive(Debug)]
pub enum ArenaError {
    /// The memfd could not be made, sized, sealed or mapped.
    Create(std::io::Error),
    /// Every slot of the mapping is in use.
    Full,
}

impl fmt::Display for ArenaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArenaError::Create(error) => {
                write!(f, "log arena of 64 MiB: {error} (ulimit -f, ulimit -v)")
            }
            ArenaError::Full => f.write_str("log arena: every slot is in use"),
        }
    }
}

impl std::error::Error for ArenaError {}

/// The slots of one I/O thread.
#[derive(Debug)]
pub struct Arena {
    memory: Shared,
    /// Shared with every log.
    blocks: Rc<Blocks>,
    keeps: bool,
    slots: u32,
    /// Slots below this number have been handed out at least once.
    fresh: u32,
    /// Free, pages resident, most recently freed last.
    hot: Vec<SlotId>,
    /// Free, pages given back.
    cold: Vec<SlotId>,
    in_use: u32,
    /// Slots that a snapshot still reads.
    pins: HashMap<SlotId, Pins>,
    /// Where the slots in use are counted.
    budget: Budget,
    /// The number of the newest reader.
    last_reader: u64,
    /// Bytes that have been used since the last look for pages to take out of the mapping.
    used: Cell<usize>,
    /// Slots below are out of it.
    unmapped: u32,
}

#[derive(Debug, Default)]
struct Pins {
    /// The numbers of those who read it, in order.
    by: Vec<u64>,
    /// Its log has given it back.
    freed: bool,
}

impl Arena {
    /// Makes and maps the memory.
    ///
    /// # Errors
    /// [`ArenaError::Create`] if not even the smallest size can be mapped.
    pub fn new() -> Result<Self, ArenaError> {
        let memory = Shared::new("procring-log", &SIZES).map_err(ArenaError::Create)?;
        let blocks = Blocks::new().map_err(ArenaError::Create)?;
        Ok(Self::of(memory, blocks))
    }

    /// Maps memory that another program has made: that of logs and that of their indexes. A
    /// [`Recovery`](super::Recovery) has to follow.
    ///
    /// # Errors
    /// [`ArenaError::Create`] if it is none.
    pub fn again(log: OwnedFd, index: OwnedFd) -> Result<Self, ArenaError> {
        let memory = Shared::again(log).map_err(ArenaError::Create)?;
        let blocks = Blocks::again(index).map_err(ArenaError::Create)?;
        Ok(Self::of(memory, blocks))
    }

    /// With so many slots.
    #[cfg(test)]
    pub(super) fn of_slots(slots: u32) -> Self {
        let mut arena = Self::new().unwrap();
        arena.slots = slots;
        arena
    }

    fn of(memory: Shared, blocks: Blocks) -> Self {
        // The largest of SIZES makes 2^40 / 2^16 slots.
        let slots = u32::try_from(memory.bytes() / SLOT_BYTES).unwrap_or(u32::MAX);
        Self {
            memory,
            blocks: Rc::new(blocks),
            keeps: false,
            slots,
            fresh: 0,
            hot: Vec::new(),
            cold: Vec::new(),
            in_use: 0,
            pins: HashMap::new(),
            budget: Budget::default(),
            last_reader: 0,
            used: Cell::new(0),
            unmapped: 0,
        }
    }

    /// The descriptors of its memory: of logs, and of their indexes.
    pub fn numbers(&self) -> [RawFd; 2] {
        [self.memory.number(), self.blocks.number()]
    }

    /// From now on what logs read can be found by who goes on with this memory. A slot is all
    /// zeros when it is taken then.
    pub fn keep(&mut self) {
        self.keeps = true;
    }

    /// Whether [`Arena::keep`] was called.
    pub fn keeps(&self) -> bool {
        self.keeps
    }

    /// Where the indexes of logs are.
    pub(crate) fn blocks(&self) -> &Rc<Blocks> {
        &self.blocks
    }

    /// Takes a free slot. Its bytes are whatever its last owner left, unless the arena
    /// [keeps](Arena::keep).
    ///
    /// # Errors
    /// [`ArenaError::Full`] when every slot is taken.
    pub fn alloc(&mut self) -> Result<SlotId, ArenaError> {
        let slot = if let Some(slot) = self.hot.pop() {
            if self.keeps {
                self.tail(slot, 0).fill(0);
            }
            slot
        } else if let Some(slot) = self.cold.pop() {
            slot
        } else if self.fresh < self.slots {
            self.fresh += 1;
            SlotId(self.fresh - 1)
        } else {
            return Err(ArenaError::Full);
        };
        self.in_use += 1;
        self.count();
        Ok(slot)
    }

    /// Bytes of all slots.
    pub fn capacity(&self) -> u64 {
        u64::from(self.slots) * SLOT_BYTES as u64
    }

    /// Counts the slots in use in this budget from now on. It refuses none: who takes them asks.
    pub fn count_in(&mut self, budget: Budget) {
        self.budget = budget;
        self.count();
    }

    fn count(&self) {
        let bytes = u64::from(self.in_use) * SLOT_BYTES as u64;
        self.budget.set_slots(bytes);
    }

    /// Gives a slot back. The caller keeps no entry that points into it.
    pub fn free(&mut self, slot: SlotId) {
        debug_assert!(slot.0 < self.fresh, "a slot that was never handed out");
        if let Some(pins) = self.pins.get_mut(&slot) {
            pins.freed = true;
            return;
        }
        self.in_use = self.in_use.saturating_sub(1);
        self.count();
        self.hot.push(slot);
    }

    /// A number for one more who pins slots, greater than all before.
    pub(super) fn reader(&mut self) -> u64 {
        self.last_reader += 1;
        self.last_reader
    }

    /// Keeps the bytes of a slot until all who have pinned it have unpinned it. Each pins it once, who
    /// has the lowest number first.
    pub(super) fn pin(&mut self, slot: SlotId, reader: u64) {
        self.pins.entry(slot).or_default().by.push(reader);
    }

    /// Takes a pin back, if it has not been taken from the reader.
    pub(super) fn unpin(&mut self, slot: SlotId, reader: u64) {
        let Some(pins) = self.pins.get_mut(&slot) else {
            return;
        };
        if let Ok(at) = pins.by.binary_search(&reader) {
            pins.by.remove(at);
        }
        if pins.by.is_empty() {
            let freed = pins.freed;
            self.pins.remove(&slot);
            if freed {
                self.free(slot);
            }
        }
    }

    /// Whether a reader has pinned a slot and still may read it.
    pub(super) fn is_pinned(&self, slot: SlotId, reader: u64) -> bool {
        let pins = self.pins.get(&slot);
        pins.is_some_and(|pins| pins.by.binary_search(&reader).is_ok())
    }

    /// Takes all pins of the oldest reader of those back that hold slots which nothing else does, and
    /// those of whoever holds one of these slots with it. They are not to read on. False if there is
    /// none.
    pub fn revoke(&mut self) -> bool {
        let freed = self.pins.values().filter(|pins| pins.freed);
        // Of what the oldest reads, that which the fewest read with it.
        let slot = freed.min_by_key(|pins| (pins.by.first().copied(), pins.by.len()));
        let Some(readers) = slot.map(|pins| pins.by.clone()) else {
            return false;
        };
        let mut free = Vec::new();
        // One pass, however many they are.
        self.pins.retain(|&slot, pins| {
            pins.by
                .retain(|reader| readers.binary_search(reader).is_err());
            if pins.by.is_empty() && pins.freed {
                free.push(slot);
            }
            !pins.by.is_empty()
        });
        free.into_iter().for_each(|slot| self.free(slot));
        true
    }

    /// Whether [`Arena::trim`] has anything to do.
    pub fn wants_trim(&self) -> bool {
        self.has_cold_slots() || self.blocks.wants_trim() || self.is_mapped()
    }

    /// Whether enough may be mapped to hold up the end of this process. The kernel needs 0.1 ms for
    /// each MiB, and whoever goes on with the memory waits for that.
    pub fn is_mapped(&self) -> bool {
        self.keeps && self.used.get() >= UNMAPPED_AT_ONCE as usize * SLOT_BYTES
    }

    /// Takes some pages out of the mapping, if the arena [keeps](Arena::keep). Whether to go on.
    pub fn unmap_some(&mut self) -> bool {
        if self.unmapped == 0 && !self.is_mapped() {
            return false;
        }
        self.used.set(0);
        let bytes = |slots: u32| slots as usize * SLOT_BYTES;
        self.memory
            .unmap(bytes(self.unmapped), bytes(UNMAPPED_AT_ONCE));
        self.unmapped += UNMAPPED_AT_ONCE;
        if self.unmapped >= self.fresh {
            self.unmapped = 0;
        }
        self.unmapped > 0
    }

    fn has_cold_slots(&self) -> bool {
        self.hot.len() > HOT_SLOTS
    }

    /// Gives the pages of all free slots but [`HOT_SLOTS`] back to the kernel.
    pub fn trim(&mut self) {
        self.blocks.trim();
        if !self.has_cold_slots() {
            return;
        }
        for slot in self.hot.drain(..self.hot.len() - HOT_SLOTS) {
            let start = u64::from(slot.0) * SLOT_BYTES as u64;
            self.memory.punch(start, SLOT_BYTES as u64);
            self.cold.push(slot);
        }
    }

    /// Every slot but those in use is free.
    pub(super) fn recover(&mut self, used: &HashSet<SlotId>) {
        self.fresh = used.iter().map(|slot| slot.0 + 1).max().unwrap_or(0);
        let free = (0..self.fresh).rev().map(SlotId);
        self.hot = free.filter(|slot| !used.contains(slot)).collect();
        self.cold.clear();
        self.pins.clear();
        self.in_use = u32::try_from(used.len()).unwrap_or(u32::MAX);
        self.count();
        let behind = u64::from(self.fresh) * SLOT_BYTES as u64;
        self.memory
            .punch(behind, self.memory.bytes() as u64 - behind);
    }

    /// Whether there is such a slot, and something was written to it at this place, in memory that may
    /// be damaged.
    pub(super) fn is_written(&self, slot: SlotId, start: usize) -> bool {
        let at = u64::from(slot.0) * SLOT_BYTES as u64 + start as u64;
        slot.0 < self.slots && self.memory.is_touched(at)
    }

    /// Slots that there are at all.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Free slots whose pages are kept for the next output.
    pub fn hot(&self) -> usize {
        self.hot.len()
    }

    /// Slots in use by logs and captures.
    pub fn in_use(&self) -> u32 {
        self.in_use
    }

    /// The bytes `start..start + len` of a slot; empty if that is not inside it.
    pub fn bytes(&self, slot: SlotId, start: usize, len: usize) -> &[u8] {
        if !self.holds(slot, start, len) {
            return &[];
        }
        self.used.set(self.used.get().saturating_add(len));
        // SAFETY: `holds` checked that the range lies inside one slot of the mapping, which lives
        // as long as `self`; the memfd is sealed against shrinking, so no page can vanish; all
        // bytes are initialised (see `Shared::base`). `tail` needs `&mut self`, so nothing
        // writes while this slice is lent.
        unsafe {
            std::slice::from_raw_parts(
                self.memory
                    .base()
                    .as_ptr()
                    .add(slot.0 as usize * SLOT_BYTES + start),
                len,
            )
        }
    }

    /// The bytes of a slot from `start` to its end, to read child output into.
    pub fn tail(&mut self, slot: SlotId, start: usize) -> &mut [u8] {
        let len = SLOT_BYTES.saturating_sub(start);
        if !self.holds(slot, start, len) {
            return &mut [];
        }
        if start == 0 {
            self.used.set(self.used.get().saturating_add(len));
        }
        // SAFETY: as in `bytes`; `&mut self` makes this the only slice lent.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.memory
                    .base()
                    .as_ptr()
                    .add(slot.0 as usize * SLOT_BYTES + start),
                len,
            )
        }
    }

    fn holds(&self, slot: SlotId, start: usize, len: usize) -> bool {
        slot.0 < self.slots && start <= SLOT_BYTES && len <= SLOT_BYTES - start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_never_handed_out_twice() {
        let mut arena = Arena::new().unwrap();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..300 {
            assert!(seen.insert(arena.alloc().unwrap()));
        }
        assert_eq!(arena.in_use(), 300);
    }

    #[test]
    fn trimmed_slots_read_as_zeros_and_hot_ones_keep_their_bytes() {
        let mut arena = Arena::new().unwrap();
        let slots: Vec<_> = (0..HOT_SLOTS + 2).map(|_| arena.alloc().unwrap()).collect();
        for &slot in &slots {
            arena.tail(slot, 0).fill(7);
        }
        for &slot in &slots {
            arena.free(slot);
        }
        assert!(arena.wants_trim());
        arena.trim();
        assert!(!arena.wants_trim());
        let freed_first = arena.bytes(slots[0], 0, SLOT_BYTES);
        assert!(freed_first.iter().all(|&b| b == 0));
        let freed_last = slots[slots.len() - 1];
        assert_eq!(arena.bytes(freed_last, 0, 1), [7]);
        assert_eq!(arena.alloc().unwrap(), freed_last);
    }

    /// Kilobytes of its memory that are mapped.
    fn mapped(arena: &Arena) -> u64 {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let begin = format!("{:x}-", arena.memory.base().as_ptr() as usize);
        let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&begin));
        let rss = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
        rss.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn what_is_kept_leaves_the_mapping_and_keeps_its_bytes() {
        for keeps in [false, true] {
            let mut arena = Arena::new().unwrap();
            if keeps {
                arena.keep();
            }
            let slots: Vec<_> = (0..150).map(|_| arena.alloc().unwrap()).collect();
            for (&slot, number) in slots.iter().zip(0..) {
                arena.tail(slot, 0).fill(number);
            }
            let before = mapped(&arena);
            assert!(before >= 150 * 64);
            assert_eq!((arena.is_mapped(), arena.wants_trim()), (keeps, keeps));
            while arena.unmap_some() {}
            assert_eq!(mapped(&arena), if keeps { 0 } else { before });
            assert!(!arena.wants_trim());
            for (&slot, number) in slots.iter().zip(0..) {
                assert!(arena.bytes(slot, 0, SLOT_BYTES) == [number; SLOT_BYTES]);
            }
            // Those who read map it as well.
            assert_eq!(arena.is_mapped(), keeps);
        }
    }

    #[test]
    fn a_pinned_slot_is_not_handed_out_until_its_last_pin_is_gone() {
        let mut arena = Arena::new().unwrap();
        let slot = arena.alloc().unwrap();
        arena.tail(slot, 0)[0] = 7;
        arena.pin(slot, 1);
        arena.pin(slot, 2);
        arena.free(slot);
        assert_ne!(arena.alloc().unwrap(), slot);
        arena.unpin(slot, 1);
        assert_ne!(arena.alloc().unwrap(), slot);
        assert_eq!(arena.bytes(slot, 0, 1), [7]);
        arena.unpin(slot, 2);
        assert_eq!(arena.alloc().unwrap(), slot);
    }

    #[test]
    fn ranges_outside_a_slot_lend_nothing() {
        let mut arena = Arena::new().unwrap();
        let slot = arena.alloc().unwrap();
        assert!(arena.bytes(slot, SLOT_BYTES - 1, 2).is_empty());
        assert!(arena.bytes(SlotId(u32::MAX), 0, 1).is_empty());
        assert!(arena.tail(slot, SLOT_BYTES + 1).is_empty());
        assert!(arena.bytes(slot, usize::MAX, 2).is_empty());
    }
}
