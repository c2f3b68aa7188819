//! The record of a process as JSON (ProcessInfo).
//!
//! In: what is known of the process. Out: one object, written straight into the caller's buffer.
//! The only place that knows its keys and their order. Knows no table and no life.

use crate::types::{Exit, ProcessId, UnixMs, Usage};
use crate::wire::{decimal, json};

/// What a record says. Keys whose value is missing are left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    /// `id`
    pub id: ProcessId,
    /// `command`
    pub command: &'a str,
    /// `args`
    pub args: &'a [String],
    /// `argsTruncated`: there are more of them.
    pub args_truncated: bool,
    /// `cwd`
    pub cwd: Option<&'a str>,
    /// `tty`
    pub tty: bool,
    /// `interactive`
    pub interactive: bool,
    /// `status`: `running` or `exited`
    pub is_running: bool,
    /// `pid`
    pub pid: Option<i32>,
    /// `createdAtMs`
    pub created_at: UnixMs,
    /// `exitedAtMs`
    pub exited_at: Option<UnixMs>,
    /// `name`
    pub name: Option<&'a str>,
    /// `labels`
    pub labels: Option<&'a [(Box<str>, Box<str>)]>,
    /// `descendants`
    pub descendants: Option<u32>,
    /// `usage`
    pub usage: Option<Usage>,
    /// `exitCode`, `exitReason` and `signal`
    pub exit: Option<Exit>,
}

/// Appends a record as one JSON object.
pub(crate) fn write(record: &Record<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":");
    json::write_string(&record.id.to_string(), out);
    out.extend_from_slice(b",\"command\":");
    json::write_string(record.command, out);
    out.extend_from_slice(b",\"args\":[");
    for (at, arg) in record.args.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        json::write_string(arg, out);
    }
    out.push(b']');
    if let Some(cwd) = record.cwd {
        out.extend_from_slice(b",\"cwd\":");
        json::write_string(cwd, out);
    }
    write_bool(b",\"tty\":", record.tty, out);
    write_bool(b",\"interactive\":", record.interactive, out);
    out.extend_from_slice(b",\"owner\":\"user\",\"status\":");
    out.extend_from_slice(match record.is_running {
        true => b"\"running\"",
        false => b"\"exited\"",
    });
    if let Some(pid) = record.pid {
        out.extend_from_slice(format!(",\"pid\":{pid}").as_bytes());
    }
    if let Some(code) = record.exit.and_then(|exit| exit.status.code()) {
        out.extend_from_slice(format!(",\"exitCode\":{code}").as_bytes());
    }
    write_number(b",\"createdAtMs\":", record.created_at.0, out);
    if let Some(at) = record.exited_at {
        write_number(b",\"exitedAtMs\":", at.0, out);
    }
    if record.args_truncated {
        write_bool(b",\"argsTruncated\":", true, out);
    }
    if let Some(name) = record.name {
        out.extend_from_slice(b",\"name\":");
        json::write_string(name, out);
    }
    if let Some(labels) = record.labels {
        write_labels(labels, out);
    }
    if let Some(descendants) = record.descendants {
        write_number(b",\"descendants\":", descendants.into(), out);
    }
    if let Some(usage) = &record.usage {
        write_usage(usage, out);
    }
    if let Some(exit) = record.exit {
        write_exit(exit, out);
    }
    out.push(b'}');
}

/// Appends what an answer says of an end as its last keys: `exitReason` and `signal`, each where
/// there is one.
pub(crate) fn write_exit(exit: Exit, out: &mut Vec<u8>) {
    if let Some(reason) = exit.reason {
        out.extend_from_slice(b",\"exitReason\":");
        json::write_string(reason.name(), out);
    }
    if let Some(signal) = exit.status.signal_name() {
        out.extend_from_slice(b",\"signal\":");
        json::write_string(&signal, out);
    }
}

/// Appends the key `usage`.
pub(crate) fn write_usage(usage: &Usage, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"usage\":{\"scope\":");
    let used = &usage.used;
    json::write_string(used.scope.name(), out);
    if let Some(bytes) = used.max_rss_bytes {
        write_number(b",\"maxRssBytes\":", bytes, out);
    }
    write_number(b",\"userCpuUs\":", used.user_cpu_us, out);
    write_number(b",\"systemCpuUs\":", used.system_cpu_us, out);
    write_number(b",\"processes\":", used.processes.into(), out);
    write_number(b",\"inputBytes\":", usage.input_bytes, out);
    write_number(b",\"outputBytes\":", usage.output_bytes, out);
    write_number(b",\"followers\":", usage.followers.into(), out);
    out.push(b'}');
}

fn write_labels(labels: &[(Box<str>, Box<str>)], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"labels\":{");
    for (at, (key, value)) in labels.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        json::write_string(key, out);
        out.push(b':');
        json::write_string(value, out);
    }
    out.push(b'}');
}

fn write_number(key: &[u8], value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    decimal::write(value, out);
}

fn write_bool(key: &[u8], value: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ExitReason, ExitStatus, UsageScope, Used};

    fn written(record: &Record<'_>) -> String {
        let mut out = b"[".to_vec();
        write(record, &mut out);
        String::from_utf8(out).unwrap()[1..].to_owned()
    }

    fn running(args: &[String]) -> Record<'_> {
        Record {
            id: ProcessId(7),
            command: "a\"b",
            args,
            args_truncated: false,
            cwd: None,
            tty: false,
            interactive: true,
            is_running: true,
            pid: Some(4711),
            created_at: UnixMs(5),
            exited_at: None,
            name: None,
            labels: None,
            descendants: None,
            usage: None,
            exit: None,
        }
    }

    #[test]
    fn a_record_that_asked_for_nothing_new_has_the_keys_of_the_reference() {
        let args = ["x".to_owned(), "\n".to_owned()];
        assert_eq!(
            written(&running(&args)),
            r#"{"id":"proc_7","command":"a\"b","args":["x","\n"],"tty":false,"interactive":true,"owner":"user","status":"running","pid":4711,"createdAtMs":5}"#
        );
        let exited = Record {
            cwd: Some("/"),
            is_running: false,
            pid: None,
            exited_at: Some(UnixMs(6)),
            exit: Some(ExitStatus::Code(3).into()),
            ..running(&[])
        };
        assert_eq!(
            written(&exited),
            r#"{"id":"proc_7","command":"a\"b","args":[],"cwd":"/","tty":false,"interactive":true,"owner":"user","status":"exited","exitCode":3,"createdAtMs":5,"exitedAtMs":6}"#
        );
    }

    #[test]
    fn new_keys_stand_behind_the_old_ones_in_their_order() {
        let labels = [("k".into(), "v".into()), ("l".into(), "\"".into())];
        let usage = Usage {
            used: Used {
                scope: UsageScope::Tree,
                max_rss_bytes: Some(1),
                user_cpu_us: 2,
                system_cpu_us: 3,
                processes: 4,
            },
            input_bytes: 5,
            output_bytes: 6,
            followers: 7,
        };
        let exit = Exit {
            status: ExitStatus::Signal(9),
            reason: Some(ExitReason::Deadline),
        };
        let record = Record {
            is_running: false,
            pid: None,
            exited_at: Some(UnixMs(6)),
            name: Some("web"),
            labels: Some(&labels),
            descendants: Some(2),
            usage: Some(usage),
            exit: Some(exit),
            ..running(&[])
        };
        let text = written(&record);
        let (_, new) = text.split_once(r#""exitedAtMs":6,"#).unwrap();
        assert_eq!(
            new,
            r#""name":"web","labels":{"k":"v","l":"\""},"descendants":2,"usage":{"scope":"tree","maxRssBytes":1,"userCpuUs":2,"systemCpuUs":3,"processes":4,"inputBytes":5,"outputBytes":6,"followers":7},"exitReason":"deadline","signal":"SIGKILL"}"#
        );
    }
}
