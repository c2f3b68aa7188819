//! What children get of the server, and what they must not.
//!
//! In: the state the server was started in. Out: an [`Inheritance`] for every spawn. Changes this
//! process once, at start: inherited descriptors become close-on-exec, missing standard ones are
//! opened, the soft descriptor limit is raised.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

use crate::supervisor::signals;
use crate::supervisor::spawn::clone;

/// What every child of this server gets, found out once at start.
#[derive(Clone, Debug)]
pub(crate) struct Inheritance {
    /// Signals that the server ignores, or was started ignoring; children do not.
    pub ignored_signals: Vec<i32>,
    /// The soft and hard RLIMIT_NOFILE that the server was started with.
    pub nofile: (u64, u64),
    /// What to write to the child's oom_score_adj (proc(5)), if it is to be raised.
    pub oom_score_adj: Option<CString>,
    /// `/dev/null`, or what is as empty, for children that get no input.
    pub null: Arc<OwnedFd>,
}

/// Sockets of one service, at most.
const LISTEN_FDS_MAX: i32 = 64;

/// Children are this much more likely than the server to be chosen by the OOM killer (0 to 1000).
const OOM_SCORE_ABOVE_SERVER: i32 = 500;

/// The descriptors that the service manager has opened for this process (sd_listen_fds(3)); none if
/// it has not. To be called once, before this process opens any: they are nobody else's then.
#[allow(unsafe_code)]
pub(crate) fn listen_fds() -> Vec<OwnedFd> {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse::<i32>().ok())
    };
    if number("LISTEN_PID") != i32::try_from(std::process::id()).ok() {
        return Vec::new();
    }
    let given = 3..3 + number("LISTEN_FDS").unwrap_or(0).clamp(0, LISTEN_FDS_MAX);
    let is_open = |fd: &i32| {
        // SAFETY: asks for the flags of a number, which is no error if nothing is open there.
        unsafe { libc::fcntl(*fd, libc::F_GETFD) >= 0 }
    };
    // SAFETY: the variables say that these were opened for this process, LISTEN_PID that it is
    // meant; they are open, and nothing else of this process has asked for a descriptor yet.
    let own = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
    given.filter(is_open).map(own).collect()
}

impl Inheritance {
    /// Finds out what children get and prepares this process. `before` is the RLIMIT_NOFILE with which
    /// it was started, if another program has raised it since.
    ///
    /// # Errors
    /// When there are no descriptors to be had.
    pub(crate) fn prepare(before: Option<(u64, u64)>) -> std::io::Result<Self> {
        open_standard_fds()?;
        close_on_exec_above_2();
        let limit = getrlimit(Resource::Nofile);
        let unlimited = libc::RLIM_INFINITY;
        let now = (
            limit.current.unwrap_or(unlimited),
            limit.maximum.unwrap_or(unlimited),
        );
        let nofile = before.unwrap_or(now);
        // Refusal only means fewer descriptors.
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        );
        // No core dump of other people's output, and no ptrace(2) or /proc/<pid>/mem by children of
        // the same user (prctl(2), PR_SET_DUMPABLE). A refusal leaves what there was before.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        Ok(Self {
            ignored_signals: signals::ignored(),
            nofile,
            oom_score_adj: raised_oom_score(),
            null: Arc::new(null()?),
        })
    }
}

/// `/dev/null`. In an image without it, a pipe that nobody writes to: who reads it is at the end at
/// once, who writes to it is refused.
fn null() -> std::io::Result<OwnedFd> {
    let mut options = fs::OpenOptions::new();
    match options.read(true).write(true).open("/dev/null") {
        Ok(file) => Ok(file.into()),
        Err(_) => Ok(pipe_with(PipeFlags::CLOEXEC)?.0),
    }
}

/// Raising one's own score needs no privilege; lowering it does, so the children are raised.
fn raised_oom_score() -> Option<CString> {
    let own: i32 = fs::read_to_string("/proc/self/oom_score_adj")
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let raised = (own + OOM_SCORE_ABOVE_SERVER).min(1000);
    CString::new(raised.to_string()).ok()
}

/// Runs before `main`, because the standard library ends the program there if 0, 1 or 2 is closed
/// and there is no `/dev/null`: so the kernel starts the first process of an image without
/// `/dev/console`.
#[used]
#[allow(unsafe_code)]
// SAFETY: the C library calls each entry of this section once, as a function of the C calling
// convention that returns nothing; arguments that it passes are not looked at.
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = {
    extern "C" fn open_missing() {
        // SAFETY: system calls on numbers, a string that ends with NUL, and an array of two; nobody
        // else has opened anything yet.
        unsafe {
            while (0..3).any(|fd| libc::fcntl(fd, libc::F_GETFD) < 0) {
                if libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) >= 0 {
                    continue;
                }
                let mut pipe = [-1; 2];
                if libc::pipe(pipe.as_mut_ptr()) < 0 {
                    // Left to the standard library.
                    return;
                }
                // What is left is at its end for readers, and takes nothing.
                libc::close(pipe[1]);
            }
        }
    }
    open_missing
};

/// A descriptor that the server opens must never become 0, 1 or 2.
fn open_standard_fds() -> std::io::Result<()> {
    loop {
        let null = null()?;
        if null.as_raw_fd() > 2 {
            return Ok(());
        }
        // Kept open for the life of the process.
        std::mem::forget(null);
    }
}

/// Marks every descriptor that was inherited.
pub(crate) fn close_on_exec_above_2() {
    if clone::mark_from(3) {
        return;
    }
    // Kernels before 5.11.
    let Ok(fds) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    let numbers: Vec<i32> = fds
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&fd| fd > 2)
        .collect();
    for fd in numbers {
        mark(fd);
    }
}

#[allow(unsafe_code)]
fn mark(fd: i32) {
    // SAFETY: borrowed for two fcntl calls only; if the descriptor has been closed meanwhile (the
    // one of the directory listing has), they answer EBADF. `fd` is not -1, it came from a list.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    if let Ok(flags) = fcntl_getfd(fd) {
        let _ = fcntl_setfd(fd, flags | FdFlags::CLOEXEC);
    }
}

#[cfg(test)]
impl Inheritance {
    /// What the children of a test get: limits of their own.
    pub(crate) fn for_tests() -> Self {
        close_on_exec_above_2();
        Self {
            ignored_signals: signals::ignored(),
            nofile: (512, 1024),
            oom_score_adj: None,
            null: Arc::new(null().unwrap()),
        }
    }
}
