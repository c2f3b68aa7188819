//! `GET /v1/processes/{id}/attach/ws`: what a client wants to see, and what it sends.
//!
//! In: a decoded query; then the text of one WebSocket message. Out: typed values, or a problem
//! whose detail goes into an error frame. Knows no socket. A frame is read twice, for the reason
//! that [`crate::api::frame`] gives.

use serde::Deserialize;

use crate::log::Cursor;
use crate::process::Process;
use crate::types::StreamFilter;
use crate::wire::ws::handshake::Accept;

use super::processes::find;
use super::signal::{SignalBody, Signalling};
use crate::api::body::object_in;
use crate::api::frame::{PLACE, Resize, Tag};
use crate::api::problem::Problem;
use crate::api::query::{self, Params, choice};
use crate::api::route::Id;
use crate::api::{Core, Outcome};

/// How output is framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    /// As JSON in text frames.
    #[default]
    Json,
    /// As it is in binary frames, behind the number of its channel.
    Binary,
}

/// What a client wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AttachQuery {
    /// Only entries after this one.
    pub since: u64,
    /// The last so many entries of those.
    pub tail: Option<u64>,
    /// Nothing is sent to the process.
    pub read_only: bool,
    /// How output is framed.
    pub framing: Framing,
}

impl AttachQuery {
    /// Where it begins in the log of a process.
    pub(crate) fn cursor(&self, process: &Process) -> Cursor {
        let (log, all) = (&process.log, StreamFilter::Combined);
        match self.tail {
            Some(count) => Cursor::tail(log, all, self.since, count),
            None => Cursor::after(log, all, self.since),
        }
    }
}

/// Reads the parameters.
///
/// # Errors
/// 400 naming the parameter.
pub(crate) fn query(params: &Params<'_>) -> Result<AttachQuery, Problem> {
    let framings = [("json", Framing::Json), ("binary", Framing::Binary)];
    Ok(AttachQuery {
        since: query::number(params, "since")?.unwrap_or(0),
        tail: query::number(params, "tail")?,
        read_only: choice(params, "mode", &[("ro", true), ("rw", false)])?.unwrap_or(false),
        framing: choice(params, "frames", &framings)?.unwrap_or_default(),
    })
}

/// Checks whether a process can be attached to; one that has exited shows what it wrote.
///
/// # Errors
/// 404.
pub(crate) fn attach(
    id: &Id,
    query: AttachQuery,
    accept: Accept,
    core: &Core<'_>,
) -> Result<Outcome, Problem> {
    let id = find(id, core)?.id;
    Ok(Outcome::Attach { id, query, accept })
}

/// What a text frame asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AttachFrame {
    /// Write this.
    Input {
        /// The bytes, encoded.
        data: String,
        /// How; UTF-8 if missing.
        encoding: Option<String>,
        /// How many bytes the client believes were accepted before.
        offset: Option<u64>,
    },
    /// End the input.
    Eof,
    /// Send this signal.
    Signal(Signalling),
    /// Give the terminal this size.
    Resize {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// End this connection.
    Close,
}

#[derive(Deserialize)]
struct Input {
    data: String,
    encoding: Option<String>,
    offset: Option<u64>,
}

/// Reads one text frame; unknown fields are ignored.
///
/// # Errors
/// For what is not one JSON object, an unknown type, and missing, mistyped or wrong fields.
pub(crate) fn attach_frame(text: &str) -> Result<AttachFrame, Problem> {
    let bytes = text.as_bytes();
    let Tag { r#type } = object_in(PLACE, bytes)?;
    Ok(match r#type.as_str() {
        "input" => {
            let Input {
                data,
                encoding,
                offset,
            } = object_in(PLACE, bytes)?;
            AttachFrame::Input {
                data,
                encoding,
                offset,
            }
        }
        "eof" => AttachFrame::Eof,
        "signal" => {
            let body: SignalBody = object_in(PLACE, bytes)?;
            AttachFrame::Signal(Signalling::from_body(&body)?)
        }
        "resize" => {
            let Resize { cols, rows } = object_in(PLACE, bytes)?;
            AttachFrame::Resize { cols, rows }
        }
        "close" => AttachFrame::Close,
        _ => {
            return Err(Problem::unreadable(
                422,
                "the type of a frame must be one of: input, eof, signal, resize, close",
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_and_what_is_none_is_refused_in_bounds() {
        let input = |data: &str, offset| AttachFrame::Input {
            data: data.to_owned(),
            encoding: None,
            offset,
        };
        for (text, frame) in [
            (r#"{"type":"input","data":"ls\n"}"#, input("ls\n", None)),
            (
                r#"{"offset":7,"data":"","type":"input","x":[1]}"#,
                input("", Some(7)),
            ),
            (r#"{"type":"eof","data":5}"#, AttachFrame::Eof),
            (
                r#"{"type":"resize","cols":1e2,"rows":24.0}"#,
                AttachFrame::Resize {
                    cols: 100,
                    rows: 24,
                },
            ),
            (r#"{"type":"close"}"#, AttachFrame::Close),
        ] {
            assert_eq!(attach_frame(text), Ok(frame), "{text}");
        }
        let Ok(AttachFrame::Signal(signalling)) =
            attach_frame(r#"{"type":"signal","signal":"int","scope":"leader"}"#)
        else {
            panic!("no signal");
        };
        assert_eq!(signalling.signal, libc::SIGINT);
        let long = "x".repeat(100_000);
        for text in [
            "",
            "{",
            r#"["eof"]"#,
            "{}",
            r#"{"type":"Eof"}"#,
            r#"{"type":"ack","bytes":1}"#,
            r#"{"type":"input"}"#,
            r#"{"type":"input","data":"a","offset":-1}"#,
            r#"{"type":"signal"}"#,
            r#"{"type":"signal","signal":"SIGNONE"}"#,
            r#"{"type":"signal","signal":1,"scope":"all"}"#,
            r#"{"type":"resize","cols":1}"#,
            &format!(r#"{{"type":"{long}"}}"#),
            &format!(r#"{{"type":"signal","signal":"{long}"}}"#),
        ] {
            let detail = attach_frame(text).unwrap_err().detail();
            assert!(detail.len() < 1000, "{} bytes", detail.len());
        }
    }
}
