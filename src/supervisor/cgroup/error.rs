//! Why there are no cgroups to be had, in words for who starts the server.

use std::path::PathBuf;
use std::{fmt, io};

use super::aside::Refusal;
use super::limits::Limits;

/// Why there are no cgroups to be had.
#[derive(Debug)]
pub enum CgroupError {
    /// No version 2 hierarchy is mounted, or the server is outside of what is.
    NotMounted,
    /// The kernel has no `cgroup.kill` (before 5.14).
    NoKill,
    /// A child cannot be born in a group, or does not survive it.
    NoBirth,
    /// Children would not see limits that the server has.
    HidesLimits(Box<Hidden>),
    /// The server's own group cannot be made or opened.
    Refused {
        /// The directory it would be in.
        parent: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
}

impl fmt::Display for CgroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CgroupError::NotMounted => f.write_str("no cgroup v2 hierarchy is mounted here"),
            CgroupError::NoKill => f.write_str("this kernel has no cgroup.kill (5.14)"),
            CgroupError::NoBirth => {
                f.write_str("no child can be started in a group; likely a seccomp profile")
            }
            CgroupError::HidesLimits(hidden) => write!(
                f,
                "it would hide {hidden}; alone in a delegated group the server could, and \
                 --cgroup on hides them"
            ),
            CgroupError::Refused { parent, error } => write!(
                f,
                "no group can be made in {}: {error}; likely mounted read-only or not delegated",
                parent.display()
            ),
        }
    }
}

impl std::error::Error for CgroupError {}

/// Limits that children in groups of their own do not see.
#[derive(Debug)]
pub struct Hidden {
    pub(super) limits: Limits,
    pub(super) refusal: Refusal,
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limits, refusal } = self;
        write!(
            f,
            "{limits} from commands, which cannot be handed on: {refusal}"
        )
    }
}
