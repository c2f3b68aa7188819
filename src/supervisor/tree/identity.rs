//! What a process is, whatever becomes of its number; the only place that signals processes of trees.
//! (`keeper` signals its own server, a child that it has not reaped.)
//!
//! A number comes again: at the end of a process it is free, and a busy machine has gone round all
//! of them in minutes. So nothing is signalled by its number:
//!
//! - [`Process`] is a number and a start time, which together do not come again. It is opened
//!   before it is signalled, and what was opened is compared with it.
//! - [`Leader`] is a child of ours that has not been reaped, so its number is its own. Reaping
//!   consumes it.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};

use super::procfs::{self, Stat};
use crate::supervisor::reap::{self, Reaped};
use crate::types::ExitStatus;

/// A process, told from every other that had its number or will have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Process {
    pid: i32,
    /// Clock ticks since boot, as in proc_pid_stat(5).
    start_ticks: u64,
}

impl Process {
    /// The process that had this number when `stat` was read.
    pub(crate) fn new(pid: i32, stat: &Stat) -> Self {
        Self {
            pid,
            start_ticks: stat.start_ticks,
        }
    }

    /// The process that had this number at the tick `at_ticks`, when it was found in a list of
    /// children or members: who has it now and started later is another one.
    pub(crate) fn listed(pid: i32, at_ticks: u64) -> Option<(Self, Stat)> {
        let stat = procfs::stat(pid)?;
        (stat.start_ticks <= at_ticks).then(|| (Self::new(pid, &stat), stat))
    }

    /// The process that a record on disk names.
    pub(crate) fn recorded(pid: i32, start_ticks: u64) -> Self {
        Self { pid, start_ticks }
    }

    pub(crate) fn pid(self) -> i32 {
        self.pid
    }

    pub(crate) fn start_ticks(self) -> u64 {
        self.start_ticks
    }

    /// Whether it still has its number, dead or alive.
    pub(crate) fn is_current(self) -> bool {
        procfs::stat(self.pid).is_some_and(|stat| Self::new(self.pid, &stat) == self)
    }

    /// The process itself and how it is now; None if it is gone, whoever has its number.
    pub(crate) fn open(self) -> Option<(Handle, Stat)> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // Read after the pidfd was opened: what it says is about the process to be signalled, or
        // that process is gone, and the signal reaches nobody.
        let stat = procfs::stat(self.pid)?;
        (stat.start_ticks == self.start_ticks).then_some((Handle(pidfd), stat))
    }
}

/// A process that can be signalled (pidfd_open(2)).
#[derive(Debug)]
pub(crate) struct Handle(OwnedFd);

impl Handle {
    /// A child that is on its way to exec, while `slot` says that `pid` is its number.
    pub(crate) fn newborn(pid: i32, still_so: impl FnOnce() -> bool) -> Option<Self> {
        let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        still_so().then_some(Self(pidfd))
    }

    /// Whether some thread of it runs, whatever the state of its main thread is.
    pub(crate) fn is_alive(&self) -> bool {
        !has_ended(self.0.as_fd())
    }

    /// SIGKILL to this process alone; whether there was somebody to get it.
    pub(crate) fn kill(&self) -> bool {
        self.is_alive() && pidfd_send_signal(&self.0, Signal::KILL).is_ok()
    }

    /// This signal, a number of 1 to 64, to this process alone.
    ///
    /// # Errors
    /// As pidfd_send_signal(2); ESRCH if nobody is left to get it.
    pub(crate) fn send(&self, signal: i32) -> Result<(), Errno> {
        match self.is_alive() {
            true => send(self.0.as_fd(), signal),
            false => Err(Errno::SRCH),
        }
    }

    /// SIGKILL to the process group of a member of a tree, so that one that forks in a loop does
    /// not outrun it. `stat` is what [`Process::open`] gave with this handle just now.
    ///
    /// The whole group is of the tree: it lies within one session, and a tree's leader begins a
    /// session, so every session that a member can be in was begun by the leader or a descendant.
    pub(crate) fn kill_group(&self, stat: &Stat) {
        // A child that has not come to setsid(2) yet is still in the server's group.
        if stat.group > 1
            && stat.group != own_group()
            && let Some(group) = Pid::from_raw(stat.group)
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// A child that leads a session and has not been reaped.
#[derive(Debug)]
pub(crate) struct Leader {
    pid: i32,
    pidfd: Arc<OwnedFd>,
    /// Somebody else reaps it, so that its number may be another's at any time.
    is_kept: bool,
}

impl Leader {
    /// A child of ours; `pidfd` is its own.
    pub(crate) fn new(pid: i32, pidfd: Arc<OwnedFd>) -> Self {
        Self {
            pid,
            pidfd,
            is_kept: false,
        }
    }

    /// A child of the keeper's; `pidfd` is its own.
    pub(crate) fn kept(pid: i32, pidfd: Arc<OwnedFd>) -> Self {
        Self {
            is_kept: true,
            ..Self::new(pid, pidfd)
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether what was read just now under its number is about it.
    pub(crate) fn had_its_number(&self) -> bool {
        // A keeper may have reaped it since.
        !self.is_kept || !self.has_ended()
    }

    /// The same as a process like others; None if its number may be another's.
    pub(crate) fn process(&self) -> Option<Process> {
        let stat = procfs::stat(self.pid)?;
        self.had_its_number().then(|| Process::new(self.pid, &stat))
    }

    /// Its children, none where its number may be another's.
    pub(crate) fn children(&self) -> Vec<i32> {
        let children = procfs::children_of(self.pid);
        match self.had_its_number() {
            true => children,
            false => Vec::new(),
        }
    }

    /// Whether it has ended, reaped or not: a tracer may hold on to it.
    pub(crate) fn has_ended(&self) -> bool {
        has_ended(self.pidfd.as_fd())
    }

    /// Sends a signal to the process group that it leads, all of whose members descend from it.
    pub(crate) fn signal_group(&self, signal: Signal) {
        if self.is_kept {
            let _ = self.send_to_kept_group(signal.as_raw());
        } else if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = kill_process_group(pid, signal);
        }
    }

    /// To the group by the pidfd (kernel 6.9); before that by its number, while the leader lives.
    fn send_to_kept_group(&self, signal: i32) -> Result<(), Errno> {
        match send_as(self.pidfd.as_fd(), signal, PIDFD_SIGNAL_PROCESS_GROUP) {
            Err(Errno::INVAL) if self.pid > 1 && !self.has_ended() => {
                // SAFETY: as in `send_to_group`; a leader that has not ended has its number.
                match unsafe { libc::kill(-self.pid, signal) } {
                    0 => Ok(()),
                    _ => Err(last_errno()),
                }
            }
            sent => sent,
        }
    }

    /// Sends a signal, a number of 1 to 64, to it alone.
    ///
    /// # Errors
    /// As pidfd_send_signal(2).
    pub(crate) fn send(&self, signal: i32) -> Result<(), Errno> {
        send(self.pidfd.as_fd(), signal)
    }

    /// Sends a signal, a number of 1 to 64, to the process group that it leads, all of whose
    /// members descend from it.
    ///
    /// # Errors
    /// As kill(2).
    pub(crate) fn send_to_group(&self, signal: i32) -> Result<(), Errno> {
        // 0 would be the server's own group, and -1 everybody.
        if self.pid <= 1 {
            return Err(Errno::SRCH);
        }
        if self.is_kept {
            return self.send_to_kept_group(signal);
        }
        // SAFETY: kill(2) touches no memory of this process. The group is another one's: its
        // leader is a child that has not been reaped.
        let sent = unsafe { libc::kill(-self.pid, signal) };
        match sent {
            0 => Ok(()),
            _ => Err(last_errno()),
        }
    }

    /// Reaps it: how it ended, and what it has used. Afterwards its number is anybody's, so there
    /// is nothing left to signal.
    ///
    /// # Errors
    /// The leader itself, if it runs or a tracer holds on to it.
    pub(crate) fn reap(self) -> Result<(ExitStatus, Reaped), Self> {
        reap::try_wait(self.pidfd.as_fd()).ok_or(self)
    }
}

/// pidfd_send_signal(2) with any number: rustix has names for the standard ones only.
fn send(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    send_as(pidfd, signal, 0)
}

/// To everybody in the process group that the pidfd leads.
const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

fn send_as(pidfd: BorrowedFd<'_>, signal: i32, flags: libc::c_uint) -> Result<(), Errno> {
    let info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: the descriptor is borrowed for the call, which reads nothing through the null pointer
    // (the kernel fills in who sends) and writes nothing. Numbers are checked by the kernel.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            info,
            flags,
        )
    };
    match sent {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Whether every thread has ended (poll(2) on a pidfd, pidfd_open(2)).
/// Whether this process has ended.
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(poll(&mut fds, Some(&now)), Ok(ready) if ready > 0)
}

/// The server's process group; 0 if that lies outside of its PID namespace.
fn own_group() -> i32 {
    static GROUP: OnceLock<i32> = OnceLock::new();
    *GROUP.get_or_init(|| procfs::stat(std::process::id().cast_signed()).map_or(0, |own| own.group))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn another_process_of_the_same_number_is_not_opened() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id() as i32;
        let stat = procfs::stat(pid).unwrap();
        let process = Process::new(pid, &stat);
        let namesake = Process {
            start_ticks: stat.start_ticks - 1,
            ..process
        };
        assert!(namesake.open().is_none());
        let (handle, _) = process.open().unwrap();
        assert!(handle.kill());
        child.wait().unwrap();
        assert!(!handle.kill(), "nobody is left to be signalled");
        assert!(process.open().is_none());
    }

    #[test]
    fn a_leader_that_a_keeper_has_reaped_is_nobody_whoever_has_its_number() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_raw(child.id() as i32).unwrap();
        let pidfd = Arc::new(pidfd_open(pid, PidfdFlags::empty()).unwrap());
        // This process has a child, so whoever is taken for it has one.
        let own = std::process::id() as i32;
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        let namesake = Leader::kept(own, pidfd.clone());
        assert_eq!(namesake.process().map(Process::pid), Some(own));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(namesake.process(), None);
        assert_eq!(namesake.children(), [0; 0]);
        // Nobody but the server reaps its own.
        assert!(Leader::new(own, pidfd).process().is_some());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
