//! Timers: one of the runtime's for all of ours.
//!
//! In: when to wake. Out: futures that complete then. Owns what waits, in the order of time, and
//! one task that sleeps until the first of it.
//!
//! The runtime's own timer is 384 bytes with an alignment of 128. An idle connection always has
//! one running, so thousands of them would be mostly timers; an entry here takes 40 bytes.
//!
//! A timer that is dropped leaves the sleep of the task as it was: at worst it wakes once for
//! nothing. Timers fire to the millisecond, as the runtime's do, and never early.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::race::{First, race};

/// Further away than any time that matters; keeps sums of times in range.
const FAR: Duration = Duration::from_secs(86_400 * 365);

/// Everything that waits, by time and number.
#[derive(Default)]
struct Queue {
    waiting: RefCell<BTreeMap<(Instant, u64), Waker>>,
    /// The number of the last timer that waited.
    last: Cell<u64>,
    /// When the task will wake by itself.
    armed: Cell<Option<Instant>>,
    /// Wakes the task; None until there is one.
    task: RefCell<Option<Waker>>,
}

thread_local! {
    static QUEUE: Queue = Queue::default();
}

/// Completes at its time.
#[derive(Debug)]
pub(super) struct Timer {
    at: Instant,
    /// In the queue under this number; 0 if it is not.
    number: u64,
}

/// Completes after `duration`.
pub(super) fn sleep(duration: Duration) -> Timer {
    sleep_until(Instant::now() + duration.min(FAR))
}

/// Completes at `when`.
pub(super) fn sleep_until(when: Instant) -> Timer {
    Timer {
        at: when,
        number: 0,
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.at <= Instant::now() {
            return Poll::Ready(());
        }
        QUEUE.with(|queue| {
            if self.number == 0 {
                self.number = queue.last.get() + 1;
                queue.last.set(self.number);
            }
            queue.wait((self.at, self.number), cx.waker());
        });
        Poll::Pending
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
    fn wait(&self, key: (Instant, u64), waker: &Waker) {
        self.waiting
            .borrow_mut()
            .entry(key)
            .and_modify(|known| known.clone_from(waker))
            .or_insert_with(|| waker.clone());
        if self.armed.get().is_some_and(|armed| armed <= key.0) {
            return;
        }
        self.armed.set(Some(key.0));
        match &*self.task.borrow() {
            Some(task) => task.wake_by_ref(),
            None => drop(monoio::spawn(drive())),
        }
    }

    /// Wakes everything whose time has come. Returns when to look again.
    fn fire(&self) -> Option<Instant> {
        let now = Instant::now();
        loop {
            let mut waiting = self.waiting.borrow_mut();
            match waiting.first_entry() {
                Some(first) if first.key().0 <= now => {
                    let waker = first.remove();
                    // Waking may drop a timer.
                    drop(waiting);
                    waker.wake();
                }
                first => {
                    let next = first.map(|first| first.key().0);
                    self.armed.set(next);
                    return next;
                }
            }
        }
    }
}

/// Sleeps until the first timer, for ever. A timer that comes before it wakes this up.
async fn drive() {
    loop {
        let next = QUEUE.with(Queue::fire);
        let sleeping = async {
            match next {
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    monoio::time::sleep(left).await;
                }
                None => std::future::pending().await,
            }
        };
        let earlier = poll_fn(|cx| {
            QUEUE.with(|queue| {
                queue.task.replace(Some(cx.waker().clone()));
                if queue.armed.get() == next {
                    Poll::Pending
                } else {
                    Poll::Ready(())
                }
            })
        });
        race(pin!(earlier), pin!(sleeping)).await;
    }
}

/// What `future` comes to, or None if it takes longer than `limit`.
pub(super) async fn within<F: Future>(limit: Duration, future: Pin<&mut F>) -> Option<F::Output> {
    let mut timer = sleep(limit);
    match race(future, Pin::new(&mut timer)).await {
        First::Left(output) => Some(output),
        First::Right(()) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    fn run(test: impl Future<Output = ()>) {
        monoio::RuntimeBuilder::<monoio::LegacyDriver>::new()
            .enable_timer()
            .build()
            .unwrap()
            .block_on(test);
    }

    #[test]
    fn timers_fire_in_their_order_whatever_the_order_of_their_making() {
        run(async {
            let order = Rc::new(RefCell::new(Vec::new()));
            let tasks: Vec<_> = [30, 10, 20, 10]
                .into_iter()
                .map(|ms| {
                    let order = order.clone();
                    monoio::spawn(async move {
                        let asked = Instant::now();
                        sleep(Duration::from_millis(ms)).await;
                        assert!(asked.elapsed() >= Duration::from_millis(ms));
                        order.borrow_mut().push(ms);
                    })
                })
                .collect();
            for task in tasks {
                task.await;
            }
            assert_eq!(*order.borrow(), [10, 10, 20, 30]);
        });
    }

    #[test]
    fn a_dropped_timer_leaves_nothing_behind_and_later_ones_fire() {
        run(async {
            let slow = async {
                sleep(Duration::from_millis(30)).await;
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
