//! Who is in a group and in those that its members made below it.
//!
//! In: a group, as a descriptor or a path. Out: numbers of processes, or how many there are. Members
//! may have made any number of groups, one in the other, so every walk has a bound.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, openat};

/// Groups within a job's group that are looked into, one below the other.
pub(super) const DEPTH_MAX: u32 = 16;

/// Groups below a job's own that are looked into or removed in one go.
pub(super) const AT_ONCE_MAX: usize = 256;

/// Adds the members of the group `dir` and of those below it.
pub(super) fn members_below(dir: BorrowedFd<'_>, depth: u32, pids: &mut Vec<i32>) {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut text = String::new();
    if let Ok(file) = openat(dir, "cgroup.procs", flags, Mode::empty()) {
        // In part read, in part unreadable: who is missed is met later.
        if File::from(file).read_to_string(&mut text).is_err() {
            threads_in(dir, pids);
        }
    }
    pids.extend(text.lines().filter_map(|pid| pid.parse::<i32>().ok()));
    if depth == 0 {
        return;
    }
    let entries = rustix::fs::Dir::read_from(dir).into_iter().flatten();
    for entry in entries.flatten() {
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory
            && !matches!(name.to_bytes(), b"." | b"..")
            && let Ok(below) = openat(
                dir,
                name,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
        {
            members_below(below.as_fd(), depth - 1, pids);
        }
    }
}

/// Adds the threads in the group `dir`: a member may have made it one of threads (`cgroup.type`), for
/// which there is neither `cgroup.kill` nor a list of processes. The number of a process is that of
/// its first thread, and nobody can be opened by the number of another one.
fn threads_in(dir: BorrowedFd<'_>, pids: &mut Vec<i32>) {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut text = String::new();
    if let Ok(file) = openat(dir, "cgroup.threads", flags, Mode::empty()) {
        let _ = File::from(file).read_to_string(&mut text);
    }
    pids.extend(text.lines().filter_map(|thread| thread.parse::<i32>().ok()));
}

/// How many processes are in the group at `path` and those below, of more than a few hundred at
/// least so many.
pub(super) fn members(path: &Path) -> usize {
    let list = |group: &PathBuf| fs::read_to_string(group.join("cgroup.procs"));
    let groups = Below::of(path).take(AT_ONCE_MAX);
    groups
        .map(|group| list(&group).map_or(0, |list| list.lines().count()))
        .sum()
}

/// A group and those below it, each after the one that it is in. Members may have made any number,
/// one in the other: this keeps a list, not a stack frame for each.
pub(super) struct Below(Vec<PathBuf>);

impl Below {
    pub(super) fn of(path: &Path) -> Self {
        Self(vec![path.to_owned()])
    }
}

impl Iterator for Below {
    type Item = PathBuf;

    fn next(&mut self) -> Option<PathBuf> {
        let path = self.0.pop()?;
        let entries = fs::read_dir(&path).into_iter().flatten().flatten();
        let groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        self.0.extend(groups.map(|entry| entry.path()));
        Some(path)
    }
}
