//! How servers that live are known to others.
//!
//! In: nothing. Out: a lock that this process holds as long as it lives, and the processes that hold
//! such a lock now. A name would not do: a binary can have any.
//!
//! The lock is a record lock (fcntl(2)) at an offset that nobody else uses, on a file of the
//! server's own. The kernel drops it with the process and shows in `/proc/locks` who holds it.
//!
//! # Safety
//! One call of fcntl(2) with a structure that is whole, which rustix offers for whole files only.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::tree::procfs;
use crate::config::timeouts;

/// Where the lock is: "procring" in ASCII, as a number.
const OFFSET: i64 = i64::from_be_bytes(*b"procring");

/// Between two tries to take a lock.
const PAUSE: Duration = Duration::from_millis(5);

/// Two constants as wide as the structure has them.
#[expect(clippy::cast_possible_truncation, reason = "it is 1")]
const WRITE_LOCK: libc::c_short = libc::F_WRLCK as libc::c_short;
#[expect(clippy::cast_possible_truncation, reason = "it is 0")]
const FROM_START: libc::c_short = libc::SEEK_SET as libc::c_short;

/// The lock of this process; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Living(#[allow(dead_code)] memfd::Memfd);

impl Living {
    /// Takes it.
    ///
    /// # Errors
    /// When there is no memfd, or no lock to be had.
    pub(crate) fn begin() -> io::Result<Self> {
        let create = memfd::MemfdOptions::new().create("procring-living");
        let memfd = create.map_err(io::Error::other)?;
        // SAFETY: all zeros is a valid value of this structure of integers; the descriptor is open
        // and the structure outlives the call.
        let result = unsafe {
            let mut lock: libc::flock = std::mem::zeroed();
            lock.l_type = WRITE_LOCK;
            lock.l_whence = FROM_START;
            lock.l_start = OFFSET;
            lock.l_len = 1;
            libc::fcntl(memfd.as_file().as_raw_fd(), libc::F_SETLK, &lock)
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(memfd))
    }
}

/// Servers that live.
#[derive(Debug)]
pub(crate) struct Servers(HashSet<i32>);

impl Servers {
    /// Those of this moment; None where the kernel does not tell.
    pub(crate) fn now() -> Option<Self> {
        Some(Self::in_locks(&fs::read_to_string("/proc/locks").ok()?))
    }

    /// A newborn that still shares the descriptor table of a killed server holds its lock, under that
    /// one's pid.
    fn in_locks(locks: &str) -> Self {
        let lives = |pid: &i32| procfs::stat(*pid).is_some_and(|stat| stat.is_alive());
        Self(locks.lines().filter_map(holder).filter(lives).collect())
    }

    /// Whether this process is one.
    pub(crate) fn include(&self, pid: i32) -> bool {
        self.0.contains(&pid)
    }

    /// Whether one of them is the process or an ancestor of it.
    pub(crate) fn include_ancestor_of(&self, mut pid: i32) -> bool {
        while pid > 0 {
            if self.include(pid) {
                return true;
            }
            pid = procfs::stat(pid).map_or(0, |stat| stat.parent);
        }
        false
    }
}

/// Who holds the lock of a line of proc_locks(5), if it is one of ours:
/// `1: POSIX  ADVISORY  WRITE 4711 00:01:1234 START END`.
fn holder(line: &str) -> Option<i32> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    if fields.next() != Some("POSIX") {
        return None;
    }
    let pid = fields.nth(2)?.parse().ok()?;
    let start: i64 = fields.nth(1)?.parse().ok()?;
    let end: i64 = fields.next()?.parse().ok()?;
    (start == OFFSET && end == OFFSET).then_some(pid)
}

/// Takes the lock of a server. Children that were on their way to exec when it was killed hold it
/// a moment longer than the server: it is waited for while `is_dead`, for
/// [`timeouts::NEWBORN_MAX`] at most.
pub(crate) fn lock(file: impl AsFd, is_dead: impl Fn() -> bool) -> bool {
    let until = Instant::now() + timeouts::NEWBORN_MAX;
    loop {
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return true;
        }
        if Instant::now() >= until || !is_dead() {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_by_its_lock_and_so_are_its_children() {
        let lock = Living::begin().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let servers = Servers::now().unwrap();
        assert!(servers.include_ancestor_of(std::process::id() as i32));
        assert!(servers.include_ancestor_of(child.id() as i32));
        assert!(!servers.include_ancestor_of(1));
        drop(lock);
        let servers = Servers::now().unwrap();
        assert!(!servers.include_ancestor_of(child.id() as i32));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_lock_that_outlives_its_server_is_nobodys() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let [dead, own] = [child.id(), std::process::id()].map(u32::cast_signed);
        let line = |pid| format!("1: POSIX  ADVISORY  WRITE {pid} 00:01:99 {OFFSET} {OFFSET}\n");
        let servers = Servers::in_locks(&(line(dead) + &line(own)));
        assert_eq!(servers.0, HashSet::from([own]));
    }

    #[test]
    fn only_such_a_lock_is_taken_for_one() {
        let at = |start: &str, end: &str| {
            format!("3: POSIX  ADVISORY  WRITE 4711 00:01:99 {start} {end}")
        };
        let offset = OFFSET.to_string();
        assert_eq!(holder(&at(&offset, &offset)), Some(4711));
        assert_eq!(holder(&at("0", "EOF")), None);
        assert_eq!(holder(&at("0", &offset)), None);
        assert_eq!(
            holder("4: FLOCK  ADVISORY  WRITE 4711 00:01:99 0 EOF"),
            None
        );
        assert_eq!(holder(&format!("4: -> {}", at(&offset, &offset))), None);
        assert_eq!(holder(""), None);
    }
}
