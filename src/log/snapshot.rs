//! A part of a log as it is now, whatever is evicted later.
//!
//! In: a log. Out: its entries and their bytes. Owns a copy of the index entries and a pin on
//! every slot they point into, so that many snapshots of one log share its bytes. Must be
//! released to the arena it was taken from.

use super::arena::{Arena, SlotId};
use super::index::{Copied, Entry};

/// See the module.
#[derive(Debug)]
pub struct Snapshot {
    entries: Copied,
    slots: Vec<SlotId>,
    /// Who has pinned them.
    reader: u64,
}

impl Snapshot {
    pub(super) fn new(entries: Copied, arena: &mut Arena) -> Self {
        let mut slots: Vec<SlotId> = entries.from(0).map(|entry| entry.slot).collect();
        slots.dedup();
        let reader = arena.reader();
        for &slot in &slots {
            arena.pin(slot, reader);
        }
        Self {
            entries,
            slots,
            reader,
        }
    }

    /// Its entries from position `at` on, oldest first.
    pub fn from(&self, at: usize) -> impl Iterator<Item = Entry> + '_ {
        self.entries.from(at)
    }

    /// Bytes that it takes besides the slots.
    pub fn heap_bytes(&self) -> usize {
        self.entries.heap_bytes() + size_of_val(&*self.slots)
    }

    /// Whether its bytes have been given up for want of memory ([`Arena::revoke`]).
    pub fn is_void(&self, arena: &Arena) -> bool {
        let first = self.slots.first();
        first.is_some_and(|slot| !arena.is_pinned(*slot, self.reader))
    }

    /// Gives the slots back.
    pub fn release(&mut self, arena: &mut Arena) {
        for slot in self.slots.drain(..) {
            arena.unpin(slot, self.reader);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::Log;
    use super::*;
    use crate::types::Stream;

    #[test]
    fn a_snapshot_outlives_eviction_and_removal_of_its_log() {
        let (mut arena, mut log) = (Arena::new().unwrap(), Log::default());
        let append = |log: &mut Log, arena: &mut Arena, byte: u8| {
            log.tail(arena).unwrap()[..5000].fill(byte);
            log.commit(arena, 5000, Stream::Stdout, 1, 100_000);
        };
        for byte in 0..20 {
            append(&mut log, &mut arena, byte);
        }
        let mut snapshot = log.snapshot(&mut arena, 3, 18);
        for byte in 100..200 {
            append(&mut log, &mut arena, byte);
        }
        log.clear(&mut arena);
        let seen: Vec<u64> = snapshot.from(0).map(|entry| entry.sequence).collect();
        assert_eq!(seen, (3..=18).collect::<Vec<_>>());
        for entry in snapshot.from(0) {
            let bytes = arena.bytes(entry.slot, entry.start, entry.len);
            assert_eq!(bytes, vec![entry.sequence as u8 - 1; 5000]);
        }
        assert!(arena.in_use() > 0);
        snapshot.release(&mut arena);
        assert_eq!(arena.in_use(), 0);
    }

    #[test]
    fn for_want_of_memory_the_oldest_goes_that_holds_any_and_the_others_read_on() {
        let mut arena = Arena::new().unwrap();
        let mut logs: [Log; 3] = Default::default();
        for log in &mut logs {
            log.tail(&mut arena).unwrap()[..5000].fill(1);
            log.commit(&mut arena, 5000, Stream::Stdout, 1, 100_000);
        }
        let [running, gone, other] = &mut logs;
        let live = running.snapshot(&mut arena, 1, 1);
        let old = gone.snapshot(&mut arena, 1, 1);
        let new = other.snapshot(&mut arena, 1, 1);
        let with_old = gone.snapshot(&mut arena, 1, 1);
        gone.clear(&mut arena);
        other.clear(&mut arena);
        let all = [live, old, with_old, new];
        let void = |arena: &Arena| all.iter().map(|of| of.is_void(arena)).collect::<Vec<_>>();
        assert!(arena.revoke());
        assert_eq!(void(&arena), [false, true, true, false]);
        assert_eq!(arena.in_use(), 2);
        assert!(arena.revoke());
        assert_eq!(void(&arena), [false, true, true, true]);
        assert_eq!(arena.in_use(), 1);
        assert!(!arena.revoke(), "the log has the rest, too");
        for mut snapshot in all {
            snapshot.release(&mut arena);
        }
        running.clear(&mut arena);
        assert_eq!(arena.in_use(), 0);
    }

    #[test]
    fn for_want_of_memory_what_only_snapshots_hold_is_taken_from_them() {
        let (mut arena, mut log) = (Arena::new().unwrap(), Log::default());
        for _ in 0..20 {
            log.tail(&mut arena).unwrap()[..5000].fill(1);
            log.commit(&mut arena, 5000, Stream::Stdout, 1, 100_000);
        }
        let mut old = log.snapshot(&mut arena, 1, 20);
        assert!(!arena.revoke(), "the log has them, too");
        log.clear(&mut arena);
        assert!(arena.in_use() > 0 && !old.is_void(&arena));
        assert!(arena.revoke() && old.is_void(&arena));
        assert_eq!(arena.in_use(), 0);
        // Slots that are pinned anew are not the old one's to give back.
        log.tail(&mut arena).unwrap()[0] = 7;
        log.commit(&mut arena, 1, Stream::Stdout, 1, 100_000);
        let mut new = log.snapshot(&mut arena, 1, 21);
        log.clear(&mut arena);
        old.release(&mut arena);
        assert_eq!(arena.in_use(), 1);
        assert!(!new.is_void(&arena));
        new.release(&mut arena);
        assert_eq!(arena.in_use(), 0);
    }
}
