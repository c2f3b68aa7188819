//! What is written down of each job, for whoever goes on when this process is gone.
//!
//! In: facts, each of one number, as they happen. Out: the same facts. Owns a memfd with a record of
//! 256 bytes for each job; longer ones are texts in blocks ([`super::blocks`]). Decides nothing.
//!
//! Three write here, each numbers of its own: the I/O thread what was asked for and what became of
//! it, spawners which process it is, and the keeper how that has ended. None of them waits for
//! another. A record is free again when both the I/O thread and the supervisor are done with it; the
//! one that is last frees it.
//!
//! Programs of several versions go on with one another's records (an upgrade): a record is not longer
//! or shorter than 256 bytes, a fact keeps its place, and a new one takes a place that was nobody's,
//! where 0 is no value. What an older program does not know it leaves as it is.
//!
//! What is written is whole at any moment, because each fact is one word: who dies between two facts
//! has written the first.

mod common;
mod ends;
mod pid_slot;

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use self::common::HIGH;
use super::memory::Words;
use crate::types::{ExitStatus, JobId, Monotonic, ProcessId, Stream};

pub(crate) use self::ends::{End, Named};
pub(crate) use self::pid_slot::PidSlot;

/// Numbers in one record.
const WORDS: usize = 32;

/// Records at most, and if that is more than is to be had.
const SIZES: [usize; 3] = [65_536 * WORDS * 8, 8192 * WORDS * 8, 1024 * WORDS * 8];

/// Places in a record.
const LIFE: usize = 0;
const JOB: usize = 1;
const ID: usize = 2;
const KIND: usize = 3;
const CELL: usize = 4;
const TEXT: usize = 5;
const TEXT_BYTES: usize = 6;
const PID: usize = 7;
const STATUS: usize = 8;
const MARK: usize = 9;
const SINCE: usize = 10;
const GROUP: usize = 11;
const LIFETIME: usize = 12;
const END: usize = 13;
const ENDED_AT: usize = 14;
const LOG_MAX: usize = 15;
const OUTPUTS: usize = 16;
const INPUT: usize = OUTPUTS + Stream::COUNT;
const USED: usize = INPUT + 1;

const HANDED: usize = USED + 3;

/// Those from here on are nobody's yet, and 0.
const FREE: usize = HANDED + 1;

const _: () = assert!(FREE < WORDS);

/// Bits of [`LIFE`].
const BEGUN: u64 = 1;
const IO_IS_DONE: u64 = 2;
const SUPERVISOR_IS_DONE: u64 = 4;

/// What a record is that nobody needs. A record that was ever used is not 0.
const FREE_AGAIN: u64 = BEGUN | IO_IS_DONE | SUPERVISOR_IS_DONE;

/// No count of jobs or processes comes here, nor one of bytes.
const NUMBERS_MAX: u64 = 1 << 48;

/// Names a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RecordId(u32);

/// See the module.
#[derive(Debug)]
pub(crate) struct Records {
    words: Words,
    count: u32,
    /// How many there were was damaged when this process found it.
    count_was_damaged: AtomicBool,
}

/// A text and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    /// Its first block.
    pub block: u32,
    /// How long it is.
    pub bytes: u32,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Records {
    /// Makes the memory.
    ///
    /// # Errors
    /// If not even room for few records is to be had.
    pub(crate) fn new() -> io::Result<Self> {
        let records = Self::of(Words::new("procring-jobs", &SIZES)?);
        records.words.set(HIGH, 1);
        Ok(records)
    }

    /// Maps memory that another program has made.
    ///
    /// # Errors
    /// If it is none.
    pub(crate) fn again(fd: OwnedFd) -> io::Result<Self> {
        let records = Self::of(Words::again(fd)?);
        records.begin_again();
        Ok(records)
    }

    fn of(words: Words) -> Self {
        let count = u32::try_from(words.len() / WORDS).unwrap_or(u32::MAX);
        Self {
            words,
            count,
            count_was_damaged: AtomicBool::new(false),
        }
    }

    /// The descriptor of the memory.
    pub(crate) fn number(&self) -> RawFd {
        self.words.number()
    }

    fn get(&self, record: RecordId, place: usize) -> u64 {
        self.words.get(record.0 as usize * WORDS + place)
    }

    fn set(&self, record: RecordId, place: usize, value: u64) {
        self.words.set(record.0 as usize * WORDS + place, value);
    }

    /// A record for a job of this kind, a number of the caller's. Only for the I/O thread; `next` is
    /// where it looks first. None if there is none left: the job is not kept then.
    pub(crate) fn begin(&self, job: JobId, kind: u64, next: &Cell<u32>) -> Option<RecordId> {
        let high = u32::try_from(self.words.get(HIGH)).unwrap_or(self.count);
        let is_free = |at: &u32| {
            let life = self.get(RecordId(*at), LIFE);
            life == 0 || life == FREE_AGAIN
        };
        let from = next.get().clamp(1, high);
        let free = (from..high)
            .chain(1..from)
            .take(FREE_LOOKED_AT)
            .find(is_free);
        let at = match free {
            Some(at) => at,
            None if high < self.count => {
                self.set(RecordId(high), LIFE, FREE_AGAIN);
                self.words.set(HIGH, u64::from(high) + 1);
                high
            }
            None => (1..high).find(is_free)?,
        };
        next.set(at + 1);
        let record = RecordId(at);
        self.set(record, LIFE, FREE_AGAIN);
        // Before the ends, see `Named`.
        self.set(record, JOB, job.0);
        for place in ID..WORDS {
            if place != PID {
                self.set(record, place, 0);
            }
        }
        self.pid_slot(record).store(0, Ordering::Release);
        self.set(record, KIND, kind);
        self.set(record, LIFE, BEGUN);
        Some(record)
    }

    /// The I/O thread needs it no longer.
    pub(crate) fn io_is_done(&self, record: RecordId) {
        self.done(record, IO_IS_DONE);
    }

    /// The supervisor needs it no longer.
    pub(crate) fn supervisor_is_done(&self, record: RecordId) {
        self.done(record, SUPERVISOR_IS_DONE);
    }

    fn done(&self, record: RecordId, who: u64) {
        self.words.set_bits(record.0 as usize * WORDS + LIFE, who);
    }

    /// Whether the I/O thread still needs it.
    pub(crate) fn is_io_done(&self, record: RecordId) -> bool {
        self.get(record, LIFE) & IO_IS_DONE != 0
    }

    /// Whether the supervisor still needs it.
    pub(crate) fn is_supervisor_done(&self, record: RecordId) -> bool {
        self.get(record, LIFE) & SUPERVISOR_IS_DONE != 0
    }

    /// All that somebody needs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = RecordId> + '_ {
        (1..self.high()).map(RecordId).filter(|&record| {
            let life = self.get(record, LIFE);
            life & BEGUN != 0 && life < FREE_AGAIN
        })
    }

    /// Sees to it that none is left out because something else than a server has written over how many
    /// there are. To be called before anybody goes on with them.
    pub(crate) fn mend_count(&self) {
        let high = self.words.get(HIGH);
        let touched = self.words.touched() / WORDS;
        let touched = u32::try_from(touched).unwrap_or(self.count).min(self.count);
        let used = |at: &u32| self.get(RecordId(*at), LIFE) != 0;
        let last = (1..touched).rev().find(used).unwrap_or(0);
        // One that was being begun does not count yet.
        let was_begun = self.get(RecordId(last), LIFE) == FREE_AGAIN && high == u64::from(last);
        let is_high = high == u64::from(last) + 1 || was_begun;
        if !is_high {
            self.words.set(HIGH, u64::from(last) + 1);
            self.count_was_damaged.store(true, Ordering::Relaxed);
        }
    }

    /// Records of whose states there is none, and whether [`Records::mend_count`] has mended something.
    pub(crate) fn damaged(&self) -> (Vec<RecordId>, bool) {
        let is_none = |record: &RecordId| {
            let life = self.get(*record, LIFE);
            life > FREE_AGAIN || life & BEGUN == 0
        };
        let damaged = (1..self.high()).map(RecordId).filter(is_none).collect();
        (damaged, self.count_was_damaged.load(Ordering::Relaxed))
    }

    /// Those below this one have been used.
    fn high(&self) -> u32 {
        let high = u32::try_from(self.words.get(HIGH)).unwrap_or(0);
        high.min(self.count)
    }

    /// Nobody goes on with a damaged record: its tree is ended, as far as that is known.
    pub(crate) fn give_up(&self, record: RecordId) {
        let is_job = self.get(record, KIND) != 0 && self.get(record, JOB) != 0;
        let has_ended = self.get(record, STATUS) != 0 || self.pid(record).is_none();
        self.set(record, ID, 0);
        self.set(record, HANDED, 0);
        self.set(
            record,
            LIFE,
            match is_job && !has_ended {
                true => BEGUN | IO_IS_DONE,
                false => FREE_AGAIN,
            },
        );
    }

    /// What is wrong with the numbers of a record, in a few words.
    ///
    /// # Errors
    /// These words.
    pub(crate) fn check(&self, record: RecordId) -> Result<(), &'static str> {
        let is_number = |place: usize| self.get(record, place) < NUMBERS_MAX;
        let status = self.get(record, STATUS);
        if !is_number(JOB) || self.get(record, JOB) == 0 {
            return Err("its job is none");
        }
        if !is_number(ID) {
            return Err("its id is none");
        }
        if status != 0 && (unpack(status).is_none() || status >> 2 > STATUS_MAX) {
            return Err("its status is none");
        }
        if self.get(record, PID) > PID_MAX {
            return Err("its process is none");
        }
        if self.get(record, HANDED) > 1 {
            return Err("its state is none");
        }
        let is_fd = |place| self.get(record, place) <= FD_MAX;
        if !(OUTPUTS..=INPUT).all(is_fd) {
            return Err("a descriptor is none");
        }
        Ok(())
    }

    /// Whether a server that is gone had it as a record of a process: not a run that somebody waited
    /// for, and not a start that had not come to a process.
    pub(crate) fn goes_on(&self, record: RecordId) -> bool {
        let is_wanted = self.id(record).is_some() || self.is_handed_over(record);
        !self.is_io_done(record) && is_wanted && self.pid(record).is_some()
    }

    /// A run goes on with another program, together with who waits for it; or no longer.
    pub(crate) fn hand_over_run(&self, record: RecordId, is_handed: bool) {
        self.set(record, HANDED, is_handed.into());
    }

    /// The same.
    pub(crate) fn is_handed_over(&self, record: RecordId) -> bool {
        self.get(record, HANDED) != 0
    }

    /// Whose it is.
    pub(crate) fn job(&self, record: RecordId) -> JobId {
        JobId(self.get(record, JOB))
    }

    /// What [`Records::begin`] was told.
    pub(crate) fn kind(&self, record: RecordId) -> u64 {
        self.get(record, KIND)
    }

    /// What clients call it; None for what is not listed.
    pub(crate) fn id(&self, record: RecordId) -> Option<ProcessId> {
        Some(self.get(record, ID))
            .filter(|&id| id != 0)
            .map(ProcessId)
    }

    /// It is listed from now on. Its text is there already.
    pub(crate) fn set_id(&self, record: RecordId, id: ProcessId) {
        self.set(record, ID, id.0);
    }

    /// What was asked for.
    pub(crate) fn text(&self, record: RecordId) -> Option<Text> {
        let block = u32::try_from(self.get(record, TEXT)).ok()?;
        let bytes = u32::try_from(self.get(record, TEXT_BYTES)).ok()?;
        (block != 0).then_some(Text { block, bytes })
    }

    /// The same; the one before may be freed then.
    pub(crate) fn set_text(&self, record: RecordId, text: Text) {
        self.set(record, TEXT_BYTES, text.bytes.into());
        self.set(record, TEXT, text.block.into());
    }

    /// The cell of its log.
    pub(crate) fn cell(&self, record: RecordId) -> Option<u32> {
        u32::try_from(self.get(record, CELL).checked_sub(1)?).ok()
    }

    /// The same; before anything is read for it.
    pub(crate) fn set_cell(&self, record: RecordId, cell: u32) {
        self.set(record, CELL, u64::from(cell) + 1);
    }

    /// Bytes that its log may hold, if that is less than usual.
    pub(crate) fn log_max(&self, record: RecordId) -> Option<u64> {
        self.get(record, LOG_MAX).checked_sub(1)
    }

    /// The same.
    pub(crate) fn set_log_max(&self, record: RecordId, bytes: u64) {
        self.set(record, LOG_MAX, bytes.saturating_add(1));
    }

    fn pid_slot(&self, record: RecordId) -> &AtomicI32 {
        self.words.int(record.0 as usize * WORDS + PID)
    }

    /// Its first process, from the moment that exists.
    pub(crate) fn pid(&self, record: RecordId) -> Option<i32> {
        Some(self.pid_slot(record).load(Ordering::Acquire)).filter(|&pid| pid > 0)
    }

    /// How that has ended, before anybody else can have its number.
    pub(crate) fn status(&self, record: RecordId) -> Option<ExitStatus> {
        unpack(self.get(record, STATUS))
    }

    /// The record of the process with this pid that has not ended, if there is one.
    pub(crate) fn of_pid(&self, pid: i32) -> Option<RecordId> {
        let is_it = |&record: &RecordId| self.pid(record) == Some(pid);
        self.iter()
            .find(|record| is_it(record) && self.status(*record).is_none())
    }

    /// The process has ended; it has not been reaped.
    pub(crate) fn set_status(&self, record: RecordId, status: ExitStatus) {
        self.set(record, STATUS, pack(status));
    }

    /// What the process has used, as numbers of the caller's; before its status.
    pub(crate) fn set_used(&self, record: RecordId, used: [u64; 3]) {
        for (at, value) in used.into_iter().enumerate() {
            self.set(record, USED + at, value);
        }
    }

    /// The same.
    pub(crate) fn used(&self, record: RecordId) -> [u64; 3] {
        std::array::from_fn(|at| self.get(record, USED + at))
    }

    /// What its tree carries, since when, and the number of its group. Before it is begun.
    pub(crate) fn set_tree(
        &self,
        record: RecordId,
        mark: Option<u64>,
        since_ticks: u64,
        group: u64,
    ) {
        self.set(record, SINCE, since_ticks);
        self.set(record, GROUP, group);
        self.set(record, MARK, mark.unwrap_or(0));
    }

    /// Its tree has no group any more, which may be another one's from then on.
    pub(crate) fn leaves_group(&self, record: RecordId) {
        self.set(record, GROUP, 0);
    }

    /// The same; no group is 0.
    pub(crate) fn tree(&self, record: RecordId) -> (Option<u64>, u64, u64) {
        let mark = Some(self.get(record, MARK)).filter(|&mark| mark != 0);
        (mark, self.get(record, SINCE), self.get(record, GROUP))
    }

    /// A field that the next version may have.
    #[cfg(debug_assertions)]
    pub(crate) fn set_next(&self, record: RecordId, value: u64) {
        self.set(record, FREE, value);
    }

    /// The same.
    #[cfg(debug_assertions)]
    pub(crate) fn next(&self, record: RecordId) -> u64 {
        self.get(record, FREE)
    }

    /// Its tree may live until then.
    pub(crate) fn set_lifetime(&self, record: RecordId, until: Monotonic) {
        self.set(record, LIFETIME, until.nanos());
    }

    /// The same.
    pub(crate) fn lifetime(&self, record: RecordId) -> Option<Monotonic> {
        let until = self.get(record, LIFETIME);
        (until != 0).then(|| Monotonic::from_nanos(until))
    }

    /// What clients are told of its end, as a number of the caller's that is not 0, and when it was.
    pub(crate) fn set_end(&self, record: RecordId, end: u64, at_ms: u64) {
        self.set(record, ENDED_AT, at_ms);
        self.set(record, END, end);
    }

    /// The same.
    pub(crate) fn end(&self, record: RecordId) -> Option<(u64, u64)> {
        let end = self.get(record, END);
        (end != 0).then(|| (end, self.get(record, ENDED_AT)))
    }
}

/// The greatest number of a process (PID_MAX_LIMIT in include/linux/threads.h).
const PID_MAX: u64 = 1 << 22;

/// The greatest number of a descriptor (fs.nr_open in proc_sys_fs(5)).
const FD_MAX: u64 = 1 << 30;

/// The greatest number of a status: an exit code or a signal.
const STATUS_MAX: u64 = 255;

/// Records that are looked at for a free one before a new one is taken.
const FREE_LOOKED_AT: usize = 64;

/// The low bits say which kind, the others the number.
fn pack(status: ExitStatus) -> u64 {
    let (kind, number) = match status {
        ExitStatus::Code(code) => (1, code),
        ExitStatus::Signal(signal) => (2, signal),
    };
    u64::from(number.cast_unsigned()) << 2 | kind
}

fn unpack(packed: u64) -> Option<ExitStatus> {
    let number = u32::try_from(packed >> 2).ok()?.cast_signed();
    match packed & 3 {
        1 => Some(ExitStatus::Code(number)),
        2 => Some(ExitStatus::Signal(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_free_when_both_are_done_with_it() {
        let (records, next) = (Records::new().unwrap(), Cell::new(0));
        let all: Vec<RecordId> = (1..=3)
            .map(|job| records.begin(JobId(job), 7, &next).unwrap())
            .collect();
        assert_eq!(records.iter().collect::<Vec<_>>(), all);
        records.set_id(all[1], ProcessId(9));
        records.io_is_done(all[1]);
        assert!(records.is_io_done(all[1]) && !records.is_supervisor_done(all[1]));
        assert_eq!(records.iter().count(), 3);
        records.supervisor_is_done(all[1]);
        assert_eq!(records.iter().collect::<Vec<_>>(), [all[0], all[2]]);
        next.set(0);
        let again = records.begin(JobId(4), 8, &next).unwrap();
        assert_eq!(again, all[1]);
        assert_eq!((records.id(again), records.kind(again)), (None, 8));
        assert_eq!(records.job(again), JobId(4));
    }
}
