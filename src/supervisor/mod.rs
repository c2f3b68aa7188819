//! The supervisor thread: owns pids, deadlines and signals.
//!
//! In: [`message::Command`] from the I/O thread, signals, pidfds. Out: [`message::Event`].
//! Owns every child's pid and pidfd from exec until it is reaped, the spawner threads, and the
//! question what is left of a tree. Knows no socket, no log, and no HTTP.
//!
//! One plain epoll loop: doorbell, signalfd, one pidfd per running child. Nothing in it waits:
//! spawns happen on the threads of `spawn::pool`, kills are swept in passes between other events.

pub mod cgroup;
pub mod deadline;
mod deaths;
mod ending;
mod groups;
mod job;
pub mod keeper;
mod kept;
mod leftovers;
mod lifetime;
pub mod living;
pub mod mailbox;
mod memory;
pub mod message;
mod ports;
pub mod reap;
mod shutdown;
mod signalling;
pub mod signals;
pub mod spawn;
pub mod state_dir;
pub mod tree;
mod usage;

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::EventFlags;
use rustix::event::{Timespec, epoll};
use rustix::process::Signal;

use self::cgroup::{Bounds, Cgroups};
use self::deadline::Deadlines;
pub use self::groups::Groups;
use self::job::{Job, Phase};
use self::keeper::Kept;
use self::leftovers::Leftovers;
use self::mailbox::{Receiver, Sender};
use self::memory::Watches;
use self::message::{Command, Event, Rest};
use self::ports::Ports;
use self::shutdown::Shutdown;
use self::signalling::Signalling;
use self::signals::{Hangup, SignalFd};
use self::spawn::Spawned;
use self::spawn::inherit::Inheritance;
use self::spawn::pool::{Order, Pool, Reports};
use self::spawn::spec::SpawnSpec;
use self::state_dir::StateDir;
use self::tree::Tree;
use self::tree::claims::Claims;
use self::tree::identity::Leader;
use self::tree::orphans::Orphans;
use self::usage::Counting;
use crate::config::timeouts;
use crate::ledger::{RecordId, heritage};
use crate::metrics::{Histogram, SupervisorMetrics};
use crate::types::{JobId, SpawnError, SpawnStage};

/// Longest pause between two passes over a tree that does not die.
const PASS_PAUSE_MAX: Duration = Duration::from_millis(100);

const TOKEN_INBOX: u64 = 0;
const TOKEN_SIGNALS: u64 = 1;
const TOKEN_MEMORY: u64 = 2;
const TOKEN_KEEPER: u64 = 3;
/// A child's token is its pid above this.
const TOKEN_PIDS: u64 = 16;

/// What reaches the supervisor through its doorbell.
#[derive(Debug)]
pub enum Inbox {
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
pub struct Options {
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
    Relief,
    /// Spawns may have hung for too long.
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
pub struct Supervisor {
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
    deadlines: Deadlines<Due>,
    leftovers: Leftovers,
    orphan_check: bool,
    relief: bool,
    /// Trees to be looked at before this turn ends.
    passing: Vec<JobId>,
    /// Some child's pidfd could not be waited for; then every dead child is looked for.
    unwatched: bool,
    /// Looks for dead orphans so far.
    sweeps: u32,
    /// Children to be stopped or killed as soon as they exist.
    hasty: usize,
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
    unwritten: Vec<JobId>,
    /// What a server that is gone has left to this one.
    inherited: Vec<(RecordId, bool)>,
}

impl Supervisor {
    /// Makes the supervisor and the I/O thread's ends of its channels. Every signal must be
    /// blocked already ([`signals::block_all`]).
    ///
    /// # Errors
    /// When a descriptor cannot be made.
    pub fn new(options: Options) -> std::io::Result<(Self, Sender<Inbox>, Receiver<Event>)> {
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
        let pool = Pool::new(options.inheritance.clone(), reports, options.kept.clone());
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
            deadlines: Deadlines::default(),
            leftovers: Leftovers::default(),
            orphan_check: false,
            relief: false,
            passing: Vec::new(),
            unwatched: false,
            sweeps: 0,
            hasty: 0,
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
            unwritten: Vec::new(),
            inherited,
        };
        Ok((supervisor, commands, receiver))
    }

    /// Runs until the process ends, with groups for children from there.
    pub fn run(mut self, groups: Groups) {
        self.begin_groups(groups);
        self.go_on();
        // Opens the list that every exit asks for, while the server has descriptors to spare.
        let _ = tree::procfs::adopted();
        let mut ready = Vec::with_capacity(64);
        loop {
            let timeout = if self.has_steps_to_make() {
                Some(timespec(Duration::ZERO))
            } else {
                let next = self.deadlines.next();
                next.map(|at| timespec(at.saturating_duration_since(Instant::now())))
            };
            ready.clear();
            if let Err(error) =
                epoll::wait(&self.epoll, spare_capacity(&mut ready), timeout.as_ref())
                && error != rustix::io::Errno::INTR
            {
                // Nothing a caller could do; without this pause it would burn a core.
                std::thread::sleep(Duration::from_millis(1));
            }
            let woken = Instant::now();
            if ready.iter().any(|event| event.data.u64() == TOKEN_INBOX) {
                self.inbox.answer();
            }
            // First, because what it says may be about the pids below.
            self.on_inbox();
            for event in &ready {
                match event.data.u64() {
                    TOKEN_INBOX => {}
                    TOKEN_SIGNALS => self.on_signals(),
                    TOKEN_MEMORY => self.on_memory(),
                    TOKEN_KEEPER => self.on_bell(),
                    token => {
                        if let Ok(pid) = i32::try_from(token - TOKEN_PIDS)
                            && let Some(&job) = self.by_pid.get(&pid)
                        {
                            self.on_exit(job);
                        }
                    }
                }
            }
            let now = Instant::now();
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
        noted || self.pool.has_queue() || self.shutdown.is_some() || self.hasty > 0
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
                self.stop(job);
                if let Some(grace) = grace {
                    self.give_grace(job, grace);
                }
            }
            Command::Kill { job } => self.end(job),
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
            Command::TerminalClosed { job, master } => {
                if let Some(known) = self.jobs.get_mut(&job) {
                    self.claims
                        .files_closed(job, &std::mem::take(&mut known.tree.files));
                }
                drop(master);
            }
            Command::End { job } => {
                self.end(job);
                self.forget(job);
            }
        }
    }

    fn start(
        &mut self,
        job: JobId,
        spec: Box<SpawnSpec>,
        deadline: Option<Instant>,
        (announce, counted): (bool, bool),
        record: Option<RecordId>,
    ) {
        if self.options.kept.is_some() && record.is_none() {
            // What is not written down would be lost, so it is not begun.
            let error = SpawnError {
                stage: SpawnStage::Clone,
                errno: libc::EAGAIN,
            };
            return self.events.send(Event::SpawnFailed { job, error });
        }
        let now = Instant::now();
        let bounds = spec.limits().map(Bounds::from).unwrap_or_default();
        let group = match self.group_for(&bounds, counted) {
            Ok(group) => group,
            Err(error) => return self.events.send(Event::SpawnFailed { job, error }),
        };
        if let Some(group) = group.as_ref().filter(|group| group.bounds_memory()) {
            self.watch_memory(job, group);
        }
        // In a group nobody needs to be found by its descriptors.
        let files = group.as_ref().map_or_else(|| spec.files(), |_| Vec::new());
        let mark = self.claims.begin(job, &files);
        let tree = Tree {
            session: 0,
            mark,
            files,
            used_before: group
                .as_ref()
                .filter(|_| counted)
                .and_then(|of| of.used_before()),
            group: group.clone(),
        };
        if self.claims.marks().wants_census() {
            self.orphans.want(true);
        }
        self.write_down(record, &tree, deadline);
        let mut known = Job::new(tree);
        known.record = record;
        self.jobs.insert(job, Box::new(known));
        if let Some(at) = deadline {
            self.deadlines.set(at, Due::Timeout(job));
        }
        let order = Order {
            job,
            spec,
            mark,
            group,
            announce,
            record,
        };
        if let Some(state) = &mut self.options.state {
            state.starts(job, mark);
        }
        self.pool.submit(order, now);
        self.look_for_relief(now);
        if !self.deadlines.is_set(Due::Hung) {
            self.deadlines
                .set(now + timeouts::START_HUNG_MAX, Due::Hung);
        }
        if self.shutdown.is_some() {
            self.end(job);
        }
    }

    fn on_spawn_done(
        &mut self,
        id: JobId,
        thread: Option<usize>,
        result: Result<Spawned, SpawnError>,
    ) {
        self.pool.finished(id, thread);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.hasty {
            self.hasty -= 1;
        }
        match result {
            Ok(Spawned {
                pid,
                pidfd,
                in_group,
            }) => {
                job.phase = Phase::Running;
                let unused = job.tree.group.take_if(|_| !in_group);
                job.tree.session = pid;
                self.claims.led(id, pid);
                if let Some(state) = &mut self.options.state {
                    state.begun(id, pid, job.tree.mark);
                }
                let namesake = self.by_pid.insert(pid, id);
                job.leader = Some(match self.options.kept {
                    None => Leader::new(pid, pidfd),
                    Some(_) => Leader::kept(pid, pidfd),
                });
                let stop = std::mem::take(&mut job.stop_pending);
                if let Some(group) = unused {
                    self.group_refused(group);
                }
                // What would tell of its end tells of this one now.
                if let Some(namesake) = namesake {
                    self.on_exit(namesake);
                }
                if stop {
                    self.stop(id);
                }
                self.send_early_signals(id);
                self.pass_soon(id);
            }
            Err(error) => self.never_ran(id, error),
        }
    }

    fn never_ran(&mut self, id: JobId, error: SpawnError) {
        self.remove(id);
        self.events.send(Event::SpawnFailed { job: id, error });
        self.send_early_signals(id);
        self.look_whether_all_gone();
    }

    /// The time of a run is over that no spawner has begun with. False if one has.
    fn withdraw(&mut self, id: JobId) -> bool {
        let is_starting = |job: &Job| job.phase == Phase::Starting;
        if !self.jobs.get(&id).is_some_and(|job| is_starting(job)) || !self.pool.withdraw(id) {
            return false;
        }
        if self.jobs.get(&id).is_some_and(|job| job.hasty) {
            self.hasty -= 1;
        }
        let error = SpawnError {
            stage: SpawnStage::Clone,
            errno: libc::ETIMEDOUT,
        };
        self.never_ran(id, error);
        true
    }

    fn stop(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        match job.phase {
            Phase::Starting => {
                job.stop_pending = true;
                self.hurry(id);
            }
            Phase::Running => {
                if let Some(leader) = &job.leader {
                    leader.signal_group(Signal::TERM);
                    // A stopped process handles SIGTERM only once it goes on.
                    leader.signal_group(Signal::CONT);
                }
            }
            Phase::Exited(_) => {}
        }
    }

    /// Has the tree of a job killed after `grace`, unless its leader has exited by then. One grace
    /// per job: the earlier end holds, as it would if each stop had its own.
    fn give_grace(&mut self, id: JobId, grace: Duration) {
        if let Some(job) = self.jobs.get(&id)
            && !matches!(job.phase, Phase::Exited(_))
            && let Some(at) = Instant::now().checked_add(grace)
        {
            self.deadlines.set_if_earlier(at, Due::Grace(id));
        }
    }

    /// Cancels what is due only to a leader that runs.
    fn cancel_limits(&mut self, id: JobId) {
        self.deadlines.cancel(Due::Timeout(id));
        self.deadlines.cancel(Due::Grace(id));
        self.cancel_escalations(id);
    }

    fn forget(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.forgotten = true;
            self.remove_if_forgotten(id);
        }
    }

    fn remove_if_forgotten(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get(&id)
            && job.forgotten
            && job.ending.is_none()
            && matches!(job.phase, Phase::Exited(_))
            // What it left is to be ended when its time is over.
            && !self.deadlines.is_set(Due::Lifetime(id))
        {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: JobId) {
        self.cancel_limits(id);
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        self.deadlines.cancel(Due::Answer(id));
        self.deadlines.cancel(Due::Lifetime(id));
        self.deadlines.cancel(Due::Pass(id));
        let lives = self.forget_left(id);
        self.forget_ports(id);
        let tree = &job.tree;
        self.claims.forget(id, tree.session, tree.mark, &tree.files);
        self.orphans
            .forget(id, tree.mark.value().map(|(_, value)| value));
        if let Some(leader) = &job.leader {
            // A tracer holds on to it; it is reaped like an orphan.
            self.by_pid.remove(&leader.pid());
        }
        if let Some(state) = &mut self.options.state {
            state.forgotten(id, lives);
        }
        if let Some(group) = &job.tree.group {
            self.unwatch_memory(group);
        }
        if let (Some(group), Some(cgroups)) = (job.tree.group, &mut self.cgroups) {
            cgroups.give_back(group);
        }
        if let (Some(kept), Some(record)) = (&self.options.kept, job.record) {
            kept.records.supervisor_is_done(record);
        }
    }

    fn answer_timeout(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.timed_out && !std::mem::replace(&mut job.answered, true) {
            let status = match job.phase {
                Phase::Exited(status) => Some(status),
                _ => None,
            };
            self.events.send(Event::TimedOut { job: id, status });
        }
    }

    fn on_due(&mut self, due: Due, now: Instant) {
        match due {
            Due::Timeout(id) => {
                if self.withdraw(id) {
                    return;
                }
                if let Some(job) = self.jobs.get_mut(&id)
                    && !matches!(job.phase, Phase::Exited(_))
                {
                    job.timed_out = true;
                    self.deadlines
                        .set(now + timeouts::ANSWER_AFTER, Due::Answer(id));
                    self.end(id);
                }
            }
            Due::Answer(id) => self.answer_timeout(id),
            Due::Lifetime(id) => self.lifetime_is_over(id),
            Due::Grace(id) => {
                if self
                    .jobs
                    .get(&id)
                    .is_some_and(|job| !matches!(job.phase, Phase::Exited(_)))
                {
                    self.end(id);
                }
            }
            Due::Escalation(id, signal) => self.escalate(id, signal),
            Due::Ports(id) => self.begin_look_at_ports(id),
            Due::Pass(id) => self.passing.push(id),
            Due::PassAll => self.pass_all(now),
            Due::Memory => self.listen_to_memory(),
            Due::Hung => {
                // Who has come to its program meanwhile has woken nobody.
                self.on_inbox();
                if let Some(at) = self.pool.give_up_old(now) {
                    self.deadlines.set(at, Due::Hung);
                }
            }
            Due::Relief => {
                self.relief = false;
                self.look_for_relief(now);
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

    fn look_for_relief(&mut self, now: Instant) {
        if !self.relief
            && let Some(at) = self.pool.relieve(now)
        {
            self.relief = true;
            self.deadlines.set(at, Due::Relief);
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
mod tests {
    use super::message::{Escalation, SignalRequest};
    use super::spawn::spec::Stdio;
    use super::*;
    use crate::types::signal::Scope;

    /// Nothing but the child is touched: orphans and signals are left to the other tests' own.
    fn supervisor() -> Supervisor {
        let options = Options {
            hangup: Hangup::Reload,
            shutdown_grace: Duration::ZERO,
            inheritance: Inheritance::for_tests(),
            state: None,
            kept: None,
            dues: Vec::new(),
        };
        Supervisor::new(options).unwrap().0
    }

    fn spec(command: &str) -> Box<SpawnSpec> {
        let null = || std::fs::File::open("/dev/null").unwrap().into();
        let stdio = Stdio::Outputs(Box::new([null(), null()]));
        let (base, env) = (Arc::default(), std::iter::empty());
        Box::new(SpawnSpec::new(command, &[], &base, env, None, stdio).unwrap())
    }

    #[test]
    fn nobody_looks_at_a_port_that_nobody_waits_for() {
        let mut supervisor = supervisor();
        let job = JobId(1);
        let watch = |watch| Command::WatchPort {
            job,
            port: 1,
            watch,
        };
        supervisor.on_command(watch(1));
        assert!(
            supervisor.deadlines.next().is_none(),
            "there is no such job"
        );
        supervisor.start(job, spec("/bin/true"), None, (false, false), None);
        while supervisor.deadlines.pop(Instant::now()).is_some() {}
        let before = supervisor.deadlines.next();
        for number in 2..1000 {
            supervisor.on_command(watch(number));
        }
        supervisor.begin_look_at_ports(job);
        assert!(supervisor.has_steps_to_make());
        for number in 2..1000 {
            supervisor.on_command(Command::UnwatchPort { job, watch: number });
        }
        assert!(!supervisor.ports.is_looking());
        assert_eq!(supervisor.deadlines.next(), before);
    }

    #[test]
    fn nothing_is_due_to_a_child_that_has_ended() {
        const YEAR: Duration = Duration::from_secs(31_536_000);
        let mut supervisor = supervisor();
        let job = JobId(1);
        let year = Instant::now() + YEAR;
        supervisor.start(job, spec("/bin/true"), Some(year), (false, false), None);
        supervisor.on_command(Command::KillAt { job, at: year });
        for _ in 0..3 {
            supervisor.on_command(Command::Stop {
                job,
                grace: Some(YEAR),
            });
            for signal in [libc::SIGKILL, libc::SIGHUP, 64] {
                let after = YEAR;
                supervisor.on_command(Command::Signal {
                    job,
                    request: SignalRequest {
                        signal: libc::SIGCONT,
                        scope: Scope::Group,
                        foreground: 0,
                        escalation: Some(Escalation { signal, after }),
                    },
                    ticket: 0,
                });
            }
        }
        // The look at orphans is due in a moment, and a pass that has become superfluous.
        let due_late = |supervisor: &mut Supervisor| {
            while supervisor
                .deadlines
                .pop(Instant::now() + YEAR / 2)
                .is_some()
            {}
            supervisor.deadlines.next()
        };
        assert!(due_late(&mut supervisor).is_some());
        while !matches!(
            supervisor.jobs.get(&job).map(|job| job.phase),
            Some(Phase::Exited(_))
        ) {
            supervisor.on_inbox();
            supervisor.on_exit(job);
            std::thread::yield_now();
        }
        assert_eq!(due_late(&mut supervisor), None);
        // Nor to one that has ended when it is asked for.
        supervisor.on_command(Command::Stop {
            job,
            grace: Some(YEAR),
        });
        supervisor.on_command(Command::KillAt { job, at: year });
        assert_eq!(due_late(&mut supervisor), None);
    }
}
