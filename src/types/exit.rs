//! How a process ended, and why.

use super::signal;

/// How a process ended (`waitid(2)`, `si_code`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It called `exit` with this code, 0 to 255.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl ExitStatus {
    /// The exit code, if it exited by itself.
    pub fn code(self) -> Option<i32> {
        match self {
            ExitStatus::Code(code) => Some(code),
            ExitStatus::Signal(_) => None,
        }
    }

    /// The name of the signal that ended it, such as `SIGKILL`.
    pub fn signal_name(self) -> Option<String> {
        match self {
            ExitStatus::Code(_) => None,
            ExitStatus::Signal(number) => Some(signal::name(number)),
        }
    }
}

/// Why a process was ended, where its status does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// Its tree had no memory left (`memory.events` of its cgroup).
    OutOfMemory,
    /// The time that its tree may live was over (`deadlineMs`).
    Deadline,
}

impl ExitReason {
    /// All of them, in an order that other versions read, too: a new one comes last.
    pub const ALL: [Self; 2] = [ExitReason::OutOfMemory, ExitReason::Deadline];

    /// As clients are told.
    pub fn name(self) -> &'static str {
        match self {
            ExitReason::OutOfMemory => "oom",
            ExitReason::Deadline => "deadline",
        }
    }
}

/// The end of a process, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// How it ended.
    pub status: ExitStatus,
    /// Why, where that is not told by its status.
    pub reason: Option<ExitReason>,
}

/// Nobody but itself, or whoever sent the signal, had to do with it.
impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        let reason = None;
        Self { status, reason }
    }
}
