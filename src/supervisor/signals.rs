//! Signals as a descriptor, and what children must not inherit of them.
//!
//! In: signals sent to the server. Out: their numbers, read from a signalfd (signalfd(2)). All
//! signals are blocked in every thread, so no handler ever runs.
//!
//! # Safety
//! Thin calls of libc on local, fully initialised signal sets.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// Blocks every signal in the calling thread and those it starts later.
pub fn block_all() {
    // SAFETY: `sigfillset` initialises the set before it is used.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        // A fault must still end the process with a core instead of looping.
        for signal in [
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGFPE,
            libc::SIGILL,
            libc::SIGABRT,
        ] {
            libc::sigdelset(&mut all, signal);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
    }
}

/// The signals that this process ignores now, by inheritance or by the Rust runtime. Read from
/// proc(5), because sigaction(2) as libc has it hides the two signals that libc uses itself.
pub fn ignored() -> Vec<i32> {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return vec![libc::SIGPIPE];
    };
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(1 << (libc::SIGPIPE - 1));
    (1..=64)
        .filter(|signal| mask & (1 << (signal - 1)) != 0)
        .collect()
}

/// Lets orphans become zombies to be reaped even where the server was started ignoring SIGCHLD.
pub fn reset_child_signal() {
    // SAFETY: a valid signal number and disposition.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
}

/// SIGCHLD, SIGTERM and SIGINT as a readable descriptor.
#[derive(Debug)]
pub struct SignalFd(File);

impl SignalFd {
    /// Opens it; the signals must be blocked (see [`block_all`]).
    ///
    /// # Errors
    /// As signalfd(2).
    pub fn new() -> std::io::Result<Self> {
        // SAFETY: `sigemptyset` initialises the set; the returned descriptor, if not negative, is
        // new and nobody else's.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT] {
                libc::sigaddset(&mut set, signal);
            }
            let fd = libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(Self(File::from(OwnedFd::from_raw_fd(fd))))
        }
    }

    /// The next pending signal's number and, for SIGCHLD, the pid it is about.
    pub fn next(&self) -> Option<(i32, i32)> {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        let read = (&self.0).read(&mut info).ok()?;
        if read < info.len() {
            return None;
        }
        // `ssi_signo` is the first field, `ssi_pid` the fourth of 32-bit ones (signalfd(2)).
        let word =
            |at: usize| i32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
        Some((word(0), word(12)))
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
