//! The table where there is a keeper: written down as it changes, and gone on with by the next server.

use super::Table;
use crate::ledger::RecordId;
use crate::ledger::records::{End, Named};
use crate::process::counts::Standing;
use crate::process::kept::{Kept, Keys, Lost};
use crate::process::life::Kind;
use crate::types::JobId;

impl Table {
    /// Everything is written down from now on, for the servers of a keeper. `events` are those that
    /// one of them has handed over, and the number of the last.
    pub(crate) fn keep(&mut self, kept: Kept, events: (u64, &str)) {
        self.arena.keep();
        self.history.keep(kept.records().clone(), events);
        self.count_history();
        self.kept = Some(kept);
    }

    /// Where everything is written down.
    pub(crate) fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    /// Goes on with what a server of the same keeper has left. `log_max` is the usual limit of a log.
    /// What runs that were handed over have written is in the slots that are `held`. What of it all was
    /// damaged is returned.
    pub(crate) fn go_on(&mut self, log_max: u64, held: impl Iterator<Item = u32>) -> Vec<Lost> {
        let Some(kept) = &self.kept else {
            return Vec::new();
        };
        let records = kept.records().clone();
        let (mut processes, keys, lost) = kept.go_on(&mut self.arena, log_max, held);
        records.count_lost(lost.len());
        self.keys = keys;
        processes.sort_by_key(|process| process.ended().map_or(0, |(_, at)| at.0));
        for process in processes {
            let (job, id) = (process.job, process.id);
            let is_over = process.is_over();
            if let Some(name) = process.tags().and_then(|tags| tags.name.clone()) {
                self.names.insert(name, job);
            }
            self.occupied += u64::from(!is_over && process.life.kind() == Kind::Managed);
            let is_listed = process.is_listed();
            if is_listed {
                self.listed.insert(id, job);
            }
            let mut process = Box::new(process);
            // Who waits for it comes with it.
            process.is_owned = process.record.is_some_and(|of| records.is_handed_over(of));
            process.is_counted_exited = is_over && is_listed;
            process.counted_as = process.counts_as();
            self.counts.moved(Standing::Nothing, process.counted_as);
            self.jobs.insert(job, process);
            if is_over && is_listed {
                self.has_exited(job);
            }
            self.weigh(job);
            self.recount(job);
        }
        self.last_id = records.last_id();
        self.last_job = records.last_job();
        lost
    }

    /// The keys of requests that another server has left; once.
    pub(crate) fn take_keys(&mut self) -> Keys {
        std::mem::take(&mut self.keys)
    }

    /// Writes down a key of a request where there is a keeper, in the place of what was `before`; no
    /// text is its end.
    pub(crate) fn write_key(
        &self,
        before: Option<RecordId>,
        text: Option<&[u8]>,
    ) -> Option<RecordId> {
        let kept = self.kept.as_ref()?;
        match (before, text) {
            (before, Some(text)) => kept.write_key(&self.arena, before, text),
            (Some(before), None) => {
                kept.forget_key(&self.arena, before);
                None
            }
            (None, None) => None,
        }
    }

    /// Another server is to find what a job has written, though it is listed nowhere.
    pub(crate) fn write_down_log(&mut self, job: JobId) {
        if let (Some(kept), Some(process)) = (&self.kept, self.jobs.get_mut(&job)) {
            kept.write_down_log(&self.arena, process);
        }
    }

    /// Notes which descriptor an end of a job is that goes on, until what is returned is dropped.
    pub(crate) fn name_end(&self, job: JobId, end: End, fd: i32) -> Option<Named> {
        let (kept, process) = (self.kept.as_ref()?, self.job(job)?);
        let is_handed = |record| kept.records().is_handed_over(record);
        let goes_on = process.is_listed() || process.record.is_some_and(is_handed);
        goes_on.then(|| kept.name(process, end, fd))?
    }

    pub(super) fn write_down(&mut self, job: JobId) {
        if let (Some(kept), Some(process)) = (&self.kept, self.jobs.get_mut(&job)) {
            kept.write_down(&self.arena, process);
        }
    }
}
