//! One socket, of either kind, with what has been read of it.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg, sockopt};

use super::endpoint::{Endpoint, Way};
use super::error::{ClientError, Result};

/// For a connection to one of the addresses of a name.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// A peer that has been silent for so long is asked whether it lives.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(30);

/// Bytes read at once.
const BUFFER: usize = 64 << 10;

/// A stream of either kind. Clones are the same socket.
#[derive(Clone, Debug)]
pub(super) enum Socket {
    Tcp(Arc<TcpStream>),
    Unix(Arc<UnixStream>),
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&**stream).read(buffer),
            Self::Unix(stream) => (&**stream).read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&**stream).write(data),
            Self::Unix(stream) => (&**stream).write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Socket {
    /// Ends both directions; whoever waits for one of them goes on.
    pub(super) fn shutdown(&self) {
        // The peer may have been faster.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) socket: Socket,
    buffer: Vec<u8>,
    at: usize,
}

impl Connection {
    pub(super) fn open(endpoint: &Endpoint) -> Result<Self> {
        let absent = |error| ClientError::Absent {
            url: endpoint.url().to_owned(),
            error,
        };
        let socket = match &endpoint.way {
            Way::Unix(path) => Socket::Unix(Arc::new(UnixStream::connect(path).map_err(absent)?)),
            Way::Handed(to) => Socket::Unix(Arc::new(hand_over(to).map_err(absent)?)),
            Way::Tcp(name, port) => Socket::Tcp(Arc::new(open_tcp(name, *port).map_err(absent)?)),
        };
        Ok(Self {
            socket,
            buffer: Vec::new(),
            at: 0,
        })
    }

    /// Something that ends this connection from another thread.
    pub(crate) fn breaker(&self) -> Breaker {
        Breaker(self.socket.clone())
    }
}

impl Read for Connection {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let there = self.fill_buf()?;
        let len = there.len().min(out.len());
        out[..len].copy_from_slice(&there[..len]);
        self.consume(len);
        Ok(len)
    }
}

impl BufRead for Connection {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.buffer.len() {
            self.buffer.resize(BUFFER, 0);
            self.at = 0;
            let read = loop {
                match self.socket.read(&mut self.buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => break result,
                }
            };
            self.buffer.truncate(*read.as_ref().unwrap_or(&0));
            read?;
        }
        Ok(&self.buffer[self.at..])
    }

    fn consume(&mut self, used: usize) {
        self.at = (self.at + used).min(self.buffer.len());
    }
}

/// See [`Connection::breaker`].
#[derive(Clone, Debug)]
pub(crate) struct Breaker(Socket);

impl Breaker {
    /// Ends the connection.
    pub(crate) fn end(&self) {
        self.0.shutdown();
    }
}

/// Makes a connection and gives the server its end of it.
fn hand_over(to: &OwnedFd) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [theirs.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let flags = SendFlags::NOSIGNAL;
    sendmsg(to, &[IoSlice::new(b"c")], &mut control, flags)?;
    Ok(ours)
}

fn open_tcp(name: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in (name, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                // A stream may be silent for hours; a peer that is gone says nothing either.
                sockopt::set_socket_keepalive(&stream, true)?;
                sockopt::set_tcp_keepidle(&stream, KEEP_ALIVE_AFTER)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
