//! `GET /v1/processes/{id}/logs`: as JSON, at once or when there is an entry, or where to begin
//! following.

use std::cmp::Ordering;

use crate::log::index::Entry;
use crate::log::{Arena, Cursor, Log, Select, Snapshot};
use crate::process::Process;
use crate::types::{Monotonic, ProcessId};
use crate::wire::say::entry::{self, EntryHead};
use crate::wire::say::lists::{self, Page};

use super::processes::find;
use crate::api::problem::Problem;
use crate::api::query::{Format, LogsQuery};
use crate::api::reply::Reply;
use crate::api::route::Id;
use crate::api::{Core, Outcome, bytes};

/// Decides how a log request is answered.
///
/// # Errors
/// 404; 410 for a reader of a log that is not this one.
pub(crate) fn logs(id: &Id, query: &LogsQuery, core: &mut Core<'_>) -> Result<Outcome, Problem> {
    let process = find(id, core)?;
    let log = &process.log;
    if query.follow && query.format == Format::Json {
        if let Some(seen) = query.resumed
            && process.life.is_complete(Monotonic::now())
        {
            match seen.cmp(&log.last()) {
                Ordering::Less => {}
                // Tells an EventSource to stop reconnecting.
                Ordering::Equal => return Ok(Outcome::Reply(Reply::new(204))),
                Ordering::Greater => return Err(Problem::stale_cursor(seen, log.last())),
            }
        }
        let cursor = match query.tail {
            Some(count) => Cursor::tail(log, query.select, query.since, count),
            None => Cursor::after(log, query.select, query.since),
        };
        return Ok(Outcome::Follow {
            id: process.id,
            cursor,
        });
    }
    if let Format::Text { timestamps } = query.format {
        return bytes::text(process.id, query, timestamps, core);
    }
    let mut query = *query;
    if let Some(offset) = query.offset {
        // Before the entry that holds it.
        query.since = log.entry_at(offset, query.select.streams).saturating_sub(1);
    }
    if query.wait.is_some() {
        return Ok(Outcome::AwaitEntry(Box::new(AwaitEntry {
            id: process.id,
            query,
            looked_at: query.since,
        })));
    }
    answer(process.id, &query, core)
}

/// The entries that are there, in one object.
///
/// # Errors
/// 404.
pub(crate) fn answer(
    id: ProcessId,
    query: &LogsQuery,
    core: &mut Core<'_>,
) -> Result<Outcome, Problem> {
    let process = core.table.get(id).ok_or(id)?;
    let log = &process.log;
    let start = match query.tail {
        Some(count) => log.start_of_tail(&query.select, query.since, count),
        None => query.since.saturating_add(1),
    };
    let end = page_end(log, query, start);
    let matching = || {
        let entries = log.from(start).take_while(|entry| entry.sequence <= end);
        entries.filter(|entry| query.select.matches(entry))
    };
    let lengths = matching().map(|entry| entry::json_len(&head(&entry), entry.len) + 1);
    // One comma less than entries, if there are any.
    let entries_len = lengths.sum::<usize>().saturating_sub(1);
    let before = lists::begin_entries(process.id, query.select.streams);
    let mut page = Page::default();
    if log.dropped_bytes() > 0 {
        page.lost = Some((log.first(), log.dropped_bytes()));
    }
    if query.wait.is_some() || query.bytes_max.is_some() {
        let next = end.max(query.since);
        let exited = process.life.is_complete(Monotonic::now()) && next >= log.last();
        page.next = Some((next, exited));
    }
    if query.offset.is_some() {
        let streams = query.select.streams;
        let (first, end) = (log.first_offset(streams), log.end_offset(streams));
        page.offsets = Some((log.offset_of(start, streams), first, end));
    }
    let after = page.end();
    let body_len = before.len() + entries_len + after.len();
    if body_len > WHOLE_BYTES_MAX {
        let Some((process, arena)) = core.table.get_mut(id) else {
            return Err(id.into());
        };
        let snapshot = process.log.snapshot(arena, start, end);
        return Ok(Outcome::Fetch(Fetch {
            body_len,
            before,
            after,
            snapshot,
            select: query.select,
            at: 0,
            first: true,
        }));
    }
    let mut out = before;
    out.reserve_exact(entries_len + after.len());
    for (i, entry) in matching().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        entry::write_json(
            &head(&entry),
            log.bytes(core.table.arena(), &entry),
            &mut out,
        );
    }
    out.extend_from_slice(&after);
    Ok(Outcome::Reply(Reply::json(out)))
}

/// The number of the last entry that is looked at: the one before the first that would make the
/// answer too long. One that is wanted is always among them.
fn page_end(log: &Log, query: &LogsQuery, start: u64) -> u64 {
    let Some(max) = query.bytes_max else {
        return log.last();
    };
    let mut left = Some(max);
    for entry in log.from(start) {
        if query.select.matches(&entry) {
            let whole = left == Some(max);
            left = left.and_then(|left| left.checked_sub(entry.len as u64));
            match left {
                Some(_) => {}
                // Alone it is more than is wanted.
                None if whole => return entry.sequence,
                None => return entry.sequence - 1,
            }
        }
    }
    log.last()
}

/// A client that waits for an entry.
#[derive(Debug)]
pub(crate) struct AwaitEntry {
    /// Of which process.
    pub id: ProcessId,
    /// What it asked for.
    pub query: LogsQuery,
    /// No entry up to this one is what it wants.
    looked_at: u64,
}

/// What somebody finds who waits for an entry.
#[derive(Debug)]
pub(crate) enum Awaited {
    /// The answer can be given: there is an entry, or there will never be one.
    Ready,
    /// There was much to look at, and more is left.
    More,
    /// Nothing yet; at the latest there is an answer at this time, if there is one.
    Nothing(Option<Monotonic>),
}

impl AwaitEntry {
    /// Looks at what has come since it last looked.
    pub(crate) fn look(&mut self, process: &Process, now: Monotonic) -> Awaited {
        // Of no entries none can be waited for.
        if self.query.tail == Some(0) {
            return Awaited::Ready;
        }
        let log = &process.log;
        for entry in log
            .from(self.looked_at.saturating_add(1))
            .take(LOOKED_AT_MAX)
        {
            if self.query.select.matches(&entry) {
                return Awaited::Ready;
            }
            self.looked_at = entry.sequence;
        }
        if self.looked_at < log.last() {
            return Awaited::More;
        }
        if process.life.is_complete(now) {
            return Awaited::Ready;
        }
        Awaited::Nothing(process.life.complete_at())
    }
}

/// Entries that are looked at in one step.
const LOOKED_AT_MAX: usize = 1 << 16;

/// A longer body is written piece by piece, so that a client that reads slowly costs one piece.
const WHOLE_BYTES_MAX: usize = 256 << 10;

/// A long log, as it was when it was asked for, on its way to becoming JSON.
#[derive(Debug)]
pub(crate) struct Fetch {
    /// Bytes of the whole body.
    pub body_len: usize,
    /// The slots it reads; to be released when the answer is over.
    pub snapshot: Snapshot,
    before: Vec<u8>,
    after: Vec<u8>,
    select: Select,
    /// Position of the next entry in the snapshot.
    at: usize,
    /// No entry has been written yet.
    first: bool,
}

impl Fetch {
    /// Appends the next part of the body, about `budget` bytes. False after the last.
    pub(crate) fn piece(&mut self, arena: &Arena, budget: usize, out: &mut Vec<u8>) -> bool {
        out.append(&mut self.before);
        for entry in self.snapshot.from(self.at) {
            if out.len() >= budget {
                return true;
            }
            self.at += 1;
            if self.select.matches(&entry) {
                if !std::mem::replace(&mut self.first, false) {
                    out.push(b',');
                }
                let data = arena.bytes(entry.slot, entry.start, entry.len);
                entry::write_json(&head(&entry), data, out);
            }
        }
        out.append(&mut self.after);
        false
    }
}

fn head(entry: &Entry) -> EntryHead<'static> {
    EntryHead {
        sequence: entry.sequence,
        stream: entry.stream.as_str(),
        timestamp_ms: entry.timestamp_ms,
    }
}
