//! What the supervisor knows of one child.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::kill::Tree;
use crate::types::ExitStatus;

/// Where a child is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Running,
    Exited(ExitStatus),
}

/// Kill requested, not yet done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    /// Between the next pass and the one after.
    pub(super) pause: Duration,
    /// When the next pass is due.
    pub(super) next: Instant,
}

/// One child and its tree.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) phase: Phase,
    pub(super) tree: Tree,
    pub(super) pidfd: Option<Arc<OwnedFd>>,
    pub(super) ending: Option<Ending>,
    /// SIGTERM was asked for before there was a process.
    pub(super) stop_pending: bool,
    /// Counted in the supervisor as one whose start is waited for.
    pub(super) hasty: bool,
    /// The deadline has passed; its exit is reported as a timeout.
    pub(super) timed_out: bool,
    pub(super) answered: bool,
    pub(super) forgotten: bool,
}

impl Job {
    /// A child that is about to be started.
    pub(super) fn new(tree: Tree) -> Self {
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
