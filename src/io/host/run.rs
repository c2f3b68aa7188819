//! Carries out a one-shot run and answers it.
//!
//! In: what to start. Out: the answer, or nothing if the client is gone. The run is answered when
//! its child has exited and its pipes have ended, a moment after its exit if somebody else holds
//! them, or when the supervisor says that its time is over.

use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::api::run::reply;
use crate::api::{Launch, Problem, Reply};
use crate::process::Run;
use crate::process::run::RunEnd;
use crate::supervisor::message::Command;
use crate::types::{JobId, Stream};

use crate::io::conn::reader::Reader;
use crate::io::host::create::{TermRule, open_run_pipes, spec};
use crate::io::host::outputs::{Sink, ingest, pump_rest, trim_later};
use crate::io::runtime::source::Source;
use crate::io::runtime::timer::within;
use crate::io::server::Server;
use crate::io::wait::{Limits, Waited, for_client, until};

/// How long after the child's exit its pipes may stay open before the run is answered all the
/// same. What a helper of the child writes until then is part of the answer.
const PIPES_GRACE: Duration = Duration::from_millis(180);

/// A client that has sent FIN may still listen: its run has this long to finish.
const FIN_GRACE: Duration = Duration::from_millis(800);

/// A run under way; dropped before its end, it ends the tree.
struct Underway<'a> {
    server: &'a Rc<Server>,
    key: u64,
    sources: [Rc<Source>; 2],
    finished: bool,
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if let Some(mut run) = self.server.runs.borrow_mut().remove(&self.key) {
            run.release(self.server.table.borrow_mut().arena_mut());
        }
        let job = JobId::Run(self.key);
        self.server.command(if self.finished {
            Command::Forget { job }
        } else {
            Command::End { job }
        });
        trim_later(self.server);
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
    let started = Instant::now();
    let mut underway = match begin(server, &launch, started.checked_add(timeout), output_max) {
        Ok(underway) => underway,
        Err(problem) => return Some(problem.reply()),
    };
    let limits = Limits {
        in_all: None,
        half_closed: FIN_GRACE,
    };
    let finished = pin!(finish(server, underway.key));
    let Waited::Done(end) = for_client(finished, limits, reader).await else {
        return None;
    };
    underway.finished = true;
    let open = server
        .runs
        .borrow()
        .get(&underway.key)
        .map_or(0, |run| run.open_pipes);
    if open > 0 {
        // What the child had written when it ended is in the pipes, all of it.
        for (source, stream) in underway
            .sources
            .iter()
            .zip([Stream::Stdout, Stream::Stderr])
        {
            pump_rest(server, Sink::Run(underway.key, stream), source);
        }
    }
    let mut runs = server.runs.borrow_mut();
    let run = runs.get_mut(&underway.key)?;
    Some(reply(
        &launch,
        run,
        end,
        started.elapsed(),
        server.table.borrow().arena(),
    ))
}

fn begin<'a>(
    server: &'a Rc<Server>,
    launch: &Launch,
    deadline: Option<Instant>,
    output_max: u64,
) -> Result<Underway<'a>, Problem> {
    let (sources, stdio) = open_run_pipes(server)?;
    let spec = spec(server, launch, stdio, Some(TermRule::Always))
        .map_err(|error| Problem::spawn(error, false, launch))?;
    let key = server.next_run.get();
    server.next_run.set(key + 1);
    server.runs.borrow_mut().insert(key, Run::new(output_max));
    server.command(Command::Spawn {
        job: JobId::Run(key),
        spec: Box::new(spec),
        deadline,
    });
    for (source, stream) in sources.iter().zip([Stream::Stdout, Stream::Stderr]) {
        monoio::spawn(ingest(
            server.clone(),
            Sink::Run(key, stream),
            source.clone(),
        ));
    }
    Ok(Underway {
        server,
        key,
        sources,
        finished: false,
    })
}

/// Waits until the run can be answered.
async fn finish(server: &Server, key: u64) -> RunEnd {
    let end = until(|| match server.runs.borrow().get(&key) {
        Some(run) => run.end.ok_or_else(|| run.changed.clone()),
        None => Ok(RunEnd::TimedOut(None)),
    })
    .await;
    if let RunEnd::Exited(_) = end {
        let pipes_ended = until(|| match server.runs.borrow().get(&key) {
            Some(run) if run.open_pipes > 0 => Err(run.changed.clone()),
            _ => Ok(()),
        });
        within(PIPES_GRACE, pin!(pipes_ended)).await;
    }
    end
}
