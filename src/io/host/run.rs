//! Carries out a one-shot run and answers it.
//!
//! In: what to start. Out: the answer, or nothing if the client is gone. When a run is over its
//! life says (`process::life`): when its child has exited and its pipes have ended, a moment after
//! its exit if somebody else holds them or something of its tree lives on, or when the supervisor
//! says that its time is over. A run that leaves living descendants is listed, so that they can be
//! seen and ended.

use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::api::run::reply;
use crate::api::{Launch, Problem, Reply};
use crate::config::timeouts;
use crate::notice;
use crate::process::life::{End, Event, State};
use crate::process::table::Description;
use crate::supervisor::message::Command;
use crate::types::{JobId, SpawnError, UnixMs};

use crate::io::conn::reader::Reader;
use crate::io::host::create::{TermRule, open_run_pipes, spec};
use crate::io::host::effects::{close, happen};
use crate::io::host::leftovers;
use crate::io::host::outputs::{ingest, trim_later};
use crate::io::server::Server;
use crate::io::wait::{Limits, Waited, for_client, until};

/// A run under way; dropped before it is answered, it ends the tree.
struct Underway<'a> {
    server: &'a Rc<Server>,
    job: JobId,
    /// It has been answered and goes on as a record.
    is_listed: bool,
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        let (server, job) = (self.server, self.job);
        // Does nothing if it has been answered.
        happen(server, job, Event::Abandoned);
        close(server, job);
        if !self.is_listed {
            server.table.borrow_mut().remove(job);
            server.command(Command::Forget { job });
        }
        trim_later(server);
    }
}

/// Runs `launch`; None if the client is gone.
pub(crate) async fn run(
    server: &Rc<Server>,
    launch: Launch,
    timeout: Duration,
    output_max: u64,
    reader: &mut Reader,
) -> Option<Reply> {
    let (started, created_at) = (Instant::now(), UnixMs::now());
    let mut underway = match begin(server, &launch, started.checked_add(timeout), output_max) {
        Ok(underway) => underway,
        Err(problem) => return Some(problem.reply()),
    };
    let job = underway.job;
    let limits = Limits {
        in_all: None,
        half_closed: timeouts::RUN_HALF_CLOSED_MAX,
    };
    let over = pin!(over(server, job));
    let end = match for_client(over, limits, reader).await {
        Waited::Done(Ok(end)) => end,
        Waited::Done(Err(error)) => return Some(Problem::spawn(error, false, &launch).reply()),
        Waited::TimeUp | Waited::Gone => return None,
    };
    let mut table = server.table.borrow_mut();
    let left = table.job(job).map_or(0, |run| run.life.left());
    let listed = matches!(end, End::Exited(_)) && left > 0 && !server.shutting_down.get();
    let id = listed.then(|| table.take_id());
    drop(table);
    let id = id.filter(|_| {
        let covered = server.cover_ids();
        if covered.is_err() {
            // Nothing of a run is to be out of reach.
            server.command(Command::End { job });
            notice::line("ended what a run left: its record's id cannot be noted (--state-dir)");
        }
        covered.is_ok()
    });
    let mut table = server.table.borrow_mut();
    let (run, arena) = table.job_mut(job)?;
    let captures = run.captures.as_mut()?;
    let answer = reply(captures, end, started.elapsed(), id, arena);
    drop(table);
    if let Some(id) = id {
        let description = Description {
            command: launch.command,
            args: launch.args,
            cwd: launch.cwd,
            created_at,
            ..Description::default()
        };
        leftovers::list(server, job, id, description, output_max.saturating_mul(2));
        underway.is_listed = true;
    }
    Some(answer)
}

fn begin<'a>(
    server: &'a Rc<Server>,
    launch: &Launch,
    deadline: Option<Instant>,
    output_max: u64,
) -> Result<Underway<'a>, Problem> {
    let (child, stdio) = open_run_pipes(server)?;
    let spec = spec(server, launch, stdio, Some(TermRule::Always))
        .map_err(|error| Problem::spawn(error, false, launch))?;
    let job = server.table.borrow_mut().begin_run(output_max);
    server.command(Command::Spawn {
        job,
        spec: Box::new(spec),
        deadline,
        announce: false,
    });
    for (stream, source) in &child.outputs {
        monoio::spawn(ingest(server.clone(), job, *stream, source.clone()));
    }
    server.children.borrow_mut().insert(job, Rc::new(child));
    Ok(Underway {
        server,
        job,
        is_listed: false,
    })
}

/// Completes when a run can be answered: with how it ended, or why it never began.
async fn over(server: &Server, job: JobId) -> Result<End, SpawnError> {
    until(|| match server.table.borrow().job(job) {
        Some(run) => match run.life.state() {
            State::Over { end, .. } => Ok(Ok(end)),
            State::Failed(error) => Ok(Err(error)),
            _ => Err(run.changed.clone()),
        },
        // Only its owner removes it.
        None => Ok(Ok(End::TimedOut(None))),
    })
    .await
}
