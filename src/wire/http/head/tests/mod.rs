//! Heads that are read, heads that are refused, and that the split never matters.

mod fields;
mod framing;
mod limits;
mod request_line;

use super::*;
use crate::wire::testing::for_each_split;

/// Everything a head says, comparable.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Read {
    method: Method,
    target: String,
    http_minor: u8,
    host: Option<String>,
    body: BodyFraming,
    close: bool,
    expects_continue: bool,
    headers: Vec<(String, Vec<u8>)>,
    used: usize,
}

fn read(head: &Head<'_>, used: usize) -> Read {
    Read {
        method: head.method(),
        target: head.target().to_owned(),
        http_minor: head.http_minor(),
        host: head.host().map(str::to_owned),
        body: head.body(),
        close: head.close(),
        expects_continue: head.expects_continue(),
        headers: head
            .headers
            .iter()
            .map(|header| (header.name.to_owned(), header.value.to_vec()))
            .collect(),
        used,
    }
}

/// Feeds a growing slice, as a connection would; `None` where the head never ends.
fn feed(parts: &[&[u8]], limits: &HeadLimits) -> Result<Option<Read>, HeadError> {
    let mut scan = HeadScan::default();
    let mut seen = Vec::new();
    for part in parts {
        seen.extend_from_slice(part);
        if let Parsed::Done { value, used } = parse_head(&seen, &mut scan, limits)? {
            assert!(!scan.started(), "the scan is ready for the next head");
            return Ok(Some(read(&value, used)));
        }
    }
    Ok(None)
}

/// The result of `input`, after checking that it is the same at every split.
fn every_way_within(input: &[u8], limits: &HeadLimits) -> Result<Option<Read>, HeadError> {
    let whole = feed(&[input], limits);
    for_each_split(input, |parts| {
        assert_eq!(feed(parts, limits), whole, "{}", input.escape_ascii());
    });
    whole
}

fn every_way(input: &[u8]) -> Result<Option<Read>, HeadError> {
    every_way_within(input, &HeadLimits::default())
}

fn accepted(input: &[u8]) -> Read {
    match every_way(input) {
        Ok(Some(read)) => read,
        other => panic!("{}: {other:?}", input.escape_ascii()),
    }
}

/// A request with these field lines after `Host: h`.
fn with_fields(fields: &[u8]) -> Vec<u8> {
    [b"POST / HTTP/1.1\r\nHost: h\r\n", fields, b"\r\n\r\n"].concat()
}
