//! Raw io_uring: multishot accept and receive, buffer rings, DEFER_TASKRUN.
//!
//! Safety: an operation's memory must stay valid and unshared until its completion. Sends
//! point at a static; reads into slots point into a `Slots` that outlives the ring and are
//! one at a time per slot; multishot operations write only into registered buffers.

#![allow(unsafe_code)]

use std::collections::HashMap;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use io_uring::squeue::Entry;
use io_uring::types::Fd;
use io_uring::{IoUring, cqueue, opcode};

use super::buffers::Buffers;
use super::session::{ANSWER, BLOCK, SLOTS, Session, Slots};
use crate::trouble::{During, Result, Trouble};

const GROUP: u16 = 1;
/// What an operation is, in the low bits of its user data; the rest is a number.
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const READ: u64 = 3;
const KIND_BITS: u32 = 2;

/// A completion, copied out of the ring.
struct Done {
    kind: u64,
    number: u64,
    result: i32,
    more: bool,
    buffer: Option<u16>,
}

struct Ring {
    // Dropped first: the kernel must let go of the buffers before they are freed.
    uring: IoUring,
    buffers: Buffers,
    done: Vec<Done>,
}

impl Ring {
    fn new(defer: bool, count: u16, size: usize) -> Result<Ring> {
        let uring = build(defer)?;
        let buffers = Buffers::register(&uring, GROUP, count, size)?;
        Ok(Ring {
            uring,
            buffers,
            done: Vec::new(),
        })
    }

    /// Waits for at least one completion; they are in `self.done` then.
    fn wait(&mut self) -> Result<()> {
        wait(&mut self.uring, &mut self.done)
    }
}

fn build(defer: bool) -> Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_cqsize(4096);
    if defer {
        builder.setup_single_issuer().setup_defer_taskrun();
    }
    builder.build(1024).during("io_uring_setup")
}

fn wait(uring: &mut IoUring, done: &mut Vec<Done>) -> Result<()> {
    match uring.submit_and_wait(1) {
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
        Err(error) => return Err(error).during("io_uring_enter"),
    }
    done.clear();
    done.extend(uring.completion().map(|entry| Done {
        kind: entry.user_data() & ((1 << KIND_BITS) - 1),
        number: entry.user_data() >> KIND_BITS,
        result: entry.result(),
        more: cqueue::more(entry.flags()),
        buffer: cqueue::buffer_select(entry.flags()),
    }));
    Ok(())
}

/// Queues an operation, submitting first when the queue is full.
///
/// # Safety
/// What the entry points at stays valid and unshared until its completion.
unsafe fn push(uring: &mut IoUring, entry: Entry, kind: u64, number: u64) -> Result<()> {
    let entry = entry.user_data(number << KIND_BITS | kind);
    // SAFETY: passed on to the caller.
    while unsafe { uring.submission().push(&entry) }.is_err() {
        uring.submit().during("io_uring_enter")?;
    }
    Ok(())
}

/// Answers every request until the process is ended.
pub(super) fn http(defer: bool, listener: TcpListener) -> Result<()> {
    let mut ring = Ring::new(defer, 256, 4096)?;
    let mut connections: HashMap<RawFd, (OwnedFd, Session)> = HashMap::new();
    accept(&mut ring.uring, &listener)?;
    loop {
        ring.wait()?;
        let mut batch = std::mem::take(&mut ring.done);
        for done in batch.drain(..) {
            let fd = RawFd::try_from(done.number).unwrap_or(-1);
            match done.kind {
                ACCEPT => {
                    if done.result >= 0 {
                        // SAFETY: a completed accept hands over a new descriptor, which
                        // nothing else owns.
                        let owned = unsafe { OwnedFd::from_raw_fd(done.result) };
                        rustix::net::sockopt::set_tcp_nodelay(&owned, true)
                            .during("set nodelay")?;
                        connections.insert(done.result, (owned, Session::default()));
                        receive(&mut ring.uring, done.result)?;
                    }
                    if !done.more {
                        accept(&mut ring.uring, &listener)?;
                    }
                }
                RECEIVE => received(&mut ring, &mut connections, fd, &done)?,
                // A short or failed send shows as a wrong answer at the client.
                _ => {}
            }
        }
        ring.done = batch;
    }
}

fn received(
    ring: &mut Ring,
    connections: &mut HashMap<RawFd, (OwnedFd, Session)>,
    fd: RawFd,
    done: &Done,
) -> Result<()> {
    let Some((_, session)) = connections.get_mut(&fd) else {
        return Ok(());
    };
    if let Some(id) = done.buffer {
        let count = usize::try_from(done.result).unwrap_or(0);
        let answers = session.take(ring.buffers.lend(id, count))?;
        ring.buffers.recycle(id);
        for _ in 0..answers {
            let send = opcode::Send::new(Fd(fd), ANSWER.as_ptr(), ANSWER.len() as u32).build();
            // SAFETY: the answer is a static that nobody writes.
            unsafe { push(&mut ring.uring, send, SEND, fd as u64) }?;
        }
    }
    if done.result <= 0 && done.result != -libc::ENOBUFS {
        connections.remove(&fd);
    } else if !done.more {
        receive(&mut ring.uring, fd)?;
    }
    Ok(())
}

fn accept(uring: &mut IoUring, listener: &TcpListener) -> Result<()> {
    let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).build();
    // SAFETY: the operation points at no memory.
    unsafe { push(uring, entry, ACCEPT, 0) }
}

fn receive(uring: &mut IoUring, fd: RawFd) -> Result<()> {
    let entry = opcode::RecvMulti::new(Fd(fd), GROUP).build();
    // SAFETY: the operation writes only into registered buffers.
    unsafe { push(uring, entry, RECEIVE, fd as u64) }
}

/// Reads `total` bytes with one READ at a time.
pub(super) fn drain_single(pipe: OwnedFd, total: u64) -> Result<()> {
    let mut slots = Slots::new();
    let mut uring = build(true)?;
    let (mut done, mut left) = (Vec::new(), total);
    while left > 0 {
        let slot = slots.next();
        let entry =
            opcode::Read::new(Fd(pipe.as_raw_fd()), slot.as_mut_ptr(), BLOCK as u32).build();
        // SAFETY: the slot is BLOCK bytes of `slots`, which outlives `uring`, and no other
        // operation is under way.
        unsafe { push(&mut uring, entry, READ, 0) }?;
        done.clear();
        while done.is_empty() {
            wait(&mut uring, &mut done)?;
        }
        left = left.saturating_sub(count_of(&done[0])?);
    }
    Ok(())
}

/// Reads `total` bytes with READ_MULTISHOT into a buffer ring (6.7).
pub(super) fn drain(pipe: OwnedFd, total: u64) -> Result<()> {
    read_multishot(vec![pipe], total, SLOTS as u16, BLOCK)
}

/// Reads `total` bytes from many pipes, each with READ_MULTISHOT; the bytes are copied out,
/// because a buffer must go back and a log stays.
pub(super) fn lines(pipes: Vec<OwnedFd>, total: u64) -> Result<()> {
    read_multishot(pipes, total, 256, 4096)
}

fn read_multishot(pipes: Vec<OwnedFd>, total: u64, count: u16, size: usize) -> Result<()> {
    let mut ring = Ring::new(true, count, size)?;
    let copies = pipes.len() > 1;
    let mut slots = Slots::new();
    for number in 0..pipes.len() {
        read(&mut ring.uring, &pipes, number)?;
    }
    let mut left = total;
    while left > 0 {
        ring.wait()?;
        let mut batch = std::mem::take(&mut ring.done);
        for done in batch.drain(..) {
            if let Some(id) = done.buffer {
                let bytes = count_of(&done)?;
                if copies {
                    slots.next()[..bytes as usize]
                        .copy_from_slice(ring.buffers.lend(id, bytes as usize));
                }
                ring.buffers.recycle(id);
                left = left.saturating_sub(bytes);
            } else if done.result != -libc::ENOBUFS {
                count_of(&done)?;
            }
            if !done.more && left > 0 {
                read(&mut ring.uring, &pipes, done.number as usize)?;
            }
        }
        ring.done = batch;
    }
    Ok(())
}

fn read(uring: &mut IoUring, pipes: &[OwnedFd], number: usize) -> Result<()> {
    let entry = opcode::ReadMulti::new(Fd(pipes[number].as_raw_fd()), 0, GROUP).build();
    // SAFETY: the operation writes only into registered buffers.
    unsafe { push(uring, entry, READ, number as u64) }
}

/// The bytes of a completed read.
fn count_of(done: &Done) -> Result<u64> {
    match u64::try_from(done.result) {
        Ok(0) => Err(Trouble::Protocol("a pipe ended early".into())),
        Ok(count) => Ok(count),
        Err(_) => Err(std::io::Error::from_raw_os_error(-done.result)).during("read a pipe"),
    }
}
