//! Answers that hold many things or one inside another: a list of processes, entries of a log, the
//! end of a wait.
//!
//! In: what stands around the things. Out: that text; the things are written by [`record`] and
//! [`entry`](super::entry).

use super::record::{self, Record};
use crate::types::{ProcessId, StreamFilter};
use crate::wire::json;

/// Before the records of a list.
pub(crate) const PROCESSES: &[u8] = b"{\"processes\":[";

/// Appends what stands behind them: where the list goes on, if it does.
pub(crate) fn end_processes(next: Option<ProcessId>, out: &mut Vec<u8>) {
    out.push(b']');
    if let Some(next) = next {
        out.extend_from_slice(format!(",\"nextAfter\":\"{next}\"").as_bytes());
    }
    out.push(b'}');
}

/// Before the entries of a log.
pub(crate) fn begin_entries(of: ProcessId, streams: StreamFilter) -> Vec<u8> {
    let mut out = b"{\"processId\":".to_vec();
    json::write_string(&of.to_string(), &mut out);
    out.extend_from_slice(b",\"stream\":");
    json::write_string(streams.as_str(), &mut out);
    out.extend_from_slice(b",\"entries\":[");
    out
}

/// What stands behind the entries of a log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Page {
    /// The first entry that is retained and the bytes that are not, where some are not.
    pub lost: Option<(u64, u64)>,
    /// Where the next page begins, and whether there will be nothing more.
    pub next: Option<(u64, bool)>,
    /// Where the first of these entries begins, the oldest retained byte, and behind the newest.
    pub offsets: Option<(u64, u64, u64)>,
}

impl Page {
    /// The text.
    pub(crate) fn end(&self) -> Vec<u8> {
        let mut out = b"]".to_vec();
        if let Some((first, dropped)) = self.lost {
            let loss = format!(",\"firstSequence\":{first},\"droppedBytes\":{dropped}");
            out.extend_from_slice(loss.as_bytes());
        }
        if let Some((next, exited)) = self.next {
            let page = format!(",\"nextSince\":{next},\"exited\":{exited}");
            out.extend_from_slice(page.as_bytes());
        }
        if let Some((at, first, end)) = self.offsets {
            let place = format!(",\"offset\":{at},\"firstOffset\":{first},\"endOffset\":{end}");
            out.extend_from_slice(place.as_bytes());
        }
        out.push(b'}');
        out
    }
}

/// The end of a wait: how it came, the process as it is now, and the entry that was waited for.
pub(crate) fn wait(outcome: &str, process: &Record<'_>, sequence: Option<u64>) -> Vec<u8> {
    let mut out = format!("{{\"outcome\":\"{outcome}\",\"process\":").into_bytes();
    record::write(process, &mut out);
    if let Some(sequence) = sequence {
        out.extend_from_slice(format!(",\"sequence\":{sequence}").as_bytes());
    }
    out.push(b'}');
    out
}
