//! A one-shot run: what it wrote, up to the cap, and how it ended.
//!
//! In: bytes read into the captures, the end. Out: whether it can be answered. Knows no timer; the
//! supervisor keeps its deadline.

use std::time::Instant;

use crate::log::capture::Capture;
use crate::log::{Arena, Log};
use crate::types::{ExitStatus, SpawnError, Stream};

use super::notify::Notify;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// By itself or by a signal from elsewhere.
    Exited(ExitStatus),
    /// By its deadline. The status is missing if it would not die in time.
    TimedOut(Option<ExitStatus>),
    /// It never began.
    NotStarted(SpawnError),
}

/// A run that has not been answered yet.
#[derive(Debug)]
pub struct Run {
    /// What it wrote to its standard output.
    pub stdout: Capture,
    /// What it wrote to its standard error.
    pub stderr: Capture,
    /// How it ended, once it has.
    pub end: Option<RunEnd>,
    /// When that was, and in milliseconds since the Unix epoch.
    pub ended_at: Option<(Instant, u64)>,
    /// How many of its tree live on after its exit.
    pub left: u32,
    /// Pipes that have not reached their end.
    pub open_pipes: u8,
    /// Tells of every change but output.
    pub changed: Notify,
}

impl Run {
    /// A run that keeps `cap` bytes of each stream.
    pub fn new(cap: u64) -> Self {
        Self {
            stdout: Capture::new(cap),
            stderr: Capture::new(cap),
            end: None,
            ended_at: None,
            left: 0,
            open_pipes: 2,
            changed: Notify::default(),
        }
    }

    /// The capture of a stream.
    pub fn capture(&mut self, stream: Stream) -> &mut Capture {
        match stream {
            Stream::Stderr => &mut self.stderr,
            Stream::Stdout | Stream::Pty => &mut self.stdout,
        }
    }

    /// One of its pipes has reached its end.
    pub fn pipe_ended(&mut self) {
        self.open_pipes = self.open_pipes.saturating_sub(1);
        self.changed.notify();
    }

    /// It has ended.
    pub fn ended(&mut self, end: RunEnd, now: Instant, now_ms: u64) {
        self.end.get_or_insert(end);
        self.ended_at.get_or_insert((now, now_ms));
        self.changed.notify();
    }

    /// So many of its tree live on.
    pub fn leaves(&mut self, left: u32) {
        self.left = left;
        self.changed.notify();
    }

    /// Moves what it wrote into a log of at most `limit` bytes: first what went to its standard
    /// output, then what went to its standard error, since nothing tells the order of the two.
    pub fn take_log(&mut self, arena: &mut Arena, now_ms: u64, limit: u64) -> Log {
        let mut log = Log::default();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let capture = self.capture(stream);
            log.lost(capture.lost());
            for taken in capture.take(arena) {
                log.adopt(arena, taken, stream, now_ms, limit);
            }
        }
        log
    }

    /// Gives its slots back.
    pub fn release(&mut self, arena: &mut Arena) {
        self.stdout.release(arena);
        self.stderr.release(arena);
    }
}
