//! The receiving half of a connection: one read in flight at most, which outlives whoever waits.
//!
//! In: bytes of the peer. Out: [`Reader::bytes`], taken with [`Reader::consume`]. A read that is
//! raced against something else and loses stays in flight; what it brings is there next time, so
//! watching for a vanished peer costs no cancelled operation and loses no byte.
//!
//! An idle connection holds one small buffer; it grows while a peer fills it.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::RawFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::config::timeouts;
use crate::io::conn::standing::Standing;
use crate::io::gate::Gate;
use crate::io::runtime::heap;
use crate::io::runtime::socket::{AsyncReadRent, BufResult, OwnedReadHalf, TcpStream};
use crate::io::runtime::source::{self, Peer};
use crate::io::runtime::tcp;
use crate::io::runtime::timer::sleep;
use crate::io::runtime::turn::{RECEIVED_BYTE_COST, Turn, arrived};
use crate::metrics::metrics;
use crate::types::JobId;

/// Bytes of the buffer of an idle connection.
const CHUNK_BYTES_MIN: usize = 1 << 10;

/// Bytes of the buffer of a connection that only listens.
const CHUNK_BYTES_SILENT: usize = 64;

/// Bytes of one read while a body streams in.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// Unread bytes that are kept for a peer that sends while it is being answered.
pub(crate) const AHEAD_BYTES_MAX: usize = 64 << 10;

type Half = OwnedReadHalf<TcpStream>;
type Read = Pin<Box<dyn Future<Output = (Half, BufResult<usize, Vec<u8>>)>>>;

enum State {
    Idle(Half),
    Reading(Read),
    /// The peer has sent its last byte.
    Ended(Half),
    /// Reading failed.
    Failed,
}

/// What one wait brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// More bytes.
    Data,
    /// The peer has shut down its side (FIN); it may still listen.
    End,
    /// The connection is broken.
    Broken,
}

/// See the module.
pub(crate) struct Reader {
    state: State,
    /// What was received; bytes before `start` have been consumed.
    filled: Vec<u8>,
    start: usize,
    chunk: usize,
    /// The socket, which the connection's two halves own.
    socket: RawFd,
    turn: Rc<Turn>,
    /// What comes is passed on as it is.
    passes_on: bool,
    /// Who is told of what is not consumed.
    standing: Option<Rc<Standing>>,
}

impl Reader {
    /// Reads from this half of `socket`, when it is the connection's turn.
    pub(crate) fn new(
        half: Half,
        socket: RawFd,
        turn: Rc<Turn>,
        standing: Option<Rc<Standing>>,
    ) -> Self {
        Self {
            standing,
            socket,
            state: State::Idle(half),
            filled: Vec::new(),
            start: 0,
            chunk: CHUNK_BYTES_MIN,
            turn,
            passes_on: false,
        }
    }

    /// These bytes were received before this reader was made.
    pub(crate) fn goes_on_with(&mut self, bytes: Vec<u8>) {
        self.filled = bytes;
        self.note();
    }

    fn note(&self) {
        if let Some(standing) = &self.standing {
            standing.reads(self.bytes());
        }
    }

    /// What its client has asked for is this run.
    pub(crate) fn runs(&self, job: JobId) {
        if let Some(standing) = &self.standing {
            standing.runs(job);
        }
    }

    /// How long its client has waited for what it asks for before this server had the connection.
    pub(crate) fn waited(&self) -> Duration {
        let standing = self.standing.as_ref();
        standing.map_or(Duration::ZERO, |standing| standing.waited())
    }

    /// Where its connection stands, if there is a keeper.
    pub(crate) fn standing(&self) -> Option<Rc<Standing>> {
        self.standing.clone()
    }

    /// The connection's socket.
    pub(crate) fn socket(&self) -> RawFd {
        self.socket
    }

    /// Bytes received and not consumed.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.filled[self.start..]
    }

    /// Forgets the first `len` bytes.
    pub(crate) fn consume(&mut self, len: usize) {
        // The rest is moved to the front only when more is read: a buffer full of small requests
        // would else be moved once for each of them.
        self.start = self.start.saturating_add(len).min(self.filled.len());
        if self.start == self.filled.len() {
            // An idle connection keeps no buffer but the one being read into.
            self.filled = Vec::new();
            self.start = 0;
        }
        self.note();
    }

    /// Takes the buffer with all bytes that are not consumed, and where they begin in it.
    pub(crate) fn take(&mut self) -> (Vec<u8>, usize) {
        let start = std::mem::take(&mut self.start);
        (std::mem::take(&mut self.filled), start)
    }

    /// Waits for more bytes. May be dropped and called again.
    pub(crate) async fn fill(&mut self) -> Filled {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// See [`Reader::fill`].
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Filled> {
        let mut read = match std::mem::replace(&mut self.state, State::Failed) {
            State::Idle(half) => {
                // A byte of a request may ask for a whole answer, one that is passed on for none.
                let byte_cost = match self.passes_on {
                    true => 1,
                    false => RECEIVED_BYTE_COST,
                };
                let gate = self.standing.as_ref().map(|of| of.gate().clone());
                start(half, self.chunk, self.turn.clone(), byte_cost, gate)
            }
            State::Reading(read) => read,
            State::Ended(half) => {
                self.state = State::Ended(half);
                return Poll::Ready(Filled::End);
            }
            State::Failed => return Poll::Ready(Filled::Broken),
        };
        let Poll::Ready((half, (result, buffer))) = read.as_mut().poll(cx) else {
            self.state = State::Reading(read);
            return Poll::Pending;
        };
        match result {
            Ok(0) => {
                self.state = State::Ended(half);
                Poll::Ready(Filled::End)
            }
            Ok(len) => {
                self.state = State::Idle(half);
                heap::passed(len);
                metrics(|all| all.received_bytes.add(len as u64));
                arrived();
                self.chunk = if len < self.chunk && !self.passes_on {
                    CHUNK_BYTES_MIN
                } else {
                    (self.chunk * 4).min(CHUNK_BYTES_MAX)
                };
                if let Some(standing) = &self.standing {
                    standing.came(&buffer);
                }
                if self.filled.is_empty() {
                    self.filled = buffer;
                } else {
                    self.filled.drain(..self.start);
                    self.start = 0;
                    self.filled.extend_from_slice(&buffer);
                }
                Poll::Ready(Filled::Data)
            }
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock
                    || error.kind() == io::ErrorKind::Interrupted =>
            {
                self.state = State::Idle(half);
                self.poll_fill(cx)
            }
            Err(_) => Poll::Ready(Filled::Broken),
        }
    }

    /// Completes when the peer no longer listens, as far as that can be seen: [`Filled::End`] or
    /// [`Filled::Broken`]. What it sends meanwhile is kept, up to [`AHEAD_BYTES_MAX`], or one read of
    /// what is passed on; past that nothing is read, and the kernel is asked now and then.
    pub(crate) async fn lost(&mut self) -> Filled {
        let most = match self.passes_on {
            true => 1,
            false => AHEAD_BYTES_MAX,
        };
        loop {
            if self.bytes().len() < most {
                match self.fill().await {
                    Filled::Data => {}
                    end => return end,
                }
                continue;
            }
            match source::peer(self.socket) {
                Peer::Listens => sleep(timeouts::LOOK_AGAIN_AFTER).await,
                Peer::Finished => return Filled::End,
                Peer::Gone => return Filled::Broken,
            }
        }
    }

    /// From now on what comes is passed on as it is, or not. Then reads stay long: a short one says
    /// that the other end is slower, not that little is to come.
    pub(crate) fn passes_on(&mut self, passes_on: bool) {
        self.passes_on = passes_on;
        self.chunk = match passes_on {
            true => CHUNK_BYTES_MAX,
            false => CHUNK_BYTES_MIN,
        };
    }

    /// Makes the next read small, for a peer that is not expected to send anything.
    pub(crate) fn expect_silence(&mut self) {
        self.chunk = CHUNK_BYTES_SILENT;
    }

    /// Whether the peer has shut down its side.
    pub(crate) fn ended(&self) -> bool {
        matches!(self.state, State::Ended(_) | State::Failed)
    }
}

/// With a gate nothing is taken from the socket before it is there: a read that waits would take it
/// when nobody looks any more. And nothing while the gate is shut.
fn start(
    mut half: Half,
    capacity: usize,
    turn: Rc<Turn>,
    byte_cost: usize,
    gate: Option<Rc<Gate>>,
) -> Read {
    Box::pin(async move {
        if gate.is_some()
            && let Err(error) = tcp::readable(&half).await
        {
            return (half, (Err(error), Vec::new()));
        }
        let read = async {
            if let Some(gate) = &gate {
                gate.pass().await;
            }
            half.read(Vec::with_capacity(capacity)).await
        };
        let cost = |(_, buffer): &BufResult<usize, Vec<u8>>| buffer.len() * byte_cost;
        let result = turn.take(pin!(read), cost).await;
        (half, result)
    })
}
