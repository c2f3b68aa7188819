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
//! - Exited records are kept up to a number and a total of log bytes; the oldest goes first, one
//!   whose tree lives on only when there are no others.

mod memory;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::rc::Rc;

use super::backpressure::Backpressure;
use super::captures::Captures;
use super::extras;
use super::history::{self, History, Snapshot};
use super::kept::{Kept, Keys};
use super::life::{Effects, Event, Graces, Kind, Life, State};
use super::notify::Notify;
use super::tags::Tags;
use crate::budget::Budget;
use crate::config::timeouts;
use crate::ledger::RecordId;
use crate::ledger::records::{End, Named};
use crate::log::{Arena, Log};
use crate::types::{Exit, ExitReason, JobId, Monotonic, ProcessId, StreamFilter, UnixMs};

use self::memory::{BeforeLoss, Counted};
pub use self::memory::{Held, PROMISED_BYTES};

const GRACES: Graces = Graces {
    log: timeouts::LOG_GRACE,
    pipes: timeouts::PIPES_GRACE,
    tree: timeouts::TREE_GRACE,
};

/// Log bytes that exited records hold together, at most: 1 GiB, a hundred full logs.
pub const EXITED_LOG_BYTES_MAX: u64 = 1 << 30;

/// What a client asked to start; echoed in its record.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// The program.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its working directory, if one was named.
    pub cwd: Option<String>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Stored and echoed only.
    pub interactive: bool,
    /// When.
    pub created_at: UnixMs,
}

impl Description {
    /// What it keeps in memory, at most, in bytes.
    pub fn weight(&self) -> u64 {
        let args = self.args.iter();
        let args: usize = args.map(|arg| arg.len() + size_of::<String>()).sum();
        let cwd = self.cwd.as_ref().map_or(0, String::len);
        (self.command.len() + args + cwd) as u64
    }
}

/// Why a process has no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many run as may.
    Places,
    /// There is no memory for what it would write.
    Memory,
}

/// The record of one job.
#[derive(Debug)]
pub struct Process {
    /// What the supervisor calls it.
    pub job: JobId,
    /// What clients call it; 0 as long as it is not listed.
    pub id: ProcessId,
    /// What was asked for; empty for a run that is not listed. Shared with whoever tells of it later.
    pub description: Rc<Description>,
    /// Where it is in its life.
    pub life: Life,
    /// What it wrote.
    pub log: Log,
    /// What it wrote, as far as a run is answered with it.
    pub captures: Option<Box<Captures>>,
    /// What few records have.
    pub extras: extras::Lazy<extras::Extras>,
    /// Bytes of input that went to it by a way that is closed by now.
    pub input_bytes: u64,
    /// It was asked to end, so what is left of its tree is most likely about to end, too.
    pub told_to_end: bool,
    /// The history has it as created.
    noted_start: bool,
    /// And as exited.
    noted_end: bool,
    /// Somebody waits for what it writes and has to be answered, whether its record goes or not.
    is_owned: bool,
    /// Tells of new output, of every change of its life and of the end of outputs.
    pub changed: Notify,
    /// Log bytes that the table counts for this record; 0 until it has exited.
    counted_bytes: u64,
    /// When it was asked for; None once it has written something.
    asked_at: Option<Monotonic>,
    /// As what the table counts it.
    counted_as: Standing,
    /// They are counted.
    is_counted_exited: bool,
    /// What the budget counts for it, besides slots.
    counted: Counted,
    /// Where it is written down, if there is a keeper.
    pub record: Option<RecordId>,
}

/// What a job is among [`Counts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    /// Nothing that anybody sees: its start is pending, or it is an answer that is waited for.
    #[default]
    Nothing,
    Run,
    Running,
    Exited,
    Leftover,
}

impl Process {
    fn new(job: JobId, life: Life) -> Self {
        Self {
            job,
            id: ProcessId(0),
            description: Rc::default(),
            life,
            log: Log::default(),
            captures: None,
            extras: extras::Lazy::default(),
            input_bytes: 0,
            told_to_end: false,
            noted_start: false,
            noted_end: false,
            is_owned: false,
            changed: Notify::default(),
            counted_bytes: 0,
            asked_at: Some(Monotonic::now()),
            counted_as: Standing::Nothing,
            is_counted_exited: false,
            counted: Counted::default(),
            record: None,
        }
    }

    /// When it was asked for, to be called for its first byte: None later.
    pub fn first_byte(&mut self) -> Option<Monotonic> {
        self.asked_at.take()
    }

    /// What it is among [`Counts`].
    fn counts_as(&self) -> Standing {
        let run = self.life.kind().is_run();
        if !self.is_listed() {
            // A run is told of its end only.
            let ended = matches!(self.life.state(), State::Over { .. } | State::Failed(_));
            return match run && !ended {
                true => Standing::Run,
                false => Standing::Nothing,
            };
        }
        match self.is_shown() {
            false => Standing::Nothing,
            true if self.life.is_running() => Standing::Running,
            true if run && self.life.left() > 0 => Standing::Leftover,
            true => Standing::Exited,
        }
    }

    /// As one that makes room for others.
    fn as_dropped(&self) -> Dropped {
        Dropped {
            id: self.id,
            job: self.job,
            leaves_unlisted: self.life.kind().is_run() && self.life.left() > 0,
        }
    }

    /// One that a server which is gone has told of.
    pub(super) fn resumed(job: JobId, life: Life) -> Self {
        let mut process = Self::new(job, life);
        process.noted_start = true;
        process.noted_end = process.is_over();
        process
    }

    /// Whether it has an id.
    pub fn is_listed(&self) -> bool {
        self.id != ProcessId(0)
    }

    /// Whether what it writes goes to its log.
    pub fn is_logged(&self) -> bool {
        self.is_listed() || self.backpressure().is_some()
    }

    /// How many follow what it writes: event streams, terminals and attached clients.
    pub fn followers(&self) -> usize {
        let shared = self.extras.get().and_then(|extras| extras.shared.get());
        shared.map_or(0, |shared| {
            let all = [
                &shared.events,
                &shared.frames,
                &shared.attached_json,
                &shared.attached_binary,
            ];
            all.map(|batches| batches.readers()).iter().sum()
        })
    }

    /// Bytes that it has written and that were read.
    pub fn output_bytes(&self) -> u64 {
        let all = StreamFilter::Combined;
        let lost = self.log.dropped_bytes() - self.log.first_offset(all);
        let captured = self.captures.as_ref().map_or(0, |captures| {
            captures.stdout.written() + captures.stderr.written()
        });
        // What is in both is the same.
        captured.max(self.log.end_offset(all) + lost)
    }

    /// What holds it up while a client is slower, if its output is streamed.
    pub fn backpressure(&self) -> Option<&Backpressure> {
        self.extras.get()?.backpressure.as_deref()
    }

    /// The same, to be changed.
    pub fn backpressure_mut(&mut self) -> Option<&mut Backpressure> {
        self.extras.get_mut()?.backpressure.as_deref_mut()
    }

    /// The last entry of a streamed run, once that is in its log.
    pub fn last_of_run(&self) -> Option<u64> {
        let known = self.backpressure().and_then(Backpressure::end);
        let ended = || (self.is_over() && self.life.open_outputs() == 0).then(|| self.log.last());
        known.or_else(ended)
    }

    /// Whether clients may see it.
    fn is_shown(&self) -> bool {
        self.is_listed() && self.life.state() != State::StartPending
    }

    /// What it is called besides its id.
    pub fn tags(&self) -> Option<&Tags> {
        self.extras.get().map(|extras| &extras.tags)
    }

    /// Whether it has exited, as clients see it.
    pub fn is_over(&self) -> bool {
        matches!(self.life.state(), State::Over { .. })
    }

    /// How it ended and when, once clients may know; the status is missing for a run that would
    /// not die in time.
    pub fn ended(&self) -> Option<(Option<Exit>, UnixMs)> {
        match self.life.state() {
            State::Over { end, at, .. } => Some((end.exit(), at)),
            _ => None,
        }
    }

    /// How many of its tree live on, as far as clients are told: after its exit, and after a
    /// moment if it was asked to end.
    pub fn descendants(&self, now: Monotonic) -> Option<u32> {
        match self.life.state() {
            State::Over { complete_at, .. } if !self.told_to_end || now >= complete_at => {
                Some(self.life.left()).filter(|&left| left > 0)
            }
            _ => None,
        }
    }

    /// The record as it is now.
    fn snapshot(&self, now: Monotonic) -> Snapshot {
        let ended = self.ended();
        Snapshot {
            id: self.id,
            description: self.description.clone(),
            tags: self
                .tags()
                .filter(|tags| !tags.is_empty())
                .cloned()
                .map(Rc::new),
            is_running: self.life.is_running(),
            pid: self.life.pid(),
            exit: ended.and_then(|(exit, _)| exit),
            exited_at: ended.map(|(_, at)| at),
            descendants: self.descendants(now),
        }
    }

    /// What tells of changes of its life, and not of output.
    pub fn life_changes(&mut self) -> Notify {
        let life_changed = &mut self.extras.make().life_changed;
        life_changed.get_or_insert_default().clone()
    }

    /// Tells everybody who waits for a change that there was one.
    pub fn tell(&self) {
        self.changed.notify();
        let extras = self.extras.get();
        if let Some(life_changed) = extras.and_then(|extras| extras.life_changed.as_ref()) {
            life_changed.notify();
        }
    }

    /// Takes an event, at `now`, which is `wall` for clients.
    pub fn on(&mut self, event: Event, now: Monotonic, wall: UnixMs) -> Effects {
        if let Event::Spawned { pid, .. } = event
            && let Some(backpressure) = self.backpressure_mut()
        {
            backpressure.pid = Some(pid);
        }
        if let Event::Exited { exit, .. } = event {
            self.told_to_end |= exit.reason == Some(ExitReason::Deadline);
        }
        self.life.on(event, now, wall, &GRACES)
    }
}

/// A record that has made room for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// What clients called it.
    pub id: ProcessId,
    /// What the supervisor calls it.
    pub job: JobId,
    /// It was that of a run, and the only one to tell that some of its tree live on.
    pub leaves_unlisted: bool,
}

/// How many of each kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records of managed processes that run.
    pub running: usize,
    /// Records of what has exited.
    pub exited: usize,
    /// Those of them that are of runs with living descendants.
    pub leftovers: usize,
    /// Runs under way.
    pub runs: usize,
}

impl Counts {
    fn moved(&mut self, before: Standing, now: Standing) {
        if before == now {
            return;
        }
        let mut change = |what: Standing, by: isize| {
            let change = |count: &mut usize| *count = count.saturating_add_signed(by);
            match what {
                Standing::Nothing => {}
                Standing::Run => change(&mut self.runs),
                Standing::Running => change(&mut self.running),
                Standing::Exited => change(&mut self.exited),
                Standing::Leftover => {
                    change(&mut self.exited);
                    change(&mut self.leftovers);
                }
            }
        };
        change(before, -1);
        change(now, 1);
    }
}

/// Every record, and the arena.
#[derive(Debug)]
pub struct Table {
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
    /// Oldest exit first.
    exited: VecDeque<JobId>,
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
    pub fn new(arena: Arena, exited_max: usize, leftovers_max: usize) -> Self {
        Self {
            jobs: BTreeMap::new(),
            listed: BTreeMap::new(),
            names: BTreeMap::new(),
            arena,
            last_job: 0,
            last_id: 0,
            occupied: 0,
            exited: VecDeque::new(),
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

    /// Everything is written down from now on, for the servers of a keeper.
    pub fn keep(&mut self, kept: Kept) {
        self.arena.keep();
        self.kept = Some(kept);
    }

    /// Where everything is written down.
    pub fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    /// Goes on with what a server of the same keeper has left. `log_max` is the usual limit of a log.
    pub fn go_on(&mut self, log_max: u64) {
        let Some(kept) = &self.kept else {
            return;
        };
        let records = kept.records().clone();
        let (mut processes, keys) = kept.go_on(&mut self.arena, log_max);
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
            process.is_owned = !is_listed;
            process.is_counted_exited = is_over && is_listed;
            process.counted_as = process.counts_as();
            self.counts.moved(Standing::Nothing, process.counted_as);
            self.jobs.insert(job, process);
            if is_over && is_listed {
                self.exited.push_back(job);
            }
            self.weigh(job);
            self.recount(job);
        }
        self.last_id = records.last_id();
        self.last_job = records.last_job();
    }

    /// The keys of requests that another server has left; once.
    pub fn take_keys(&mut self) -> Keys {
        std::mem::take(&mut self.keys)
    }

    /// Writes down a key of a request where there is a keeper, in the place of what was `before`; no
    /// text is its end.
    pub fn write_key(&self, before: Option<RecordId>, text: Option<&[u8]>) -> Option<RecordId> {
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

    /// Notes which descriptor an end of a job is that goes on, until what is returned is dropped.
    pub fn name_end(&self, job: JobId, end: End, fd: i32) -> Option<Named> {
        let (kept, process) = (self.kept.as_ref()?, self.job(job)?);
        let is_handed = |record| kept.records().is_handed_over(record);
        let goes_on = process.is_listed() || process.record.is_some_and(is_handed);
        goes_on.then(|| kept.name(process, end, fd))?
    }

    fn write_down(&mut self, job: JobId) {
        if let (Some(kept), Some(process)) = (&self.kept, self.jobs.get_mut(&job)) {
            kept.write_down(&self.arena, process);
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
    pub fn begin_behind(&mut self, last: u64) {
        self.last_id = self.last_id.max(last);
    }

    /// The last id that has been taken.
    pub fn last_id(&self) -> u64 {
        self.last_id
    }

    /// Takes an id and a place, if fewer than `limit` managed processes run and there is memory
    /// for one more.
    ///
    /// # Errors
    /// Which of the two is missing.
    pub fn reserve(&mut self, description: Description, limit: u64) -> Result<JobId, Refused> {
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
    pub fn begin_run(&mut self) -> &mut Process {
        let process = self.insert(Life::new(Kind::Run, 2), ProcessId(0));
        process.is_owned = true;
        process
    }

    /// Begins a run that is listed from its start. Somebody waits for it until [`Table::disown`].
    pub fn begin_record(&mut self, description: Description) -> &mut Process {
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
    pub fn disown(&mut self, job: JobId) {
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
    pub fn take_id(&mut self) -> ProcessId {
        self.last_id += 1;
        if let Some(kept) = &self.kept {
            kept.records().set_last_id(self.last_id);
        }
        ProcessId(self.last_id)
    }

    /// Lists a run that has ended, under an id that was taken for it. What it wrote becomes its
    /// log, of at most `log_max` bytes and `limit`. Returns the records that have made room for
    /// it.
    pub fn list(
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
        self.exited.push_back(job);
        self.make_room(job)
    }

    /// The oldest run of those with living descendants, if there are too many: its tree is to be
    /// ended. Each is named once.
    pub fn surplus_leftover(&mut self) -> Option<Dropped> {
        let leaves = |process: &&Process| {
            process.life.kind().is_run() && process.life.left() > 0 && !process.told_to_end
        };
        let records = self.exited.iter().filter_map(|job| self.jobs.get(job));
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

    /// Gives back a reservation that nobody has begun to use; its id stays used.
    pub fn cancel(&mut self, job: JobId) {
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
    pub fn holder(&self, name: &str) -> Option<ProcessId> {
        self.job(*self.names.get(name)?).map(|process| process.id)
    }

    /// Calls a job by a name that nobody else has, until its record goes, and by labels.
    pub fn tag(&mut self, job: JobId, tags: Tags) {
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
    pub fn get_named(&self, name: &str) -> Option<&Process> {
        self.job(*self.names.get(name)?)
            .filter(|process| process.is_shown())
    }

    /// The record that clients may see under this id.
    pub fn get(&self, id: ProcessId) -> Option<&Process> {
        let process = self.jobs.get(self.listed.get(&id)?)?;
        Some(process.as_ref()).filter(|process| process.is_shown())
    }

    /// The same, to be changed, with the arena its log is in.
    pub fn get_mut(&mut self, id: ProcessId) -> Option<(&mut Process, &mut Arena)> {
        let process = self.jobs.get_mut(self.listed.get(&id)?)?;
        process.is_shown().then_some((process, &mut self.arena))
    }

    /// What has happened to records.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Has a job take an event, at `now`, which is `wall` for clients. None if it is gone.
    pub fn on(
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
        let Some(process) = self.jobs.get_mut(&job).filter(|of| of.is_listed()) else {
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
    pub fn out_of_memory(&mut self, job: JobId, wall: UnixMs) {
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
    pub fn job(&self, job: JobId) -> Option<&Process> {
        self.jobs.get(&job).map(Box::as_ref)
    }

    /// Any record, with the arena its output is in.
    pub fn job_mut(&mut self, job: JobId) -> Option<(&mut Process, &mut Arena)> {
        Some((self.jobs.get_mut(&job)?, &mut self.arena))
    }

    /// The records that clients may see, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.iter_behind(ProcessId(0))
    }

    /// Those of them whose ids are greater than `last`.
    pub fn iter_behind(&self, last: ProcessId) -> impl Iterator<Item = &Process> {
        let behind = (Bound::Excluded(last), Bound::Unbounded);
        let listed = self.listed.range(behind);
        let listed = listed.filter_map(|(_, job)| self.jobs.get(job));
        listed.map(Box::as_ref).filter(|process| process.is_shown())
    }

    /// How many of each kind there are.
    pub fn counts(&self) -> Counts {
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

    /// From now on at most so many are kept; what is too many goes with the next that comes.
    pub fn bound(&mut self, exited_max: usize, leftovers_max: usize) {
        self.exited_max = exited_max;
        self.leftovers_max = leftovers_max;
    }

    /// Exited records that are kept.
    pub fn exited_max(&self) -> usize {
        self.exited_max
    }

    /// Runs with living descendants that are kept.
    pub fn leftovers_max(&self) -> usize {
        self.leftovers_max
    }

    /// The arena.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// The arena, to be trimmed.
    pub fn arena_mut(&mut self) -> &mut Arena {
        &mut self.arena
    }

    /// What is listed needs its place no longer: its start has failed, and the reservation is
    /// gone but for its id; or it has exited, and the oldest exited records that are too many have
    /// to go. Returns those.
    pub fn retire(&mut self, job: JobId) -> Vec<Dropped> {
        let Some(process) = self.jobs.get(&job) else {
            return Vec::new();
        };
        if !process.is_over() {
            self.cancel(job);
            return Vec::new();
        }
        self.vacate(job);
        self.exited.push_back(job);
        self.make_room(job)
    }

    fn make_room(&mut self, job: JobId) -> Vec<Dropped> {
        if let Some(process) = self.jobs.get_mut(&job).filter(|of| of.is_listed()) {
            process.is_counted_exited = true;
        }
        self.recount(job);
        let mut dropped = Vec::new();
        while self.exited.len() > self.exited_max.max(1)
            || (self.exited_bytes > EXITED_LOG_BYTES_MAX && self.exited.len() > 1)
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
        let older = || self.exited.iter().copied().rev().skip(1).rev();
        let gone = |job: &JobId| self.jobs.get(job).is_none_or(|of| of.life.left() == 0);
        older().find(gone).or_else(|| older().next())
    }

    /// Removes a record and what it wrote; who waits for it is told. What somebody is to be answered
    /// with stays until [`Table::disown`].
    pub fn remove(&mut self, job: JobId) {
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
        self.exited.retain(|exited| *exited != job);
        let Some(process) = self.jobs.get_mut(&job) else {
            return;
        };
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
mod tests {
    use super::*;
    use crate::log::capture::Keep;
    use crate::types::{ExitStatus, SpawnError, SpawnStage, Stream};

    fn describe() -> Description {
        Description {
            command: "true".into(),
            ..Description::default()
        }
    }

    fn begin_run(table: &mut Table) -> JobId {
        let run = table.begin_run();
        run.captures = Some(Box::new(Captures::new(Keep::Head, 100)));
        run.job
    }

    fn on(table: &mut Table, job: JobId, event: Event) -> Effects {
        let effects = table.on(job, event, Monotonic::default(), UnixMs(0));
        assert_eq!(table.counts(), walked(table));
        effects.unwrap()
    }

    /// What looking at every record comes to.
    fn walked(table: &Table) -> Counts {
        let mut counts = Counts::default();
        for process in table.jobs.values() {
            counts.moved(Standing::Nothing, process.counts_as());
        }
        counts
    }

    fn exit_leaving(table: &mut Table, job: JobId, left: u32) -> Vec<JobId> {
        let exit = Exit::from(ExitStatus::Code(0));
        for event in [
            Event::Spawned { pid: 1, outputs: 0 },
            Event::Exited { exit, left },
            Event::RestRead { whole: true },
        ] {
            on(table, job, event);
        }
        assert!(table.job(job).unwrap().is_over());
        table.retire(job).into_iter().map(|of| of.job).collect()
    }

    fn exit(table: &mut Table, job: JobId) -> Vec<JobId> {
        exit_leaving(table, job, 0)
    }

    fn id(table: &Table, job: JobId) -> ProcessId {
        table.job(job).unwrap().id
    }

    #[test]
    fn the_limit_counts_what_is_starting_and_frees_its_place_on_exit_or_failure() {
        let mut table = Table::new(Arena::new().unwrap(), 10, 2);
        let a = table.reserve(describe(), 2).unwrap();
        let b = table.reserve(describe(), 2).unwrap();
        assert_eq!(table.reserve(describe(), 2), Err(Refused::Places));
        begin_run(&mut table);
        let error = SpawnError {
            stage: SpawnStage::Exec,
            errno: 2,
        };
        assert!(on(&mut table, a, Event::SpawnFailed(error)).retire);
        assert!(table.retire(a).is_empty());
        let c = table.reserve(describe(), 2).unwrap();
        assert_eq!(id(&table, c), ProcessId(3));
        exit(&mut table, b);
        assert!(table.reserve(describe(), 2).is_ok());
    }

    #[test]
    fn what_is_starting_and_a_run_are_not_shown() {
        let mut table = Table::new(Arena::new().unwrap(), 10, 2);
        let job = table.reserve(describe(), 2).unwrap();
        begin_run(&mut table);
        assert!(table.get(id(&table, job)).is_none());
        assert_eq!(table.iter().count(), 0);
    }

    fn named(name: &str) -> Tags {
        Tags {
            name: Some(name.into()),
            labels: None,
        }
    }

    #[test]
    fn a_name_is_held_from_the_reservation_until_the_record_goes() {
        let mut table = Table::new(Arena::new().unwrap(), 1, 2);
        let jobs: Vec<_> = (0..4)
            .map(|_| table.reserve(describe(), 10).unwrap())
            .collect();
        table.tag(jobs[0], named("a"));
        assert_eq!(table.holder("a"), Some(ProcessId(1)));
        assert!(table.get_named("a").is_none(), "it has not started");
        exit(&mut table, jobs[0]);
        assert_eq!(table.get_named("a").map(|of| of.job), Some(jobs[0]));
        exit(&mut table, jobs[1]);
        assert_eq!(table.holder("a"), None, "its record has made room");
        table.tag(jobs[2], named("a"));
        table.cancel(jobs[2]);
        assert_eq!(table.holder("a"), None, "it has not been started");
        table.tag(jobs[3], named("a"));
        let error = SpawnError {
            stage: SpawnStage::Exec,
            errno: 2,
        };
        on(&mut table, jobs[3], Event::SpawnFailed(error));
        table.retire(jobs[3]);
        assert_eq!(table.holder("a"), None, "its start has failed");
        assert!(table.names.is_empty());
    }

    #[test]
    fn records_behind_an_id_that_is_gone_are_found() {
        let mut table = Table::new(Arena::new().unwrap(), 9, 2);
        for _ in 0..4 {
            let job = table.reserve(describe(), 10).unwrap();
            on(&mut table, job, Event::Spawned { pid: 1, outputs: 0 });
        }
        let job = table.get(ProcessId(2)).unwrap().job;
        table.remove(job);
        let behind = |id| -> Vec<u64> {
            let behind = table.iter_behind(ProcessId(id));
            behind.map(|process| process.id.0).collect()
        };
        assert_eq!(behind(0), [1, 3, 4]);
        assert_eq!(behind(2), [3, 4]);
        assert_eq!(behind(u64::MAX), [0; 0]);
    }

    fn write(table: &mut Table, job: JobId, len: usize) {
        let (process, arena) = table.job_mut(job).unwrap();
        process.log.tail(arena).unwrap()[..len].fill(b'x');
        process.log.commit(arena, len, Stream::Stdout, 0, 1 << 20);
    }

    #[test]
    fn the_bytes_of_exited_logs_are_counted_while_they_grow_and_until_they_go() {
        let mut table = Table::new(Arena::new().unwrap(), 2, 2);
        let jobs: Vec<_> = (0..3)
            .map(|_| table.reserve(describe(), 10).unwrap())
            .collect();
        write(&mut table, jobs[0], 100);
        assert_eq!(table.exited_bytes, 0, "a running one does not count");
        exit(&mut table, jobs[0]);
        write(&mut table, jobs[0], 20);
        table.recount(jobs[0]);
        write(&mut table, jobs[1], 3);
        exit(&mut table, jobs[1]);
        assert_eq!(table.exited_bytes, 123);
        exit(&mut table, jobs[2]);
        assert_eq!(table.exited_bytes, 3, "the oldest has gone");
        table.remove(jobs[1]);
        assert_eq!(table.exited_bytes, 0);
    }

    #[test]
    fn a_record_whose_tree_lives_stays_while_there_are_others() {
        let mut table = Table::new(Arena::new().unwrap(), 2, 2);
        let jobs: Vec<_> = (0..5)
            .map(|_| table.reserve(describe(), 10).unwrap())
            .collect();
        assert!(exit_leaving(&mut table, jobs[0], 3).is_empty());
        assert!(exit_leaving(&mut table, jobs[1], 0).is_empty());
        assert_eq!(exit_leaving(&mut table, jobs[2], 1), [jobs[1]]);
        let all_others_live = exit_leaving(&mut table, jobs[3], 0);
        assert_eq!(all_others_live, [jobs[0]]);
        on(&mut table, jobs[2], Event::Left(0));
        assert_eq!(exit(&mut table, jobs[4]), [jobs[2]]);
    }

    /// A run that has ended and left something.
    fn leftover(table: &mut Table) -> (JobId, ProcessId) {
        let job = begin_run(table);
        let status = ExitStatus::Code(0);
        on(table, job, Event::TimedOut(Some(status)));
        on(table, job, Event::Left(1));
        let id = table.take_id();
        assert!(table.list(job, id, describe(), 200, 1000).is_empty());
        (job, id)
    }

    #[test]
    fn a_run_that_left_something_takes_an_id_and_only_so_many_do() {
        let mut table = Table::new(Arena::new().unwrap(), 10, 2);
        let first = table.reserve(describe(), 10).unwrap();
        let runs = [leftover(&mut table), leftover(&mut table)];
        assert_eq!(id(&table, first), ProcessId(1));
        assert_eq!([runs[0].1, runs[1].1], [2, 3].map(ProcessId));
        assert!(
            table
                .get(runs[0].1)
                .is_some_and(|run| run.captures.is_none())
        );
        // What a managed process left is not of their number.
        exit_leaving(&mut table, first, 1);
        assert_eq!(table.surplus_leftover(), None);
        leftover(&mut table);
        assert_eq!(table.surplus_leftover().map(|of| of.job), Some(runs[0].0));
        assert_eq!(table.surplus_leftover(), None, "each is named once");
        on(&mut table, runs[1].0, Event::Left(0));
        leftover(&mut table);
        assert_eq!(table.surplus_leftover(), None, "one is gone by itself");
    }

    #[test]
    fn a_recorded_run_keeps_what_it_is_answered_with_though_its_record_goes() {
        let mut table = Table::new(Arena::new().unwrap(), 1, 2);
        let run = table.begin_record(describe());
        run.captures = Some(Box::new(Captures::new(Keep::Head, 100)));
        let (job, run_id) = (run.job, run.id);
        table.tag(job, named("a"));
        assert!(table.get(run_id).is_none(), "it has not started");
        on(&mut table, job, Event::Spawned { pid: 7, outputs: 2 });
        assert_eq!(table.get_named("a").and_then(|of| of.life.pid()), Some(7));
        let (run, arena) = table.job_mut(job).unwrap();
        let captures = run.captures.as_mut().unwrap();
        captures.of(Stream::Stdout).append(arena, b"kept");
        write(&mut table, job, 10);
        let exit = Exit::from(ExitStatus::Code(0));
        on(&mut table, job, Event::Exited { exit, left: 0 });
        on(&mut table, job, Event::OutputEnded);
        assert!(on(&mut table, job, Event::OutputEnded).retire);
        assert!(table.retire(job).is_empty());
        assert_eq!((table.occupied, table.exited_bytes), (0, 10));
        // Another one takes its place.
        let other = table.reserve(describe(), 10).unwrap();
        assert_eq!(exit_leaving(&mut table, other, 0), [job]);
        assert!(table.get(run_id).is_none() && table.holder("a").is_none());
        let later = table.reserve(describe(), 10).unwrap();
        table.tag(later, named("a"));
        let run = table.job(job).unwrap();
        assert_eq!(run.captures.as_ref().unwrap().stdout.written(), 4);
        assert!(run.is_over() && table.arena.in_use() > 0);
        table.disown(job);
        assert!(table.job(job).is_none());
        assert_eq!((table.arena.in_use(), table.exited_bytes), (0, 0));
        assert_eq!(table.holder("a"), Some(id(&table, later)));
    }

    #[test]
    fn the_oldest_exited_record_goes_first() {
        let mut table = Table::new(Arena::new().unwrap(), 2, 2);
        let jobs: Vec<_> = (0..4)
            .map(|_| table.reserve(describe(), 10).unwrap())
            .collect();
        let ids: Vec<_> = jobs.iter().map(|job| id(&table, *job)).collect();
        assert!(exit(&mut table, jobs[2]).is_empty());
        assert!(exit(&mut table, jobs[0]).is_empty());
        assert_eq!(exit(&mut table, jobs[1]), [jobs[2]]);
        assert!(table.get(ids[2]).is_none() && table.get(ids[0]).is_some());
    }
}
