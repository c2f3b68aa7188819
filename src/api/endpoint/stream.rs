//! What a streamed run says: its output from the log, and how it ended.
//!
//! In: `Accept` and the fields of the request, then the run's log. Out: whether it is streamed, and
//! lines or events to be sent. Owns what is between two entries: half characters, and how much has
//! been sent. Waits for nothing.

use std::time::Duration;

use crate::log::{Arena, Log};
use crate::process::life::End;
use crate::types::{ProcessId, Stream, Usage};
use crate::wire::json::Lossy;
use crate::wire::say::run::{self, Exit, Format, OutputHead};

/// Bytes of one piece, about: what is encoded and sent in one go.
pub(crate) const PIECE_BYTES: usize = 192 << 10;

/// How a run is streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// How the objects are sent.
    pub format: Format,
    /// Output is sent as text, not as base64.
    pub as_text: bool,
    /// Bytes that are sent of each stream.
    pub max: u64,
}

impl Form {
    /// As events, or as lines.
    pub(crate) fn new(as_events: bool, as_text: bool, max: u64) -> Self {
        let format = match as_events {
            true => Format::Events,
            false => Format::Lines,
        };
        Self {
            format,
            as_text,
            max,
        }
    }

    /// Whether as events.
    pub(crate) fn as_events(self) -> bool {
        self.format == Format::Events
    }
}

/// What was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The last entry of it.
    pub sequence: u64,
    /// Bytes of the entries, sent or not.
    pub bytes: u64,
}

/// A stream under way; see the module.
#[derive(Debug)]
pub(crate) struct Streamed {
    form: Form,
    /// The entry that comes next.
    next: u64,
    stdout: Output,
    stderr: Output,
}

/// One stream of the run.
#[derive(Debug, Default)]
struct Output {
    written: u64,
    sent: u64,
    text: Lossy,
    /// The last entry that something was sent of.
    last: Option<OutputHead>,
}

/// How far a stream has come, for another server that goes on with it.
#[derive(Clone, Debug)]
pub(crate) struct Position {
    /// How it is sent.
    pub form: Form,
    /// The entry that comes next.
    pub next: u64,
    /// How far the standard output and error have come.
    pub outputs: [Passed; 2],
}

/// How far one output has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Bytes that were written.
    pub written: u64,
    /// Bytes of those that were sent.
    pub sent: u64,
    /// The beginning of a character whose end has not come.
    pub held: Vec<u8>,
    /// The number and the time of the last entry that something was sent of.
    pub last: Option<(u64, u64)>,
}

impl Output {
    fn passed(&self) -> Passed {
        Passed {
            written: self.written,
            sent: self.sent,
            held: self.text.held().to_vec(),
            last: self.last.map(|head| (head.sequence, head.timestamp_ms)),
        }
    }

    fn resumed(passed: &Passed, stream: Stream) -> Self {
        let head = |(sequence, timestamp_ms)| OutputHead {
            sequence,
            stream,
            timestamp_ms,
        };
        Self {
            written: passed.written,
            sent: passed.sent,
            text: Lossy::holding(&passed.held),
            last: passed.last.map(head),
        }
    }
}

impl Streamed {
    /// How its objects are sent.
    pub(crate) fn format(&self) -> Format {
        self.form.format
    }

    /// How far it has come.
    pub(crate) fn position(&self) -> Position {
        Position {
            form: self.form,
            next: self.next,
            outputs: [&self.stdout, &self.stderr].map(Output::passed),
        }
    }

    /// One that has come so far.
    pub(crate) fn resumed(position: &Position) -> Self {
        let [stdout, stderr] = &position.outputs;
        Self {
            form: position.form,
            next: position.next,
            stdout: Output::resumed(stdout, Stream::Stdout),
            stderr: Output::resumed(stderr, Stream::Stderr),
        }
    }

    /// A stream from the beginning of a log.
    pub(crate) fn new(form: Form) -> Self {
        Self {
            form,
            next: 1,
            stdout: Output::default(),
            stderr: Output::default(),
        }
    }

    /// Appends that the program runs; `id` if it is listed.
    pub(crate) fn start(&self, pid: i32, id: Option<ProcessId>, out: &mut Vec<u8>) {
        run::write_start(self.form.format, pid, id, out);
    }

    /// Whether all entries up to this one have been taken.
    pub(crate) fn has_passed(&self, sequence: u64) -> bool {
        self.next > sequence
    }

    /// Appends what has come, at most up to `end`, until `out` has [`PIECE_BYTES`]. None if there
    /// is nothing new.
    pub(crate) fn take(
        &mut self,
        log: &Log,
        arena: &Arena,
        end: Option<u64>,
        out: &mut Vec<u8>,
    ) -> Option<Taken> {
        let end = end.unwrap_or(u64::MAX);
        let mut taken = None;
        for entry in log.from(self.next) {
            if entry.sequence > end || out.len() >= PIECE_BYTES {
                break;
            }
            let head = OutputHead {
                sequence: entry.sequence,
                stream: entry.stream,
                timestamp_ms: entry.timestamp_ms,
            };
            self.output(&head, log.bytes(arena, &entry), out);
            self.next = entry.sequence + 1;
            let taken = taken.get_or_insert(Taken {
                sequence: 0,
                bytes: 0,
            });
            taken.sequence = entry.sequence;
            taken.bytes += entry.len as u64;
        }
        taken
    }

    fn output(&mut self, head: &OutputHead, data: &[u8], out: &mut Vec<u8>) {
        let Form {
            format,
            as_text,
            max,
        } = self.form;
        let of = match head.stream {
            Stream::Stderr => &mut self.stderr,
            Stream::Stdout | Stream::Pty => &mut self.stdout,
        };
        of.written += data.len() as u64;
        let room = usize::try_from(max.saturating_sub(of.sent)).unwrap_or(usize::MAX);
        let data = &data[..data.len().min(room)];
        if data.is_empty() {
            return;
        }
        of.sent += data.len() as u64;
        of.last = Some(*head);
        // A line is as long as its text at least; the buffer is grown once for most of them.
        out.reserve(data.len() * 4 / 3 + 160);
        match as_text {
            true => run::write_text(format, head, &mut of.text, data, out),
            false => run::write_base64(format, head, data, out),
        }
    }

    /// Appends how it ended, after `duration`; `id` if it has just become a record, `usage` if that
    /// was asked for.
    pub(crate) fn exit(
        &mut self,
        end: End,
        duration: Duration,
        (id, usage): (Option<ProcessId>, Option<Usage>),
        out: &mut Vec<u8>,
    ) {
        for of in [&mut self.stdout, &mut self.stderr] {
            // Where the output was cut a character may have been, too: that is not the program's.
            let is_whole = of.sent == of.written;
            if let Some(head) = of.last.filter(|_| is_whole) {
                run::write_last_text(self.form.format, &head, &mut of.text, out);
            }
        }
        let outputs = [&self.stdout, &self.stderr];
        let exit = Exit {
            status: end.status(),
            timed_out: matches!(end, End::TimedOut(_)),
            duration_ms: duration.as_millis(),
            written: outputs.map(|of| of.written),
            truncated: outputs.map(|of| of.sent < of.written),
            id,
            usage,
            reason: end.exit().and_then(|exit| exit.reason),
        };
        run::write_exit(self.form.format, &exit, out);
    }
}

/// How an answer may be sent by what `Accept` names (RFC 9110, 12.5.1); None is JSON, whole. Lines
/// win over events, and JSON over both if the client says that it prefers it.
pub(crate) fn format<'a>(accept: impl Iterator<Item = &'a [u8]>) -> Option<Format> {
    let (mut lines, mut events, mut whole) = (0, 0, 0);
    for range in accept.flat_map(|value| value.split(|byte| *byte == b',')) {
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let quality = parts.find_map(quality).unwrap_or(QUALITY_MAX);
        let is = |format: Format| name.eq_ignore_ascii_case(format.content_type().as_bytes());
        let of = if is(Format::Lines) {
            &mut lines
        } else if is(Format::Events) {
            &mut events
        } else if name.eq_ignore_ascii_case(b"application/json") {
            &mut whole
        } else {
            continue;
        };
        *of = quality.max(*of);
    }
    match (lines, events) {
        (0, 0) => None,
        _ if whole > lines.max(events) => None,
        (0, _) => Some(Format::Events),
        _ => Some(Format::Lines),
    }
}

pub(in crate::api) const QUALITY_MAX: u16 = 1000;

/// The value of a `q` in thousandths; None of another parameter, or of one that is malformed.
pub(in crate::api) fn quality(parameter: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(parameter).ok()?;
    let value = text
        .strip_prefix("q=")
        .or_else(|| text.strip_prefix("Q="))?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let is_number = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths = format!("{fraction:0<3}").parse::<u16>().ok()?;
    match whole {
        "0" if is_number => Some(thousandths),
        "1" if is_number && thousandths == 0 => Some(QUALITY_MAX),
        _ => None,
    }
}

/// Whether output is sent as text, by the `outputEncoding` of a request.
pub(in crate::api) fn as_text(encoding: Option<&str>) -> Result<bool, crate::api::Problem> {
    match encoding {
        None | Some("base64") => Ok(false),
        Some("utf8" | "text") => Ok(true),
        Some(_) => Err(crate::api::Problem::invalid(
            "outputEncoding must be one of: base64, utf8, text",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ExitStatus;

    #[test]
    fn the_stream_that_accept_names_is_sent_and_nothing_else_is_one() {
        let of = |text: &str| format(text.lines().map(str::as_bytes));
        for text in [
            "",
            "*/*",
            "text/*",
            "application/json",
            "application/json, text/plain",
            "text/event-stream;q=0",
            "text/event-stream;q=0.0, application/x-ndjson; q=0.000",
            "application/x-ndjson2",
            "application/json, text/event-stream;q=0.9",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
        for text in [
            "text/event-stream",
            "Text/Event-Stream; charset=utf-8",
            "*/*;q=0.1,text/event-stream",
            "application/json, text/event-stream",
            "application/json\ntext/event-stream",
            "application/json;q=0.5, text/event-stream;q=0.6",
            "text/event-stream;q=bad",
            "application/x-ndjson;q=0, text/event-stream;q=0.001",
        ] {
            assert_eq!(of(text), Some(Format::Events), "{text}");
        }
        for text in [
            "application/x-ndjson",
            "text/event-stream, application/x-ndjson",
            "text/event-stream, application/x-ndjson;q=0.1",
            "text/event-stream\r\napplication/X-NDJSON",
        ] {
            assert_eq!(of(text), Some(Format::Lines), "{text}");
        }
    }

    struct Run {
        arena: Arena,
        log: Log,
        streamed: Streamed,
    }

    impl Run {
        fn new(as_text: bool, max: u64) -> Self {
            let form = Form {
                format: Format::Lines,
                as_text,
                max,
            };
            Self {
                arena: Arena::new().unwrap(),
                log: Log::default(),
                streamed: Streamed::new(form),
            }
        }

        fn write(&mut self, stream: Stream, data: &[u8]) {
            self.log
                .append_at(&mut self.arena, data, stream, 5, 1 << 20);
        }

        fn take(&mut self, end: Option<u64>) -> (Option<Taken>, String) {
            let mut out = Vec::new();
            let taken = self.streamed.take(&self.log, &self.arena, end, &mut out);
            (taken, String::from_utf8(out).unwrap())
        }

        fn exit(&mut self) -> String {
            let mut out = Vec::new();
            let end = End::Exited(ExitStatus::Code(0).into());
            self.streamed
                .exit(end, Duration::ZERO, (None, None), &mut out);
            String::from_utf8(out).unwrap()
        }
    }

    fn line(sequence: u64, stream: &str, data: &str, encoding: &str) -> String {
        format!(
            "{{\"type\":\"{stream}\",\"sequence\":{sequence},\"timestampMs\":5,\"data\":\"{data}\",\
             \"encoding\":\"{encoding}\"}}\n"
        )
    }

    #[test]
    fn entries_are_said_once_in_order_and_not_beyond_the_end() {
        let mut run = Run::new(false, u64::MAX);
        assert_eq!(run.take(None), (None, String::new()));
        run.write(Stream::Stdout, b"hi\n");
        run.write(Stream::Stderr, b"no\n");
        run.write(Stream::Stdout, b"of others");
        let said = line(1, "stdout", "aGkK", "base64") + &line(2, "stderr", "bm8K", "base64");
        let taken = Taken {
            sequence: 2,
            bytes: 6,
        };
        assert_eq!(run.take(Some(2)), (Some(taken), said));
        assert!(run.streamed.has_passed(2));
        assert_eq!(run.take(Some(2)).0, None);
        assert!(run.exit().contains("\"stdoutBytes\":3,\"stderrBytes\":3"));
    }

    #[test]
    fn a_held_back_character_has_the_number_of_the_read_that_completes_it() {
        let mut run = Run::new(true, u64::MAX);
        run.write(Stream::Stdout, b"\xf0\x9f");
        run.write(Stream::Stderr, b"e");
        run.write(Stream::Stdout, b"\x98\x80\xe2");
        let said = line(2, "stderr", "e", "utf8") + &line(3, "stdout", "\u{1f600}", "utf8");
        assert_eq!(run.take(None).1, said);
        // Another server goes on.
        run.streamed = Streamed::resumed(&run.streamed.position());
        // It is never completed.
        let exit = run.exit();
        assert!(
            exit.starts_with(&line(3, "stdout", "\u{fffd}", "utf8")),
            "{exit}"
        );
    }

    #[test]
    fn the_maximum_holds_for_each_stream_and_the_rest_is_counted() {
        let mut run = Run::new(true, 4);
        run.write(Stream::Stdout, "a\u{20ac}".as_bytes());
        run.write(Stream::Stderr, "ab\u{20ac}".as_bytes());
        run.write(Stream::Stderr, b"more");
        let said = line(1, "stdout", "a\u{20ac}", "utf8") + &line(2, "stderr", "ab", "utf8");
        let (taken, text) = run.take(None);
        assert_eq!((taken.map(|taken| taken.bytes), text), (Some(13), said));
        let exit = run.exit();
        assert!(exit.starts_with("{\"type\":\"exit\""), "{exit}");
        for part in [
            "\"stdoutBytes\":4,\"stderrBytes\":9",
            "\"stdoutTruncated\":false,\"stderrTruncated\":true",
        ] {
            assert!(exit.contains(part), "{exit}");
        }
    }
}
