//! `POST /v1/processes/{id}/signal`: which signal, to whom, and which one after it.
//!
//! In: the body of a request, or what an attached client has sent. Out: a [`Signalling`], or a
//! problem that names what is allowed. Sends nothing.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::config::timeouts;
use crate::types::signal::{self, Scope};

use super::processes::find;
use crate::api::body;
use crate::api::problem::{Problem, shortened};
use crate::api::route::Id;
use crate::api::{Core, Outcome};

/// Characters of a word that a problem quotes.
const QUOTED_CHARS_MAX: usize = 64;

/// A signal by name or number, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name or the number of a signal")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Name, E> {
                Ok(Name(value.to_owned()))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Name, E> {
                Ok(Name(value.to_string()))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Name, E> {
                Ok(Name(value.to_string()))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Name, E> {
                // A whole number reads like one, whichever way it was written.
                Ok(Name(value.to_string()))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl Name {
    fn number(&self, field: &str) -> Result<i32, Problem> {
        signal::number(&self.0).ok_or_else(|| {
            Problem::invalid(format!(
                "{field} {:?} is no signal; it must be a number from 1 to 64 or one of: {} (in \
                 any case, with or without SIG)",
                shortened(&self.0, QUOTED_CHARS_MAX),
                signal::names()
            ))
        })
    }
}

/// The body of a request; also what an attached client sends.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SignalBody {
    /// Which one.
    pub signal: Name,
    /// Who gets it; the group if missing.
    pub scope: Option<String>,
    /// Milliseconds after which another one goes to the tree, if the process still runs.
    pub escalate_after_ms: Option<u64>,
    /// Which; SIGKILL if missing.
    pub escalate_to: Option<Name>,
}

/// A signal that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signalling {
    /// Its number.
    pub signal: i32,
    /// Who gets it.
    pub scope: Scope,
    /// How long after it which other one goes to the tree, if the process still runs.
    pub escalation: Option<(Duration, i32)>,
}

impl Signalling {
    /// Checks what was asked for.
    ///
    /// # Errors
    /// 400 for a signal or a scope that there is not, and for `escalateTo` without a time.
    pub(crate) fn from_body(body: &SignalBody) -> Result<Self, Problem> {
        let signal = body.signal.number("signal")?;
        let scope = match body.scope.as_deref() {
            None => Scope::default(),
            Some(word) => Scope::parse(word).ok_or_else(|| {
                let names = Scope::NAMES.map(|(name, _)| name).join(", ");
                Problem::invalid(format!("scope must be one of: {names}"))
            })?,
        };
        let to = body.escalate_to.as_ref();
        let to = to.map(|name| name.number("escalateTo")).transpose()?;
        let escalation = match (body.escalate_after_ms, to) {
            (Some(ms), to) => {
                let after = Duration::from_millis(ms).min(timeouts::WAIT_MAX);
                Some((after, to.unwrap_or(libc::SIGKILL)))
            }
            (None, None) => None,
            (None, Some(_)) => {
                return Err(Problem::invalid(
                    "escalateTo needs escalateAfterMs, the time after which it is sent",
                ));
            }
        };
        Ok(Self {
            signal,
            scope,
            escalation,
        })
    }

    /// Whether most of the tree is likely to end of it.
    pub(crate) fn is_to_end(&self) -> bool {
        let ends = matches!(self.signal, libc::SIGTERM | libc::SIGKILL);
        ends && matches!(self.scope, Scope::Group | Scope::Tree)
    }
}

/// Checks a request; the body before the process.
///
/// # Errors
/// 400 or 422 for the body, 404, 409 for an exited process, and for the foreground of one that has
/// no terminal.
pub(crate) fn signal(id: &Id, bytes: &[u8], core: &Core<'_>) -> Result<Outcome, Problem> {
    let request: SignalBody = body::object(bytes, core.strict)?;
    let signalling = Signalling::from_body(&request)?;
    let process = find(id, core)?;
    if signalling.scope == Scope::Foreground && !process.description.tty {
        return Err(no_terminal());
    }
    if !process.life.is_running() {
        return Err(not_running());
    }
    Ok(Outcome::Send {
        id: process.id,
        signalling,
    })
}

/// 409: there is nobody to get a signal.
pub(crate) fn not_running() -> Problem {
    Problem::conflict("process is not running")
}

/// 409: only a terminal has a foreground group.
pub(crate) fn no_terminal() -> Problem {
    Problem::conflict("process is not running in tty mode; only a terminal has a foreground group")
}

/// 409: nobody to be found there.
pub(crate) fn no_foreground() -> Problem {
    Problem::conflict("no process of this tree is in the foreground of its terminal")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Signalling, u16> {
        let status = |problem: Problem| problem.reply().status;
        let body: SignalBody = body::object(json.as_bytes(), true).map_err(status)?;
        Signalling::from_body(&body).map_err(status)
    }

    #[test]
    fn a_signal_is_a_name_in_any_form_or_a_number_in_any_form() {
        for signal in [
            r#""SIGUSR1""#,
            r#""usr1""#,
            r#""Usr1""#,
            "10",
            "10.0",
            r#""10""#,
        ] {
            let read = read(&format!(r#"{{"signal":{signal}}}"#)).unwrap();
            assert_eq!(read.signal, libc::SIGUSR1, "{signal}");
            assert_eq!((read.scope, read.escalation), (Scope::Group, None));
        }
        for signal in ["0", "65", "-1", "1.5", r#""""#, r#""SIGNO""#, r#""SIG 9""#] {
            let read = read(&format!(r#"{{"signal":{signal}}}"#));
            assert_eq!(read, Err(400), "{signal}");
        }
        for json in [
            "{}",
            r#"{"signal":null}"#,
            r#"{"signal":true}"#,
            r#"{"signal":[2]}"#,
            r#"{"signal":2,"scope":5}"#,
            r#"{"signal":2,"escalateAfterMs":-1}"#,
            r#"{"signal":2,"scop":"tree"}"#,
        ] {
            assert_eq!(read(json), Err(422), "{json}");
        }
    }

    #[test]
    fn an_escalation_has_a_time_and_kills_unless_it_says_otherwise() {
        let of = |rest: &str| read(&format!(r#"{{"signal":"TERM",{rest}}}"#));
        let after = |json| of(json).unwrap().escalation.unwrap();
        let second = Duration::from_secs(1);
        assert_eq!(after(r#""escalateAfterMs":1000"#), (second, libc::SIGKILL));
        let both = r#""escalateAfterMs":1000,"escalateTo":3"#;
        assert_eq!(after(both), (second, libc::SIGQUIT));
        assert_eq!(
            after(r#""escalateAfterMs":18446744073709551615"#).0,
            timeouts::WAIT_MAX
        );
        for bad in [
            r#""escalateTo":"KILL""#,
            r#""escalateAfterMs":1,"escalateTo":"x""#,
            r#""scope":"everybody""#,
            r#""scope":"Tree""#,
        ] {
            assert_eq!(of(bad), Err(400), "{bad}");
        }
    }
}
