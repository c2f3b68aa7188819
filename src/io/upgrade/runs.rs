//! Runs under way that go on with another program.
//!
//! In: the connections that wait for a run. Out: those that another server can go on with, with what
//! they have written; and on its side what was handed over of one.

use super::taken;
use crate::config::timeouts;
use crate::io::server::Server;
use crate::ledger::heritage;
use crate::ledger::records::{End, Named};
use crate::process::Kept;
use crate::process::life::State;
use crate::types::{JobId, Monotonic};

/// What runs that are handed over were asked for with and have written; with more, they are waited for.
const RUNS_BYTES_MAX: u64 = 16 << 20;

/// Of the runs under way, how many connections wait for one that another server can go on with, and how
/// many of these runs have begun.
pub(super) fn handable(server: &Server) -> (usize, usize) {
    let standing = server.standing.borrow();
    let table = server.table.borrow();
    let mut kept: u64 = 0;
    let (mut waiting, mut begun) = (0, 0);
    for (of, run) in standing.values().filter_map(|of| Some((of, of.run()?))) {
        let body = of.run_body_len();
        let Some((job, _)) = run else {
            if kept + body <= RUNS_BYTES_MAX {
                kept += body;
                waiting += 1;
            }
            continue;
        };
        let Some(process) = table.job(job) else {
            continue;
        };
        let captures = process.captures.as_ref();
        let held = body + captures.map_or(0, |of| of.stdout.kept_len() + of.stderr.kept_len());
        // One whose time is about to be over is not in between.
        let late = Monotonic::now() + timeouts::UPGRADE_REST_MAX;
        let records = table.kept().map(Kept::records);
        let is_in_time = |record| {
            let until = records.and_then(|records| records.lifetime(record));
            until.is_none_or(|until| until > late)
        };
        // Of most runs nobody tells that they have begun.
        let has_begun = |record| records.is_some_and(|records| records.pid(record).is_some());
        let is_over = matches!(process.life.state(), State::Over { .. } | State::Failed(_));
        if !is_over
            && process.record.is_some_and(has_begun)
            && process.record.is_some_and(is_in_time)
            && kept + held <= RUNS_BYTES_MAX
        {
            kept += held;
            waiting += 1;
            begun += 1;
        }
    }
    (waiting, begun)
}

/// The runs under way, for a server that goes on with them. What is returned besides keeps their
/// descriptors named.
pub(super) fn hand_over(server: &Server) -> (Vec<heritage::Run>, Vec<Named>) {
    let standing = server.standing.borrow();
    let table = server.table.borrow();
    let children = server.children.borrow();
    let (mut runs, mut named) = (Vec::new(), Vec::new());
    for (job, (since, at)) in standing.values().filter_map(|of| of.run()?) {
        let Some(process) = table.job(job) else {
            continue;
        };
        let (Some(record), Some(captures), Some(kept)) =
            (process.record, &process.captures, table.kept())
        else {
            continue;
        };
        kept.records().hand_over_run(record, true);
        let child = children.get(&job);
        for (stream, source) in child.iter().flat_map(|child| &child.outputs) {
            named.extend(table.name_end(job, End::Output(*stream), source.number()));
        }
        runs.push(heritage::Run {
            job: job.0,
            since: (since.nanos(), at.0),
            outputs: [&captures.stdout, &captures.stderr].map(|of| heritage::Output {
                written: of.written(),
                kept: of.kept(table.arena()).map(heritage::Text),
            }),
        });
    }
    (runs, named)
}

/// The runs that another program has handed over.
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
