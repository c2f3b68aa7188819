//! Bytes to a child's pipe or terminal, in order, without holding anybody else up.
//!
//! In: one input at a time, first come first served. Out: all of it taken over, or how much was.
//! A process that does not read delays only the inputs queued behind it; how long one may wait is
//! for the caller to say.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;

use crate::config::timeouts;
use crate::process::Notify;
use crate::types::ProcessId;

use crate::io::host::backlog::Backlog;
use crate::io::runtime::pauses::Pauses;
use crate::io::runtime::race::{First, race};
use crate::io::runtime::source::Source;
use crate::io::runtime::timer::{sleep, within};
use crate::io::server::Server;
use crate::io::wait::exited;

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
    /// What waits to be written here for viewers of a terminal; made for the first of them.
    backlog: OnceCell<Backlog>,
}

/// Why an input was not taken over completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputError {
    /// The process is over.
    NotRunning,
    /// write(2) failed.
    Failed(Errno),
}

/// A place in the queue, given up when dropped.
struct Ticket<'a> {
    input: &'a Input,
    number: u64,
}

impl Ticket<'_> {
    /// Completes when this is the first one.
    async fn first(&self) {
        loop {
            let seen = self.input.moved.version();
            if self.input.queue.borrow().front() == Some(&self.number) {
                return;
            }
            self.input.moved.changed(seen).await;
        }
    }
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
            backlog: OnceCell::new(),
        })
    }

    /// The pipe's or terminal's end.
    pub(crate) fn source(&self) -> &Rc<Source> {
        &self.source
    }

    /// What waits to be written here for viewers of a terminal.
    pub(crate) fn backlog(&self) -> &Backlog {
        self.backlog.get_or_init(Backlog::new)
    }

    /// Writes all of `data`, however long that takes while the process runs; `written` tells how
    /// much there has been taken. Dropped while it waits, it writes no more.
    ///
    /// # Errors
    /// See [`InputError`].
    pub(crate) async fn write(
        &self,
        server: &Server,
        id: ProcessId,
        data: &[u8],
        written: &Cell<usize>,
    ) -> Result<(), InputError> {
        let ticket = self.enqueue();
        let over = InputError::NotRunning;
        while_running(server, id, pin!(ticket.first()))
            .await
            .ok_or(over)?;
        let mut pauses = Pauses::from(RETRY_AFTER);
        // Readiness that the next write did not confirm must not become a busy loop.
        let mut woken_in_vain = false;
        while let Some(rest @ [_, ..]) = data.get(written.get()..) {
            let pause = match self.source.write(rest) {
                Ok(len @ 1..) => {
                    written.set(written.get() + len);
                    if let Some(backlog) = self.backlog.get() {
                        backlog.taken();
                    }
                    (woken_in_vain, pauses) = (false, Pauses::from(RETRY_AFTER));
                    continue;
                }
                Ok(0) | Err(Errno::AGAIN) => {
                    let pause = woken_in_vain;
                    woken_in_vain = !pause;
                    pause
                }
                // Nobody has the terminal open now, which may change while the process runs.
                // Until then it is ready, always.
                Err(Errno::IO) => true,
                Err(errno) => {
                    // A process that ends closes its input before its exit is heard of.
                    let over = errno == Errno::PIPE && exits_soon(server, id).await;
                    return Err(match over {
                        true => InputError::NotRunning,
                        false => InputError::Failed(errno),
                    });
                }
            };
            let progress = async {
                if pause {
                    sleep(pauses.longer()).await;
                } else {
                    let _ = self.source.writable().await;
                }
            };
            while_running(server, id, pin!(progress))
                .await
                .ok_or(over)?;
        }
        Ok(())
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

/// What `future` comes to; None as soon as the process is over.
async fn while_running<F: Future>(
    server: &Server,
    id: ProcessId,
    mut future: Pin<&mut F>,
) -> Option<F::Output> {
    loop {
        let changed = match server.table.borrow().get(id) {
            Some(process) if process.life.is_running() => process.changed.clone(),
            _ => return None,
        };
        let changed = changed.changed(changed.version());
        if let First::Left(output) = race(future.as_mut(), pin!(changed)).await {
            return Some(output);
        }
    }
}

/// Whether the process is over within [`timeouts::BROKEN_PIPE_PATIENCE`].
async fn exits_soon(server: &Server, id: ProcessId) -> bool {
    within(timeouts::BROKEN_PIPE_PATIENCE, pin!(exited(server, id)))
        .await
        .is_some()
}
