//! The supervisor thread: owns pids, deadlines and signals.
//!
//! In: [`message::Command`] from the I/O thread, signals, pidfds. Out: [`message::Event`].
//! Owns every child's pid and pidfd from exec until it is reaped, the spawner threads, and the
//! question what is left of a tree. Knows no socket, no log, and no HTTP.
//!
//! One plain epoll loop: doorbell, signalfd, one pidfd per running child, news of the memory of groups,
//! the keeper's bell, and timers of spawns that hang. Nothing in it waits:
//! spawns happen on the threads of `spawn::pool`, kills are swept in passes between other events.

pub(crate) mod cgroup;
mod clock;
pub(crate) mod deadline;
mod deaths;
mod ending;
mod groups;
mod job;
mod jobs;
pub(crate) mod keeper;
mod kept;
mod leftovers;
mod lifetime;
pub(crate) mod living;
pub(crate) mod mailbox;
pub(crate) mod message;
mod oom;
mod ports;
pub(crate) mod reap;
mod shutdown;
mod signalling;
pub(crate) mod signals;
pub(crate) mod spawn;
mod starting;
pub(crate) mod state_dir;
pub(crate) mod tree;
mod usage;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::EventFlags;
use rustix::event::{Timespec, epoll};

use self::cgroup::Cgroups;
use self::clock::Clock;
use self::deadline::Deadlines;
pub(crate) use self::groups::Groups;
use self::job::Job;
use self::keeper::Kept;
use self::leftovers::Leftovers;
use self::mailbox::{Receiver, Sender};
use self::message::{Command, Event, Rest};
use self::oom::Watches;
use self::ports::Ports;
use self::shutdown::Shutdown;
use self::signalling::Signalling;
use self::signals::{Hangup, SignalFd};
use self::spawn::Spawned;
use self::spawn::inherit::Inheritance;
use self::spawn::pool::{Pool, Reports};
use self::state_dir::StateDir;
use self::tree::claims::Claims;
use self::tree::orphans::Orphans;
use self::usage::Counting;
use crate::ledger::{RecordId, heritage};
use crate::metrics::{Histogram, SupervisorMetrics};
use crate::types::{JobId, Monotonic, SpawnError};

/// Longest pause between two passes over a tree that does not die.
const PASS_PAUSE_MAX: Duration = Duration::from_millis(100);

const TOKEN_INBOX: u64 = 0;
const TOKEN_SIGNALS: u64 = 1;
const TOKEN_MEMORY: u64 = 2;
const TOKEN_KEEPER: u64 = 3;
/// Of every spawner thread: what it starts hangs.
const TOKEN_HUNG: u64 = 4;
/// A child's token is its pid above this.
const TOKEN_PIDS: u64 = 16;

/// What reaches the supervisor through its doorbell.
#[derive(Debug)]
pub(crate) enum Inbox {
    /// From the I/O thread.
    Command(Command),
    /// From a spawner thread: the kernel has no room to wait for a child's pidfd.
    Unwatched,
    /// From a spawner thread.
    SpawnDone {
        /// Which child.
        job: JobId,
        /// Which thread is free again; None if no thread was involved.
        thread: Option<usize>,
        /// Since it was ordered.
        took: Duration,
        /// The child, or why there is none.
        result: Result<Spawned, SpawnError>,
    },
}

/// How the supervisor behaves.
#[derive(Debug)]
pub(crate) struct Options {
    /// Between SIGTERM and SIGKILL when the server ends.
    pub shutdown_grace: Duration,
    /// What SIGHUP means.
    pub hangup: Hangup,
    /// What every child gets.
    pub inheritance: Inheritance,
    /// Where the next server learns what this one left, if it is killed.
    pub state: Option<StateDir>,
    /// The parent of all children, if that is not this process.
    pub kept: Option<Kept>,
    /// What was due to happen to the jobs of another program.
    pub dues: Vec<heritage::Due>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A run's deadline.
    Timeout(JobId),
    /// The end of the time that a tree may live.
    Lifetime(JobId),
    /// A timed-out run must be answered now.
    Answer(JobId),
    /// The grace of a stop is over.
    Grace(JobId),
    /// This signal is due to a tree whose leader still runs.
    Escalation(JobId, i32),
    /// Another look at the ports of a tree.
    Ports(JobId),
    /// Another pass over a tree.
    Pass(JobId),
    /// Another pass over everything, at the server's end.
    PassAll,
    /// Changes of the memory of trees are to be heard of again.
    Memory,
    /// Spawns may need another thread.
    SpawnWatchdog,
    /// Spawns that have hung for too long may still be there.
    Hung,
    /// Orphans may have died unnoticed.
    Orphans,
    /// What is left of a tree may have ended.
    Left(JobId),
    /// Somebody of trees whose leaders have exited may not have been found.
    Unconfirmed,
    /// A look at all children that nobody waits for.
    Look,
}

/// The supervisor's state; [`Supervisor::run`] is its thread.
#[derive(Debug)]
pub(crate) struct Supervisor {
    options: Options,
    cgroups: Option<Cgroups>,
    epoll: Arc<OwnedFd>,
    signals: SignalFd,
    inbox: Receiver<Inbox>,
    events: Sender<Event>,
    pool: Pool,
    /// Boxed, because a table of this kind is half empty at worst.
    jobs: HashMap<JobId, Box<Job>>,
    by_pid: HashMap<i32, JobId>,
    clock: Clock,
    deadlines: Deadlines<Due>,
    leftovers: Leftovers,
    orphan_check: bool,
    /// It is known when spawns may need another thread.
    spawners_watched: bool,
    /// Trees to be looked at in this turn, or in the next one that follows at once.
    passing: Vec<JobId>,
    /// Some child's pidfd could not be waited for; then every dead child is looked for.
    unwatched: bool,
    /// Looks for dead orphans so far.
    sweeps: u32,
    /// Children to be stopped or killed as soon as they exist.
    awaited: usize,
    claims: Claims,
    orphans: Orphans,
    /// Trees that a step of a pass is to be made over.
    stepping: VecDeque<JobId>,
    /// Trees whose pass waits for a look.
    looking: Vec<JobId>,
    signalling: Signalling,
    ports: Ports,
    counting: Counting,
    watches: Watches,
    shutdown: Option<Shutdown>,
    /// How long starts took.
    spawns: Histogram,
    /// How long the loop was busy at a time.
    turns: Histogram,
    /// Children that have ended and whose end the keeper has not written down yet.
    unwritten: BTreeSet<JobId>,
    /// What a server that is gone has left to this one.
    inherited: Vec<(RecordId, bool)>,
}

impl Supervisor {
    /// Makes the supervisor and the I/O thread's ends of its channels. Every signal must be
    /// blocked already ([`signals::block_all`]).
    ///
    /// # Errors
    /// When a descriptor cannot be made.
    pub(crate) fn new(options: Options) -> std::io::Result<(Self, Sender<Inbox>, Receiver<Event>)> {
        if options.kept.is_none() {
            // Orphans of children become children of this process instead of init's.
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        }
        let (commands, inbox) = mailbox::channel()?;
        let (events, receiver) = mailbox::channel()?;
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let signals = SignalFd::new(options.hangup)?;
        epoll::add(
            &epoll,
            &inbox,
            epoll::EventData::new_u64(TOKEN_INBOX),
            EventFlags::IN,
        )?;
        epoll::add(
            &epoll,
            &signals,
            epoll::EventData::new_u64(TOKEN_SIGNALS),
            EventFlags::IN,
        )?;
        if let Some(kept) = &options.kept {
            let data = epoll::EventData::new_u64(TOKEN_KEEPER);
            epoll::add(&epoll, &kept.bell, data, EventFlags::IN)?;
        }
        let reports = Reports {
            inbox: commands.clone(),
            events: events.clone(),
            epoll: epoll.clone(),
        };
        let pool = Pool::new(options.inheritance.clone(), reports, options.kept.clone())?;
        let inherited = kept::inherited(options.kept.as_ref());
        let supervisor = Self {
            options,
            cgroups: None,
            epoll,
            signals,
            inbox,
            events,
            pool,
            jobs: HashMap::new(),
            by_pid: HashMap::new(),
            clock: Clock::default(),
            deadlines: Deadlines::default(),
            leftovers: Leftovers::default(),
            orphan_check: false,
            spawners_watched: false,
            passing: Vec::new(),
            unwatched: false,
            sweeps: 0,
            awaited: 0,
            claims: Claims::default(),
            orphans: Orphans::default(),
            stepping: VecDeque::new(),
            looking: Vec::new(),
            signalling: Signalling::default(),
            ports: Ports::default(),
            counting: Counting::default(),
            watches: Watches::default(),
            shutdown: None,
            spawns: Histogram::default(),
            turns: Histogram::default(),
            unwritten: BTreeSet::new(),
            inherited,
        };
        Ok((supervisor, commands, receiver))
    }

    /// Runs until the process ends, with groups for children from there.
    pub(crate) fn run(mut self, groups: Groups) {
        self.begin_groups(groups);
        self.go_on();
        // Opens the list that every exit asks for, while the server has descriptors to spare.
        let _ = tree::procfs::adopted();
        let mut ready = Vec::with_capacity(64);
        loop {
            self.wait(self.pause(), &mut ready);
            self.turn(&ready);
        }
    }

    /// How long nothing is to be done unless something happens; None is for ever.
    fn pause(&self) -> Option<Duration> {
        // A look may have shown whom to end.
        match self.has_steps_to_make() || !self.passing.is_empty() {
            true => Some(Duration::ZERO),
            false => Some(self.deadlines.next()?.since(self.clock.now())),
        }
    }

    /// Waits for something to happen, so long at most.
    fn wait(&self, at_most: Option<Duration>, ready: &mut Vec<epoll::Event>) {
        ready.clear();
        let timeout = at_most.map(timespec);
        if let Err(error) = epoll::wait(&self.epoll, spare_capacity(ready), timeout.as_ref())
            && error != rustix::io::Errno::INTR
        {
            // Nothing a caller could do; without this pause it would burn a core.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sees to what has happened and to what is due.
    fn turn(&mut self, ready: &[epoll::Event]) {
        let woken = Instant::now();
        if ready.iter().any(|event| event.data.u64() == TOKEN_INBOX) {
            self.inbox.answer();
        }
        // First, because what it says may be about the pids below.
        self.on_inbox();
        for event in ready {
            match event.data.u64() {
                TOKEN_INBOX => {}
                TOKEN_SIGNALS => self.on_signals(),
                TOKEN_MEMORY => self.on_memory(),
                TOKEN_KEEPER => self.on_bell(),
                TOKEN_HUNG => self.give_up_hung(),
                token => {
                    if let Ok(pid) = i32::try_from(token - TOKEN_PIDS)
                        && let Some(&job) = self.by_pid.get(&pid)
                    {
                        self.on_exit(job);
                    }
                }
            }
        }
        let now = self.clock.now();
        while let Some(due) = self.deadlines.pop(now) {
            self.on_due(due, now);
        }
        loop {
            self.run_passes();
            if !self.waits_for_spawners() {
                break;
            }
            self.inbox.want();
            self.on_inbox();
            if self.passing.is_empty() {
                break;
            }
        }
        self.make_steps();
        self.tell_left();
        self.turns.observe(woken.elapsed());
    }

    /// Answers who wants to know whether this loop goes round.
    fn pong(&self) {
        self.events.send(Event::Pong(Box::new(SupervisorMetrics {
            spawns: self.spawns.get(),
            turns: self.turns.get(),
        })));
    }

    fn on_inbox(&mut self) {
        let messages: Vec<Inbox> = self.inbox.take().collect();
        for message in messages {
            match message {
                Inbox::Command(command) => self.on_command(command),
                Inbox::Unwatched => {
                    self.unwatched = true;
                    self.look_for_orphans();
                }
                Inbox::SpawnDone {
                    job,
                    thread,
                    took,
                    result,
                } => {
                    if result.is_ok() {
                        self.spawns.observe(took);
                    }
                    self.on_spawn_done(job, thread, result);
                }
            }
        }
    }

    /// Whether something is to be done as soon as a child exists, or a spawner is wanted.
    fn waits_for_spawners(&self) -> bool {
        // A child is written down as soon as it exists.
        let noted = self.options.state.is_some();
        noted || self.pool.has_queue() || self.shutdown.is_some() || self.awaited > 0
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Spawn {
                job,
                spec,
                deadline,
                announce,
                counted,
                record,
            } => self.start(job, spec, deadline, (announce, counted), record),
            Command::KillAt { job, at } => self.limit_lifetime(job, at),
            Command::Stop { job, grace } => {
                self.on_event(job, job::Event::Stop);
                if let Some(grace) = grace {
                    self.give_grace(job, grace);
                }
            }
            Command::Kill { job } => self.on_event(job, job::Event::Kill),
            Command::Signal {
                job,
                request,
                ticket,
            } => self.signal(job, request, Some(ticket)),
            Command::WatchPort { job, port, watch } => self.watch_port(job, port, watch),
            Command::UnwatchPort { job, watch } => self.unwatch_port(job, watch),
            Command::Ping => self.pong(),
            Command::Count { jobs, ticket } => self.count(ticket, jobs),
            Command::Uncount { ticket } => self.uncount(ticket),
            Command::ShutdownGrace(grace) => self.options.shutdown_grace = grace,
            Command::ShutDown => self.begin_shutdown(),
            Command::Rest(Rest { begun, until }) => {
                let can = self.pool.is_quiet() && self.shutdown.is_none();
                let dues = can.then(|| self.dues());
                if begun.send(dues).is_ok() && can {
                    // Nothing is ever sent there.
                    let _ = until.recv();
                }
            }
            Command::Forget { job } => self.forget(job),
            Command::RunIsOver { job } => self.run_is_over(job),
            Command::TerminalClosed { job, master } => {
                if let Some(known) = self.jobs.get_mut(&job) {
                    self.claims
                        .files_closed(job, &std::mem::take(&mut known.tree.files));
                }
                drop(master);
            }
            Command::End { job } => {
                self.on_event(job, job::Event::Kill);
                self.forget(job);
            }
        }
    }

    fn on_due(&mut self, due: Due, now: Monotonic) {
        match due {
            Due::Timeout(id) => {
                if !self.withdraw(id) {
                    self.on_event(id, job::Event::TimeoutPassed);
                }
            }
            Due::Answer(id) => self.on_event(id, job::Event::AnswerDue),
            Due::Lifetime(id) => self.lifetime_is_over(id),
            Due::Grace(id) => self.on_event(id, job::Event::GraceOver),
            Due::Escalation(id, signal) => self.escalate(id, signal),
            Due::Ports(id) => self.begin_look_at_ports(id),
            Due::Pass(id) => self.passing.push(id),
            Due::PassAll => self.pass_all(now),
            Due::Memory => self.listen_to_memory(),
            Due::Hung => self.give_up_hung(),
            Due::SpawnWatchdog => {
                self.spawners_watched = false;
                self.watch_spawners(now);
            }
            Due::Orphans => {
                self.orphan_check = false;
                self.reap_orphans();
            }
            Due::Left(id) => self.look_at_left(id, now),
            Due::Unconfirmed => self.confirm_left(),
            Due::Look => self.orphans.begin_planned(),
        }
    }
}

/// Has the exit of a child wake the supervisor, once: closing the pidfd does not take it out of
/// the set while another child, on its way to exec, has a copy of it. Without a place in the set
/// (ENOMEM, ENOSPC) the exit is still seen through SIGCHLD.
fn watch(epoll: &OwnedFd, pidfd: &OwnedFd, pid: i32) -> bool {
    let data = epoll::EventData::new_u64(TOKEN_PIDS + u64::from(pid.cast_unsigned()));
    epoll::add(epoll, pidfd, data, EventFlags::IN | EventFlags::ONESHOT).is_ok()
}

fn timespec(duration: Duration) -> Timespec {
    // A day is as good as for ever here, and fits every time_t.
    let duration = duration.min(Duration::from_secs(86_400));
    Timespec {
        tv_sec: duration.as_secs().cast_signed(),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests;
