//! What is asked of TCP that nothing else wraps (tcp(7)).
//!
//! In: a connected socket. Out: a short queue; how long its way is; when it can be read
//! or written.
//!
//! # Safety
//! Two calls of the C library with a number for the socket and a buffer of a known size; what is no
//! socket is refused (EBADF, ENOTSOCK). And borrows of
//! what two halves of a connection share, and a structure of numbers that begins as zeros.
#![allow(unsafe_code)]

use std::future::Future;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use monoio::io::{OwnedReadHalf, OwnedWriteHalf};
use monoio::net::TcpStream;

/// Has writes wait while more than about so many bytes have not been sent, beside what is under
/// way (TCP_NOTSENT_LOWAT, kernel 3.12). What waits in the kernel cannot be overtaken by anything.
///
/// The send buffer itself stays as it is: a long way needs a large one. Where it is refused, more
/// waits.
pub(crate) fn keep_queue_short(socket: RawFd, bytes: u32) {
    // SAFETY: the option is an unsigned int, which `bytes` is, and is read before the call returns.
    unsafe {
        libc::setsockopt(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const bytes).cast(),
            len(&bytes),
        );
    }
}

/// How long the way to the peer and back takes (TCP_INFO); None if that is not known.
pub(crate) fn round_trip(socket: RawFd) -> Option<Duration> {
    // SAFETY: a structure of numbers, for which zeros are values.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = len(&info);
    // SAFETY: writes at most `len` bytes, which is the size of `info`, and `len` itself.
    let result = unsafe {
        libc::getsockopt(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut len,
        )
    };
    let known = result == 0 && info.tcpi_rtt > 0;
    known.then(|| Duration::from_micros(info.tcpi_rtt.into()))
}

/// Completes when the reading half of a connection has something to read, at its end, or on an error.
///
/// # Errors
/// When the driver cannot wait.
pub(crate) fn readable(
    half: &OwnedReadHalf<TcpStream>,
) -> impl Future<Output = io::Result<()>> + '_ {
    // SAFETY: the halves share the stream and live on one thread; what is borrowed here is only asked
    // for its descriptor, which neither half changes, and lives as long as the half does.
    unsafe { &*half.0.get() }.readable(false)
}

/// Completes when the writing half of a connection takes something, or on an error.
///
/// # Errors
/// When the driver cannot wait.
pub(crate) fn writable(
    half: &OwnedWriteHalf<TcpStream>,
) -> impl Future<Output = io::Result<()>> + '_ {
    // SAFETY: as above.
    unsafe { &*half.0.get() }.writable(false)
}

/// The size of a value, which is small.
#[expect(
    clippy::cast_possible_truncation,
    reason = "of the options above, and checked below for the larger one"
)]
const fn len<T>(_: &T) -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

const _: () = assert!(size_of::<libc::tcp_info>() <= u16::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    #[test]
    fn a_peer_that_takes_nothing_is_sent_little_more_than_it_can_hold() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fill = |queue: Option<u32>| {
            let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let _peer = listener.accept().unwrap();
            if let Some(bytes) = queue {
                keep_queue_short(sender.as_raw_fd(), bytes);
            }
            sender.set_nonblocking(true).unwrap();
            let mut sent = 0;
            while let Ok(len) = sender.write(&[0; 4096]) {
                sent += len;
            }
            assert!(round_trip(sender.as_raw_fd()).is_some());
            sent
        };
        let (usual, short) = (fill(None), fill(Some(16 << 10)));
        assert!(short > 0 && usual > short + (256 << 10), "{usual}, {short}");
        assert_eq!(round_trip(-1), None);
    }
}
