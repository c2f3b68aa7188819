//! What a server holds, as the kernel counts it: descriptors, threads, children, log memory.
//!
//! In: a running server. Out: counts to compare before and after. Knows nothing of the server
//! but the name of its log memfd and where the runtime keeps cgroups.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Server, eventually, procfs};

/// Memory that freed log slots may keep: 64 slots of 64 KiB (src/log/arena.rs).
const ARENA_KEPT_KIB: u64 = 64 * 64;

/// Descriptors of cgroups that wait for the next process; a bounded number is kept.
const KEPT_GROUP_DESCRIPTORS_MAX: usize = 200;

/// Spawner threads that may be more, or fewer, than before.
const SPAWNERS: usize = 4;

/// So long nothing may change at rest; longer than the server takes to give slots back (a second).
const REST: Duration = Duration::from_millis(1100);

/// What a server holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Books {
    /// Open descriptors, those of kept cgroups not counted.
    pub(crate) descriptors: usize,
    /// Descriptors of cgroups, in use or kept for the next process.
    pub(crate) groups: usize,
    pub(crate) threads: usize,
    /// Direct children, living or zombies.
    pub(crate) children: usize,
    pub(crate) zombies: usize,
    /// Connections that are not closed by both sides.
    pub(crate) connections: usize,
    /// Memory in the log memfd, KiB.
    pub(crate) arena_kib: u64,
    /// Resident memory of the server's own, the arena not counted, KiB.
    pub(crate) private_kib: u64,
}

impl Books {
    pub(crate) fn of(server: &Server) -> Self {
        let own = PathBuf::from(format!("/proc/{}", server.pid));
        let links: Vec<(PathBuf, PathBuf)> = entries(&own.join("fd"))
            .filter_map(|link| Some((std::fs::read_link(&link).ok()?, link)))
            .collect();
        let groups = links
            .iter()
            .filter(|(to, _)| to.starts_with("/sys/fs/cgroup"))
            .count();
        let arena = links
            .iter()
            .find(|(to, _)| to.starts_with("/memfd:procring-log (deleted)"));
        // `st_blocks` counts 512 bytes each, whatever the page size (inode(7)).
        let arena_kib = arena
            .and_then(|(_, link)| std::fs::metadata(link).ok())
            .map_or(0, |file| file.blocks() / 2);
        Self {
            descriptors: links.len() - groups,
            groups,
            threads: entries(&own.join("task")).count(),
            children: procfs::children_of(server.pid).len(),
            zombies: procfs::zombies_of(server.pid).len(),
            connections: server.connections(),
            arena_kib,
            private_kib: procfs::kib(server.pid, "RssAnon"),
        }
    }

    /// What it holds once nothing changes any more and no connection is open.
    #[track_caller]
    pub(crate) fn at_rest(server: &Server) -> Self {
        let mut last = None;
        eventually("a server at rest", || {
            std::thread::sleep(REST);
            let now = Self::of(server);
            let same = last.replace(now.clone()).is_some_and(|last| last == now);
            (same && now.connections == 0).then_some(now)
        })
    }

    /// Waits until the server holds what it held before, in `self`: of log memory at most what
    /// freed slots may keep besides, of its own at most `growth_kib` more. Gives what it holds then.
    #[track_caller]
    pub(crate) fn await_balance(&self, server: &Server, growth_kib: u64) -> Self {
        let mut seen = self.clone();
        let what = format!("the books to balance: {self:?} before");
        // Shown only where the test fails.
        eprintln!("{what}");
        eventually(&what, || {
            let now = Self::of(server);
            if now != seen {
                eprintln!("{now:?}");
                seen = now.clone();
            }
            let even = now.descriptors <= self.descriptors
                && now.groups < KEPT_GROUP_DESCRIPTORS_MAX.max(self.groups + 1)
                && now.threads <= self.threads + SPAWNERS
                && now.children <= self.children
                && now.zombies == 0
                && now.connections <= self.connections
                && now.arena_kib <= self.arena_kib + ARENA_KEPT_KIB
                && now.private_kib <= self.private_kib + growth_kib;
            even.then_some(now)
        })
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}
