//! Who gives up what when memory is short (docs/design/038-memory-budget.md).
//!
//! In: how much somebody needs. Out: room, or none. Counts for each record what it holds besides
//! slots, which the arena counts. In order: logs of exited processes, the oldest first; what only
//! fetches still read, which are cut off, the oldest first; exited records with long arguments, the
//! oldest first; and only for a new process the oldest output of the longest running logs. A running
//! log keeps what it was promised at its start.

use std::fmt;
use std::mem::replace;

use super::{Dropped, Table};
use crate::budget::{Budget, Kind};
use crate::log::{Arena, SLOT_BYTES};
use crate::process::life::State;
use crate::process::record::Process;
use crate::process::tags::Tags;
use crate::types::JobId;

/// Slots that are promised to the log of a running process. Of two it keeps at least one whole
/// slot: 64 KiB of output.
const PROMISED_SLOTS: usize = 2;

/// The same in bytes.
pub(super) const PROMISED_BYTES: u64 = (PROMISED_SLOTS * SLOT_BYTES) as u64;

/// What a record takes besides what its client sent for it, about.
const RECORD_BYTES: u64 = 1 << 10;

/// An exited record that holds more than this makes room for others.
const LARGE_RECORD_BYTES: u64 = 8 << 10;

/// The part of the budget that running logs leave to requests while they grow.
const FOR_REQUESTS: u64 = 4;

/// The part that promises leave to requests.
const FOR_BODIES: u64 = 8;

/// The part that captures leave to other requests.
const FOR_OTHERS: u64 = 16;

/// The part that events of records take at most.
const FOR_HISTORY: u64 = 16;

/// What the budget counts for one record.
#[derive(Debug, Default)]
pub(in crate::process) struct Counted {
    promised: u64,
    index: u64,
    record: u64,
}

impl Counted {
    fn set(&mut self, budget: &Budget, now: Self) {
        budget.promise(self.promised, now.promised);
        budget.recount(Kind::Index, self.index, now.index);
        budget.recount(Kind::Records, self.record, now.record);
        *self = now;
    }

    /// It is gone.
    pub(super) fn end(&mut self, budget: &Budget) {
        self.set(budget, Self::default());
    }
}

/// Is told of output before it goes: of a process, up to this entry.
type Told = dyn Fn(&Process, &Arena, u64);

/// Whoever makes something of it.
#[derive(Default)]
pub(super) struct BeforeLoss(Option<Box<Told>>);

impl fmt::Debug for BeforeLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BeforeLoss").finish_non_exhaustive()
    }
}

/// What is held of output, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// By logs and what reads them.
    pub logs: u64,
    /// By captures of runs.
    pub captures: u64,
}

impl Process {
    /// Slots of its log that nobody else may have.
    fn promised_slots(&self) -> usize {
        let runs = !matches!(self.life.state(), State::Over { .. } | State::Failed(_));
        // A client is still to be sent what it wrote.
        let is_streamed = self.backpressure().is_some();
        match is_streamed || runs && self.is_logged() {
            true => PROMISED_SLOTS,
            false => 0,
        }
    }

    /// Whether its log gives up its oldest output for another process: it has more than it was
    /// promised, nobody has to be sent all of it, and nobody is about to look at that.
    fn may_shrink(&self) -> bool {
        let promised = self.promised_slots();
        promised > 0
            && self.log.slots_held() > promised
            && self.backpressure().is_none()
            && (self.searches().is_none() || self.may_lose(self.log.last_in_oldest(1)))
    }

    fn to_count(&self) -> Counted {
        let promised = self.promised_slots().saturating_sub(self.log.slots_held());
        Counted {
            promised: (promised * SLOT_BYTES) as u64,
            index: self.log.heap_bytes() as u64,
            record: self.counted.record,
        }
    }
}

impl Table {
    /// Counts everything in this budget from now on; it is never more than there are slots.
    pub(crate) fn count_in(&mut self, budget: Budget) {
        budget.set_max(budget.max().min(self.arena.capacity()));
        self.arena.count_in(budget.clone());
        self.budget = budget;
        self.bound_history();
    }

    /// Another maximum holds from now on. What there is too much of goes as far as it may.
    pub(crate) fn bound_memory(&mut self, max: u64) {
        self.budget.set_max(max.min(self.arena.capacity()));
        self.bound_history();
        while self.budget.excess() > 0 && self.give_up() {}
    }

    fn bound_history(&mut self) {
        let history = self.budget.max() / FOR_HISTORY;
        self.history
            .keep_within(usize::try_from(history).unwrap_or(usize::MAX));
    }

    /// Calls `tell` before a running process's log gives up output for another process, up to an entry.
    /// It must not ask this table for anything.
    pub(crate) fn before_loss(&mut self, tell: impl Fn(&Process, &Arena, u64) + 'static) {
        self.before_loss = BeforeLoss(Some(Box::new(tell)));
    }

    /// Where everything is counted.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What is held of output now; looks at every record.
    pub(crate) fn held(&self) -> Held {
        let captures = self.jobs.values().filter_map(|of| of.captures.as_ref());
        let slots: usize = captures
            .map(|of| of.stdout.slots() + of.stderr.slots())
            .sum();
        let captures = (slots * SLOT_BYTES) as u64;
        let slots = self.budget.slots().saturating_sub(captures);
        Held {
            logs: slots + self.budget.held(Kind::Index),
            captures,
        }
    }

    /// Counts anew what a record holds.
    pub(crate) fn recount(&mut self, job: JobId) {
        let Some(process) = self.jobs.get_mut(&job) else {
            return;
        };
        let now = process.to_count();
        process.counted.set(&self.budget, now);
        if process.is_counted_exited {
            let bytes = process.log.retained_bytes();
            let before = replace(&mut process.counted_bytes, bytes);
            self.exited_bytes = self.exited_bytes - before + bytes;
        }
    }

    /// Counts anew what a record keeps of what its client has sent.
    pub(crate) fn weigh(&mut self, job: JobId) {
        if let Some(process) = self.jobs.get_mut(&job) {
            let tags = process.tags().map_or(0, Tags::weight);
            process.counted.set(
                &self.budget,
                Counted {
                    record: RECORD_BYTES + process.description.weight() + tags as u64,
                    ..process.to_count()
                },
            );
        }
    }

    pub(super) fn count_history(&mut self) {
        let now = self.history.bytes();
        let before = replace(&mut self.history_counted, now);
        self.budget.recount(Kind::Records, before, now);
    }

    /// Makes room for so many bytes. False if there is none, and everything that may go is gone.
    pub(crate) fn make_memory(&mut self, bytes: u64) -> bool {
        if bytes > self.budget.max() {
            return false;
        }
        while self.budget.free() < bytes {
            if !self.give_up() {
                return false;
            }
        }
        true
    }

    /// Lets go of what may go first. False if there is nothing.
    fn give_up(&mut self) -> bool {
        self.give_up_log() || self.arena.revoke() || self.give_up_record()
    }

    /// Makes room for the log of one more process, and for a record of it with so much to keep.
    pub(crate) fn make_memory_for_log(&mut self, record: u64) -> bool {
        let left = self.budget.max() / FOR_BODIES;
        let bytes = left
            .saturating_add(PROMISED_BYTES + RECORD_BYTES)
            .saturating_add(record);
        if self.make_memory(bytes) {
            return true;
        }
        while self.budget.free() < bytes {
            let running = self.jobs.values().filter(|of| of.may_shrink());
            let Some(longest) = running
                .max_by_key(|of| of.log.slots_held())
                .map(|of| of.job)
            else {
                return false;
            };
            if let Some(process) = self.jobs.get_mut(&longest) {
                if let BeforeLoss(Some(tell)) = &self.before_loss {
                    tell(process, &self.arena, process.log.last_in_oldest(1));
                }
                process.log.give_up_oldest(&mut self.arena);
            }
            self.recount(longest);
        }
        true
    }

    /// How many slots the log of a job may have when it takes one more.
    pub(crate) fn slots_allowed(&mut self, job: JobId) -> usize {
        let left = self.budget.max() / FOR_REQUESTS;
        let wanted = left.saturating_add(SLOT_BYTES as u64);
        if self.budget.free() >= wanted || self.make_memory(wanted) {
            return usize::MAX;
        }
        let of = self.jobs.get(&job);
        of.map_or(0, |of| of.promised_slots().max(of.log.slots_held()))
    }

    /// Whether captures may take so many slots more.
    pub(crate) fn may_capture(&mut self, slots: usize) -> bool {
        let left = self.budget.max() / FOR_OTHERS;
        let wanted = left.saturating_add((slots * SLOT_BYTES) as u64);
        self.budget.free() >= wanted || self.make_memory(wanted)
    }

    /// Records that have made room in memory since this was last asked.
    pub(crate) fn take_dropped(&mut self) -> Vec<Dropped> {
        std::mem::take(&mut self.dropped)
    }

    /// The log of the process that exited first. False if there is none.
    fn give_up_log(&mut self) -> bool {
        if self.exited_bytes == 0 {
            return false;
        }
        let jobs = &self.jobs;
        let has_log = |job: &JobId| {
            let of = jobs.get(job);
            of.is_some_and(|of| !of.is_owned && of.log.slots_held() > 0)
        };
        let Some(oldest) = self.exited.iter().find(has_log) else {
            return false;
        };
        if let Some(process) = self.jobs.get_mut(&oldest) {
            process.log.surrender(&mut self.arena);
            process.changed.notify();
        }
        self.recount(oldest);
        true
    }

    /// The record of the process that exited first, of those that hold much. False if there is none.
    fn give_up_record(&mut self) -> bool {
        if self.budget.held(Kind::Records) < LARGE_RECORD_BYTES {
            return false;
        }
        let jobs = &self.jobs;
        let is_large = |job: &JobId| {
            let of = jobs.get(job);
            of.is_some_and(|of| !of.is_owned && of.counted.record >= LARGE_RECORD_BYTES)
        };
        let Some(oldest) = self.exited.iter().find(is_large) else {
            return false;
        };
        let dropped = self.jobs.get(&oldest).map(|process| process.as_dropped());
        self.dropped.extend(dropped);
        self.remove_as(oldest, true);
        true
    }
}
