//! Query parameters and the headers that act like them.
//!
//! In: a decoded query. Out: typed values, or a problem that names the parameter and what it may
//! be. A known one given twice or empty is refused. Those that the route does not have are ignored,
//! unless the request wants it otherwise.

use std::borrow::Cow;
use std::time::Duration;

use crate::config::timeouts;
use crate::log::Select;
use crate::types::{StreamFilter, WindowSize};
use crate::wire::http::head::{Head, Method};
use crate::wire::http::range::{Range, range};
use crate::wire::http::target::Query;

use super::control::window;
use super::problem::Problem;
use super::routes::Parameter;
use super::screen::scrollback;
use super::strict::Unknown;

/// Which processes a list shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Owner {
    /// All of them; every process made through the API is the user's.
    #[default]
    User,
    /// None: no process belongs to the desktop or the system.
    Nobody,
}

/// How a log is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// Entries, in one object or as events.
    #[default]
    Json,
    /// The bytes as they were written.
    Text {
        /// Each line begins with its time.
        timestamps: bool,
    },
}

/// Which part of a log is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogsQuery {
    /// Of which streams and which time.
    pub select: Select,
    /// The last so many entries.
    pub tail: Option<u64>,
    /// Only entries after this one: the larger of `since` and `Last-Event-ID`.
    pub since: u64,
    /// From the entry on that holds this byte, and to be told where that is.
    pub offset: Option<u64>,
    /// How it is shown.
    pub format: Format,
    /// Until the exit.
    pub follow: bool,
    /// How long to wait for an entry, where that is asked for.
    pub wait: Option<Duration>,
    /// Bytes of the entries in one answer, where that is asked for.
    pub bytes_max: Option<u64>,
    /// The `Last-Event-ID` header, which an EventSource sends when it reconnects.
    pub resumed: Option<u64>,
}

/// Which bytes of a log are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawQuery {
    /// Of which streams.
    pub streams: StreamFilter,
    /// From here on.
    pub offset: Option<u64>,
    /// Until the exit.
    pub follow: bool,
    /// The one range that is asked for.
    pub range: Option<Range>,
    /// The range counts only if this is what it is a part of.
    pub if_range: Option<Vec<u8>>,
    /// The client has these.
    pub if_none_match: Vec<Vec<u8>>,
}

/// What a terminal viewer wants to see first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replay {
    /// What the server shows who does not say, with so many lines that have scrolled out.
    Usual(Option<u16>),
    /// The screen, with so many lines that have scrolled out.
    Screen(u16),
    /// The last 256 KiB.
    Recent,
    /// Everything retained.
    All,
    /// Nothing.
    None,
    /// Entries after this one.
    Since(u64),
    /// From this byte of the output on.
    Offset(u64),
}

/// How a terminal is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TerminalQuery {
    /// What is shown first.
    pub replay: Replay,
    /// Input and resize are refused.
    pub read_only: bool,
    /// Binary frames are input.
    pub binary_input: bool,
    /// The client says how much of the output it has processed.
    pub acknowledges: bool,
    /// The client knows frames that are ours.
    pub extended: bool,
    /// What size the terminal is to be given first.
    pub size: Option<WindowSize>,
}

/// How raw input is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StdinQuery {
    /// How many bytes the client believes were accepted before.
    pub offset: Option<u64>,
    /// The end of input follows.
    pub eof: bool,
}

/// The parameters of a request, and those that its route has.
#[derive(Debug)]
pub(crate) struct Params<'q> {
    query: Query<'q>,
    known: &'static [Parameter],
}

impl<'q> Params<'q> {
    /// The parameters of `raw`, the text behind `?`, for a route that knows these.
    pub(crate) fn parse(raw: &'q str, known: &'static [Parameter]) -> Self {
        Self {
            query: Query::parse(raw),
            known,
        }
    }

    /// The first value of a parameter that may be repeated.
    pub(crate) fn first(&self, name: &'static str) -> Option<Cow<'q, str>> {
        let mut pairs = self.query.pairs();
        pairs
            .find(|(found, _)| found == name)
            .map(|(_, value)| value)
    }

    /// Every value of a parameter that may be repeated, in their order.
    pub(super) fn all(&self, name: &'static str) -> impl Iterator<Item = Cow<'q, str>> {
        let pairs = self.query.pairs();
        pairs.filter_map(move |(found, value)| (found == name).then_some(value))
    }

    pub(super) fn unique(&self, name: &'static str) -> Result<Option<Cow<'q, str>>, Problem> {
        debug_assert!(
            self.known.iter().any(|known| known.name == name),
            "{name} is not in the table of routes"
        );
        self.query.unique(name).map_err(|_| {
            Problem::unreadable(
                400,
                format!("query parameter {name} is given more than once"),
            )
        })
    }

    /// Refuses parameters that the route does not have.
    ///
    /// # Errors
    /// 400 naming them.
    pub(crate) fn refuse_unknown(&self) -> Result<(), Problem> {
        let known: Vec<&str> = self.known.iter().map(|known| known.name).collect();
        let mut unknown = Unknown::default();
        for (name, _) in self.query.pairs() {
            if !known.contains(&&*name) {
                unknown.note(&[], &name, &known);
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let message = format!("unknown query parameters: {unknown}; strict handling refuses them");
        Err(Problem::unreadable(400, message))
    }
}

/// One of several words.
///
/// # Errors
/// 400 naming them.
pub(super) fn choice<T: Copy>(
    query: &Params<'_>,
    name: &'static str,
    choices: &[(&str, T)],
) -> Result<Option<T>, Problem> {
    let Some(value) = query.unique(name)? else {
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
pub(crate) fn number(query: &Params<'_>, name: &'static str) -> Result<Option<u64>, Problem> {
    let Some(value) = query.unique(name)? else {
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

/// A parameter that is `true` or `false`, the latter if it is missing.
///
/// # Errors
/// 400 for anything else under that name.
pub(crate) fn flag(query: &Params<'_>, name: &'static str) -> Result<bool, Problem> {
    let words = [("true", true), ("false", false)];
    Ok(choice(query, name, &words)?.unwrap_or(false))
}

/// Which streams are meant; all of them if that is not said.
///
/// # Errors
/// 400 for an unknown one.
pub(crate) fn stream(query: &Params<'_>) -> Result<StreamFilter, Problem> {
    let Some(word) = query.unique("stream")? else {
        return Ok(StreamFilter::default());
    };
    StreamFilter::parse(&word).ok_or_else(|| {
        Problem::unreadable(
            400,
            "query parameter stream must be one of: stdout, stderr, combined, pty",
        )
    })
}

/// The `owner` of a list.
///
/// # Errors
/// 400 for an unknown one.
pub(crate) fn owner(query: &Params<'_>) -> Result<Owner, Problem> {
    let choices = [
        ("user", Owner::User),
        ("desktop", Owner::Nobody),
        ("system", Owner::Nobody),
    ];
    Ok(choice(query, "owner", &choices)?.unwrap_or(Owner::User))
}

/// The header of an EventSource that comes back; an empty one is none.
///
/// # Errors
/// 400 for what is no number.
pub(crate) fn last_event_id(value: Option<&[u8]>) -> Result<Option<u64>, Problem> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let number = std::str::from_utf8(value).ok().and_then(unsigned);
    let bad = || Problem::invalid("Last-Event-ID must be a positive integer");
    number.map(Some).ok_or_else(bad)
}

/// The parameters of a log request.
///
/// # Errors
/// 400 naming the parameter.
pub(crate) fn logs(query: &Params<'_>, last_event_id: Option<&[u8]>) -> Result<LogsQuery, Problem> {
    let select = Select {
        streams: stream(query)?,
        since_ms: number(query, "sinceMs")?.unwrap_or(0),
        until_ms: number(query, "untilMs")?.unwrap_or(u64::MAX),
    };
    let tail = number(query, "tail")?;
    let since = number(query, "since")?.unwrap_or(0);
    let follow = flag(query, "follow")?;
    let timestamps = flag(query, "timestamps")?;
    let text = choice(query, "format", &[("json", false), ("text", true)])?.unwrap_or(false);
    let format = match text {
        true => Format::Text { timestamps },
        false => Format::Json,
    };
    let wait = number(query, "waitMs")?;
    let bytes_max = number(query, "maxBytes")?;
    if bytes_max == Some(0) {
        return Err(Problem::invalid("maxBytes must be at least 1"));
    }
    if (wait.is_some() || bytes_max.is_some()) && (text || follow) {
        return Err(Problem::invalid(
            "waitMs and maxBytes are for one answer of JSON: leave them out with follow=true and \
             format=text",
        ));
    }
    let resumed = self::last_event_id(last_event_id)?;
    let since = since.max(resumed.unwrap_or(0));
    let offset = number(query, "offset")?;
    if offset.is_some() && (text || follow || since > 0 || !select.is_timeless()) {
        return Err(Problem::invalid(
            "offset says where one answer of JSON begins: leave it out with since, sinceMs, \
             untilMs, follow=true and format=text",
        ));
    }
    Ok(LogsQuery {
        select,
        tail,
        since,
        offset,
        format,
        follow,
        wait: wait.map(|ms| Duration::from_millis(ms).min(timeouts::LOG_WAIT_MAX)),
        bytes_max,
        resumed,
    })
}

/// The parameters of raw logs, and the headers that ask for a part (RFC 9110, 13 and 14).
///
/// # Errors
/// 400 naming what does not go together.
pub(crate) fn raw(query: &Params<'_>, head: &Head<'_>) -> Result<RawQuery, Problem> {
    let streams = stream(query)?;
    let offset = number(query, "offset")?;
    let follow = flag(query, "follow")?;
    // No method but GET knows ranges (RFC 9110, 14.2).
    let range = match head.method() {
        Method::Get => range(head.headers("range")),
        _ => None,
    };
    if range.is_some() && (offset.is_some() || follow) {
        return Err(Problem::invalid(
            "a Range header says where to begin and end: leave it out with offset and follow=true",
        ));
    }
    Ok(RawQuery {
        streams,
        offset,
        follow,
        range,
        if_range: head.header("if-range").map(<[u8]>::to_vec),
        if_none_match: head.headers("if-none-match").map(<[u8]>::to_vec).collect(),
    })
}

/// The parameters of raw input.
///
/// # Errors
/// 400 naming the parameter.
pub(crate) fn stdin(query: &Params<'_>) -> Result<StdinQuery, Problem> {
    Ok(StdinQuery {
        offset: number(query, "offset")?,
        eof: flag(query, "eof")?,
    })
}

/// The parameters of a terminal.
///
/// # Errors
/// 400 naming the parameter.
pub(crate) fn terminal(query: &Params<'_>) -> Result<TerminalQuery, Problem> {
    let scrollback = scrollback(query)?;
    let replay = choice(
        query,
        "replay",
        &[
            ("none", Replay::None),
            ("all", Replay::All),
            ("tail", Replay::Recent),
            ("screen", Replay::Screen(scrollback.unwrap_or_default())),
        ],
    )?;
    let since = number(query, "since")?.map(Replay::Since);
    let offset = number(query, "offset")?.map(Replay::Offset);
    let read_only = choice(query, "mode", &[("ro", true), ("rw", false)])?.unwrap_or(false);
    let binary_input =
        choice(query, "input", &[("binary", true), ("text", false)])?.unwrap_or(false);
    let acknowledges = choice(query, "flow", &[("ack", true)])?.unwrap_or(false);
    let extended = choice(query, "control", &[("extended", true)])?.unwrap_or(false);
    Ok(TerminalQuery {
        replay: offset
            .or(since)
            .or(replay)
            .unwrap_or(Replay::Usual(scrollback)),
        read_only,
        binary_input,
        acknowledges,
        extended,
        size: size(query)?,
    })
}

/// The size of a terminal: `cols` and `rows`, or neither.
fn size(query: &Params<'_>) -> Result<Option<WindowSize>, Problem> {
    let side = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
    match (number(query, "cols")?, number(query, "rows")?) {
        (None, None) => Ok(None),
        (Some(cols), Some(rows)) => window(side(cols), side(rows)).map(Some),
        _ => Err(Problem::invalid(format!(
            "query parameters cols and rows go together, each between 1 and {}",
            WindowSize::SIDE_MAX
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Stream;

    fn known(route: &str) -> &'static [Parameter] {
        let mut routes = crate::api::routes::ROUTES.iter();
        routes.find(|found| found.name == route).unwrap().parameters
    }

    fn parse(raw: &str, last: Option<&[u8]>) -> Result<LogsQuery, Problem> {
        logs(&Params::parse(raw, known("getProcessLogs")), last)
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
    fn a_wait_for_entries_is_cut_to_its_maximum() {
        let wait = |raw| parse(raw, None).map(|query| query.wait);
        assert_eq!(wait("waitMs=1500"), Ok(Some(Duration::from_millis(1500))));
        assert_eq!(
            wait("waitMs=18446744073709551615"),
            Ok(Some(timeouts::LOG_WAIT_MAX))
        );
        assert_eq!(wait("maxBytes=1"), Ok(None));
    }

    #[test]
    fn known_parameters_are_strict_and_unknown_ones_ignored() {
        assert_eq!(
            parse("stream=stderr&follow=true&tail=0&Stream=x&z", None),
            Ok(LogsQuery {
                select: StreamFilter::Only(Stream::Stderr).into(),
                tail: Some(0),
                follow: true,
                ..LogsQuery::default()
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
            "format=",
            "format=TEXT",
            "format=html",
            "timestamps=1",
            "waitMs=-1",
            "waitMs=1&follow=true",
            "waitMs=0&format=text",
            "maxBytes=0",
            "maxBytes=1&follow=true",
            "maxBytes=1&format=text&follow=true",
        ] {
            assert!(parse(raw, None).is_err(), "{raw}");
        }
    }
}
