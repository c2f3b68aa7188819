//! Log entries: other parsers read back what was written, and the length was known.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use procring::wire::say::entry::{EntryHead, event_len, json_len, write_event, write_json};

use super::{split_point, take_u64};

/// Checks one input: two numbers, then a stream name and data.
pub fn entry_json(bytes: &[u8]) {
    let (sequence, rest) = take_u64(bytes);
    let (timestamp_ms, rest) = take_u64(rest);
    let (stream, data) = rest.split_at(split_point(rest) % 8.min(rest.len() + 1));
    let stream = String::from_utf8_lossy(stream);
    let head = EntryHead {
        sequence,
        stream: &stream,
        timestamp_ms,
    };

    let mut json = Vec::new();
    write_json(&head, data, &mut json);
    assert_eq!(json.len(), json_len(&head, data.len()));
    let value: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(value.as_object().map(serde_json::Map::len), Some(5));
    assert_eq!(value["sequence"], sequence);
    assert_eq!(value["stream"], *stream);
    assert_eq!(value["timestampMs"], timestamp_ms);
    assert_eq!(value["encoding"], "base64");
    let text = value["data"].as_str().expect("a string");
    assert_eq!(STANDARD.decode(text).as_deref(), Ok(data));

    let mut event = Vec::new();
    write_event(&head, data, &mut event);
    assert_eq!(event.len(), event_len(&head, data.len()));
    let json = String::from_utf8(json).expect("text");
    let expected = format!("event: log\nid: {sequence}\ndata: {json}\n\n");
    assert_eq!(event, expected.as_bytes());
    assert!(!json.contains(['\r', '\n']));
}
