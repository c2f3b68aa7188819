//! Bytes to a child's pipe or terminal, in order, without holding anybody else up.
//!
//! In: inputs of all channels, first come first served. Out: all of one taken over, or how much
//! was, and the end of input. Owns the count of all bytes that were ever accepted, whoever sent
//! them. A process that does not read delays only the inputs queued behind it; how long one may
//! wait is for the caller to say.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::config::timeouts;
use crate::metrics::metrics;
use crate::supervisor::spawn::pty;
use crate::types::ProcessId;

use crate::io::host::backlog::{Backlog, Place};
use crate::io::host::line::Line;
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
    to: To,
    /// Inputs under way; the first one's bytes are being written.
    inputs: Line,
    /// Bodies that come in pieces, each an input of its own; the first one's pieces are written.
    bodies: OnceCell<Box<Line>>,
    /// Bytes that were ever taken, of all channels.
    accepted: Cell<u64>,
    /// When the process last took a byte.
    taken: Cell<Instant>,
    /// The end of input is behind the input of this number; all later ones are refused.
    end: Cell<Option<u64>>,
    /// What waits to be written here for viewers; made for the first of them.
    backlog: OnceCell<Backlog>,
}

#[derive(Debug)]
enum To {
    /// Gone once the end of input has been reached.
    Pipe(RefCell<Option<Rc<Source>>>),
    Terminal(Rc<Source>),
}

/// Why an input was not taken over completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputError {
    /// The process is over.
    NotRunning,
    /// It comes after the end of input.
    Closed,
    /// Its offset is beyond what was accepted.
    Ahead {
        /// Its offset.
        offset: u64,
        /// Bytes accepted so far.
        accepted: u64,
    },
    /// write(2) failed.
    Failed(Errno),
}

/// What is to be written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Offer<'a> {
    /// The bytes.
    pub(crate) data: &'a [u8],
    /// How many bytes the client believes were accepted before these. What was accepted of them is
    /// skipped.
    pub(crate) offset: Option<u64>,
    /// The end of input follows.
    pub(crate) eof: bool,
}

/// How far an input has come; also one that is dropped while it waits.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Bytes that were accepted before, from its offset on; may be more than it has.
    pub(crate) skipped: Cell<u64>,
    /// Bytes that were written.
    pub(crate) written: Cell<usize>,
}

/// A place among the inputs of a process, given up when dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    input: Rc<Input>,
    number: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.input.inputs.leave(self.number);
        self.input.close_if_due();
    }
}

/// A place among the bodies that are passed on in pieces, given up when dropped.
#[derive(Debug)]
pub(crate) struct BodyTicket {
    input: Rc<Input>,
    number: u64,
}

impl Drop for BodyTicket {
    fn drop(&mut self) {
        self.input.bodies().leave(self.number);
    }
}

impl Input {
    fn new(to: To, end: Option<u64>) -> Rc<Self> {
        Rc::new(Self {
            to,
            inputs: Line::default(),
            bodies: OnceCell::new(),
            accepted: Cell::new(0),
            taken: Cell::new(Instant::now()),
            end: Cell::new(end),
            backlog: OnceCell::new(),
        })
    }

    /// Writes to this end of a pipe.
    pub(crate) fn pipe(source: Rc<Source>) -> Rc<Self> {
        Self::new(To::Pipe(RefCell::new(Some(source))), None)
    }

    /// Writes to this terminal.
    pub(crate) fn terminal_of(source: Rc<Source>) -> Rc<Self> {
        Self::new(To::Terminal(source), None)
    }

    /// Has ended before it began.
    pub(crate) fn closed() -> Rc<Self> {
        Self::new(To::Pipe(RefCell::new(None)), Some(0))
    }

    /// The terminal's end, where it is one.
    pub(crate) fn terminal(&self) -> Option<&Rc<Source>> {
        match &self.to {
            To::Terminal(source) => Some(source),
            To::Pipe(_) => None,
        }
    }

    /// So many bytes were accepted before another server.
    pub(crate) fn goes_on(&self, accepted: u64) {
        self.accepted.set(accepted);
    }

    /// Bytes that were ever accepted, of all channels. What the server types by itself, as the end
    /// of input on a terminal, does not count: no client sent it.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.get()
    }

    /// When the process last took a byte.
    pub(crate) fn taken(&self) -> Instant {
        self.taken.get()
    }

    /// What waits to be written here for viewers.
    pub(crate) fn backlog(&self) -> &Backlog {
        self.backlog.get_or_init(Backlog::new)
    }

    /// Room in the backlog; see [`Backlog::place`].
    pub(crate) async fn place(&self, bytes: usize) -> Option<Place> {
        self.backlog().place(bytes, &self.taken).await
    }

    /// A place behind all inputs that have come before.
    pub(crate) fn ticket(self: &Rc<Self>) -> Ticket {
        Ticket {
            input: self.clone(),
            number: self.inputs.join(),
        }
    }

    /// A place behind all bodies that have come before.
    pub(crate) fn body_ticket(self: &Rc<Self>) -> BodyTicket {
        BodyTicket {
            input: self.clone(),
            number: self.bodies().join(),
        }
    }

    fn bodies(&self) -> &Line {
        self.bodies.get_or_init(Box::default)
    }

    /// The end of input comes behind all that waits now. False for a terminal, whose end of input
    /// is typed (see [`Offer::eof`]).
    pub(crate) fn end(&self) -> bool {
        if self.terminal().is_some() {
            return false;
        }
        self.end_behind(self.inputs.last());
        true
    }

    /// Whether the end of input is behind what waits now.
    pub(crate) fn ends(&self) -> bool {
        self.end.get().is_some() && self.source().is_some()
    }

    fn end_behind(&self, number: u64) {
        let end = self.end.get().map_or(number, |end| end.min(number));
        self.end.set(Some(end));
        self.close_if_due();
    }

    /// Closes a pipe once nobody waits who came before the end of input.
    fn close_if_due(&self) {
        if let To::Pipe(source) = &self.to
            && self.end.get().is_some_and(|end| self.inputs.is_past(end))
        {
            drop(source.take());
        }
    }

    fn source(&self) -> Option<Rc<Source>> {
        match &self.to {
            To::Terminal(source) => Some(source.clone()),
            To::Pipe(source) => source.borrow().clone(),
        }
    }

    fn accept(&self, len: usize) {
        metrics(|all| all.input_bytes.add(len as u64));
        self.accepted.set(self.accepted.get() + len as u64);
        self.taken.set(Instant::now());
    }

    /// Types the character that means the end of input to a terminal (termios(3), VEOF), if it has
    /// one.
    async fn type_end(&self, server: &Server, id: ProcessId) -> Result<(), InputError> {
        let Some(source) = self.terminal() else {
            return Ok(());
        };
        let Some(end) = pty::end_of_input(&**source).map_err(InputError::Failed)? else {
            return Ok(());
        };
        put(source, server, id, &[end], |_| {
            self.taken.set(Instant::now())
        })
        .await
    }
}

impl Ticket {
    /// Which of the inputs of its process this is.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whether what it is for is refused.
    fn is_behind_the_end(&self) -> bool {
        let end = self.input.end.get();
        end.is_some_and(|end| self.number > end)
    }

    /// Writes all of an offer, however long that takes while the process runs; `progress` tells
    /// how far it has come. Dropped while it waits, it writes no more.
    ///
    /// # Errors
    /// See [`InputError`].
    pub(crate) async fn write(
        &self,
        server: &Server,
        id: ProcessId,
        offer: Offer<'_>,
        progress: &Progress,
    ) -> Result<(), InputError> {
        let Self { input, number } = self;
        // Whoever has an offset has to know what was accepted before.
        if offer.offset.is_none() && self.is_behind_the_end() {
            let asks_again = offer.data.is_empty() && offer.eof;
            return asks_again.then_some(()).ok_or(InputError::Closed);
        }
        while_running(server, id, pin!(input.inputs.turn(*number)))
            .await
            .ok_or(InputError::NotRunning)?;
        let accepted = input.accepted();
        if let Some(offset) = offer.offset {
            let skipped = accepted.checked_sub(offset);
            let skipped = skipped.ok_or(InputError::Ahead { offset, accepted })?;
            progress.skipped.set(skipped);
        }
        let skipped = usize::try_from(progress.skipped.get()).unwrap_or(usize::MAX);
        let rest = offer.data.get(skipped..).unwrap_or_default();
        if self.is_behind_the_end() {
            // Sent again, since its answer was lost.
            let again = rest.is_empty() && (offer.eof || offer.offset.is_some());
            return again.then_some(()).ok_or(InputError::Closed);
        }
        let source = input.source().ok_or(InputError::Closed)?;
        let count = |len| {
            progress.written.set(progress.written.get() + len);
            input.accept(len);
        };
        put(&source, server, id, rest, count).await?;
        if offer.eof {
            match input.to {
                To::Pipe(_) => input.end_behind(*number),
                To::Terminal(_) => input.type_end(server, id).await?,
            }
        }
        Ok(())
    }
}

impl BodyTicket {
    /// Completes when this body's pieces are those to write; None as soon as the process is over.
    pub(crate) async fn turn(&self, server: &Server, id: ProcessId) -> Option<()> {
        while_running(server, id, pin!(self.input.bodies().turn(self.number))).await
    }
}

/// Writes all of `data`, telling of each part that was taken.
async fn put(
    source: &Source,
    server: &Server,
    id: ProcessId,
    mut data: &[u8],
    taken: impl Fn(usize),
) -> Result<(), InputError> {
    let mut pauses = Pauses::from(RETRY_AFTER);
    // Readiness that the next write did not confirm must not become a busy loop.
    let mut woken_in_vain = false;
    while !data.is_empty() {
        let pause = match source.write(data) {
            Ok(len @ 1..) => {
                data = data.get(len..).unwrap_or_default();
                taken(len);
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
                let _ = source.writable().await;
            }
        };
        while_running(server, id, pin!(progress))
            .await
            .ok_or(InputError::NotRunning)?;
    }
    Ok(())
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
