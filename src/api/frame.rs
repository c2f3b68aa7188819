//! Text frames of a terminal's client: from JSON to checked values.
//!
//! In: the text of one WebSocket message. Out: what it asks for, or a problem whose detail goes
//! into an error frame. Knows no socket and no terminal.
//!
//! A frame is read twice, first for its `type`, then for the fields of that type. Decoding it at
//! once into an enum tagged by `type` would keep the whole message as a tree first, at up to 16
//! times its size, and a message may have 16 MiB.

use serde::Deserialize;

use super::body::object_in;
use super::problem::Problem;

/// What a text frame asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientFrame {
    /// Type this.
    Input {
        /// The bytes, encoded.
        data: String,
        /// How; UTF-8 if missing.
        encoding: Option<String>,
    },
    /// Give the terminal this size.
    Resize {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// So many bytes of output have been processed, of all that came over this connection.
    Ack {
        /// The total.
        bytes: u64,
    },
    /// End this connection.
    Close,
}

/// What the detail of a problem calls a frame.
pub(super) const PLACE: &str = "the frame";

#[derive(Deserialize)]
pub(super) struct Tag {
    pub r#type: String,
}

#[derive(Deserialize)]
struct Input {
    data: String,
    encoding: Option<String>,
}

#[derive(Deserialize)]
struct Ack {
    bytes: u64,
}

#[derive(Deserialize)]
pub(super) struct Resize {
    pub cols: u16,
    pub rows: u16,
}

/// Reads one text frame; unknown fields are ignored.
///
/// # Errors
/// For what is not one JSON object, an unknown type, and missing or mistyped fields.
pub fn client_frame(text: &str) -> Result<ClientFrame, Problem> {
    let bytes = text.as_bytes();
    let Tag { r#type } = object_in(PLACE, bytes)?;
    match r#type.as_str() {
        "input" => object_in(PLACE, bytes)
            .map(|Input { data, encoding }| ClientFrame::Input { data, encoding }),
        "resize" => {
            object_in(PLACE, bytes).map(|Resize { cols, rows }| ClientFrame::Resize { cols, rows })
        }
        "ack" => object_in(PLACE, bytes).map(|Ack { bytes }| ClientFrame::Ack { bytes }),
        "close" => Ok(ClientFrame::Close),
        _ => Err(unknown_type()),
    }
}

/// What a frame of another type is answered; [`ClientFrame::Ack`], too, where it was not agreed on.
pub fn unknown_type() -> Problem {
    Problem::unreadable(
        422,
        "the type of a frame must be one of: input, resize, close",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_whatever_the_order_of_their_fields() {
        let input = |data: &str, encoding: Option<&str>| ClientFrame::Input {
            data: data.to_owned(),
            encoding: encoding.map(str::to_owned),
        };
        for (text, frame) in [
            (r#"{"type":"input","data":"ls\n"}"#, input("ls\n", None)),
            (
                r#" {"encoding":"base64","data":"","x":[{}],"type":"input"} "#,
                input("", Some("base64")),
            ),
            (
                r#"{"type":"input","data":"a","encoding":null,"cols":"x"}"#,
                input("a", None),
            ),
            (
                r#"{"rows":0,"cols":65535,"type":"resize","data":5}"#,
                ClientFrame::Resize {
                    cols: 65535,
                    rows: 0,
                },
            ),
            (
                r#"{"type":"resize","cols":1e2,"rows":24.0}"#,
                ClientFrame::Resize {
                    cols: 100,
                    rows: 24,
                },
            ),
            (
                r#"{"type":"ack","bytes":262144.0}"#,
                ClientFrame::Ack { bytes: 262_144 },
            ),
            (
                r#"{"type":"close","data":5,"cols":"x"}"#,
                ClientFrame::Close,
            ),
        ] {
            assert_eq!(client_frame(text), Ok(frame), "{text}");
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for text in [
            "",
            "{",
            "close",
            r#"["close"]"#,
            r#"["input","a",null]"#,
            "{}",
            r#"{"type":null}"#,
            r#"{"type":0}"#,
            r#"{"type":"Close"}"#,
            r#"{"type":"input"}"#,
            r#"{"type":"input","data":null}"#,
            r#"{"type":"input","data":"a","encoding":1}"#,
            r#"{"type":"input","data":"a","data":"b"}"#,
            r#"{"type":"close","type":"close"}"#,
            r#"{"type":"close"} x"#,
            r#"{"type":"resize","cols":1}"#,
            r#"{"type":"resize","cols":1,"rows":65536}"#,
            r#"{"type":"resize","cols":-1,"rows":1}"#,
            r#"{"type":"resize","cols":1.5,"rows":1}"#,
            r#"{"type":"ack"}"#,
            r#"{"type":"ack","bytes":-1}"#,
            r#"{"type":"ack","bytes":"1"}"#,
        ] {
            assert!(client_frame(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_refusal_does_not_grow_with_the_frame() {
        let long = "x".repeat(100_000);
        for text in [
            format!(r#"{{"type":"{long}"}}"#),
            format!(r#"{{"type":"resize","cols":"{long}","rows":1}}"#),
        ] {
            let detail = client_frame(&text).unwrap_err().detail();
            assert!(detail.len() < 1000, "{} bytes", detail.len());
        }
    }
}
