//! `GET /v1/events`: which events are wanted, and how they are said.
//!
//! In: the query and the header that acts like it; later events of the history. Out: where to begin,
//! then server-sent events. Knows no connection.

use std::time::Duration;

use crate::process::history::{Event, History, Kind, Next, Snapshot};
use crate::wire::say::events;
use crate::wire::say::record::Record;
use crate::wire::sse;

use super::activity::Activity;
use super::list;
use super::processes::asked;
use crate::api::problem::Problem;
use crate::api::query::{self, Params};
use crate::api::{Core, Outcome};

/// Which events are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EventsQuery {
    /// The larger of `since` and `Last-Event-ID`; None without both.
    pub since: Option<u64>,
    /// `label`, each `KEY=VALUE`; all must fit.
    pub labels: Vec<Box<str>>,
    /// How often to tell of output and followers, where that is asked for.
    pub activity: Option<Duration>,
}

/// Reads the query of an event stream.
///
/// # Errors
/// 400 naming the parameter or the header.
pub(in crate::api) fn parse(
    params: &Params<'_>,
    last_event_id: Option<&[u8]>,
) -> Result<EventsQuery, Problem> {
    let since = query::number(params, "since")?;
    let resumed = query::last_event_id(last_event_id)?;
    Ok(EventsQuery {
        since: since.max(resumed),
        labels: list::labels(params)?,
        activity: query::number(params, "activityMs")?.map(Duration::from_millis),
    })
}

/// Decides where a stream begins.
///
/// # Errors
/// 410 for a number of another life of the server.
pub(in crate::api) fn events(query: EventsQuery, core: &Core<'_>) -> Result<Outcome, Problem> {
    let history = core.table.history();
    let seen = match query.since {
        None => history.last(),
        Some(0) => history.oldest(),
        Some(seen) if history.is_of_this_life(seen) => seen,
        Some(seen) => return Err(Problem::stale_event(seen, history.last())),
    };
    Ok(Outcome::Events {
        seen,
        labels: query.labels,
        activity: query.activity.map(|every| Activity::new(every).into()),
    })
}

/// Appends what comes behind `seen`, about `budget` bytes of it; returns the last number that was
/// passed.
pub(crate) fn write(
    history: &History,
    seen: u64,
    labels: &[Box<str>],
    budget: usize,
    out: &mut Vec<u8>,
) -> u64 {
    let mut seen = seen;
    while out.len() < budget {
        match history.behind(seen) {
            Next::Nothing => break,
            Next::Gap { from, to } => {
                sse::write_event("gap", None, &events::missed(from, to), out);
                seen = to;
            }
            Next::Event(number, event) => {
                let tags = event.process.tags.as_deref();
                let has = |pair: &str| tags.is_some_and(|tags| tags.has_label(pair));
                if labels.iter().all(|pair| has(pair)) {
                    write_event(number, event, out);
                }
                seen = number;
            }
        }
    }
    seen
}

fn write_event(number: u64, event: &Event, out: &mut Vec<u8>) {
    let (name, reason) = match event.kind {
        Kind::Created => ("created", None),
        Kind::OutOfMemory => ("oom", None),
        Kind::Exited => ("exited", None),
        Kind::Deleted { evicted: false } => ("deleted", None),
        Kind::Deleted { evicted: true } => ("deleted", Some("evicted")),
    };
    let data = events::event(&events::Event {
        name,
        sequence: number,
        at: event.at,
        process: record(&event.process),
        reason,
    });
    sse::write_event(name, Some(number), &String::from_utf8_lossy(&data), out);
}

/// What clients are told of a record as it was.
fn record(process: &Snapshot) -> Record<'_> {
    Record {
        is_running: process.is_running,
        pid: process.pid,
        exited_at: process.exited_at,
        descendants: process.descendants,
        exit: process.exit,
        ..asked(process.id, &process.description, process.tags.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Description;
    use crate::process::Tags;
    use crate::types::{ExitStatus, ProcessId, UnixMs};

    fn event(kind: Kind, label: Option<(&str, &str)>) -> Event {
        let description = Description {
            command: "true".to_owned(),
            created_at: UnixMs(5),
            ..Description::default()
        };
        let labels = label.map(|(key, value)| [(key.into(), value.into())].into());
        let tags = Tags { name: None, labels };
        let running = kind == Kind::Created;
        Event {
            kind,
            at: UnixMs(6),
            process: Snapshot {
                id: ProcessId(1),
                description: description.into(),
                tags: (!tags.is_empty()).then(|| tags.into()),
                is_running: running,
                pid: running.then_some(7),
                exit: (!running).then(|| ExitStatus::Code(0).into()),
                exited_at: (!running).then_some(UnixMs(6)),
                descendants: None,
            },
        }
    }

    fn written(history: &History, seen: u64, labels: &[&str]) -> (u64, String) {
        let labels: Vec<Box<str>> = labels.iter().map(|&label| label.into()).collect();
        let mut out = Vec::new();
        let seen = write(history, seen, &labels, usize::MAX, &mut out);
        (seen, String::from_utf8(out).unwrap())
    }

    #[test]
    fn an_event_says_what_how_and_the_record_as_it_was() {
        let mut history = History::new(UnixMs(1));
        history.push(event(Kind::Created, None));
        history.push(event(Kind::Exited, None));
        history.push(event(Kind::Deleted { evicted: true }, None));
        let (seen, text) = written(&history, 1024, &[]);
        assert_eq!(seen, 1027);
        let record = r#"{"id":"proc_1","command":"true","args":[],"tty":false,"interactive":false,"owner":"user","status":"#;
        let exited = format!(r#"{record}"exited","exitCode":0,"createdAtMs":5,"exitedAtMs":6}}"#);
        let events = [
            format!(
                "event: created\nid: 1025\ndata: {{\"type\":\"created\",\"sequence\":1025,\
                 \"timestampMs\":6,\"process\":{record}\"running\",\"pid\":7,\"createdAtMs\":5}}}}"
            ),
            format!(
                "event: exited\nid: 1026\ndata: {{\"type\":\"exited\",\"sequence\":1026,\
                 \"timestampMs\":6,\"process\":{exited}}}"
            ),
            format!(
                "event: deleted\nid: 1027\ndata: {{\"type\":\"deleted\",\"sequence\":1027,\
                 \"timestampMs\":6,\"process\":{exited},\"reason\":\"evicted\"}}"
            ),
        ];
        assert_eq!(text, format!("{}\n\n", events.join("\n\n")));
    }

    #[test]
    fn a_kill_for_want_of_memory_is_an_event_of_its_own() {
        let mut history = History::new(UnixMs(1));
        history.push(event(Kind::OutOfMemory, None));
        let (_, text) = written(&history, 1024, &[]);
        assert!(
            text.starts_with("event: oom\nid: 1025\ndata: {\"type\":\"oom\","),
            "{text}"
        );
    }

    #[test]
    fn a_filter_passes_what_does_not_fit_and_a_budget_ends_between_events() {
        let mut history = History::new(UnixMs(1));
        for label in [Some(("a", "1")), None, Some(("a", "2")), Some(("a", "1"))] {
            history.push(event(Kind::Created, label));
        }
        let (seen, text) = written(&history, 1024, &["a=1"]);
        assert_eq!((seen, text.matches("event: created").count()), (1028, 2));
        let (seen, text) = written(&history, 1024, &["a=1", "b=2"]);
        assert_eq!((seen, text.as_str()), (1028, ""));
        let mut out = Vec::new();
        assert_eq!(write(&history, 1024, &[], 1, &mut out), 1025);
    }
}
