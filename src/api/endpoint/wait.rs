//! `GET /v1/processes/{id}/wait`: what is waited for, and what is said when that is over.
//!
//! In: the query, later how the wait ended. Out: a [`Wait`], then an answer. Waits for nothing.

use std::time::Duration;

use crate::config::timeouts;
use crate::log::find::{Search, TEXT_BYTES_MAX};
use crate::process::Process;
use crate::types::Usage;
use crate::wire::say::lists;

use super::processes::{find, record};
use crate::api::problem::Problem;
use crate::api::query::{Params, flag, number, stream};
use crate::api::reply::Reply;
use crate::api::route::Id;
use crate::api::{Core, Outcome};

/// What a client waits for, apart from the exit.
#[derive(Debug)]
pub(crate) enum Until {
    /// Nothing else.
    Exit,
    /// A text in the log.
    Text(Box<Search>),
    /// A process of the tree that listens on this TCP port.
    Port(u16),
}

/// A wait that is to begin.
#[derive(Debug)]
pub(crate) struct Wait {
    /// For what.
    pub until: Until,
    /// And for how long at most.
    pub timeout: Duration,
    /// Whether the answer says what the process uses.
    pub usage: bool,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The process has exited, without what else was waited for.
    Exited,
    /// A process of its tree listens on the port.
    Listens,
    /// The text ends in this entry.
    Found {
        /// Its number.
        sequence: u64,
    },
    /// The time is over, or the server's.
    Timeout,
}

/// The parameters of a wait.
///
/// # Errors
/// 400 naming the parameter.
pub(crate) fn wait_query(query: &Params<'_>) -> Result<Wait, Problem> {
    let timeout = number(query, "timeoutMs")?.map(Duration::from_millis);
    let filter = stream(query)?;
    let since = number(query, "since")?.unwrap_or(0);
    let looked_for = query.unique("log")?;
    let port = number(query, "port")?;
    let bad = |message: String| Problem::unreadable(400, message);
    let until = match (looked_for, port) {
        (Some(_), Some(_)) => {
            return Err(bad(
                "query parameters log and port are two things to wait for; ask for each by itself"
                    .to_owned(),
            ));
        }
        (None, None) => Until::Exit,
        (None, Some(port)) => match u16::try_from(port) {
            Ok(port @ 1..) => Until::Port(port),
            _ => {
                return Err(bad(
                    "query parameter port must be between 1 and 65535".to_owned()
                ));
            }
        },
        (Some(text), None) => match Search::new(text.as_bytes(), filter, since) {
            Some(search) => Until::Text(Box::new(search)),
            None => {
                return Err(bad(format!(
                    "query parameter log must be a text of 1 to {TEXT_BYTES_MAX} bytes"
                )));
            }
        },
    };
    Ok(Wait {
        until,
        timeout: timeout
            .unwrap_or(timeouts::WAIT_FOR_DEFAULT)
            .min(timeouts::WAIT_FOR_MAX),
        usage: flag(query, "usage")?,
    })
}

/// Decides whether there is something to wait for.
///
/// # Errors
/// 404.
pub(crate) fn wait(id: &Id, wait: Wait, core: &Core<'_>) -> Result<Outcome, Problem> {
    let id = find(id, core)?.id;
    Ok(Outcome::Wait { id, wait })
}

/// The answer: how it ended, and the record as it is now, with what the process uses where that was
/// asked for.
pub(crate) fn reply(process: &Process, ended: Ended, usage: Option<Usage>) -> Reply {
    let outcome = match ended {
        Ended::Exited => "exited",
        Ended::Listens | Ended::Found { .. } => "matched",
        Ended::Timeout => "timeout",
    };
    let sequence = match ended {
        Ended::Found { sequence } => Some(sequence),
        _ => None,
    };
    Reply::json(lists::wait(outcome, &record(process, usage), sequence))
        .header("cache-control", "no-store")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::routes::ROUTES;

    fn read(raw: &str) -> Result<Wait, String> {
        let mut routes = ROUTES.iter();
        let route = routes.find(|route| route.name == "waitForProcess").unwrap();
        wait_query(&Params::parse(raw, route.parameters)).map_err(|problem| problem.detail())
    }

    #[test]
    fn a_wait_has_a_time_and_one_thing_to_wait_for() {
        let wait = read("").unwrap();
        assert!(matches!(wait.until, Until::Exit));
        assert_eq!(wait.timeout, Duration::from_secs(30));
        assert_eq!(read("timeoutMs=0").unwrap().timeout, Duration::ZERO);
        let longest = read("timeoutMs=18446744073709551615").unwrap();
        assert_eq!(longest.timeout, Duration::from_secs(3600));
        assert!(matches!(
            read("port=65535").unwrap().until,
            Until::Port(65535)
        ));
        let until = read("log=a+b%0A&since=7&stream=stderr").unwrap().until;
        assert!(matches!(until, Until::Text(search) if search.position() == 8));
        for (raw, named) in [
            ("log=a&port=1", "log and port"),
            ("log=", "1 to 4096 bytes"),
            ("port=0", "1 and 65535"),
            ("port=65536", "1 and 65535"),
            ("timeoutMs=-1", "timeoutMs"),
            ("stream=x", "stream"),
            ("log=a&log=b", "log"),
        ] {
            assert!(read(raw).unwrap_err().contains(named), "{raw}");
        }
        assert!(read(&format!("log={}", "x".repeat(4096))).is_ok());
        assert!(read(&format!("log={}", "x".repeat(4097))).is_err());
    }
}
