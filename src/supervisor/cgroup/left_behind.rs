//! Groups of a killed server: everybody in them is ended, and they are removed.
//!
//! In: where that server's groups are, and its lock. Out: how many processes there were. Never
//! touches a group whose server lives.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use super::group::{is_populated, kill};
use super::members::{DEPTH_MAX, members, members_below};
use super::ours::{self, remove_with_children};
use super::{aside, limited};

/// Ends everybody in the groups that a killed server left at `path` and beside it, and removes them.
///
/// Returns how many there were. Never touches a group whose server lives. `lock` takes the lock of
/// that server, or says that it cannot be had; `kill_members` is for those whom the group does not
/// reach.
pub(crate) fn end_left_behind(
    path: &Path,
    lock: impl Fn(&File) -> bool,
    kill_members: &dyn Fn(Vec<i32>),
) -> usize {
    let limited = limited::beside(path);
    let both = [&*limited, path].map(|path| end_in(path, &lock, kill_members));
    aside::remove_left_behind(path);
    both.iter().sum()
}

fn end_in(path: &Path, lock: &impl Fn(&File) -> bool, kill_members: &dyn Fn(Vec<i32>)) -> usize {
    let Ok(dir) = File::open(path) else {
        return 0;
    };
    if !path.file_name().is_some_and(ours::is_name) || !lock(&dir) {
        return 0;
    }
    let Ok(events) = File::open(path.join("cgroup.events")) else {
        return 0;
    };
    let members = members(path);
    // A second at most: what cannot die in that time does so when it can.
    for pass in 0..200 {
        if !is_populated(events.as_fd()) {
            break;
        }
        let _ = kill(dir.as_fd());
        if pass > 1 {
            // As in `Group::members`.
            let mut pids = Vec::new();
            members_below(dir.as_fd(), DEPTH_MAX, &mut pids);
            kill_members(pids);
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    remove_with_children(path);
    members
}
