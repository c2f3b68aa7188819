//! What the I/O thread and the supervisor say to each other.
//!
//! In: a request's consequences, or what became of a child. Out: the same, on the other thread
//! ([`mailbox`]). Knows no queue and no descriptor.
//!
//! [`mailbox`]: crate::supervisor::mailbox

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

pub use crate::supervisor::spawn::spec::SpawnSpec;
use crate::types::{ExitStatus, JobId, SpawnError};

/// What the I/O thread asks for.
#[derive(Debug)]
pub enum Command {
    /// Start a child; answered by [`Event::Spawned`] or [`Event::SpawnFailed`].
    Spawn {
        /// Names the child from now on.
        job: JobId,
        /// What to start and with which descriptors.
        spec: Box<SpawnSpec>,
        /// When to kill its tree and say [`Event::TimedOut`].
        deadline: Option<Instant>,
        /// Whether anybody wants to hear of the start ([`Event::Spawned`]).
        announce: bool,
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
    /// Nobody will ask about this child again; what is left of its tree lives on.
    Forget {
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

/// What the supervisor reports.
#[derive(Debug)]
pub enum Event {
    /// Each child gets a cgroup of its own from now on; or none does, and a sentence that says why
    /// and what that means. The first event, and another one if that changes.
    Groups(Result<(), String>),
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
        /// How it ended.
        status: ExitStatus,
        /// How many others of its tree were alive then.
        left: u32,
    },
    /// How many of the tree of an exited child are alive, since that has changed.
    Left {
        /// Which child.
        job: JobId,
        /// How many; at least 1 as long as anybody is.
        left: u32,
    },
    /// The deadline passed. The tree is dead, or has been refusing to die for a moment.
    TimedOut {
        /// Which child.
        job: JobId,
        /// How the direct child ended, if it has.
        status: Option<ExitStatus>,
    },
    /// The server was told to end (SIGTERM, SIGINT): no new work.
    ShuttingDown,
    /// Every child and descendant is gone after [`Event::ShuttingDown`].
    AllGone,
}
