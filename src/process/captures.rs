//! What a run wrote, up to the cap of each stream.
//!
//! In: which stream. Out: its capture, and the log that both become if the run is listed.

use crate::log::capture::{Capture, Keep};
use crate::log::{Arena, Log};
use crate::types::Stream;

/// The captures of a run's two streams.
#[derive(Debug)]
pub(crate) struct Captures {
    /// What it wrote to its standard output.
    pub stdout: Capture,
    /// What it wrote to its standard error.
    pub stderr: Capture,
}

impl Captures {
    /// Keeps `cap` bytes of each stream.
    pub(crate) fn new(keep: Keep, cap: u64) -> Self {
        Self {
            stdout: Capture::new(keep, cap),
            stderr: Capture::new(keep, cap),
        }
    }

    /// The capture of a stream.
    pub(crate) fn of(&mut self, stream: Stream) -> &mut Capture {
        match stream {
            Stream::Stderr => &mut self.stderr,
            Stream::Stdout | Stream::Pty => &mut self.stdout,
        }
    }

    /// Moves what was kept into a log of at most `limit` bytes: first what went to its standard
    /// output, then what went to its standard error, since nothing tells the order of the two.
    pub(crate) fn take_log(&mut self, arena: &mut Arena, now_ms: u64, limit: u64) -> Log {
        let mut log = Log::default();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let capture = self.of(stream);
            let written = capture.written();
            let taken = capture.take(arena);
            let kept: usize = taken.iter().map(|(_, part)| part.len()).sum();
            log.lost(written - kept as u64);
            for piece in taken {
                log.adopt(arena, piece, stream, now_ms, limit);
            }
        }
        log
    }

    /// Gives the slots back.
    pub(crate) fn release(&mut self, arena: &mut Arena) {
        self.stdout.release(arena);
        self.stderr.release(arena);
    }
}
