//! Requests that may come twice: carried out once, for all who wait.
//!
//! In: a request with an `Idempotency-Key`. Out: its answer, or that of the first of its kind. Owns
//! what is under way and, in [`Repeats`], what was answered.
//!
//! What such a request asks for is carried out by a task of its own, since its first client may go
//! while others wait. All clients, the first one included, wait for that task, and it watches them:
//! a run is ended when the last of them has gone, a process is started all the same, and then its
//! answer is there for the next repeat.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use crate::api::idempotency::{Begun, Name, Repeats, kept};
use crate::api::{Outcome, Problem, Reply};
use crate::budget::{Budget, Charge, Kind};
use crate::config::timeouts;
use crate::process::Notify;
use crate::types::Monotonic;

use crate::io::conn::reader::{Filled, Reader};
use crate::io::host::run::half_closed;
use crate::io::host::start;
use crate::io::runtime::timer::sleep;
use crate::io::server::Server;
use crate::io::wait::{Client, Limits, Waited, for_client, until};

/// What is kept is looked through so often at most.
const SWEEP_PAUSE_MIN: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Store {
    repeats: RefCell<Repeats<Rc<UnderWay>>>,
    /// A task waits to forget what is too old.
    sweeping: Cell<bool>,
    /// Where kept answers are counted.
    budget: Budget,
    /// What is counted for them.
    counted: Cell<u64>,
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
        {
            self.count(&repeats);
        }
    }

    /// Forgets what has been kept long enough. Returns when the next one has.
    fn forget(&self, now: Monotonic) -> Option<Monotonic> {
        let mut repeats = self.repeats.borrow_mut();
        let next = repeats.forget(now);
        self.count(&repeats);
        next
    }

    fn count(&self, repeats: &Repeats<Rc<UnderWay>>) {
        let now = repeats.held_bytes() as u64;
        let before = self.counted.replace(now);
        self.budget.recount(Kind::Answers, before, now);
    }
}

/// A request that is carried out, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    end: RefCell<Option<End>>,
    /// Tells of the end, and that nobody waits any more.
    changed: Notify,
    waiting: Cell<usize>,
    /// How long a client that has sent FIN is waited for.
    half_closed: Cell<Duration>,
}

/// What it came to; nothing where there is nothing to say to anybody.
type End = Option<Rc<Reply>>;

/// A client that waits, counted until it is dropped.
#[derive(Debug)]
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
    Answered(Rc<Reply>),
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
        Outcome::Reply(reply) => return finish(server, &name, &under_way, Some(reply)),
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
        let reply = start::start(&server, outcome, charge, &mut waiters).await;
        finish(&server, &name, &under_way, reply);
    });
}

fn finish(server: &Rc<Server>, name: &Name, under_way: &UnderWay, reply: Option<Reply>) {
    let answer = reply.map(kept);
    let mut repeats = server.repeats.repeats.borrow_mut();
    repeats.finish(name, answer.as_ref(), Monotonic::now());
    server.repeats.count(&repeats);
    drop(repeats);
    *under_way.end.borrow_mut() = Some(answer);
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
            let next = server.repeats.forget(now);
            let Some(next) = next else {
                server.repeats.sweeping.set(false);
                return;
            };
            sleep(next.since(now).max(SWEEP_PAUSE_MIN)).await;
        }
    });
}
