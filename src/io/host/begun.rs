//! Runs that have begun, as another server goes on with them.
//!
//! In: a run under way. Out: what that server has to know of it (`ledger::heritage::Run`); and there
//! the run again. What it writes is not read before that is known.

use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::api::Launch;
use crate::api::run::Run;
use crate::ledger::heritage::{Asked, Text};
use crate::log::capture::Keep;
use crate::process::Tags;
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
}

impl Begun {
    /// What is still to be written of its input; None if nothing is.
    pub(crate) fn input(&self) -> Option<Text> {
        let feed = self.feed.upgrade()?;
        Some(Text(feed.rest().to_vec()))
    }

    /// Bytes of that, and of what tells of it.
    pub(crate) fn len(&self) -> u64 {
        let input = self.feed.upgrade();
        let args = self.run.launch.args.iter().map(String::len);
        (args.sum::<usize>() + input.map_or(0, |feed| feed.rest().len())) as u64
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
pub(super) fn run(asked: Asked) -> Run {
    let rate = asked.rate.map(|rate| {
        let mut limits = Limits::default();
        limits.set(Limit::OutputBytesPerSecond, Some(rate));
        Box::new(limits)
    });
    Run {
        launch: Launch {
            command: asked.command,
            args: asked.args,
            cwd: asked.cwd,
            env: Vec::new(),
            inherit_env: true,
            limits: rate,
            user: None,
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
        is_streamed: false,
        request: asked.request.map(String::into_boxed_str),
    }
}

/// A run that another server has begun, until somebody goes on with it. Dropped, it is one whose
/// client is gone.
pub(crate) struct Handed(Option<Underway>);

impl fmt::Debug for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handed")
    }
}

impl Handed {
    /// Of this job; asked for once. None if nobody has handed it over.
    pub(crate) fn new(server: &Rc<Server>, job: JobId) -> Option<Self> {
        server.table.borrow().job(job)?;
        let about = runs::before(server, job)?;
        Some(Self(Some(Underway::resumed(server, job, about))))
    }

    /// How long a client is waited for that has sent FIN, and whether it ends with its client.
    pub(crate) fn patience(&self) -> (Duration, bool) {
        let run = self.0.as_ref().map(Underway::run);
        run.map_or_else(Default::default, |run| {
            (half_closed(run), run.kill_on_disconnect)
        })
    }

    /// Its program.
    pub(crate) fn command(&self) -> &str {
        let run = self.0.as_ref().map(Underway::run);
        run.map_or("", |run| &run.launch.command)
    }

    /// It is somebody's.
    pub(super) fn take(mut self) -> Option<Underway> {
        self.0.take()
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(underway) = self.0.take() {
            underway.abandon();
        }
    }
}
