//! Text frames that the viewer of a terminal gets.
//!
//! In: what there is to say. Out: the JSON of one frame. The first three are the reference's, with
//! its order of keys; the others go to who asked for them (`control=extended`).

use std::fmt::Display;

use crate::types::WindowSize;
use crate::wire::json;

/// Why a viewer is drawn the terminal anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It is too far behind.
    Behind,
    /// What it lacks is no longer retained.
    Evicted,
}

/// The first frame.
pub(crate) fn ready(id: impl Display) -> Vec<u8> {
    let mut text = b"{\"processId\":".to_vec();
    json::write_string(&id.to_string(), &mut text);
    text.extend_from_slice(b",\"type\":\"ready\"}");
    text
}

/// The last one. A process that a signal ended has no code.
pub(crate) fn exit(code: Option<i32>) -> Vec<u8> {
    let code = code.map_or_else(|| "null".to_owned(), |code| code.to_string());
    format!("{{\"exitCode\":{code},\"type\":\"exit\"}}").into_bytes()
}

/// Something that was not done.
pub(crate) fn error(message: &str) -> Vec<u8> {
    let mut text = b"{\"message\":".to_vec();
    json::write_string(message, &mut text);
    text.extend_from_slice(b",\"type\":\"error\"}");
    text
}

/// Everything through entry `sequence`, which ends at byte `offset` of the output, has been sent,
/// and nothing later.
pub(crate) fn cursor(sequence: u64, offset: u64) -> Vec<u8> {
    format!("{{\"type\":\"cursor\",\"sequence\":{sequence},\"offset\":{offset}}}").into_bytes()
}

/// Entries `from` to `to` are not sent; what follows draws the terminal.
pub(crate) fn redraw(reason: Reason, from: u64, to: u64) -> Vec<u8> {
    let reason = match reason {
        Reason::Behind => "behind",
        Reason::Evicted => "evicted",
    };
    format!("{{\"type\":\"redraw\",\"reason\":\"{reason}\",\"from\":{from},\"to\":{to}}}")
        .into_bytes()
}

/// The terminal has this size.
pub(crate) fn resized(size: WindowSize) -> Vec<u8> {
    let WindowSize { cols, rows } = size;
    format!("{{\"type\":\"resized\",\"cols\":{cols},\"rows\":{rows}}}").into_bytes()
}

/// The terminal has this title; empty without one.
pub(crate) fn title(title: &str) -> Vec<u8> {
    let mut text = b"{\"type\":\"title\",\"title\":".to_vec();
    json::write_string(title, &mut text);
    text.push(b'}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_they_are_specified() {
        let size = WindowSize { cols: 7, rows: 3 };
        for (frame, text) in [
            (ready("proc_1"), r#"{"processId":"proc_1","type":"ready"}"#),
            (exit(Some(3)), r#"{"exitCode":3,"type":"exit"}"#),
            (exit(None), r#"{"exitCode":null,"type":"exit"}"#),
            (error("a \"b\""), r#"{"message":"a \"b\"","type":"error"}"#),
            (cursor(4, 5), r#"{"type":"cursor","sequence":4,"offset":5}"#),
            (
                redraw(Reason::Behind, 1, 2),
                r#"{"type":"redraw","reason":"behind","from":1,"to":2}"#,
            ),
            (
                redraw(Reason::Evicted, 9, 9),
                r#"{"type":"redraw","reason":"evicted","from":9,"to":9}"#,
            ),
            (title("a \"b\""), r#"{"type":"title","title":"a \"b\""}"#),
            (resized(size), r#"{"type":"resized","cols":7,"rows":3}"#),
        ] {
            assert_eq!(String::from_utf8_lossy(&frame), text);
        }
    }
}
