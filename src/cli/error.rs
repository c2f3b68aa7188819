//! Why a command failed, and what it exits with.

use std::fmt;
use std::io;

use crate::client::{ClientError, Problem};

/// A shell's code for a program that was ended by SIGPIPE.
pub(super) const READER_GONE: u8 = 128 + 13;

/// What `run` exits with when the server is the trouble; docker(1) does, too.
pub(super) const SERVER_TROUBLE: u8 = 125;

/// See the module.
#[derive(Debug)]
pub(super) enum CliError {
    /// The arguments are wrong.
    Usage(String),
    /// The server refused, or is not there.
    Client(ClientError),
    /// A file or a stream of this side.
    Local {
        /// Which one.
        what: String,
        /// Why.
        error: io::Error,
    },
    /// The server cannot do what a command needs: where it is, and what that is.
    TooOld {
        /// Where.
        url: String,
        /// What is needed.
        what: String,
    },
    /// A sentence, and a code of its own.
    Failed(String, u8),
    /// Nobody reads the output any more, which is no news for anybody.
    Gone,
}

/// An outcome of this room.
pub(super) type Result<T> = std::result::Result<T, CliError>;

impl CliError {
    /// What the process exits with.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_, code) => *code,
            Self::Gone => READER_GONE,
            Self::Client(_) | Self::Local { .. } | Self::TooOld { .. } => 1,
        }
    }

    /// The failure of a file or a stream.
    pub(super) fn local(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |error| match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Gone,
            _ => Self::Local {
                what: what.into(),
                error,
            },
        }
    }
}

/// The process that is not there, if that is why.
fn missing(problem: &Problem) -> Option<&str> {
    problem.detail.strip_prefix("not found: process ")
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) | Self::Failed(what, _) => f.write_str(what),
            Self::Client(error @ ClientError::Absent { .. }) => write!(
                f,
                "{error}; start one with `procring server`, or name another one with --url"
            ),
            Self::Client(ClientError::Refused(problem)) if missing(problem).is_some() => write!(
                f,
                "there is no process {}; `procring ps -a` lists all",
                missing(problem).unwrap_or_default()
            ),
            Self::Client(error) => error.fmt(f),
            Self::Local { what, error } => write!(f, "{what}: {error}"),
            Self::TooOld { url, what } => write!(
                f,
                "the server at {url} cannot do this ({what}); it is too old, or another program"
            ),
            Self::Gone => f.write_str("nobody reads the output"),
        }
    }
}

impl std::error::Error for CliError {}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}
