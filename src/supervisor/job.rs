//! What the supervisor knows of one child.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::supervisor::tree::kill::Tree;
use crate::types::ExitStatus;

/// Where a child is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Running,
    Exited(ExitStatus),
}

/// Kill requested, not yet done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    /// Between the next pass and the one after.
    pub(crate) pause: Duration,
    /// When the next pass is due.
    pub(crate) next: Instant,
}

/// One child and its tree.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) phase: Phase,
    pub(crate) tree: Tree,
    pub(crate) pidfd: Option<Arc<OwnedFd>>,
    pub(crate) ending: Option<Ending>,
    /// SIGTERM was asked for before there was a process.
    pub(crate) stop_pending: bool,
    /// Counted in the supervisor as one whose start is waited for.
    pub(crate) hasty: bool,
    /// The deadline has passed; its exit is reported as a timeout.
    pub(crate) timed_out: bool,
    pub(crate) answered: bool,
    pub(crate) forgotten: bool,
}

impl Job {
    /// A child that is about to be started.
    pub(crate) fn new(tree: Tree) -> Self {
        Self {
            phase: Phase::Starting,
            tree,
            pidfd: None,
            ending: None,
            stop_pending: false,
            hasty: false,
            timed_out: false,
            answered: false,
            forgotten: false,
        }
    }
}
