//! Lines of text that begin with the time of their first byte.
//!
//! In: pieces of streams, with the time at which they came. Out: the same bytes, each line behind
//! its time (RFC 3339, UTC, milliseconds) and a space. Owns the beginnings of lines that are not
//! over. Knows no log.
//!
//! A line belongs to its stream. Where two streams are mixed, a line is written when it is whole,
//! as `docker logs` does: what another stream writes meanwhile comes before it, not into it. One
//! of more than [`HELD_MAX`] bytes is not waited for any longer. A stream by itself is written as
//! it comes. Nothing but the times is added: a line that never ends gets no line feed.

use crate::types::Stream;
use crate::wire::rfc3339;

/// Bytes of a line that are waited for, as in Docker's logs.
pub(crate) const HELD_MAX: usize = 16 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct TimedLines {
    /// Lines of several streams may meet.
    mixed: bool,
    lines: [Line; Stream::COUNT],
    /// The last time that was written, and how.
    time: (u64, [u8; rfc3339::LEN]),
}

/// The line that a stream is in.
#[derive(Debug, Default)]
struct Line {
    /// Its beginning, not written yet.
    held: Vec<u8>,
    /// When that came.
    since_ms: u64,
    /// Its time has been written.
    begun: bool,
}

impl TimedLines {
    /// Of one stream, or of several that are mixed.
    pub(crate) fn new(mixed: bool) -> Self {
        Self {
            mixed,
            lines: Default::default(),
            time: (0, rfc3339::of(0)),
        }
    }

    /// Appends to `out` what can be written once `bytes` have come.
    pub(crate) fn write(&mut self, stream: Stream, at_ms: u64, bytes: &[u8], out: &mut Vec<u8>) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let whole = part.ends_with(b"\n");
            let line = &mut self.lines[stream as usize];
            if line.held.is_empty() {
                line.since_ms = at_ms;
            }
            let waits = self.mixed && !whole && !line.begun;
            if waits && line.held.len() + part.len() <= HELD_MAX {
                line.held.extend_from_slice(part);
                continue;
            }
            self.begin(stream, out);
            out.extend_from_slice(part);
            self.lines[stream as usize].begun = !whole;
        }
    }

    /// Appends what is held back: there will be no more. The line that began first comes first.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        let mut streams = [Stream::Stdout, Stream::Stderr, Stream::Pty];
        streams.sort_by_key(|stream| self.lines[*stream as usize].since_ms);
        for stream in streams {
            if !self.lines[stream as usize].held.is_empty() {
                self.begin(stream, out);
            }
        }
    }

    /// Writes what is held of a line, behind its time.
    fn begin(&mut self, stream: Stream, out: &mut Vec<u8>) {
        let line = &mut self.lines[stream as usize];
        if !std::mem::replace(&mut line.begun, true) {
            if self.time.0 != line.since_ms {
                self.time = (line.since_ms, rfc3339::of(line.since_ms));
            }
            out.extend_from_slice(&self.time.1);
            out.push(b' ');
        }
        out.append(&mut std::mem::take(&mut line.held));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Stream::{Stderr, Stdout};

    fn time(ms: u64) -> String {
        format!("1970-01-01T00:00:00.{ms:03}Z ")
    }

    fn written(mixed: bool, pieces: &[(Stream, u64, &str)]) -> String {
        let mut lines = TimedLines::new(mixed);
        let mut out = Vec::new();
        for (stream, at, text) in pieces {
            lines.write(*stream, *at, text.as_bytes(), &mut out);
        }
        lines.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_has_the_time_of_its_first_byte_wherever_it_is_cut() {
        let pieces = [
            (Stdout, 1, "a\nb"),
            (Stdout, 2, "b"),
            (Stdout, 3, "\r\n\nc"),
            (Stdout, 4, ""),
        ];
        let (t1, t3) = (time(1), time(3));
        for mixed in [false, true] {
            assert_eq!(
                written(mixed, &pieces),
                format!("{t1}a\n{t1}bb\r\n{t3}\n{t3}c")
            );
        }
        assert_eq!(written(true, &[]), "");
    }

    #[test]
    fn lines_of_mixed_streams_stay_whole() {
        let pieces = [
            (Stdout, 1, "working... "),
            (Stderr, 2, "warning\nand "),
            (Stdout, 3, "done\nnext"),
            (Stderr, 4, "more\n"),
        ];
        let t = time;
        assert_eq!(
            written(true, &pieces),
            format!(
                "{}warning\n{}working... done\n{}and more\n{}next",
                t(2),
                t(1),
                t(2),
                t(3)
            )
        );
    }

    #[test]
    fn what_never_ends_is_written_in_the_order_of_its_beginning() {
        let pieces = [(Stderr, 1, "first"), (Stdout, 2, "second")];
        let (t1, t2) = (time(1), time(2));
        assert_eq!(written(true, &pieces), format!("{t1}first{t2}second"));
    }

    #[test]
    fn a_long_line_is_not_waited_for_and_has_one_time() {
        let long = "x".repeat(HELD_MAX - 1);
        let mut lines = TimedLines::new(true);
        let mut out = Vec::new();
        lines.write(Stdout, 1, long.as_bytes(), &mut out);
        assert!(out.is_empty());
        lines.write(Stdout, 2, b"yy", &mut out);
        assert_eq!(out.len(), 25 + HELD_MAX + 1);
        lines.write(Stdout, 3, b"zz\nnext", &mut out);
        lines.finish(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, format!("{}{long}yyzz\n{}next", time(1), time(3)));
    }

    #[test]
    fn a_stream_by_itself_is_not_held_back() {
        let mut lines = TimedLines::new(false);
        let mut out = Vec::new();
        lines.write(Stdout, 1, b"prompt> ", &mut out);
        assert_eq!(out, format!("{}prompt> ", time(1)).into_bytes());
    }
}
