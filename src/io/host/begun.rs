//! Runs that have begun, as another server goes on with them.
//!
//! In: a run under way. Out: what that server has to know of it (`ledger::heritage::Run`); and there
//! the run again. What it writes is not read before that is known.

use std::cell::RefCell;
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::api::Launch;
use crate::api::run::Run;
use crate::api::stream::{Form, Passed, Position};
use crate::ledger::heritage::{self, Asked, Streamed, Text};
use crate::log::capture::Keep;
use crate::process::Tags;
use crate::process::backpressure::Backpressure;
use crate::types::{JobId, Limit, Limits, Monotonic, UnixMs};

use crate::io::host::feed::Feed;
use crate::io::host::run::{Underway, half_closed};
use crate::io::server::Server;
use crate::io::upgrade::runs;

/// What is known of a run that has begun, as long as it is under way.
#[derive(Debug)]
pub(crate) struct Begun {
    /// What was asked for.
    pub(crate) run: Rc<Run>,
    /// When it began.
    pub(crate) since: (Monotonic, UnixMs),
    /// What its input is written by, until all of it is.
    pub(crate) feed: Weak<Feed>,
    /// Where it has been stopped, while nothing is begun any more, if it is streamed.
    pub(crate) paused: RefCell<Option<Paused>>,
}

/// A stream that has been stopped.
#[derive(Debug)]
pub(crate) struct Paused {
    /// How far it has been made.
    pub(crate) position: Position,
    /// What is still to be sent of that.
    pub(crate) unsent: Vec<u8>,
}

impl Begun {
    /// What is still to be written of its input; None if nothing is.
    pub(crate) fn input(&self) -> Option<Text> {
        let feed = self.feed.upgrade()?;
        Some(Text(feed.rest().to_vec()))
    }

    /// How far it has been sent, if it is streamed and has been stopped.
    pub(crate) fn stream(&self, backpressure: Option<&Backpressure>) -> Option<Streamed> {
        let paused = self.paused.borrow();
        let Paused { position, unsent } = paused.as_ref()?;
        let Position {
            form,
            next,
            ref outputs,
        } = *position;
        Some(Streamed {
            as_events: form.as_events(),
            as_text: form.as_text,
            max: form.max,
            next,
            outputs: outputs.each_ref().map(|of| heritage::Passed {
                written: of.written,
                sent: of.sent,
                held: Text(of.held.clone()),
                last: of.last,
            }),
            unsent: Text(unsent.clone()),
            rest: backpressure.and_then(Backpressure::rest),
            last: backpressure.and_then(Backpressure::end),
        })
    }

    /// Bytes of all that.
    pub(crate) fn len(&self) -> u64 {
        let input = self.feed.upgrade();
        let args = self.run.launch.args.iter().map(String::len);
        let paused = self.paused.borrow();
        let unsent = paused.as_ref().map_or(0, |paused| paused.unsent.len());
        (args.sum::<usize>() + input.map_or(0, |feed| feed.rest().len()) + unsent) as u64
    }
}

/// The same on the other side.
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

/// What another server has to know of what was asked for.
pub(crate) fn asked(run: &Run) -> Asked {
    Asked {
        command: run.launch.command.clone(),
        args: run.launch.args.clone(),
        cwd: run.launch.cwd.clone(),
        output_max: run.output_max,
        keep: run.keep.name().to_owned(),
        tells_bytes: run.tells_bytes,
        tells_usage: run.tells_usage,
        outlives_client: !run.kill_on_disconnect,
        is_record: run.record.is_some(),
        request: run.request.as_deref().map(str::to_owned),
        rate: run.launch.output_rate(),
    }
}

/// The same on the other side. It has begun, so what only its start needs is not there.
pub(super) fn run(asked: Asked, is_streamed: bool) -> Run {
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
