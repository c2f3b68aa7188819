//! Runs under way that go on with another program.
//!
//! In: the runs that have begun, and the connections that wait for one. Out: those that another server
//! can go on with, with what they have written; and on its side what was handed over of one.

use std::collections::HashSet;

use super::taken;
use crate::config::timeouts;
use crate::io::host::begun::{Begun, asked};
use crate::io::server::Server;
use crate::ledger::heritage;
use crate::ledger::records::{End, Named};
use crate::process::life::State;
use crate::process::{Kept, Process, Table};
use crate::types::{JobId, Monotonic};

/// What runs that are handed over were asked for with, and have written if another program does not
/// find that where it is; with more, they are waited for.
const RUNS_BYTES_MAX: u64 = 16 << 20;

/// Of the runs under way, how many connections wait for one that another server can go on with, and how
/// many of these runs are listed nowhere and have begun.
pub(super) fn handable(server: &Server, takes_slots: bool) -> (usize, usize) {
    let table = server.table.borrow();
    let mut kept: u64 = 0;
    let mut holds = |bytes| {
        let is_little = kept + bytes <= RUNS_BYTES_MAX;
        kept += if is_little { bytes } else { 0 };
        is_little
    };
    let begun = server.begun.borrow();
    let able = begun
        .iter()
        .filter(|(job, of)| bytes(&table, **job, of, takes_slots).is_some_and(&mut holds));
    let able: HashSet<JobId> = able.map(|(job, _)| *job).collect();
    let counts = |run: &Process| !run.is_listed() && !run.is_over();
    let unlisted = able
        .iter()
        .filter(|job| table.job(**job).is_some_and(counts));
    let unlisted = unlisted.count();
    let standing = server.standing.borrow();
    let waiting = standing.values().filter_map(|of| of.run());
    let waiting = waiting.filter(|run| match run.job() {
        Some(job) => able.contains(&job),
        None => holds(run.body_len()),
    });
    (waiting.count(), unlisted)
}

/// What has to be handed over of a run; None if another server cannot go on with it.
fn bytes(table: &Table, job: JobId, begun: &Begun, takes_slots: bool) -> Option<u64> {
    let process = table.job(job)?;
    let records = table.kept().map(Kept::records)?;
    let record = process.record?;
    // Of most runs nobody tells that they have begun.
    records.pid(record)?;
    // One whose time is about to be over is not in between.
    let late = Monotonic::now() + timeouts::UPGRADE_REST_MAX;
    let is_in_time = records.lifetime(record).is_none_or(|until| until > late);
    let is_over = matches!(process.life.state(), State::Over { .. } | State::Failed(_));
    if begun.run.is_streamed {
        let is_paused = begun.paused.borrow().is_some();
        return (is_paused && (is_in_time || is_over)).then(|| begun.len());
    }
    let captures = process.captures.as_ref()?;
    let captured = match takes_slots {
        true => 0,
        false => captures.stdout.kept_len() + captures.stderr.kept_len(),
    };
    (is_in_time && !is_over).then(|| captured + begun.len())
}

/// The runs under way, for a server that goes on with them. What is returned besides keeps their
/// descriptors named.
pub(super) fn hand_over(server: &Server, takes_slots: bool) -> (Vec<heritage::Run>, Vec<Named>) {
    for (&job, begun) in &*server.begun.borrow() {
        if begun.run.is_streamed {
            server.table.borrow_mut().write_down_log(job);
        }
    }
    let table = server.table.borrow();
    let children = server.children.borrow();
    let (mut runs, mut named) = (Vec::new(), Vec::new());
    for (&job, begun) in &*server.begun.borrow() {
        let Some(process) = table.job(job) else {
            continue;
        };
        let (Some(record), Some(kept)) = (process.record, table.kept()) else {
            continue;
        };
        let captured = process.captures.as_ref();
        let captured = captured.map(|of| [&of.stdout, &of.stderr]);
        kept.records().hand_over_run(record, true);
        // Those of what is listed are named all the time.
        if !process.is_listed() {
            let child = children.get(&job);
            for (stream, source) in child.iter().flat_map(|child| &child.outputs) {
                named.extend(table.name_end(job, End::Output(*stream), source.number()));
            }
            if let Some(feed) = begun.feed.upgrade() {
                named.extend(table.name_end(job, End::Input, feed.number()));
            }
        }
        let (since, at) = begun.since;
        runs.push(heritage::Run {
            job: job.0,
            since: (since.nanos(), at.0),
            asked: asked(&begun.run),
            outputs: captured.map_or_else(Default::default, |outputs| {
                outputs.map(|of| match takes_slots {
                    true => heritage::Output {
                        written: of.written(),
                        slots: Some(of.places()),
                        ..heritage::Output::default()
                    },
                    false => heritage::Output {
                        written: of.written(),
                        kept: of.kept(table.arena()).map(heritage::Text),
                        slots: None,
                    },
                })
            }),
            input: begun.input(),
            input_bytes: process.input_bytes,
            stream: begun.stream(process.backpressure()),
        });
    }
    (runs, named)
}

/// The runs that another program has handed over and that nobody has asked for.
pub(in crate::io) fn before_all(server: &Server) -> Vec<JobId> {
    let runs = taken(server, |taken| {
        taken.runs.iter().map(|run| JobId(run.job)).collect()
    });
    runs.unwrap_or_default()
}

/// What another program has handed over of a run; asked for once.
pub(in crate::io) fn before(server: &Server, job: JobId) -> Option<heritage::Run> {
    taken(server, |taken| {
        let at = taken.runs.iter().position(|run| run.job == job.0)?;
        Some(taken.runs.swap_remove(at))
    })?
}

fn of_before<T>(server: &Server, job: JobId, of: impl Fn(&heritage::Run) -> T) -> Option<T> {
    taken(server, |taken| {
        taken.runs.iter().find(|run| run.job == job.0).map(of)
    })?
}

/// Whether another program has handed over this run.
pub(in crate::io) fn is_handed(server: &Server, job: JobId) -> bool {
    of_before(server, job, |_| ()).is_some()
}

/// And a part of its input, which is to be written.
pub(in crate::io) fn is_fed(server: &Server, job: JobId) -> bool {
    of_before(server, job, |run| run.input.is_some()).unwrap_or(false)
}
