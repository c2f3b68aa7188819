//! How fast one viewer takes what it is sent.
//!
//! In: what the kernel has taken for it, and what the client has acknowledged. Out: how far the
//! viewer is, for [`crate::process::pacing`]; whether more may be sent. Owns some numbers.
//!
//! A client that acknowledges (`flow=ack`) is sent no more than a window ahead: a page takes from
//! its socket at once what it has time to show much later.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::process::pacing::{Place, ViewerId};

/// What may be sent and not acknowledged. Bytes. More on a long way.
const WINDOW_MIN: u64 = 256 << 10;

/// However long the way is. Bytes.
const WINDOW_MAX: u64 = 4 << 20;

/// How long is looked at how fast a client acknowledges.
const MEASURED_FOR: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub(super) struct Flow {
    /// What the viewer is called among those that the terminal waits for.
    pub(super) viewer: Cell<Option<ViewerId>>,
    place: Cell<Place>,
    acknowledges: bool,
    /// Bytes in binary frames: sent, acknowledged.
    sent: Cell<u64>,
    acknowledged: Cell<u64>,
    window: Cell<u64>,
    /// What had been acknowledged when.
    measured: Cell<(u64, Instant)>,
}

impl Flow {
    /// Nothing has been sent.
    pub(super) fn new(acknowledges: bool, now: Instant) -> Self {
        Self {
            viewer: Cell::new(None),
            place: Cell::new(Place::default()),
            acknowledges,
            sent: Cell::new(0),
            acknowledged: Cell::new(0),
            window: Cell::new(WINDOW_MIN),
            measured: Cell::new((0, now)),
        }
    }

    /// The viewer goes on from here.
    pub(super) fn begin(&self, place: Place) -> Place {
        self.place.set(place);
        self.place()
    }

    /// How far the viewer is.
    pub(super) fn place(&self) -> Place {
        let owes = self.acknowledges && self.unacknowledged() > 0;
        Place {
            owes,
            ..self.place.get()
        }
    }

    fn unacknowledged(&self) -> u64 {
        self.sent.get() - self.acknowledged.get()
    }

    /// Whether a frame of so many bytes may be sent now. One that is larger than the window goes
    /// alone.
    pub(super) fn may_send(&self, bytes: u64) -> bool {
        let owed = self.unacknowledged();
        !self.acknowledges || owed == 0 || owed + bytes <= self.window.get()
    }

    /// The kernel has taken so many bytes; if they are `live`, the viewer is as far as they go.
    /// What that is worth.
    pub(super) fn sent(&self, bytes: u64, live: bool) -> u64 {
        self.sent.set(self.sent.get() + bytes);
        if live {
            let mut place = self.place.get();
            place.at += bytes;
            self.place.set(place);
        }
        if self.acknowledges { 0 } else { bytes }
    }

    /// The client says that it has processed `bytes` in all. What that is worth; None if it has not
    /// been sent as much.
    pub(super) fn acknowledged(
        &self,
        bytes: u64,
        now: Instant,
        round_trip: impl FnOnce() -> Option<Duration>,
    ) -> Option<u64> {
        if bytes > self.sent.get() {
            return None;
        }
        let new = bytes.saturating_sub(self.acknowledged.get());
        self.acknowledged.set(self.acknowledged.get() + new);
        let (before, since) = self.measured.get();
        let took = now.saturating_duration_since(since);
        if took >= MEASURED_FOR {
            self.measured.set((bytes, now));
            if let Some(way) = round_trip() {
                self.window
                    .set(window(bytes.saturating_sub(before), took, way));
            }
        }
        Some(new)
    }

    /// What was sent, for a message.
    pub(super) fn bytes_sent(&self) -> u64 {
        self.sent.get()
    }
}

/// Twice what is under way at the pace of the last `took`: once would never let it become faster.
fn window(bytes: u64, took: Duration, way: Duration) -> u64 {
    let under_way = u128::from(bytes) * way.as_micros() / took.as_micros().max(1);
    let twice = u64::try_from(under_way.saturating_mul(2)).unwrap_or(u64::MAX);
    twice.clamp(WINDOW_MIN, WINDOW_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn near() -> Option<Duration> {
        Some(MS)
    }

    #[test]
    fn who_does_not_acknowledge_is_sent_everything_and_owes_nothing() {
        let flow = Flow::new(false, Instant::now());
        flow.begin(Place::default());
        assert_eq!(flow.sent(10 << 20, true), 10 << 20);
        assert!(flow.may_send(u64::MAX) && !flow.place().owes);
        assert_eq!(flow.place().at, 10 << 20);
    }

    #[test]
    fn who_acknowledges_is_sent_a_window_ahead() {
        let now = Instant::now();
        let flow = Flow::new(true, now);
        flow.begin(Place::default());
        assert!(flow.may_send(WINDOW_MIN + 1), "one frame may be larger");
        assert_eq!(flow.sent(WINDOW_MIN - 10, true), 0);
        assert!(flow.place().owes && flow.may_send(10) && !flow.may_send(11));
        assert_eq!(flow.acknowledged(5000, now, near), Some(5000));
        assert!(flow.may_send(5010) && !flow.may_send(5011));
        // Said again, or less than before: nothing new.
        assert_eq!(flow.acknowledged(5000, now, near), Some(0));
        assert_eq!(flow.acknowledged(1, now, near), Some(0));
        assert_eq!(flow.acknowledged(WINDOW_MIN - 9, now, near), None);
        assert_eq!(flow.acknowledged(u64::MAX, now, near), None);
        assert!(flow.acknowledged(WINDOW_MIN - 10, now, near).is_some());
        assert!(!flow.place().owes && flow.may_send(u64::MAX));
    }

    #[test]
    fn a_long_way_opens_the_window_as_far_as_the_client_is_fast() {
        // 5 MB/s over 1, 200 and 1000 ms, and one that takes little.
        assert_eq!(window(5_000_000, SECOND, MS), WINDOW_MIN);
        assert_eq!(window(5_000_000, SECOND, 200 * MS), 2_000_000);
        assert_eq!(window(5_000_000, SECOND, 1000 * MS), WINDOW_MAX);
        assert_eq!(window(10_000, SECOND, 1000 * MS), WINDOW_MIN);
        assert_eq!(window(u64::MAX, Duration::ZERO, SECOND), WINDOW_MAX);
        let now = Instant::now();
        let flow = Flow::new(true, now);
        flow.sent(WINDOW_MIN, true);
        let far = || Some(SECOND);
        flow.acknowledged(200_000, now + MEASURED_FOR, far);
        flow.sent(WINDOW_MIN, true);
        assert_eq!(flow.window.get(), 800_000);
        flow.acknowledged(200_001, now + MEASURED_FOR + MS, far);
        assert_eq!(flow.window.get(), 800_000, "not long enough to tell");
    }
}
