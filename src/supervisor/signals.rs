//! Signals as a descriptor, and what children must not inherit of them.
//!
//! In: signals sent to the server. Out: what they mean, read from a signalfd (signalfd(2)). Every
//! signal is blocked in every thread, faults and SIGTSTP apart, so no handler ever runs.
//!
//! | signal | |
//! |---|---|
//! | SIGTERM, SIGINT, SIGQUIT | the end begins; once more, and it ends at once |
//! | SIGHUP | the same where the server has a controlling terminal, which is then gone; nothing where it was started ignoring it (nohup(1)); elsewhere a word to reload |
//! | SIGUSR2 | an upgrade |
//! | SIGCHLD | a child has ended |
//! | SIGTSTP | stops the server until SIGCONT, as Ctrl-Z in a shell wants it (and `bg` goes on) |
//! | SIGTTIN, SIGTTOU | nothing: a server in the background writes its lines to a terminal with `stty tostop`, too |
//!
//! # Safety
//! Thin calls of libc on local, fully initialised signal sets.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};

/// Blocks every signal in the calling thread and those it starts later, but those that act without
/// a handler.
pub(crate) fn block_all() {
    // SAFETY: `sigfillset` initialises the set before it is used.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        // A fault must still end the process with a core instead of looping. A stop needs nothing
        // of this process, and a child on its way to exec leaves the group that gets it.
        for signal in [
            libc::SIGTSTP,
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
pub(crate) fn ignored() -> Vec<i32> {
    of_status("self", "SigIgn:").unwrap_or_else(|| vec![libc::SIGPIPE])
}

/// The signals that were sent to a process and that it has not taken.
pub(crate) fn pending(pid: i32) -> Vec<i32> {
    of_status(&pid.to_string(), "ShdPnd:").unwrap_or_default()
}

/// A set of signals in proc_pid_status(5).
fn of_status(process: &str, field: &str) -> Option<Vec<i32>> {
    // The name of its program is in it, which may be any bytes.
    let status = std::fs::read(format!("/proc/{process}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let mut lines = status.lines();
    let hex = lines.find_map(|line| line.strip_prefix(field))?;
    let mask = u64::from_str_radix(hex.trim(), 16).ok()?;
    let is_set = |signal: &i32| mask & (1 << (signal - 1)) != 0;
    Some((1..=64).filter(is_set).collect())
}

/// Lets orphans become zombies to be reaped even where the server was started ignoring SIGCHLD.
pub(crate) fn reset_child_signal() {
    // SAFETY: a valid signal number and disposition.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
}

/// A signal that was sent to this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    /// Which one.
    pub(crate) signal: i32,
    /// The process that has sent it, or whose end it tells; one of several that sent it before it
    /// was heard.
    pub(crate) by: i32,
    /// A terminal has sent it to its whole foreground group.
    pub(crate) is_terminals: bool,
}

/// The next signal that is for the server or of a child, for a process that waits for nothing else.
/// They must be blocked. None if there is none within the time that there is.
pub(crate) fn wait(within: Option<Duration>) -> Option<Heard> {
    let within = within.map(|within| libc::timespec {
        tv_sec: i64::try_from(within.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: within.subsec_nanos().into(),
    });
    let within = within.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    loop {
        // SAFETY: all-zero is a valid `siginfo_t`, which the call fills if it succeeds, with the
        // number of a process for each of these signals; a null pointer is no limit (sigwaitinfo(2)).
        unsafe {
            let set = meant();
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let signal = libc::sigtimedwait(&raw const set, &raw mut info, within);
            if signal > 0 {
                return Some(Heard {
                    signal,
                    by: info.si_pid(),
                    is_terminals: info.si_code == libc::SI_KERNEL,
                });
            }
        }
        let error = std::io::Error::last_os_error();
        if error.kind() == std::io::ErrorKind::WouldBlock {
            return None;
        }
    }
}

/// Whether [`wait`] works here. Takes no signal.
///
/// # Errors
/// What keeps it from it, as a filter of system calls does.
pub(crate) fn try_wait() -> std::io::Result<()> {
    // SAFETY: `sigemptyset` initialises the set before it is used; a null pointer asks for no
    // `siginfo_t`, and the time is all-zero, which is valid.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        let at_once: libc::timespec = std::mem::zeroed();
        libc::sigtimedwait(&raw const none, std::ptr::null_mut(), &raw const at_once);
    }
    // Of none there is none.
    match std::io::Error::last_os_error() {
        error if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
        error => Err(error),
    }
}

/// Whether a signal tells the server to end, or to read its settings again.
pub(crate) fn is_for_server(signal: i32) -> bool {
    ends(signal) || signal == libc::SIGHUP
}

/// Whether it tells the server to end, whatever it was started with.
pub(crate) fn ends(signal: i32) -> bool {
    [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT].contains(&signal)
}

/// The signals that mean something.
fn meant() -> libc::sigset_t {
    // SAFETY: `sigemptyset` initialises the set before it is used.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in [
            libc::SIGCHLD,
            libc::SIGTERM,
            libc::SIGINT,
            libc::SIGQUIT,
            libc::SIGHUP,
            libc::SIGUSR2,
        ] {
            libc::sigaddset(&mut set, signal);
        }
        set
    }
}

/// What a hangup (SIGHUP) means to this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hangup {
    /// It was started ignoring it.
    Nothing,
    /// Its terminal is gone.
    End,
    /// Somebody sent it.
    Reload,
}

impl Hangup {
    /// To be asked at start, before [`block_all`]: a terminal that has hung up is nobody's
    /// controlling terminal.
    pub(crate) fn at_start() -> Self {
        let terminal = || {
            let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
            // ENXIO without one.
            open("/dev/tty", flags, Mode::empty()).is_ok()
        };
        if ignored().contains(&libc::SIGHUP) {
            Self::Nothing
        } else if terminal() {
            Self::End
        } else {
            Self::Reload
        }
    }
}

/// What a signal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// A child has died, one of this pid at least.
    ChildDied(i32),
    /// The server is to end.
    End,
    /// The server is to read its settings again.
    Reload,
    /// Another program is to take over.
    Upgrade,
}

/// The signals that mean something, as a readable descriptor.
#[derive(Debug)]
pub(crate) struct SignalFd {
    file: File,
    hangup: Hangup,
}

impl SignalFd {
    /// Opens it; the signals must be blocked (see [`block_all`]).
    ///
    /// # Errors
    /// As signalfd(2).
    pub(crate) fn new(hangup: Hangup) -> std::io::Result<Self> {
        // SAFETY: `sigemptyset` initialises the set; the returned descriptor, if not negative, is
        // new and nobody else's.
        unsafe {
            let set = meant();
            let fd = libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 {
                return Err(std::io::Error::last_os_error());
            }
            let file = File::from(OwnedFd::from_raw_fd(fd));
            Ok(Self { file, hangup })
        }
    }

    /// What the next pending signal says.
    pub(crate) fn next(&self) -> Option<Word> {
        loop {
            let (signal, pid) = self.read()?;
            return Some(match (signal, self.hangup) {
                (libc::SIGCHLD, _) => Word::ChildDied(pid),
                // One that is blocked comes here although it is ignored.
                (libc::SIGHUP, Hangup::Nothing) => continue,
                (libc::SIGHUP, Hangup::Reload) => Word::Reload,
                (libc::SIGUSR2, _) => Word::Upgrade,
                _ => Word::End,
            });
        }
    }

    /// The next pending signal's number and, for SIGCHLD, the pid it is about.
    fn read(&self) -> Option<(i32, i32)> {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        let read = (&self.file).read(&mut info).ok()?;
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
        self.file.as_fd()
    }
}
