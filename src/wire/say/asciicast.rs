//! A recording of a terminal, asciicast v2: one JSON value a line.
//!
//! In: sizes, output and when it came. Out: lines. Holds back the bytes of a character whose rest
//! has not come.

use crate::types::WindowSize;
use crate::wire::json;

/// Writes one recording.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// The moment that is 0, in Unix milliseconds.
    begun: u64,
    /// Milliseconds since then; never less than before.
    now: u64,
    half: Vec<u8>,
}

impl Recorder {
    /// Appends the first line.
    pub(crate) fn header(&mut self, size: WindowSize, begun: u64, out: &mut Vec<u8>) {
        self.begun = begun;
        let WindowSize { cols, rows } = size;
        let line = format!(
            "{{\"version\":2,\"width\":{cols},\"height\":{rows},\"timestamp\":{}}}\n",
            begun / 1000
        );
        out.extend_from_slice(line.as_bytes());
    }

    /// Appends what was written at `at`.
    pub(crate) fn output(&mut self, at: u64, bytes: &[u8], out: &mut Vec<u8>) {
        self.half.extend_from_slice(bytes);
        let whole = self.half.len() - json::incomplete_tail(&self.half);
        if whole > 0 {
            self.begin(at, 'o', out);
            json::write_string_lossy([&self.half[..whole]].into_iter(), out);
            out.extend_from_slice(b"]\n");
            self.half.drain(..whole);
        }
    }

    /// Appends the size that the terminal has from `at` on.
    pub(crate) fn resized(&mut self, at: u64, size: WindowSize, out: &mut Vec<u8>) {
        let WindowSize { cols, rows } = size;
        self.begin(at, 'r', out);
        out.extend_from_slice(format!("\"{cols}x{rows}\"]\n").as_bytes());
    }

    fn begin(&mut self, at: u64, code: char, out: &mut Vec<u8>) {
        // Clocks are set, and players want to go forward.
        self.now = self.now.max(at.saturating_sub(self.begun));
        let (seconds, millis) = (self.now / 1000, self.now % 1000);
        out.extend_from_slice(format!("[{seconds}.{millis:03},\"{code}\",").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_in_order_whatever_the_clock_says() {
        let (mut recorder, mut out) = (Recorder::default(), Vec::new());
        let size = |cols| WindowSize { cols, rows: 24 };
        recorder.header(size(80), 1_700_000_000_500, &mut out);
        recorder.output(1_700_000_000_500, b"a\x1b[1m\xc3", &mut out);
        recorder.resized(1_700_000_002_000, size(90), &mut out);
        recorder.output(1_700_000_001_000, b"\xa9\xff\n", &mut out);
        recorder.output(1_700_000_003_001, b"\xe2\x82", &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"version\":2,\"width\":80,\"height\":24,\"timestamp\":1700000000}\n\
             [0.000,\"o\",\"a\\u001b[1m\"]\n\
             [1.500,\"r\",\"90x24\"]\n\
             [1.500,\"o\",\"é\u{fffd}\\n\"]\n"
        );
    }
}
