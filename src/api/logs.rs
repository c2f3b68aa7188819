//! `GET /v1/processes/{id}/logs`: as JSON at once, or where to begin following.

use std::time::Instant;

use crate::log::Cursor;
use crate::wire::entry::{self, EntryHead};
use crate::wire::json;

use super::problem::Problem;
use super::processes::find;
use super::query::LogsQuery;
use super::reply::Reply;
use super::route::Id;
use super::{Core, Outcome};

/// Decides how a log request is answered.
///
/// # Errors
/// 404.
pub fn logs(id: &Id, query: &LogsQuery, core: &Core<'_>) -> Result<Outcome, Problem> {
    let process = find(id, core)?;
    let log = &process.log;
    if query.follow {
        let finished = process.is_over(Instant::now()) && query.since >= log.last();
        if query.resumed && finished {
            // Tells an EventSource to stop reconnecting.
            return Ok(Outcome::Reply(Reply::new(204)));
        }
        let cursor = match query.tail {
            Some(count) => Cursor::tail(log, query.filter, query.since, count),
            None => Cursor::after(log, query.filter, query.since),
        };
        return Ok(Outcome::Follow {
            id: process.id,
            cursor,
        });
    }
    let start = match query.tail {
        Some(count) => log.start_of_tail(query.filter, query.since, count),
        None => query.since.saturating_add(1),
    };
    let matching = || {
        log.from(start)
            .filter(|entry| query.filter.matches(entry.stream))
    };
    let head = |entry: &crate::log::index::Entry| EntryHead {
        sequence: entry.sequence,
        stream: entry.stream.as_str(),
        timestamp_ms: entry.timestamp_ms,
    };
    let size: usize = matching()
        .map(|entry| entry::json_len(&head(&entry), entry.len) + 1)
        .sum();
    let mut out = Vec::with_capacity(size + 160);
    out.extend_from_slice(b"{\"processId\":");
    json::write_string(&process.id.to_string(), &mut out);
    out.extend_from_slice(b",\"stream\":");
    json::write_string(query.filter.as_str(), &mut out);
    out.extend_from_slice(b",\"entries\":[");
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
    out.push(b']');
    if log.dropped_bytes() > 0 {
        let loss = format!(
            ",\"firstSequence\":{},\"droppedBytes\":{}",
            log.first(),
            log.dropped_bytes()
        );
        out.extend_from_slice(loss.as_bytes());
    }
    out.push(b'}');
    Ok(Outcome::Reply(Reply::json(out)))
}

/// The `exit` event's data: how it ended, and the last entry of the log.
pub fn exit_event(status: crate::types::ExitStatus, last_sequence: u64) -> String {
    let code = status
        .code()
        .map_or_else(|| "null".to_owned(), |code| code.to_string());
    match status.signal_name() {
        None => format!("{{\"exitCode\":{code},\"lastSequence\":{last_sequence}}}"),
        Some(signal) => format!(
            "{{\"exitCode\":{code},\"signal\":\"{signal}\",\"lastSequence\":{last_sequence}}}"
        ),
    }
}

/// The `gap` event's data.
pub fn gap_event(gap: &crate::log::cursor::Gap) -> String {
    format!(
        "{{\"from\":{},\"to\":{},\"bytes\":{}}}",
        gap.from, gap.to, gap.bytes
    )
}
