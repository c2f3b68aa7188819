//! How fast the outputs of a process are read, where a request says so (`outputBytesPerSecond`).
//!
//! In: how much was read, and when. Out: how much may be read now, or when to ask again. Owns some
//! numbers. Knows no pipe, no timer and no clock.
//!
//! What is read is paid for with time, of all outputs together (the generic cell rate algorithm). A
//! program that writes faster waits in write(2), since its pipe is not emptied. Time that nobody
//! used is kept for a moment only, so that no second brings much more than the limit.
//!
//! Why these numbers: docs/design/042-output-rate.md

use std::time::Duration;

use crate::types::{Monotonic, Stream};

/// An output that waits is read again when so much time has come together.
const QUANTUM: Duration = Duration::from_millis(20);

/// Time that was not used is kept for so long: what comes a little late, or in pieces, loses nothing
/// of the limit, and a second brings a twentieth more at most.
const KEPT_MAX: Duration = Duration::from_millis(50);

/// The same of an output that waits: it is the reader who comes late then, which takes from one second
/// what it brings in the next.
const LATE_MAX: Duration = Duration::from_millis(100);

/// What may be done with an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Read so many bytes at most, at least 1.
    Read(u64),
    /// Ask again at this time.
    Wait(Monotonic),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: u64,
    /// The time that is used up; None before the first byte.
    used: Option<Monotonic>,
    /// Outputs that are not read now.
    waits: [bool; Stream::COUNT],
    /// A terminal has waited, and not been quiet since: it hands out 4 KiB at a time, and what passes
    /// between two pieces is not its program's time.
    floods: bool,
    /// Which one was read last.
    last: Option<Stream>,
    /// What each output held when the process ended: not paid for.
    free: [u64; Stream::COUNT],
}

impl Rate {
    /// So many bytes in a second, at least 1.
    pub(crate) fn new(per_second: u64) -> Self {
        Self {
            per_second: per_second.max(1),
            used: None,
            waits: [false; Stream::COUNT],
            floods: false,
            last: None,
            free: [0; Stream::COUNT],
        }
    }

    /// Whether an output that has something may be read now.
    pub(crate) fn pace(&mut self, stream: Stream, now: Monotonic) -> Pace {
        let at = stream as usize;
        if self.free[at] > 0 {
            return Pace::Read(self.free[at]);
        }
        let quantum = self.quantum();
        // Where a byte takes longer, it is one.
        let quantum_time = self.time(quantum).max(QUANTUM);
        let unused = self.used.map(|used| now.since(used));
        self.floods &= unused.is_some_and(|unused| unused <= LATE_MAX);
        let is_late = self.waits[at] || stream == Stream::Pty && self.floods;
        let kept = match (unused, is_late) {
            (None, _) => quantum_time,
            (Some(_), false) => quantum_time.max(KEPT_MAX),
            (Some(_), true) => quantum_time.max(LATE_MAX),
        };
        let used = self.used.max(Some(now - kept)).unwrap_or(now);
        self.used = Some(used);
        let bytes = self.bytes(now.since(used));
        // Half is left by another output that waited, too.
        let least = (quantum / 2).max(1);
        self.waits[at] = false;
        let shares = self.waits.contains(&true);
        let until = match bytes < least {
            true => used + self.time(quantum),
            // Too little for two: in turns.
            false if shares && bytes < 2 * least && self.last == Some(stream) => now + QUANTUM,
            false => {
                self.last = Some(stream);
                return Pace::Read(if shares { (bytes / 2).max(1) } else { bytes });
            }
        };
        self.waits[at] = true;
        self.floods |= stream == Stream::Pty;
        Pace::Wait(until)
    }

    /// So much of an output was read.
    pub(crate) fn took(&mut self, stream: Stream, bytes: u64) {
        let free = &mut self.free[stream as usize];
        let paid = bytes.saturating_sub(*free);
        *free = free.saturating_sub(bytes);
        let time = self.time(paid);
        self.used = self.used.map(|used| used + time);
    }

    /// An output is not waited for any more.
    pub(crate) fn leave(&mut self, stream: Stream) {
        self.waits[stream as usize] = false;
    }

    /// The process has ended. What its outputs hold is read at once; what others write later is
    /// not.
    pub(crate) fn end(&mut self, held: [u64; Stream::COUNT]) {
        self.free = held;
    }

    fn quantum(&self) -> u64 {
        self.bytes(QUANTUM).max(1)
    }

    /// What may be read in so much time.
    fn bytes(&self, time: Duration) -> u64 {
        let bytes = time.as_nanos() * u128::from(self.per_second) / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// The time that so many bytes take; not less, or rounding would add up.
    fn time(&self, bytes: u64) -> Duration {
        let nanos = (u128::from(bytes) * 1_000_000_000).div_ceil(self.per_second.into());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Reads an output that always has something, for a while, with timers that fire up to
    /// `late` after their time; how much was read, and when.
    fn read_for(
        rate: &mut Rate,
        seconds: u64,
        late: impl Fn(u64) -> Duration,
    ) -> Vec<(Duration, u64)> {
        let start = Monotonic::now();
        let (mut now, mut reads) = (start, Vec::new());
        for turn in 0.. {
            match rate.pace(Stream::Stdout, now) {
                Pace::Read(bytes) => {
                    assert!(bytes >= 1);
                    // A pipe holds no more.
                    let bytes = bytes.min(65_536);
                    rate.took(Stream::Stdout, bytes);
                    reads.push((now.since(start), bytes));
                    // Reading takes a moment itself.
                    now = now + Duration::from_micros(10);
                }
                Pace::Wait(until) => {
                    assert!(until > now, "time goes on");
                    now = until + late(turn);
                }
            }
            if now.since(start) > Duration::from_secs(seconds) {
                break;
            }
        }
        reads
    }

    /// The most that any second brought.
    fn most_in_a_second(reads: &[(Duration, u64)]) -> u64 {
        let (mut first, mut sum, mut most) = (0, 0, 0);
        for (at, bytes) in reads {
            sum += bytes;
            while reads[first].0 + 1000 * MS <= *at {
                sum -= reads[first].1;
                first += 1;
            }
            most = sum.max(most);
        }
        most
    }

    #[test]
    fn a_second_brings_the_limit_within_five_in_a_hundred() {
        for per_second in [1000, 65_536, 1_000_000, 50_000_000] {
            for late in [0, 1, 5, 20] {
                let mut rate = Rate::new(per_second);
                let reads = read_for(&mut rate, 10, |turn| MS * (turn % (late + 1)) as u32);
                let all: u64 = reads.iter().map(|(_, bytes)| bytes).sum();
                let share = all as f64 / (per_second * 10) as f64;
                assert!(
                    (0.95..1.05).contains(&share),
                    "{per_second}, {late} ms late: {share}"
                );
                let most = most_in_a_second(&reads) as f64 / per_second as f64;
                assert!(most <= 1.051, "{per_second}, {late} ms late: {most}");
            }
        }
    }

    #[test]
    fn a_few_bytes_a_second_are_as_many() {
        for per_second in [1, 3, 10, 49, 51] {
            let reads = read_for(&mut Rate::new(per_second), 10, |_| MS);
            let all: u64 = reads.iter().map(|(_, bytes)| bytes).sum();
            let expected = per_second * 10;
            assert!(
                (expected * 9 / 10..=expected + 1).contains(&all),
                "{per_second}: {all}"
            );
            assert!(most_in_a_second(&reads) <= per_second + 1, "{per_second}");
        }
    }

    #[test]
    fn time_that_nobody_used_is_kept_for_a_moment_only() {
        let (mut rate, now) = (Rate::new(1_000_000), Monotonic::now());
        assert_eq!(rate.pace(Stream::Stdout, now), Pace::Read(20_000));
        rate.took(Stream::Stdout, 20_000);
        assert_eq!(rate.pace(Stream::Stdout, now), Pace::Wait(now + QUANTUM));
        let next = rate.pace(Stream::Stdout, now + QUANTUM);
        assert_eq!(next, Pace::Read(20_000));
        rate.took(Stream::Stdout, 20_000);
        let later = now + Duration::from_secs(60);
        assert_eq!(rate.pace(Stream::Stdout, later), Pace::Read(50_000));
        // A line of a few bytes now and then is read at once.
        rate.took(Stream::Stdout, 10);
        assert_eq!(rate.pace(Stream::Stdout, later + MS), Pace::Read(50_000));
    }

    #[test]
    fn a_reader_that_comes_late_now_and_then_loses_nothing_of_the_limit() {
        // A processor is missed for 70 ms, some times a second.
        let mut rate = Rate::new(1_000_000);
        let reads = read_for(&mut rate, 10, |turn| {
            MS * if turn % 9 == 0 { 70 } else { 1 }
        });
        let all: u64 = reads.iter().map(|(_, bytes)| bytes).sum();
        assert!((9_800_000..=10_100_000).contains(&all), "{all}");
        let most = most_in_a_second(&reads);
        assert!(most <= 1_100_000, "{most}");
    }

    #[test]
    fn a_terminal_loses_nothing_between_its_pieces() {
        let (mut rate, start) = (Rate::new(1_000_000), Monotonic::now());
        let (mut now, mut all) = (start, 0);
        for piece in 1.. {
            match rate.pace(Stream::Pty, now) {
                Pace::Read(bytes) => {
                    let bytes = bytes.min(4096);
                    rate.took(Stream::Pty, bytes);
                    all += bytes;
                    // The next one takes a moment, and long where a processor is missed.
                    let pause = if piece % 40 == 0 { 60 * MS } else { MS / 10 };
                    now = now + pause;
                }
                Pace::Wait(until) => now = until + MS,
            }
            if now.since(start) > Duration::from_secs(10) {
                break;
            }
        }
        assert!((9_800_000..=10_100_000).contains(&all), "{all}");
        // Who has been quiet is not late.
        while let Pace::Wait(until) = rate.pace(Stream::Pty, now) {
            now = until;
        }
        let later = now + Duration::from_secs(1);
        assert_eq!(rate.pace(Stream::Pty, later), Pace::Read(50_000));
    }

    #[test]
    fn both_outputs_share_the_limit_and_none_starves() {
        for per_second in [10, 99, 1000, 1_000_000] {
            let (mut rate, start) = (Rate::new(per_second), Monotonic::now());
            let streams = [Stream::Stdout, Stream::Stderr];
            // When each of them asks again.
            let (mut asks, mut read) = ([start; 2], [0; 2]);
            loop {
                // Always the same one first, as timers fire.
                let at = usize::from(asks[1] < asks[0]);
                let now = asks[at];
                if now.since(start) > Duration::from_secs(10) {
                    break;
                }
                match rate.pace(streams[at], now) {
                    Pace::Read(bytes) => {
                        rate.took(streams[at], bytes);
                        read[at] += bytes;
                        asks[at] = now + Duration::from_micros(10);
                    }
                    Pace::Wait(until) => {
                        assert!(until > now, "time goes on");
                        asks[at] = until;
                    }
                }
            }
            let (all, expected) = (read.iter().sum::<u64>(), per_second * 10);
            let fits = expected * 95 / 100..=expected * 105 / 100 + 1;
            assert!(fits.contains(&all), "{per_second}: {read:?}");
            assert!(
                read.iter().all(|of| *of > all / 4),
                "{per_second}: {read:?}"
            );
        }
    }

    #[test]
    fn what_is_left_at_the_end_is_free_and_what_comes_later_is_not() {
        let (mut rate, now) = (Rate::new(10), Monotonic::now());
        assert_eq!(rate.pace(Stream::Stdout, now), Pace::Read(1));
        rate.took(Stream::Stdout, 1);
        let next = Pace::Wait(now + 100 * MS);
        assert_eq!(rate.pace(Stream::Stdout, now), next);
        rate.end([65_536, 7, 0]);
        assert_eq!(rate.pace(Stream::Stdout, now), Pace::Read(65_536));
        rate.took(Stream::Stdout, 60_000);
        assert_eq!(rate.pace(Stream::Stdout, now), Pace::Read(5_536));
        rate.took(Stream::Stdout, 5_536);
        assert_eq!(rate.pace(Stream::Stdout, now), next);
        assert_eq!(rate.pace(Stream::Stderr, now), Pace::Read(7));
    }

    #[test]
    fn no_number_is_too_large() {
        let now = Monotonic::now();
        for per_second in [0, 1, u64::MAX] {
            let mut rate = Rate::new(per_second);
            for _ in 0..3 {
                rate.pace(Stream::Pty, now);
                rate.took(Stream::Pty, u64::MAX);
                rate.end([u64::MAX; Stream::COUNT]);
            }
        }
    }
}
