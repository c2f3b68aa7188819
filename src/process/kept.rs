//! What of the table is written down where there is a keeper, and the table that another server
//! makes of it.
//!
//! In: jobs as they begin, change and go; later the records that a dead server has left. Out: the
//! same jobs. What is long is text: JSON, of which unknown keys are skipped and missing ones have a
//! default, so that a server of another version understands it. Owns no descriptor.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::life::{End, Kind, Life, State};
use super::record::{Description, Process};
use super::tags::Tags;
use super::terminal::Terminal;
use crate::ledger::records::{Named, Text};
#[cfg(debug_assertions)]
use crate::ledger::variant;
use crate::ledger::{CellId, RecordId, Records};
use crate::log::{Arena, Recovery};
use crate::types::{Exit, ExitReason, ExitStatus, JobId, Monotonic, ProcessId, UnixMs, WindowSize};

/// Keys of requests that a server has left, and what is known of what was carried out for them.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// Their texts, and where they are written down.
    pub texts: Vec<(RecordId, Vec<u8>)>,
    /// Jobs that had not come to a process.
    pub not_begun: HashSet<JobId>,
}

/// What of a record is lost: it was damaged by something else than a server.
#[derive(Debug)]
pub(crate) struct Lost {
    /// What clients called it, if that is known.
    pub id: Option<ProcessId>,
    /// In a sentence.
    pub what: String,
}

impl Lost {
    /// All of it, and why.
    fn whole(records: &Records, record: RecordId, why: &str) -> Self {
        let what = format!(
            "record {record} is damaged ({why}): what it was of is lost, and is ended where it is known"
        );
        Self::of(records, record, what)
    }

    /// A part of it; the rest goes on.
    fn part(records: &Records, record: RecordId, which: &str) -> Self {
        Self::of(
            records,
            record,
            format!("record {record} is damaged: {which}"),
        )
    }

    /// Of numbers that are of all records; they were mended by what there is.
    fn numbers() -> Self {
        Self {
            id: None,
            what: "a number of the records was damaged; it is as before by what there is"
                .to_owned(),
        }
    }

    fn of(records: &Records, record: RecordId, what: String) -> Self {
        let id = records.id(record).filter(|_| records.check(record).is_ok());
        Self { id, what }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Kept {
    records: Arc<Records>,
    next: Cell<u32>,
}

/// What was asked for, as text.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Written {
    command: String,
    args: Vec<String>,
    cwd: Option<String>,
    tty: bool,
    interactive: bool,
    created_at_ms: u64,
    name: Option<String>,
    labels: Option<Vec<(String, String)>>,
    /// What the next version may have.
    #[cfg(debug_assertions)]
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

impl Written {
    pub(super) fn new(description: &Description, tags: Option<&Tags>) -> Self {
        let text = |text: &str| text.to_owned();
        let labels = tags.and_then(|tags| tags.labels.as_ref());
        Self {
            command: description.command.clone(),
            args: description.args.clone(),
            cwd: description.cwd.clone(),
            tty: description.tty,
            interactive: description.interactive,
            created_at_ms: description.created_at.0,
            name: tags.and_then(|tags| tags.name.as_deref()).map(text),
            labels: labels.map(|labels| {
                let pairs = labels.iter();
                pairs.map(|(key, value)| (text(key), text(value))).collect()
            }),
            #[cfg(debug_assertions)]
            next: variant::has_more().then_some(description.created_at.0),
        }
    }

    #[cfg(debug_assertions)]
    fn of_variant(mut self) -> Self {
        self.labels = self.labels.filter(|_| !variant::has_less());
        self
    }

    pub(super) fn read(self) -> (Description, Tags) {
        let tags = Tags {
            name: self.name.map(String::into_boxed_str),
            labels: self.labels.map(|labels| {
                let pairs = labels.into_iter();
                pairs
                    .map(|(key, value)| (key.into(), value.into()))
                    .collect()
            }),
        };
        let description = Description {
            command: self.command,
            args: self.args,
            cwd: self.cwd,
            tty: self.tty,
            interactive: self.interactive,
            created_at: UnixMs(self.created_at_ms),
        };
        (description, tags)
    }
}

impl Kept {
    /// Writes to these records.
    pub(crate) fn new(records: Arc<Records>) -> Self {
        Self {
            records,
            next: Cell::new(0),
        }
    }

    /// What is written down.
    pub(crate) fn records(&self) -> &Arc<Records> {
        &self.records
    }

    /// A job begins. None if there is no room to write it down.
    pub(super) fn begin(&self, job: JobId, kind: Kind) -> Option<RecordId> {
        self.records.set_last_job(job.0);
        self.records.begin(job, number_of(kind), &self.next)
    }

    /// A job is listed, or what is told of it has changed.
    pub(super) fn write_down(&self, arena: &Arena, process: &mut Process) {
        let Some(record) = process.record.filter(|_| process.is_listed()) else {
            return;
        };
        #[cfg(debug_assertions)]
        if variant::has_more() {
            self.records.set_next(record, process.id.0);
        }
        let written = Written::new(&process.description, process.tags());
        #[cfg(debug_assertions)]
        let written = written.of_variant();
        let text = serde_json::to_vec(&written).unwrap_or_default();
        let before = self.records.text(record);
        if let Some(block) = arena.blocks().write_text(&text)
            && let Ok(bytes) = u32::try_from(text.len())
        {
            self.records.set_text(record, Text { block, bytes });
            if let Some(before) = before {
                arena
                    .blocks()
                    .free_text(before.block, before.bytes as usize);
            }
        }
        self.write_down_log(arena, process);
        self.note(record, process);
        self.records.set_id(record, process.id);
    }

    /// Another server is to find the log of a job.
    pub(super) fn write_down_log(&self, arena: &Arena, process: &mut Process) {
        let Some(record) = process.record else {
            return;
        };
        if let Some(log_max) = process.extras.get().and_then(|extras| extras.log_max) {
            self.records.set_log_max(record, log_max);
        }
        if let Some(cell) = process.log.cell(arena) {
            self.records.set_cell(record, cell.number());
        }
    }

    /// Something has happened to a job.
    pub(super) fn note(&self, record: RecordId, process: &Process) {
        if let State::Over { end, at, .. } = process.life.state()
            && self.records.end(record).is_none()
        {
            self.records.set_end(record, pack(end), at.0);
        }
    }

    /// A job is gone for clients; what somebody waits for is still there.
    pub(super) fn unlist(&self, process: &Process) {
        if let Some(record) = process.record {
            self.records.set_id(record, ProcessId(0));
        }
    }

    /// A job is gone, before anything that is led to from its record.
    pub(super) fn forget(&self, arena: &Arena, process: &Process) {
        let Some(record) = process.record else {
            return;
        };
        let text = self.records.text(record);
        self.records.io_is_done(record);
        if let Some(text) = text {
            arena.blocks().free_text(text.block, text.bytes as usize);
        }
    }

    /// Notes which descriptor an end of a job is.
    pub(super) fn name(
        &self,
        process: &Process,
        end: crate::ledger::records::End,
        fd: i32,
    ) -> Option<Named> {
        Some(self.records.name(process.record?, end, fd))
    }

    /// The jobs that a server which is gone has left, by what is written down; each of at most
    /// `log_max` bytes of log. Runs that somebody waited for, and starts that had not come to a
    /// process, are not among them. What is damaged is told, and not gone on with. Slots that are `held`
    /// are another program's for what runs have written.
    pub(super) fn go_on(
        &self,
        arena: &mut Arena,
        log_max: u64,
        held: impl Iterator<Item = u32>,
    ) -> (Vec<Process>, Keys, Vec<Lost>) {
        let records = &self.records;
        let mut lost: Vec<Lost> = Vec::new();
        let (damaged, all_are) = records.damaged();
        if all_are {
            lost.push(Lost::numbers());
        }
        for record in damaged {
            lost.push(Lost::whole(records, record, "its state is none"));
            records.give_up(record);
        }
        let mut recovery = Recovery::begin(arena);
        recovery.holds(held);
        let mut processes = Vec::new();
        let mut keys = Keys::default();
        let (mut jobs, mut ids) = (HashSet::new(), HashSet::new());
        let all: Vec<RecordId> = records.iter().collect();
        for record in all {
            if records.kind(record) == KEY {
                let text = records.text(record);
                match text.and_then(|text| recovery.text(text.block, text.bytes)) {
                    Some(text) => keys.texts.push((record, text)),
                    None => {
                        lost.push(Lost::part(records, record, "the key of a request is lost"));
                        records.io_is_done(record);
                    }
                }
                continue;
            }
            let checked = self.check(record, &mut jobs, &mut ids);
            if let Err(why) = checked {
                lost.push(Lost::whole(records, record, why));
                records.give_up(record);
                continue;
            }
            if records.pid(record).is_none() {
                keys.not_begun.insert(records.job(record));
            }
            if records.goes_on(record) {
                processes.extend(self.resumed(&mut recovery, record, &mut lost));
            } else if !records.is_io_done(record) {
                records.io_is_done(record);
            }
        }
        let last_job = processes.iter().map(|of| of.job.0).max();
        let last_id = processes.iter().map(|of| of.id.0).max();
        if !records.goes_on_behind(last_job, last_id) {
            lost.push(Lost::numbers());
        }
        let unentered = recovery.finish();
        if let Some(read) = unentered {
            let is_it = |process: &&mut Process| {
                let cell = process.record.and_then(|record| records.cell(record));
                cell == Some(read.cell.number())
            };
            if let Some(process) = processes.iter_mut().find(is_it) {
                let own = process.extras.get().and_then(|extras| extras.log_max);
                let limit = own.map_or(log_max, |own| own.min(log_max));
                process.log.enter_read(arena, read, UnixMs::now().0, limit);
            }
        }
        (processes, keys, lost)
    }

    /// What is wrong with a record, that no other one may be like.
    fn check(
        &self,
        record: RecordId,
        jobs: &mut HashSet<JobId>,
        ids: &mut HashSet<ProcessId>,
    ) -> Result<(), &'static str> {
        let records = &self.records;
        records.check(record)?;
        if !(1..KEY).contains(&records.kind(record)) {
            return Err("its kind is none");
        }
        let end = records.end(record).map_or(0, |(end, _)| end);
        if end != 0 && pack(unpack(end)) != end {
            return Err("its end is none");
        }
        if !jobs.insert(records.job(record)) {
            return Err("its job is another one's");
        }
        match records.id(record) {
            Some(id) if !ids.insert(id) => Err("its id is another one's"),
            _ => Ok(()),
        }
    }

    /// Writes down a key; what was `before` goes when that is done. None if there is no room: then
    /// that stays.
    pub(super) fn write_key(
        &self,
        arena: &Arena,
        before: Option<RecordId>,
        text: &[u8],
    ) -> Option<RecordId> {
        let record = self.records.begin(JobId(0), KEY, &self.next)?;
        self.records.supervisor_is_done(record);
        let written = arena.blocks().write_text(text);
        let bytes = u32::try_from(text.len()).ok();
        let Some((block, bytes)) = written.zip(bytes) else {
            self.records.io_is_done(record);
            return None;
        };
        self.records.set_text(record, Text { block, bytes });
        // Until now both were there.
        if let Some(before) = before {
            self.forget_key(arena, before);
        }
        Some(record)
    }

    /// A key is gone.
    pub(super) fn forget_key(&self, arena: &Arena, record: RecordId) {
        let text = self.records.text(record);
        self.records.io_is_done(record);
        if let Some(text) = text {
            arena.blocks().free_text(text.block, text.bytes as usize);
        }
    }

    fn resumed(
        &self,
        recovery: &mut Recovery<'_>,
        record: RecordId,
        lost: &mut Vec<Lost>,
    ) -> Option<Process> {
        let records = &self.records;
        let text = records.text(record);
        let text = text.and_then(|text| recovery.text(text.block, text.bytes));
        let written = text.and_then(|text| serde_json::from_slice::<Written>(&text).ok());
        // What is not listed has none.
        if written.is_none() && records.id(record).is_some() {
            let which = "what its process was asked for with is lost";
            lost.push(Lost::part(records, record, which));
        }
        let written = written.unwrap_or_default();
        #[cfg(debug_assertions)]
        let written = {
            if variant::has_more() {
                let id = records.id(record)?.0;
                let numbers = [records.next(record), written.next.unwrap_or_default()];
                let as_written = [id, written.created_at_ms];
                assert!(numbers == [0, 0] || numbers == as_written, "{numbers:?}");
            }
            written.of_variant()
        };
        let (description, tags) = written.read();
        let outputs = records.outputs(record);
        let kind = kind_of(records.kind(record));
        let now = Monotonic::now();
        let state = match records.end(record) {
            Some((end, at)) => State::Over {
                end: unpack(end),
                at: UnixMs(at),
                complete_at: now,
            },
            None => State::Running {
                pid: records.pid(record)?,
            },
        };
        let life = Life::resumed(kind, state, outputs, records.is_handed_over(record));
        let mut process = Process::resumed(records.job(record), life);
        process.record = Some(record);
        // A run has none.
        process.id = records.id(record).unwrap_or(ProcessId(0));
        let cell = records.cell(record).map(CellId::from_number);
        let log = cell.and_then(|cell| recovery.log(cell));
        if log.is_none() && records.id(record).is_some() {
            lost.push(Lost::part(records, record, "its log is lost"));
        }
        process.log = log.unwrap_or_default();
        if description.tty {
            // Of what size it is the terminal itself knows, while there is one.
            let terminal = Terminal::resumed(process.log.first(), WindowSize::default());
            process.extras.make().terminal = Some(Box::new(terminal));
        }
        process.description = description.into();
        if !tags.is_empty() {
            process.extras.make().tags = tags;
        }
        if let Some(log_max) = records.log_max(record) {
            process.extras.make().log_max = Some(log_max);
        }
        Some(process)
    }
}

/// The kind of a record that is a key's.
const KEY: u64 = 4;

fn number_of(kind: Kind) -> u64 {
    match kind {
        Kind::Managed => 1,
        Kind::Run => 2,
        Kind::Recorded => 3,
    }
}

fn kind_of(number: u64) -> Kind {
    match number {
        1 => Kind::Managed,
        3 => Kind::Recorded,
        _ => Kind::Run,
    }
}

/// Reasons that fit into their bits.
const REASONS_MAX: u64 = 3;
const _: () = assert!(ExitReason::ALL.len() as u64 <= REASONS_MAX);

/// Bits: 2 for what kind of end, 2 for the reason, 1 for a signal, 1 for a status, and the number.
pub(super) fn pack(end: End) -> u64 {
    let exit = end.exit();
    let (is_signal, number) = match exit.map(|exit| exit.status) {
        Some(ExitStatus::Code(code)) => (0, code),
        Some(ExitStatus::Signal(signal)) => (1, signal),
        None => (0, 0),
    };
    let reason = exit.and_then(|exit| exit.reason);
    let is_it = |of: &ExitReason| Some(*of) == reason;
    let reason = ExitReason::ALL.iter().position(is_it);
    let reason = reason.map_or(0, |at| at as u64 + 1);
    let kind = match end {
        End::Exited(_) => 1,
        End::TimedOut(_) => 2,
    };
    let has_status = u64::from(exit.is_some());
    u64::from(number.cast_unsigned()) << 6 | has_status << 5 | is_signal << 4 | reason << 2 | kind
}

pub(super) fn unpack(packed: u64) -> End {
    let number = u32::try_from(packed >> 6).unwrap_or_default().cast_signed();
    let status = match packed >> 4 & 1 {
        0 => ExitStatus::Code(number),
        _ => ExitStatus::Signal(number),
    };
    let reason = (packed >> 2 & REASONS_MAX).checked_sub(1);
    // None, too, for one of a later version.
    let reason = reason.and_then(|at| ExitReason::ALL.get(usize::try_from(at).ok()?));
    let reason = reason.copied();
    match packed & 3 {
        2 => End::TimedOut(Some(status).filter(|_| packed >> 5 & 1 == 1)),
        _ => End::Exited(Exit { status, reason }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_read_as_it_was_written() {
        for status in [
            ExitStatus::Code(0),
            ExitStatus::Code(255),
            ExitStatus::Signal(9),
        ] {
            for reason in ExitReason::ALL.map(Some).into_iter().chain([None]) {
                let end = End::Exited(Exit { status, reason });
                assert_eq!(unpack(pack(end)), end);
                assert_ne!(pack(end), 0);
            }
            let end = End::TimedOut(Some(status));
            assert_eq!(unpack(pack(end)), end);
        }
        assert_eq!(unpack(pack(End::TimedOut(None))), End::TimedOut(None));
    }

    #[test]
    fn a_text_of_another_version_is_understood() {
        let older: Written = serde_json::from_str(r#"{"command":"a"}"#).unwrap();
        assert_eq!(older.command, "a");
        let newer = r#"{"command":"a","args":["b"],"colour":[1,{"x":2}],"name":"n"}"#;
        let (description, tags) = serde_json::from_str::<Written>(newer).unwrap().read();
        assert_eq!(
            (description.args, tags.name),
            (vec!["b".to_owned()], Some("n".into()))
        );
    }
}
