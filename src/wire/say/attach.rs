//! What an attached client is sent, as WebSocket frames.
//!
//! In: entries, gaps, the end. Out: whole frames, written straight into the caller's buffer. Data
//! that is UTF-8 is sent as text, other data as base64. Knows no log and no client.

use crate::wire::ws::frame::{Opcode, frame_head, write_frame};
use crate::wire::{base64, decimal, json};

const STREAM: &[u8] = b"{\"type\":\"output\",\"stream\":\"";
const SEQUENCE: &[u8] = b"\",\"sequence\":";
const DATA: &[u8] = b",\"data\":";
const UTF8: &[u8] = b",\"encoding\":\"utf8\"}";
const BASE64: &[u8] = b",\"encoding\":\"base64\"}";

/// Appends an entry as a text frame. `stream` is a name that needs no escape.
pub(crate) fn write_output(stream: &str, sequence: u64, data: &[u8], out: &mut Vec<u8>) {
    let text = std::str::from_utf8(data).ok();
    let (data_len, encoding) = match text {
        Some(text) => (json::string_len(text), UTF8),
        None => (base64::text_len(data.len()) + 2, BASE64),
    };
    let keys = STREAM.len() + SEQUENCE.len() + DATA.len();
    let len = keys + stream.len() + decimal::len(sequence) + data_len + encoding.len();
    begin(Opcode::Text, len, out);
    out.extend_from_slice(STREAM);
    out.extend_from_slice(stream.as_bytes());
    out.extend_from_slice(SEQUENCE);
    decimal::write(sequence, out);
    out.extend_from_slice(DATA);
    match text {
        Some(text) => json::write_string(text, out),
        None => {
            out.push(b'"');
            base64::write(data, out);
            out.push(b'"');
        }
    }
    out.extend_from_slice(encoding);
}

/// Appends an entry as a binary frame of this channel.
pub(crate) fn write_channel(channel: u8, data: &[u8], out: &mut Vec<u8>) {
    begin(Opcode::Binary, data.len() + 1, out);
    out.push(channel);
    out.extend_from_slice(data);
}

/// Begins a frame of `len` bytes, for which it makes room.
fn begin(opcode: Opcode, len: usize, out: &mut Vec<u8>) {
    let mut head = [0; 10];
    let head_len = frame_head(opcode, true, len as u64, &mut head);
    out.reserve(head_len + len);
    out.extend_from_slice(head.get(..head_len).unwrap_or_default());
}

/// The first frame.
pub(crate) fn ready(id: &str) -> Vec<u8> {
    let mut text = b"{\"type\":\"ready\",\"processId\":".to_vec();
    json::write_string(id, &mut text);
    text.push(b'}');
    framed(&text)
}

/// Output that was evicted before it could be sent: entries `from` to `to`, so many bytes.
pub(crate) fn gap(from: u64, to: u64, bytes: u64) -> Vec<u8> {
    let text = format!("{{\"type\":\"gap\",\"from\":{from},\"to\":{to},\"bytes\":{bytes}}}");
    framed(text.as_bytes())
}

/// The last frame but the Close. `signal` is a name that needs no escape.
pub(crate) fn exit(code: Option<i32>, signal: Option<&str>) -> Vec<u8> {
    let code = code.map_or_else(|| "null".to_owned(), |code| code.to_string());
    let signal = signal.map_or_else(String::new, |name| format!(",\"signal\":\"{name}\""));
    framed(format!("{{\"type\":\"exit\",\"exitCode\":{code}{signal}}}").as_bytes())
}

fn framed(text: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(text.len() + 10);
    write_frame(Opcode::Text, text, &mut frame);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::base64::Engine as _;
    use ::base64::engine::general_purpose::STANDARD;
    use serde_json::{Value, json};

    /// The payload of the one frame in `out`.
    fn payload(out: &[u8]) -> (u8, &[u8]) {
        let (start, len) = match out[1] {
            127 => (
                10,
                u64::from_be_bytes(out[2..10].try_into().unwrap()) as usize,
            ),
            126 => (4, usize::from(u16::from_be_bytes([out[2], out[3]]))),
            len => (2, usize::from(len)),
        };
        assert_eq!(
            out.len(),
            start + len,
            "the announced length is the payload's"
        );
        (out[0], &out[start..])
    }

    #[test]
    fn text_is_text_and_everything_else_base64_in_frames_of_the_right_length() {
        let long = "\u{1}\u{e9}\"\\\n".repeat(20_000).into_bytes();
        for data in [
            &b""[..],
            b"line\n",
            "\u{1F600} \u{0}".as_bytes(),
            &b"\xff\xfe"[..],
            &"\u{e9}".as_bytes()[..1],
            &[0x80; 200],
            &long,
        ] {
            let mut out = Vec::new();
            write_output("stdout", 7, data, &mut out);
            let (first, payload) = payload(&out);
            assert_eq!(first, 0x81);
            let value: Value = serde_json::from_slice(payload).unwrap();
            let (text, encoding) = match std::str::from_utf8(data) {
                Ok(text) => (text.to_owned(), "utf8"),
                Err(_) => (STANDARD.encode(data), "base64"),
            };
            let expected = json!({
                "type": "output", "stream": "stdout", "sequence": 7, "data": text,
                "encoding": encoding,
            });
            assert_eq!(value, expected);
        }
    }

    #[test]
    fn a_channel_is_the_first_byte_of_a_binary_frame() {
        for len in [0, 124, 125, 65_534, 65_535] {
            let mut out = Vec::new();
            write_channel(2, &vec![7; len], &mut out);
            let (first, payload) = payload(&out);
            assert_eq!((first, payload[0], payload.len()), (0x82, 2, len + 1));
        }
    }

    #[test]
    fn what_is_not_output_is_json_too() {
        for (frame, expected) in [
            (
                ready("proc_1"),
                json!({"type": "ready", "processId": "proc_1"}),
            ),
            (
                gap(1, 5, 9),
                json!({"type": "gap", "from": 1, "to": 5, "bytes": 9}),
            ),
            (exit(Some(3), None), json!({"type": "exit", "exitCode": 3})),
            (
                exit(None, Some("SIGKILL")),
                json!({"type": "exit", "exitCode": null, "signal": "SIGKILL"}),
            ),
        ] {
            let value: Value = serde_json::from_slice(payload(&frame).1).unwrap();
            assert_eq!(value, expected);
        }
    }
}
