//! Timers on the heap.
//!
//! The runtime's own timer is 384 bytes with an alignment of 128, and a future that awaits one in
//! any of its states has room for it in all of them. Boxed, it costs that only while it runs,
//! which keeps an idle connection small.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use monoio::time::Sleep;

use super::race::{First, race};

/// Completes after `duration`.
pub(super) fn sleep(duration: Duration) -> Pin<Box<Sleep>> {
    Box::pin(monoio::time::sleep(duration))
}

/// Completes at `when`.
pub(super) fn sleep_until(when: Instant) -> Pin<Box<Sleep>> {
    sleep(when.saturating_duration_since(Instant::now()))
}

/// What `future` comes to, or None if it takes longer than `limit`.
pub(super) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut timer = sleep(limit);
    match race(pin!(future), timer.as_mut()).await {
        First::Left(output) => Some(output),
        First::Right(()) => None,
    }
}
