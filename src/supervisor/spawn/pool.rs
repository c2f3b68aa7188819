//! Threads that wait for exec, so that nobody else has to.
//!
//! In: a [`SpawnSpec`] for a job. Out: [`Inbox::SpawnDone`] to the supervisor. Each thread has a
//! queue of its own; the pool knows which ones are idle. A spawn that hangs (program or working
//! directory on a dead mount) holds one thread; others are started while it does. It is given up
//! after [`timeouts::START_HUNG_MAX`], and sooner, the one that hangs longest first, where others wait
//! for a thread and many hang: whoever starts what hangs keeps nobody else from starting. Each thread has
//! a timer, which wakes the supervisor if a spawn hangs and nobody if it does not.
//!
//! A spawn that went well does not wake the supervisor: the thread tells the I/O thread itself,
//! enters the pidfd into the supervisor's epoll set, and leaves the rest in its inbox, to be read
//! when it wakes for the child's exit or anything else. Only if the supervisor has said that it
//! waits for this ([`Receiver::want`], or spawns queued behind it) does the bell ring.
//!
//! [`Receiver::want`]: crate::supervisor::mailbox::Receiver::want

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::config::timeouts;
use crate::ledger::{PidSlot, RecordId};
use crate::supervisor::Inbox;
use crate::supervisor::cgroup::Group;
use crate::supervisor::keeper::Kept;
use crate::supervisor::mailbox::Sender;
use crate::supervisor::message::Event;
use crate::supervisor::spawn::hung::HungTimer;
use crate::supervisor::spawn::inherit::Inheritance;
use crate::supervisor::spawn::launchpad::Launchpad;
use crate::supervisor::spawn::spec::SpawnSpec;
use crate::supervisor::spawn::{Spawned, spawn};
use crate::supervisor::tree::identity::Handle;
use crate::supervisor::tree::mark::Mark;
use crate::types::{JobId, Monotonic, SpawnError, SpawnStage};

/// Threads started without hesitation, which then stay. Each waits for its child's exec, which on
/// a busy machine takes long; with two of them two cores started a fifth fewer children.
const EAGER: usize = 4;

/// Threads at most, without those whose spawn was given up and does not end all the same: a child in a
/// system call that no signal ends (a FUSE daemon that has read a request and does not answer) holds
/// its thread for as long.
const THREADS_MAX: usize = 256;

/// With those.
const STUCK_TOO_MAX: usize = 1024;

/// So many spawns may hang ([`timeouts::START_HANGS_AFTER`]) while others wait for a thread.
const HUNG_MAX: usize = 64;

/// Spawns that may wait for a thread; one more is refused with EAGAIN.
const QUEUE_MAX: usize = 1024;

/// One more thread is started when spawns wait and none has been finished for this long: the
/// running ones hang. Threads that are merely busy get no help from more of them.
pub(crate) const PATIENCE: Duration = Duration::from_millis(5);

/// A child that is being made when its spawn is given up is killed so much later, and again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Bytes; the child's own stack is on the heap.
const STACK_BYTES: usize = 64 << 10;

/// A child to be started.
#[derive(Debug)]
pub(crate) struct Order {
    /// Whose it is.
    pub(crate) job: JobId,
    /// What to start and with which descriptors.
    pub(crate) spec: Box<SpawnSpec>,
    /// By which its tree is known.
    pub(crate) mark: Mark,
    /// The cgroup that it is born in.
    pub(crate) group: Option<Arc<Group>>,
    /// Whether the I/O thread is told of the start.
    pub(crate) announce: bool,
    /// Where its pid is written down, if there is a keeper.
    pub(crate) record: Option<RecordId>,
}

#[derive(Debug)]
struct Request {
    order: Order,
    slot: Arc<PidSlot>,
    given_up: Arc<AtomicBool>,
    ordered: Monotonic,
}

/// A child whose report the supervisor has not handled yet.
#[derive(Debug)]
struct InFlight {
    job: JobId,
    slot: Arc<PidSlot>,
    /// When a thread got it.
    since: Option<Monotonic>,
    /// It has been killed, since it did not come to exec.
    given_up: Arc<AtomicBool>,
}

impl InFlight {
    /// A thread waits for it to end by a kill.
    fn is_stuck(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    fn has_taken(&self, time: Duration, now: Monotonic) -> bool {
        self.since.is_some_and(|since| now.since(since) >= time)
    }

    /// Kills it, if it exists already.
    fn kill(&self) {
        let number = self.slot.load(Ordering::Acquire);
        let still_so = || self.slot.is_still(number);
        if let Some(child) = Handle::newborn(number, still_so) {
            child.kill();
        }
    }

    fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        self.kill();
    }
}

/// How a spawner tells what became of a spawn.
#[derive(Clone, Debug)]
pub(crate) struct Reports {
    /// The supervisor's inbox.
    pub(crate) inbox: Sender<Inbox>,
    /// The I/O thread's events.
    pub(crate) events: Sender<Event>,
    /// The supervisor's epoll set.
    pub(crate) epoll: Arc<OwnedFd>,
}

impl Reports {
    fn done(
        &self,
        job: JobId,
        announce: bool,
        thread: Option<usize>,
        ordered: Monotonic,
        result: Result<Spawned, SpawnError>,
    ) {
        let took = Monotonic::now().since(ordered);
        let (pid, pidfd) = match &result {
            Ok(spawned) => (spawned.pid, spawned.pidfd.clone()),
            Err(_) => {
                return self.inbox.send(Inbox::SpawnDone {
                    job,
                    thread,
                    took,
                    result,
                });
            }
        };
        if announce {
            self.events.send(Event::Spawned { job, pid });
        }
        self.inbox.send_quietly(Inbox::SpawnDone {
            job,
            thread,
            took,
            result,
        });
        // After the message: who sees the exit through the pidfd finds the message.
        if !crate::supervisor::watch(&self.epoll, &pidfd, pid) {
            self.inbox.send(Inbox::Unwatched);
        }
        self.inbox.ring_if_wanted();
    }
}

/// A thread that starts children.
#[derive(Debug)]
struct Spawner {
    queue: mpsc::Sender<Request>,
    timer: HungTimer,
}

/// The spawner threads and what waits for them.
#[derive(Debug)]
pub(crate) struct Pool {
    inheritance: Inheritance,
    reports: Reports,
    kept: Option<Kept>,
    /// By thread number; None is a number to use again.
    threads: Vec<Option<Spawner>>,
    idle: Vec<usize>,
    /// For the threads that stay.
    pads: [Option<Launchpad>; EAGER],
    /// The same: the first spawn must not want for a descriptor that the server needs for itself.
    timers: [Option<HungTimer>; EAGER],
    waiting: VecDeque<(Monotonic, Request)>,
    /// When a thread was last seen to be free.
    progress: Monotonic,
    /// Until their reports have been handled, nobody else may take them for orphans. Oldest first.
    in_flight: Vec<InFlight>,
}

impl Pool {
    /// Without threads; they come with the spawns.
    ///
    /// # Errors
    /// When a descriptor cannot be made.
    pub(crate) fn new(
        inheritance: Inheritance,
        reports: Reports,
        kept: Option<Kept>,
    ) -> io::Result<Self> {
        let mut timers = [const { None }; EAGER];
        for timer in &mut timers {
            *timer = Some(HungTimer::new(&reports.epoll)?);
        }
        let null = inheritance.null.as_fd();
        let pads = [(); EAGER].map(|()| Some(Launchpad::with_staging(null)));
        Ok(Self {
            inheritance,
            reports,
            kept,
            threads: Vec::new(),
            idle: Vec::new(),
            pads,
            timers,
            waiting: VecDeque::new(),
            progress: Monotonic::from_nanos(0),
            in_flight: Vec::new(),
        })
    }

    /// Hands a spawn to a thread; the answer comes as [`Inbox::SpawnDone`].
    pub(crate) fn submit(&mut self, order: Order, now: Monotonic) {
        let job = order.job;
        if self.waiting.len() >= QUEUE_MAX {
            let error = SpawnError {
                stage: SpawnStage::Clone,
                errno: libc::EAGAIN,
            };
            return self.reports.done(job, false, None, now, Err(error));
        }
        let slot = match (&self.kept, order.record) {
            (Some(kept), Some(record)) => PidSlot::Kept(kept.records.clone(), record),
            _ => PidSlot::default(),
        };
        let slot = Arc::new(slot);
        let given_up = Arc::<AtomicBool>::default();
        self.in_flight.push(InFlight {
            job,
            slot: slot.clone(),
            since: None,
            given_up: given_up.clone(),
        });
        let request = Request {
            order,
            slot,
            given_up,
            ordered: now,
        };
        self.waiting.push_back((now, request));
        if self.idle.is_empty() && self.running() < EAGER {
            self.start_thread();
        }
        self.assign(now);
    }

    /// Notes that a spawn has been reported and `thread` is free again; called for every [`Inbox::SpawnDone`].
    pub(crate) fn finished(&mut self, job: JobId, thread: Option<usize>, now: Monotonic) {
        self.in_flight.retain(|spawn| spawn.job != job);
        let Some(thread) = thread else { return };
        self.progress = now;
        self.idle.push(thread);
        self.assign(now);
        self.dismiss();
    }

    /// Ends the thread with the highest number if more are idle than are to stay.
    fn dismiss(&mut self) {
        if self.idle.len() > EAGER
            && let Some((at, &thread)) = self.idle.iter().enumerate().max_by_key(|(_, n)| **n)
        {
            self.idle.swap_remove(at);
            self.threads[thread] = None;
        }
    }

    /// Starts a thread if spawns wait and nothing moves. Returns when to look again.
    pub(crate) fn check_progress(&mut self, now: Monotonic) -> Option<Monotonic> {
        let since = self.waiting.front()?.0.max(self.progress);
        if now < since + PATIENCE {
            return Some(since + PATIENCE);
        }
        self.give_up_hung(now);
        let running = self.running();
        let stuck = self
            .in_flight
            .iter()
            .filter(|spawn| spawn.is_stuck())
            .count();
        if running < STUCK_TOO_MAX && running.saturating_sub(stuck) < THREADS_MAX {
            self.start_thread();
            self.assign(now);
        }
        self.waiting.front().map(|_| now + PATIENCE)
    }

    /// Others wait for a thread: of those that hang only so many may.
    fn give_up_hung(&self, now: Monotonic) {
        let hung = self
            .in_flight
            .iter()
            .filter(|spawn| spawn.has_taken(timeouts::START_HANGS_AFTER, now) && !spawn.is_stuck());
        let too_many = hung.clone().count().saturating_sub(HUNG_MAX);
        hung.take(too_many).for_each(InFlight::give_up);
    }

    /// Gives up spawns that have hung for too long. Returns when to look again.
    pub(crate) fn give_up_old(&self, now: Monotonic) -> Option<Monotonic> {
        let max = timeouts::START_HUNG_MAX;
        let old = self.in_flight.iter();
        old.filter(|spawn| spawn.has_taken(max, now))
            .for_each(InFlight::give_up);
        self.next_look(now)
    }

    /// When a spawn has hung for too long, or must be killed again because it did not exist before.
    pub(crate) fn next_look(&self, now: Monotonic) -> Option<Monotonic> {
        let oldest = self.in_flight.first()?;
        let at = oldest.since.unwrap_or(now) + timeouts::START_HUNG_MAX;
        Some(at.max(now + AGAIN_AFTER))
    }

    /// Takes a spawn back that no thread has got. False if one has.
    pub(crate) fn withdraw(&mut self, job: JobId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|(_, request)| request.order.job != job);
        let withdrawn = self.waiting.len() < before;
        if withdrawn {
            self.in_flight.retain(|spawn| spawn.job != job);
        }
        withdrawn
    }

    /// Whether spawns wait for a thread; then the next report must wake the supervisor.
    pub(crate) fn has_queue(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether a child with this pid is about to be reported.
    pub(crate) fn is_in_flight(&self, pid: i32) -> bool {
        self.in_flight
            .iter()
            .any(|spawn| spawn.slot.load(Ordering::Acquire) == pid)
    }

    /// Kills a child that has not come to exec, if it exists already.
    pub(crate) fn kill_in_flight(&self, job: JobId) {
        if let Some(spawn) = self.in_flight.iter().find(|spawn| spawn.job == job) {
            spawn.kill();
        }
    }

    /// Whether nothing is being spawned and nothing waits.
    pub(crate) fn is_quiet(&self) -> bool {
        self.in_flight.is_empty()
    }

    fn running(&self) -> usize {
        self.threads.iter().flatten().count()
    }

    fn assign(&mut self, now: Monotonic) {
        // The lowest number first: those that stay have a launchpad of their own.
        while let Some((at, &thread)) = self.idle.iter().enumerate().min_by_key(|(_, n)| **n) {
            let Some((_, request)) = self.waiting.pop_front() else {
                return;
            };
            self.idle.swap_remove(at);
            let job = request.order.job;
            if let Some(spawn) = self.in_flight.iter_mut().find(|spawn| spawn.job == job) {
                spawn.since = Some(now);
            }
            let Some(Some(spawner)) = self.threads.get(thread) else {
                continue;
            };
            spawner.timer.begin(timeouts::START_HUNG_MAX);
            if let Err(mpsc::SendError(request)) = spawner.queue.send(request) {
                // The thread is gone, which only a panic in it could do.
                self.threads[thread] = None;
                self.waiting.push_front((now, request));
            }
        }
    }

    fn start_thread(&mut self) {
        let number = self
            .threads
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.threads.len());
        let spare = self.timers.get_mut(number).and_then(Option::take);
        let timer = spare.map_or_else(|| HungTimer::new(&self.reports.epoll), Ok);
        let timer = match timer {
            Ok(timer) => timer,
            Err(error) => return self.no_thread(&error.into()),
        };
        let (queue, requests) = mpsc::channel::<Request>();
        let ends = timer.clone();
        let (inheritance, reports) = (self.inheritance.clone(), self.reports.clone());
        let pad = self.pads.get_mut(number).and_then(Option::take);
        let mut pad = pad.unwrap_or_default();
        let work = move || {
            for Request {
                order,
                slot,
                given_up,
                ordered,
            } in requests
            {
                let Order {
                    job,
                    spec,
                    mark,
                    group,
                    announce,
                    record: _,
                } = order;
                let group = group.as_deref().and_then(Group::birthplace);
                let result = spawn(
                    &spec,
                    &inheritance,
                    mark,
                    group,
                    (&slot, &given_up),
                    &mut pad,
                );
                // The child's ends of its pipes close before anybody hears that it runs.
                drop(spec);
                drop(slot);
                ends.end();
                reports.done(job, announce, Some(number), ordered, result);
            }
        };
        let builder = thread::Builder::new()
            .name("spawner".to_owned())
            .stack_size(STACK_BYTES);
        match builder.spawn(work) {
            Ok(_) => {
                if number == self.threads.len() {
                    self.threads.push(None);
                }
                self.threads[number] = Some(Spawner { queue, timer });
                self.idle.push(number);
            }
            Err(error) => self.no_thread(&error),
        }
    }

    /// No thread is to be had. If others run, one of them takes what waits when it is done.
    fn no_thread(&mut self, error: &io::Error) {
        if self.running() > 0 {
            return;
        }
        let errno = error.raw_os_error().unwrap_or(libc::EAGAIN);
        for (_, request) in self.waiting.drain(..) {
            let error = SpawnError {
                stage: SpawnStage::Clone,
                errno,
            };
            let (job, ordered) = (request.order.job, request.ordered);
            self.reports.done(job, false, None, ordered, Err(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::mailbox;
    use crate::supervisor::spawn::spec::Stdio;
    use crate::supervisor::tree::mark::Marks;
    use rustix::event::epoll;

    /// What no thread can start.
    fn nothing() -> Box<SpawnSpec> {
        let null = || std::fs::File::open("/dev/null").unwrap().into();
        let stdio = Stdio::Outputs(Box::new([null(), null()]));
        let (base, env) = (Arc::default(), std::iter::empty());
        Box::new(SpawnSpec::new("/no/such/program", &[], &base, env, None, stdio).unwrap())
    }

    #[test]
    fn threads_that_were_started_for_want_of_progress_end_after_it() {
        let (inbox, done) = mailbox::channel().unwrap();
        let reports = Reports {
            inbox,
            events: mailbox::channel().unwrap().0,
            epoll: Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC).unwrap()),
        };
        let mut pool = Pool::new(Inheritance::for_tests(), reports, None).unwrap();
        let mut marks = Marks::new();
        let now = Monotonic::now();
        let all = EAGER + 3;
        for job in 0..all as u64 {
            let order = Order {
                job: JobId(job),
                spec: nothing(),
                mark: marks.take(),
                group: None,
                announce: false,
                record: None,
            };
            pool.submit(order, now);
        }
        // Nothing is heard of the first ones in time.
        for _ in EAGER..all {
            pool.check_progress(now + PATIENCE);
        }
        assert_eq!(pool.running(), all);
        let mut reported = Vec::new();
        while reported.len() < all {
            for message in done.take() {
                match message {
                    Inbox::SpawnDone { job, thread, .. } => reported.push((thread, job)),
                    other => panic!("{other:?}"),
                }
            }
            thread::yield_now();
        }
        // The threads that came to help are free first.
        reported.sort_by_key(|(thread, _)| std::cmp::Reverse(*thread));
        for (thread, job) in reported {
            pool.finished(job, thread, now);
        }
        assert_eq!(pool.running(), EAGER);
        assert_eq!(pool.threads.iter().take(EAGER).flatten().count(), EAGER);
    }
}
