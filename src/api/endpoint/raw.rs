//! `GET /v1/processes/{id}/logs/raw`: the bytes of a log, all of them, a range, or from an offset.
//!
//! In: what is asked for. Out: what is sent, 304 or 416. Offsets count from the first byte that the
//! stream ever had, so a byte keeps its offset when those before it are evicted.

use crate::log::{Log, Select, Walk};
use crate::process::Process;
use crate::types::{Monotonic, StreamFilter};
use crate::wire::http::range::{Range, if_none_match, if_range};

use super::processes::find;
use crate::api::bytes::Bytes;
use crate::api::problem::Problem;
use crate::api::query::RawQuery;
use crate::api::reply::Reply;
use crate::api::route::Id;
use crate::api::{Core, Outcome};

/// What there is of a stream: from the first offset up to before the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    first: u64,
    end: u64,
}

impl Extent {
    fn of(log: &Log, streams: StreamFilter) -> Self {
        Self {
            first: log.first_offset(streams),
            end: log.end_offset(streams),
        }
    }

    fn refuse(self, at: u64) -> Problem {
        Problem::no_such_range(at, self.first, self.end)
    }

    /// The bytes that a range asks for.
    fn part(self, range: Range) -> Result<std::ops::Range<u64>, Problem> {
        match range {
            Range::From { first, last } => {
                if !(self.first..self.end).contains(&first) {
                    return Err(self.refuse(first));
                }
                let end = last.map_or(self.end, |last| last.saturating_add(1).min(self.end));
                Ok(first..end)
            }
            Range::Suffix(bytes) => {
                let start = self.end.saturating_sub(bytes).max(self.first);
                if start == self.end {
                    return Err(self.refuse(self.end));
                }
                Ok(start..self.end)
            }
        }
    }

    /// Where to begin at an offset; a follower may be ahead of what was written.
    fn from(self, offset: u64, ahead: bool) -> Result<u64, Problem> {
        if offset < self.first || offset > self.end && !ahead {
            return Err(self.refuse(offset));
        }
        Ok(offset)
    }
}

/// Decides how raw logs are answered.
///
/// # Errors
/// 404; 416 for what is not retained.
pub(crate) fn raw(id: &Id, query: &RawQuery, core: &mut Core<'_>) -> Result<Outcome, Problem> {
    let process = find(id, core)?;
    let complete = process.life.is_complete(Monotonic::now());
    let extent = Extent::of(&process.log, query.streams);
    let etag = complete.then(|| etag(process, query.streams, extent));
    let reply = described(extent, etag.as_deref());
    if let Some(etag) = &etag
        && !query.follow
        && if_none_match(query.if_none_match.iter().map(Vec::as_slice), etag)
    {
        return Ok(Outcome::Reply(Reply {
            status: 304,
            content_type: None,
            ..reply
        }));
    }
    let range = query
        .range
        .filter(|_| if_range(query.if_range.as_deref(), etag.as_deref()));
    let whole = extent.first..extent.end;
    let (offsets, reply) = match (range, query.offset) {
        (Some(range), _) => {
            let part = extent.part(range)?;
            let length = match complete {
                true => extent.end.to_string(),
                false => "*".to_owned(),
            };
            let bounds = format!("bytes {}-{}/{length}", part.start, part.end - 1);
            let reply = Reply {
                status: 206,
                ..reply
            };
            (part, reply.header("content-range", bounds))
        }
        (None, Some(offset)) => {
            let ahead = query.follow && !complete;
            (extent.from(offset, ahead)?..extent.end, reply)
        }
        (None, None) => (whole, reply),
    };
    let walk = Walk::new(&process.log, Select::from(query.streams));
    let (walk, length, reply) = if query.follow {
        let reply = reply
            .header("cache-control", "no-store")
            .header("x-accel-buffering", "no");
        (walk.at(offsets.start..u64::MAX), None, reply)
    } else {
        let length = offsets.end - offsets.start;
        let caching = if complete { "no-cache" } else { "no-store" };
        let reply = reply.header("cache-control", caching);
        (walk.at(offsets), Some(length), reply)
    };
    Ok(Outcome::Bytes(Box::new(Bytes {
        id: process.id,
        reply,
        length,
        walk,
        follow: query.follow,
        last_lines: None,
        times: None,
    })))
}

/// The head of every answer that is no problem.
fn described(extent: Extent, etag: Option<&str>) -> Reply {
    let reply = Reply::new(200)
        .typed("application/octet-stream", Vec::new())
        .header("accept-ranges", "bytes")
        .header("procring-first-offset", extent.first.to_string())
        .header("procring-end-offset", extent.end.to_string());
    match etag {
        Some(etag) => reply.header("etag", etag.to_owned()),
        None => reply,
    }
}

/// Names the bytes of a process that is over. The time of its creation tells it from one that
/// another server called the same.
fn etag(process: &Process, streams: StreamFilter, extent: Extent) -> String {
    let (id, created) = (process.id, process.description.created_at.0);
    let Extent { first, end } = extent;
    format!(
        "\"{id}-{created:x}-{}-{first:x}-{end:x}\"",
        streams.as_str()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: Extent = Extent {
        first: 100,
        end: 200,
    };

    fn from(first: u64, last: impl Into<Option<u64>>) -> Range {
        let last = last.into();
        Range::From { first, last }
    }

    #[test]
    fn a_range_is_what_is_retained_of_it_from_its_first_byte_on() {
        for (range, part) in [
            (from(100, None), 100..200),
            (from(150, 159), 150..160),
            (from(199, 199), 199..200),
            (from(199, 1000), 199..200),
            (from(100, u64::MAX), 100..200),
            (Range::Suffix(1), 199..200),
            (Range::Suffix(100), 100..200),
            (Range::Suffix(101), 100..200),
            (Range::Suffix(u64::MAX), 100..200),
        ] {
            assert_eq!(HELD.part(range), Ok(part), "{range:?}");
        }
        for range in [
            from(0, None),
            from(99, 150),
            from(200, None),
            from(u64::MAX, u64::MAX),
            Range::Suffix(0),
        ] {
            let status = HELD.part(range).map_err(|problem| problem.reply().status);
            assert_eq!(status, Err(416), "{range:?}");
        }
        let empty = Extent { first: 7, end: 7 };
        assert!(empty.part(Range::Suffix(5)).is_err() && empty.part(from(7, None)).is_err());
    }

    #[test]
    fn an_offset_may_be_the_end_and_a_follower_s_beyond_it() {
        assert_eq!(HELD.from(100, false), Ok(100));
        assert_eq!(HELD.from(200, false), Ok(200));
        assert!(HELD.from(201, false).is_err() && HELD.from(99, true).is_err());
        assert_eq!(HELD.from(u64::MAX, true), Ok(u64::MAX));
    }

    #[test]
    fn a_refusal_tells_what_there_is() {
        let reply = HELD.refuse(99).reply();
        let body = String::from_utf8(reply.body.into_owned()).unwrap();
        assert!(
            body.contains(r#""details":{"firstOffset":100,"endOffset":200,"message":"#),
            "{body}"
        );
        let range = reply
            .headers
            .iter()
            .find(|(name, _)| *name == "content-range");
        assert_eq!(range.unwrap().1, "bytes */200");
    }
}
