//! Replays `fixtures/requests.tsv` through the parsers: head, then body, whole, in two
//! pieces split anywhere, and byte by byte.

use procring::wire::Parsed;
use procring::wire::http::chunked::ChunkDecoder;
use procring::wire::http::{BodyFraming, HeadLimits, HeadScan, parse_head};

#[path = "fixtures/reader.rs"]
mod reader;
use reader::{Fixture, fixtures};

/// Request bodies of the server: 2 MiB.
const BODY_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// What becomes of a connection's first request when its bytes arrive in pieces that
/// end at `ends`: one of the words of the fixture file.
fn outcome(bytes: &[u8], ends: &[usize]) -> String {
    let mut scan = HeadScan::default();
    let mut ends = ends.iter().copied();
    let (framing, close, mut used) = loop {
        let Some(end) = ends.next() else {
            return "wait".to_owned();
        };
        match parse_head(&bytes[..end], &mut scan, &HeadLimits::default()) {
            Ok(Parsed::Done { value, used }) => break (value.body(), value.close(), used),
            Ok(Parsed::NeedMore) => {}
            Err(error) => return error.status().to_string(),
        }
    };
    match framing {
        BodyFraming::Empty => {}
        BodyFraming::Length(length) => {
            used += usize::try_from(length).expect("small fixtures");
            if used > bytes.len() {
                return "wait".to_owned();
            }
        }
        BodyFraming::Chunked => {
            let mut decoder = ChunkDecoder::new(BODY_BYTES_MAX);
            let mut body = Vec::new();
            // The piece that completed the head may be the last one and hold it all.
            let mut ends = ends.chain([bytes.len()]);
            loop {
                let Some(end) = ends.next() else {
                    return "wait".to_owned();
                };
                match decoder.decode(&bytes[used..end.max(used)], &mut body) {
                    Ok(progress) => used += progress.used,
                    Err(error) => return error.status().to_string(),
                }
                if decoder
                    .decode(b"", &mut body)
                    .is_ok_and(|progress| progress.done)
                {
                    break;
                }
            }
        }
    }
    match (close, used < bytes.len()) {
        (true, _) => "close",
        (false, true) => "more",
        (false, false) => "ok",
    }
    .to_owned()
}

#[test]
fn every_fixture_has_its_outcome_at_every_split() {
    for Fixture {
        name,
        outcome: expected,
        bytes,
    } in fixtures()
    {
        assert_eq!(outcome(&bytes, &[bytes.len()]), expected, "{name}");
        for at in 0..bytes.len() {
            assert_eq!(
                outcome(&bytes, &[at, bytes.len()]),
                expected,
                "{name} at {at}"
            );
        }
        let each: Vec<_> = (0..=bytes.len()).collect();
        assert_eq!(outcome(&bytes, &each), expected, "{name} byte by byte");
    }
}
