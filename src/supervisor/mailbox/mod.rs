//! A queue between two threads, and an eventfd as its doorbell.
//!
//! In: typed messages. Out: the same, in order, and a descriptor that is readable (poll(2)) when
//! there are some. No lock is shared; a descriptor changes hands inside a message.

mod bell;

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc;

use rustix::event::{EventfdFlags, eventfd};

use self::bell::Bell;

/// An eventfd that wakes the other thread. Ringing twice before it is answered costs one write.
#[derive(Debug)]
struct Doorbell {
    file: File,
    bell: Bell,
}

impl Doorbell {
    fn new() -> std::io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            file: File::from(fd),
            bell: Bell::default(),
        })
    }

    fn write(&self) {
        let write = || (&self.file).write(&1u64.to_ne_bytes());
        // A full counter (EAGAIN) means that the bell is ringing already.
        while write().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {}
    }

    /// Silences the bell. Call before taking messages: one sent later rings again.
    fn answer(&self) {
        let mut count = [0; 8];
        let _ = (&self.file).read(&mut count);
        self.bell.answered();
    }
}

/// The sending end; cheap to clone.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    queue: mpsc::Sender<T>,
    door: Arc<Doorbell>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            door: self.door.clone(),
        }
    }
}

impl<T> Sender<T> {
    /// Sends and rings. A receiver that is gone means the server is ending; the message is lost.
    pub(crate) fn send(&self, message: T) {
        if self.queue.send(message).is_ok() && self.door.bell.ring() {
            self.door.write();
        }
    }

    /// Sends without ringing, for what can wait until the receiver wakes for another reason.
    pub(crate) fn send_quietly(&self, message: T) {
        let _ = self.queue.send(message);
    }

    /// Rings for what was sent quietly, if the receiver has asked for that
    /// ([`Receiver::want`]).
    pub(crate) fn ring_if_wanted(&self) {
        if self.door.bell.ring_if_wanted() {
            self.door.write();
        }
    }
}

/// The receiving end, readable (poll(2)) when something was sent.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    queue: mpsc::Receiver<T>,
    door: Arc<Doorbell>,
}

impl<T> Receiver<T> {
    /// Takes everything sent so far and leaves the bell as it is.
    pub(crate) fn take(&self) -> impl Iterator<Item = T> + '_ {
        self.queue.try_iter()
    }

    /// Asks that the next quiet message rings. Take messages once more before you sleep.
    pub(crate) fn want(&self) {
        self.door.bell.want();
    }

    /// Silences the bell. What is sent afterwards rings again, so take messages after it.
    pub(crate) fn answer(&self) {
        self.door.answer();
    }

    /// Silences the bell and takes everything sent so far.
    pub(crate) fn drain(&self) -> impl Iterator<Item = T> + '_ {
        self.answer();
        self.take()
    }
}

impl<T> AsFd for Receiver<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.door.file.as_fd()
    }
}

/// A queue with a doorbell.
///
/// # Errors
/// When no eventfd can be made.
pub(crate) fn channel<T>() -> std::io::Result<(Sender<T>, Receiver<T>)> {
    let (sender, receiver) = mpsc::channel();
    let door = Arc::new(Doorbell::new()?);
    Ok((
        Sender {
            queue: sender,
            door: door.clone(),
        },
        Receiver {
            queue: receiver,
            door,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    fn ringing(receiver: &Receiver<u32>) -> bool {
        let mut fds = [PollFd::new(receiver, PollFlags::IN)];
        poll(
            &mut fds,
            Some(&rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        )
        .unwrap()
            == 1
    }

    #[test]
    fn every_message_arrives_and_the_bell_rings_again_after_an_answer() {
        let (sender, receiver) = channel().unwrap();
        assert!(!ringing(&receiver));
        sender.send(1);
        sender.send(2);
        assert!(ringing(&receiver));
        assert_eq!(receiver.drain().collect::<Vec<_>>(), [1, 2]);
        assert!(!ringing(&receiver));
        sender.clone().send(3);
        assert!(ringing(&receiver));
        assert_eq!(receiver.drain().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn no_message_is_slept_through_under_contention() {
        let (sender, receiver) = channel::<u32>().unwrap();
        let writer = std::thread::spawn(move || (0..50_000).for_each(|i| sender.send(i)));
        let mut next = 0;
        while next < 50_000 {
            let mut fds = [PollFd::new(&receiver, PollFlags::IN)];
            let limit = rustix::event::Timespec {
                tv_sec: 20,
                tv_nsec: 0,
            };
            assert_eq!(
                poll(&mut fds, Some(&limit)).unwrap(),
                1,
                "slept through message {next}"
            );
            for message in receiver.drain() {
                assert_eq!(message, next);
                next += 1;
            }
        }
        writer.join().unwrap();
    }
}
