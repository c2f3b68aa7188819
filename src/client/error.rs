//! Why a request has no answer that can be used.

use std::fmt;
use std::io::{self, ErrorKind};

/// What the server said when it refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The status.
    pub status: u16,
    /// What is wrong, in words.
    pub detail: String,
    /// The last word of its type, if it has one.
    pub kind: Option<String>,
    /// The stable short word, if there is one.
    pub code: Option<String>,
    /// The program or the directory that it is about.
    pub path: Option<String>,
    /// How much of an input was taken.
    pub taken: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// The address cannot be read.
    Address(String),
    /// Nobody listens there.
    Absent {
        /// Where.
        url: String,
        /// Why.
        error: io::Error,
    },
    /// The connection broke before everything was said.
    Lost(io::Error),
    /// What came is not what a server of this API says.
    Foreign(&'static str),
    /// The server refused.
    Refused(Problem),
}

/// An outcome of this room.
pub(crate) type Result<T> = std::result::Result<T, ClientError>;

impl ClientError {
    /// Whether there was no server to talk to, so that nothing can have happened.
    pub(crate) fn is_absence(&self) -> bool {
        match self {
            Self::Absent { error, .. } => matches!(
                error.kind(),
                ErrorKind::ConnectionRefused
                    | ErrorKind::ConnectionReset
                    | ErrorKind::NotFound
                    | ErrorKind::WouldBlock
                    | ErrorKind::TimedOut
            ),
            _ => false,
        }
    }

    /// Whether it may be another thing in a moment: a server that is replaced, or away from its proxy.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            // A server of this API says which of its bounds is reached; a proxy knows of none.
            Self::Refused(problem) => match problem.status {
                502 | 504 => true,
                503 => problem.kind.is_none(),
                _ => false,
            },
            error => error.is_absence(),
        }
    }

    /// The status of a refusal.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(problem) => Some(problem.status),
            _ => None,
        }
    }

    /// A body or a stream that ended before its end.
    pub(super) fn cut() -> Self {
        Self::Lost(ErrorKind::UnexpectedEof.into())
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(what) => f.write_str(what),
            Self::Absent { url, error } => write!(f, "no server at {url}: {}", plain(error)),
            Self::Lost(error) if error.kind() == ErrorKind::UnexpectedEof => {
                f.write_str("the connection to the server broke")
            }
            Self::Lost(error) => write!(f, "the connection to the server broke: {}", plain(error)),
            Self::Foreign(what) => {
                write!(f, "what answers there is no procring or too old: {what}")
            }
            Self::Refused(problem) if problem.status == 401 => f.write_str(
                "the server asks for a token, and was shown none or another one; give its own with \
                 --token-file or PROCRING_TOKEN",
            ),
            Self::Refused(problem) => f.write_str(&problem.detail),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// Without the number that the standard library adds.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_lowercase(),
        None => text,
    }
}
