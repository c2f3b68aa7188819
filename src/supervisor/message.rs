//! What the I/O thread and the supervisor say to each other.
//!
//! Typed messages over `std::sync::mpsc`, and an eventfd as doorbell on each side. No lock is
//! shared; a descriptor changes hands inside a message.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

pub use crate::supervisor::spawn::spec::SpawnSpec;
use crate::types::{ExitStatus, JobId, SpawnError};

/// What the I/O thread asks for.
#[derive(Debug)]
pub enum Command {
    /// Start a child; answered by [`Event::Spawned`] or [`Event::SpawnFailed`].
    Spawn {
        /// Names the child from now on.
        job: JobId,
        /// What to start and with which descriptors.
        spec: Box<SpawnSpec>,
        /// When to kill its tree and say [`Event::TimedOut`].
        deadline: Option<Instant>,
    },
    /// SIGTERM, then SIGCONT, to the child's process group.
    Stop {
        /// Which child.
        job: JobId,
        /// SIGKILL to the tree this long after, if it still runs.
        grace: Option<Duration>,
    },
    /// SIGKILL to every descendant, repeated until none is left. Works on an exited child too.
    Kill {
        /// Which child.
        job: JobId,
    },
    /// Nobody will ask about this child again; what is left of its tree lives on.
    Forget {
        /// Which child.
        job: JobId,
    },
    /// [`Command::Kill`], then [`Command::Forget`].
    End {
        /// Which child.
        job: JobId,
    },
}

/// What the supervisor reports.
#[derive(Debug)]
pub enum Event {
    /// The program runs.
    Spawned {
        /// Which child.
        job: JobId,
        /// Its process id, also its session and group id.
        pid: i32,
    },
    /// There is no child.
    SpawnFailed {
        /// Which child.
        job: JobId,
        /// Why.
        error: SpawnError,
    },
    /// The direct child is gone and reaped; its last output is in its pipes.
    Exited {
        /// Which child.
        job: JobId,
        /// How it ended.
        status: ExitStatus,
    },
    /// The deadline passed. The tree is dead, or has been refusing to die for a moment.
    TimedOut {
        /// Which child.
        job: JobId,
        /// How the direct child ended, if it has.
        status: Option<ExitStatus>,
    },
    /// The server was told to end (SIGTERM, SIGINT): no new work.
    ShuttingDown,
    /// Every child and descendant is gone after [`Event::ShuttingDown`].
    AllGone,
}

/// An eventfd that wakes the other thread. Ringing twice before it is answered costs one write.
#[derive(Debug)]
pub struct Doorbell {
    file: File,
    rung: AtomicBool,
}

impl Doorbell {
    fn new() -> std::io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            file: File::from(fd),
            rung: AtomicBool::new(false),
        })
    }

    fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            let write = || (&self.file).write(&1u64.to_ne_bytes());
            // A full counter (EAGAIN) means that the bell is ringing already.
            while write().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {}
        }
    }

    /// Silences the bell. Call before taking messages: one sent later rings again.
    fn answer(&self) {
        let mut count = [0; 8];
        let _ = (&self.file).read(&mut count);
        self.rung.store(false, Ordering::Release);
    }
}

/// The sending end; cheap to clone.
#[derive(Debug)]
pub struct Sender<T> {
    queue: mpsc::Sender<T>,
    bell: Arc<Doorbell>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            bell: self.bell.clone(),
        }
    }
}

impl<T> Sender<T> {
    /// Sends and rings. A receiver that is gone means the server is ending; the message is lost.
    pub fn send(&self, message: T) {
        if self.queue.send(message).is_ok() {
            self.bell.ring();
        }
    }

    /// Sends without ringing, for what can wait until the receiver wakes for another reason.
    pub fn send_quietly(&self, message: T) {
        let _ = self.queue.send(message);
    }

    /// Rings for what was sent quietly.
    pub fn ring(&self) {
        self.bell.ring();
    }
}

/// The receiving end, readable (poll(2)) when something was sent.
#[derive(Debug)]
pub struct Receiver<T> {
    queue: mpsc::Receiver<T>,
    bell: Arc<Doorbell>,
}

impl<T> Receiver<T> {
    /// Takes everything sent so far and leaves the bell as it is.
    pub fn take(&self) -> impl Iterator<Item = T> + '_ {
        self.queue.try_iter()
    }

    /// Silences the bell. What is sent afterwards rings again, so take messages after it.
    pub fn answer(&self) {
        self.bell.answer();
    }

    /// Silences the bell and takes everything sent so far.
    pub fn drain(&self) -> impl Iterator<Item = T> + '_ {
        self.answer();
        self.take()
    }
}

impl<T> AsFd for Receiver<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.file.as_fd()
    }
}

/// A queue with a doorbell.
///
/// # Errors
/// When no eventfd can be made.
pub fn channel<T>() -> std::io::Result<(Sender<T>, Receiver<T>)> {
    let (sender, receiver) = mpsc::channel();
    let bell = Arc::new(Doorbell::new()?);
    Ok((
        Sender {
            queue: sender,
            bell: bell.clone(),
        },
        Receiver {
            queue: receiver,
            bell,
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
