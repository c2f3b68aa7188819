//! Collects dead children: managed ones by pidfd, adopted orphans by number.
//!
//! In: a pidfd or a pid, or nothing. Out: an [`ExitStatus`] and what the child has used, whether a
//! child has ended, or the pid of a dead child that nobody claimed. Knows no job.
//!
//! # Safety
//! `waitid(2)` fills a zeroed `siginfo_t` and a zeroed `rusage`; the child fields of the first are
//! read only where the call said that there is a child.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

use crate::supervisor::tree::{identity, procfs};
use crate::types::ExitStatus;

/// What those who were reaped have used, each with the children that it had reaped itself
/// (getrusage(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reaped {
    /// Microseconds on a processor, of their own.
    pub user_us: u64,
    /// Microseconds on a processor, of the kernel for them.
    pub system_us: u64,
    /// Bytes that were resident, of the largest of them. A child that was started as vfork(2)
    /// does begins with the largest size that its parent ever had.
    pub max_rss_bytes: u64,
}

impl Reaped {
    /// Another one has been reaped.
    pub(crate) fn add(&mut self, other: Reaped) {
        self.user_us += other.user_us;
        self.system_us += other.system_us;
        self.max_rss_bytes = self.max_rss_bytes.max(other.max_rss_bytes);
    }
}

impl From<libc::rusage> for Reaped {
    fn from(usage: libc::rusage) -> Self {
        let us = |time: libc::timeval| {
            let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
            seconds * 1_000_000 + u64::try_from(time.tv_usec).unwrap_or(0)
        };
        Self {
            user_us: us(usage.ru_utime),
            system_us: us(usage.ru_stime),
            max_rss_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) << 10,
        }
    }
}

/// A child that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dead {
    pub pid: i32,
    pub status: ExitStatus,
    pub used: Reaped,
}

/// The status of a child that has ended, which is reaped by asking, and what it has used; None
/// while it runs.
pub(crate) fn try_wait(pidfd: BorrowedFd<'_>) -> Option<(ExitStatus, Reaped)> {
    let pidfd = pidfd.as_raw_fd().cast_unsigned();
    match wait(libc::P_PIDFD, pidfd, 0) {
        Ok(dead) => dead.map(|dead| (dead.status, dead.used)),
        // Somebody else reaped it, which only a bug could do; a caller must not wait for ever.
        Err(()) => Some((ExitStatus::Signal(libc::SIGKILL), Reaped::default())),
    }
}

/// A child that has ended. It is reaped, but with WNOWAIT among the `options`.
fn wait(kind: libc::idtype_t, id: libc::id_t, options: i32) -> Result<Option<Dead>, ()> {
    // SAFETY: all-zero is a valid `siginfo_t` and a valid `rusage`, both pointers are valid for the
    // call, which the C library's waitid(2) is but for the last argument, and the fields of a child
    // are read after a success, where `si_pid` is 0 and the others are not read if no child has ended.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let mut usage: libc::rusage = std::mem::zeroed();
        let options = options | libc::WEXITED | libc::WNOHANG;
        let (info_at, usage_at) = (&raw mut info, &raw mut usage);
        if libc::syscall(libc::SYS_waitid, kind, id, info_at, options, usage_at) != 0 {
            return Err(());
        }
        if info.si_pid() <= 0 {
            return Ok(None);
        }
        let status = match info.si_code {
            libc::CLD_EXITED => ExitStatus::Code(info.si_status()),
            _ => ExitStatus::Signal(info.si_status()),
        };
        Ok(Some(Dead {
            pid: info.si_pid(),
            status,
            used: usage.into(),
        }))
    }
}

/// What waitpid(2) would give for a child that cannot be reaped.
pub(crate) fn from_wait_status(status: i32) -> ExitStatus {
    let signal = status & 0x7f;
    match (signal, status >> 8 & 0xff) {
        (0, code) => ExitStatus::Code(code),
        (signal, _) => ExitStatus::Signal(signal),
    }
}

/// Whether a child, of this process or of its keeper, has ended, left as it is (`WNOWAIT`); also if it
/// has been reaped meanwhile. For any thread; who asks after a pid that is a later child's by now hears
/// about that one.
pub(crate) fn has_ended(pid: i32) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let Some(pid) = Pid::from_raw(pid) else {
        return false;
    };
    match waitid(WaitId::Pid(pid), options) {
        Ok(None) => false,
        Err(Errno::CHILD) => pidfd_open(pid, PidfdFlags::empty())
            .map_or(true, |pidfd| identity::has_ended(pidfd.as_fd())),
        _ => true,
    }
}

/// Whether somebody traces the main thread of a process. Of a dead one nobody learns anything but by
/// that tracer, and it is not reaped before.
pub(crate) fn is_traced(pid: i32) -> bool {
    procfs::status_number(pid, "TracerPid").is_some_and(|tracer| tracer != 0)
}

/// Some dead child, left as it is (`WNOWAIT`).
pub(crate) fn peek_any() -> Option<Dead> {
    wait(libc::P_ALL, 0, libc::WNOWAIT).ok().flatten()
}

/// Reaps a child of ours that is not managed, if it is dead; what it has used. Where a keeper reaps,
/// nothing is told of that, once it is done or about to be: not of one that a tracer holds on to.
pub(crate) fn reap_orphan(pid: i32) -> Option<Reaped> {
    if procfs::is_kept() {
        let is_gone = procfs::stat(pid).is_none_or(|stat| !stat.is_alive() && !is_traced(pid));
        return is_gone.then(Reaped::default);
    }
    // 0 would be any child.
    let pid = u32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    Some(wait(libc::P_PID, pid, 0).ok()??.used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::zombie_processes, reason = "it is reaped by its number")]
    fn who_is_reaped_tells_what_it_and_its_children_have_used() {
        let script = "import os\nb = bytearray(64 << 20)\n\
                      while sum(os.times()[:2]) < 0.05: pass\n\
                      os.kill(os.getpid(), 15)";
        let child = std::process::Command::new("sh")
            .args(["-c", "python3 -c \"$0\"; exit 7", script])
            .spawn()
            .unwrap();
        let pid = child.id().cast_signed();
        let reaped = loop {
            if let Some(reaped) = reap_orphan(pid) {
                break reaped;
            }
            std::thread::yield_now();
        };
        assert!(reaped.user_us + reaped.system_us >= 50_000, "{reaped:?}");
        assert!(reaped.max_rss_bytes >= 64 << 20, "{reaped:?}");
        assert_eq!(reap_orphan(pid), None);
        assert_eq!(reap_orphan(0), None);
    }
}
