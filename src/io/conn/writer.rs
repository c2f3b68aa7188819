//! The sending half of a connection: whole buffers, and a limit on a peer that takes nothing.

use std::future::Future;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::RawFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use crate::budget::{Budget, Charge, Kind};
use crate::config::timeouts;
use crate::log::batch::Chunk;
use crate::metrics::metrics;

use crate::io::runtime::heap;
use crate::io::runtime::meter;
use crate::io::runtime::race::{First, race};
use crate::io::runtime::socket::{AsyncWriteRent, IoBuf, OwnedWriteHalf, TcpStream};
use crate::io::runtime::source::{self, Peer};
use crate::io::runtime::tcp;
use crate::io::runtime::timer::within;
use crate::io::runtime::turn::Turn;

/// The part of the budget that answers leave to others before they have to be taken soon.
const FOR_OTHERS: u64 = 4;

/// What is sent without a way through the event loop, where the socket takes it.
const AT_ONCE_BYTES_MAX: usize = 16 << 10;

/// See the module.
pub(crate) struct Writer {
    half: OwnedWriteHalf<TcpStream>,
    /// The socket, which the connection's two halves own.
    socket: RawFd,
    turn: Rc<Turn>,
    budget: Budget,
    has_stalled: bool,
}

impl Writer {
    /// Writes to this half of `socket`, when it is the connection's turn.
    pub(crate) fn new(
        half: OwnedWriteHalf<TcpStream>,
        socket: RawFd,
        turn: Rc<Turn>,
        budget: Budget,
    ) -> Self {
        Self {
            half,
            socket,
            turn,
            budget,
            has_stalled: false,
        }
    }

    /// Whether the connection is given up because its peer takes nothing.
    pub(crate) fn has_stalled(&self) -> bool {
        self.has_stalled
    }

    /// Counts what waits to be taken, and says how long it may: not long where memory is short.
    fn hold(&self, bytes: usize) -> (Option<Charge>, Duration) {
        if bytes < AT_ONCE_BYTES_MAX {
            return (None, timeouts::STALL_MAX);
        }
        let bytes = bytes as u64;
        let left = self.budget.max() / FOR_OTHERS;
        let is_there = self.budget.free() >= left.saturating_add(bytes);
        let charge = self.budget.hold(Kind::Answers, bytes);
        let patience = match is_there {
            true => timeouts::STALL_MAX,
            false => timeouts::STALL_WITHOUT_MEMORY_MAX,
        };
        (Some(charge), patience)
    }

    /// Sends as much as the socket takes at once, from where it lies. None if it is full: then
    /// [`Writer::all`] waits until it is not.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(crate) fn at_once(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        match source::send(self.socket, slices) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => {
                metrics(|all| all.sent_bytes.add(sent as u64));
                Ok(Some(sent))
            }
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What the kernel says of the peer.
    pub(crate) fn peer(&self) -> Peer {
        source::peer(self.socket)
    }

    /// Ends the connection with a reset: what was sent is not all.
    pub(crate) fn reset(&mut self) {
        source::reset(self.socket);
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// When the connection is broken or has stalled for [`timeouts::STALL_MAX`].
    pub(crate) async fn all(&mut self, data: Vec<u8>) -> io::Result<()> {
        let sent = self.try_small(&data)?;
        let rest = sent..data.len();
        match rest.is_empty() {
            true => Ok(()),
            false => self.noting(data, rest, |_| {}).await.map(|_| ()),
        }
    }

    /// Sends at once what is small and the first of its turn of the loop, as much as the socket takes:
    /// through the ring it would wait until all who are ready have had their turn. How much that was.
    fn try_small(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.is_empty() || data.len() > AT_ONCE_BYTES_MAX || self.turn.is_over() {
            return Ok(0);
        }
        if !meter::is_first_sent() {
            return Ok(0);
        }
        let sent = self.at_once(&[IoSlice::new(data)])?.unwrap_or(0);
        if sent > 0 {
            self.turn.charge(sent);
            heap::passed(sent);
        }
        Ok(sent)
    }

    /// Sends all of it to a peer that holds memory of others while it reads: it has to take it
    /// within `time`.
    ///
    /// # Errors
    /// As [`Writer::all`], and when the time is over.
    pub(crate) async fn within(&mut self, data: Vec<u8>, time: Duration) -> io::Result<()> {
        let sent = within(time, pin!(self.all(data))).await;
        sent.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Sends a shared chunk.
    ///
    /// # Errors
    /// As [`Writer::all`].
    pub(crate) async fn chunk(&mut self, chunk: Chunk) -> io::Result<()> {
        let Chunk { bytes, mut range } = chunk;
        let data = bytes.get(range.clone()).unwrap_or_default();
        range.start += self.try_small(data)?;
        match range.is_empty() {
            true => Ok(()),
            false => {
                let rest = self.noting::<Rc<Vec<u8>>>(bytes, range, |_| {});
                rest.await.map(|_| ())
            }
        }
    }

    /// Sends a part of a buffer, which is given back; `took` is called with how much of it the kernel
    /// has taken since it was last called.
    ///
    /// # Errors
    /// As [`Writer::all`].
    // Boxed, since all who may write would have to carry room for it while they do not.
    pub(crate) fn noting<'a, B: IoBuf>(
        &'a mut self,
        mut buffer: B,
        mut range: Range<usize>,
        mut took: impl FnMut(usize) + 'a,
    ) -> Pin<Box<impl Future<Output = io::Result<B>>>> {
        Box::pin(async move {
            let (_held, patience) = self.hold(range.len());
            while range.start < range.end {
                let slice = buffer.slice(range.clone());
                let len = range.len();
                let write = pin!(self.half.write(slice));
                let written = pin!(within(patience, write));
                let Some((result, slice)) = self.turn.take(written, |_| len).await else {
                    self.has_stalled = true;
                    return Err(io::ErrorKind::TimedOut.into());
                };
                buffer = slice.into_inner();
                match result {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(sent) => {
                        range.start += sent;
                        heap::passed(sent);
                        metrics(|all| all.sent_bytes.add(sent as u64));
                        took(sent);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(buffer)
        })
    }

    /// Sends a part of a buffer, of which at any moment is known what the kernel has taken, until
    /// `stop` completes. Returns the buffer, and what has not been sent of it.
    ///
    /// # Errors
    /// As [`Writer::all`].
    pub(crate) async fn until(
        &mut self,
        buffer: Vec<u8>,
        mut range: Range<usize>,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> io::Result<(Vec<u8>, Range<usize>)> {
        let (_held, patience) = self.hold(range.len());
        while let Some(data) = buffer.get(range.clone()).filter(|data| !data.is_empty()) {
            if self.turn.is_over() {
                self.turn.rest().await;
            }
            if let Some(sent) = self.at_once(&[IoSlice::new(data)])? {
                self.turn.charge(sent);
                heap::passed(sent);
                range.start += sent;
                continue;
            }
            let writable = pin!(tcp::writable(&self.half));
            match race(pin!(within(patience, writable)), stop.as_mut()).await {
                First::Left(Some(ready)) => ready?,
                First::Left(None) => {
                    self.has_stalled = true;
                    return Err(io::ErrorKind::TimedOut.into());
                }
                First::Right(()) => break,
            }
        }
        Ok((buffer, range))
    }

    /// Sends FIN; what was sent before arrives first.
    pub(crate) async fn finish(&mut self) {
        let _ = self.half.shutdown().await;
    }
}
