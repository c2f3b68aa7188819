//! Whether an output may be read now: a terminal's program is held where its viewers cannot keep up,
//! and any program where it writes faster than its limit.
//!
//! In: what [`crate::process::pacing`] and [`crate::process::rate`] decide. Out: how much may be read,
//! after a wait if need be. Nothing wakes up for an output that is quiet: only one that has something
//! is asked about.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::pipe::fcntl_setpipe_size;

use crate::log::Log;
use crate::process::life::{Event, State};
use crate::process::pacing::{Extent, Permit};
use crate::process::rate::{Pace, Rate};
use crate::process::{Notify, Process};
use crate::types::{JobId, Monotonic, Stream, StreamFilter};

use crate::io::host::capacity::USUAL_BYTES;
use crate::io::host::effects::happen;
use crate::io::runtime::race::race;
use crate::io::runtime::source::Source;
use crate::io::runtime::timer::{instant, sleep_until};
use crate::io::server::Server;

/// How often it is said that an exited process has output that is held: before those who wait for
/// its end stop waiting.
const HELD_EVERY: Duration = Duration::from_millis(100);

/// Bytes that the log of a process may hold.
pub(super) fn log_limit(server: &Server, process: &Process) -> u64 {
    let usual = server.settings.get().max_log_bytes_per_process;
    let log_max = process.extras.get().and_then(|extras| extras.log_max);
    log_max.map_or(usual, |max| max.min(usual))
}

/// A pipe of a limited process holds what is read of it in a second, divided by this.
const CAPACITY_PER_SECOND: u64 = 20;

/// One output of a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Which.
    pub(crate) stream: Stream,
    /// How fast it is read is limited.
    pub(crate) is_paced: bool,
}

impl Output {
    /// How many bytes may be read at once where `left` may be read in this turn. More only makes
    /// fewer reads, unless the limit counts.
    pub(super) fn most(self, left: u64) -> usize {
        match self.is_paced {
            true => usize::try_from(left).unwrap_or(usize::MAX),
            false => usize::MAX,
        }
    }
}

/// Why an output is not read.
struct Held {
    until: Instant,
    /// Tells that viewers have caught up.
    resumed: Option<(Notify, u64)>,
    changed: (Notify, u64),
    /// The process has exited, and a viewer is to get the rest.
    exited: bool,
}

fn permit(server: &Server, job: JobId, output: Output, source: &Source) -> Result<u64, Held> {
    let bytes = match output.stream {
        Stream::Pty => permit_of_viewers(server, job)?,
        Stream::Stdout | Stream::Stderr => u64::MAX,
    };
    if !output.is_paced {
        return Ok(bytes);
    }
    permit_of_rate(server, job, output.stream, source).map(|paced| paced.min(bytes))
}

/// Calls `f` with how fast the outputs of a job are read; None if that is not limited.
fn with_rate<T>(server: &Server, job: JobId, f: impl FnOnce(&mut Rate) -> T) -> Option<T> {
    let mut table = server.table.borrow_mut();
    let (process, _) = table.job_mut(job)?;
    let rate = process.extras.get_mut()?.rate.as_mut()?;
    Some(f(rate))
}

fn permit_of_rate(
    server: &Server,
    job: JobId,
    stream: Stream,
    source: &Source,
) -> Result<u64, Held> {
    let until = match with_rate(server, job, |rate| rate.pace(stream, Monotonic::now())) {
        None => return Ok(u64::MAX),
        Some(Pace::Read(bytes)) => return Ok(bytes),
        Some(Pace::Wait(until)) => instant(until),
    };
    // Readable and empty: at its end, which costs nothing. What is in a terminal the kernel does
    // not tell for sure.
    if stream != Stream::Pty && source.pending() == 0 {
        return Ok(1);
    }
    let table = server.table.borrow();
    let Some(process) = table.job(job) else {
        return Ok(u64::MAX);
    };
    Err(Held {
        until,
        resumed: None,
        changed: (process.changed.clone(), process.changed.version()),
        exited: false,
    })
}

/// Limits how fast the outputs of a job that is about to start are read. Its pipes are made to hold
/// no more than what is read in a moment, so that the program waits and not its output.
pub(super) fn limit_rate(server: &Server, job: JobId, outputs: &[(Stream, Rc<Source>)], rate: u64) {
    if let Some((process, _)) = server.table.borrow_mut().job_mut(job) {
        process.extras.make().rate = Some(Box::new(Rate::new(rate)));
    }
    let capacity = usize::try_from(rate / CAPACITY_PER_SECOND).unwrap_or(usize::MAX);
    if capacity >= USUAL_BYTES {
        return;
    }
    for (stream, source) in outputs {
        if *stream != Stream::Pty {
            // The kernel rounds up to a page. Refused, the first moment brings more than the limit.
            let _ = fcntl_setpipe_size(source, capacity.max(1));
        }
    }
}

/// Whether the outputs of a job are read only so fast.
pub(super) fn is_paced(server: &Server, job: JobId) -> bool {
    let table = server.table.borrow();
    let extras = table.job(job).and_then(|process| process.extras.get());
    extras.is_some_and(|extras| extras.rate.is_some())
}

/// So much of a limited output has been read.
pub(super) fn took(server: &Server, job: JobId, stream: Stream, bytes: u64) {
    with_rate(server, job, |rate| rate.took(stream, bytes));
}

/// A job has ended: what its outputs hold is read at once, whatever the limit.
pub(super) fn rest_is_free(server: &Server, job: JobId) {
    if !is_paced(server, job) {
        return;
    }
    let child = server.children.borrow().get(&job).cloned();
    let mut held = [0; Stream::COUNT];
    for (stream, source) in child.iter().flat_map(|child| &child.outputs) {
        held[*stream as usize] = match stream {
            // Nobody can write to it any more, and it gives what it has piece by piece.
            Stream::Pty => u64::MAX,
            Stream::Stdout | Stream::Stderr => source.pending(),
        };
    }
    with_rate(server, job, |rate| rate.end(held));
}

fn permit_of_viewers(server: &Server, job: JobId) -> Result<u64, Held> {
    let mut table = server.table.borrow_mut();
    let Some((process, _)) = table.job_mut(job) else {
        return Ok(u64::MAX);
    };
    if process
        .extras
        .get()
        .is_none_or(|extras| extras.pacing.is_none())
    {
        return Ok(u64::MAX);
    }
    let limit = log_limit(server, process);
    let state = process.life.state();
    let exited = !matches!(state, State::StartPending | State::Running { .. });
    let extent = Extent {
        end: process.log.end_offset(StreamFilter::Combined),
        last: process.log.last(),
        limit,
        entries_max: Log::entries_max(limit),
        exited,
    };
    let Some(pacing) = &mut process.extras.make().pacing else {
        return Ok(u64::MAX);
    };
    match pacing.permit(extent, Monotonic::now()) {
        Permit::Read { bytes } => Ok(bytes),
        Permit::Wait { until } => {
            let resumed = pacing.resumed().clone();
            Err(Held {
                until: instant(until),
                resumed: Some((resumed.clone(), resumed.version())),
                changed: (process.changed.clone(), process.changed.version()),
                exited,
            })
        }
    }
}

/// Bytes that may be read of an output now; 0 if it is held.
pub(super) fn readable_now(server: &Server, job: JobId, output: Output, source: &Source) -> u64 {
    if output.stream != Stream::Pty && !output.is_paced {
        return u64::MAX;
    }
    permit(server, job, output, source).unwrap_or(0)
}

/// Waits until an output that is held may be read; how much of it. None if it is given up.
pub(super) async fn released(
    server: &Rc<Server>,
    job: JobId,
    output: Output,
    source: &Source,
) -> Option<u64> {
    loop {
        let held = match permit(server, job, output, source) {
            Ok(bytes) => return Some(bytes),
            Err(held) => held,
        };
        let mut until = held.until;
        if held.exited {
            // Who waits for all of its output waits on.
            happen(server, job, Event::OutputHeld);
            until = until.min(Instant::now() + HELD_EVERY);
        }
        let resumed = async {
            match held.resumed {
                Some((resumed, version)) => resumed.changed(version).await,
                None => pending().await,
            }
        };
        let changed = held.changed.0.changed(held.changed.1);
        let given_up = poll_fn(|cx| match source.poll_given_up(cx) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        });
        let told = async { race(pin!(resumed), pin!(changed)).await };
        let timed = async { race(pin!(told), pin!(sleep_until(until))).await };
        race(pin!(timed), pin!(given_up)).await;
        if source.is_given_up() {
            with_rate(server, job, |rate| rate.leave(output.stream));
            return None;
        }
    }
}
