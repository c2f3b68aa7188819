//! Plain system calls: blocking reads, and epoll(7) without any runtime. The floor.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::session::{ANSWER, Session, Slots};
use crate::poll::Poll;
use crate::trouble::{During, Result, Trouble};

const LISTENER: usize = 0;
const FOREVER: Duration = Duration::from_secs(3600);

/// Answers every request until the process is ended.
pub(super) fn http(listener: TcpListener) -> Result<()> {
    listener.set_nonblocking(true).during("set nonblocking")?;
    let poll = Poll::new()?;
    poll.add(&listener, LISTENER)?;
    let mut connections: HashMap<usize, (TcpStream, Session)> = HashMap::new();
    let (mut buffer, mut ready, mut last) = (vec![0; 16 * 1024], Vec::new(), LISTENER);
    loop {
        poll.wait(FOREVER, &mut ready)?;
        for &number in &ready {
            if number == LISTENER {
                let (stream, _) = listener.accept().during("accept")?;
                stream.set_nonblocking(true).during("set nonblocking")?;
                stream.set_nodelay(true).during("set nodelay")?;
                last += 1;
                poll.add(&stream, last)?;
                connections.insert(last, (stream, Session::default()));
            } else if !turn(&mut connections, number, &mut buffer)? {
                // Closing takes the socket out of the epoll set.
                connections.remove(&number);
            }
        }
    }
}

/// One read and its answers; false when the connection is over.
fn turn(
    connections: &mut HashMap<usize, (TcpStream, Session)>,
    number: usize,
    buffer: &mut [u8],
) -> Result<bool> {
    let Some((stream, session)) = connections.get_mut(&number) else {
        return Ok(true);
    };
    match stream.read(buffer) {
        Ok(0) => Ok(false),
        Ok(count) => {
            let answers = session.take(&buffer[..count])?;
            Ok((0..answers).all(|_| stream.write_all(ANSWER).is_ok()))
        }
        Err(error) => Ok(error.kind() == ErrorKind::WouldBlock),
    }
}

/// Reads `total` bytes with blocking reads.
pub(super) fn drain_blocking(pipe: OwnedFd, total: u64) -> Result<()> {
    let (mut slots, mut left) = (Slots::new(), total);
    while left > 0 {
        left -= read(&pipe, slots.next())?.ok_or(Trouble::TimedOut("a blocking read"))? as u64;
    }
    Ok(())
}

/// Reads `total` bytes: wait for readiness, read, again.
pub(super) fn drain(pipe: OwnedFd, total: u64) -> Result<()> {
    lines(vec![pipe], total)
}

/// Reads `total` bytes from many pipes.
pub(super) fn lines(pipes: Vec<OwnedFd>, total: u64) -> Result<()> {
    let poll = Poll::new()?;
    for (number, pipe) in pipes.iter().enumerate() {
        rustix::io::ioctl_fionbio(pipe, true).during("set nonblocking")?;
        poll.add(pipe, number)?;
    }
    let (mut slots, mut ready, mut left) = (Slots::new(), Vec::new(), total);
    while left > 0 {
        poll.wait(FOREVER, &mut ready)?;
        for &number in &ready {
            left -= read(&pipes[number], slots.next())?.unwrap_or(0) as u64;
        }
    }
    Ok(())
}

/// One read(2); `None` when there is nothing yet.
///
/// # Errors
/// `Trouble::Protocol` at the end of the stream, which comes too early by definition.
pub(super) fn read(pipe: &OwnedFd, slot: &mut [u8]) -> Result<Option<usize>> {
    match rustix::io::read(pipe, slot) {
        Ok(0) => Err(Trouble::Protocol("a pipe ended early".into())),
        Ok(count) => Ok(Some(count)),
        Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(error) => Err(error).during("read a pipe"),
    }
}
