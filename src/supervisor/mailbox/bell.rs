//! When a bell must be rung: the part of a mailbox that two threads race on.
//!
//! In: what sender and receiver are about to do. Out: whether the sender has to write to the
//! eventfd. Knows no descriptor and no message, so that a model checker can run it in every order.
//!
//! - A message that was sent loudly is never slept through.
//! - A message that was sent quietly is never slept through by a receiver that had said before
//!   that it wants it.

use std::sync::atomic::{self, AtomicBool, Ordering};

/// A flag that threads share; the model checker brings its own.
pub(super) trait Flag {
    /// As [`AtomicBool::swap`].
    fn swap(&self, value: bool, order: Ordering) -> bool;
    /// As [`atomic::fence`].
    fn fence(order: Ordering);
}

impl Flag for AtomicBool {
    fn swap(&self, value: bool, order: Ordering) -> bool {
        self.swap(value, order)
    }

    fn fence(order: Ordering) {
        atomic::fence(order);
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Bell<F = AtomicBool> {
    /// The eventfd has been written to, or is about to be, since it was last answered.
    rung: F,
    /// The receiver wants to be woken by the next quiet message.
    wanted: F,
}

impl<F: Flag> Bell<F> {
    /// Called behind a message. Whether the eventfd is to be written to.
    pub(super) fn ring(&self) -> bool {
        !self.rung.swap(true, Ordering::AcqRel)
    }

    /// Called by the receiver once it has read the eventfd and before it takes messages.
    pub(super) fn answered(&self) {
        // Not a plain store: it must see what was sent by whoever found the bell ringing, since
        // that one did not write to the eventfd.
        self.rung.swap(false, Ordering::AcqRel);
    }

    /// Called by the receiver before it looks for messages a last time and sleeps.
    pub(super) fn want(&self) {
        self.wanted.swap(true, Ordering::Relaxed);
        F::fence(Ordering::SeqCst);
    }

    /// Called behind a quiet message. Whether the eventfd is to be written to.
    pub(super) fn ring_if_wanted(&self) -> bool {
        // Pairs with the fence in `want`: either this sees the wish, or the receiver sees the
        // message.
        F::fence(Ordering::SeqCst);
        self.wanted.swap(false, Ordering::Relaxed) && self.ring()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loom::sync::atomic::{AtomicBool, AtomicU32};
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    impl Flag for AtomicBool {
        fn swap(&self, value: bool, order: Ordering) -> bool {
            self.swap(value, order)
        }

        fn fence(order: Ordering) {
            loom::sync::atomic::fence(order);
        }
    }

    /// A mailbox as the kernel and the queue see it: a count of messages that is as weak as a
    /// queue may be, and an eventfd.
    struct Mailbox {
        bell: Bell<AtomicBool>,
        sent: AtomicU32,
        eventfd: (Mutex<u64>, Condvar),
    }

    impl Mailbox {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                bell: Bell {
                    rung: AtomicBool::new(false),
                    wanted: AtomicBool::new(false),
                },
                sent: AtomicU32::new(0),
                eventfd: (Mutex::new(0), Condvar::new()),
            })
        }

        fn put(&self) {
            self.sent.fetch_add(1, Ordering::Release);
        }

        fn write(&self) {
            *self.eventfd.0.lock().unwrap() += 1;
            self.eventfd.1.notify_one();
        }

        fn sleep(&self) {
            let mut count = self.eventfd.0.lock().unwrap();
            while *count == 0 {
                count = self.eventfd.1.wait(count).unwrap();
            }
            *count = 0;
        }
    }

    #[test]
    fn a_loud_message_is_not_slept_through_in_any_order() {
        loom::model(|| {
            let mailbox = Mailbox::new();
            let sender = {
                let mailbox = mailbox.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        mailbox.put();
                        if mailbox.bell.ring() {
                            mailbox.write();
                        }
                    }
                })
            };
            // A message slept through is a deadlock here, which the model reports.
            while mailbox.sent.load(Ordering::Acquire) < 2 {
                mailbox.sleep();
                mailbox.bell.answered();
            }
            sender.join().unwrap();
        });
    }

    #[test]
    fn a_quiet_message_is_not_slept_through_by_who_wants_it_in_any_order() {
        loom::model(|| {
            let mailbox = Mailbox::new();
            let sender = {
                let mailbox = mailbox.clone();
                thread::spawn(move || {
                    mailbox.put();
                    if mailbox.bell.ring_if_wanted() {
                        mailbox.write();
                    }
                })
            };
            mailbox.bell.want();
            while mailbox.sent.load(Ordering::Acquire) < 1 {
                mailbox.sleep();
                mailbox.bell.answered();
                mailbox.bell.want();
            }
            sender.join().unwrap();
        });
    }
}
