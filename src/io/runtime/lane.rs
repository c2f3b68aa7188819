//! A share of the I/O thread for work that many may want at the same time.
//!
//! In: what each piece of such work took. Out: when the next piece may begin. Owns a moment: until
//! then the share is used up. Pieces are short; what this bounds is a thousand of them that are
//! ready at once. Nobody is held up as long as there is little to do.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::io::runtime::timer::sleep_until;

/// As long as the share is used up for no longer than this, a piece begins at once.
const BURST: Duration = Duration::from_micros(500);

/// What is set aside for a piece that has to wait, and about how long one is.
pub(crate) const PIECE: Duration = Duration::from_micros(250);

/// Steps of work that are too short to wait before each of them, since the last that waited.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    took: Duration,
}

/// One half of the thread's time is the others'.
const SHARE: u32 = 2;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    free_at: Cell<Option<Instant>>,
}

impl Lane {
    /// Completes when a piece may begin.
    pub(crate) async fn turn(&self) {
        if let Some(at) = self.reserve(Instant::now()) {
            sleep_until(at).await;
            self.begins();
        }
    }

    /// A piece that had to wait begins: what it takes is noted by [`Lane::spent`].
    fn begins(&self) {
        let set_aside = self.free_at.get().and_then(|at| at.checked_sub(PIECE));
        self.free_at.set(set_aside);
    }

    /// When a piece may begin that must wait. Those who wait do so one behind the other.
    fn reserve(&self, now: Instant) -> Option<Instant> {
        let at = self.free_at.get().filter(|&at| at > now + BURST)?;
        self.free_at.set(Some(at + PIECE));
        Some(at)
    }

    /// Notes a step that took so long. Whether they are a piece by now, and the next one is to wait for
    /// [`Lane::turn`].
    pub(crate) fn is_piece(&self, steps: &mut Steps, took: Duration) -> bool {
        // More than that it has waited, for a client or a program.
        steps.took += took.min(PIECE);
        if steps.took < PIECE {
            return false;
        }
        self.spent(std::mem::take(&mut steps.took));
        true
    }

    /// A piece of work is over that took so long.
    pub(crate) fn spent(&self, took: Duration) {
        self.spent_at(Instant::now(), took);
    }

    fn spent_at(&self, now: Instant, took: Duration) {
        let from = self.free_at.get().map_or(now, |at| at.max(now));
        self.free_at.set(Some(from + took * SHARE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_work_never_waits_and_much_leaves_the_others_their_half() {
        let (lane, mut now) = (Lane::default(), Instant::now());
        for _ in 0..1000 {
            assert_eq!(lane.reserve(now), None);
            now += Duration::from_micros(3);
            lane.spent_at(now, Duration::from_micros(1));
        }
        let (start, mut worked) = (now, Duration::ZERO);
        while worked < Duration::from_millis(20) {
            if let Some(at) = lane.reserve(now) {
                now = at.max(now);
                lane.begins();
            }
            now += PIECE;
            lane.spent_at(now, PIECE);
            worked += PIECE;
        }
        assert!(
            now - start >= worked * SHARE - BURST * 4,
            "{:?}",
            now - start
        );
    }

    #[test]
    fn many_small_steps_are_a_piece() {
        let (lane, mut steps) = (Lane::default(), Steps::default());
        let small = PIECE / 10;
        for _ in 0..9 {
            assert!(!lane.is_piece(&mut steps, small));
        }
        assert!(lane.is_piece(&mut steps, small));
        assert!(!lane.is_piece(&mut steps, small), "they begin again");
        assert!(lane.is_piece(&mut steps, PIECE * 100));
        let until = lane.free_at.get().unwrap();
        assert!(
            until <= Instant::now() + PIECE * SHARE * 3,
            "a wait is no work"
        );
    }

    #[test]
    fn short_pieces_that_had_to_wait_cost_no_more_than_they_took() {
        let (lane, start) = (Lane::default(), Instant::now());
        lane.spent_at(start, Duration::from_millis(1));
        let (mut now, took) = (start, Duration::from_micros(1));
        for _ in 0..1000 {
            if let Some(at) = lane.reserve(now) {
                now = at.max(now);
                lane.begins();
            }
            lane.spent_at(now, took);
        }
        assert!(now - start <= Duration::from_millis(2) + took * SHARE * 1000);
    }

    #[test]
    fn who_waits_stands_in_line() {
        let (lane, now) = (Lane::default(), Instant::now());
        lane.spent_at(now, Duration::from_millis(1));
        let places: Vec<_> = (0..100).map(|_| lane.reserve(now).unwrap()).collect();
        assert!(places.windows(2).all(|pair| pair[1] >= pair[0] + PIECE));
    }
}
