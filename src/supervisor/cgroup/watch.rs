//! News of `memory.events`: one inotify(7) descriptor for all groups whose memory has a bound.
//!
//! In: groups. Out: a number for each, under which changes of that file are told. A group keeps its
//! watch for as long as it is there, however often it is used.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::Group;

/// See the module.
#[derive(Debug)]
pub(crate) struct Watcher(OwnedFd);

impl Watcher {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(inotify::init(
            CreateFlags::CLOEXEC | CreateFlags::NONBLOCK,
        )?))
    }

    /// What to wait for.
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.0
    }

    /// The watch of a group, made if it has none.
    pub(super) fn watch(&self, group: &Group) -> Option<i32> {
        if let Some(watch) = group.watch.get() {
            return Some(*watch);
        }
        let file = group.path().join("memory.events");
        let watch = inotify::add_watch(&self.0, file, WatchFlags::MODIFY).ok()?;
        Some(*group.watch.get_or_init(|| watch))
    }

    /// A group is about to go.
    pub(super) fn unwatch(&self, group: &Group) {
        if let Some(watch) = group.watch.get() {
            let _ = inotify::remove_watch(&self.0, *watch);
        }
    }

    /// The numbers of those that have changed, each once.
    pub(crate) fn changed(&self) -> Vec<i32> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        let mut changed = Vec::new();
        // Ends when there is nothing more.
        while let Ok(event) = reader.next() {
            changed.push(event.wd());
        }
        changed.sort_unstable();
        changed.dedup();
        changed
    }
}
