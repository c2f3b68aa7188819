//! Query parameters and the headers that act like them.
//!
//! In: a decoded query. Out: typed values, or a problem that names the parameter and what it may
//! be. Unknown parameters are ignored, a known one given twice or empty is refused.

use std::borrow::Cow;

use crate::types::StreamFilter;
use crate::wire::http::target::Query;

use super::problem::Problem;

/// Which processes a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// All of them; every process made through the API is the user's.
    User,
    /// None: no process belongs to the desktop or the system.
    Nobody,
}

/// Which part of a log is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogsQuery {
    /// Which streams.
    pub filter: StreamFilter,
    /// The last so many entries.
    pub tail: Option<u64>,
    /// Only entries after this one: the larger of `since` and `Last-Event-ID`.
    pub since: u64,
    /// As an event stream.
    pub follow: bool,
    /// The `Last-Event-ID` header, which an EventSource sends when it reconnects.
    pub resumed: Option<u64>,
}

/// What a terminal viewer wants to see first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// The last 256 KiB.
    Recent,
    /// Everything retained.
    All,
    /// Nothing.
    None,
    /// Entries after this one.
    Since(u64),
}

/// How a terminal is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalQuery {
    /// What is shown first.
    pub replay: Replay,
    /// Input and resize are refused.
    pub read_only: bool,
    /// Binary frames are input.
    pub binary_input: bool,
}

fn unique<'q>(query: &Query<'q>, name: &str) -> Result<Option<Cow<'q, str>>, Problem> {
    query.unique(name).map_err(|_| {
        Problem::unreadable(
            400,
            format!("query parameter {name} is given more than once"),
        )
    })
}

fn choice<T: Copy>(
    query: &Query<'_>,
    name: &str,
    choices: &[(&str, T)],
) -> Result<Option<T>, Problem> {
    let Some(value) = unique(query, name)? else {
        return Ok(None);
    };
    match choices.iter().find(|(word, _)| *word == value) {
        Some((_, choice)) => Ok(Some(*choice)),
        None => {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            let message = format!(
                "query parameter {name} must be one of: {}",
                words.join(", ")
            );
            Err(Problem::unreadable(400, message))
        }
    }
}

/// Digits only: no sign, no blanks.
fn unsigned(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// An unsigned integer parameter.
///
/// # Errors
/// 400 for anything else under that name.
pub fn number(query: &Query<'_>, name: &str) -> Result<Option<u64>, Problem> {
    let Some(value) = unique(query, name)? else {
        return Ok(None);
    };
    let bad = || {
        Problem::unreadable(
            400,
            format!("query parameter {name} must be an unsigned integer"),
        )
    };
    unsigned(&value).map(Some).ok_or_else(bad)
}

/// The `owner` of a list.
///
/// # Errors
/// 400 for an unknown one.
pub fn owner(query: &Query<'_>) -> Result<Owner, Problem> {
    let choices = [
        ("user", Owner::User),
        ("desktop", Owner::Nobody),
        ("system", Owner::Nobody),
    ];
    Ok(choice(query, "owner", &choices)?.unwrap_or(Owner::User))
}

/// The parameters of a log request.
///
/// # Errors
/// 400 naming the parameter.
pub fn logs(query: &Query<'_>, last_event_id: Option<&[u8]>) -> Result<LogsQuery, Problem> {
    let filter = match unique(query, "stream")? {
        None => StreamFilter::default(),
        Some(word) => StreamFilter::parse(&word).ok_or_else(|| {
            Problem::unreadable(
                400,
                "query parameter stream must be one of: stdout, stderr, combined, pty",
            )
        })?,
    };
    let tail = number(query, "tail")?;
    let since = number(query, "since")?.unwrap_or(0);
    let follow = choice(query, "follow", &[("true", true), ("false", false)])?.unwrap_or(false);
    let resumed = match last_event_id {
        None | Some(b"") => None,
        Some(value) => Some(
            std::str::from_utf8(value)
                .ok()
                .and_then(unsigned)
                .ok_or_else(|| Problem::invalid("Last-Event-ID must be a positive integer"))?,
        ),
    };
    Ok(LogsQuery {
        filter,
        tail,
        since: since.max(resumed.unwrap_or(0)),
        follow,
        resumed,
    })
}

/// The parameters of a terminal.
///
/// # Errors
/// 400 naming the parameter.
pub fn terminal(query: &Query<'_>) -> Result<TerminalQuery, Problem> {
    let replay = choice(
        query,
        "replay",
        &[("none", Replay::None), ("all", Replay::All)],
    )?;
    let since = number(query, "since")?.map(Replay::Since);
    let read_only = choice(query, "mode", &[("ro", true), ("rw", false)])?.unwrap_or(false);
    let binary_input =
        choice(query, "input", &[("binary", true), ("text", false)])?.unwrap_or(false);
    Ok(TerminalQuery {
        replay: since.or(replay).unwrap_or(Replay::Recent),
        read_only,
        binary_input,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Stream;

    fn parse(raw: &str, last: Option<&[u8]>) -> Result<LogsQuery, Problem> {
        logs(&Query::parse(raw), last)
    }

    #[test]
    fn the_larger_of_since_and_last_event_id_wins() {
        assert_eq!(parse("since=5", Some(b"3")).map(|q| q.since), Ok(5));
        assert_eq!(
            parse("since=3", Some(b"5")).map(|q| (q.since, q.resumed)),
            Ok((5, Some(5)))
        );
        assert_eq!(
            parse("since=3", Some(b"")).map(|q| (q.since, q.resumed)),
            Ok((3, None))
        );
        assert!(parse("", Some(b"-1")).is_err() && parse("", Some(b"1.0")).is_err());
    }

    #[test]
    fn known_parameters_are_strict_and_unknown_ones_ignored() {
        assert_eq!(
            parse("stream=stderr&follow=true&tail=0&Stream=x&z", None),
            Ok(LogsQuery {
                filter: StreamFilter::Only(Stream::Stderr),
                tail: Some(0),
                since: 0,
                follow: true,
                resumed: None
            })
        );
        for raw in [
            "tail=",
            "tail=-1",
            "tail=+1",
            "tail=1.5",
            "tail=99999999999999999999",
            "follow=1",
            "follow=TRUE",
            "follow=",
            "stream=",
            "stream=Stdout",
            "since=1&since=1",
            "tail=%201",
        ] {
            assert!(parse(raw, None).is_err(), "{raw}");
        }
    }
}
