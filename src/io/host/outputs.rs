//! Child output into logs and captures. The outputs of a streamed run are read only as far as its
//! client is not too far behind (`process::backpressure`), those of a process with a limit only as
//! fast as that (`process::rate`).
//!
//! In: a [`Source`] and whose it is. Out: bytes in the arena, waiters told. One task
//! per output; it reads until its budget is used up and then waits for readiness again, which
//! lets every other task have its turn.

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use rustix::io::Errno;

use crate::log::{Arena, SLOT_BYTES};
use crate::metrics::metrics;
use crate::process::backpressure::Backpressure;
use crate::process::life::{Event, State};
use crate::process::{Process, Searches, Table};
use crate::types::{JobId, Monotonic, Stream, UnixMs};

use crate::io::host::capacity::Capacity;
use crate::io::host::effects::happen;
use crate::io::host::paced::{self, Output, log_limit, readable_now, released};
use crate::io::runtime;
use crate::io::runtime::pauses::Pauses;
use crate::io::runtime::race::{First, race};
use crate::io::runtime::source::Source;
use crate::io::runtime::timer::sleep;
use crate::io::runtime::turn::{Share, Turn, rest};
use crate::io::screen::before_eviction;
use crate::io::server::Server;

/// Bytes read from one output before the others have their turn.
const TURN_BYTES: u32 = 256 << 10;

/// Between two turns of a flood that nobody reads, while clients have something to do: its writer
/// sleeps meanwhile, and the thread is theirs (docs/design/043-turns.md).
const UNREAD_PAUSE: Duration = Duration::from_millis(1);

/// The first pause before a terminal that nobody has open is looked at again.
const HUNG_UP_PAUSE: Duration = Duration::from_millis(5);

/// How long freed slots keep their pages for the next output.
const TRIM_AFTER: Duration = Duration::from_secs(1);

/// Why [`pump`] stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// There is nothing to read now, or the budget is used up.
    Waiting {
        /// What there was, in bytes.
        brought: u64,
    },
    /// There is no room until the client of a streamed run has taken more, or those who look for a
    /// text have looked at more.
    Full {
        /// What there was, in bytes.
        brought: u64,
    },
    /// Nobody holds the other end open. A terminal may be opened again.
    Ended {
        /// What there was, in bytes.
        brought: u64,
    },
}

/// Reads one output to its end.
// Every idle process has two of these, and an `async fn` would keep its arguments twice.
#[expect(clippy::manual_async_fn)]
pub(crate) fn ingest(
    server: Rc<Server>,
    job: JobId,
    output: Output,
    source: Rc<Source>,
) -> impl Future<Output = ()> {
    async move {
        let turn = Turn::default();
        let share = Share::default();
        let mut capacity = Capacity::new(&source, &server.large_pipes);
        // Waits first: a child that has just been asked for has not written anything.
        loop {
            if turn.is_over() {
                Box::pin(turn.rest()).await;
            }
            let ready = {
                let mut readable = pin!(source.readable());
                poll_fn(|cx| turn.polled(capacity.poll_readable(readable.as_mut(), cx))).await
            };
            let pumped = match ready {
                Ok(()) => match readable_now(&server, job, output, &source) {
                    0 => match Box::pin(released(&server, job, output, &source)).await {
                        Some(bytes) => {
                            let bytes = bytes.min(share.bytes(TURN_BYTES.into()));
                            pump(&server, job, output, &source, bytes)
                        }
                        None => Pumped::Ended { brought: 0 },
                    },
                    bytes => {
                        let bytes = bytes.min(share.bytes(TURN_BYTES.into()));
                        pump(&server, job, output, &source, bytes)
                    }
                },
                // Given up, or a terminal in the middle of being hung up: it has no queue then that
                // the ring could wait in (EINVAL).
                Err(_) => Pumped::Ended { brought: 0 },
            };
            let (Pumped::Waiting { brought }
            | Pumped::Full { brought }
            | Pumped::Ended { brought }) = pumped;
            turn.charge(usize::try_from(brought).unwrap_or(usize::MAX));
            match pumped {
                Pumped::Waiting { brought } => {
                    capacity.brought(brought);
                    if share.is_used_up(brought) && is_unread(&server, job) {
                        Box::pin(sleep(UNREAD_PAUSE)).await;
                    }
                }
                Pumped::Full { brought } => {
                    capacity.brought(brought);
                    if !Box::pin(room_unless_given_up(&server, job, &source)).await {
                        break;
                    }
                }
                // Boxed, because it is rare and the task of every idle process has room for it.
                Pumped::Ended { .. }
                    if Box::pin(opened_again(&server, job, output, &source)).await => {}
                Pumped::Ended { .. } => break,
            }
        }
        drop(capacity);
        happen(&server, job, Event::OutputEnded);
    }
}

/// Whether what is read of a process pushes out what nobody has read, and nobody is about to.
fn is_unread(server: &Server, job: JobId) -> bool {
    server.table.borrow().job(job).is_some_and(|process| {
        process.is_listed() && process.log.first() > 1 && process.followers() == 0
    })
}

/// Waits until there may be room for an output. False if it is given up.
async fn room_unless_given_up(server: &Server, job: JobId, source: &Source) -> bool {
    let moved = room(server, job);
    let given_up = poll_fn(|cx| match source.poll_given_up(cx) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    });
    matches!(race(pin!(moved), pin!(given_up)).await, First::Left(_))
}

/// Waits until there may be room for the outputs of a job that there was none for. False if there is
/// nobody to wait for.
pub(super) async fn room(server: &Server, job: JobId) -> bool {
    let (taken, looked) = match server.table.borrow().job(job) {
        Some(process) => (
            process.backpressure().map(Backpressure::moved),
            process.searches().and_then(Searches::moved),
        ),
        None => return false,
    };
    if taken.is_none() && looked.is_none() {
        return false;
    }
    let [taken, looked] = [taken, looked].map(|moved| async move {
        match moved {
            Some(moved) => moved.changed(moved.version()).await,
            None => pending().await,
        }
    });
    race(pin!(taken), pin!(looked)).await;
    true
}

/// Waits until a terminal that nobody has open is opened again, which only its process can want.
/// False if there is none that still runs.
///
/// A program may close its terminal and come back to it: login and agetty do, to be its only
/// users (vhangup(2)), and whatever opens /dev/tty. Nothing tells of that, and until then the
/// terminal is ready, always: looked at now and then.
async fn opened_again(server: &Rc<Server>, job: JobId, output: Output, source: &Source) -> bool {
    if output.stream != Stream::Pty {
        return false;
    }
    let mut pauses = Pauses::from(HUNG_UP_PAUSE);
    loop {
        let changed = match server.table.borrow().job(job) {
            Some(process) if matches!(process.life.state(), State::Running { .. }) => {
                process.changed.clone()
            }
            _ => return false,
        };
        let changed = changed.changed(changed.version());
        race(pin!(sleep(pauses.longer())), pin!(changed)).await;
        let bytes = readable_now(server, job, output, source);
        match pump(server, job, output, source, bytes) {
            // Held, and nobody knows whether it is open.
            Pumped::Waiting { .. } if bytes == 0 => {}
            Pumped::Waiting { .. } | Pumped::Full { .. } => return true,
            Pumped::Ended { brought: 0 } => {}
            Pumped::Ended { .. } => pauses.begin_again(),
        }
    }
}

/// Reads up to `allowed` bytes, and no more than a turn's, not waiting for any. May stop sooner and
/// wait for readiness.
pub(super) fn pump(
    server: &Rc<Server>,
    job: JobId,
    output: Output,
    source: &Source,
    allowed: u64,
) -> Pumped {
    let budget = allowed.min(TURN_BYTES.into());
    pump_until(server, job, output, source, budget, true)
}

/// Reads up to `budget` bytes, not waiting for any.
pub(super) fn pump_until(
    server: &Rc<Server>,
    job: JobId,
    output: Output,
    source: &Source,
    budget: u64,
    stop_when_emptied: bool,
) -> Pumped {
    let mut left = budget;
    let stopped = loop {
        if left == 0 {
            break None;
        }
        match read_once(server, job, output, source, left) {
            Ok(Read { len: 0, .. }) => break Some(Stop::Ended),
            Ok(Read { len, emptied }) => {
                metrics(|all| all.output_bytes.add(len as u64));
                left = left.saturating_sub(len as u64);
                if emptied && stop_when_emptied {
                    break None;
                }
            }
            Err(Stop::Failed(Errno::AGAIN)) => break None,
            // A terminal that nobody has open answers EIO, which is no error.
            Err(stop) => break Some(stop),
        }
    };
    if left < budget
        && let Some((process, _)) = server.table.borrow_mut().job_mut(job)
    {
        if let Some(asked_at) = process.first_byte() {
            metrics(|all| all.first_byte.observe(Monotonic::now().since(asked_at)));
        }
        if process.is_logged() {
            process.changed.notify();
        }
    }
    let brought = budget - left;
    let is_mapped = server.table.borrow().arena().is_mapped();
    if is_mapped {
        trim_later(server);
    }
    if output.is_paced {
        paced::took(server, job, output.stream, brought);
    }
    match stopped {
        None => Pumped::Waiting { brought },
        Some(Stop::Full) => Pumped::Full { brought },
        Some(Stop::Ended | Stop::Failed(_)) => Pumped::Ended { brought },
    }
}

/// Why nothing was read.
#[derive(Clone, Copy, Debug)]
enum Stop {
    /// There is no room for it; see [`Pumped::Full`].
    Full,
    /// There is nothing any more.
    Ended,
    Failed(Errno),
}

/// What one read(2) brought.
#[derive(Clone, Copy, Debug)]
struct Read {
    len: usize,
    /// There was room for more, so a pipe is empty now; a terminal hands out less than it has.
    emptied: bool,
}

fn read(source: &Source, stream: Stream, buffer: &mut [u8]) -> Result<Read, Stop> {
    let room = buffer.len();
    let len = source.read(buffer).map_err(Stop::Failed)?;
    Ok(Read {
        len,
        emptied: len < room && stream != Stream::Pty,
    })
}

fn len(result: &Result<Read, Stop>) -> usize {
    result.map_or(0, |read| read.len)
}

/// One read(2) to where the bytes belong, or to nowhere if that is gone or full.
fn read_once(
    server: &Rc<Server>,
    job: JobId,
    output: Output,
    source: &Source,
    left: u64,
) -> Result<Read, Stop> {
    let stream = output.stream;
    let most = output.most(left);
    let mut table = server.table.borrow_mut();
    let allowed = Allowed::of(&mut table, job, stream);
    let Some((process, arena)) = table.job_mut(job) else {
        drop(table);
        return discard(server, source, stream, most);
    };
    if process.is_logged() {
        let result = read_to_log(server, (process, arena), output, source, left, allowed);
        table.recount(job);
        drop(table);
        trim_later(server);
        return result;
    }
    let Some(captures) = &mut process.captures else {
        let result = discard(server, source, stream, most);
        process.log.lost(len(&result) as u64);
        return result;
    };
    let capture = captures.of(stream);
    if allowed.capture
        && let Ok(room) = capture.room(arena)
        && !room.is_empty()
    {
        let room_len = room.len().min(most);
        let result = read(source, stream, &mut room[..room_len]);
        capture.commit(len(&result));
        return result;
    }
    let result = discard(server, source, stream, most);
    capture.discard(arena, len(&result));
    result
}

/// What memory there is for the next read of an output.
#[derive(Clone, Copy, Debug)]
struct Allowed {
    /// Slots of its log, if that takes one more.
    slots: usize,
    /// Its capture may take what it needs.
    capture: bool,
}

impl Allowed {
    /// The limit of a log whose own is this. One that may take no more slots has no more entries
    /// than go into those: where they are is memory, too, and more than their bytes if those come one
    /// by one.
    fn limit(self, own: u64) -> u64 {
        let bytes = self.slots.saturating_mul(SLOT_BYTES);
        own.min(u64::try_from(bytes).unwrap_or(u64::MAX))
    }

    fn of(table: &mut Table, job: JobId, stream: Stream) -> Self {
        let Some((process, _)) = table.job_mut(job) else {
            return Self {
                slots: 0,
                capture: false,
            };
        };
        let is_logged = process.is_logged();
        let captures = process.captures.as_mut();
        // A copy that goes to both may need two.
        let capture = captures.map_or(0, |of| match of.of(stream).needs_slot() {
            false if is_logged => 1,
            needs => usize::from(needs) + usize::from(is_logged),
        });
        Self {
            slots: match is_logged {
                true => table.slots_allowed(job),
                false => 0,
            },
            capture: capture == 0 || table.may_capture(capture),
        }
    }
}

/// The room that a log lends for the next read.
fn tail<'a>(
    server: &Rc<Server>,
    (process, arena): (&mut Process, &'a mut Arena),
    stream: Stream,
    slots: usize,
) -> Result<&'a mut [u8], Stop> {
    let full = |_| Stop::Failed(Errno::NOMEM);
    if slots == usize::MAX {
        return process.log.tail_of(arena, stream).map_err(full);
    }
    let going = process.log.given_up_within(slots);
    if !process.may_lose(going) {
        return Err(Stop::Full);
    }
    before_eviction(server, process, arena, going);
    let log = &mut process.log;
    match slots {
        0 => Err(Stop::Failed(Errno::NOMEM)),
        slots => {
            log.tail_within(arena, slots).map_err(full)?;
            log.note_read(arena, stream).map_err(full)?;
            Ok(log.lend(arena))
        }
    }
}

fn read_to_log(
    server: &Rc<Server>,
    (process, arena): (&mut Process, &mut Arena),
    output: Output,
    source: &Source,
    left: u64,
    allowed: Allowed,
) -> Result<Read, Stop> {
    let stream = output.stream;
    let limit = allowed.limit(log_limit(server, process));
    let most = match (stream, process.backpressure()) {
        // A terminal's log may be small beside one read, and its viewers far behind. Of an entry that
        // is longer than the log the beginning is in no entry, and no screen would be made of it.
        (Stream::Pty, _) => usize::try_from(left.min(limit).max(1)).unwrap_or(usize::MAX),
        (Stream::Stdout | Stream::Stderr, None) => SLOT_BYTES,
        (Stream::Stdout | Stream::Stderr, Some(backpressure)) => {
            match backpressure.room(&process.log, limit, process.is_over()) {
                0 => return Err(Stop::Full),
                room => room,
            }
        }
    };
    let most = match process.room_for_searches(limit) {
        0 => return Err(Stop::Full),
        room => most.min(room).min(output.most(left)),
    };
    let result = match tail(server, (process, arena), stream, allowed.slots) {
        Err(Stop::Full) => return Err(Stop::Full),
        Err(_) => {
            let result = discard(server, source, stream, most);
            process.log.lost(len(&result) as u64);
            result
        }
        Ok(tail) => {
            let room = tail.len().min(most);
            let result = match &mut process.captures {
                None => read(source, stream, &mut tail[..room]),
                // A run that is listed from its start is answered with what it wrote, too.
                Some(captures) => {
                    let mut scratch = server.scratch.borrow_mut();
                    scratch.resize(SLOT_BYTES, 0);
                    let result = read(source, stream, &mut tail[..room]);
                    let data = &mut scratch[..len(&result)];
                    data.copy_from_slice(&tail[..data.len()]);
                    match allowed.capture {
                        true => captures.of(stream).append(arena, data),
                        false => captures.of(stream).discard(arena, data.len()),
                    }
                    result
                }
            };
            if stream == Stream::Pty {
                let going = process.log.evicted_by(len(&result), limit);
                before_eviction(server, process, arena, going);
            }
            let now = UnixMs::now();
            process
                .log
                .commit(arena, len(&result), stream, now.0, limit);
            result
        }
    };
    if let Some(extras) = process.extras.get_mut()
        && let Some(backpressure) = &mut extras.backpressure
    {
        backpressure.entered(stream, len(&result), &process.log);
    }
    result
}

fn discard(server: &Server, source: &Source, stream: Stream, most: usize) -> Result<Read, Stop> {
    let mut scratch = server.scratch.borrow_mut();
    scratch.resize(SLOT_BYTES, 0);
    read(source, stream, &mut scratch[..most.min(SLOT_BYTES)])
}

/// Gives pages of freed slots back, once, a while after they were freed, and takes those of logs out of
/// the mapping where a next server would wait for that.
pub(crate) fn trim_later(server: &Rc<Server>) {
    if server.trim_pending.get() || !server.table.borrow().arena().wants_trim() {
        return;
    }
    server.trim_pending.set(true);
    let server = server.clone();
    runtime::spawn(async move {
        sleep(TRIM_AFTER).await;
        server.table.borrow_mut().arena_mut().trim();
        while server.table.borrow_mut().arena_mut().unmap_some() {
            rest().await;
        }
        server.trim_pending.set(false);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a function with these arguments returns, in bytes.
    fn size<F>(_: fn(Rc<Server>, JobId, Output, Rc<Source>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_task_that_waits_for_an_output_is_small() {
        // The runtime's own future for one wait has 104 of them (docs/design/011-idle-process.md).
        assert!(size(ingest) <= 224, "{} bytes", size(ingest));
    }
}
