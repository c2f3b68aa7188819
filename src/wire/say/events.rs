//! The data of server-sent events that are no log entries: of one log (`gap`, `exit`), and of all
//! processes (`created` to `deleted`, `gap`, `activity`).
//!
//! In: what happened. Out: one object. Knows no log, no history and no stream.

use super::record::{self, Record};
use crate::types::{ExitStatus, ProcessId, UnixMs};

/// Of a log: how its process ended, and the last entry.
pub(crate) fn exit(status: Option<ExitStatus>, last_sequence: u64) -> String {
    let code = status
        .and_then(ExitStatus::code)
        .map_or_else(|| "null".to_owned(), |code| code.to_string());
    match status.and_then(ExitStatus::signal_name) {
        None => format!("{{\"exitCode\":{code},\"lastSequence\":{last_sequence}}}"),
        Some(signal) => format!(
            "{{\"exitCode\":{code},\"signal\":\"{signal}\",\"lastSequence\":{last_sequence}}}"
        ),
    }
}

/// Of a log: entries from one to another are gone, and this many bytes with them.
pub(crate) fn gap(from: u64, to: u64, bytes: u64) -> String {
    format!("{{\"from\":{from},\"to\":{to},\"bytes\":{bytes}}}")
}

/// Of all processes: events from one to another are gone.
pub(crate) fn missed(from: u64, to: u64) -> String {
    format!("{{\"from\":{from},\"to\":{to}}}")
}

/// Something that happened to a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<'a> {
    /// What, which is the event's name, too.
    pub name: &'a str,
    /// Its number.
    pub sequence: u64,
    /// When.
    pub at: UnixMs,
    /// The process as it was then.
    pub process: Record<'a>,
    /// Why, where that is to be said.
    pub reason: Option<&'a str>,
}

/// Of all processes: one thing that happened.
pub(crate) fn event(event: &Event<'_>) -> Vec<u8> {
    let (name, number, UnixMs(at)) = (event.name, event.sequence, event.at);
    let mut data =
        format!("{{\"type\":\"{name}\",\"sequence\":{number},\"timestampMs\":{at},\"process\":")
            .into_bytes();
    record::write(&event.process, &mut data);
    if let Some(reason) = event.reason {
        data.extend_from_slice(format!(",\"reason\":\"{reason}\"").as_bytes());
    }
    data.push(b'}');
    data
}

/// Of all processes: how many bytes each of some has written ever, and how many follow it.
pub(crate) fn activity(of: &[(ProcessId, (u64, usize))], UnixMs(now): UnixMs) -> String {
    let processes = of.iter().map(|(id, (bytes, followers))| {
        format!("{{\"id\":\"{id}\",\"outputBytes\":{bytes},\"followers\":{followers}}}")
    });
    let processes = processes.collect::<Vec<_>>().join(",");
    format!("{{\"type\":\"activity\",\"timestampMs\":{now},\"processes\":[{processes}]}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_tells_its_code_or_its_signal() {
        let said = |status| exit(status, 5);
        assert_eq!(
            said(Some(ExitStatus::Code(3))),
            r#"{"exitCode":3,"lastSequence":5}"#
        );
        assert_eq!(
            said(Some(ExitStatus::Signal(15))),
            r#"{"exitCode":null,"signal":"SIGTERM","lastSequence":5}"#
        );
        assert_eq!(said(None), r#"{"exitCode":null,"lastSequence":5}"#);
    }

    #[test]
    fn an_event_names_each_process_with_its_output_and_its_followers() {
        let news = [(ProcessId(1), (5, 0)), (ProcessId(7), (0, 2))];
        assert_eq!(
            activity(&news, UnixMs(9)),
            "{\"type\":\"activity\",\"timestampMs\":9,\"processes\":[\
             {\"id\":\"proc_1\",\"outputBytes\":5,\"followers\":0},\
             {\"id\":\"proc_7\",\"outputBytes\":0,\"followers\":2}]}"
        );
    }
}
