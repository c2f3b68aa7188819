//! From a request to its answer, or to the stage that gives it.
//!
//! In: a request whose head was read, and what is to be done. Out: an answer that was sent, or a
//! [`Stage`]. Reads the body; what takes time without a stage of its own is `carry_out`'s.

use std::rc::Rc;
use std::time::Duration;

use crate::api::{self, Action, BodyPolicy, Core, Outcome, Plan, Problem, Reply};
use crate::budget::Kind;
use crate::journal::Event;
use crate::wire::http::head::BodyFraming;

use super::once::Once;
use super::receive::{BODY_BYTES_MAX, Received, Request};
use super::stage::Stage;
use super::standing::{Doing, Had, Wanted};
use super::{Conn, Persistence};
use crate::io::audit::Change;
use crate::io::host::run::{Answered, carry_out, go_on};
use crate::io::usage;

impl Conn {
    /// Reads the body of a request and carries it out.
    pub(super) async fn answer(
        &mut self,
        mut request: Box<Request>,
        plan: Result<Plan, Reply>,
    ) -> Stage {
        let standing = self.standing.as_ref();
        let had = standing.and_then(|standing| standing.take_run());
        if had.is_some() {
            // Another server has read its body.
            request.framing = BodyFraming::Empty;
        }
        if let Ok(plan) = &plan {
            self.let_in(plan);
            request.change = Change::of(&self.server, plan, &self.told(&request));
        }
        let Plan {
            action,
            body: policy,
            caller: _,
            route: _,
            repeat,
        } = match plan {
            Ok(plan) => plan,
            Err(reply) => return Stage::Over(self.refuse_body_and_reply(request, reply).await),
        };
        // Whatever the request comes to now: nothing else goes on with what it had.
        let body = match had {
            None => None,
            Some(Had::InLine(body)) => Some(body),
            Some(had) => return Box::pin(self.goes_on(request, had)).await,
        };
        if self.standing.is_some()
            && policy != BodyPolicy::Stream
            && body.is_none()
            && let Err(problem) = Box::pin(self.arrives(&mut request)).await
        {
            return self.unreceived(request, problem).await;
        }
        let received = match policy {
            BodyPolicy::Stream => Ok(Received::default()),
            BodyPolicy::Read if body.is_some() => {
                let charge = None;
                let body = body.unwrap_or_default();
                Ok(Received { body, charge })
            }
            BodyPolicy::Ignore | BodyPolicy::Read => self.body(&request, policy).await,
        };
        let received = match received {
            Ok(received) => received,
            Err(problem) => return self.unreceived(request, problem).await,
        };
        if let Some(name) = repeat {
            let once = Once {
                name,
                action,
                received,
            };
            return Stage::Once(request, Box::new(once));
        }
        // What it becomes is charged until it is gone: a run takes the charge with it.
        let Received { body, charge } = received;
        let outcome = self.execute(action, &body, &request);
        match (&outcome, &self.standing) {
            (Outcome::Run(_) | Outcome::Stream(..), Some(standing)) => {
                let held = self.server.budget.hold(Kind::Bodies, body.len() as u64);
                let wanted = Rc::<Wanted>::default();
                wanted.asks(body, held, Duration::ZERO);
                standing.asks_for_run(wanted, false, self.reader.bytes());
            }
            _ => drop(body),
        }
        let outcome = match outcome {
            Outcome::AwaitEntry(wait) => match Box::pin(self.await_entry(&request, wait)).await {
                Some(outcome) => outcome,
                None => return Stage::Over(Persistence::Close),
            },
            Outcome::Usage(asked) => {
                let counted = usage::answer(&self.server, asked, &mut self.reader);
                match Box::pin(counted).await {
                    Some(outcome) => outcome,
                    None => return Stage::Over(Persistence::Close),
                }
            }
            other => other,
        };
        let reply = match outcome {
            Outcome::Reply(reply) if policy == BodyPolicy::Stream => {
                return Stage::Over(self.refuse_body_and_reply(request, reply).await);
            }
            Outcome::Reply(reply) => reply,
            Outcome::Run(run) => {
                let answered = carry_out(&self.server, run, charge, &mut self.reader).await;
                self.answers();
                match answered {
                    Some(Answered::Whole(reply)) => reply,
                    Some(Answered::Long(long)) => return Stage::Ran(request, long),
                    None => return Stage::Over(Persistence::Close),
                }
            }
            Outcome::Upgrade { .. } if request.framing != BodyFraming::Empty => {
                // The request is begun again by another server, which sees its head only.
                Problem::invalid("an upgrade has no body; binary stands in the query").reply()
            }
            Outcome::Stream(run, form) => return Stage::Run(request, run, form, charge),
            other => match Stage::of(other, request) {
                Ok(stage) => return stage,
                Err((same, other)) => {
                    request = same;
                    match self.carry_out(other).await {
                        Some(reply) => reply,
                        None => return Stage::Over(Persistence::Close),
                    }
                }
            },
        };
        Stage::Over(self.reply(&request, reply).await)
    }

    /// Answers a request whose body cannot be had, unless its client is gone.
    async fn unreceived(&mut self, mut request: Box<Request>, problem: Option<Problem>) -> Stage {
        let Some(problem) = problem else {
            return Stage::Over(Persistence::Close);
        };
        request.close = true;
        Stage::Over(self.reply(&request, problem.reply()).await)
    }

    /// Goes on with a run that another server has begun.
    pub(super) async fn goes_on(&mut self, request: Box<Request>, had: Had) -> Stage {
        let handed = match had {
            Had::Begun(handed) => handed,
            Had::Joins(waiting, is_repeat) => return Stage::Joins(request, waiting, is_repeat),
            Had::InLine(_) | Had::Lost => return Stage::Over(Persistence::Close),
        };
        if let Some(change) = &request.change {
            change.runs(handed.command());
        }
        if let Some(standing) = &self.standing {
            standing.asks_for_run(Rc::default(), false, self.reader.bytes());
        }
        if handed.is_streamed() {
            return Stage::Resumed(request, handed);
        }
        let answered = go_on(*handed, &mut self.reader).await;
        self.answers();
        match answered {
            Some(Answered::Whole(reply)) => Stage::Over(self.reply(&request, reply).await),
            Some(Answered::Long(long)) => Stage::Ran(request, long),
            None => Stage::Over(Persistence::Close),
        }
    }

    /// What a request comes to.
    pub(super) fn execute(&self, action: Action, body: &[u8], request: &Request) -> Outcome {
        let before = self.server.settings.get();
        let rules = self.server.rules();
        let mut settings = before;
        let mut table = self.server.table.borrow_mut();
        let mut core = Core {
            settings: &mut settings,
            table: &mut table,
            shutting_down: self.server.shutting_down.get(),
            strict: request.strict,
            stdin_default: rules.stdin_default,
            limits: &rules.limits,
            users: &rules.users,
        };
        let mut outcome = api::execute(action, body, &mut core);
        if before != settings {
            self.server.tell(&Event::LimitsSet {
                request: request.id.as_deref(),
                changed: &before.changes(settings),
            });
        }
        if let Some(change) = &request.change {
            let made = match &outcome {
                Outcome::Create { job, .. } => table.job(*job).map(|process| process.id),
                _ => None,
            };
            change.becomes(&outcome, made);
        }
        match &mut outcome {
            Outcome::Run(run) | Outcome::Stream(run, _) => run.request.clone_from(&request.id),
            Outcome::Create { job, .. } if request.id.is_some() => {
                if let Some((process, _)) = table.job_mut(*job) {
                    process.extras.make().request.clone_from(&request.id);
                }
            }
            _ => {}
        }
        drop(table);
        if settings != before {
            self.server.change_settings(settings);
        }
        self.server.make_way();
        outcome
    }

    /// Answers a request whose body nobody wants, and reads the body away if that is cheap.
    pub(super) async fn refuse_body_and_reply(
        &mut self,
        mut request: Box<Request>,
        reply: Reply,
    ) -> Persistence {
        let cheap = match request.framing {
            BodyFraming::Empty => true,
            // A client that waits for 100 may or may not send the body after a final answer.
            _ if request.expects_continue => false,
            BodyFraming::Length(bytes) => bytes <= BODY_BYTES_MAX,
            BodyFraming::Chunked => true,
        };
        request.close |= !cheap;
        match self.reply(&request, reply).await {
            Persistence::Persist => {
                if request.framing != BodyFraming::Empty {
                    // It is answered, so nobody waits for the rest.
                    self.does(Doing::Streams);
                }
                match self.body(&request, BodyPolicy::Ignore).await {
                    Ok(_) => Persistence::Persist,
                    Err(_) => Persistence::Linger,
                }
            }
            persistence => persistence,
        }
    }
}
