//! Groups that servers have made, among others' beside them.
//!
//! In: the group that a server was started in. Out: what killed servers left there is gone. A name
//! proves nothing, since others may call theirs procring-something, too: a server marks what it
//! makes with an extended attribute (xattr(7)), which is in no text that anybody copies. The lock
//! says that it is gone.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, XattrFlags, fgetxattr, flock, fsetxattr};

use super::members::Below;
use super::{aside, limited};

/// What the names of the servers' own groups begin with.
pub(super) const PREFIX: &str = "procring-";

/// The attribute. Whoever may make groups may set it (kernel 5.7).
const MARK: &str = "user.procring";

/// Marks a group as a server's, which holds it: locked, or in it. Where that is refused, it stays
/// behind if the server is killed.
pub(super) fn mark(group: impl AsFd) {
    let _ = fsetxattr(group, MARK, b"1", XattrFlags::empty());
}

fn is_marked(group: impl AsFd) -> bool {
    fgetxattr(group, MARK, &mut [0_u8; 0][..]).is_ok()
}

/// Whether a server gives such a name to a group beside its own: the prefix, two numbers, and perhaps
/// what it is for.
pub(super) fn is_name(name: &OsStr) -> bool {
    let name = name.to_str().unwrap_or_default();
    let mut suffixes = [limited::SUFFIX, aside::SUFFIX].into_iter();
    let plain = suffixes.find_map(|suffix| name.strip_suffix(suffix));
    let numbers = plain.unwrap_or(name).strip_prefix(PREFIX);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    numbers
        .and_then(|numbers| numbers.split_once('-'))
        .is_some_and(|(pid, n)| is_number(pid) && is_number(n))
}

/// Removes what killed servers left in `parent` and nobody lives in; the groups that somebody does.
pub(super) fn remove_stale(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let named = entries.filter(|entry| is_name(&entry.file_name()));
    let mut stale: Vec<PathBuf> = named.map(|entry| entry.path()).collect();
    stale.retain(|group| stays(group) == Some(true));
    stale
}

/// Tries the same with one of them again; whether it stays, None if it is none.
pub(super) fn stays(group: &Path) -> Option<bool> {
    let dir = File::open(group).ok().filter(|dir| is_marked(dir))?;
    flock(&dir, FlockOperation::NonBlockingLockExclusive).ok()?;
    remove_with_children(group);
    Some(group.exists())
}

/// Removes the groups in `path` and then itself; those with members stay.
pub(super) fn remove_with_children(path: &Path) {
    let groups: Vec<PathBuf> = Below::of(path).collect();
    for group in groups.iter().rev() {
        let _ = fs::remove_dir(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::cgroup::testing::Tree;

    #[test]
    fn only_what_a_server_has_made_is_removed() {
        let tree = Tree::new("stale");
        let of_servers = [
            "procring-1-0",
            "procring-4194303-1023-limited",
            "procring-7-0-server",
        ];
        let others = [
            "procring-web",
            "procring-1",
            "procring-1-0-backup",
            "procring-1-x",
            "procring--1",
            "procring-1-0-limited-server",
            "procring-1.service",
        ];
        for name in of_servers.iter().chain(&others) {
            let group = File::open(tree.group(name)).unwrap();
            mark(&group);
            if !is_marked(&group) {
                // This file system has no such attributes, as a real hierarchy has.
                return;
            }
        }
        // The same name, made by somebody else.
        tree.group("procring-8-0/within");
        tree.group("procring-1-0/3");
        let held = File::open(tree.group("procring-9-0")).unwrap();
        mark(&held);
        flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        remove_stale(tree.top());
        for name in of_servers {
            assert!(!tree.top().join(name).exists(), "{name}");
        }
        for name in others
            .iter()
            .chain(&["procring-8-0/within", "procring-9-0"])
        {
            assert!(tree.top().join(name).exists(), "{name}");
        }
    }
}
