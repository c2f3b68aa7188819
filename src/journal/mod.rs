//! The server's own log: what happens to it and to what it runs, a line each on standard error.
//!
//! In: an [`Event`]. Out: its line, as far as somebody takes it. Owns what is not written yet, within
//! a bound, and the thread that writes it, so that a full pipe or a slow disk holds up nobody else.
//! What there is no room for is counted, and the count is a line of its own.
//!
//! Rooms that decide hand out events; this is the only place that knows how a line looks. What a
//! process reads or writes, a token and a query string are in no event; arguments are in one, and
//! shown only where the level is `debug`.
//!
//! What can happen as often as a client likes goes through [`Seldom`] first.

mod audit;
mod event;
mod line;
mod queue;
mod seldom;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::config::flags::{LogFormat, LogLevel};
use crate::config::timeouts;
use crate::notice;
use crate::types::UnixMs;

pub(crate) use self::audit::{Act, Audit};
pub(crate) use self::event::{Ended, Event, Job, Refused, Start, Started};
use self::line::{Line, Shape};
use self::queue::{Queue, Sink, Waiting, queue};
pub(crate) use self::seldom::{Offer, Seldom};

/// See the module. Cheap to clone; all clones are the same log.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    level: Arc<AtomicU8>,
    shape: Shape,
    queue: Queue,
}

/// Lines that wait for a thread.
#[derive(Debug)]
pub(crate) struct Unwritten {
    waiting: Waiting,
    shape: Shape,
}

impl Unwritten {
    /// Begins to write, without what another process has written already that began with the same
    /// lines. The thread blocks the signals that its maker blocks.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn begin(self, were_written: bool) -> io::Result<()> {
        if were_written {
            self.waiting.forget();
        }
        let sink = StandardError { shape: self.shape };
        self.waiting.begin("log", sink)
    }
}

/// The descriptor stays as it is: O_NONBLOCK would be seen by all who share it.
struct StandardError {
    shape: Shape,
}

impl Sink for StandardError {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        notice::write_all(lines)
    }

    fn lost(&mut self, lines: u64, _: Option<&io::Error>) -> Option<String> {
        let event = Event::LinesLost { lines };
        Some(self.shape.one(&event))
    }
}

impl Journal {
    /// A log on standard error, and its lines until they have a thread.
    pub(crate) fn new(level: LogLevel, format: LogFormat) -> (Self, Unwritten) {
        let (queue, waiting) = queue();
        let shape = shape(format);
        let journal = Self {
            level: Arc::new(AtomicU8::new(level as u8)),
            shape,
            queue,
        };
        (journal, Unwritten { waiting, shape })
    }

    /// Whether a line of this level is written.
    pub(crate) fn is_on(&self, level: LogLevel) -> bool {
        level as u8 <= self.level.load(Ordering::Relaxed)
    }

    /// The least important level that is written.
    pub(crate) fn level(&self) -> LogLevel {
        LogLevel::of(self.level.load(Ordering::Relaxed))
    }

    /// From now on lines of this level and of more important ones are written.
    pub(crate) fn set_level(&self, level: LogLevel) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    /// Writes the line of an event, if its level is on.
    pub(crate) fn tell(&self, event: &Event<'_>) {
        if self.is_on(event.level()) {
            let (at, level) = (UnixMs::now(), self.level());
            let line = |lines: &mut String| self.shape.line(event, at, level, lines);
            // Refusals and the like come once a second of each kind.
            self.queue.push(event.level() <= LogLevel::Warn, line);
        }
    }

    /// The same at once, as far as somebody takes it: for a process that has no thread for it.
    pub(crate) fn tell_at_once(&self, event: &Event<'_>) {
        if self.is_on(event.level()) {
            notice::raw(self.shape.one(event).as_bytes());
        }
    }

    /// Lines that nobody has got.
    pub(crate) fn lost(&self) -> u64 {
        self.queue.lost()
    }

    /// Waits until what was told is written, or somebody has had the time to take it.
    pub(crate) fn finish(&self) {
        self.queue.finish(timeouts::LAST_LINES);
    }
}

/// Why there is no server, on standard error at once: there may be no thread yet.
pub fn failed(format: LogFormat, why: &dyn std::fmt::Display) {
    match shape(format) {
        // Somebody started it a moment ago and looks at it.
        Shape::Text => notice::line(why),
        shape => {
            let why = why.to_string();
            let event = Event::Failed { why: &why };
            notice::raw(shape.one(&event).as_bytes());
        }
    }
}

fn shape(format: LogFormat) -> Shape {
    match format {
        LogFormat::Text => Shape::Text,
        LogFormat::Json => Shape::Json,
        LogFormat::Journal => Shape::Journal,
        LogFormat::Auto if line::is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref()) => {
            Shape::Journal
        }
        LogFormat::Auto => Shape::Text,
    }
}
