//! Whether children get cgroups, and what it means if they do not.
//!
//! In: what the start decided. Out: the groups, or [`Event::Groups`] with a sentence that says why
//! there are none. How groups are made is `cgroup`'s.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use super::Supervisor;
use super::cgroup::{Bounds, Cgroups, Group, IfHiding, LimitedError};
use super::message::Event;
use crate::types::{KeptLimits, SpawnError, SpawnStage};

/// Where children's cgroups come from.
#[derive(Debug)]
pub(crate) enum Groups {
    /// They are there.
    Made(Box<Cgroups>),
    /// There are none, for this reason.
    None(String),
    /// The supervisor makes them when it begins, if they are to be had: it takes as long as the
    /// rest of the start, and nobody has to wait for it.
    AtBegin {
        /// As for [`Cgroups::new`].
        open_max: usize,
    },
}

/// How sure the end of a tree is depends on it (docs/security.md).
fn without(why: &dyn Display) -> String {
    let how = if Path::new("/proc/self/stat").exists() {
        "trees are ended by a search of /proc, which a process that hides on purpose escapes until \
         the server ends"
    } else {
        "without /proc, too, only the process group of a tree's first process is ended"
    };
    format!("no cgroup for each process ({why}): {how}")
}

impl Supervisor {
    /// Has the groups, or tells why there are none.
    pub(crate) fn begin_groups(&mut self, groups: Groups) {
        let groups = match groups {
            Groups::Made(groups) => Ok(*groups),
            Groups::None(why) => Err(without(&why)),
            Groups::AtBegin { open_max } => {
                Cgroups::new(open_max, IfHiding::Refuse).map_err(|error| without(&error))
            }
        };
        let told = groups.as_ref().map(|_| ()).map_err(Clone::clone);
        let kept = match &groups {
            Ok(groups) => groups.kept().clone(),
            Err(_) => KeptLimits::none("that takes a cgroup for each process"),
        };
        self.cgroups = groups.ok();
        self.events.send(Event::Limits(kept));
        self.events.send(Event::Groups(told));
    }

    /// A group for a tree with these bounds; None if it has none and there is no group. What the
    /// tree uses may be asked for if it is `counted`.
    ///
    /// # Errors
    /// When its bounds cannot be kept.
    pub(crate) fn group_for(
        &mut self,
        bounds: &Bounds,
        counted: bool,
    ) -> Result<Option<Arc<Group>>, SpawnError> {
        let cgroups = self.cgroups.as_mut();
        if bounds.is_empty() {
            return Ok(cgroups.and_then(Cgroups::take));
        }
        let unkept = |errno| SpawnError {
            stage: SpawnStage::Group,
            errno,
        };
        let cgroups = cgroups.ok_or(unkept(0))?;
        let before = cgroups.kept().clone();
        let taken = cgroups.take_limited(bounds, counted);
        if *cgroups.kept() != before {
            self.events.send(Event::Limits(cgroups.kept().clone()));
        }
        match taken {
            Ok(group) => Ok(Some(group)),
            Err(LimitedError::Unkept) => Err(unkept(0)),
            Err(LimitedError::NoGroup(error)) => {
                Err(unkept(error.raw_os_error().unwrap_or(libc::EIO)))
            }
        }
    }

    /// A child could not be born in its group. Tells when no more are tried.
    pub(crate) fn group_refused(&mut self, group: Arc<Group>) {
        if let Some(cgroups) = &mut self.cgroups
            && cgroups.refused(group)
        {
            let why = "too many children could not be started in one";
            self.events.send(Event::Groups(Err(without(&why))));
        }
    }
}
