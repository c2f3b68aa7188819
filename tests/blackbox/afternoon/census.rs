//! Who is who: processes by the variable that whoever was started here carries, and by pidfd.

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::harness::procfs;

/// `t12` for the tree number 12 of a server, `s12` for a stranger.
pub(super) const TAG: &str = "AFTERNOON";

/// One process, for as long as it is looked at.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) pid: i32,
    pidfd: OwnedFd,
}

impl Member {
    /// The process that has this number now.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        let member = Self { pid, pidfd };
        member.is_alive().then_some(member)
    }

    /// A pidfd is readable once all threads are gone: also of a process whose first one went
    /// earlier, which looks like a zombie in /proc.
    pub(super) fn is_alive(&self) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&at_once)).expect("poll") == 0
    }

    pub(super) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// The name in /proc, and whether the first thread is there.
    pub(super) fn name(&self) -> (String, bool) {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        let state = procfs::state(self.pid);
        (name.trim_end().to_owned(), state != Some('Z'))
    }
}

/// Everybody in this namespace who carries a tag, by tag.
pub(super) fn by_tag() -> HashMap<String, Vec<i32>> {
    let mut found = HashMap::new();
    for pid in everybody() {
        if let Some(tag) = tag_of(pid) {
            found.entry(tag).or_insert_with(Vec::new).push(pid);
        }
    }
    found
}

/// All pids of this namespace.
pub(super) fn everybody() -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// When a process began, also one whose first thread has ended: clock ticks since boot
/// (proc_pid_stat(5), field 22).
pub(super) fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = &stat[stat.rfind(')')? + 2..];
    after_name.split(' ').nth(19)?.parse().ok()
}

fn tag_of(pid: i32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    if let Some(tag) = tag_in(&environment) {
        return Some(tag);
    }
    // A first thread that has ended has no memory to read any more; another may have.
    if !environment.is_empty() || procfs::state(pid) != Some('Z') {
        return None;
    }
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    threads
        .filter_map(|thread| fs::read(thread.path().join("environ")).ok())
        .find_map(|environment| tag_in(&environment))
}

fn tag_in(environment: &[u8]) -> Option<String> {
    let entries = environment.split(|byte| *byte == 0);
    let mut values = entries.filter_map(|entry| {
        let value = entry.strip_prefix(TAG.as_bytes())?.strip_prefix(b"=")?;
        String::from_utf8(value.to_vec()).ok()
    });
    values.next()
}
