//! What the supervisor knows of one child.

use std::time::{Duration, Instant};

use crate::ledger::RecordId;
use crate::supervisor::memory::Kills;
use crate::supervisor::reap::Reaped;
use crate::supervisor::tree::Tree;
use crate::supervisor::tree::identity::Leader;
use crate::supervisor::tree::walk::Walk;
use crate::types::{ExitReason, ExitStatus};

/// Where a child is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Running,
    Exited(ExitStatus),
}

/// Kill requested, not yet done.
#[derive(Debug)]
pub(crate) struct Ending {
    /// Between the next pass and the one after.
    pub(crate) pause: Duration,
    /// When the next pass is due.
    pub(crate) next: Instant,
    /// Passes so far.
    pub(crate) passes: u32,
    pub(crate) pass: Pass,
}

/// One pass over a tree. A group is enough to kill by; without one the orphans are looked at. Before
/// a tree is called gone there is a look at all children of the server, group or not.
#[derive(Debug)]
pub(crate) enum Pass {
    /// The last one is over, or there was none.
    Over,
    /// Those that the leader led to are killed.
    Walking {
        walk: Walk,
        /// The leader had ended when this pass began.
        whole: bool,
    },
    /// A look is under way or will be.
    Looking {
        number: u64,
        /// As far as this pass has met nobody and missed nobody.
        whole: bool,
    },
    /// Those that the look has shown are killed.
    Gathering { walk: Walk },
}

/// One child and its tree.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) phase: Phase,
    pub(crate) tree: Tree,
    /// What is written down of it, if there is a keeper.
    pub(crate) record: Option<RecordId>,
    /// The child, from exec until it is reaped.
    pub(crate) leader: Option<Leader>,
    /// Boxed, because few jobs are being ended at a time.
    pub(crate) ending: Option<Box<Ending>>,
    /// SIGTERM was asked for before there was a process.
    pub(crate) stop_pending: bool,
    /// Counted in the supervisor as one whose start is waited for.
    pub(crate) hasty: bool,
    /// The timeout of a run has passed; its exit is reported as a timeout.
    pub(crate) timed_out: bool,
    pub(crate) answered: bool,
    /// Why it is being ended, where its exit is to say so.
    pub(crate) reason: Option<ExitReason>,
    /// What those of its tree have used whom the server has reaped.
    pub(crate) reaped: Reaped,
    /// Whom of it the kernel has killed for want of memory.
    pub(crate) kills: Kills,
    pub(crate) forgotten: bool,
    /// Signals that are due later, a bit each: the lowest is signal 1.
    pub(crate) escalations: u64,
}

impl Job {
    /// A child that is about to be started.
    pub(crate) fn new(tree: Tree) -> Self {
        Self {
            phase: Phase::Starting,
            tree,
            record: None,
            leader: None,
            ending: None,
            stop_pending: false,
            hasty: false,
            timed_out: false,
            answered: false,
            reason: None,
            reaped: Reaped::default(),
            kills: Kills::default(),
            forgotten: false,
            escalations: 0,
        }
    }
}
