//! Exited records: how many are kept, and which of them go first.
//!
//! They are kept up to a number and a total of log bytes; the oldest goes first, one whose tree
//! lives on only when there are no others. Of runs with living descendants there is a number of
//! their own.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use super::Table;
use crate::process::record::Process;
use crate::types::{JobId, ProcessId};

/// Log bytes that exited records hold together, at most: 1 GiB, a hundred full logs.
pub(crate) const EXITED_LOG_BYTES_MAX: u64 = 1 << 30;

/// A record that has made room for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// What clients called it.
    pub id: ProcessId,
    /// What the supervisor calls it.
    pub job: JobId,
    /// It was that of a run, and the only one to tell that some of its tree live on.
    pub leaves_unlisted: bool,
}

/// Exited records that are listed, by the order of their exits.
#[derive(Debug, Default)]
pub(super) struct Exited {
    /// Each with its place, which grows from one to the next.
    jobs: VecDeque<(NonZeroU64, JobId)>,
    last: u64,
}

impl Exited {
    /// Enters one as the newest; `exit` is its place from now on.
    fn push(&mut self, job: JobId, exit: &mut Option<NonZeroU64>) {
        self.remove(exit);
        self.last += 1;
        *exit = NonZeroU64::new(self.last);
        self.jobs.extend(exit.map(|exit| (exit, job)));
    }

    /// Removes the one with this place, if it has any. Mostly it is the oldest; of the others those
    /// on its shorter side move up.
    pub(super) fn remove(&mut self, exit: &mut Option<NonZeroU64>) {
        let Some(exit) = exit.take() else { return };
        if let Ok(at) = self.jobs.binary_search_by_key(&exit, |(of, _)| *of) {
            self.jobs.remove(at);
        }
    }

    /// The oldest first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = JobId> + ExactSizeIterator + '_ {
        self.jobs.iter().map(|(_, job)| *job)
    }
}

impl Table {
    /// From now on at most so many are kept; what is too many goes with the next that comes.
    pub(crate) fn bound(&mut self, exited_max: usize, leftovers_max: usize) {
        self.exited_max = exited_max;
        self.leftovers_max = leftovers_max;
    }

    /// Exited records that are kept.
    pub(crate) fn exited_max(&self) -> usize {
        self.exited_max
    }

    /// Runs with living descendants that are kept.
    pub(crate) fn leftovers_max(&self) -> usize {
        self.leftovers_max
    }

    /// What is listed needs its place no longer: its start has failed, and the reservation is
    /// gone but for its id; or it has exited, and the oldest exited records that are too many have
    /// to go. Returns those.
    pub(crate) fn retire(&mut self, job: JobId) -> Vec<Dropped> {
        let Some(process) = self.jobs.get(&job) else {
            return Vec::new();
        };
        if !process.is_over() {
            self.cancel(job);
            return Vec::new();
        }
        self.vacate(job);
        self.has_exited(job);
        self.make_room(job)
    }

    /// It is the last one that has exited.
    pub(super) fn has_exited(&mut self, job: JobId) {
        if let Some(process) = self.jobs.get_mut(&job) {
            self.exited.push(job, &mut process.exit);
        }
    }

    pub(super) fn make_room(&mut self, job: JobId) -> Vec<Dropped> {
        if let Some(process) = self.jobs.get_mut(&job).filter(|of| of.is_listed()) {
            process.is_counted_exited = true;
        }
        self.recount(job);
        let mut dropped = Vec::new();
        while self.exited.iter().len() > self.exited_max.max(1)
            || (self.exited_bytes > EXITED_LOG_BYTES_MAX && self.exited.iter().len() > 1)
        {
            let Some(oldest) = self.dispensable() else {
                break;
            };
            let of = self.jobs.get(&oldest);
            dropped.extend(of.map(|process| process.as_dropped()));
            self.remove_as(oldest, true);
        }
        dropped
    }

    /// The oldest exited record whose tree is gone, or the oldest of all; not the newest, which
    /// nobody has had the time to look at.
    fn dispensable(&self) -> Option<JobId> {
        let older = || self.exited.iter().rev().skip(1).rev();
        let gone = |job: &JobId| self.jobs.get(job).is_none_or(|of| of.life.left() == 0);
        older().find(gone).or_else(|| older().next())
    }

    /// The oldest run of those with living descendants, if there are too many: its tree is to be
    /// ended. Each is named once.
    pub(crate) fn surplus_leftover(&mut self) -> Option<Dropped> {
        let leaves = |process: &&Process| {
            process.life.kind().is_run() && process.life.left() > 0 && !process.told_to_end
        };
        let records = self.exited.iter().filter_map(|job| self.jobs.get(&job));
        let mut leftovers = records.map(Box::as_ref).filter(leaves);
        let oldest = leftovers.next()?.job;
        if leftovers.count() < self.leftovers_max {
            return None;
        }
        let process = self.jobs.get_mut(&oldest)?;
        process.told_to_end = true;
        Some(Dropped {
            id: process.id,
            job: oldest,
            leaves_unlisted: false,
        })
    }
}
