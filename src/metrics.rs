//! What is counted: plain numbers, each written by one thread.
//!
//! In: that something has happened. Out: how often, how much, how long it took. Owns the numbers of
//! the thread that it is called on; the supervisor's are handed over by message when somebody wants
//! to see them. Knows no process, no route and no text format.
//!
//! To count is to add to a number of this thread: no lock, no atomic, no clock but where a duration
//! is what is counted. Nothing is walked when the numbers are read.

use std::cell::Cell;
use std::time::Duration;

/// A number that is counted up, or up and down.
#[derive(Debug, Default)]
pub(crate) struct Counter(Cell<u64>);

impl Counter {
    const fn new() -> Self {
        Self(Cell::new(0))
    }

    /// One more.
    pub(crate) fn inc(&self) {
        self.add(1);
    }

    /// So many more.
    pub(crate) fn add(&self, more: u64) {
        self.0.set(self.0.get().wrapping_add(more));
    }

    /// One less.
    fn dec(&self) {
        self.0.set(self.0.get().saturating_sub(1));
    }

    /// What it is at.
    pub(crate) fn get(&self) -> u64 {
        self.0.get()
    }
}

/// Upper ends of the ranges that durations are counted in, in microseconds. The same for all of
/// them: a spawn takes parts of a millisecond, a request of a client that waits half a minute.
pub(crate) const BOUNDS_US: [u64; 16] = [
    50,
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    5_000_000,
    30_000_000,
    300_000_000,
];

/// Ranges, the last one being without an end.
const RANGES: usize = BOUNDS_US.len() + 1;

/// How many durations were in which range, and their sum; plain data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Durations {
    /// Each range by itself.
    pub counts: [u64; RANGES],
    /// Of all of them.
    pub sum: Duration,
    /// The longest.
    pub longest: Duration,
}

impl Durations {
    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Durations as they are counted.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    counts: [Counter; RANGES],
    sum: Cell<Duration>,
    longest: Cell<Duration>,
}

impl Histogram {
    const fn new() -> Self {
        Self {
            counts: [const { Counter::new() }; RANGES],
            sum: Cell::new(Duration::ZERO),
            longest: Cell::new(Duration::ZERO),
        }
    }

    /// One more.
    pub(crate) fn observe(&self, took: Duration) {
        let us = took.as_secs().saturating_mul(1_000_000);
        let us = us.saturating_add(took.subsec_nanos().div_ceil(1_000).into());
        let range = BOUNDS_US.iter().position(|&bound| us <= bound);
        self.counts[range.unwrap_or(BOUNDS_US.len())].inc();
        self.sum.set(self.sum.get().saturating_add(took));
        self.longest.set(self.longest.get().max(took));
    }

    /// All so far.
    pub(crate) fn get(&self) -> Durations {
        Durations {
            counts: std::array::from_fn(|range| self.counts[range].get()),
            sum: self.sum.get(),
            longest: self.longest.get(),
        }
    }
}

/// How a run ended, for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunResult {
    /// With exit code 0.
    Succeeded,
    /// With another one.
    Failed,
    /// By a signal.
    Signaled,
    /// Its time was over.
    TimedOut,
    /// Its client had gone.
    Abandoned,
    /// There was no program.
    NotStarted,
}

impl RunResult {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::Succeeded,
        Self::Failed,
        Self::Signaled,
        Self::TimedOut,
        Self::Abandoned,
        Self::NotStarted,
    ];

    /// As a label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Signaled => "signaled",
            Self::TimedOut => "timed_out",
            Self::Abandoned => "abandoned",
            Self::NotStarted => "not_started",
        }
    }
}

/// How the program of a process or run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With exit code 0.
    Succeeded,
    /// With another one.
    Failed,
    /// By a signal.
    Signaled,
    /// It was to be ended for its time, and would not die.
    Unknown,
}

impl Ended {
    /// All of them.
    pub(crate) const ALL: [Self; 4] =
        [Self::Succeeded, Self::Failed, Self::Signaled, Self::Unknown];

    /// As a label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Signaled => "signaled",
            Self::Unknown => "unknown",
        }
    }
}

/// Whose program it is: the place in what is counted for each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A managed process's.
    Process,
    /// A run's.
    Run,
}

impl Kind {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Process, Self::Run];

    /// As a label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Run => "run",
        }
    }
}

/// What is counted of the programs of one kind.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    /// Asked for.
    pub starts: Counter,
    /// Those that never ran.
    pub failures: Counter,
    /// Ends, by [`Ended`].
    pub ends: [Counter; Ended::ALL.len()],
}

impl Programs {
    const fn new() -> Self {
        Self {
            starts: Counter::new(),
            failures: Counter::new(),
            ends: [const { Counter::new() }; Ended::ALL.len()],
        }
    }
}

/// What one thread has counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Programs, by [`Kind`].
    pub programs: [Programs; Kind::ALL.len()],
    /// Ends of runs, by [`RunResult`].
    pub runs: [Counter; RunResult::ALL.len()],
    /// From the request for a program to its first byte of output.
    pub first_byte: Histogram,
    /// From when the supervisor heard of an exit to when clients are told.
    pub exit_notice: Histogram,
    /// Bytes that programs have taken as their input.
    pub input_bytes: Counter,
    /// Bytes that were read from programs.
    pub output_bytes: Counter,
    /// Bytes that have left logs for want of room.
    pub evicted_bytes: Counter,
    /// Times that a reader was told that it has missed something.
    pub gaps: Counter,
    /// How much that was.
    pub gap_bytes: Counter,
    /// Bytes from clients.
    pub received_bytes: Counter,
    /// Bytes to clients.
    pub sent_bytes: Counter,
    /// Connections so far.
    pub accepted: Counter,
    /// Event streams of logs now.
    pub followers: Counter,
    /// Viewers of terminals now.
    pub viewers: Counter,
    /// Attached clients now.
    pub attached: Counter,
    /// Event streams of the whole server now.
    pub watchers: Counter,
    /// Streamed runs now.
    pub streamed_runs: Counter,
    /// How long the I/O loop was busy at a time.
    pub turns: Histogram,
}

impl Metrics {
    const fn new() -> Self {
        Self {
            programs: [const { Programs::new() }; Kind::ALL.len()],
            runs: [const { Counter::new() }; RunResult::ALL.len()],
            first_byte: Histogram::new(),
            exit_notice: Histogram::new(),
            input_bytes: Counter::new(),
            output_bytes: Counter::new(),
            evicted_bytes: Counter::new(),
            gaps: Counter::new(),
            gap_bytes: Counter::new(),
            received_bytes: Counter::new(),
            sent_bytes: Counter::new(),
            accepted: Counter::new(),
            followers: Counter::new(),
            viewers: Counter::new(),
            attached: Counter::new(),
            watchers: Counter::new(),
            streamed_runs: Counter::new(),
            turns: Histogram::new(),
        }
    }

    /// Of the programs of this kind.
    pub(crate) fn of(&self, kind: Kind) -> &Programs {
        &self.programs[kind as usize]
    }

    /// A reader is told that so many bytes are gone.
    pub(crate) fn gap(&self, bytes: u64) {
        self.gaps.inc();
        self.gap_bytes.add(bytes);
    }
}

thread_local! {
    /// Made with the thread and without a destructor: using it is an addition to an address.
    static METRICS: Metrics = const { Metrics::new() };
}

/// Counts, or reads, what this thread has counted.
pub(crate) fn metrics<T>(with: impl FnOnce(&Metrics) -> T) -> T {
    METRICS.with(with)
}

/// Somebody who is there now, until dropped.
#[derive(Debug)]
pub(crate) struct Present(fn(&Metrics) -> &Counter);

/// Counts somebody among those who are there now.
pub(crate) fn present(among: fn(&Metrics) -> &Counter) -> Present {
    metrics(|all| among(all).inc());
    Present(among)
}

impl Drop for Present {
    fn drop(&mut self) {
        // At the thread's end nobody looks any more.
        let _ = METRICS.try_with(|all| (self.0)(all).dec());
    }
}

/// What the supervisor has counted; plain data, handed over when somebody asks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SupervisorMetrics {
    /// From the order to start a program until it runs.
    pub spawns: Durations,
    /// How long the supervisor's loop was busy at a time.
    pub turns: Durations,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_range_that_it_ends() {
        let histogram = Histogram::default();
        for us in [0, 50, 51, 30_000_000, 300_000_001] {
            histogram.observe(Duration::from_micros(us));
        }
        let all = histogram.get();
        assert_eq!(all.counts[0], 2);
        assert_eq!(all.counts[1], 1);
        assert_eq!(all.counts[14], 1);
        assert_eq!(all.counts[RANGES - 1], 1);
        assert_eq!(all.count(), 5);
        assert_eq!(all.longest, Duration::from_micros(300_000_001));
        assert_eq!(all.sum, Duration::from_micros(330_000_102));
    }

    #[test]
    fn who_is_there_counts_until_he_goes() {
        let now = || metrics(|all| all.viewers.get());
        let before = now();
        let first = present(|all| &all.viewers);
        let second = present(|all| &all.viewers);
        assert_eq!(now(), before + 2);
        drop(first);
        assert_eq!(now(), before + 1);
        drop(second);
        assert_eq!(now(), before);
    }
}
