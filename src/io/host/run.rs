//! Carries out a one-shot run and answers it.
//!
//! In: what to start, or a run that another server has begun. Out: the answer, whole or to be made
//! piece by piece, or nothing if the client is gone. What becomes of the run meanwhile is
//! [`Underway`]'s.

use std::pin::pin;
use std::rc::Rc;

use crate::api::run::{Answer, Progress, Run, answer};
use crate::api::{Problem, Reply};
use crate::budget::Charge;

use crate::io::host::admission::admit;
use crate::io::host::handed::Handed;
use crate::io::host::underway::{Underway, half_closed};
use crate::io::server::Server;
use crate::io::usage::usage_of;
use crate::io::wait::{Client, Waited, for_client};

/// Output of which an answer is made whole, whatever memory there is.
const WHOLE_BYTES_MIN: u64 = 32 << 10;

/// And if what it may become at worst is no more than half of what is free.
const WHOLE_BYTES_MAX: u64 = 1 << 20 | 256 << 10;

/// Bytes of an answer for one of output, at most.
const ESCAPED: u64 = 6;

/// How a run is answered.
pub(crate) enum Answered {
    /// With this.
    Whole(Reply),
    /// With more than should be in memory twice.
    Long(Box<Long>),
}

/// A long answer, made from what the run wrote as it is sent.
pub(crate) struct Long {
    underway: Underway,
    answer: Answer,
}

impl Long {
    /// Appends the next piece, of at most so many bytes of output. False after the last.
    pub(crate) fn piece(&self, progress: &mut Progress, most: u64, out: &mut Vec<u8>) -> bool {
        let Self { underway, answer } = self;
        let table = underway.server.table.borrow();
        let run = table.job(underway.job);
        match run.and_then(|run| run.captures.as_ref()) {
            Some(captures) => answer.piece(progress, captures, table.arena(), most, out),
            // They are there until this is dropped.
            None => false,
        }
    }
}

/// Runs `run`, which is charged as `charge`; None if the client is gone.
pub(crate) async fn carry_out(
    server: &Rc<Server>,
    run: Box<Run>,
    charge: Option<Charge>,
    client: &mut impl Client,
) -> Option<Answered> {
    let whole = |problem: Problem| Answered::Whole(problem.reply());
    // It may have been in line before another server.
    let patience = run.timeout.saturating_sub(client.waited());
    let place = match admit(server, patience, half_closed(&run), client).await {
        Ok(place) => place,
        Err(problem) => return problem.map(whole),
    };
    let begun = Underway::begin(server, run, charge, place, |job| client.begins(job));
    match begun {
        Ok(underway) => end(underway, client).await,
        Err(problem) => Some(whole(problem)),
    }
}

/// Goes on with a run that another server has begun; None if the client is gone.
pub(crate) async fn go_on(handed: Handed, client: &mut impl Client) -> Option<Answered> {
    let (underway, _) = handed.take()?;
    client.begins(underway.job());
    end(underway, client).await
}

/// What a run comes to that has begun; None if the client is gone.
async fn end(mut underway: Underway, client: &mut impl Client) -> Option<Answered> {
    let server = &underway.server.clone();
    let whole = |problem: Problem| Answered::Whole(problem.reply());
    let waited = for_client(pin!(underway.over()), underway.limits(), client).await;
    let end = match waited {
        Waited::Done(Ok(end)) => end,
        Waited::Done(Err(error)) => return Some(whole(underway.refused(error))),
        Waited::TimeUp | Waited::Gone => {
            underway.abandon();
            return None;
        }
    };
    let usage = match underway.run.tells_usage {
        true => usage_of(server, underway.job, client).await?,
        false => None,
    };
    let id = underway.id_if_left(end);
    underway.tell_end(Some((end, id)));
    let (answer, reply) = {
        let table = server.table.borrow();
        let captures = table.job(underway.job)?.captures.as_ref()?;
        let (run, took) = (&underway.run, underway.elapsed());
        let id = underway.id.or(id);
        let answer = answer(run, captures, end, took, (id, usage), table.arena());
        let is_small = match answer.output_len() {
            ..=WHOLE_BYTES_MIN => true,
            len => len <= WHOLE_BYTES_MAX && len * ESCAPED <= server.budget.free() / 2,
        };
        // One that becomes a record is its log from now on.
        let is_whole = is_small || id.is_some() && underway.id.is_none();
        let reply = is_whole.then(|| answer.reply(captures, table.arena()));
        (answer, reply)
    };
    underway.list(id);
    if let Some(reply) = reply {
        return Some(Answered::Whole(reply));
    }
    // The next run may begin.
    underway.place = None;
    Some(Answered::Long(Box::new(Long { underway, answer })))
}
