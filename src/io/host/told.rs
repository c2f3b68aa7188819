//! What the log is told of processes and runs.
//!
//! In: a job that has begun or ended. Out: an event. A managed process and a run that is listed from
//! its start are told of when their records change, another run by whoever carries it out.

use std::time::Duration;

use crate::api::run::Run;
use crate::config::flags::LogLevel;
use crate::journal::{Ended, Event, Job, Started};
use crate::process::Process;
use crate::process::life::{End, State};
use crate::types::{ExitReason, ExitStatus, JobId, ProcessId, StreamFilter, UnixMs};

use crate::io::server::Server;

/// Why a run was ended whose time was over, one that never began, and one whose client has gone.
const TIMEOUT: &str = "timeout";
const NOT_STARTED: &str = "not_started";
const CLIENT_GONE: &str = "client_gone";

/// A managed process runs.
pub(crate) fn started(server: &Server, job: JobId) {
    if !server.tells(LogLevel::Info) {
        return;
    }
    let table = server.table.borrow();
    let Some(process) = table.job(job) else {
        return;
    };
    server.tell(&Event::Started(Started {
        job: listed(process, None),
        args: &process.description.args,
        pid: process.life.pid(),
    }));
}

/// What is listed is over; nothing is told of what never ran.
pub(crate) fn ended(server: &Server, job: JobId) {
    if !server.tells(LogLevel::Info) {
        return;
    }
    let table = server.table.borrow();
    let Some(process) = table.job(job) else {
        return;
    };
    let State::Over { end, at, .. } = process.life.state() else {
        return;
    };
    let signal = signal(end);
    server.tell(&Event::Ended(Ended {
        job: listed(process, process.life.kind().is_run().then_some(job)),
        reason: reason(end),
        exit_code: end.status().and_then(ExitStatus::code),
        signal: signal.as_deref(),
        duration_ms: since(process.description.created_at, at),
        output_bytes: written(process),
        descendants: process.life.left(),
    }));
}

/// A run has been asked for.
pub(crate) fn run_started(server: &Server, job: JobId, id: Option<ProcessId>, run: &Run) {
    if !server.tells(LogLevel::Info) {
        return;
    }
    let tags = run.record.as_ref();
    server.tell(&Event::Started(Started {
        job: Job {
            name: tags.and_then(|tags| tags.name.as_deref()),
            ..unlisted(job, id, run)
        },
        args: &run.launch.args,
        pid: None,
    }));
}

/// A run has ended so, `took` after it was asked for, and is listed under this id from now on; or its
/// client has gone, which ends it, or it never began.
pub(crate) fn run_ended(
    server: &Server,
    job: JobId,
    end: Option<(End, Option<ProcessId>)>,
    run: &Run,
    took: Duration,
) {
    if !server.tells(LogLevel::Info) {
        return;
    }
    let table = server.table.borrow();
    let Some(process) = table.job(job) else {
        return;
    };
    let failed = matches!(process.life.state(), State::Failed(_));
    let (end, id) = end.map_or((None, None), |(end, id)| (Some(end), id));
    let signal = end.and_then(signal);
    server.tell(&Event::Ended(Ended {
        job: unlisted(job, id, run),
        reason: match end {
            Some(end) => reason(end),
            None if failed => Some(NOT_STARTED),
            None => Some(CLIENT_GONE),
        },
        exit_code: end.and_then(End::status).and_then(ExitStatus::code),
        signal: signal.as_deref(),
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        output_bytes: written(process),
        descendants: process.life.left(),
    }));
}

/// What has a record, and is the run of this job, if of any.
fn listed(process: &Process, run: Option<JobId>) -> Job<'_> {
    Job {
        id: Some(process.id),
        name: process.tags().and_then(|tags| tags.name.as_deref()),
        run,
        command: &process.description.command,
        request: process.extras.get().and_then(|of| of.request.as_deref()),
    }
}

/// A run, which has a record for others with this id only.
fn unlisted(job: JobId, id: Option<ProcessId>, run: &Run) -> Job<'_> {
    Job {
        id,
        name: None,
        run: Some(job),
        command: &run.launch.command,
        request: run.request.as_deref(),
    }
}

fn signal(end: End) -> Option<String> {
    end.status().and_then(ExitStatus::signal_name)
}

fn reason(end: End) -> Option<&'static str> {
    match end {
        End::TimedOut(_) => Some(TIMEOUT),
        End::Exited(exit) => exit.reason.map(ExitReason::name),
    }
}

fn since(from: UnixMs, to: UnixMs) -> u64 {
    to.0.saturating_sub(from.0)
}

/// What it has written, also where that is not kept.
fn written(process: &Process) -> u64 {
    let captures = process.captures.as_ref();
    captures.map_or_else(
        || process.log.end_offset(StreamFilter::Combined),
        |of| of.stdout.written().saturating_add(of.stderr.written()),
    )
}
