//! Counts what becomes of programs.
//!
//! In: a start, what the supervisor reports, the end of a run. Out: numbers of [`crate::metrics`].

use crate::metrics::{Ended, Kind, RunResult, metrics};
use crate::process::life::{End, State};
use crate::types::{ExitStatus, JobId};

use crate::io::server::Server;

/// A program has been asked for.
pub(super) fn asked(kind: Kind) {
    metrics(|all| all.of(kind).starts.inc());
}

/// There is none.
pub(super) fn failed(server: &Server, job: JobId) {
    let kind = kind(server, job);
    metrics(|all| all.of(kind).failures.inc());
}

/// One has ended, as far as is known.
pub(super) fn ended(server: &Server, job: JobId, status: Option<ExitStatus>) {
    let kind = kind(server, job);
    let ended = match status {
        Some(ExitStatus::Code(0)) => Ended::Succeeded,
        Some(ExitStatus::Code(_)) => Ended::Failed,
        Some(ExitStatus::Signal(_)) => Ended::Signaled,
        None => Ended::Unknown,
    };
    metrics(|all| all.of(kind).ends[ended as usize].inc());
}

/// Nobody waits for a run any longer. One that goes on as a record has no result yet.
pub(super) fn run_is_over(server: &Server, job: JobId, goes_on: bool) {
    let state = server.table.borrow().job(job).map(|run| run.life.state());
    let result = match state {
        Some(State::Over { end, .. }) => of_end(end),
        Some(State::Failed(_)) => RunResult::NotStarted,
        _ if goes_on => return,
        _ => RunResult::Abandoned,
    };
    metrics(|all| all.runs[result as usize].inc());
}

fn of_end(end: End) -> RunResult {
    match end {
        End::TimedOut(_) => RunResult::TimedOut,
        End::Exited(exit) => match exit.status {
            ExitStatus::Code(0) => RunResult::Succeeded,
            ExitStatus::Code(_) => RunResult::Failed,
            ExitStatus::Signal(_) => RunResult::Signaled,
        },
    }
}

/// A record that is gone was a run's: a managed process is not forgotten while it runs.
fn kind(server: &Server, job: JobId) -> Kind {
    let table = server.table.borrow();
    match table.job(job) {
        Some(process) if !process.life.kind().is_run() => Kind::Process,
        _ => Kind::Run,
    }
}
