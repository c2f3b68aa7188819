//! Runs that another server has begun.
//!
//! In: what that server has told of them (`ledger::heritage::Run`). Out: the runs again. What they
//! write is not read before somebody has asked for them here.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::api::Launch;
use crate::api::run::Run;
use crate::api::stream::{Form, Passed, Position};
use crate::budget;
use crate::ledger::heritage::{self, Asked, Streamed};
use crate::log::capture::{Capture, Keep};
use crate::process::backpressure::Backpressure;
use crate::process::{Captures, Tags};
use crate::types::{JobId, Limit, Limits, Monotonic, UnixMs};

use crate::io::host::admission::Place;
use crate::io::host::begun::Paused;
use crate::io::host::feed::{Feed, feed};
use crate::io::host::outputs::ingest;
use crate::io::host::paced::{Output, limit_rate};
use crate::io::host::resume;
use crate::io::host::underway::{Underway, half_closed, weight};
use crate::io::runtime;
use crate::io::server::Server;
use crate::io::upgrade::runs;

/// A run that another server has begun, until somebody goes on with it. Dropped, it is one whose
/// client is gone.
pub(crate) struct Handed {
    underway: Option<Underway>,
    stream: Option<Streamed>,
}

impl fmt::Debug for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handed")
    }
}

impl Handed {
    /// Of this job; asked for once. None if nobody has handed it over.
    pub(crate) fn new(server: &Rc<Server>, job: JobId) -> Option<Self> {
        server.table.borrow().job(job)?;
        let mut about = runs::before(server, job)?;
        let underway = Some(Underway::resumed(server, job, &mut about));
        let stream = about.stream;
        Some(Self { underway, stream })
    }

    /// How long a client is waited for that has sent FIN, and whether it ends with its client.
    pub(crate) fn patience(&self) -> (Duration, bool) {
        let run = self.underway.as_ref().map(Underway::run);
        run.map_or_else(Default::default, |run| {
            (half_closed(run), run.kill_on_disconnect)
        })
    }

    /// Its program.
    pub(crate) fn command(&self) -> &str {
        let run = self.underway.as_ref().map(Underway::run);
        run.map_or("", |run| &run.launch.command)
    }

    /// Whether it is streamed.
    pub(crate) fn is_streamed(&self) -> bool {
        self.stream.is_some()
    }

    /// It is somebody's, with where it has been stopped if it is streamed.
    pub(crate) fn take(mut self) -> Option<(Underway, Option<Paused>)> {
        Some((self.underway.take()?, self.stream.take().map(paused)))
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(underway) = self.underway.take() {
            underway.abandon();
        }
    }
}

impl Underway {
    /// One that another server has begun, with what that has told of it. It is read on from now on.
    fn resumed(server: &Rc<Server>, job: JobId, about: &mut heritage::Run) -> Self {
        let run = Rc::new(run(
            std::mem::take(&mut about.asked),
            about.stream.is_some(),
        ));
        let fed = about.input.take().and_then(|rest| {
            let pipe = resume::pipe_of_input(server, job)?;
            Some(Feed::new(pipe, rest.0))
        });
        let bytes = weight(&run) + fed.as_ref().map_or(0, |fed| fed.rest().len() as u64);
        resume_outputs(server, job, &run, about);
        let id = server.table.borrow().job(job).map(|process| process.id);
        let underway = Self {
            server: server.clone(),
            job,
            run,
            _charge: Some(server.budget.hold(budget::Kind::Bodies, bytes)),
            started: Monotonic::from_nanos(about.since.0),
            created_at: UnixMs(about.since.1),
            id: id.filter(|id| id.0 != 0),
            is_let_go: false,
            place: Some(Place::of_one_more(server)),
            is_told: false,
        };
        underway.note(fed.as_ref().map(Rc::downgrade));
        if let Some(fed) = fed {
            runtime::spawn(feed(server.clone(), job, fed));
        }
        underway
    }
}

/// What was asked for, again. It has begun, so what only its start needs is not there.
fn run(asked: Asked, is_streamed: bool) -> Run {
    let rate = asked.rate.map(|rate| {
        let mut limits = Limits::default();
        limits.set(Limit::OutputBytesPerSecond, Some(rate));
        Box::new(limits)
    });
    Run {
        launch: Launch {
            limits: rate,
            ..Launch::new(asked.command, asked.args, asked.cwd)
        },
        stdin: None,
        stdin_open: false,
        timeout: Duration::ZERO,
        output_max: asked.output_max,
        keep: Keep::named(&asked.keep).unwrap_or_default(),
        tells_bytes: asked.tells_bytes,
        tells_usage: asked.tells_usage,
        kill_on_disconnect: !asked.outlives_client,
        record: asked.is_record.then(Tags::default),
        is_streamed,
        request: asked.request.map(String::into_boxed_str),
    }
}

/// Where its stream was stopped.
fn paused(stream: Streamed) -> Paused {
    let form = Form::new(stream.as_events, stream.as_text, stream.max);
    let outputs = stream.outputs.map(|of| Passed {
        written: of.written,
        sent: of.sent,
        held: of.held.0,
        last: of.last,
    });
    Paused {
        position: Position {
            form,
            next: stream.next,
            outputs,
        },
        unsent: stream.unsent.0,
    }
}

/// Has what a run writes read from now on and kept, behind what another server has kept.
fn resume_outputs(server: &Rc<Server>, job: JobId, run: &Run, about: &heritage::Run) {
    let mut table = server.table.borrow_mut();
    if let Some((process, arena)) = table.job_mut(job) {
        if let Some(Streamed {
            next, rest, last, ..
        }) = about.stream
        {
            let at = (process.life.pid(), &process.log, next);
            let backpressure = Backpressure::resumed(at, rest, last);
            process.extras.make().backpressure = Some(Box::new(backpressure));
        } else {
            let mut resumed = |of: &heritage::Output| match &of.slots {
                Some(slots) => Capture::placed(run.keep, run.output_max, of.written, slots.clone()),
                None => {
                    let kept = of.kept.each_ref().map(|piece| &piece.0[..]);
                    Capture::resumed(run.keep, run.output_max, of.written, kept, arena)
                }
            };
            let [stdout, stderr] = about.outputs.each_ref().map(&mut resumed);
            process.captures = Some(Box::new(Captures { stdout, stderr }));
        }
        process.input_bytes = about.input_bytes;
        if process.is_listed() && run.request.is_some() {
            process.extras.make().request.clone_from(&run.request);
        }
    }
    table.weigh(job);
    drop(table);
    let rate = run.launch.output_rate();
    let child = server.children.borrow().get(&job).cloned();
    for &(stream, ref source) in child.iter().flat_map(|child| &child.outputs) {
        let is_paced = rate.is_some();
        let output = Output { stream, is_paced };
        runtime::spawn(ingest(server.clone(), job, output, source.clone()));
    }
    // How fast it is read is measured anew.
    if let (Some(rate), Some(child)) = (rate, &child) {
        limit_rate(server, job, &child.outputs, rate);
    }
}
