//! A run under way: how it begins, what it is asked while it lasts, and what is left of it.
//!
//! In: what to start. Out: how it ended, or why it never began. When a run is over its life says
//! (`process::life`): when its child has exited and its pipes have ended, a moment after its exit if
//! somebody else holds them or something of its tree lives on, or when the supervisor says that its
//! time is over. A run that leaves living descendants is listed, so that they can be seen and ended;
//! another one only if its request says so.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::api::Problem;
use crate::api::run::Run;
use crate::budget::Charge;
use crate::config::timeouts;
use crate::journal;
use crate::ledger;
use crate::metrics::Kind;
use crate::process::life::{End, Event, State};
use crate::process::{Captures, Process};
use crate::supervisor::message::Command;
use crate::types::{JobId, Monotonic, ProcessId, SpawnError, Stream, UnixMs};

use crate::io::host::admission::Place;
use crate::io::host::begun::{Begun, Paused};
use crate::io::host::create::{TermRule, open_run_pipes, refusal, spec};
use crate::io::host::effects::{close, happen, told_to_end};
use crate::io::host::feed::{Feed, feed};
use crate::io::host::input::Input;
use crate::io::host::leftovers;
use crate::io::host::outputs::{ingest, trim_later};
use crate::io::host::paced::{Output, limit_rate};
use crate::io::host::resume::named;
use crate::io::host::tally;
use crate::io::host::told;
use crate::io::runtime;
use crate::io::runtime::source::Source;
use crate::io::server::Server;
use crate::io::wait::{Limits, until};

/// Bytes of the log of a run that is streamed and not listed: what waits for the client, and as
/// much again. The rest waits in its pipes.
const STREAM_LOG_BYTES: u64 = 512 << 10;

/// A run under way; dropped before it is over, it ends the tree.
pub(crate) struct Underway {
    pub(super) server: Rc<Server>,
    pub(super) job: JobId,
    pub(super) run: Rc<Run>,
    /// What is kept of its request is charged.
    pub(super) _charge: Option<Charge>,
    pub(super) started: Monotonic,
    pub(super) created_at: UnixMs,
    /// What it is listed under, from its start.
    pub(super) id: Option<ProcessId>,
    /// Nobody has to end it: it is over and goes on as a record, or it goes on by itself.
    pub(super) is_let_go: bool,
    pub(super) place: Option<Place>,
    /// The log has its end.
    pub(super) is_told: bool,
}

/// How long a client that has sent FIN is waited for.
pub(crate) fn half_closed(run: &Run) -> Duration {
    match run.kill_on_disconnect {
        true => timeouts::RUN_HALF_CLOSED_MAX,
        false => timeouts::WAIT_MAX,
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let (server, job) = (&self.server.clone(), self.job);
        server.begun.borrow_mut().remove(&job);
        tally::run_is_over(server, job, self.is_let_go);
        if !self.is_let_go {
            self.tell_end(None);
            // Does nothing if it has been answered.
            happen(server, job, Event::Abandoned);
        }
        // A record closes its descriptors when it is over.
        if self.id.is_none() {
            close(server, job);
            if !self.is_let_go {
                server.command(match self.left() {
                    0 => Command::RunIsOver { job },
                    // Nothing of a run is to be out of reach.
                    _ => Command::End { job },
                });
            }
        }
        server.table.borrow_mut().disown(job);
        trim_later(server);
    }
}

impl Underway {
    /// Asks for it to be started; before that it is told as which job.
    ///
    /// # Errors
    /// When there is something that a run cannot do without.
    pub(crate) fn begin(
        server: &Rc<Server>,
        mut run: Box<Run>,
        mut charge: Option<Charge>,
        place: Place,
        begins: impl FnOnce(JobId),
    ) -> Result<Self, Problem> {
        let (started, created_at) = (Monotonic::now(), UnixMs::now());
        let has_input = run.stdin.is_some() || run.stdin_open;
        let (mut child, stdio, mut input) = open_run_pipes(server, has_input)?;
        let spec = spec(server, &run.launch, stdio, Some(TermRule::Always))
            .map_err(|error| Problem::spawn(error, false, &run.launch))?;
        // Nobody asks for them again, and they may be many.
        run.launch.env = Vec::new();
        if let Some(charge) = &mut charge {
            charge.set(charge.bytes().min(weight(&run)));
        }
        let (job, id) = enter(server, &run, created_at)?;
        if id.is_some() {
            for (stream, source) in &mut child.outputs {
                name(server, job, *stream, source);
            }
            input = input.map(|pipe| named(server, job, ledger::records::End::Input, pipe));
        }
        child.input = match run.stdin_open {
            true => input.take().map(|pipe| Input::pipe(Rc::new(pipe))),
            // All of its input is in the request.
            false => id.map(|_| Input::closed()),
        };
        tally::asked(Kind::Run);
        begins(job);
        server.command(Command::Spawn {
            job,
            spec: Box::new(spec),
            deadline: Some(Monotonic::now() + run.timeout),
            // Nobody sees the others before they are over.
            announce: id.is_some() || run.is_streamed,
            counted: id.is_some() || run.tells_usage,
            record: server.record_of(job),
        });
        let rate = run.launch.output_rate();
        if let Some(rate) = rate {
            limit_rate(server, job, &child.outputs, rate);
        }
        for &(stream, ref source) in &child.outputs {
            let is_paced = rate.is_some();
            let output = Output { stream, is_paced };
            runtime::spawn(ingest(server.clone(), job, output, source.clone()));
        }
        let fed = input.zip(run.stdin.take());
        let fed = fed.map(|(pipe, data)| Feed::new(pipe, data));
        let input = fed.as_ref().map(Rc::downgrade);
        if let Some(fed) = fed {
            runtime::spawn(feed(server.clone(), job, fed));
        }
        server.children.borrow_mut().insert(job, Rc::new(child));
        told::run_started(server, job, id, &run);
        let underway = Self {
            server: server.clone(),
            job,
            run: Rc::new(*run),
            _charge: charge,
            started,
            created_at,
            id,
            is_let_go: false,
            place: Some(place),
            is_told: false,
        };
        underway.note(input);
        Ok(underway)
    }

    /// Notes what another server needs to go on with it, if there may be one.
    pub(super) fn note(&self, feed: Option<Weak<Feed>>) {
        if self.server.options.upgrades.is_some() {
            let begun = Begun {
                run: self.run.clone(),
                since: (self.started, self.created_at),
                feed: feed.unwrap_or_default(),
                paused: RefCell::default(),
            };
            self.server.begun.borrow_mut().insert(self.job, begun);
        }
    }

    /// What was asked for.
    pub(crate) fn run(&self) -> &Run {
        &self.run
    }

    /// What the supervisor calls it.
    pub(crate) fn job(&self) -> JobId {
        self.job
    }

    /// What it is listed under, from its start.
    pub(crate) fn id(&self) -> Option<ProcessId> {
        self.id
    }

    /// Whether its answer tells what it used.
    pub(crate) fn tells_usage(&self) -> bool {
        self.run.tells_usage
    }

    /// Whether it is ended when its client is gone.
    pub(crate) fn dies_with_its_client(&self) -> bool {
        self.run.kill_on_disconnect
    }

    /// How long ago it was asked for.
    pub(crate) fn elapsed(&self) -> Duration {
        Monotonic::now().since(self.started)
    }

    /// How long its client is waited for.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            in_all: None,
            half_closed: half_closed(&self.run),
        }
    }

    /// Completes when its program runs, or does so no longer: with its process id. It has none if
    /// its time was over first. Only of a run that is streamed.
    pub(crate) async fn started(&self) -> Result<Option<i32>, SpawnError> {
        until(|| match self.server.table.borrow().job(self.job) {
            Some(run) => match run.life.state() {
                State::StartPending => Err(run.changed.clone()),
                State::Failed(error) => Ok(Err(error)),
                _ => Ok(Ok(run
                    .backpressure()
                    .and_then(|backpressure| backpressure.pid))),
            },
            None => Ok(Ok(None)),
        })
        .await
    }

    /// Completes when it can be answered: with how it ended, or why it never began.
    pub(super) async fn over(&self) -> Result<End, SpawnError> {
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

    /// Why there is no program.
    pub(crate) fn refused(&self, error: SpawnError) -> Problem {
        refusal(&self.server, error, false, &self.run.launch)
    }

    /// Its stream has been stopped there, or goes on.
    pub(crate) fn pauses(&self, at: Option<Paused>) {
        if let Some(begun) = self.server.begun.borrow().get(&self.job) {
            *begun.paused.borrow_mut() = at;
        }
    }

    /// Ends its tree; how it ended is told as ever.
    pub(crate) fn kill(&self) {
        told_to_end(&self.server, self.job);
        self.server.command(Command::Kill { job: self.job });
    }

    /// Its client is gone: it is ended, or it goes on without one.
    pub(crate) fn abandon(mut self) {
        if self.run.kill_on_disconnect {
            return;
        }
        if self.id.is_some() {
            self.is_let_go = true;
            return;
        }
        if let Some((run, _)) = self.server.table.borrow_mut().job_mut(self.job)
            && let Some(extras) = run.extras.get_mut()
        {
            // Nobody takes what it writes.
            extras.backpressure = None;
        }
        runtime::spawn(async move {
            if let Ok(end) = self.over().await {
                self.finish(end);
            }
        });
    }

    /// Lists it, now that it is over, if it has left something. Returns the id that it has got.
    pub(crate) fn finish(&mut self, end: End) -> Option<ProcessId> {
        let id = self.id_if_left(end);
        self.tell_end(Some((end, id)));
        self.list(id);
        id
    }

    /// Tells how it ended, once, and under which id it is listed from now on; None if its client is
    /// gone. One that is listed from its start is told of as processes are, if it began.
    pub(super) fn tell_end(&mut self, end: Option<(End, Option<ProcessId>)>) {
        let is_told_of = |run: &Process| !matches!(run.life.state(), State::Failed(_));
        if self.id.is_some()
            && self
                .server
                .table
                .borrow()
                .job(self.job)
                .is_none_or(is_told_of)
        {
            return;
        }
        if !std::mem::replace(&mut self.is_told, true) {
            told::run_ended(&self.server, self.job, end, &self.run, self.elapsed());
        }
    }

    /// How many of its tree were alive when that was last said.
    fn left(&self) -> u32 {
        let table = self.server.table.borrow();
        table.job(self.job).map_or(0, |run| run.life.left())
    }

    /// The id that it is to be listed under, if it has left something and is not listed yet.
    pub(super) fn id_if_left(&self, end: End) -> Option<ProcessId> {
        let server = &self.server;
        let is_to_be_seen = matches!(end, End::Exited(_)) && !server.shutting_down.get();
        if self.id.is_some() || !is_to_be_seen || self.left() == 0 {
            return None;
        }
        let id = server.table.borrow_mut().take_id();
        if server.cover_ids().is_err() {
            server.tell(&journal::Event::LeftEnded {
                of: "a run",
                id: None,
                reason: "state_dir",
                why: "its record's id cannot be noted (--state-dir)",
            });
            return None;
        }
        Some(id)
    }

    /// Lists it under the id that was taken for it.
    pub(super) fn list(&mut self, id: Option<ProcessId>) {
        let Some(id) = id else { return };
        let description = self.run.launch.description(self.created_at);
        let usual = self.server.settings.get().max_output_bytes;
        let log_max = self.run.output_max.min(usual).saturating_mul(2);
        leftovers::list(&self.server, self.job, id, description, log_max);
        self.is_let_go = true;
    }
}

/// Notes which output of a run that is listed this is; nobody else has it yet.
fn name(server: &Server, job: JobId, stream: Stream, source: &mut Rc<Source>) {
    let end = ledger::records::End::Output(stream);
    let name = server.table.borrow().name_end(job, end, source.number());
    if let (Some(name), Some(source)) = (name, Rc::get_mut(source)) {
        source.set_name(name);
    }
}

/// What is kept of a request while it is carried out: its arguments, here and on their way to the
/// program, and its input.
pub(super) fn weight(run: &Run) -> u64 {
    let args = run.launch.args.iter();
    let args: usize = args.map(|arg| arg.len() + size_of::<String>()).sum();
    (2 * args + run.stdin.as_ref().map_or(0, Vec::len)) as u64
}

/// Enters a run into the table, with where its output goes.
fn enter(
    server: &Server,
    run: &Run,
    created_at: UnixMs,
) -> Result<(JobId, Option<ProcessId>), Problem> {
    let mut table = server.table.borrow_mut();
    run.check_name(&table)?;
    let is_logged = run.is_streamed || run.record.is_some();
    let is_room = match is_logged {
        true => table.make_memory_for_log(0),
        false => table.may_capture(2),
    };
    if !is_room {
        return Err(Problem::no_memory(table.budget().max()));
    }
    let process = match &run.record {
        Some(_) => table.begin_record(run.launch.description(created_at)),
        None => table.begin_run(),
    };
    let (job, id) = (process.job, process.is_listed().then_some(process.id));
    if id.is_some() && run.request.is_some() {
        process.extras.make().request.clone_from(&run.request);
    }
    if run.is_streamed {
        let extras = process.extras.make();
        extras.backpressure = Some(Box::default());
        extras.log_max = id.is_none().then_some(STREAM_LOG_BYTES);
    } else {
        process.captures = Some(Box::new(Captures::new(run.keep, run.output_max)));
    }
    if let Some(tags) = &run.record {
        table.tag(job, tags.clone());
    }
    table.weigh(job);
    drop(table);
    if id.is_some()
        && let Err(problem) = server.cover_ids()
    {
        let mut table = server.table.borrow_mut();
        table.disown(job);
        table.remove(job);
        return Err(problem);
    }
    Ok((job, id))
}
