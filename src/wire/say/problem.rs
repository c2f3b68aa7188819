//! The body of a refusal (RFC 7807).
//!
//! In: what is refused and why, in words. Out: one object. The only place that knows its keys and
//! their order. Knows no status line and no header.

use super::input::Accepted;
use crate::types::ProcessId;
use crate::wire::json;

/// What a refusal says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Problem<'a> {
    /// The last part of `type`.
    pub kind: &'a str,
    /// `title`
    pub title: &'a str,
    /// `status`
    pub status: u16,
    /// `detail`
    pub detail: &'a str,
    /// The same without what some kinds put before it; in `details` where that has a message.
    pub message: &'a str,
    /// `details`
    pub details: &'a Details,
    /// `code`
    pub code: Option<&'a str>,
}

/// What `details` holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Details {
    /// There are none.
    None,
    /// The message.
    Message,
    /// The message, and the program or the directory that is missing.
    Path(Box<str>),
    /// Which process; the message is `process <id>`.
    Process,
    /// The message, and who is in the way.
    Holder(ProcessId),
    /// The message, and the offsets of the oldest retained byte and behind the newest.
    Offsets(u64, u64),
    /// The message, and how much was taken before.
    Accepted(Box<Accepted>),
    /// The message, and how many bytes of its input the process has accepted.
    ExpectedOffset(u64),
}

/// Appends the body.
pub(crate) fn write(problem: &Problem<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"urn:sandbox-agent:error:");
    out.extend_from_slice(problem.kind.as_bytes());
    out.extend_from_slice(b"\",\"title\":");
    json::write_string(problem.title, out);
    out.extend_from_slice(format!(",\"status\":{},\"detail\":", problem.status).as_bytes());
    json::write_string(problem.detail, out);
    write_details(problem.details, problem.message, out);
    if let Some(code) = problem.code {
        out.extend_from_slice(b",\"code\":");
        json::write_string(code, out);
    }
    out.push(b'}');
}

fn write_details(details: &Details, message: &str, out: &mut Vec<u8>) {
    if *details == Details::None {
        return;
    }
    out.extend_from_slice(b",\"details\":{");
    match details {
        Details::Process => {
            out.extend_from_slice(b"\"id\":");
            let id = message.strip_prefix("process ").unwrap_or_default();
            json::write_string(id, out);
            out.extend_from_slice(b",\"resource\":\"process\"}");
            return;
        }
        Details::Offsets(first, end) => {
            let offsets = format!("\"firstOffset\":{first},\"endOffset\":{end},");
            out.extend_from_slice(offsets.as_bytes());
        }
        Details::Accepted(accepted) => {
            let written = format!("\"bytesWritten\":{},", accepted.bytes_written);
            out.extend_from_slice(written.as_bytes());
        }
        Details::ExpectedOffset(offset) => {
            out.extend_from_slice(format!("\"expectedOffset\":{offset},").as_bytes());
        }
        Details::None | Details::Message | Details::Path(_) | Details::Holder(_) => {}
    }
    out.extend_from_slice(b"\"message\":");
    json::write_string(message, out);
    match details {
        Details::Path(path) => {
            out.extend_from_slice(b",\"path\":");
            json::write_string(path, out);
        }
        Details::Holder(id) => out.extend_from_slice(format!(",\"id\":\"{id}\"").as_bytes()),
        Details::Accepted(accepted) => accepted.write_offset(out),
        _ => {}
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_stand_around_the_message_in_the_order_of_the_contract() {
        let said = |details: Details| {
            let problem = Problem {
                kind: "conflict",
                title: "Conflict",
                status: 409,
                detail: "conflict: m",
                message: "m",
                details: &details,
                code: Some("c"),
            };
            let mut out = Vec::new();
            write(&problem, &mut out);
            let text = String::from_utf8(out).unwrap();
            let head = r#"{"type":"urn:sandbox-agent:error:conflict","title":"Conflict","status":409,"detail":"conflict: m""#;
            let rest = text.strip_prefix(head).unwrap();
            rest.strip_suffix(r#","code":"c"}"#).unwrap().to_owned()
        };
        assert_eq!(said(Details::None), "");
        let accepted = |offset| {
            let taken = Accepted {
                bytes_written: 3,
                offset,
            };
            Details::Accepted(Box::new(taken))
        };
        for (details, text) in [
            (Details::Message, r#""message":"m""#),
            (
                Details::Path("/x\"".into()),
                r#""message":"m","path":"/x\"""#,
            ),
            (
                Details::Holder(ProcessId(7)),
                r#""message":"m","id":"proc_7""#,
            ),
            (
                Details::Offsets(1, 2),
                r#""firstOffset":1,"endOffset":2,"message":"m""#,
            ),
            (accepted(None), r#""bytesWritten":3,"message":"m""#),
            (
                accepted(Some(9)),
                r#""bytesWritten":3,"message":"m","offset":9"#,
            ),
            (
                Details::ExpectedOffset(5),
                r#""expectedOffset":5,"message":"m""#,
            ),
        ] {
            assert_eq!(said(details), format!(r#","details":{{{text}}}"#));
        }
    }
}
