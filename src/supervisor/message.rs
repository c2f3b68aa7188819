//! What the I/O thread and the supervisor say to each other.
//!
//! In: a request's consequences, or what became of a child. Out: the same, on the other thread
//! ([`mailbox`]). Knows no queue and no descriptor.
//!
//! [`mailbox`]: crate::supervisor::mailbox

use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::time::Duration;

use crate::ledger::RecordId;
use crate::ledger::heritage::Due;
use crate::metrics::SupervisorMetrics;
pub(crate) use crate::supervisor::spawn::spec::SpawnSpec;
use crate::types::signal::Scope;
use crate::types::{Exit, ExitStatus, JobId, KeptLimits, Monotonic, SpawnError, Used};

/// A signal that a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SignalRequest {
    /// Its number, 1 to 64.
    pub signal: i32,
    /// Who gets it.
    pub scope: Scope,
    /// The number of the terminal's foreground group, for [`Scope::Foreground`]. Those of the tree
    /// that are in it get the signal.
    pub foreground: i32,
    /// Another one, if the child still runs later.
    pub escalation: Option<Escalation>,
}

/// A signal to the whole tree of a child that still runs after some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Escalation {
    /// Its number, 1 to 64.
    pub signal: i32,
    /// How long after the first one was sent.
    pub after: Duration,
}

/// Why a signal has reached nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalError {
    /// The child does not run.
    NotRunning,
    /// Nobody of the tree is in the terminal's foreground group.
    NoForeground,
    /// The kernel has refused it, for everybody who was to get it (kill(2)).
    Refused(i32),
}

/// What the I/O thread asks for.
#[derive(Debug)]
pub(crate) enum Command {
    /// Start a child; answered by [`Event::Spawned`] or [`Event::SpawnFailed`].
    Spawn {
        /// Names the child from now on.
        job: JobId,
        /// What to start and with which descriptors.
        spec: Box<SpawnSpec>,
        /// When to kill the tree of a run and say [`Event::TimedOut`].
        deadline: Option<Monotonic>,
        /// Whether anybody wants to hear of the start ([`Event::Spawned`]).
        announce: bool,
        /// Whether anybody may ask what it uses ([`Command::Count`]).
        counted: bool,
        /// What is written down of it, if there is a keeper.
        record: Option<RecordId>,
    },
    /// SIGKILL to the whole tree of a child that is being started, at that time; also to what its
    /// exit has left.
    KillAt {
        /// Which child.
        job: JobId,
        /// When.
        at: Monotonic,
    },
    /// SIGTERM, then SIGCONT, to the child's process group.
    Stop {
        /// Which child.
        job: JobId,
        /// SIGKILL to the tree this long after, if it still runs.
        grace: Option<Duration>,
    },
    /// SIGKILL to every descendant, repeated until none is left. Works on an exited child too.
    Kill {
        /// Which child.
        job: JobId,
    },
    /// A signal to some of a tree; answered by [`Event::Signalled`].
    Signal {
        /// Which child.
        job: JobId,
        /// Which signal, and to whom.
        request: SignalRequest,
        /// Names this request in the answer.
        ticket: u64,
    },
    /// Look now, and now and then, whether somebody of a tree listens on a TCP port; answered by
    /// [`Event::Port`], after the first look and when somebody does.
    WatchPort {
        /// Which child's.
        job: JobId,
        /// The port, not 0.
        port: u16,
        /// Names this request in the answers.
        watch: u64,
    },
    /// Nobody waits for that port any more.
    UnwatchPort {
        /// Which child's.
        job: JobId,
        /// Which request is over.
        watch: u64,
    },
    /// A question whether this thread works; answered by [`Event::Pong`].
    Ping,
    /// Find out what these have used; answered by [`Event::Used`].
    Count {
        /// Which children's trees.
        jobs: Vec<JobId>,
        /// Names this request in the answer.
        ticket: u64,
    },
    /// Nobody waits for that answer any more.
    Uncount {
        /// Which request is over.
        ticket: u64,
    },
    /// So long between SIGTERM and SIGKILL when the server ends, if it is not ending yet.
    ShutdownGrace(Duration),
    /// The server is to end, as for SIGTERM.
    ShutDown,
    /// Do nothing any more.
    Rest(Rest),
    /// Nobody will ask about this child again; what is left of its tree lives on.
    Forget {
        /// Which child.
        job: JobId,
    },
    /// The same of a run that has left nobody, as far as is known; who is found later is ended.
    RunIsOver {
        /// Which child.
        job: JobId,
    },
    /// The server has closed its side of the terminal that was made for this child, apart from
    /// `master`: with that its name is free for others.
    TerminalClosed {
        /// Which child.
        job: JobId,
        /// None if there was no descriptor left for a copy.
        master: Option<OwnedFd>,
    },
    /// [`Command::Kill`], then [`Command::Forget`].
    End {
        /// Which child.
        job: JobId,
    },
}

/// What the supervisor does nothing for: whether it can, it says at once.
#[derive(Debug)]
pub(crate) struct Rest {
    /// Where it says so, with what is due to happen to jobs. It cannot while a child is being started.
    pub begun: mpsc::Sender<Option<Vec<Due>>>,
    /// It goes on when the other end of this is gone.
    pub until: mpsc::Receiver<()>,
}

/// What the supervisor reports.
#[derive(Debug)]
pub(crate) enum Event {
    /// Each child gets a cgroup of its own from now on; or none does, and a sentence that says why
    /// and what that means. The first event, and another one if that changes.
    Groups(Result<(), String>),
    /// Which limits of trees can be kept; told before [`Event::Groups`], and again if that changes.
    Limits(KeptLimits),
    /// The program runs.
    Spawned {
        /// Which child.
        job: JobId,
        /// Its process id, also its session and group id.
        pid: i32,
    },
    /// There is no child.
    SpawnFailed {
        /// Which child.
        job: JobId,
        /// Why.
        error: SpawnError,
    },
    /// The direct child is gone and reaped; its last output is in its pipes.
    Exited {
        /// Which child.
        job: JobId,
        /// When that was seen.
        seen: Monotonic,
        /// How it ended.
        exit: Exit,
        /// How many others of its tree were alive then.
        left: u32,
    },
    /// Somebody of a run was found after it was over, and is being ended.
    FoundLate,
    /// How many of the tree of an exited child are alive, since that has changed.
    Left {
        /// Which child.
        job: JobId,
        /// How many; at least 1 as long as anybody is.
        left: u32,
    },
    /// A port has been looked at.
    Port {
        /// Which request it was about.
        watch: u64,
        /// Somebody listens there; it is looked at no longer.
        open: bool,
    },
    /// A signal has been sent, or has reached nobody.
    Signalled {
        /// Which request.
        ticket: u64,
        /// Why nobody got it.
        result: Result<(), SignalError>,
    },
    /// What trees have used, as far as they are known here.
    Used {
        /// Which request.
        ticket: u64,
        /// Each of them.
        used: Vec<(JobId, Used)>,
    },
    /// Somebody of a tree had to die because the tree may have no more memory.
    OutOfMemory {
        /// Which child's.
        job: JobId,
    },
    /// The deadline passed. The tree is dead, or has been refusing to die for a moment.
    TimedOut {
        /// Which child.
        job: JobId,
        /// How the direct child ended, if it has.
        status: Option<ExitStatus>,
    },
    /// The answer to [`Command::Ping`]: what has been counted.
    Pong(Box<SupervisorMetrics>),
    /// The server was told to end (SIGTERM, SIGINT): no new work.
    ShuttingDown,
    /// The number in the record of a job is not that of its first process: what is left of its tree is
    /// ended.
    Damaged {
        /// Of which job.
        job: JobId,
    },
    /// The server is to read its configuration again (SIGHUP).
    Reload,
    /// Another program is to take over (SIGUSR2).
    Upgrade,
    /// Every child and descendant is gone after [`Event::ShuttingDown`].
    AllGone,
}
