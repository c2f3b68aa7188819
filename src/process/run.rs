//! A one-shot run: what it wrote, up to the cap, and how it ended.
//!
//! In: bytes read into the captures, the end. Out: whether it can be answered. Knows no timer; the
//! supervisor keeps its deadline.

use crate::log::Arena;
use crate::log::capture::Capture;
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
    pub fn ended(&mut self, end: RunEnd) {
        self.end.get_or_insert(end);
        self.changed.notify();
    }

    /// Gives its slots back.
    pub fn release(&mut self, arena: &mut Arena) {
        self.stdout.release(arena);
        self.stderr.release(arena);
    }
}
