//! Groups that outlive the server that has made them: a keeper's next server, or the program that takes
//! this one's place, goes on with them.
//!
//! In: numbers of groups that are written down, or a directory that was handed over. Out: the same
//! groups, and what nobody has taken over is removed once it is empty.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::bounds::Bounds;
use super::error::{CgroupError, Hidden};
use super::group::{Group, Home, boxed};
use super::handing_on::HandingOn;
use super::limits::Limits;
use super::place::Place;
use super::{Cgroups, aside};
use crate::ledger::heritage::Groups as Handed;

impl Cgroups {
    /// The server has a keeper, which goes where it goes.
    pub(crate) fn with_keeper(keeper: i32) {
        aside::with_keeper(keeper);
    }

    /// The group with this number, which a server that is gone has taken, and whether it has bounds;
    /// None if it is gone. It is not used again: of its bounds only that of memory is known.
    pub(crate) fn take_over(&mut self, number: u64) -> Option<(Arc<Group>, bool)> {
        self.made = self.made.max(number);
        let open = |home: &Home| Group::open(home, number.to_string(), Bounds::default()).ok();
        let free = open(&self.home).map(|group| (group, false));
        let found = free.or_else(|| Some((open(&self.limited.there()?)?, true)));
        let (mut group, is_limited) = found?;
        if is_limited {
            group.bounds = boxed(Bounds {
                memory: group.memory_max(),
                ..Bounds::default()
            });
        }
        group.killed.store(true, Ordering::Relaxed);
        self.open += 1;
        Some((Arc::new(group), is_limited))
    }

    /// Groups that a server which is gone had besides those that were taken over are removed as soon
    /// as nobody lives in them.
    pub(crate) fn abandon_others(&mut self) {
        for home in [Some(self.home.clone()), self.limited.there()]
            .into_iter()
            .flatten()
        {
            let entries = fs::read_dir(&home.path).into_iter().flatten().flatten();
            let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            for name in names {
                if let Ok(number) = name.parse::<u64>() {
                    self.made = self.made.max(number);
                    self.abandoned.push_back((home.clone(), name));
                }
            }
        }
    }

    /// What another program needs to go on with them.
    pub(crate) fn hand_over(&self) -> Handed {
        Handed {
            dir: self.home.dir.as_raw_fd(),
            path: self.home.path.as_os_str().as_bytes().to_vec(),
        }
    }

    /// Goes on with the groups that a server of this process has made, whose directory is this one. Of
    /// those in them [`Cgroups::take_over`] and [`Cgroups::abandon_others`] know.
    ///
    /// # Errors
    /// Why there can be none.
    pub(crate) fn again(dir: OwnedFd, path: PathBuf, open_max: usize) -> Result<Self, CgroupError> {
        let place = Place::own().ok_or(CgroupError::NotMounted)?;
        let parent = path.parent().unwrap_or(&path).to_owned();
        let name = path.file_name().unwrap_or_default();
        aside::with_keeper(std::process::id().cast_signed());
        let mut groups = Self::of(name.to_string_lossy().into(), dir, path, open_max);
        let limits = Limits::of(&parent, &place.top);
        if limits.is_some() {
            match HandingOn::begin(limits, &parent, &groups.path()) {
                Ok(handing_on) => groups.hand_on(handing_on),
                Err(refusal) => groups.hidden = Some(Box::new(Hidden { limits, refusal })),
            }
        }
        Ok(groups)
    }

    /// No group is open any more, for a server that begins when another one has.
    pub(crate) fn rest(&mut self) {
        self.open -= self.idle.len();
        for group in std::mem::take(&mut self.idle) {
            self.remove(&group.home, group.name.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::super::limited::Limited;
    use super::super::testing;
    use super::*;

    #[test]
    fn a_limited_group_that_is_taken_over_still_says_that_its_memory_has_a_bound() {
        let tree = testing::Tree::new("taken");
        let children = tree.group("procring-1-0");
        let at = |group: &str, max: &str| {
            tree.group(group);
            tree.write(&format!("{group}/cgroup.events"), "populated 1\nfrozen 0\n");
            tree.write(&format!("{group}/memory.max"), max);
        };
        at("procring-1-0-limited/5", "67108864\n");
        at("procring-1-0-limited/6", "max\n");
        at("procring-1-0/7", "4096\n");
        let dir = File::open(&children).unwrap().into();
        let mut groups = Cgroups::of("procring-1-0".to_owned(), dir, children.clone(), 9);
        let limited = Limited::new(tree.top(), &children, Limits::default(), true);
        *groups.limited = limited;
        let mut taken = |number| {
            let (group, is_limited) = groups.take_over(number)?;
            Some((is_limited, group.bounds_memory()))
        };
        assert_eq!(taken(5), Some((true, true)));
        assert_eq!(taken(6), Some((true, false)));
        assert_eq!(taken(7), Some((false, false)));
        assert_eq!(taken(9), None);
        assert_eq!(groups.made, 9, "no number comes again");
    }
}
