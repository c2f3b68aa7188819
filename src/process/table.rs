//! All managed processes: ids, lookup, counts, retention.
//!
//! In: reservations and happenings. Out: records by id, in order. Owns the records and the arena
//! that their logs are in. Knows no socket.
//!
//! - Ids are never reused. A reservation takes an id and a place under the concurrency limit at
//!   the same moment, so that the limit is exact under parallel creates.
//! - Exited records are kept up to a number and a total of log bytes; the oldest goes first, one
//!   whose tree lives on only when there are no others.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::notify::Notify;
use super::state::{Happening, OUTPUT_GRACE, State};
use crate::log::batch::Batches;
use crate::log::{Arena, Log};
use crate::types::{ExitStatus, JobId, ProcessId};

/// Log bytes that exited records hold together, at most: 1 GiB, a hundred full logs.
const EXITED_LOG_BYTES_MAX: u64 = 1 << 30;

/// What a client asked to start; echoed in its record.
#[derive(Clone, Debug)]
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
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: u64,
}

/// The record of one process.
#[derive(Debug)]
pub struct Process {
    /// Its number.
    pub id: ProcessId,
    /// What the supervisor calls it.
    pub job: JobId,
    /// What was asked for.
    pub description: Description,
    /// Where it is in its life.
    pub state: State,
    /// What it wrote.
    pub log: Log,
    /// What event-stream followers share.
    pub events: Batches,
    /// What terminal viewers share.
    pub frames: Batches,
    /// Bytes that its log may hold where that is less than the usual limit: what a run may keep.
    pub log_max: Option<u64>,
    /// Output descriptors that have not reached their end.
    pub open_outputs: u8,
    /// How many of its tree live on after its exit.
    pub left: u32,
    /// It was asked to end, so what is left of its tree is most likely about to end, too.
    pub told_to_end: bool,
    /// Tells of new output, of every change of state or of `left`, and of the end of outputs.
    pub changed: Notify,
    /// Log bytes that the table counts for this record; 0 until it has exited.
    counted_bytes: u64,
}

impl Process {
    /// Whether no more output is to be expected: exited, and every output has ended or the grace
    /// for that is over.
    pub fn is_over(&self, now: Instant) -> bool {
        match self.state {
            State::Exited { over_at, .. } => self.open_outputs == 0 || now >= over_at,
            _ => false,
        }
    }

    /// How many of its tree live on, as far as clients are told: after its exit, and after a
    /// moment if it was asked to end.
    pub fn descendants(&self, now: Instant) -> Option<u32> {
        match self.state {
            State::Exited { over_at, .. } if !self.told_to_end || now >= over_at => {
                Some(self.left).filter(|&left| left > 0)
            }
            _ => None,
        }
    }

    /// Notes how many of its tree live on. Tells who waits.
    pub fn leaves(&mut self, left: u32) {
        self.left = left;
        self.changed.notify();
    }

    /// Moves its state, if `what` can happen now. Tells who waits.
    pub fn happen(&mut self, what: Happening, now: Instant, now_ms: u64) -> bool {
        match self.state.after(what, now, now_ms) {
            Some(state) => {
                self.state = state;
                self.changed.notify();
                true
            }
            None => false,
        }
    }
}

/// A run that has left living descendants and becomes a record for that.
#[derive(Debug)]
pub struct Leftover {
    /// What the supervisor calls it.
    pub job: JobId,
    /// What was asked for.
    pub description: Description,
    /// How it ended.
    pub status: ExitStatus,
    /// When, and in milliseconds since the Unix epoch.
    pub ended_at: (Instant, u64),
    /// What it wrote.
    pub log: Log,
    /// Bytes that its log may hold.
    pub log_max: u64,
    /// Output descriptors that have not reached their end.
    pub open_outputs: u8,
    /// How many of its tree live on.
    pub left: u32,
}

/// A record that has made room for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Its number.
    pub id: ProcessId,
    /// What the supervisor calls it.
    pub job: JobId,
    /// It was that of a run, and the only one to tell that some of its tree live on.
    pub leaves_unlisted: bool,
}

/// Every record, and the arena.
#[derive(Debug)]
pub struct Table {
    /// Boxed, because a tree node has room for eleven.
    records: BTreeMap<ProcessId, Box<Process>>,
    arena: Arena,
    last_id: u64,
    /// Processes that are starting, running or draining.
    occupied: u64,
    /// Oldest exit first.
    exited: VecDeque<ProcessId>,
    exited_max: usize,
    /// Runs with living descendants.
    leftovers_max: usize,
    /// Log bytes of all exited records.
    exited_bytes: u64,
}

impl Table {
    /// An empty table that keeps at most `exited_max` exited records, `leftovers_max` of them for
    /// runs with living descendants.
    pub fn new(arena: Arena, exited_max: usize, leftovers_max: usize) -> Self {
        Self {
            records: BTreeMap::new(),
            arena,
            last_id: 0,
            occupied: 0,
            exited: VecDeque::new(),
            exited_max,
            leftovers_max,
            exited_bytes: 0,
        }
    }

    /// Ids begin behind `last`, which may have been given before.
    pub fn begin_behind(&mut self, last: u64) {
        self.last_id = self.last_id.max(last);
    }

    /// The last id that has been taken.
    pub fn last_id(&self) -> u64 {
        self.last_id
    }

    /// Takes an id and a place, if fewer than `limit` processes run.
    pub fn reserve(&mut self, description: Description, limit: u64) -> Option<ProcessId> {
        if self.occupied >= limit {
            return None;
        }
        self.occupied += 1;
        let id = self.take_id();
        let process = Box::new(Process {
            id,
            job: JobId::Process(id),
            description,
            state: State::Starting,
            log: Log::default(),
            events: Batches::default(),
            frames: Batches::default(),
            log_max: None,
            open_outputs: 0,
            left: 0,
            told_to_end: false,
            changed: Notify::default(),
            counted_bytes: 0,
        });
        self.records.insert(id, process);
        Some(id)
    }

    /// The next number, for [`Table::adopt`].
    pub fn take_id(&mut self) -> ProcessId {
        self.last_id += 1;
        ProcessId(self.last_id)
    }

    /// Makes a run that has ended a record under a number that was taken for it. Returns the
    /// records that have made room for it.
    pub fn adopt(&mut self, id: ProcessId, of: Leftover) -> Vec<Dropped> {
        let (ended, at_ms) = of.ended_at;
        let process = Box::new(Process {
            id,
            job: of.job,
            description: of.description,
            state: State::Exited {
                status: of.status,
                at_ms,
                over_at: ended + OUTPUT_GRACE,
            },
            log: of.log,
            events: Batches::default(),
            frames: Batches::default(),
            log_max: Some(of.log_max),
            open_outputs: of.open_outputs,
            left: of.left,
            told_to_end: false,
            changed: Notify::default(),
            counted_bytes: 0,
        });
        self.records.insert(id, process);
        self.exited.push_back(id);
        self.make_room(id)
    }

    /// The oldest run of those with living descendants, if there are too many: its tree is to be
    /// ended. Each is named once.
    pub fn surplus_leftover(&mut self) -> Option<Dropped> {
        let leaves = |process: &&Process| {
            matches!(process.job, JobId::Run(_)) && process.left > 0 && !process.told_to_end
        };
        let records = self.exited.iter().filter_map(|id| self.records.get(id));
        let mut leftovers = records.map(Box::as_ref).filter(leaves);
        let oldest = leftovers.next()?.id;
        if leftovers.count() < self.leftovers_max {
            return None;
        }
        let process = self.records.get_mut(&oldest)?;
        process.told_to_end = true;
        Some(Dropped {
            id: oldest,
            job: process.job,
            leaves_unlisted: false,
        })
    }

    /// Gives a reservation back; its id stays used.
    pub fn cancel(&mut self, id: ProcessId) {
        if let Some(process) = self.records.remove(&id) {
            self.occupied = self.occupied.saturating_sub(1);
            process.changed.notify();
        }
    }

    /// The record that clients may see.
    pub fn get(&self, id: ProcessId) -> Option<&Process> {
        self.records
            .get(&id)
            .map(Box::as_ref)
            .filter(|p| p.state != State::Starting)
    }

    /// Any record, also one that is starting, with the arena its log is in.
    pub fn get_mut(&mut self, id: ProcessId) -> Option<(&mut Process, &mut Arena)> {
        Some((self.records.get_mut(&id)?, &mut self.arena))
    }

    /// The records that clients may see, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        let records = self.records.values().map(Box::as_ref);
        records.filter(|p| p.state != State::Starting)
    }

    /// The arena.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// The arena, for captures of runs.
    pub fn arena_mut(&mut self) -> &mut Arena {
        &mut self.arena
    }

    /// Notes that a process has become exited, and drops the oldest exited records that are too
    /// many. Returns those.
    pub fn retire(&mut self, id: ProcessId) -> Vec<Dropped> {
        self.occupied = self.occupied.saturating_sub(1);
        self.exited.push_back(id);
        self.make_room(id)
    }

    fn make_room(&mut self, id: ProcessId) -> Vec<Dropped> {
        self.recount(id);
        let mut dropped = Vec::new();
        while self.exited.len() > self.exited_max.max(1)
            || (self.exited_bytes > EXITED_LOG_BYTES_MAX && self.exited.len() > 1)
        {
            let Some(oldest) = self.dispensable() else {
                break;
            };
            dropped.extend(self.records.get(&oldest).map(|process| Dropped {
                id: oldest,
                job: process.job,
                leaves_unlisted: matches!(process.job, JobId::Run(_)) && process.left > 0,
            }));
            self.remove(oldest);
        }
        dropped
    }

    /// The oldest exited record whose tree is gone, or the oldest of all; not the newest, which
    /// nobody has had the time to look at.
    fn dispensable(&self) -> Option<ProcessId> {
        let older = || self.exited.iter().copied().rev().skip(1).rev();
        let gone = |id: &ProcessId| self.records.get(id).is_none_or(|p| p.left == 0);
        older().find(gone).or_else(|| older().next())
    }

    /// Counts the log of an exited record anew: what it left running may write on.
    pub fn recount(&mut self, id: ProcessId) {
        if let Some(process) = self.records.get_mut(&id) {
            let bytes = process.log.retained_bytes();
            self.exited_bytes = self.exited_bytes - process.counted_bytes + bytes;
            process.counted_bytes = bytes;
        }
    }

    /// Removes an exited record and its log; followers are told.
    pub fn remove(&mut self, id: ProcessId) {
        self.exited.retain(|exited| *exited != id);
        if let Some(mut process) = self.records.remove(&id) {
            self.exited_bytes -= process.counted_bytes;
            process.log.clear(&mut self.arena);
            process.changed.notify();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Stream;

    fn describe() -> Description {
        Description {
            command: "true".into(),
            args: vec![],
            cwd: None,
            tty: false,
            interactive: false,
            created_at_ms: 0,
        }
    }

    fn exit(table: &mut Table, id: ProcessId) -> Vec<ProcessId> {
        let (process, _) = table.get_mut(id).unwrap();
        let now = Instant::now();
        assert!(process.happen(Happening::Spawned { pid: 1 }, now, 0));
        assert!(process.happen(Happening::Ended(ExitStatus::Code(0)), now, 0));
        assert!(process.happen(Happening::Drained, now, 0));
        table.retire(id).into_iter().map(|of| of.id).collect()
    }

    #[test]
    fn the_limit_counts_what_is_starting_and_frees_its_place_on_exit_or_failure() {
        let mut table = Table::new(Arena::new().unwrap(), 10, 2);
        let a = table.reserve(describe(), 2).unwrap();
        let b = table.reserve(describe(), 2).unwrap();
        assert_eq!(table.reserve(describe(), 2), None);
        table.cancel(a);
        let c = table.reserve(describe(), 2).unwrap();
        assert_eq!(c, ProcessId(3));
        exit(&mut table, b);
        assert!(table.reserve(describe(), 2).is_some());
    }

    #[test]
    fn what_is_starting_is_not_shown() {
        let mut table = Table::new(Arena::new().unwrap(), 10, 2);
        let id = table.reserve(describe(), 2).unwrap();
        assert!(table.get(id).is_none());
        assert_eq!(table.iter().count(), 0);
    }

    fn write(table: &mut Table, id: ProcessId, len: usize) {
        let (process, arena) = table.get_mut(id).unwrap();
        process.log.tail(arena).unwrap()[..len].fill(b'x');
        process.log.commit(arena, len, Stream::Stdout, 0, 1 << 20);
    }

    #[test]
    fn the_bytes_of_exited_logs_are_counted_while_they_grow_and_until_they_go() {
        let mut table = Table::new(Arena::new().unwrap(), 2, 2);
        let ids: Vec<_> = (0..3)
            .map(|_| table.reserve(describe(), 10).unwrap())
            .collect();
        write(&mut table, ids[0], 100);
        assert_eq!(table.exited_bytes, 0, "a running one does not count");
        exit(&mut table, ids[0]);
        write(&mut table, ids[0], 20);
        table.recount(ids[0]);
        write(&mut table, ids[1], 3);
        exit(&mut table, ids[1]);
        assert_eq!(table.exited_bytes, 123);
        exit(&mut table, ids[2]);
        assert_eq!(table.exited_bytes, 3, "the oldest has gone");
        table.remove(ids[1]);
        assert_eq!(table.exited_bytes, 0);
    }

    #[test]
    fn a_record_whose_tree_lives_stays_while_there_are_others() {
        let mut table = Table::new(Arena::new().unwrap(), 2, 2);
        let ids: Vec<_> = (0..5)
            .map(|_| table.reserve(describe(), 10).unwrap())
            .collect();
        let mut exit_and_leave = |n: usize, left| {
            table.get_mut(ids[n]).unwrap().0.leaves(left);
            exit(&mut table, ids[n])
        };
        assert!(exit_and_leave(0, 3).is_empty());
        assert!(exit_and_leave(1, 0).is_empty());
        assert_eq!(exit_and_leave(2, 1), [ids[1]]);
        assert_eq!(exit_and_leave(3, 0), [ids[0]], "all others live");
        table.get_mut(ids[2]).unwrap().0.leaves(0);
        assert_eq!(exit(&mut table, ids[4]), [ids[2]]);
    }

    #[test]
    fn a_run_that_left_something_takes_a_number_and_only_so_many_do() {
        let mut table = Table::new(Arena::new().unwrap(), 10, 2);
        let first = table.reserve(describe(), 10).unwrap();
        let adopt = |table: &mut Table, key| {
            let id = table.take_id();
            let of = Leftover {
                job: JobId::Run(key),
                description: describe(),
                status: ExitStatus::Code(0),
                ended_at: (Instant::now(), 0),
                log: Log::default(),
                log_max: 100,
                open_outputs: 1,
                left: 1,
            };
            assert!(table.adopt(id, of).is_empty());
            id
        };
        let runs = [7, 8].map(|key| adopt(&mut table, key));
        assert_eq!([first, runs[0], runs[1]], [1, 2, 3].map(ProcessId));
        // What a managed process left is not of their number.
        table.get_mut(first).unwrap().0.leaves(1);
        exit(&mut table, first);
        assert_eq!(table.surplus_leftover(), None);
        adopt(&mut table, 9);
        assert_eq!(
            table.surplus_leftover().map(|of| of.job),
            Some(JobId::Run(7))
        );
        assert_eq!(table.surplus_leftover(), None, "each is named once");
        table.get_mut(runs[1]).unwrap().0.leaves(0);
        adopt(&mut table, 10);
        assert_eq!(table.surplus_leftover(), None, "one is gone by itself");
    }

    #[test]
    fn the_oldest_exited_record_goes_first() {
        let mut table = Table::new(Arena::new().unwrap(), 2, 2);
        let ids: Vec<_> = (0..4)
            .map(|_| table.reserve(describe(), 10).unwrap())
            .collect();
        assert!(exit(&mut table, ids[2]).is_empty());
        assert!(exit(&mut table, ids[0]).is_empty());
        assert_eq!(exit(&mut table, ids[1]), [ids[2]]);
        assert!(table.get(ids[2]).is_none() && table.get(ids[0]).is_some());
    }
}
