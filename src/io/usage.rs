//! What processes have used, on this side of the threads.
//!
//! In: jobs. Out: what the supervisor says of them, and what went through the server. Owns the
//! requests that the supervisor has not answered, each under a number of its own.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::pin;

use crate::api::usage::Asked;
use crate::api::{Outcome, Problem};
use crate::config::timeouts;
use crate::process::Notify;
use crate::supervisor::message::Command;
use crate::types::{JobId, Usage, Used};

use crate::io::server::Server;
use crate::io::wait::{Client, Limits, Waited, for_client, until};

/// What the supervisor says to one request.
type Answer = Option<Vec<(JobId, Used)>>;

/// Requests that are not answered.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    last: Cell<u64>,
    open: RefCell<HashMap<u64, (Answer, Notify)>>,
}

impl Counts {
    /// The supervisor has answered. Nothing if nobody waits any more.
    pub(crate) fn answer(&self, ticket: u64, used: Vec<(JobId, Used)>) {
        if let Some((answer, done)) = self.open.borrow_mut().get_mut(&ticket) {
            *answer = Some(used);
            done.notify();
        }
    }

    /// The supervisor will not answer any more.
    pub(crate) fn end(&self) {
        for (answer, done) in self.open.borrow_mut().values_mut() {
            answer.get_or_insert_default();
            done.notify();
        }
    }
}

/// A request that somebody waits for. Dropped without an answer, it is taken back.
struct Ticket<'a> {
    server: &'a Server,
    number: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let open = self.server.counts.open.borrow_mut().remove(&self.number);
        if let Some((None, _)) = open {
            let ticket = self.number;
            self.server.command(Command::Uncount { ticket });
        }
    }
}

/// Counts what these have used. Those that the supervisor does not know are left out.
async fn count(server: &Server, jobs: Vec<JobId>) -> HashMap<JobId, Usage> {
    let number = server.counts.last.get() + 1;
    server.counts.last.set(number);
    let none = (None, Notify::default());
    server.counts.open.borrow_mut().insert(number, none);
    let ticket = Ticket { server, number };
    server.command(Command::Count {
        jobs,
        ticket: number,
    });
    let used = until(|| match server.counts.open.borrow_mut().get_mut(&number) {
        Some((answer @ Some(_), _)) => Ok(answer.take()),
        Some((None, done)) => Err(done.clone()),
        None => Ok(None),
    });
    let used = used.await.unwrap_or_default();
    // It has been answered.
    server.counts.open.borrow_mut().remove(&number);
    drop(ticket);
    let table = server.table.borrow();
    let with_bytes = used.into_iter().map(|(job, used)| {
        let process = table.job(job);
        let input = process.map_or(0, |process| process.input_bytes);
        let usage = Usage {
            used,
            input_bytes: input + server.accepted_input(job),
            output_bytes: process.map_or(0, |process| process.output_bytes()),
            followers: process.map_or(0, |process| {
                u32::try_from(process.followers()).unwrap_or(u32::MAX)
            }),
        };
        (job, usage)
    });
    with_bytes.collect()
}

/// Counts as long as the client listens; None if it is gone, and an empty map if the supervisor
/// does not answer.
async fn counted(
    server: &Server,
    jobs: Vec<JobId>,
    client: &mut impl Client,
) -> Option<HashMap<JobId, Usage>> {
    let limits = Limits {
        in_all: Some(timeouts::COUNT_MAX),
        half_closed: timeouts::HALF_CLOSED_MAX,
    };
    match for_client(pin!(count(server, jobs)), limits, client).await {
        Waited::Done(used) => Some(used),
        Waited::TimeUp => Some(HashMap::new()),
        Waited::Gone => None,
    }
}

/// What one job has used, if that can be said; None if the client is gone.
pub(crate) async fn usage_of(
    server: &Server,
    job: JobId,
    client: &mut impl Client,
) -> Option<Option<Usage>> {
    let used = counted(server, vec![job], client).await?;
    Some(used.get(&job).copied())
}

/// Answers with records and what they have used; None if the client is gone.
pub(super) async fn answer(
    server: &Server,
    asked: Asked,
    client: &mut impl Client,
) -> Option<Outcome> {
    let jobs = asked.jobs();
    let is_empty = jobs.is_empty();
    let used = counted(server, jobs, client).await?;
    if used.is_empty() && !is_empty {
        let message = "what processes use has not been counted in time";
        let problem = Problem::unavailable(message, Some("timeout"));
        return Some(Outcome::Reply(problem.reply()));
    }
    Some(asked.answer(used, &server.table.borrow()))
}
