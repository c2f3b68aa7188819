//! Log entries as JSON, and as the SSE event that carries them.
//!
//! In: what an entry is and its raw bytes. Out: JSON with the bytes in base64, written
//! straight into the caller's buffer. Knows no log and no follower.
//!
//! This is the hot path of every fetch and follow: nothing is allocated but room in
//! `out`, and that once. The `*_len` functions say how much will be written, so that a
//! caller can frame a chunk before it encodes.

use crate::wire::{base64, decimal, json};

/// What a log entry says beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryHead<'a> {
    /// Its number in the log of its process, from 1.
    pub sequence: u64,
    /// `stdout`, `stderr` or `pty`.
    pub stream: &'a str,
    /// When it arrived, in Unix milliseconds.
    pub timestamp_ms: u64,
}

const SEQUENCE: &[u8] = b"{\"sequence\":";
const STREAM: &[u8] = b",\"stream\":";
const TIMESTAMP: &[u8] = b",\"timestampMs\":";
const DATA: &[u8] = b",\"data\":\"";
const ENCODING: &[u8] = b"\",\"encoding\":\"base64\"}";

const EVENT: &[u8] = b"event: log\nid: ";
const EVENT_DATA: &[u8] = b"\ndata: ";
const EVENT_END: &[u8] = b"\n\n";

/// Appends the entry as one JSON object on one line.
pub fn write_json(head: &EntryHead<'_>, data: &[u8], out: &mut Vec<u8>) {
    out.reserve(json_len(head, data.len()));
    out.extend_from_slice(SEQUENCE);
    decimal::write(head.sequence, out);
    out.extend_from_slice(STREAM);
    json::write_string(head.stream, out);
    out.extend_from_slice(TIMESTAMP);
    decimal::write(head.timestamp_ms, out);
    out.extend_from_slice(DATA);
    base64::write(data, out);
    out.extend_from_slice(ENCODING);
}

/// How many bytes [`write_json`] appends for `data_len` bytes of data.
#[must_use]
pub fn json_len(head: &EntryHead<'_>, data_len: usize) -> usize {
    const KEYS: usize =
        SEQUENCE.len() + STREAM.len() + TIMESTAMP.len() + DATA.len() + ENCODING.len();
    KEYS + decimal::len(head.sequence)
        + json::string_len(head.stream)
        + decimal::len(head.timestamp_ms)
        + base64::text_len(data_len)
}

/// Appends the entry as one `log` event whose id is the sequence number.
pub fn write_event(head: &EntryHead<'_>, data: &[u8], out: &mut Vec<u8>) {
    out.reserve(event_len(head, data.len()));
    out.extend_from_slice(EVENT);
    decimal::write(head.sequence, out);
    out.extend_from_slice(EVENT_DATA);
    write_json(head, data, out);
    out.extend_from_slice(EVENT_END);
}

/// How many bytes [`write_event`] appends for `data_len` bytes of data.
#[must_use]
pub fn event_len(head: &EntryHead<'_>, data_len: usize) -> usize {
    EVENT.len()
        + decimal::len(head.sequence)
        + EVENT_DATA.len()
        + json_len(head, data_len)
        + EVENT_END.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::Rng;
    use ::base64::Engine as _;
    use ::base64::engine::general_purpose::STANDARD;

    #[test]
    fn an_entry_is_written_as_the_reference_writes_it() {
        let head = EntryHead {
            sequence: 1,
            stream: "stdout",
            timestamp_ms: 1_795_394_513_156,
        };
        let json = r#"{"sequence":1,"stream":"stdout","timestampMs":1795394513156,"data":"b3V0Cg==","encoding":"base64"}"#;
        let mut out = b"[".to_vec();
        write_json(&head, b"out\n", &mut out);
        assert_eq!(out, format!("[{json}").into_bytes());
        out.clear();
        write_event(&head, b"out\n", &mut out);
        assert_eq!(
            out,
            format!("event: log\nid: 1\ndata: {json}\n\n").into_bytes()
        );
    }

    #[test]
    fn lengths_are_exact_and_the_data_comes_back() {
        let mut rng = Rng(4);
        let streams = ["stdout", "stderr", "pty", "", "a\"\u{1}\u{e9}\n"];
        let sizes = (0..300).chain([4095, 4096, 8192, 65_535, 65_536]);
        for size in sizes {
            let data: Vec<u8> = (0..size).map(|_| rng.next() as u8).collect();
            let shift = rng.below(64);
            let head = EntryHead {
                sequence: rng.next() >> shift,
                stream: rng.pick(&streams),
                timestamp_ms: rng.next() >> rng.below(64),
            };
            let mut out = vec![0; rng.below(3)];
            let before = out.len();
            write_json(&head, &data, &mut out);
            assert_eq!(out.len() - before, json_len(&head, size));
            let value: serde_json::Value = serde_json::from_slice(&out[before..]).unwrap();
            assert_eq!(value["sequence"], head.sequence);
            assert_eq!(value["stream"], head.stream);
            assert_eq!(value["timestampMs"], head.timestamp_ms);
            assert_eq!(value["encoding"], "base64");
            let text = value["data"].as_str().unwrap();
            assert_eq!(STANDARD.decode(text).unwrap(), data);
            out.clear();
            write_event(&head, &data, &mut out);
            assert_eq!(out.len(), event_len(&head, size));
        }
    }

    #[test]
    fn room_is_made_once() {
        let head = EntryHead {
            sequence: u64::MAX,
            stream: "stderr",
            timestamp_ms: u64::MAX,
        };
        let mut out = Vec::new();
        write_event(&head, &[7; 65_536], &mut out);
        // Growing a second time would have doubled it.
        assert!(out.capacity() < 2 * out.len() - 1000);
    }
}
