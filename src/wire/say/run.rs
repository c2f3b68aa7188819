//! A run as a stream: JSON objects, one a line or one an event; and as one answer, of which the
//! caller writes the texts.
//!
//! In: what has happened. Out: its line or event, or what stands around the texts, appended to the
//! caller's buffer. Knows no run and no log.

use crate::types::{self, ExitReason, ExitStatus, ProcessId, Stream, Usage};
use crate::wire::json::Lossy;
use crate::wire::say::record;
use crate::wire::{base64, decimal, json};

/// How the objects are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// One a line.
    Lines,
    /// As server-sent events that are named by their type.
    Events,
}

impl Format {
    /// The media type of the whole.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Format::Lines => "application/x-ndjson",
            Format::Events => "text/event-stream",
        }
    }

    /// Appends what stands before an object, and the beginning of it.
    fn begin(self, kind: &str, id: Option<u64>, out: &mut Vec<u8>) {
        if self == Format::Events {
            out.extend_from_slice(b"event: ");
            out.extend_from_slice(kind.as_bytes());
            if let Some(id) = id {
                out.extend_from_slice(b"\nid: ");
                decimal::write(id, out);
            }
            out.extend_from_slice(b"\ndata: ");
        }
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.push(b'"');
    }

    /// Appends the end of an object, and what stands behind it. JSON has no line breaks of its own.
    fn end(self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self {
            Format::Lines => b"}\n",
            Format::Events => b"}\n\n",
        });
    }
}

/// What an output says beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutputHead {
    /// Its number.
    pub sequence: u64,
    /// Where it came from.
    pub stream: Stream,
    /// When, in Unix milliseconds.
    pub timestamp_ms: u64,
}

impl OutputHead {
    fn begin(&self, format: Format, out: &mut Vec<u8>) {
        format.begin(self.stream.as_str(), Some(self.sequence), out);
        out.extend_from_slice(b",\"sequence\":");
        decimal::write(self.sequence, out);
        out.extend_from_slice(b",\"timestampMs\":");
        decimal::write(self.timestamp_ms, out);
        out.extend_from_slice(b",\"data\":\"");
    }
}

/// The program runs.
pub(crate) fn write_start(format: Format, pid: i32, id: Option<ProcessId>, out: &mut Vec<u8>) {
    format.begin("start", None, out);
    out.extend_from_slice(format!(",\"pid\":{pid}").as_bytes());
    write_id(id, out);
    format.end(out);
}

/// It has written this.
pub(crate) fn write_base64(format: Format, head: &OutputHead, data: &[u8], out: &mut Vec<u8>) {
    head.begin(format, out);
    base64::write(data, out);
    out.extend_from_slice(b"\",\"encoding\":\"base64\"");
    format.end(out);
}

/// It has written this, as text that goes on from what was written before. Nothing is appended if
/// all of it is held back: `data` is part of a character.
pub(crate) fn write_text(
    format: Format,
    head: &OutputHead,
    text: &mut Lossy,
    data: &[u8],
    out: &mut Vec<u8>,
) {
    write_with(format, head, out, |out| text.write(data, out));
}

/// What is held back of its text will not be completed.
pub(crate) fn write_last_text(
    format: Format,
    head: &OutputHead,
    text: &mut Lossy,
    out: &mut Vec<u8>,
) {
    write_with(format, head, out, |out| text.end(out));
}

fn write_with(
    format: Format,
    head: &OutputHead,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let before = out.len();
    head.begin(format, out);
    let empty = out.len();
    write(out);
    if out.len() == empty {
        return out.truncate(before);
    }
    out.extend_from_slice(b"\",\"encoding\":\"utf8\"");
    format.end(out);
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// How its process ended, if it did.
    pub status: Option<ExitStatus>,
    /// Its time was over.
    pub timed_out: bool,
    /// Milliseconds.
    pub duration_ms: u128,
    /// Bytes that it wrote, to standard output and standard error.
    pub written: [u64; 2],
    /// Whether not all of them were sent.
    pub truncated: [bool; 2],
    /// The record that it has become, if it has just become one.
    pub id: Option<ProcessId>,
    /// What it used, where that was asked for.
    pub usage: Option<Usage>,
    /// Why its process ended, where its status does not tell.
    pub reason: Option<ExitReason>,
}

impl Exit {
    /// `exitCode`
    fn code(&self) -> String {
        let code = self.status.and_then(ExitStatus::code);
        let code = code.filter(|_| !self.timed_out);
        code.map_or_else(|| "null".to_owned(), |code| code.to_string())
    }

    /// Appends the keys that an end and an answer have in common: the last ones.
    fn write_last(&self, out: &mut Vec<u8>) {
        write_id(self.id, out);
        if let Some(usage) = &self.usage {
            record::write_usage(usage, out);
        }
        if let Some(status) = self.status {
            let reason = self.reason;
            record::write_exit(types::Exit { status, reason }, out);
        }
    }
}

/// As one answer: what stands before its texts.
pub(crate) fn begin_answer(exit: &Exit) -> Vec<u8> {
    let (code, timed_out) = (exit.code(), exit.timed_out);
    format!("{{\"exitCode\":{code},\"timedOut\":{timed_out}").into_bytes()
}

/// Appends what stands before a text: its key, and the quote that opens it. A quote closes it.
pub(crate) fn begin_text(key: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":\"");
}

/// Appends what stands behind the first two texts; with the bytes of each where that is wanted.
pub(crate) fn write_truncated(exit: &Exit, tells_bytes: bool, out: &mut Vec<u8>) {
    let [stdout, stderr] = exit.truncated;
    let flags = format!(
        ",\"stdoutTruncated\":{stdout},\"stderrTruncated\":{stderr},\"durationMs\":{}",
        exit.duration_ms
    );
    out.extend_from_slice(flags.as_bytes());
    if tells_bytes {
        let [stdout, stderr] = exit.written;
        let written = format!(",\"stdoutBytes\":{stdout},\"stderrBytes\":{stderr}");
        out.extend_from_slice(written.as_bytes());
    }
}

/// Appends what stands behind all texts.
pub(crate) fn end_answer(exit: &Exit, out: &mut Vec<u8>) {
    exit.write_last(out);
    out.push(b'}');
}

/// It has ended.
pub(crate) fn write_exit(format: Format, exit: &Exit, out: &mut Vec<u8>) {
    format.begin("exit", None, out);
    let code = exit.code();
    let text = format!(
        ",\"exitCode\":{code},\"timedOut\":{},\"durationMs\":{},\"stdoutBytes\":{},\
         \"stderrBytes\":{},\"stdoutTruncated\":{},\"stderrTruncated\":{}",
        exit.timed_out,
        exit.duration_ms,
        exit.written[0],
        exit.written[1],
        exit.truncated[0],
        exit.truncated[1],
    );
    out.extend_from_slice(text.as_bytes());
    exit.write_last(out);
    format.end(out);
}

fn write_id(id: Option<ProcessId>, out: &mut Vec<u8>) {
    if let Some(id) = id {
        out.extend_from_slice(b",\"processId\":");
        json::write_string(&id.to_string(), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: OutputHead = OutputHead {
        sequence: 7,
        stream: Stream::Stderr,
        timestamp_ms: 1_795_394_513_156,
    };

    fn written(write: impl Fn(Format, &mut Vec<u8>)) -> [String; 2] {
        [Format::Lines, Format::Events].map(|format| {
            let mut out = Vec::new();
            write(format, &mut out);
            String::from_utf8(out).unwrap()
        })
    }

    #[test]
    fn an_object_is_a_line_or_an_event_of_its_type() {
        let [line, event] = written(|format, out| write_start(format, 4711, None, out));
        assert_eq!(line, "{\"type\":\"start\",\"pid\":4711}\n");
        assert_eq!(event, format!("event: start\ndata: {line}\n"));
        let [line, event] = written(|format, out| write_base64(format, &HEAD, b"hi\n", out));
        assert_eq!(
            line,
            "{\"type\":\"stderr\",\"sequence\":7,\"timestampMs\":1795394513156,\"data\":\"aGkK\",\
             \"encoding\":\"base64\"}\n"
        );
        assert_eq!(event, format!("event: stderr\nid: 7\ndata: {line}\n"));
    }

    #[test]
    fn a_character_is_sent_when_it_is_whole_and_a_part_of_one_says_nothing() {
        let mut text = Lossy::default();
        let mut say = |data: &[u8]| {
            let mut out = Vec::new();
            write_text(Format::Lines, &HEAD, &mut text, data, &mut out);
            let line: Option<serde_json::Value> = serde_json::from_slice(&out).ok();
            line.map(|line| line["data"].as_str().unwrap().to_owned())
        };
        assert_eq!(say(b"a\n\xf0\x9f").as_deref(), Some("a\n"));
        assert_eq!(say(b"\x98"), None);
        assert_eq!(say(b"\x80\"").as_deref(), Some("\u{1f600}\""));
        assert_eq!(say(b"\xff\xe2").as_deref(), Some("\u{fffd}"));
        let mut out = Vec::new();
        write_last_text(Format::Lines, &HEAD, &mut text, &mut out);
        assert!(
            String::from_utf8(out)
                .unwrap()
                .contains("\"data\":\"\u{fffd}\"")
        );
        let mut out = Vec::new();
        write_last_text(Format::Lines, &HEAD, &mut text, &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn the_keys_of_an_exit_stand_in_their_order() {
        let exit = Exit {
            status: Some(ExitStatus::Code(3)),
            timed_out: false,
            duration_ms: 12,
            written: [3, 0],
            truncated: [false, true],
            id: None,
            usage: None,
            reason: None,
        };
        let [line, event] = written(|format, out| write_exit(format, &exit, out));
        assert_eq!(
            line,
            "{\"type\":\"exit\",\"exitCode\":3,\"timedOut\":false,\"durationMs\":12,\
             \"stdoutBytes\":3,\"stderrBytes\":0,\"stdoutTruncated\":false,\
             \"stderrTruncated\":true}\n"
        );
        assert_eq!(event, format!("event: exit\ndata: {line}\n"));
        let killed = Exit {
            status: Some(ExitStatus::Signal(9)),
            timed_out: true,
            id: Some(ProcessId(5)),
            ..exit
        };
        let [line, _] = written(|format, out| write_exit(format, &killed, out));
        assert!(
            line.contains("\"exitCode\":null,\"timedOut\":true"),
            "{line}"
        );
        assert!(
            line.ends_with(",\"processId\":\"proc_5\",\"signal\":\"SIGKILL\"}\n"),
            "{line}"
        );
    }
}
