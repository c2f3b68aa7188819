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
pub struct Notify(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    version: Cell<u64>,
    next_key: Cell<u64>,
    waiting: RefCell<Vec<(u64, Waker)>>,
}

impl Notify {
    /// The current version, to be passed to [`Notify::changed`].
    pub fn version(&self) -> u64 {
        self.0.version.get()
    }

    /// Makes a new version and wakes every waiter.
    pub fn notify(&self) {
        self.0.version.set(self.0.version.get() + 1);
        // Taken out first: a waker may run code that waits again.
        let waiting = std::mem::take(&mut *self.0.waiting.borrow_mut());
        for (_, waker) in &waiting {
            waker.wake_by_ref();
        }
        let mut slot = self.0.waiting.borrow_mut();
        if slot.is_empty() && waiting.capacity() <= 64 {
            // Keep the allocation; it will be wanted again.
            let mut empty = waiting;
            empty.clear();
            *slot = empty;
        }
    }

    /// Completes as soon as the version is not `seen`.
    pub fn changed(&self, seen: u64) -> Changed {
        let key = self.0.next_key.get();
        self.0.next_key.set(key + 1);
        Changed {
            inner: self.0.clone(),
            seen,
            key,
        }
    }
}

/// See [`Notify::changed`].
#[derive(Debug)]
pub struct Changed {
    inner: Rc<Inner>,
    seen: u64,
    key: u64,
}

impl Future for Changed {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.inner.version.get() != self.seen {
            return Poll::Ready(());
        }
        let mut waiting = self.inner.waiting.borrow_mut();
        match waiting.iter_mut().find(|(key, _)| *key == self.key) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => waiting.push((self.key, cx.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        if self.inner.version.get() == self.seen {
            self.inner
                .waiting
                .borrow_mut()
                .retain(|(key, _)| *key != self.key);
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
        notify.notify();
        assert_eq!(count.0.load(Ordering::Relaxed), 4);
        for waiter in &mut waiters {
            assert!(waiter.as_mut().poll(&mut cx).is_ready());
        }
        assert!(notify.0.waiting.borrow().is_empty());
    }
}
