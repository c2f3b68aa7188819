//! Requests that may come twice: carried out once, for all who wait.
//!
//! In: a request with an `Idempotency-Key`. Out: its answer, or that of the first of its kind. Owns
//! what is under way and, in [`Repeats`], what was answered.
//!
//! What such a request asks for is carried out by a task of its own, since its first client may go
//! while others wait. All clients, the first one included, wait for that task, and it watches them:
//! a run is ended when the last of them has gone, a process is started all the same, and then its
//! answer is there for the next repeat.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Deref;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use crate::api::idempotency::{Begun, Name, Repeats};
use crate::api::{Outcome, Problem, Reply};
use crate::budget::{Budget, Charge, Kind};
use crate::config::timeouts;
use crate::process::Notify;
use crate::types::Monotonic;

use crate::io::conn::ran::{measure, whole};
use crate::io::conn::reader::{Filled, Reader};
use crate::io::host::create::create;
use crate::io::host::run::{self, Answered, Long, half_closed};
use crate::io::runtime::timer::sleep;
use crate::io::server::Server;
use crate::io::wait::{Client, Limits, Waited, for_client, until};

/// What is kept is looked through so often at most.
const SWEEP_PAUSE_MIN: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Default)]
pub(super) struct Store {
    repeats: RefCell<Repeats<Rc<UnderWay>, Shared>>,
    /// A task waits to forget what is too old.
    sweeping: Cell<bool>,
    /// Of which they take a part.
    budget: Budget,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// The part of the budget that kept answers take at most.
const FOR_ANSWERS: u64 = 8;

impl Store {
    /// Nothing is kept yet.
    pub(super) fn new(budget: &Budget) -> Self {
        let store = Self {
            budget: budget.clone(),
            ..Self::default()
        };
        store.bound();
        store
    }

    /// The budget has another maximum.
    pub(super) fn bound(&self) {
        let most = self.budget.max() / FOR_ANSWERS;
        let mut repeats = self.repeats.borrow_mut();
        repeats.keep_within(usize::try_from(most).unwrap_or(usize::MAX));
    }

    /// Lets go of answers, the oldest first, until there is `enough` room.
    pub(super) fn make_room(&self, enough: impl Fn() -> bool) {
        // Whoever has it borrowed is about to change it.
        while !enough()
            && let Ok(mut repeats) = self.repeats.try_borrow_mut()
            && repeats.drop_oldest_answer()
        {}
    }
}

/// A whole answer that several are sent, counted as long as one of them or the store has it.
#[derive(Clone, Debug)]
pub(super) struct Shared(Rc<(Reply, Charge)>);

impl Shared {
    /// Without room that it does not use.
    fn new(budget: &Budget, mut reply: Reply) -> Self {
        if let Cow::Owned(body) = &mut reply.body {
            body.shrink_to_fit();
        }
        let charge = budget.hold(Kind::Answers, reply.body.len() as u64);
        Self(Rc::new((reply, charge)))
    }
}

impl Deref for Shared {
    type Target = Reply;

    fn deref(&self) -> &Reply {
        &self.0.0
    }
}

/// What a request came to, for all who wait.
#[derive(Clone)]
pub(super) enum Answer {
    Whole(Shared),
    /// So many bytes, made of what the run wrote for each of them: it is too much to be kept.
    Long(Rc<Long>, u64),
}

/// A request that is carried out, and who waits for it.
#[derive(Default)]
pub(super) struct UnderWay {
    end: RefCell<Option<End>>,
    /// Tells of the end, and that nobody waits any more.
    changed: Notify,
    waiting: Cell<usize>,
    /// How long a client that has sent FIN is waited for.
    half_closed: Cell<Duration>,
}

/// What it came to; nothing where there is nothing to say to anybody.
type End = Option<Answer>;

/// A client that waits, counted until it is dropped.
pub(super) struct Waiting(Rc<UnderWay>);

impl Waiting {
    fn new(of: &Rc<UnderWay>) -> Self {
        of.waiting.set(of.waiting.get() + 1);
        Self(of.clone())
    }

    /// The answer; None if this client is gone first.
    pub(super) async fn answer(self, client: &mut Reader) -> End {
        let under_way = &self.0;
        let end = pin!(until(|| match &*under_way.end.borrow() {
            Some(end) => Ok(end.clone()),
            None => Err(under_way.changed.clone()),
        }));
        let limits = Limits {
            in_all: None,
            half_closed: under_way.half_closed.get(),
        };
        match for_client(end, limits, client).await {
            Waited::Done(end) => end,
            Waited::TimeUp | Waited::Gone => None,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let left = self.0.waiting.get().saturating_sub(1);
        self.0.waiting.set(left);
        if left == 0 {
            self.0.changed.notify();
        }
    }
}

/// All who wait, as what carries the request out sees its client.
struct Waiters {
    under_way: Rc<UnderWay>,
    /// It is not carried out for nobody.
    is_theirs: bool,
}

impl Client for Waiters {
    async fn lost(&mut self) -> Filled {
        if !self.is_theirs {
            std::future::pending::<()>().await;
        }
        let under_way = &self.under_way;
        // Who comes before this is asked keeps it going.
        until(|| match under_way.waiting.get() {
            0 => Ok(()),
            _ => Err(under_way.changed.clone()),
        })
        .await;
        Filled::Broken
    }
}

/// How a request with a key is answered.
pub(super) enum Repeat {
    /// It is the first of its kind.
    First(Waiting),
    /// The first of its kind is under way.
    Waits(Waiting),
    /// The first of its kind was answered so.
    Answered(Shared),
}

/// Begins a request, whose body is charged; `execute` says what it comes to, if it is the first of
/// its kind.
///
/// # Errors
/// 409 for a key that another request has had, and for an answer that is no longer kept; 503 where
/// too many are under way.
pub(super) fn begin(
    server: &Rc<Server>,
    name: Box<Name>,
    body: &[u8],
    charge: Option<Charge>,
    execute: impl FnOnce() -> Outcome,
) -> Result<Repeat, Problem> {
    let under_way = Rc::new(UnderWay::default());
    let mut repeats = server.repeats.repeats.borrow_mut();
    let begun = repeats.begin(&name, body, under_way.clone(), Monotonic::now())?;
    drop(repeats);
    Ok(match begun {
        Begun::Answered(answer) => Repeat::Answered(answer),
        Begun::UnderWay(first) => Repeat::Waits(Waiting::new(&first)),
        Begun::First => {
            let waiting = Waiting::new(&under_way);
            carry_out(server, name, under_way, execute(), charge);
            Repeat::First(waiting)
        }
    })
}

fn carry_out(
    server: &Rc<Server>,
    name: Box<Name>,
    under_way: Rc<UnderWay>,
    outcome: Outcome,
    charge: Option<Charge>,
) {
    let is_theirs = match outcome {
        Outcome::Reply(reply) => {
            let answer = Answer::Whole(Shared::new(&server.budget, reply));
            return finish(server, &name, &under_way, Some(answer));
        }
        Outcome::Run(ref run) => {
            under_way.half_closed.set(half_closed(run));
            run.kill_on_disconnect
        }
        _ => {
            under_way.half_closed.set(timeouts::HALF_CLOSED_MAX);
            false
        }
    };
    let server = server.clone();
    monoio::spawn(async move {
        let mut waiters = Waiters {
            under_way: under_way.clone(),
            is_theirs,
        };
        let answer = start(&server, outcome, charge, &mut waiters).await;
        finish(&server, &name, &under_way, answer);
    });
}

/// Starts a run or a process, whose body is charged; None if nobody is there to be answered.
async fn start(
    server: &Rc<Server>,
    outcome: Outcome,
    charge: Option<Charge>,
    waiters: &mut Waiters,
) -> End {
    let reply = match outcome {
        Outcome::Run(asked) => match run::carry_out(server, asked, charge, waiters).await? {
            Answered::Whole(reply) => reply,
            Answered::Long(long) => {
                // It is over, and must not be done again, whoever is gone.
                waiters.is_theirs = false;
                let len = measure(&long, waiters).await?;
                let keeps = server.repeats.repeats.borrow().keeps(len);
                return Some(match keeps.then(|| server.charge(Kind::Answers, len)) {
                    Some(Ok(charge)) => {
                        let reply = whole(&long, len).await;
                        Answer::Whole(Shared(Rc::new((reply, charge))))
                    }
                    Some(Err(_)) | None => Answer::Long(Rc::from(long), len),
                });
            }
        },
        Outcome::Create {
            job,
            launch,
            terminal,
            deadline,
            stdin,
        } => create(server, job, launch, terminal, deadline, stdin, waiters).await?,
        // Nothing else may come twice.
        _ => return None,
    };
    Some(Answer::Whole(Shared::new(&server.budget, reply)))
}

fn finish(server: &Rc<Server>, name: &Name, under_way: &UnderWay, end: End) {
    let now = Monotonic::now();
    let mut repeats = server.repeats.repeats.borrow_mut();
    match &end {
        None => repeats.finish(name, None, now),
        Some(Answer::Whole(reply)) => repeats.finish(name, Some(reply), now),
        Some(Answer::Long(..)) => repeats.answer(name, None, now),
    }
    drop(repeats);
    // Whoever waits takes a copy of it, and what nobody waits for goes.
    *under_way.end.borrow_mut() = Some(end);
    under_way.changed.notify();
    sweep_later(server);
}

/// Forgets answers when their time has come, so that an idle server holds none.
fn sweep_later(server: &Rc<Server>) {
    if server.repeats.sweeping.replace(true) {
        return;
    }
    let server = server.clone();
    monoio::spawn(async move {
        loop {
            let now = Monotonic::now();
            let next = server.repeats.repeats.borrow_mut().forget(now);
            let Some(next) = next else {
                server.repeats.sweeping.set(false);
                return;
            };
            sleep(next.since(now).max(SWEEP_PAUSE_MIN)).await;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_counted_until_the_last_who_is_sent_it_has_it() {
        let budget = Budget::new(100);
        let kept = Shared::new(&budget, Reply::json(vec![b'x'; 30]));
        let sent = kept.clone();
        assert_eq!(budget.held(Kind::Answers), 30);
        drop(kept);
        assert_eq!((budget.held(Kind::Answers), sent.body.len()), (30, 30));
        drop(sent);
        assert_eq!(budget.total(), 0);
    }
}
