//! What is left to do of a request once it has been understood.
//!
//! In: what [`Conn::answer`] made of it. Out: what the connection does next. A stage that takes time
//! is boxed, so that a connection carries room for the stage it is in and no other.

use std::future::{Future, ready};
use std::pin::Pin;

use crate::api::bytes::Bytes;
use crate::api::list::List;
use crate::api::logs::Fetch;
use crate::api::query::StdinQuery;
use crate::api::run::Run;
use crate::api::stream::Form;
use crate::api::wait::Wait;
use crate::api::{Outcome, Plan, Reply};
use crate::budget::Charge;
use crate::log::Cursor;
use crate::types::ProcessId;

use super::once::Once;
use super::receive::Request;
use super::standing::Doing;
use super::web_socket::{Socket, Upgrade};
use super::{Conn, Persistence};
use crate::io::events::Watch;
use crate::io::host::handed::Handed;
use crate::io::host::run::Long;
use crate::io::repeats::Waiting;

/// What is left to do once a request has been understood.
pub(super) enum Stage {
    /// It has been answered.
    Over(Persistence),
    /// It is carried out if it has not been before.
    Once(Box<Request>, Box<Once>),
    /// It is answered with what others are; whether it was asked for before.
    Joins(Box<Request>, Waiting, bool),
    /// Its body is passed on as it comes.
    Upload(Box<Request>, ProcessId, StdinQuery),
    /// Its answer begins with its program.
    Run(Box<Request>, Box<Run>, Form, Option<Charge>),
    /// It has begun already.
    Resumed(Box<Request>, Box<Handed>),
    /// Its answer is a long list.
    List(Box<Request>, Box<List>),
    /// Its answer is made of what the run wrote, piece by piece.
    Ran(Box<Request>, Box<Long>),
    /// Its answer is long.
    Fetch(Box<Request>, Fetch),
    /// It is answered when a process has come so far.
    Wait(Box<Request>, ProcessId, Box<Wait>),
    /// Its answer is bytes of a log.
    Bytes(Box<Request>, Box<Bytes>),
    /// Its answer goes on for as long as the server runs.
    Events(Box<Request>, Box<Watch>),
    /// Its answer goes on for as long as the process runs.
    Follow(Box<Request>, ProcessId, Box<Cursor>),
    /// Its answer is the recording of a terminal.
    Recording(Box<Request>, ProcessId, bool),
    /// It becomes a WebSocket.
    Upgrade(Box<Request>, Box<Upgrade>),
}

/// Something that a connection is busy with. Boxed, so that a connection carries room for the stage
/// it is in and no other: an idle one waits in `head`, a follower in `follow`.
pub(super) type Work<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

impl Stage {
    /// The stage that such an answer has, if it has one of its own.
    #[expect(
        clippy::result_large_err,
        reason = "what has none is carried out by the caller at once; a box would be made for that only"
    )]
    pub(super) fn of(
        outcome: Outcome,
        request: Box<Request>,
    ) -> Result<Self, (Box<Request>, Outcome)> {
        Ok(match outcome {
            Outcome::Stdin { id, query } => Self::Upload(request, id, query),
            Outcome::Fetch(fetch) => Self::Fetch(request, fetch),
            Outcome::List(list) => Self::List(request, list),
            Outcome::Bytes(bytes) => Self::Bytes(request, bytes),
            Outcome::Events {
                seen,
                labels,
                activity,
            } => {
                let watch = Watch {
                    seen,
                    labels,
                    activity,
                };
                Self::Events(request, watch.into())
            }
            Outcome::Wait { id, wait } => Self::Wait(request, id, Box::new(wait)),
            Outcome::Follow { id, cursor } => Self::Follow(request, id, cursor.into()),
            Outcome::Recording { id, follow } => Self::Recording(request, id, follow),
            Outcome::Terminal { id, query, accept } => {
                let to = Socket::Terminal(query);
                Self::Upgrade(request, Box::new(Upgrade { id, to, accept }))
            }
            Outcome::Attach { id, query, accept } => {
                let to = Socket::Attach(query);
                Self::Upgrade(request, Box::new(Upgrade { id, to, accept }))
            }
            other => return Err((request, other)),
        })
    }
}

impl Conn {
    /// Begins with a request.
    pub(super) fn begin(
        &mut self,
        head: Result<(Box<Request>, Result<Plan, Reply>), Persistence>,
    ) -> Work<'_, Stage> {
        match head {
            Ok((request, plan)) => {
                self.set_busy(true);
                Box::pin(self.answer(request, plan))
            }
            Err(persistence) => Box::pin(ready(Stage::Over(persistence))),
        }
    }

    /// What comes next, or what has to be done before that is known.
    pub(super) fn go_on(&mut self, stage: Stage) -> Result<Persistence, Work<'_, Persistence>> {
        let doing = match &stage {
            Stage::Over(persistence) => return Ok(*persistence),
            Stage::Once(..)
            | Stage::Joins(..)
            | Stage::Upload(..)
            | Stage::Run(..)
            | Stage::Resumed(..) => Doing::Answers,
            Stage::Wait(..) => Doing::Waits,
            Stage::List(..) | Stage::Ran(..) | Stage::Fetch(..) => Doing::Sends,
            Stage::Bytes(_, bytes) if !bytes.follow => Doing::Sends,
            Stage::Bytes(..)
            | Stage::Events(..)
            | Stage::Follow(..)
            | Stage::Recording(..)
            | Stage::Upgrade(..) => Doing::Streams,
        };
        // Until then it answers.
        if doing != Doing::Answers {
            self.does(doing);
        }
        Err(match stage {
            Stage::Over(persistence) => return Ok(persistence),
            Stage::Once(request, once) => Box::pin(self.once(request, *once)),
            Stage::Joins(request, waiting, replayed) => {
                Box::pin(self.joins(request, waiting, replayed))
            }
            Stage::Upload(request, id, query) => Box::pin(self.upload(request, id, query)),
            Stage::List(request, list) => Box::pin(self.list(request, list)),
            Stage::Ran(request, long) => Box::pin(self.ran(request, long)),
            Stage::Fetch(request, fetch) => Box::pin(self.fetch(request, fetch)),
            Stage::Events(request, watch) => Box::pin(self.events(request, *watch)),
            Stage::Wait(request, id, wait) => Box::pin(self.wait(request, id, wait)),
            Stage::Bytes(request, bytes) => Box::pin(self.bytes(request, bytes)),
            Stage::Run(request, run, form, charge) => {
                Box::pin(self.stream(request, run, form, charge))
            }
            Stage::Resumed(request, handed) => Box::pin(self.stream_on(request, *handed)),
            Stage::Follow(request, id, cursor) => Box::pin(self.follow(request, id, cursor)),
            Stage::Recording(request, id, follow) => Box::pin(self.recording(request, id, follow)),
            Stage::Upgrade(request, upgrade) => Box::pin(self.upgrade(request, upgrade)),
        })
    }
}
