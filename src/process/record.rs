//! The record of one job: what was asked for, its life, what it wrote, and who waits for it.
//!
//! In: events of its life. Out: what clients may see of it. Knows no other record; what all of them
//! come to is [`table`]'s.
//!
//! [`table`]: super::table

use std::num::NonZeroU64;
use std::rc::Rc;

use super::backpressure::Backpressure;
use super::captures::Captures;
use super::counts::Standing;
use super::extras;
use super::history::Snapshot;
use super::life::{Effects, Event, Graces, Life, State};
use super::notify::Notify;
use super::searches::{Place, Searches};
use super::table::{Counted, Dropped};
use super::tags::Tags;
use crate::config::timeouts;
use crate::ledger::RecordId;
use crate::log::Log;
use crate::types::{Exit, ExitReason, JobId, Monotonic, ProcessId, StreamFilter, UnixMs};

const GRACES: Graces = Graces {
    log: timeouts::LOG_GRACE,
    pipes: timeouts::PIPES_GRACE,
    tree: timeouts::TREE_GRACE,
};

/// What a client asked to start; echoed in its record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Description {
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
    pub(crate) fn weight(&self) -> u64 {
        let args = self.args.iter();
        let args: usize = args.map(|arg| arg.len() + size_of::<String>()).sum();
        let cwd = self.cwd.as_ref().map_or(0, String::len);
        (self.command.len() + args + cwd) as u64
    }
}

/// The record of one job.
#[derive(Debug)]
pub(crate) struct Process {
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
    pub(super) noted_start: bool,
    /// And as exited.
    pub(super) noted_end: bool,
    /// Somebody waits for what it writes and has to be answered, whether its record goes or not.
    pub(super) is_owned: bool,
    /// Tells of new output, of every change of its life and of the end of outputs.
    pub changed: Notify,
    /// Log bytes that the table counts for this record; 0 until it has exited.
    pub(super) counted_bytes: u64,
    /// Its place among those that have exited.
    pub(super) exit: Option<NonZeroU64>,
    /// When it was asked for; None once it has written something.
    asked_at: Option<Monotonic>,
    /// As what the table counts it.
    pub(super) counted_as: Standing,
    /// They are counted.
    pub(super) is_counted_exited: bool,
    /// What the budget counts for it, besides slots.
    pub(super) counted: Counted,
    /// Where it is written down, if there is a keeper.
    pub record: Option<RecordId>,
}

impl Process {
    pub(super) fn new(job: JobId, life: Life) -> Self {
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
            exit: None,
            asked_at: Some(Monotonic::now()),
            counted_as: Standing::Nothing,
            is_counted_exited: false,
            counted: Counted::default(),
            record: None,
        }
    }

    /// When it was asked for, to be called for its first byte: None later.
    pub(crate) fn first_byte(&mut self) -> Option<Monotonic> {
        self.asked_at.take()
    }

    /// What it is among [`Counts`](super::counts::Counts).
    pub(super) fn counts_as(&self) -> Standing {
        let run = self.life.kind().is_run();
        if !self.is_listed() {
            // A run is told of its end only.
            let ended = matches!(self.life.state(), State::Over { .. } | State::Failed(_));
            return match run && !ended {
                true => Standing::Run,
                false => Standing::Nothing,
            };
        }
        match self.life.has_begun() {
            false => Standing::Nothing,
            true if self.life.is_running() => Standing::Running,
            true if run && self.life.left() > 0 => Standing::Leftover,
            true => Standing::Exited,
        }
    }

    /// As one that makes room for others.
    pub(super) fn as_dropped(&self) -> Dropped {
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
    pub(crate) fn is_listed(&self) -> bool {
        self.id != ProcessId(0)
    }

    /// Whether what it writes goes to its log.
    pub(crate) fn is_logged(&self) -> bool {
        self.is_listed() || self.backpressure().is_some()
    }

    /// How many follow what it writes: event streams, terminals and attached clients.
    pub(crate) fn followers(&self) -> usize {
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
    pub(crate) fn output_bytes(&self) -> u64 {
        let all = StreamFilter::Combined;
        let lost = self.log.dropped_bytes() - self.log.first_offset(all);
        let captured = self.captures.as_ref().map_or(0, |captures| {
            captures.stdout.written() + captures.stderr.written()
        });
        // What is in both is the same.
        captured.max(self.log.end_offset(all) + lost)
    }

    /// What holds it up while a client is slower, if its output is streamed.
    pub(crate) fn backpressure(&self) -> Option<&Backpressure> {
        self.extras.get()?.backpressure.as_deref()
    }

    /// The same, to be changed.
    pub(crate) fn backpressure_mut(&mut self) -> Option<&mut Backpressure> {
        self.extras.get_mut()?.backpressure.as_deref_mut()
    }

    /// Somebody begins to look for a text in its log.
    pub(crate) fn begin_search(&mut self) -> Place {
        let searches = self.extras.make().searches.get_or_insert_default();
        searches.begin(&self.log)
    }

    /// Who looks for a text in its log, if anybody has.
    pub(crate) fn searches(&self) -> Option<&Searches> {
        self.extras.get()?.searches.as_ref()
    }

    /// How many bytes may be read into its log, if that may hold `limit`, before those who look for a
    /// text have looked at more of it.
    pub(crate) fn room_for_searches(&self, limit: u64) -> usize {
        let Some(searches) = self.searches().filter(|of| !of.is_empty()) else {
            return usize::MAX;
        };
        // What it wrote is part of an answer that is due, or nobody waits for its output any more.
        let is_due = self.is_over() && self.captures.is_some();
        if is_due || self.life.is_complete(Monotonic::now()) {
            return usize::MAX;
        }
        let is_rest = !matches!(
            self.life.state(),
            State::StartPending | State::Running { .. }
        );
        searches.room(&self.log, limit, is_rest)
    }

    /// Whether its log may give up this entry, and all before it: nobody is still to be sent it or
    /// to look at it.
    pub(crate) fn may_lose(&self, sequence: u64) -> bool {
        let is_taken = |of: &Backpressure| of.has_taken(sequence);
        let is_passed = |of: &Searches| of.have_passed(sequence);
        self.backpressure().is_none_or(is_taken) && self.searches().is_none_or(is_passed)
    }

    /// The last entry of a streamed run, once that is in its log.
    pub(crate) fn last_of_run(&self) -> Option<u64> {
        let known = self.backpressure().and_then(Backpressure::end);
        let ended = || (self.is_over() && self.life.open_outputs() == 0).then(|| self.log.last());
        known.or_else(ended)
    }

    /// Whether clients may see it: they are to find and end what hangs before it runs.
    pub(super) fn is_shown(&self) -> bool {
        self.is_listed() && (self.life.has_begun() || self.hangs(Monotonic::now()))
    }

    /// Whether its start has been waited for long enough to say so.
    fn hangs(&self, now: Monotonic) -> bool {
        let is_long = |since| now.since(since) >= timeouts::START_HANGS_AFTER;
        self.asked_at.is_some_and(is_long)
    }

    /// What it is called besides its id.
    pub(crate) fn tags(&self) -> Option<&Tags> {
        self.extras.get().map(|extras| &extras.tags)
    }

    /// Whether it has exited, as clients see it.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.life.state(), State::Over { .. })
    }

    /// How it ended and when, once clients may know; the status is missing for a run that would
    /// not die in time.
    pub(crate) fn ended(&self) -> Option<(Option<Exit>, UnixMs)> {
        match self.life.state() {
            State::Over { end, at, .. } => Some((end.exit(), at)),
            _ => None,
        }
    }

    /// How many of its tree live on, as far as clients are told: after its exit, and after a
    /// moment if it was asked to end.
    pub(crate) fn descendants(&self, now: Monotonic) -> Option<u32> {
        match self.life.state() {
            State::Over { complete_at, .. } if !self.told_to_end || now >= complete_at => {
                Some(self.life.left()).filter(|&left| left > 0)
            }
            _ => None,
        }
    }

    /// The record as it is now.
    pub(super) fn snapshot(&self, now: Monotonic) -> Snapshot {
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
    pub(crate) fn life_changes(&mut self) -> Notify {
        let life_changed = &mut self.extras.make().life_changed;
        life_changed.get_or_insert_default().clone()
    }

    /// Tells everybody who waits for a change that there was one.
    pub(crate) fn tell(&self) {
        self.changed.notify();
        let extras = self.extras.get();
        if let Some(life_changed) = extras.and_then(|extras| extras.life_changed.as_ref()) {
            life_changed.notify();
        }
    }

    /// Takes an event, at `now`, which is `wall` for clients.
    pub(crate) fn on(&mut self, event: Event, now: Monotonic, wall: UnixMs) -> Effects {
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
