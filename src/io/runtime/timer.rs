//! Timers: one timerfd(2) for all of them.
//!
//! In: when to wake. Out: futures that complete then. Owns what waits, in the order of time, the
//! timerfd, and one task that waits for it.
//!
//! Not the runtime's own timers. One of those is 384 bytes with an alignment of 128, and an idle
//! connection always has one running; an entry here takes 40. And its wheel wakes the thread also
//! when a timer moves from a coarse slot to a finer one, and looks at the clock on every turn of
//! the loop (docs/design/004-timers.md).
//!
//! A timer that is dropped leaves the timerfd as it was: at worst it wakes once for nothing.
//! Timers fire to the millisecond and never early.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use monoio::task::JoinHandle;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::config::timeouts;
use crate::types::Monotonic;

use crate::io::runtime::meter;
use crate::io::runtime::source::Source;

/// Everything that waits, by time and number.
#[derive(Default)]
struct Queue {
    waiting: RefCell<BTreeMap<(Instant, u64), Waker>>,
    /// The number of the last timer that waited.
    last: Cell<u64>,
    /// When the timerfd expires.
    armed: Cell<Option<Instant>>,
    /// The timerfd, from [`start`] on; the task that waits for it owns it.
    clock: RefCell<Weak<Source>>,
}

thread_local! {
    static QUEUE: Queue = Queue::default();
}

/// Completes at its time.
#[derive(Debug)]
pub(crate) struct Timer {
    at: Instant,
    /// In the queue under this number; 0 if it is not.
    number: u64,
}

/// Has the timers of this thread fire from now on, as long as its runtime runs. What it returns
/// completes when that has ended: why the timerfd cannot be waited for.
///
/// # Errors
/// As timerfd_create(2).
pub(crate) fn start() -> io::Result<JoinHandle<io::Error>> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    // Instants are of this clock, too.
    let clock = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let clock = Rc::new(Source::new(clock)?);
    QUEUE.with(|queue| {
        queue.clock.replace(Rc::downgrade(&clock));
        queue.fire();
    });
    Ok(monoio::spawn(drive(clock)))
}

/// Completes after `duration`.
pub(crate) fn sleep(duration: Duration) -> Timer {
    sleep_until(Instant::now() + duration.min(timeouts::WAIT_MAX))
}

/// Completes at `when`.
pub(crate) fn sleep_until(when: Instant) -> Timer {
    Timer {
        at: when,
        number: 0,
    }
}

/// The same moment, as the timers of this thread count.
pub(crate) fn instant(at: Monotonic) -> Instant {
    Instant::now() + at.since(Monotonic::now()).min(timeouts::WAIT_MAX)
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        QUEUE.with(|queue| {
            if self.number != 0 {
                // What is no longer in the queue has been fired.
                return match queue.wakes((self.at, self.number), cx.waker()) {
                    true => Poll::Pending,
                    false => Poll::Ready(()),
                };
            }
            if self.at <= meter::now() {
                return Poll::Ready(());
            }
            self.number = queue.last.get() + 1;
            queue.last.set(self.number);
            queue.wait((self.at, self.number), cx.waker());
            Poll::Pending
        })
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if self.number != 0 {
            // At the thread's end the queue may be gone already.
            let _ =
                QUEUE.try_with(|queue| queue.waiting.borrow_mut().remove(&(self.at, self.number)));
        }
    }
}

impl Queue {
    /// Puts a timer in.
    fn wait(&self, key: (Instant, u64), waker: &Waker) {
        self.waiting.borrow_mut().insert(key, waker.clone());
        if self.armed.get().is_none_or(|armed| key.0 < armed) {
            self.arm(key.0);
        }
    }

    /// Whether a timer still waits; then it wakes this one.
    fn wakes(&self, key: (Instant, u64), waker: &Waker) -> bool {
        match self.waiting.borrow_mut().get_mut(&key) {
            Some(known) => {
                known.clone_from(waker);
                true
            }
            None => false,
        }
    }

    fn arm(&self, at: Instant) {
        let Some(clock) = self.clock.borrow().upgrade() else {
            return;
        };
        self.armed.set(Some(at));
        // Up to the next millisecond, so that timers that were begun together fire together; 0
        // would mean never.
        let left = at.saturating_duration_since(Instant::now());
        let ms = left.as_nanos().div_ceil(1_000_000).max(1);
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        let spec = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: ms / 1000,
                tv_nsec: ms % 1000 * 1_000_000,
            },
        };
        // Nothing in it can be refused (timerfd_settime(2)).
        let _ = timerfd_settime(&*clock, TimerfdTimerFlags::empty(), &spec);
    }

    /// Wakes everything whose time has come, and has the timerfd expire for the next.
    fn fire(&self) {
        self.fire_at(Instant::now());
    }

    fn fire_at(&self, now: Instant) {
        loop {
            let mut waiting = self.waiting.borrow_mut();
            match waiting.first_entry() {
                Some(first) if first.key().0 <= now => {
                    let waker = first.remove();
                    // Waking may drop a timer.
                    drop(waiting);
                    waker.wake();
                }
                Some(first) => return self.arm(first.key().0),
                None => return self.armed.set(None),
            }
        }
    }
}

/// Fires timers as the clock expires.
async fn drive(clock: Rc<Source>) -> io::Error {
    loop {
        if let Err(error) = clock.readable().await {
            return error;
        }
        meter::begin();
        // How often it has expired: nobody wants to know, but it must be read.
        let _ = clock.read(&mut [0; 8]);
        QUEUE.with(Queue::fire);
    }
}

/// What `future` comes to, or None if it takes longer than `limit`, counted from when this turn of the
/// loop began.
pub(crate) fn within<F: Future>(
    limit: Duration,
    mut future: Pin<&mut F>,
) -> impl Future<Output = Option<F::Output>> {
    let mut timer = sleep_until(meter::now() + limit.min(timeouts::WAIT_MAX));
    poll_fn(move |cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Pin::new(&mut timer).poll(cx).map(|()| None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::runtime::backend::block_on;
    use std::pin::pin;
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    fn run(test: impl Future<Output = ()>) {
        block_on(async {
            let _clock = start().unwrap();
            test.await;
        });
    }

    /// Writes its number down when it is woken.
    struct Note(u64, Arc<Mutex<Vec<u64>>>);
    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    #[test]
    fn timers_fire_in_their_order_whatever_the_order_of_their_making() {
        let (queue, start) = (Queue::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let woken = Arc::new(Mutex::new(Vec::new()));
        for (number, ms) in [(1, 30), (2, 10), (3, 20), (4, 10)] {
            let waker = Waker::from(Arc::new(Note(number, woken.clone())));
            queue.wait((at(ms), number), &waker);
        }
        for (now, expected) in [
            (9, &[][..]),
            (10, &[2, 4]),
            (29, &[2, 4, 3]),
            (99, &[2, 4, 3, 1]),
        ] {
            queue.fire_at(at(now));
            assert_eq!(*woken.lock().unwrap(), expected, "{now} ms");
        }
        assert!(queue.waiting.borrow().is_empty());
    }

    #[test]
    fn a_timer_never_fires_early() {
        run(async {
            for ms in [1, 7] {
                let asked = Instant::now();
                sleep(Duration::from_millis(ms)).await;
                assert!(asked.elapsed() >= Duration::from_millis(ms));
            }
        });
    }

    #[test]
    fn who_polls_a_timer_last_is_woken_and_what_has_fired_is_ready() {
        let woken = Arc::new(Mutex::new(Vec::new()));
        let waker = |number| Waker::from(Arc::new(Note(number, woken.clone())));
        let mut timer = sleep(Duration::from_secs(3600));
        for number in [1, 2] {
            let polled = Pin::new(&mut timer).poll(&mut Context::from_waker(&waker(number)));
            assert!(polled.is_pending());
        }
        QUEUE.with(|queue| queue.fire_at(Instant::now() + Duration::from_secs(3600)));
        assert_eq!(*woken.lock().unwrap(), [2]);
        let polled = Pin::new(&mut timer).poll(&mut Context::from_waker(&waker(3)));
        assert!(polled.is_ready());
    }

    #[test]
    fn a_dropped_timer_leaves_nothing_behind_and_later_ones_fire() {
        run(async {
            let slow = async {
                sleep(Duration::from_secs(3600)).await;
            };
            let limit = Duration::from_millis(5);
            assert_eq!(within(limit, pin!(slow)).await, None);
            assert_eq!(within(limit, pin!(async { 7 })).await, Some(7));
            assert_eq!(QUEUE.with(|queue| queue.waiting.borrow().len()), 0);
            // Longer than what was dropped.
            sleep(Duration::from_millis(60)).await;
        });
    }
}
