//! A request with a key: carried out once, and answered as often as it comes.
//!
//! In: the request, and what is to be done if it has not come before. Out: the answer that all who
//! sent it have. Knows nothing of keys: `io::repeats` does.

use crate::api::Action;
use crate::api::idempotency::Name;

use super::receive::{Received, Request};
use super::{Conn, Persistence};
use crate::io::repeats::{self, Answer, Repeat, Waiting};

/// A request with a key.
pub(super) struct Once {
    pub(super) name: Box<Name>,
    pub(super) action: Action,
    pub(super) received: Received,
}

impl Conn {
    /// Carries out a request that may come again, or answers it as it was answered before.
    pub(super) async fn once(&mut self, request: Box<Request>, once: Once) -> Persistence {
        let Once {
            name,
            action,
            received,
        } = once;
        let Received { body, charge } = received;
        let execute = |body: &[u8]| self.execute(action, body, &request);
        let held = (charge, self.reader.waited());
        match repeats::begin(&self.server, name, body, held, execute) {
            Err(problem) => self.reply(&request, problem.reply()).await,
            Ok(Repeat::Answered(answer)) => self.shared_reply(&request, &answer, true).await,
            Ok(Repeat::First(waiting)) => self.joins(request, waiting, false).await,
            Ok(Repeat::Waits(waiting)) => self.joins(request, waiting, true).await,
        }
    }

    /// Answers a request with what is carried out for all who wait for it.
    pub(super) async fn joins(
        &mut self,
        request: Box<Request>,
        waiting: Waiting,
        replayed: bool,
    ) -> Persistence {
        if let (Some(standing), Some(run)) = (&self.standing, waiting.run()) {
            standing.asks_for_run(run.clone(), replayed, self.reader.bytes());
        }
        let answer = waiting.answer(&mut self.reader).await;
        self.answers();
        match answer {
            Some(Answer::Whole(answer)) => self.shared_reply(&request, &answer, replayed).await,
            Some(Answer::Long(long, len)) => self.send_ran(request, &long, len, replayed).await,
            None => Persistence::Close,
        }
    }
}
