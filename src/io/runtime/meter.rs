//! How long the I/O loop is busy at a time.
//!
//! In: that something has come through the driver ([`begin`]). Out: turns, counted in
//! [`crate::metrics`]. Owns the runtime's main future, which the runtime polls behind all tasks of a
//! turn if it has been woken: there a turn is over. So nothing is queued and the driver is not
//! entered for it, and an idle loop is not woken. What the driver itself takes is not seen.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use crate::metrics::metrics;

thread_local! {
    /// When this turn began.
    static BEGUN: Cell<Option<Instant>> = const { Cell::new(None) };
    /// Something has been sent in this turn without a way through the driver.
    static SENT: Cell<bool> = const { Cell::new(false) };
    /// Wakes the main future.
    static MAIN: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

/// What is in the main future is to be polled, and not only the turn ended.
struct Woken {
    is: AtomicBool,
    main: Waker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is.store(true, Ordering::Relaxed);
        self.main.wake_by_ref();
    }
}

/// Something has come: a turn has begun, if it has not before.
pub(crate) fn begin() {
    if BEGUN.get().is_some() {
        return;
    }
    MAIN.with_borrow(|main| {
        if let Some(main) = main {
            BEGUN.set(Some(Instant::now()));
            SENT.set(false);
            main.wake_by_ref();
        }
    });
}

/// What time it was when this turn began, or what time it is if none has. For what lasts seconds, and
/// costs no look at the clock.
pub(crate) fn now() -> Instant {
    BEGUN.get().unwrap_or_else(Instant::now)
}

/// Whether nothing has been sent at once in this turn before, and notes that something is now. The
/// first who is answered need not wait for the others' turns; many who are answered in one turn
/// cost less together, through the driver.
pub(crate) fn is_first_sent() -> bool {
    !SENT.replace(true)
}

/// The same future, to be the main one: the turns of its runtime are counted.
pub(crate) async fn measured<F: Future>(future: F) -> F::Output {
    let main = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    MAIN.set(Some(main.clone()));
    let is = AtomicBool::new(true);
    let woken = Arc::new(Woken { is, main });
    let waker = Waker::from(woken.clone());
    let mut future = pin!(future);
    let output = poll_fn(|_| {
        let begun = BEGUN.take();
        if !woken.is.swap(false, Ordering::Relaxed) {
            if let Some(begun) = begun {
                over(begun);
            }
            return Poll::Pending;
        }
        let begun = begun.unwrap_or_else(Instant::now);
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        over(begun);
        polled
    });
    let output = output.await;
    MAIN.set(None);
    output
}

fn over(begun: Instant) {
    metrics(|all| all.turns.observe(begun.elapsed()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::runtime::backend::block_on;
    use crate::io::runtime::timer;
    use std::time::Duration;

    fn spin(time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_turn_lasts_as_long_as_what_runs_in_it_and_rest_is_none() {
        let before = metrics(|all| all.turns.get());
        let test = async {
            let _clock = timer::start().unwrap();
            let task = monoio::spawn(async {
                timer::sleep(Duration::from_millis(1)).await;
                spin(Duration::from_millis(20));
            });
            task.await;
            // Work of the main future is some of the loop's, too.
            timer::sleep(Duration::from_millis(1)).await;
            spin(Duration::from_millis(20));
            timer::sleep(Duration::from_millis(200)).await;
        };
        let asked = Instant::now();
        block_on(measured(test));
        let took = asked.elapsed();
        let after = metrics(|all| all.turns.get());
        let turns = after.count() - before.count();
        assert!((2..=20).contains(&turns), "{turns}");
        let busy = after.sum - before.sum;
        assert!(busy >= Duration::from_millis(40), "{busy:?}");
        assert!(after.longest >= Duration::from_millis(20), "{after:?}");
        assert!(
            busy <= took - Duration::from_millis(200),
            "{busy:?} of {took:?}"
        );
    }
}
