//! Wakes everybody who waits for a change of one thing, on one thread.
//!
//! In: [`Notify::notify`]. Out: [`Notify::changed`] completes. A waiter names the version it has
//! seen, so that no change can fall between looking and waiting.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A version number that tasks can wait on. Cheap to clone; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notify(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    version: Cell<u64>,
    /// Boxed, because nobody waits for most things.
    waiting: RefCell<Option<Box<Waiting>>>,
}

/// Who waits for the version after the current one. Every place is found by its number, so that
/// a log with many followers costs each of them the same.
#[derive(Debug, Default)]
struct Waiting {
    places: Vec<Option<Waker>>,
    free: Vec<u32>,
}

impl Notify {
    /// The current version, to be passed to [`Notify::changed`].
    pub(crate) fn version(&self) -> u64 {
        self.0.version.get()
    }

    /// Makes a new version and wakes every waiter.
    pub(crate) fn notify(&self) {
        self.0.version.set(self.0.version.get() + 1);
        // Taken out first: a waker may run code that waits again.
        let Some(mut waiting) = self.0.waiting.borrow_mut().take() else {
            return;
        };
        for waker in waiting.places.iter().flatten() {
            waker.wake_by_ref();
        }
        let mut next = self.0.waiting.borrow_mut();
        if next.is_none() && waiting.places.capacity() <= 64 {
            // Keep the allocations; they will be wanted again.
            waiting.places.clear();
            waiting.free.clear();
            *next = Some(waiting);
        }
    }

    /// Completes as soon as the version is not `seen`.
    pub(crate) fn changed(&self, seen: u64) -> Changed {
        Changed {
            inner: self.0.clone(),
            seen,
            place: None,
        }
    }
}

/// See [`Notify::changed`].
#[derive(Debug)]
pub(crate) struct Changed {
    inner: Rc<Inner>,
    seen: u64,
    /// Where its waker is, while the version is still `seen`.
    place: Option<u32>,
}

impl Future for Changed {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.inner.version.get() != self.seen {
            return Poll::Ready(());
        }
        let place = {
            let mut waiting = self.inner.waiting.borrow_mut();
            let waiting = waiting.get_or_insert_default();
            let place = self.place.or_else(|| waiting.free.pop());
            match place.and_then(|place| waiting.places.get_mut(place as usize)) {
                Some(Some(waker)) => waker.clone_from(cx.waker()),
                Some(empty) => *empty = Some(cx.waker().clone()),
                None => waiting.places.push(Some(cx.waker().clone())),
            }
            // More than four billion waiters would not fit into memory.
            place.or_else(|| u32::try_from(waiting.places.len() - 1).ok())
        };
        self.place = place;
        Poll::Pending
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        if self.inner.version.get() == self.seen
            && let Some(place) = self.place
        {
            let mut waiting = self.inner.waiting.borrow_mut();
            if let Some(waiting) = waiting.as_mut()
                && let Some(waker) = waiting.places.get_mut(place as usize)
            {
                *waker = None;
                waiting.free.push(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_change_between_looking_and_waiting_is_not_missed() {
        let notify = Notify::default();
        let seen = notify.version();
        notify.notify();
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        let mut changed = std::pin::pin!(notify.changed(seen));
        assert!(changed.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn every_waiter_is_woken_once_and_a_dropped_one_is_forgotten() {
        let notify = Notify::default();
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        let mut waiters: Vec<_> = (0..5)
            .map(|_| Box::pin(notify.changed(notify.version())))
            .collect();
        for waiter in &mut waiters {
            assert!(waiter.as_mut().poll(&mut cx).is_pending());
            assert!(waiter.as_mut().poll(&mut cx).is_pending());
        }
        waiters.pop();
        let mut late = Box::pin(notify.changed(notify.version()));
        assert!(late.as_mut().poll(&mut cx).is_pending());
        drop(late);
        let places = notify.0.waiting.borrow().as_ref().unwrap().places.len();
        assert_eq!(places, 5, "a place that became free is used again");
        notify.notify();
        assert_eq!(count.0.load(Ordering::Relaxed), 4);
        for waiter in &mut waiters {
            assert!(waiter.as_mut().poll(&mut cx).is_ready());
        }
        let waiting = notify.0.waiting.borrow();
        assert!(
            waiting
                .as_ref()
                .is_none_or(|waiting| waiting.places.is_empty())
        );
    }
}
