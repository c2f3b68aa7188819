//! When a silent peer is asked whether it lives, and when it is given up.
//!
//! In: when something was sent and heard, and the time. Out: what to do. Knows no frame.

use std::time::Instant;

use crate::config::timeouts;

/// Pings that may stay unanswered.
const PINGS_UNANSWERED_MAX: u32 = 2;

/// See the module.
#[derive(Debug)]
pub(crate) struct Liveness {
    /// When something was last sent, pings included.
    sent: Instant,
    pinged: Option<Instant>,
    unanswered: u32,
}

/// What to do about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing before then.
    WaitUntil(Instant),
    /// Send a ping.
    Ask,
    /// End the connection.
    Dead,
}

impl Liveness {
    /// A peer that has just come.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            sent: now,
            pinged: None,
            unanswered: 0,
        }
    }

    /// Something was sent.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.sent = now;
    }

    /// Judges a peer that was last heard at `heard`.
    pub(crate) fn judge(&mut self, heard: Instant, now: Instant) -> Verdict {
        // Whatever comes after a ping answers it, also if something was sent since.
        if self.pinged.is_some_and(|pinged| heard > pinged) {
            (self.pinged, self.unanswered) = (None, 0);
        }
        let at = heard.max(self.sent) + timeouts::PING_AFTER;
        if now < at {
            return Verdict::WaitUntil(at);
        }
        if self.unanswered == PINGS_UNANSWERED_MAX {
            return Verdict::Dead;
        }
        self.unanswered += 1;
        self.pinged = Some(now);
        self.sent = now;
        Verdict::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_peer_that_answers_lives_for_ever_whatever_is_sent_meanwhile() {
        let mut now = Instant::now();
        let mut heard = now;
        let mut liveness = Liveness::new(now);
        for round in 0..20 {
            now += timeouts::PING_AFTER;
            assert_eq!(liveness.judge(heard, now), Verdict::Ask, "{round}");
            heard = now + SECOND;
            // Output right after the answer, before anybody has looked at it.
            now += 2 * SECOND;
            liveness.sent(now);
            let wait = Verdict::WaitUntil(now + timeouts::PING_AFTER);
            assert_eq!(liveness.judge(heard, now), wait, "{round}");
        }
    }

    #[test]
    fn two_pings_may_stay_unanswered_and_the_third_silence_is_the_end() {
        let begun = Instant::now();
        let mut liveness = Liveness::new(begun);
        let after = |n| begun + n * timeouts::PING_AFTER;
        assert_eq!(liveness.judge(begun, begun), Verdict::WaitUntil(after(1)));
        for n in 1..=2 {
            assert_eq!(liveness.judge(begun, after(n)), Verdict::Ask);
            let wait = Verdict::WaitUntil(after(n + 1));
            assert_eq!(liveness.judge(begun, after(n)), wait);
        }
        assert_eq!(liveness.judge(begun, after(3)), Verdict::Dead);
    }
}
