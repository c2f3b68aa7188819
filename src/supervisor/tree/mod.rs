//! Who belongs to the tree of a child, and how it is ended.
//!
//! In: /proc, the marks and groups that children were born with. Out: who was found, and signals
//! to them. Knows no queue, no deadline and no message.
//!
//! - [`identity`]: what a process is; the only place that signals those of trees.
//! - [`claims`]: which tree an orphan is of. [`mark`]: what its members carry.
//! - [`sockets`]: which ports its members listen on.
//! - [`orphans`]: looks at the server's children, in steps. [`walk`]: kills, in steps.

use std::sync::Arc;

use self::claims::FileId;
use self::mark::Mark;
use crate::supervisor::cgroup::{Group, Processor};

pub(crate) mod claims;
pub(crate) mod identity;
pub(crate) mod mark;
pub(crate) mod orphans;
pub(crate) mod procfs;
pub(crate) mod sockets;
pub(crate) mod walk;

/// What a tree is known by.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The leader's pid, also its session and group; 0 before there is one. A number only: see
    /// [`claims`] for how long it is the tree's.
    pub(crate) session: i32,
    /// What its members carry.
    pub(crate) mark: Mark,
    /// Pipes and the terminal that were made for it.
    pub(crate) files: Vec<FileId>,
    /// The cgroup that only this tree is in.
    pub(crate) group: Option<Arc<Group>>,
    /// What that group had counted before, if anybody may ask what this tree uses.
    pub(crate) used_before: Option<Processor>,
}
