//! Carries out a one-shot run and answers it.
//!
//! In: what to start. Out: the answer, or nothing if the client is gone. When a run is over its
//! life says (`process::life`): when its child has exited and its pipes have ended, a moment after
//! its exit if somebody else holds them or something of its tree lives on, or when the supervisor
//! says that its time is over. A run that leaves living descendants is listed, so that they can be
//! seen and ended.

use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use crate::api::run::{Run, reply};
use crate::api::{Problem, Reply};
use crate::config::timeouts;
use crate::notice;
use crate::process::life::{End, Event, State};
use crate::process::table::Description;
use crate::supervisor::message::Command;
use crate::types::{JobId, ProcessId, SpawnError, UnixMs};

use crate::io::host::create::{TermRule, open_run_pipes, spec};
use crate::io::host::effects::{close, happen};
use crate::io::host::feed::feed;
use crate::io::host::leftovers;
use crate::io::host::outputs::{ingest, trim_later};
use crate::io::server::Server;
use crate::io::wait::{Client, Limits, Waited, for_client, until};

/// Runs `run`; None if the client is gone.
pub(crate) async fn run(
    server: &Rc<Server>,
    run: Box<Run>,
    client: &mut impl Client,
) -> Option<Reply> {
    let mut underway = match Underway::begin(server, run) {
        Ok(underway) => underway,
        Err(problem) => return Some(problem.reply()),
    };
    let waited = for_client(pin!(underway.over()), underway.limits(), client).await;
    let end = match waited {
        Waited::Done(Ok(end)) => end,
        Waited::Done(Err(error)) => return Some(underway.refused(error).reply()),
        Waited::TimeUp | Waited::Gone => {
            underway.abandon();
            return None;
        }
    };
    let id = underway.id_if_left(end);
    let answer = {
        let mut table = server.table.borrow_mut();
        let (process, arena) = table.job_mut(underway.job)?;
        let (run, took) = (&underway.run, underway.started.elapsed());
        reply(run, process.captures.as_ref()?, end, took, id, arena)
    };
    underway.list(id);
    Some(answer)
}

/// A run under way; dropped before it is over, it ends the tree.
pub(crate) struct Underway {
    server: Rc<Server>,
    job: JobId,
    run: Box<Run>,
    started: Instant,
    created_at: UnixMs,
    /// It is over and goes on as a record.
    is_listed: bool,
}

impl Drop for Underway {
    fn drop(&mut self) {
        let (server, job) = (&self.server, self.job);
        // Does nothing if it has been answered.
        happen(server, job, Event::Abandoned);
        close(server, job);
        if !self.is_listed {
            let left = self.left();
            server.table.borrow_mut().remove(job);
            server.command(match left {
                0 => Command::Forget { job },
                // Nothing of a run is to be out of reach.
                _ => Command::End { job },
            });
        }
        trim_later(server);
    }
}

impl Underway {
    fn begin(server: &Rc<Server>, mut run: Box<Run>) -> Result<Self, Problem> {
        let (started, created_at) = (Instant::now(), UnixMs::now());
        let (child, stdio, input) = open_run_pipes(server, run.stdin.is_some())?;
        let spec = spec(server, &run.launch, stdio, Some(TermRule::Always))
            .map_err(|error| Problem::spawn(error, false, &run.launch))?;
        let job = server
            .table
            .borrow_mut()
            .begin_run(run.keep, run.output_max);
        server.command(Command::Spawn {
            job,
            spec: Box::new(spec),
            deadline: started.checked_add(run.timeout),
            announce: false,
        });
        for (stream, source) in &child.outputs {
            monoio::spawn(ingest(server.clone(), job, *stream, source.clone()));
        }
        if let (Some(pipe), Some(data)) = (input, run.stdin.take()) {
            monoio::spawn(feed(server.clone(), job, pipe, data));
        }
        server.children.borrow_mut().insert(job, Rc::new(child));
        Ok(Self {
            server: server.clone(),
            job,
            run,
            started,
            created_at,
            is_listed: false,
        })
    }

    /// How long its client is waited for.
    fn limits(&self) -> Limits {
        Limits {
            in_all: None,
            half_closed: match self.run.kill_on_disconnect {
                true => timeouts::RUN_HALF_CLOSED_MAX,
                false => timeouts::WAIT_MAX,
            },
        }
    }

    /// Completes when it can be answered: with how it ended, or why it never began.
    async fn over(&self) -> Result<End, SpawnError> {
        until(|| match self.server.table.borrow().job(self.job) {
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

    fn refused(&self, error: SpawnError) -> Problem {
        Problem::spawn(error, false, &self.run.launch)
    }

    /// Its client is gone: it is ended, or it goes on without one.
    fn abandon(mut self) {
        if self.run.kill_on_disconnect {
            return;
        }
        monoio::spawn(async move {
            if let Ok(end) = self.over().await {
                let id = self.id_if_left(end);
                self.list(id);
            }
        });
    }

    /// How many of its tree were alive when that was last said.
    fn left(&self) -> u32 {
        let table = self.server.table.borrow();
        table.job(self.job).map_or(0, |run| run.life.left())
    }

    /// The id that it is to be listed under, if it has left something.
    fn id_if_left(&self, end: End) -> Option<ProcessId> {
        let server = &self.server;
        let is_to_be_seen = matches!(end, End::Exited(_)) && !server.shutting_down.get();
        if !is_to_be_seen || self.left() == 0 {
            return None;
        }
        let id = server.table.borrow_mut().take_id();
        if server.cover_ids().is_err() {
            notice::line("ended what a run left: its record's id cannot be noted (--state-dir)");
            return None;
        }
        Some(id)
    }

    /// Lists it under the id that was taken for it.
    fn list(&mut self, id: Option<ProcessId>) {
        let Some(id) = id else { return };
        let launch = &mut self.run.launch;
        let description = Description {
            command: std::mem::take(&mut launch.command),
            args: std::mem::take(&mut launch.args),
            cwd: launch.cwd.take(),
            created_at: self.created_at,
            ..Description::default()
        };
        let log_max = self.run.output_max.saturating_mul(2);
        leftovers::list(&self.server, self.job, id, description, log_max);
        self.is_listed = true;
    }
}
