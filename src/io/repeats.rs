//! Requests that may come twice: carried out once, for all who wait.
//!
//! In: a request with an `Idempotency-Key`. Out: its answer, or that of the first of its kind. Owns
//! what is under way and, in [`Repeats`], what was answered.
//!
//! What such a request asks for is carried out by a task of its own, since its first client may go
//! while others wait. All clients, the first one included, wait for that task, and it watches them:
//! a run is ended when the last of them has gone, a process is started all the same, and then its
//! answer is there for the next repeat.
//!
//! Where there is a keeper every key is written down as it changes ([`write_down`]), before anything is
//! begun for it, and the next server goes on with them ([`resume`]).

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::api::idempotency::written::{self, Left, LeftState};
use crate::api::idempotency::{Begun, Name, Repeats, SECRET_BYTES};
use crate::api::{Outcome, Problem, Reply, processes};
use crate::budget::{Budget, Charge, Kind};
use crate::config::timeouts;
use crate::ledger::RecordId;
use crate::process::{Keys, Notify, Table, life};
use crate::types::{JobId, Monotonic};

use crate::io::conn::ran::{measure, whole};
use crate::io::conn::reader::{Filled, Reader};
use crate::io::conn::standing::Wanted;
use crate::io::host::create::create;
use crate::io::host::handed::Handed;
use crate::io::host::run::{self, Answered, Long};
use crate::io::host::underway::half_closed;
use crate::io::runtime;
use crate::io::runtime::timer::sleep;
use crate::io::server::Server;
use crate::io::upgrade::runs;
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
    /// Where keys are written down, if there is a keeper.
    records: Option<RefCell<BTreeMap<Rc<Name>, RecordId>>>,
    /// Runs that another program has handed over, until somebody goes on with them.
    handed: RefCell<Vec<HandedRun>>,
}

/// Its job, its key, and who waits.
type HandedRun = (JobId, Rc<Name>, Rc<UnderWay>);

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// The part of the budget that kept answers take at most.
const FOR_ANSWERS: u64 = 8;

impl Store {
    /// Nothing is kept yet.
    pub(super) fn new(table: &Table) -> Self {
        let mut secret = [0; SECRET_BYTES];
        // It fails never but on kernels that are too old for this server.
        let _ = getrandom(&mut secret, GetRandomFlags::empty());
        let mut repeats = Repeats::default();
        if let Some(kept) = table.kept() {
            secret = kept.records().secret(secret);
            repeats.note_changes();
        }
        repeats.hash_with(secret);
        let store = Self {
            repeats: RefCell::new(repeats),
            budget: table.budget().clone(),
            records: table.kept().map(|_| RefCell::default()),
            ..Self::default()
        };
        store.bound();
        store
    }

    /// How often an answer is in memory.
    fn copies(&self) -> u64 {
        1 + u64::from(self.records.is_some())
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
    fn new(store: &Store, mut reply: Reply) -> Self {
        if let Cow::Owned(body) = &mut reply.body {
            body.shrink_to_fit();
        }
        let bytes = reply.body.len() as u64 * store.copies();
        let charge = store.budget.hold(Kind::Answers, bytes);
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
    /// What is carried out, as soon as it may have begun.
    wanted: Rc<Wanted>,
    /// That is a run.
    is_run: Cell<bool>,
    /// How long a client that has sent FIN is waited for.
    half_closed: Cell<Duration>,
}

/// What it came to; nothing where there is nothing to say to anybody.
type End = Option<Answer>;

/// A client that waits, counted until it is dropped.
pub(crate) struct Waiting(Rc<UnderWay>);

impl Waiting {
    fn new(of: &Rc<UnderWay>) -> Self {
        of.waiting.set(of.waiting.get() + 1);
        Self(of.clone())
    }

    /// What it waits for, if that is a run.
    pub(super) fn run(&self) -> Option<&Rc<Wanted>> {
        self.0.is_run.get().then_some(&self.0.wanted)
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
    server: Rc<Server>,
    name: Rc<Name>,
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

    fn begins(&self, job: JobId) {
        self.under_way.wanted.begins(job);
        write_down_one(&self.server, &self.name);
    }

    fn waited(&self) -> Duration {
        self.under_way.wanted.waited()
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
    body: Vec<u8>,
    (charge, waited): (Option<Charge>, Duration),
    execute: impl FnOnce(&[u8]) -> Outcome,
) -> Result<Repeat, Problem> {
    let under_way = Rc::new(UnderWay::default());
    let mut repeats = server.repeats.repeats.borrow_mut();
    let begun = repeats.begin(&name, &body, under_way.clone(), Monotonic::now())?;
    drop(repeats);
    Ok(match begun {
        Begun::Answered(answer) => Repeat::Answered(answer),
        Begun::UnderWay(first) => Repeat::Waits(Waiting::new(&first)),
        Begun::First => {
            let waiting = Waiting::new(&under_way);
            let outcome = execute(&body);
            match &outcome {
                Outcome::Create { job, .. } => under_way.wanted.begins(*job),
                Outcome::Run(_) => {
                    under_way.is_run.set(true);
                    if server.options.upgrades.is_some() {
                        let held = server.budget.hold(Kind::Bodies, body.len() as u64);
                        under_way.wanted.asks(body, held, waited);
                    }
                }
                _ => {}
            }
            write_down(server);
            carry_out(server, Rc::from(name), under_way, outcome, charge);
            Repeat::First(waiting)
        }
    })
}

fn carry_out(
    server: &Rc<Server>,
    name: Rc<Name>,
    under_way: Rc<UnderWay>,
    outcome: Outcome,
    charge: Option<Charge>,
) {
    let is_theirs = match outcome {
        Outcome::Reply(reply) => {
            let answer = Answer::Whole(Shared::new(&server.repeats, reply));
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
    runtime::spawn(async move {
        let mut waiters = Waiters {
            server: server.clone(),
            name: name.clone(),
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
        Outcome::Run(asked) => {
            let answered = run::carry_out(server, asked, charge, waiters).await?;
            return ran(server, answered, waiters).await;
        }
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
    Some(Answer::Whole(Shared::new(&server.repeats, reply)))
}

/// What a run is answered with.
async fn ran(server: &Server, answered: Answered, waiters: &mut Waiters) -> End {
    let long = match answered {
        Answered::Whole(reply) => return Some(Answer::Whole(Shared::new(&server.repeats, reply))),
        Answered::Long(long) => long,
    };
    // It is over, and must not be done again, whoever is gone.
    waiters.is_theirs = false;
    let len = measure(&long, waiters).await?;
    let keeps = server.repeats.repeats.borrow().keeps(len);
    Some(match keeps.then(|| server.charge(Kind::Answers, len)) {
        Some(Ok(charge)) => {
            let reply = whole(&long, len).await;
            Answer::Whole(Shared(Rc::new((reply, charge))))
        }
        Some(Err(_)) | None => Answer::Long(Rc::from(long), len),
    })
}

/// A client that waits for a run that another program has handed over. None if it is no run that
/// several may wait for.
pub(super) fn joins(server: &Server, job: JobId) -> Option<Waiting> {
    let handed = server.repeats.handed.borrow();
    let (.., under_way) = handed.iter().find(|(of, ..)| *of == job)?;
    Some(Waiting::new(under_way))
}

/// Goes on with all runs for which clients may wait that have joined.
pub(super) fn go_on(server: &Rc<Server>) {
    for (job, name, under_way) in server.repeats.handed.take() {
        let Some(handed) = Handed::new(server, job) else {
            finish(server, &name, &under_way, None);
            continue;
        };
        let (half_closed, is_theirs) = handed.patience();
        under_way.half_closed.set(half_closed);
        let mut waiters = Waiters {
            server: server.clone(),
            name: name.clone(),
            under_way: under_way.clone(),
            is_theirs,
        };
        let server = server.clone();
        runtime::spawn(async move {
            let answer = match run::go_on(handed, &mut waiters).await {
                Some(answered) => ran(&server, answered, &mut waiters).await,
                None => None,
            };
            finish(&server, &name, &under_way, answer);
        });
    }
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
    // Before anybody is told.
    write_down(server);
    // Whoever waits takes a copy of it, and what nobody waits for goes.
    *under_way.end.borrow_mut() = Some(end);
    under_way.changed.notify();
    sweep_later(server);
}

/// Writes down the keys that have changed, if there is a keeper.
pub(super) fn write_down(server: &Server) {
    // Whoever has it borrowed does it when that is over.
    let Ok(mut repeats) = server.repeats.repeats.try_borrow_mut() else {
        return;
    };
    let changed = repeats.take_changed();
    drop(repeats);
    for name in changed {
        write_down_one(server, &name);
    }
}

fn write_down_one(server: &Server, name: &Rc<Name>) {
    let Some(records) = &server.repeats.records else {
        return;
    };
    let repeats = server.repeats.repeats.borrow();
    let text = repeats.write(name, |under_way| under_way.wanted.job());
    let mut records = records.borrow_mut();
    let before = records.remove(name);
    let table = server.table.borrow();
    let record = table.write_key(before, text.as_deref());
    // Where there is no room, what was said last stays.
    if let Some(record) = record.or(before.filter(|_| text.is_some())) {
        records.insert(name.clone(), record);
    }
}

/// Goes on with the keys that another server has left. What was under way for one of them has not
/// begun, or is there as a process, or its answer is not known.
pub(crate) fn resume(server: &Rc<Server>) {
    let Keys { texts, not_begun } = server.table.borrow_mut().take_keys();
    let mut all: BTreeMap<Name, (RecordId, Left)> = BTreeMap::new();
    let mut gone = Vec::new();
    for (record, text) in texts {
        let left = written::read(&text).filter(|left| match left.state {
            LeftState::UnderWay(job) => job.is_some_and(|job| !not_begun.contains(&job)),
            LeftState::Answered { .. } => true,
        });
        let Some(left) = left else {
            gone.push(record);
            continue;
        };
        match all.get(&left.name) {
            Some((_, there)) if !left.is_newer(there) => gone.push(record),
            _ => gone.extend(
                all.insert(left.name.clone(), (record, left))
                    .map(|(of, _)| of),
            ),
        }
    }
    let table = server.table.borrow();
    for record in gone {
        table.write_key(Some(record), None);
    }
    let now = Monotonic::now();
    let until = |left: &Left| match left.state {
        LeftState::Answered { until, .. } => until,
        LeftState::UnderWay(_) => now + timeouts::ANSWER_KEPT,
    };
    let mut all: Vec<_> = all.into_values().collect();
    all.sort_by_key(|(_, left)| until(left));
    let mut changed = Vec::new();
    for (record, mut left) in all {
        let mut is_new = false;
        let job = match left.state {
            LeftState::UnderWay(job) => job,
            LeftState::Answered { .. } => None,
        };
        if let Some(job) = job.filter(|&job| runs::is_handed(server, job)) {
            let under_way = Rc::new(UnderWay::default());
            under_way.is_run.set(true);
            under_way.wanted.begins(job);
            let mut repeats = server.repeats.repeats.borrow_mut();
            let name = repeats.goes_on(left, under_way.clone());
            if let Some(records) = &server.repeats.records {
                records.borrow_mut().insert(name.clone(), record);
            }
            let mut handed = server.repeats.handed.borrow_mut();
            handed.push((job, name, under_way));
            continue;
        }
        if let Some(job) = job {
            let created = table.job(job);
            let created = created.filter(|process| process.life.kind() == life::Kind::Managed);
            left.state = LeftState::Answered {
                answer: created.map(processes::reply),
                until: until(&left),
            };
            is_new = true;
        }
        let name = Rc::new(left.name.clone());
        if let Some(records) = &server.repeats.records {
            records.borrow_mut().insert(name.clone(), record);
        }
        let shared = |reply| Shared::new(&server.repeats, reply);
        let goes_on = server.repeats.repeats.borrow_mut().go_on(left, now, shared);
        if is_new || !goes_on {
            changed.push(name);
        }
    }
    drop(table);
    for name in &changed {
        write_down_one(server, name);
    }
    write_down(server);
    sweep_later(server);
}

/// Forgets answers when their time has come, so that an idle server holds none.
fn sweep_later(server: &Rc<Server>) {
    if server.repeats.sweeping.replace(true) {
        return;
    }
    let server = server.clone();
    runtime::spawn(async move {
        loop {
            let now = Monotonic::now();
            let next = server.repeats.repeats.borrow_mut().forget(now);
            write_down(&server);
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
        let store = Store {
            budget: budget.clone(),
            ..Store::default()
        };
        let kept = Shared::new(&store, Reply::json(vec![b'x'; 30]));
        let sent = kept.clone();
        assert_eq!(budget.held(Kind::Answers), 30);
        drop(kept);
        assert_eq!((budget.held(Kind::Answers), sent.body.len()), (30, 30));
        drop(sent);
        assert_eq!(budget.total(), 0);
    }
}
