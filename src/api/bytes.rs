//! A log as bytes: what is sent, and what is said before it.
//!
//! In: what [`super::logs`] and [`super::raw`] decide. Out: [`Bytes`], which `io` carries out.
//! Knows no socket; a step at a time is decided by the walk.

use crate::log::{LastLines, Walk};
use crate::process::Process;
use crate::types::{Monotonic, ProcessId, StreamFilter, UnixMs};
use crate::wire::say::lines::TimedLines;

use super::problem::Problem;
use super::query::LogsQuery;
use super::reply::Reply;
use super::{Core, Outcome};

/// Bytes of a log on their way to a client.
#[derive(Debug)]
pub(crate) struct Bytes {
    /// Of which process.
    pub id: ProcessId,
    /// The head of the answer.
    pub reply: Reply,
    /// How many bytes there are, if that is known.
    pub length: Option<u64>,
    /// Where they are.
    pub walk: Walk,
    /// It goes on until the exit.
    pub follow: bool,
    /// Where they begin is still to be found: at the last lines.
    pub last_lines: Option<LastLines>,
    /// Each line begins with its time.
    pub times: Option<TimedLines>,
}

/// When a stream that has delivered everything is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Now.
    Now,
    /// At this time, if nothing comes before.
    At(Monotonic),
    /// Not before something happens.
    Open,
}

impl Bytes {
    /// Whether more can come for somebody who has everything there is.
    pub(crate) fn over(&self, process: &Process, now: Monotonic, wall: UnixMs) -> Over {
        if !self.follow || process.life.is_complete(now) {
            return Over::Now;
        }
        let until_ms = self.walk.select().until_ms;
        if until_ms <= wall.0 {
            return Over::Now;
        }
        let complete = process.life.complete_at();
        // A clock that is set back is looked at again.
        let until = (until_ms < u64::MAX)
            .then(|| now + std::time::Duration::from_millis((until_ms - wall.0).min(3_600_000)));
        match (complete, until) {
            (Some(at), Some(until)) => Over::At(at.min(until)),
            (Some(at), None) | (None, Some(at)) => Over::At(at),
            (None, None) => Over::Open,
        }
    }
}

/// A log as text.
///
/// # Errors
/// 404.
pub(super) fn text(
    id: ProcessId,
    query: &LogsQuery,
    timestamps: bool,
    core: &Core<'_>,
) -> Result<Outcome, Problem> {
    let process = core.table.get(id).ok_or(id)?;
    let (log, select) = (&process.log, query.select);
    let mut walk = Walk::new(log, select).after(query.since);
    if !query.follow {
        walk = walk.up_to(log.last());
    }
    let last_lines = query
        .tail
        .map(|count| LastLines::new(select, query.since, log.last(), count));
    // In a terminal everything is one stream.
    let mixed = select.streams == StreamFilter::Combined && !process.description.tty;
    let mut reply = Reply::new(200)
        .typed("text/plain; charset=utf-8", Vec::new())
        .header("cache-control", "no-store")
        .header("x-accel-buffering", "no");
    let dropped = log.dropped_bytes_of(select.streams);
    if dropped > 0 {
        reply = reply.header("procring-dropped-bytes", dropped.to_string());
    }
    Ok(Outcome::Bytes(Box::new(Bytes {
        id,
        reply,
        length: None,
        walk,
        follow: query.follow,
        last_lines,
        times: timestamps.then(|| TimedLines::new(mixed)),
    })))
}
