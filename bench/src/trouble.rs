//! What can go wrong in a measurement, and which of it is a finding.

use std::fmt;
use std::io;

/// Why a measurement has no figure.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// A system call or a socket failed; `what` names the step.
    Io {
        what: &'static str,
        source: io::Error,
    },
    /// The server answered something the contract does not allow.
    Protocol(String),
    /// The server says it does not offer this (501), or cannot reach the size asked for.
    Unavailable(String),
    /// Something did not happen in the time allowed.
    TimedOut(&'static str),
    /// The command line or the installation is at fault.
    Setup(String),
}

pub(crate) type Result<T> = std::result::Result<T, Trouble>;

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Io { what, source } => write!(f, "{what}: {source}"),
            Trouble::Protocol(text) => write!(f, "protocol: {text}"),
            Trouble::Unavailable(text) => write!(f, "not available: {text}"),
            Trouble::TimedOut(what) => write!(f, "timed out: {what}"),
            Trouble::Setup(text) => write!(f, "{text}"),
        }
    }
}

/// Names the step in which a system call failed.
pub(crate) trait During<T> {
    /// Turns the error into [`Trouble::Io`] with this step's name.
    fn during(self, what: &'static str) -> Result<T>;
}

impl<T, E: Into<io::Error>> During<T> for std::result::Result<T, E> {
    fn during(self, what: &'static str) -> Result<T> {
        self.map_err(|error| Trouble::Io {
            what,
            source: error.into(),
        })
    }
}
