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

use std::cell::Cell;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use super::memory::Words;
use crate::types::{ExitStatus, JobId, Monotonic, ProcessId, Stream};

/// Numbers in one record.
const WORDS: usize = 32;

/// Records at most, and if that is more than is to be had.
const SIZES: [usize; 3] = [65_536 * WORDS * 8, 8192 * WORDS * 8, 1024 * WORDS * 8];

/// Places in the first record, which is nobody's.
const LAST_ID: usize = 0;
const LAST_JOB: usize = 1;
/// Records below this one have been used.
const HIGH: usize = 2;
const SERVES: usize = 3;
const DEATHS: usize = 4;
const RELOADED: usize = 5;
const SETTINGS: usize = 8;
/// What is handed over and to which program, and why that failed. The first is stored last.
const HANDOVER: usize = 16;
const HANDOVER_TO: usize = 17;
const HANDOVER_ERROR: usize = 18;
/// What only this machine's servers know, in so many numbers.
const SECRET: usize = 20;
const SECRET_WORDS: usize = 4;

/// Numbers of settings.
pub const SETTINGS_WORDS: usize = 6;

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

/// Names a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordId(u32);

/// See the module.
#[derive(Debug)]
pub struct Records {
    words: Words,
    count: u32,
}

/// A text and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    /// Its first block.
    pub block: u32,
    /// How long it is.
    pub bytes: u32,
}

/// One end of a pipe or terminal that is the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where this stream is read.
    Output(Stream),
    /// Where input is written.
    Input,
}

impl End {
    fn place(self) -> usize {
        match self {
            End::Output(stream) => OUTPUTS + stream as usize,
            End::Input => INPUT,
        }
    }
}

/// A descriptor that a record names, as long as this lives.
#[derive(Debug)]
pub struct Named {
    records: Arc<Records>,
    record: RecordId,
    job: JobId,
    end: End,
}

impl Drop for Named {
    fn drop(&mut self) {
        // The record may be another job's by now.
        if self.records.job(self.record) == self.job {
            self.records.set(self.record, self.end.place(), 0);
        }
    }
}

/// Where the pid of a child shows as soon as it exists, 0 before: in a record, where a server that
/// goes on finds it, or in memory of its own.
#[derive(Debug)]
pub enum PidSlot {
    /// Nobody goes on.
    Own(AtomicI32),
    /// The record of its job.
    Kept(Arc<Records>, RecordId),
}

impl Default for PidSlot {
    fn default() -> Self {
        Self::Own(AtomicI32::new(0))
    }
}

impl PidSlot {
    /// Whether this is the number of the child: the slot is emptied before the child is collected, and
    /// a keeper writes down how it has ended before it does that. What was opened by the number before
    /// is the child's then.
    pub fn is_still(&self, pid: i32) -> bool {
        let has_ended = match self {
            Self::Own(_) => false,
            Self::Kept(records, record) => records.status(*record).is_some(),
        };
        !has_ended && self.load(Ordering::Acquire) == pid
    }
}

impl std::ops::Deref for PidSlot {
    type Target = AtomicI32;

    fn deref(&self) -> &AtomicI32 {
        match self {
            Self::Own(number) => number,
            Self::Kept(records, record) => records.pid_slot(*record),
        }
    }
}

impl Records {
    /// Makes the memory.
    ///
    /// # Errors
    /// If not even room for few records is to be had.
    pub fn new() -> io::Result<Self> {
        let records = Self::of(Words::new("procring-jobs", &SIZES)?);
        records.words.set(HIGH, 1);
        Ok(records)
    }

    /// Maps memory that another program has made.
    ///
    /// # Errors
    /// If it is none.
    pub fn again(fd: OwnedFd) -> io::Result<Self> {
        let records = Self::of(Words::again(fd)?);
        records.words.set(HANDOVER, 0);
        records.words.set(SERVES, 0);
        Ok(records)
    }

    fn of(words: Words) -> Self {
        let count = u32::try_from(words.len() / WORDS).unwrap_or(u32::MAX);
        Self { words, count }
    }

    /// The descriptor of the memory.
    pub fn number(&self) -> RawFd {
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
    pub fn begin(&self, job: JobId, kind: u64, next: &Cell<u32>) -> Option<RecordId> {
        let high = u32::try_from(self.words.get(HIGH)).unwrap_or(self.count);
        let is_free = |at: &u32| {
            let life = self.get(RecordId(*at), LIFE);
            life == 0 || life == BEGUN | IO_IS_DONE | SUPERVISOR_IS_DONE
        };
        let from = next.get().clamp(1, high);
        let free = (from..high)
            .chain(1..from)
            .take(FREE_LOOKED_AT)
            .find(is_free);
        let at = match free {
            Some(at) => at,
            None if high < self.count => {
                self.words.set(HIGH, u64::from(high) + 1);
                high
            }
            None => (1..high).find(is_free)?,
        };
        next.set(at + 1);
        let record = RecordId(at);
        self.set(record, LIFE, 0);
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
    pub fn io_is_done(&self, record: RecordId) {
        self.done(record, IO_IS_DONE);
    }

    /// The supervisor needs it no longer.
    pub fn supervisor_is_done(&self, record: RecordId) {
        self.done(record, SUPERVISOR_IS_DONE);
    }

    fn done(&self, record: RecordId, who: u64) {
        self.words.set_bits(record.0 as usize * WORDS + LIFE, who);
    }

    /// Whether the I/O thread still needs it.
    pub fn is_io_done(&self, record: RecordId) -> bool {
        self.get(record, LIFE) & IO_IS_DONE != 0
    }

    /// Whether the supervisor still needs it.
    pub fn is_supervisor_done(&self, record: RecordId) -> bool {
        self.get(record, LIFE) & SUPERVISOR_IS_DONE != 0
    }

    /// All that somebody needs.
    pub fn iter(&self) -> impl Iterator<Item = RecordId> + '_ {
        let high = u32::try_from(self.words.get(HIGH)).unwrap_or(0);
        (1..high.min(self.count)).map(RecordId).filter(|&record| {
            let life = self.get(record, LIFE);
            life & BEGUN != 0 && life != BEGUN | IO_IS_DONE | SUPERVISOR_IS_DONE
        })
    }

    /// Whether a server that is gone had it as a record of a process: not a run that somebody waited
    /// for, and not a start that had not come to a process.
    pub fn goes_on(&self, record: RecordId) -> bool {
        let is_wanted = self.id(record).is_some() || self.is_handed_over(record);
        !self.is_io_done(record) && is_wanted && self.pid(record).is_some()
    }

    /// A run goes on with another program, together with who waits for it; or no longer.
    pub fn hand_over_run(&self, record: RecordId, is_handed: bool) {
        self.set(record, HANDED, is_handed.into());
    }

    /// The same.
    pub fn is_handed_over(&self, record: RecordId) -> bool {
        self.get(record, HANDED) != 0
    }

    /// How many descriptors it names that may be read.
    pub fn outputs(&self, record: RecordId) -> u8 {
        let open = Stream::ALL
            .into_iter()
            .filter(|&stream| self.fd(record, End::Output(stream)).is_some());
        u8::try_from(open.count()).unwrap_or(u8::MAX)
    }

    /// Whose it is.
    pub fn job(&self, record: RecordId) -> JobId {
        JobId(self.get(record, JOB))
    }

    /// What [`Records::begin`] was told.
    pub fn kind(&self, record: RecordId) -> u64 {
        self.get(record, KIND)
    }

    /// What clients call it; None for what is not listed.
    pub fn id(&self, record: RecordId) -> Option<ProcessId> {
        Some(self.get(record, ID))
            .filter(|&id| id != 0)
            .map(ProcessId)
    }

    /// It is listed from now on. Its text is there already.
    pub fn set_id(&self, record: RecordId, id: ProcessId) {
        self.set(record, ID, id.0);
    }

    /// What was asked for.
    pub fn text(&self, record: RecordId) -> Option<Text> {
        let block = u32::try_from(self.get(record, TEXT)).ok()?;
        let bytes = u32::try_from(self.get(record, TEXT_BYTES)).ok()?;
        (block != 0).then_some(Text { block, bytes })
    }

    /// The same; the one before may be freed then.
    pub fn set_text(&self, record: RecordId, text: Text) {
        self.set(record, TEXT_BYTES, text.bytes.into());
        self.set(record, TEXT, text.block.into());
    }

    /// The cell of its log.
    pub fn cell(&self, record: RecordId) -> Option<u32> {
        u32::try_from(self.get(record, CELL).checked_sub(1)?).ok()
    }

    /// The same; before anything is read for it.
    pub fn set_cell(&self, record: RecordId, cell: u32) {
        self.set(record, CELL, u64::from(cell) + 1);
    }

    /// Bytes that its log may hold, if that is less than usual.
    pub fn log_max(&self, record: RecordId) -> Option<u64> {
        self.get(record, LOG_MAX).checked_sub(1)
    }

    /// The same.
    pub fn set_log_max(&self, record: RecordId, bytes: u64) {
        self.set(record, LOG_MAX, bytes.saturating_add(1));
    }

    fn pid_slot(&self, record: RecordId) -> &AtomicI32 {
        self.words.int(record.0 as usize * WORDS + PID)
    }

    /// Its first process, from the moment that exists.
    pub fn pid(&self, record: RecordId) -> Option<i32> {
        Some(self.pid_slot(record).load(Ordering::Acquire)).filter(|&pid| pid > 0)
    }

    /// How that has ended, before anybody else can have its number.
    pub fn status(&self, record: RecordId) -> Option<ExitStatus> {
        unpack(self.get(record, STATUS))
    }

    /// The record of the process with this pid that has not ended, if there is one.
    pub fn of_pid(&self, pid: i32) -> Option<RecordId> {
        let is_it = |&record: &RecordId| self.pid(record) == Some(pid);
        self.iter()
            .find(|record| is_it(record) && self.status(*record).is_none())
    }

    /// The process has ended; it has not been reaped.
    pub fn set_status(&self, record: RecordId, status: ExitStatus) {
        self.set(record, STATUS, pack(status));
    }

    /// What the process has used, as numbers of the caller's; before its status.
    pub fn set_used(&self, record: RecordId, used: [u64; 3]) {
        for (at, value) in used.into_iter().enumerate() {
            self.set(record, USED + at, value);
        }
    }

    /// The same.
    pub fn used(&self, record: RecordId) -> [u64; 3] {
        std::array::from_fn(|at| self.get(record, USED + at))
    }

    /// What its tree carries, since when, and the number of its group. Before it is begun.
    pub fn set_tree(&self, record: RecordId, mark: Option<u64>, since_ticks: u64, group: u64) {
        self.set(record, SINCE, since_ticks);
        self.set(record, GROUP, group);
        self.set(record, MARK, mark.unwrap_or(0));
    }

    /// The same; no group is 0.
    pub fn tree(&self, record: RecordId) -> (Option<u64>, u64, u64) {
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
    pub fn set_lifetime(&self, record: RecordId, until: Monotonic) {
        self.set(record, LIFETIME, until.nanos());
    }

    /// The same.
    pub fn lifetime(&self, record: RecordId) -> Option<Monotonic> {
        let until = self.get(record, LIFETIME);
        (until != 0).then(|| Monotonic::from_nanos(until))
    }

    /// What clients are told of its end, as a number of the caller's that is not 0, and when it was.
    pub fn set_end(&self, record: RecordId, end: u64, at_ms: u64) {
        self.set(record, ENDED_AT, at_ms);
        self.set(record, END, end);
    }

    /// The same.
    pub fn end(&self, record: RecordId) -> Option<(u64, u64)> {
        let end = self.get(record, END);
        (end != 0).then(|| (end, self.get(record, ENDED_AT)))
    }

    /// Notes which descriptor an end is, until what is returned is dropped. Before there is a
    /// process, and dropped before the descriptor is closed.
    pub fn name(self: &Arc<Self>, record: RecordId, end: End, fd: i32) -> Named {
        self.set(record, end.place(), u64::from(fd.cast_unsigned()));
        Named {
            records: self.clone(),
            record,
            job: self.job(record),
            end,
        }
    }

    /// The descriptor of an end.
    pub fn fd(&self, record: RecordId, end: End) -> Option<i32> {
        let fd = i32::try_from(self.get(record, end.place())).ok()?;
        (fd > 2).then_some(fd)
    }

    /// All descriptors that it names.
    pub fn fds(&self, record: RecordId) -> impl Iterator<Item = i32> + '_ {
        let outputs = Stream::ALL.into_iter().map(End::Output);
        let ends = outputs.chain([End::Input]);
        ends.filter_map(move |end| self.fd(record, end))
    }

    /// The last id that may have been told to anybody.
    pub fn last_id(&self) -> u64 {
        self.words.get(LAST_ID)
    }

    /// The same; before it is told.
    pub fn set_last_id(&self, id: u64) {
        self.words.set(LAST_ID, id);
    }

    /// The last job.
    pub fn last_job(&self) -> u64 {
        self.words.get(LAST_JOB)
    }

    /// The same; before it is begun.
    pub fn set_last_job(&self, job: u64) {
        self.words.set(LAST_JOB, job);
    }

    /// Settings that were changed, as numbers of the caller's that are not all 0.
    pub fn settings(&self) -> Option<[u64; SETTINGS_WORDS]> {
        let settings = std::array::from_fn(|at| self.words.get(SETTINGS + at));
        settings.iter().any(|&of| of != 0).then_some(settings)
    }

    /// The same.
    pub fn set_settings(&self, settings: [u64; SETTINGS_WORDS]) {
        for (at, value) in settings.into_iter().enumerate() {
            self.words.set(SETTINGS + at, value);
        }
    }

    /// What bodies of requests are hashed with, in all servers; made by the first who asks, of these
    /// bytes.
    pub fn secret(&self, random: [u8; 32]) -> [u8; 32] {
        let now: [u64; SECRET_WORDS] = std::array::from_fn(|at| self.words.get(SECRET + at));
        let mut secret = random;
        let (words, _) = secret.as_chunks_mut::<8>();
        if now.contains(&0) {
            for (at, word) in words.iter().enumerate() {
                self.words.set(SECRET + at, u64::from_ne_bytes(*word) | 1);
            }
        }
        for (at, word) in words.iter_mut().enumerate() {
            *word = self.words.get(SECRET + at).to_ne_bytes();
        }
        secret
    }

    /// The configuration was read again while a server ran, and a token is wanted since, or none.
    pub fn set_reloaded(&self, wants_token: bool) {
        self.words.set(RELOADED, 1 + u64::from(wants_token));
    }

    /// Whether a token is wanted since then, if that ever was.
    pub fn was_reloaded(&self) -> Option<bool> {
        match self.words.get(RELOADED) {
            0 => None,
            was => Some(was > 1),
        }
    }

    /// The keeper is to hand over what is described there to a program; two descriptors. It does not
    /// come back, or there is a [`Records::handover_error`].
    pub fn hand_over(&self, heritage: RawFd, program: RawFd) {
        self.words.set(HANDOVER_ERROR, 0);
        self.words
            .set(HANDOVER_TO, u64::from(program.cast_unsigned()));
        self.words
            .set(HANDOVER, u64::from(heritage.cast_unsigned()));
    }

    /// The same.
    pub fn handover(&self) -> Option<(RawFd, RawFd)> {
        let number = |at| i32::try_from(self.words.get(at)).ok();
        Some((number(HANDOVER).filter(|&fd| fd > 2)?, number(HANDOVER_TO)?))
    }

    /// It is not to be done: who said so is gone.
    pub fn forget_handover(&self) {
        self.words.set(HANDOVER, 0);
        for record in self.iter().filter(|&of| self.is_handed_over(of)) {
            self.hand_over_run(record, false);
        }
    }

    /// It could not be done, for this reason, an errno.
    pub fn handover_failed(&self, errno: i32) {
        self.words.set(HANDOVER, 0);
        self.words
            .set(HANDOVER_ERROR, u64::from(errno.cast_unsigned()));
    }

    /// The same.
    pub fn handover_error(&self) -> Option<i32> {
        let errno = i32::try_from(self.words.get(HANDOVER_ERROR)).ok();
        errno.filter(|&errno| errno != 0)
    }

    /// A server has begun to serve.
    pub fn serves(&self) {
        self.words.set(SERVES, 1);
    }

    /// Whether one ever has.
    pub fn has_served(&self) -> bool {
        self.words.get(SERVES) != 0
    }

    /// Servers that have died so far.
    pub fn deaths(&self) -> u64 {
        self.words.get(DEATHS)
    }

    /// One more has.
    pub fn count_death(&self) {
        self.words.set(DEATHS, self.deaths() + 1);
    }
}

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

    #[test]
    fn a_status_is_of_the_process_that_has_not_ended() {
        let (records, next) = (Arc::new(Records::new().unwrap()), Cell::new(0));
        let [old, new] = [1, 2].map(|job| records.begin(JobId(job), 0, &next).unwrap());
        let slot = PidSlot::Kept(records.clone(), old);
        slot.store(77, Ordering::Release);
        assert_eq!(
            (records.pid(old), records.of_pid(77)),
            (Some(77), Some(old))
        );
        assert!(slot.is_still(77) && !slot.is_still(78));
        for status in [ExitStatus::Code(255), ExitStatus::Signal(9)] {
            records.set_status(old, status);
            assert_eq!(records.status(old), Some(status));
        }
        assert!(!slot.is_still(77), "the keeper has reaped it, or will");
        assert_eq!(records.of_pid(77), None);
        // Its number comes again.
        PidSlot::Kept(records.clone(), new).store(77, Ordering::Release);
        assert_eq!(records.of_pid(77), Some(new));
    }

    #[test]
    fn a_descriptor_is_named_until_it_is_about_to_be_closed() {
        let (records, next) = (Arc::new(Records::new().unwrap()), Cell::new(0));
        let record = records.begin(JobId(1), 0, &next).unwrap();
        let end = End::Output(Stream::Stderr);
        let named = records.name(record, end, 12);
        assert_eq!(records.fd(record, end), Some(12));
        assert_eq!(records.fd(record, End::Input), None);
        drop(named);
        assert_eq!(records.fd(record, end), None);
    }
}
