//! Why a server does not start, and what its process exits with.
//!
//! In: what a step of the start ran into. Out: a sentence that names the likely cause, and an exit
//! code.

use std::fmt::{self, Display};
use std::io;
use std::path::{Path, PathBuf};

use crate::config::flags::{ConfigError, UsageError};
use crate::io::ListenError;
use crate::log::ArenaError;
use crate::supervisor::cgroup::CgroupError;

/// With fewer (RLIMIT_NOFILE) the server itself has none left for clients and children.
pub(super) const DESCRIPTORS_MIN: u64 = 64;

/// Why a server did not start, or not serve to its end.
#[derive(Debug)]
pub enum StartError {
    /// What was asked for cannot be.
    Usage(UsageError),
    /// io_uring was demanded and is not available.
    Uring(io::Error),
    /// There is no usable token where one was named; a sentence of `token`.
    Token(String),
    /// Nobody knows who is to be let in; the name and why.
    UnixUser(String),
    /// The address is not to be had.
    Listen(ListenError),
    /// So few descriptors are allowed that nobody could be answered.
    Descriptors(u64),
    /// No descriptor is allowed any more, and with that poll(2) waits for none.
    NothingToWaitWith,
    /// There is no memory for logs.
    Arena(ArenaError),
    /// Groups were demanded and are not to be had.
    Cgroups(CgroupError),
    /// What the configuration file says cannot be.
    Config(ConfigError),
    /// The audit log cannot be written.
    Audit {
        /// Which file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The directory for the next server cannot be used.
    StateDir {
        /// Which one.
        dir: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A step that nothing on the command line asks for has failed.
    Step {
        /// Which one.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
}

impl StartError {
    /// What the process exits with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) => 2,
            // EX_CONFIG (sysexits.h(3head)).
            Self::Uring(_) => 78,
            _ => 1,
        }
    }
}

impl Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => write!(f, "{error}\nTry `procring --help`."),
            Self::Uring(error) => write!(
                f,
                "--io-backend uring: io_uring is not available: {error}; likely a seccomp profile or \
                 kernel.io_uring_disabled; --io-backend auto falls back to epoll"
            ),
            Self::Config(error) => error.fmt(f),
            Self::Audit { file, error } => write!(f, "--audit-log {}: {error}", file.display()),
            Self::Token(sentence) => f.write_str(sentence),
            Self::UnixUser(who) => write!(f, "--unix-allow-uid {who}"),
            Self::Listen(error) => error.fmt(f),
            Self::Descriptors(few) => write!(
                f,
                "at most {few} descriptors may be open (RLIMIT_NOFILE); {DESCRIPTORS_MIN} are \
                 needed, and three more for each running process: raise the hard limit (ulimit -Hn)"
            ),
            Self::Arena(error) => error.fmt(f),
            Self::Cgroups(error) => write!(f, "--cgroup on: {error}"),
            Self::StateDir { dir, error } => write!(f, "--state-dir {}: {error}", dir.display()),
            Self::NothingToWaitWith => f.write_str(
                "the limit of descriptors (RLIMIT_NOFILE) was set to 0 from outside, so that nothing \
                 can be waited for, and the server ends: leave it at 64 at least (prlimit --nofile)",
            ),
            Self::Step { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<UsageError> for StartError {
    fn from(error: UsageError) -> Self {
        Self::Usage(error)
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::Usage(error) => Self::Usage(error),
            error @ ConfigError::File(_) => Self::Config(error),
        }
    }
}

/// The failure of a step.
pub(super) fn step(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |error| StartError::Step { what, error }
}

/// The failure of a directory.
pub(super) fn unusable(dir: &Path) -> impl Fn(io::Error) -> StartError {
    move |error| StartError::StateDir {
        dir: dir.to_owned(),
        error,
    }
}
