//! Bytes to a child's pipe or terminal, in order, without holding anybody else up.
//!
//! In: one input at a time, first come first served. Out: all of it taken over, or how much was.
//! A process that does not read delays only the inputs queued behind it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::process::Notify;
use crate::types::ProcessId;

use crate::io::runtime::race::{First, race};
use crate::io::runtime::source::Source;
use crate::io::runtime::timer::{sleep, within};
use crate::io::server::Server;

/// How long an input may wait for its process to read.
const PATIENCE: Duration = Duration::from_millis(4800);

/// How long after a broken pipe the exit of its process may be heard of.
const EXIT_PATIENCE: Duration = Duration::from_millis(100);

/// A terminal may say that it is writable and take nothing; look again after this.
const RETRY_AFTER: Duration = Duration::from_millis(2);

/// Where a process's input goes.
#[derive(Debug)]
pub(crate) struct Input {
    source: Rc<Source>,
    /// Tickets of the inputs under way; the first one's bytes are being written.
    queue: RefCell<VecDeque<u64>>,
    next_ticket: Cell<u64>,
    moved: Notify,
    /// When the process's end last took a byte.
    taken: Cell<Instant>,
}

/// What an input's time is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// From the call: somebody waits for the answer.
    InAll,
    /// From the last byte that was taken, of this or another input, if that is later than
    /// `asked`: a long paste to a slow program goes through.
    WhileItTakes {
        /// When the input was asked for.
        asked: Instant,
    },
}

/// Why an input was not taken over completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputError {
    /// The process is over.
    NotRunning,
    /// The process did not read; this many bytes were taken.
    Timeout {
        /// Bytes that the pipe or terminal took.
        written: u64,
    },
    /// write(2) failed.
    Failed(Errno),
}

/// A place in the queue, given up when dropped.
struct Ticket<'a> {
    input: &'a Input,
    number: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.input
            .queue
            .borrow_mut()
            .retain(|number| *number != self.number);
        self.input.moved.notify();
    }
}

impl Input {
    /// Writes to this end.
    pub(crate) fn new(source: Rc<Source>) -> Rc<Self> {
        Rc::new(Self {
            source,
            queue: RefCell::new(VecDeque::new()),
            next_ticket: Cell::new(0),
            moved: Notify::default(),
            taken: Cell::new(Instant::now()),
        })
    }

    /// The pipe's or terminal's end.
    pub(crate) fn source(&self) -> &Rc<Source> {
        &self.source
    }

    /// Writes all of `data`.
    ///
    /// # Errors
    /// See [`InputError`]; dropped while waiting, it writes no more.
    pub(crate) async fn write(
        &self,
        server: &Server,
        id: ProcessId,
        data: &[u8],
        patience: Patience,
    ) -> Result<(), InputError> {
        let called = Instant::now();
        let ticket = self.enqueue();
        let mut written = 0;
        // Readiness that the next write did not confirm must not become a busy loop.
        let mut woken_in_vain = false;
        loop {
            let (running, changed) = match server.table.borrow().get(id) {
                Some(process) => (process.state.is_running(), process.changed.clone()),
                None => (false, Notify::default()),
            };
            if !running {
                return Err(InputError::NotRunning);
            }
            let (seen, seen_queue) = (changed.version(), self.moved.version());
            let first = self.queue.borrow().front() == Some(&ticket.number);
            let mut refused = false;
            if first {
                match data.get(written..) {
                    None | Some([]) => return Ok(()),
                    Some(rest) => match self.source.write(rest) {
                        Ok(0) | Err(Errno::AGAIN) => refused = true,
                        Ok(len) => {
                            written += len;
                            self.taken.set(Instant::now());
                            woken_in_vain = false;
                            continue;
                        }
                        Err(errno) => {
                            // A process that ends closes its input before its exit is heard of.
                            let over = errno == Errno::PIPE && exits_soon(server, id).await;
                            return Err(match over {
                                true => InputError::NotRunning,
                                false => InputError::Failed(errno),
                            });
                        }
                    },
                }
            }
            let since = match patience {
                Patience::InAll => called,
                Patience::WhileItTakes { asked } => asked.max(self.taken.get()),
            };
            let deadline = since + PATIENCE;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(InputError::Timeout {
                    written: written as u64,
                });
            }
            let pause = refused && woken_in_vain;
            let progress = async {
                if pause {
                    sleep(RETRY_AFTER).await;
                } else if refused {
                    let _ = self.source.writable().await;
                } else {
                    self.moved.changed(seen_queue).await;
                }
            };
            let until = async {
                let mut timer = pin!(sleep(left));
                let mut changed = pin!(changed.changed(seen));
                race(timer.as_mut(), changed.as_mut()).await
            };
            if let First::Left(()) = race(pin!(progress), pin!(until)).await {
                woken_in_vain = refused;
            }
        }
    }

    fn enqueue(&self) -> Ticket<'_> {
        let number = self.next_ticket.get();
        self.next_ticket.set(number + 1);
        self.queue.borrow_mut().push_back(number);
        Ticket {
            input: self,
            number,
        }
    }
}

/// Whether the process is over within [`EXIT_PATIENCE`].
async fn exits_soon(server: &Server, id: ProcessId) -> bool {
    let exited = async {
        loop {
            let changed = match server.table.borrow().get(id) {
                Some(process) if process.state.is_running() => process.changed.clone(),
                _ => return,
            };
            changed.changed(changed.version()).await;
        }
    };
    within(EXIT_PATIENCE, pin!(exited)).await.is_some()
}
