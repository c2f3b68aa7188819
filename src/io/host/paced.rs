//! Whether a terminal may be read now: its program is held where its viewers cannot keep up.
//!
//! In: what [`crate::process::pacing`] decides. Out: how much may be read, after a wait if need be.
//! Nothing wakes up for a terminal that is quiet: only one that has something is asked about.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::log::Log;
use crate::process::life::{Event, State};
use crate::process::pacing::{Extent, Permit};
use crate::process::{Notify, Process};
use crate::types::{JobId, Stream, StreamFilter};

use crate::io::host::effects::happen;
use crate::io::runtime::race::race;
use crate::io::runtime::source::Source;
use crate::io::runtime::timer::sleep_until;
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

/// Why a terminal is not read.
struct Held {
    until: Instant,
    resumed: (Notify, u64),
    changed: (Notify, u64),
    exited: bool,
}

fn permit(server: &Server, job: JobId) -> Result<u64, Held> {
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
    match pacing.permit(extent, Instant::now()) {
        Permit::Read { bytes } => Ok(bytes),
        Permit::Wait { until } => {
            let resumed = pacing.resumed().clone();
            Err(Held {
                until,
                resumed: (resumed.clone(), resumed.version()),
                changed: (process.changed.clone(), process.changed.version()),
                exited,
            })
        }
    }
}

/// Bytes that may be read of an output now; 0 if it is held.
pub(super) fn readable_now(server: &Server, job: JobId, stream: Stream) -> u64 {
    match stream {
        Stream::Pty => permit(server, job).unwrap_or(0),
        Stream::Stdout | Stream::Stderr => u64::MAX,
    }
}

/// Waits until a terminal that is held may be read; how much of it. None if it is given up.
pub(super) async fn released(server: &Rc<Server>, job: JobId, source: &Source) -> Option<u64> {
    loop {
        let held = match permit(server, job) {
            Ok(bytes) => return Some(bytes),
            Err(held) => held,
        };
        let mut until = held.until;
        if held.exited {
            // Who waits for all of its output waits on.
            happen(server, job, Event::OutputHeld);
            until = until.min(Instant::now() + HELD_EVERY);
        }
        let resumed = held.resumed.0.changed(held.resumed.1);
        let changed = held.changed.0.changed(held.changed.1);
        let given_up = poll_fn(|cx| match source.poll_given_up(cx) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        });
        let told = async { race(pin!(resumed), pin!(changed)).await };
        let timed = async { race(pin!(told), pin!(sleep_until(until))).await };
        race(pin!(timed), pin!(given_up)).await;
        if source.is_given_up() {
            return None;
        }
    }
}
