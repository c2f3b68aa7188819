//! Carries out a one-shot run and answers it.
//!
//! In: what to start. Out: the answer, or nothing if the client is gone. The run is answered when
//! its child has exited and its pipes have ended, a moment after its exit if somebody else holds
//! them or something of its tree lives on, or when the supervisor says that its time is over. A run
//! that leaves living descendants becomes a record, so that they can be seen and ended.

use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::api::processes::now_ms;
use crate::api::run::reply;
use crate::api::{Launch, Problem, Reply};
use crate::notice;
use crate::process::Run;
use crate::process::run::RunEnd;
use crate::process::table::{Description, Leftover};
use crate::supervisor::message::Command;
use crate::types::{JobId, ProcessId, Stream};

use crate::io::conn::reader::Reader;
use crate::io::host::create::{TermRule, open_run_pipes, spec};
use crate::io::host::leftovers;
use crate::io::host::outputs::{Sink, ingest, pump_rest, trim_later};
use crate::io::runtime::source::Source;
use crate::io::runtime::timer::within;
use crate::io::server::Server;
use crate::io::wait::{Limits, Waited, for_client, until};

/// How long after the child's exit its pipes may stay open before the run is answered all the
/// same. What a helper of the child writes until then is part of the answer.
const PIPES_GRACE: Duration = Duration::from_millis(180);

/// How long after the child's exit others of its tree may live, with all pipes closed, before they
/// count as left: most are on their way out.
const TREE_GRACE: Duration = Duration::from_millis(100);

/// A client that has sent FIN may still listen: its run has this long to finish.
const FIN_GRACE: Duration = Duration::from_millis(800);

/// A run under way; dropped before its end, it ends the tree.
struct Underway<'a> {
    server: &'a Rc<Server>,
    key: u64,
    sources: [Rc<Source>; 2],
    fate: Fate,
}

/// What becomes of the tree of a run that is over for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is ended: the client is gone.
    Ended,
    /// It is left alone, if there still is any.
    LeftAlone,
    /// It belongs to a record.
    Recorded(ProcessId),
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        let run = self.server.runs.borrow_mut().remove(&self.key);
        let mut open = 0;
        if let Some(mut run) = run {
            open = run.open_pipes;
            run.release(self.server.table.borrow_mut().arena_mut());
        }
        let job = JobId::Run(self.key);
        let id = match self.fate {
            Fate::Ended => {
                self.server.command(Command::End { job });
                None
            }
            Fate::LeftAlone => {
                self.server.command(Command::Forget { job });
                None
            }
            Fate::Recorded(id) => Some(id),
        };
        if open > 0 {
            leftovers::note_open(self.server, id, self.sources.iter());
        }
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
    let (started, created_at_ms) = (Instant::now(), now_ms());
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
    underway.fate = Fate::LeftAlone;
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
    let left = run.left > 0 && !server.shutting_down.get();
    let record = match (end, run.ended_at) {
        (RunEnd::Exited(status), Some(ended_at)) if left => {
            let id = server.table.borrow_mut().take_id();
            let covered = server.cover_ids().is_ok();
            if !covered {
                // Nothing of a run is to be out of reach.
                underway.fate = Fate::Ended;
                notice::line(
                    "ended what a run left: its record's id cannot be noted (--state-dir)",
                );
            }
            covered.then_some((id, status, ended_at))
        }
        _ => None,
    };
    let answer = reply(
        &launch,
        run,
        end,
        started.elapsed(),
        record.map(|(id, ..)| id),
        server.table.borrow().arena(),
    );
    if let Some((id, status, ended_at)) = record {
        let log_max = output_max.saturating_mul(2);
        let limit = server.settings.get().max_log_bytes_per_process.min(log_max);
        let log = run.take_log(server.table.borrow_mut().arena_mut(), ended_at.1, limit);
        let description = Description {
            command: launch.command,
            args: launch.args,
            cwd: launch.cwd,
            tty: false,
            interactive: false,
            created_at_ms,
        };
        let of = Leftover {
            job: JobId::Run(underway.key),
            description,
            status,
            ended_at,
            log,
            log_max,
            open_outputs: run.open_pipes,
            left: run.left,
        };
        drop(runs);
        leftovers::record(server, underway.key, id, of);
        underway.fate = Fate::Recorded(id);
    }
    Some(answer)
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
        fate: Fate::Ended,
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
        let ended_at = server.runs.borrow().get(&key).and_then(|run| run.ended_at);
        let since = ended_at.map_or(PIPES_GRACE, |(at, _)| at.elapsed());
        let tree_ended = until(|| match server.runs.borrow().get(&key) {
            Some(run) if run.left > 0 => Err(run.changed.clone()),
            _ => Ok(()),
        });
        within(TREE_GRACE.saturating_sub(since), pin!(tree_ended)).await;
    }
    end
}
