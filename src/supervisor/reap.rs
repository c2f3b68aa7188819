//! Collects dead children: managed ones by pidfd, adopted orphans by number.
//!
//! In: a pidfd or a pid, or nothing. Out: an [`ExitStatus`], whether a child has ended, or the pid
//! of a dead child that nobody claimed. Knows no job.
//!
//! # Safety
//! `waitid(2)` fills a zeroed `siginfo_t`; its child fields are read only where the call said
//! that there is a child.
#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;

use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::types::ExitStatus;

/// The status of a child that has ended, which is reaped by asking; None while it runs.
pub fn try_wait(pidfd: BorrowedFd<'_>) -> Option<ExitStatus> {
    match waitid(
        WaitId::PidFd(pidfd),
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
    ) {
        Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => ExitStatus::Code(code),
            (None, Some(signal)) => ExitStatus::Signal(signal),
            (None, None) => ExitStatus::Signal(libc::SIGKILL),
        }),
        Ok(None) => None,
        // Somebody else reaped it, which only a bug could do; a caller must not wait for ever.
        Err(_) => Some(ExitStatus::Signal(libc::SIGKILL)),
    }
}

/// What waitpid(2) would give for a child that cannot be reaped.
pub fn from_wait_status(status: i32) -> ExitStatus {
    let signal = status & 0x7f;
    match (signal, status >> 8 & 0xff) {
        (0, code) => ExitStatus::Code(code),
        (signal, _) => ExitStatus::Signal(signal),
    }
}

/// Whether a child has ended, left as it is (`WNOWAIT`); also if it has been reaped meanwhile.
/// For any thread; who asks after a pid that is a later child's by now hears about that one.
pub fn has_ended(pid: i32) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::Pid::from_raw(pid)
        .is_some_and(|pid| !matches!(waitid(WaitId::Pid(pid), options), Ok(None)))
}

/// The pid of some dead child, left as it is (`WNOWAIT`).
pub fn peek_any() -> Option<i32> {
    // SAFETY: all-zero is a valid `siginfo_t`, the pointer is valid for the call, and `si_pid` is
    // read after a success, where it is 0 if no child is in that state (waitid(2)).
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        if libc::waitid(libc::P_ALL, 0, &mut info, options) != 0 {
            return None;
        }
        let pid = info.si_pid();
        (pid > 0).then_some(pid)
    }
}

/// Reaps a child of ours that is not managed, if it is dead; whether it was.
pub fn reap_orphan(pid: i32) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    rustix::process::Pid::from_raw(pid)
        .is_some_and(|pid| matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_))))
}
