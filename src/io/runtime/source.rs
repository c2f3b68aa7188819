//! A pipe, a terminal or an eventfd on the runtime: readiness from the driver, bytes by read(2)
//! and write(2).
//!
//! In: a non-blocking descriptor. Out: "may be readable", and bytes straight into the caller's
//! slice. Nothing is in flight while a task waits, so a wait can be dropped at any time and
//! nothing is lost. Why not the runtime's own reads: docs/design/003-pipe-reads.md.
//!
//! # Safety
//! The descriptor is owned by a `UnixStream` only because that is the runtime's type that offers
//! readiness; its read and write (recv and send) are never called. Borrowing the raw descriptor
//! is sound while that owner is borrowed.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::task::{Context, Waker};

use monoio::net::UnixStream;
use rustix::io::fcntl_dupfd_cloexec;

use crate::ledger::records::Named;

/// A non-blocking descriptor that is not a socket of ours.
pub(crate) struct Source {
    stream: UnixStream,
    /// Boxed, because most sources do not use it.
    at_close: Option<Box<AtClose>>,
    given_up: Cell<bool>,
    /// Who waits for it and asks to hear of that.
    waiting: Cell<Option<Waker>>,
}

/// What is to be done when it is closed.
#[derive(Default)]
struct AtClose {
    /// Somebody has written down what this descriptor is.
    named: Option<Named>,
    farewell: Option<Box<Farewell>>,
}

/// Gets a copy of the descriptor that is about to be closed, None if there can be none.
type Farewell = dyn FnOnce(Option<OwnedFd>);

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.stream).finish()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let Some(at_close) = self.at_close.take() else {
            return;
        };
        // Before the number can be another descriptor's.
        drop(at_close.named);
        if let Some(farewell) = at_close.farewell {
            farewell(fcntl_dupfd_cloexec(&*self, 3).ok());
        }
    }
}

impl Source {
    /// Registers a descriptor, which becomes non-blocking.
    ///
    /// # Errors
    /// When the driver refuses it, for instance epoll a regular file.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self {
            stream: UnixStream::from_std(fd.into())?,
            at_close: None,
            given_up: Cell::new(false),
            waiting: Cell::new(None),
        })
    }

    /// Has `farewell` called when the descriptor is about to be closed. While that keeps the copy
    /// it gets, what the descriptor leads to is not free for others.
    pub(crate) fn before_close(mut self, farewell: impl FnOnce(Option<OwnedFd>) + 'static) -> Self {
        self.at_close.get_or_insert_default().farewell = Some(Box::new(farewell));
        self
    }

    /// Has this name end before the descriptor is closed.
    pub(crate) fn named(mut self, name: Named) -> Self {
        self.set_name(name);
        self
    }

    /// The same.
    pub(crate) fn set_name(&mut self, name: Named) {
        self.at_close.get_or_insert_default().named = Some(name);
    }

    /// The number of the descriptor.
    pub(crate) fn number(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Nobody is to wait for it any more. Whoever does is woken, if [`Source::poll_given_up`] was
    /// asked.
    pub(crate) fn give_up(&self) {
        self.given_up.set(true);
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    /// Whether it has been given up.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.get()
    }

    /// Whether it has been given up; if not, the task of `cx` is woken when it is.
    pub(crate) fn poll_given_up(&self, cx: &Context<'_>) -> bool {
        if !self.given_up.get() {
            let known = self
                .waiting
                .take()
                .filter(|known| known.will_wake(cx.waker()));
            let waiting = known.unwrap_or_else(|| cx.waker().clone());
            self.waiting.set(Some(waiting));
        }
        self.given_up.get()
    }

    /// Completes when a read would not block, at the end, or on an error.
    ///
    /// # Errors
    /// When the driver cannot wait.
    pub(crate) fn readable(&self) -> impl Future<Output = io::Result<()>> {
        self.stream.readable(false)
    }

    /// Completes when a write would not block, or on an error.
    ///
    /// # Errors
    /// When the driver cannot wait.
    pub(crate) fn writable(&self) -> impl Future<Output = io::Result<()>> {
        self.stream.writable(false)
    }

    /// As read(2).
    ///
    /// # Errors
    /// As read(2); `WouldBlock` when there is nothing.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        rustix::io::retry_on_intr(|| rustix::io::read(self, &mut *buffer))
    }

    /// As write(2).
    ///
    /// # Errors
    /// As write(2); `WouldBlock` when it is full.
    pub(crate) fn write(&self, data: &[u8]) -> rustix::io::Result<usize> {
        rustix::io::retry_on_intr(|| rustix::io::write(self, data))
    }

    /// Bytes that can be read now (FIONREAD); 0 if the descriptor cannot tell.
    pub(crate) fn pending(&self) -> u64 {
        rustix::io::ioctl_fionread(self).unwrap_or(0)
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream owns the descriptor and is borrowed for as long as the result.
        unsafe { BorrowedFd::borrow_raw(self.stream.as_raw_fd()) }
    }
}

/// Sends as much of these slices as a connected socket takes at once, from where they lie.
///
/// # Errors
/// As send(2); `WouldBlock` when it is full.
pub(crate) fn send(
    socket: std::os::fd::RawFd,
    slices: &[io::IoSlice<'_>],
) -> rustix::io::Result<usize> {
    use rustix::net::{self, SendAncillaryBuffer, SendFlags};

    // SAFETY: borrowed for one send(2). Of a number that is no socket it says so (EBADF,
    // ENOTSOCK); the caller, a connection's writer, owns a half of the socket meanwhile.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::io::retry_on_intr(|| match slices {
        [slice] => net::send(socket, slice, flags),
        _ => net::sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), flags),
    })
}

/// Ends one direction of a connection, or both: whoever waits for it goes on at once.
pub(crate) fn shut_down(socket: std::os::fd::RawFd, how: rustix::net::Shutdown) {
    // SAFETY: as in `send`; shutdown(2) says so of what is no socket.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    // Refused of one that its peer has ended.
    let _ = rustix::net::shutdown(socket, how);
}

/// Resets a connection: its peer is not to take what it got for all. (A close with SO_LINGER would
/// come too late: the runtime sends FIN before it closes.)
pub(crate) fn reset(socket: std::os::fd::RawFd) {
    // SAFETY: as in `send`; connect(2) says so of what is no socket.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    // Refused of one that is broken anyway.
    let _ = rustix::net::connect_unspec(socket);
}

/// What the kernel says of the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// It may send more.
    Listens,
    /// It has sent its last byte (FIN).
    Finished,
    /// The connection is broken.
    Gone,
}

/// Looks at the peer of a connected socket without reading: what is unread does not hide its end.
pub(crate) fn peer(socket: std::os::fd::RawFd) -> Peer {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    // SAFETY: borrowed for one poll(2), which changes nothing; of a number that is no descriptor
    // it says so (POLLNVAL).
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    let mut asked = [PollFd::from_borrowed_fd(socket, PollFlags::RDHUP)];
    let at_once = Timespec::default();
    let answered = rustix::io::retry_on_intr(|| poll(&mut asked, Some(&at_once)));
    let said = match answered {
        Ok(0) => return Peer::Listens,
        Ok(_) => asked[0].revents(),
        // For want of memory; the next look may tell.
        Err(_) => return Peer::Listens,
    };
    if said == PollFlags::RDHUP {
        Peer::Finished
    } else {
        Peer::Gone
    }
}
