//! Moments as plain numbers, which another process of this machine can read, too.

use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// A moment of CLOCK_MONOTONIC (clock_gettime(2)), in nanoseconds since the machine's start. It
/// means the same in every process until the machine is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(u64);

impl Monotonic {
    /// So many nanoseconds after the machine's start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the machine's start.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// This moment.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        // Never negative, and 64 bits last for 584 years.
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
        Self(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }

    /// How much later this is than `earlier`; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The end of time where the sum would be later.
impl Add<Duration> for Monotonic {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        let nanos = u64::try_from(later.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// The machine's start where the difference would be earlier.
impl Sub<Duration> for Monotonic {
    type Output = Self;

    fn sub(self, earlier: Duration) -> Self {
        let nanos = u64::try_from(earlier.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(nanos))
    }
}

/// Milliseconds since the Unix epoch, as clients are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// This moment; 0 for a clock that is set before the epoch.
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_moment_is_of_the_clock_that_instants_are_of() {
        let (before, start) = (Monotonic::now(), Instant::now());
        std::thread::sleep(Duration::from_millis(2));
        let (outer, inner) = (Monotonic::now().since(before), start.elapsed());
        assert!(inner >= Duration::from_millis(2) && outer >= Duration::from_millis(2));
    }

    #[test]
    fn sums_and_differences_stay_in_range() {
        let late = Monotonic::from_nanos(u64::MAX - 1) + Duration::MAX;
        assert_eq!(late.nanos(), u64::MAX);
        assert_eq!(Monotonic::default().since(late), Duration::ZERO);
        let second = Monotonic::default() + Duration::from_secs(1);
        assert_eq!(second.nanos(), 1_000_000_000);
        assert_eq!(second.since(Monotonic::default()), Duration::from_secs(1));
        assert_eq!(second - Duration::from_secs(1), Monotonic::default());
        assert_eq!(second - Duration::MAX, Monotonic::default());
    }
}
