//! All jobs: managed processes, which are listed, and runs, which mostly are not.
//!
//! In: reservations and events. Out: records by number, in order. Owns the records and the arena
//! that their output is in. Knows no socket.
//!
//! - Numbers are never reused. A reservation takes an id and a place under the concurrency limit
//!   at the same moment, so that the limit is exact under parallel creates.
//! - A run is listed once it has left living descendants, under the next id, or from its start if
//!   that was asked for. It has no place under the limit.
//! - What somebody waits for keeps its output until he has it, even if its record goes.

mod exited;
mod keeping;
mod memory;

use std::collections::BTreeMap;
use std::ops::Bound;

use super::counts::{Counts, Standing};
use super::history::{self, History};
use super::kept::{Kept, Keys};
use super::life::{Effects, Event, Kind, Life};
use super::record::{Description, Process};
use super::tags::Tags;
use crate::budget::Budget;
use crate::log::Arena;
use crate::types::{JobId, Monotonic, ProcessId, UnixMs};

use self::exited::Exited;
pub(crate) use self::exited::{Dropped, EXITED_LOG_BYTES_MAX};
use self::memory::BeforeLoss;
pub(super) use self::memory::Counted;

/// Why a process has no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// As many run as may.
    Places,
    /// There is no memory for what it would write.
    Memory,
}

/// Every record, and the arena.
#[derive(Debug)]
pub(crate) struct Table {
    /// Boxed, because a tree node has room for eleven.
    jobs: BTreeMap<JobId, Box<Process>>,
    listed: BTreeMap<ProcessId, JobId>,
    /// Who has which name, from the reservation until the record goes.
    names: BTreeMap<Box<str>, JobId>,
    arena: Arena,
    last_job: u64,
    last_id: u64,
    /// Managed processes that are starting, running or draining.
    occupied: u64,
    exited: Exited,
    exited_max: usize,
    /// Runs with living descendants.
    leftovers_max: usize,
    /// Log bytes of all exited records.
    exited_bytes: u64,
    counts: Counts,
    history: History,
    budget: Budget,
    /// What the budget counts for the history.
    history_counted: u64,
    /// Records that have made room in memory, and that nobody has been told of.
    dropped: Vec<Dropped>,
    /// Where all of it is written down, if there is a keeper.
    kept: Option<Kept>,
    /// Keys that another server has left, until somebody takes them.
    keys: Keys,
    /// Told of what a log is about to give up for others.
    before_loss: BeforeLoss,
}

impl Table {
    /// An empty table that keeps at most `exited_max` exited records, `leftovers_max` of them for
    /// runs with living descendants.
    pub(crate) fn new(arena: Arena, exited_max: usize, leftovers_max: usize) -> Self {
        Self {
            jobs: BTreeMap::new(),
            listed: BTreeMap::new(),
            names: BTreeMap::new(),
            arena,
            last_job: 0,
            last_id: 0,
            occupied: 0,
            exited: Exited::default(),
            exited_max,
            leftovers_max,
            exited_bytes: 0,
            counts: Counts::default(),
            history: History::new(UnixMs::now()),
            budget: Budget::default(),
            history_counted: 0,
            dropped: Vec::new(),
            kept: None,
            keys: Keys::default(),
            before_loss: BeforeLoss::default(),
        }
    }

    fn insert(&mut self, life: Life, id: ProcessId) -> &mut Process {
        self.last_job += 1;
        let job = JobId(self.last_job);
        let mut process = Box::new(Process::new(job, life));
        process.id = id;
        process.counted_as = process.counts_as();
        self.counts.moved(Standing::Nothing, process.counted_as);
        process.record = self
            .kept
            .as_ref()
            .and_then(|kept| kept.begin(job, process.life.kind()));
        self.jobs.entry(job).or_insert(process)
    }

    /// Ids begin behind `last`, which may have been given before.
    pub(crate) fn begin_behind(&mut self, last: u64) {
        self.last_id = self.last_id.max(last);
    }

    /// The last id that has been taken.
    pub(crate) fn last_id(&self) -> u64 {
        self.last_id
    }

    /// Takes an id and a place, if fewer than `limit` managed processes run and there is memory
    /// for one more.
    ///
    /// # Errors
    /// Which of the two is missing.
    pub(crate) fn reserve(
        &mut self,
        description: Description,
        limit: u64,
    ) -> Result<JobId, Refused> {
        if self.occupied >= limit {
            return Err(Refused::Places);
        }
        if !self.make_memory_for_log(description.weight()) {
            return Err(Refused::Memory);
        }
        self.occupied += 1;
        let id = self.take_id();
        let process = self.insert(Life::new(Kind::Managed, 0), id);
        process.description = description.into();
        let job = process.job;
        self.listed.insert(id, job);
        self.write_down(job);
        self.weigh(job);
        Ok(job)
    }

    /// Begins a run. Somebody waits for it until [`Table::disown`].
    pub(crate) fn begin_run(&mut self) -> &mut Process {
        let process = self.insert(Life::new(Kind::Run, 2), ProcessId(0));
        process.is_owned = true;
        process
    }

    /// Begins a run that is listed from its start. Somebody waits for it until [`Table::disown`].
    pub(crate) fn begin_record(&mut self, description: Description) -> &mut Process {
        let id = self.take_id();
        self.listed.insert(id, JobId(self.last_job + 1));
        let process = self.insert(Life::new(Kind::Recorded, 2), id);
        process.is_owned = true;
        process.description = description.into();
        let job = process.job;
        self.write_down(job);
        let there = self.jobs.entry(job);
        there.or_insert_with(|| Box::new(Process::new(job, Life::new(Kind::Recorded, 2))))
    }

    /// Nobody waits for a run any more. What it was to be answered with is let go of; without a
    /// record it is gone.
    pub(crate) fn disown(&mut self, job: JobId) {
        let Some(process) = self.jobs.get_mut(&job) else {
            return;
        };
        process.is_owned = false;
        if !process.is_listed() {
            return self.remove(job);
        }
        if let Some(mut captures) = process.captures.take() {
            captures.release(&mut self.arena);
        }
        if let Some(extras) = process.extras.get_mut() {
            extras.backpressure = None;
        }
        self.recount(job);
    }

    /// The next id, for [`Table::list`].
    pub(crate) fn take_id(&mut self) -> ProcessId {
        self.last_id += 1;
        if let Some(kept) = &self.kept {
            kept.records().set_last_id(self.last_id);
        }
        ProcessId(self.last_id)
    }

    /// Lists a run that has ended, under an id that was taken for it. What it wrote becomes its
    /// log, of at most `log_max` bytes and `limit`. Returns the records that have made room for
    /// it.
    pub(crate) fn list(
        &mut self,
        job: JobId,
        id: ProcessId,
        description: Description,
        log_max: u64,
        limit: u64,
    ) -> Vec<Dropped> {
        let Some(process) = self.jobs.get_mut(&job) else {
            return Vec::new();
        };
        process.id = id;
        process.description = description.into();
        process.extras.make().log_max = Some(log_max);
        if let Some(mut captures) = process.captures.take() {
            let at = process.ended().map_or(UnixMs(0), |(_, at)| at);
            let limit = limit.min(log_max);
            process.log = captures.take_log(&mut self.arena, at.0, limit);
        }
        self.listed.insert(id, job);
        self.weigh(job);
        self.write_down(job);
        self.count(job);
        self.note(job, Monotonic::now(), UnixMs::now());
        self.has_exited(job);
        self.make_room(job)
    }

    /// Gives back a reservation that nobody has begun to use; its id stays used.
    pub(crate) fn cancel(&mut self, job: JobId) {
        self.vacate(job);
        self.remove(job);
    }

    fn vacate(&mut self, job: JobId) {
        let has_place = |process: &Process| process.life.kind() == Kind::Managed;
        if self.job(job).is_some_and(has_place) {
            self.occupied = self.occupied.saturating_sub(1);
        }
    }

    /// Who has a name, also as long as its start is pending.
    pub(crate) fn holder(&self, name: &str) -> Option<ProcessId> {
        self.job(*self.names.get(name)?).map(|process| process.id)
    }

    /// Calls a job by a name that nobody else has, until its record goes, and by labels.
    pub(crate) fn tag(&mut self, job: JobId, tags: Tags) {
        let Some(process) = self.jobs.get_mut(&job).filter(|_| !tags.is_empty()) else {
            return;
        };
        if let Some(name) = &tags.name {
            self.names.insert(name.clone(), job);
        }
        process.extras.make().tags = tags;
        self.weigh(job);
        self.write_down(job);
    }

    /// The record that clients may see under this name.
    pub(crate) fn get_named(&self, name: &str) -> Option<&Process> {
        self.job(*self.names.get(name)?)
            .filter(|process| process.is_shown())
    }

    /// The record that clients may see under this id.
    pub(crate) fn get(&self, id: ProcessId) -> Option<&Process> {
        let process = self.jobs.get(self.listed.get(&id)?)?;
        Some(process.as_ref()).filter(|process| process.is_shown())
    }

    /// The same, to be changed, with the arena its log is in.
    pub(crate) fn get_mut(&mut self, id: ProcessId) -> Option<(&mut Process, &mut Arena)> {
        let process = self.jobs.get_mut(self.listed.get(&id)?)?;
        process.is_shown().then_some((process, &mut self.arena))
    }

    /// What has happened to records.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// Has a job take an event, at `now`, which is `wall` for clients. None if it is gone.
    pub(crate) fn on(
        &mut self,
        job: JobId,
        event: Event,
        now: Monotonic,
        wall: UnixMs,
    ) -> Option<Effects> {
        let process = self.jobs.get_mut(&job)?;
        let effects = process.on(event, now, wall);
        if let (Some(kept), Some(record)) = (&self.kept, process.record) {
            kept.note(record, process);
        }
        self.count(job);
        self.note(job, now, wall);
        self.recount(job);
        Some(effects)
    }

    /// Notes in the history what clients can see of a record since the last time.
    fn note(&mut self, job: JobId, now: Monotonic, wall: UnixMs) {
        let is_news = |of: &&mut Box<Process>| of.is_listed() && of.life.has_begun();
        let Some(process) = self.jobs.get_mut(&job).filter(is_news) else {
            return;
        };
        let (running, over) = (process.life.is_running(), process.is_over());
        let created = (running || over) && !std::mem::replace(&mut process.noted_start, true);
        let exited = over && !std::mem::replace(&mut process.noted_end, true);
        let kinds = [
            (created, history::Kind::Created),
            (exited, history::Kind::Exited),
        ];
        for (_, kind) in kinds.into_iter().filter(|(is_new, _)| *is_new) {
            self.history.push(history::Event {
                kind,
                at: wall,
                process: process.snapshot(now),
            });
        }
        self.count_history();
    }

    /// Notes in the history that somebody of a tree had to die for want of memory.
    pub(crate) fn out_of_memory(&mut self, job: JobId, wall: UnixMs) {
        let shown = |of: &&mut Box<Process>| of.is_listed() && of.noted_start;
        if let Some(process) = self.jobs.get_mut(&job).filter(shown) {
            self.history.push(history::Event {
                kind: history::Kind::OutOfMemory,
                at: wall,
                process: process.snapshot(Monotonic::now()),
            });
        }
    }

    /// Any record.
    pub(crate) fn job(&self, job: JobId) -> Option<&Process> {
        self.jobs.get(&job).map(Box::as_ref)
    }

    /// Any record, with the arena its output is in.
    pub(crate) fn job_mut(&mut self, job: JobId) -> Option<(&mut Process, &mut Arena)> {
        Some((self.jobs.get_mut(&job)?, &mut self.arena))
    }

    /// The records that clients may see, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Process> {
        self.iter_behind(ProcessId(0))
    }

    /// Those of them whose ids are greater than `last`.
    pub(crate) fn iter_behind(&self, last: ProcessId) -> impl Iterator<Item = &Process> {
        let behind = (Bound::Excluded(last), Bound::Unbounded);
        let listed = self.listed.range(behind);
        let listed = listed.filter_map(|(_, job)| self.jobs.get(job));
        listed.map(Box::as_ref).filter(|process| process.is_shown())
    }

    /// How many of each kind there are.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Counts a job anew, after anything that may change what it is.
    fn count(&mut self, job: JobId) {
        if let Some(process) = self.jobs.get_mut(&job) {
            let now = process.counts_as();
            let before = std::mem::replace(&mut process.counted_as, now);
            self.counts.moved(before, now);
        }
    }

    /// The arena.
    pub(crate) fn arena(&self) -> &Arena {
        &self.arena
    }

    /// The arena, to be trimmed.
    pub(crate) fn arena_mut(&mut self) -> &mut Arena {
        &mut self.arena
    }

    /// Removes a record and what it wrote; who waits for it is told. What somebody is to be answered
    /// with stays until [`Table::disown`].
    pub(crate) fn remove(&mut self, job: JobId) {
        self.remove_as(job, false);
    }

    fn remove_as(&mut self, job: JobId, evicted: bool) {
        if let Some(process) = self
            .jobs
            .get(&job)
            .filter(|of| of.is_listed() && of.noted_start)
        {
            self.history.push(history::Event {
                kind: history::Kind::Deleted { evicted },
                at: UnixMs::now(),
                process: process.snapshot(Monotonic::now()),
            });
            self.count_history();
        }
        let Some(process) = self.jobs.get_mut(&job) else {
            return;
        };
        self.exited.remove(&mut process.exit);
        self.listed.remove(&process.id);
        process.id = ProcessId(0);
        if let Some(kept) = &self.kept {
            kept.unlist(process);
        }
        let extras = process.extras.get_mut();
        if let Some(name) = extras.and_then(|extras| extras.tags.name.take()) {
            self.names.remove(&name);
        }
        self.exited_bytes -= std::mem::take(&mut process.counted_bytes);
        process.is_counted_exited = false;
        process.tell();
        if process.is_owned {
            self.count(job);
            return self.recount(job);
        }
        if let Some(mut process) = self.jobs.remove(&job) {
            if let Some(kept) = &self.kept {
                kept.forget(&self.arena, &process);
            }
            self.counts.moved(process.counted_as, Standing::Nothing);
            process.log.clear(&mut self.arena);
            process.counted.end(&self.budget);
            if let Some(mut captures) = process.captures.take() {
                captures.release(&mut self.arena);
            }
        }
    }
}

#[cfg(test)]
mod tests;
