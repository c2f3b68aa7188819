//! How a log does with less memory: it gives slots up, the oldest first.
//!
//! In: how many slots it may have. Out: room to read into, and the entries that go for that. Who has
//! to give something up is decided elsewhere (`process::table::memory`).

use std::collections::VecDeque;

use super::arena::{Arena, ArenaError, SLOT_BYTES};
use super::store::Log;

impl Log {
    /// Whether [`Log::tail_within`] would take a slot.
    pub fn needs_slot(&self) -> bool {
        self.slots.is_empty() || self.tail_start >= SLOT_BYTES
    }

    /// As [`Log::tail`] for who may take no slot from the others beyond `slots_max`: a slot is used to
    /// its last byte, and the log gives up its oldest before it takes one more. Of two slots it keeps
    /// a whole one.
    ///
    /// # Errors
    /// As [`Log::tail`].
    pub fn tail_within<'a>(
        &mut self,
        arena: &'a mut Arena,
        slots_max: usize,
    ) -> Result<&'a mut [u8], ArenaError> {
        if self.needs_slot() {
            while !self.slots.is_empty() && self.slots.len() >= slots_max {
                self.give_up_oldest(arena);
            }
            let slot = arena.alloc()?;
            self.slots.push_back(slot);
            self.tail_start = 0;
        }
        match self.slots.back() {
            Some(&slot) => Ok(arena.tail(slot, self.tail_start)),
            None => Err(ArenaError::Full),
        }
    }

    /// The last entry that goes if [`Log::tail_within`] takes no more than `slots_max` slots; 0 if none
    /// does.
    pub fn given_up_within(&self, slots_max: usize) -> u64 {
        let beyond = match self.needs_slot() {
            true => (self.slots.len() + 1).saturating_sub(slots_max),
            false => 0,
        };
        self.last_in_oldest(beyond.min(self.slots.len()))
    }

    /// The last entry in the oldest `count` slots; 0 if none is in them.
    pub fn last_in_oldest(&self, count: usize) -> u64 {
        match self.slots.get(count) {
            _ if count == 0 => 0,
            Some(next) => {
                let all = self.from(self.first());
                let inside = all.take_while(|entry| entry.slot != *next);
                inside.last().map_or(0, |entry| entry.sequence)
            }
            None => self.last(),
        }
    }

    /// Gives its oldest slot up, with all entries in it.
    pub fn give_up_oldest(&mut self, arena: &mut Arena) {
        let Some(&oldest) = self.slots.front() else {
            return;
        };
        while self.index.front().is_some_and(|entry| entry.slot == oldest) {
            self.evict_oldest(arena);
        }
        // Not freed by the last eviction if it is the newest, too, or had no entry.
        if self.slots.front() == Some(&oldest) {
            self.slots.pop_front();
            arena.free(oldest);
        }
        if self.slots.is_empty() {
            self.tail_start = 0;
        }
    }

    /// Gives up everything, as [`Log::clear`] does, and what is remembered of evicted entries.
    pub fn surrender(&mut self, arena: &mut Arena) {
        match arena.keeps() {
            // Its record leads to it, and its numbers go on.
            true => self.empty(arena),
            false => self.clear(arena),
        }
        self.history = VecDeque::new();
    }
}
