//! Request bodies: from JSON to checked values.
//!
//! In: the bytes of a body. Out: a typed request, or a problem that names the field. serde does
//! the decoding, as `decode` has it; what it is too lenient about is refused here.

use std::cell::RefCell;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::decode::{Json, Notes};
use super::limits::Asked;
use super::problem::{Problem, shortened};

/// `POST /v1/processes/run`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunBody {
    /// The program.
    pub command: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its working directory.
    pub cwd: Option<String>,
    /// Variables on top of the server's.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Whether the child gets the server's variables.
    #[serde(default = "yes")]
    pub inherit_env: bool,
    /// Milliseconds; 0 and null mean the default.
    pub timeout_ms: Option<u64>,
    /// Bytes kept of each stream.
    pub max_output_bytes: Option<u64>,
    /// Its input, encoded; none if missing.
    pub stdin: Option<String>,
    /// How; UTF-8 if missing.
    pub stdin_encoding: Option<String>,
    /// Whether its input comes later, as a process's does; only of a record.
    pub stdin_open: Option<bool>,
    /// Which bytes are kept of an output that is too long: `head`, `tail` or `both`.
    pub keep: Option<String>,
    /// Whether its tree is ended when the client is gone; it is if missing.
    pub kill_on_disconnect: Option<bool>,
    /// Whether it is a record, too.
    pub record: Option<bool>,
    /// What to call the record.
    pub name: Option<String>,
    /// What to know it by.
    pub labels: Option<BTreeMap<String, String>>,
    /// How output is streamed: `base64` if missing, or `utf8`.
    pub output_encoding: Option<String>,
    /// What it is held to.
    pub limits: Option<Asked>,
    /// Who it is to be.
    pub user: Option<String>,
}

fn yes() -> bool {
    true
}

/// `POST /v1/processes`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateBody {
    /// The program.
    pub command: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its working directory.
    pub cwd: Option<String>,
    /// Variables on top of the server's.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Whether the child gets the server's variables.
    #[serde(default = "yes")]
    pub inherit_env: bool,
    /// Give it a terminal.
    #[serde(default)]
    pub tty: bool,
    /// Echoed only.
    #[serde(default)]
    pub interactive: bool,
    /// Columns of the terminal, 1 to 1000.
    pub cols: Option<u64>,
    /// Rows of the terminal, 1 to 1000.
    pub rows: Option<u64>,
    /// Milliseconds after which its tree is killed; at least 1.
    pub deadline_ms: Option<u64>,
    /// What to call it.
    pub name: Option<String>,
    /// What to know it by.
    pub labels: Option<BTreeMap<String, String>>,
    /// `open` or `closed`.
    pub stdin: Option<String>,
    /// What it is held to.
    pub limits: Option<Asked>,
    /// Who it is to be.
    pub user: Option<String>,
}

/// `POST /v1/processes/{id}/input`.
#[derive(Debug, Deserialize)]
pub struct InputBody {
    /// The bytes, encoded; may be missing where the end of input follows.
    #[serde(default, deserialize_with = "given")]
    pub data: Option<String>,
    /// How; base64 if missing.
    pub encoding: Option<String>,
    /// How many bytes the client believes were accepted before.
    pub offset: Option<u64>,
    /// The end of input follows.
    #[serde(default)]
    pub eof: bool,
}

/// A field that may be missing, but not null.
fn given<'de, D: Deserializer<'de>>(field: D) -> Result<Option<String>, D::Error> {
    String::deserialize(field).map(Some)
}

impl InputBody {
    /// Decodes an input.
    ///
    /// # Errors
    /// As [`object`].
    pub fn read(bytes: &[u8], strict: bool) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        struct Plain {
            #[serde(rename = "data")]
            _data: IgnoredAny,
        }
        let input: Self = object(bytes, strict)?;
        if input.data.is_none() && !input.eof {
            // Says what is missing, and where.
            object::<Plain>(bytes, false)?;
        }
        Ok(input)
    }
}

/// `POST /v1/processes/{id}/terminal/resize`.
#[derive(Debug, Deserialize)]
pub struct ResizeBody {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// Characters of a field's path, and of what is wrong with it, that a problem quotes.
const MESSAGE_CHARS_MAX: usize = 200;

/// Decodes a body that must be one JSON object and nothing else. `strict` refuses fields that
/// nobody knows, which are skipped else.
///
/// # Errors
/// 400 for what is not JSON, 422 for JSON of another shape; the problem names the field.
pub fn object<T: DeserializeOwned>(bytes: &[u8], strict: bool) -> Result<T, Problem> {
    read("the request body", bytes, strict)
}

/// As [`object`], not strict, with another word for what the object is in.
///
/// # Errors
/// As [`object`].
pub fn object_in<T: DeserializeOwned>(place: &str, bytes: &[u8]) -> Result<T, Problem> {
    read(place, bytes, false)
}

fn read<T: DeserializeOwned>(place: &str, bytes: &[u8], strict: bool) -> Result<T, Problem> {
    let unreadable = |error: serde_json::Error| {
        Problem::unreadable(400, format!("{place} is not valid JSON: {error}"))
    };
    if bytes.trim_ascii().is_empty() {
        return Err(Problem::unreadable(
            400,
            format!("{place} is empty; a JSON object is required"),
        ));
    }
    // Checked for the whole body: serde_json looks only at strings it keeps.
    if let Err(error) = std::str::from_utf8(bytes) {
        return Err(Problem::unreadable(
            400,
            format!("{place} is not UTF-8: {error}"),
        ));
    }
    if !bytes.trim_ascii_start().starts_with(b"{") {
        // An array would be taken for a struct by position.
        return Err(match serde_json::from_slice::<IgnoredAny>(bytes) {
            Err(error) => unreadable(error),
            Ok(_) => Problem::unreadable(422, format!("{place} must be a JSON object")),
        });
    }
    let notes = strict.then(RefCell::<Notes>::default);
    let mut decoder = serde_json::Deserializer::from_slice(bytes);
    let mut track = serde_path_to_error::Track::new();
    let value = T::deserialize(Json {
        inner: serde_path_to_error::Deserializer::new(&mut decoder, &mut track),
        notes: notes.as_ref(),
    });
    let value = value.map_err(|error| {
        let error = serde_path_to_error::Error::new(track.path(), error);
        let path = error.path().to_string();
        let error = error.into_inner();
        if error.is_data() {
            let field = if path == "." {
                String::new()
            } else {
                format!("{path}: ")
            };
            // Both may quote the body, at any length.
            let field = shortened(&field, MESSAGE_CHARS_MAX);
            let error = shortened(&error.to_string(), MESSAGE_CHARS_MAX);
            let message = format!("{place} has the wrong shape: {field}{error}");
            // What is missing is a word of ours.
            let logged = match error.starts_with("missing field") {
                true => message.clone(),
                false => match field.trim_end_matches([':', ' ']) {
                    "" => format!("{place} has the wrong shape"),
                    field => format!("{place} has the wrong shape at {field}"),
                },
            };
            Problem::unreadable(422, message).logged(logged)
        } else {
            unreadable(error)
        }
    })?;
    decoder.end().map_err(unreadable)?;
    match notes.map(|notes| notes.into_inner().unknown) {
        Some(unknown) if !unknown.is_empty() => {
            let message =
                format!("{place} has unknown fields: {unknown}; strict handling refuses them");
            Err(Problem::unreadable(422, message))
        }
        _ => Ok(value),
    }
}

/// How the `data` of an input is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputEncoding {
    /// The standard alphabet with padding (RFC 4648, 4).
    Base64,
    /// As it is.
    Utf8,
}

/// The bytes that are the whole input of a run; the limit of the body is theirs, too.
///
/// # Errors
/// 400 for another encoding, or for bad base64.
pub fn stdin_bytes(
    data: Option<String>,
    encoding: Option<&str>,
) -> Result<Option<Vec<u8>>, Problem> {
    let is_base64 = match encoding {
        None | Some("utf8" | "text") => false,
        Some("base64") => true,
        Some(_) => {
            let message = "stdinEncoding must be one of: utf8, text, base64";
            return Err(Problem::invalid(message));
        }
    };
    let decode = |text: String| match is_base64 {
        false => Ok(text.into_bytes()),
        true => STANDARD
            .decode(text.as_bytes())
            .map_err(|error| Problem::invalid(format!("stdin is not base64: {error}")))
            .map_err(|problem| problem.logged("stdin is not base64")),
    };
    data.map(decode).transpose()
}

impl InputEncoding {
    /// Reads the `encoding` field; `default` where it is missing or null.
    ///
    /// # Errors
    /// 400 for any other word.
    pub fn parse(text: Option<&str>, default: Self) -> Result<Self, Problem> {
        match text {
            None => Ok(default),
            Some("base64") => Ok(InputEncoding::Base64),
            Some("utf8" | "text") => Ok(InputEncoding::Utf8),
            Some(_) => Err(Problem::invalid(
                "encoding must be one of: base64, utf8, text",
            )),
        }
    }
}

/// The decoded bytes of an input, at most `limit`.
///
/// # Errors
/// 400 for bad base64, 413 for too many bytes.
pub fn input_bytes(data: String, encoding: InputEncoding, limit: u64) -> Result<Vec<u8>, Problem> {
    let bytes = match encoding {
        InputEncoding::Utf8 => data.into_bytes(),
        InputEncoding::Base64 => STANDARD.decode(data.as_bytes()).map_err(|error| {
            Problem::invalid(format!(
                "invalid base64 input: {error}; a request without \"encoding\" is base64, text \
                     as it is needs \"encoding\":\"utf8\""
            ))
            .logged("the input is not base64")
        })?,
    };
    if bytes.len() as u64 > limit {
        return Err(Problem::input_too_large(limit));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(body: &str) -> (u16, String) {
        match object::<RunBody>(body.as_bytes(), false) {
            Ok(_) => (200, String::new()),
            Err(problem) => (problem.reply().status, problem.detail()),
        }
    }

    #[test]
    fn a_log_says_where_a_body_is_wrong_and_nothing_that_it_holds() {
        let logged = |body: &str| {
            let problem = object::<RunBody>(body.as_bytes(), false).unwrap_err();
            problem.reply().detail.unwrap().into_string()
        };
        for (body, expected) in [
            ("{}", ": missing field `command` at line 1 column 2"),
            (r#"{"command":{"a":"s3cret"}}"#, " at command"),
            (r#"{"command":"s3cret","command":"b"}"#, ""),
            (r#"{"command":"a","args":["b",7]}"#, " at args[1]"),
        ] {
            let expected = format!("the request body has the wrong shape{expected}");
            assert_eq!(logged(body), expected, "{body}");
        }
    }

    #[test]
    fn what_is_not_json_is_400_and_what_has_another_shape_is_422() {
        for body in [
            "",
            "  ",
            "{",
            "nope",
            r#"{"command":"echo"} x"#,
            r#"["echo",["hi"]"#,
            "{\"command\":\"a\",\"x\":\"\u{0}\"}",
        ] {
            assert_eq!(status(body).0, 400, "{body}");
        }
        for body in [
            "[]",
            "null",
            "5",
            r#"["echo",["hi"]]"#,
            "{}",
            r#"{"command":5}"#,
            r#"{"command":"a","args":null}"#,
            r#"{"command":"a","timeoutMs":-1}"#,
            r#"{"command":"a","timeoutMs":1.5}"#,
            r#"{"command":"a","timeoutMs":18446744073709551616}"#,
            r#"{"command":"a","command":"b"}"#,
            r#"{"command":"a","env":null}"#,
            r#"{"command":"a","env":{"A":1}}"#,
        ] {
            assert_eq!(status(body).0, 422, "{body}");
        }
        for body in [
            r#"{"command":"a","cwd":null,"timeoutMs":null,"zzz":[1]}"#,
            r#" {"command":"a","timeoutMs":18446744073709551615} "#,
            r#"{"command":"a","timeoutMs":94388.0,"maxOutputBytes":1e3}"#,
        ] {
            assert_eq!(status(body), (200, String::new()), "{body}");
        }
    }

    #[test]
    fn strict_handling_refuses_unknown_fields_once_the_known_ones_are_right() {
        let strict = |body: &str| match object::<RunBody>(body.as_bytes(), true) {
            Ok(_) => (200, String::new()),
            Err(problem) => (problem.reply().status, problem.detail()),
        };
        let known = r#"{"command":"a","args":[],"env":{"any":"x"},"timeoutMs":1e3}"#;
        assert_eq!(strict(known).0, 200);
        let (status, detail) = strict(r#"{"timeout_ms":5,"command":"a","x":{"y":[1]}}"#);
        assert_eq!(status, 422);
        assert!(
            detail.contains("timeout_ms (nearest known: timeoutMs), x ("),
            "{detail}"
        );
        assert!(strict(r#"{"command":5,"x":1}"#).1.contains("command: "));
        assert_eq!(strict(r#"{"command":"a","x":1} x"#).0, 400);
        assert_eq!(strict(r#"{"command":"a","command":"b"}"#).0, 422);
    }

    #[test]
    fn the_problem_names_the_field() {
        assert!(
            status(r#"{"command":"a","timeoutMs":-1}"#)
                .1
                .contains("timeoutMs: ")
        );
        assert!(
            status(r#"{"command":"a","env":{"A":1}}"#)
                .1
                .contains("env.A: ")
        );
        assert!(status("{}").1.contains("`command`"));
    }

    #[test]
    fn a_problem_does_not_quote_a_body_at_length() {
        let long = "\u{fc}".repeat(100_000);
        for body in [
            format!(r#"{{"command":"a","timeoutMs":"{long}"}}"#),
            format!(r#"{{"command":"a","env":{{"{long}":5}}}}"#),
        ] {
            let (status, detail) = status(&body);
            assert_eq!(status, 422);
            assert!(detail.contains("...") && detail.len() < 2000, "{detail}");
        }
    }

    #[test]
    fn the_data_of_an_input_may_be_missing_only_where_its_end_follows() {
        let read = |body: &str| InputBody::read(body.as_bytes(), false);
        let ending = read(r#"{"eof":true,"offset":7}"#).unwrap();
        assert_eq!((ending.data, ending.offset), (None, Some(7)));
        assert!(read(r#"{"data":"","eof":false,"offset":null}"#).is_ok());
        for (body, field) in [
            ("{}", "`data`"),
            (r#"{"eof":false}"#, "`data`"),
            (r#"{"data":null,"eof":true}"#, "data: "),
            (r#"{"data":"","eof":1}"#, "eof: "),
            (r#"{"data":"","offset":-1}"#, "offset: "),
        ] {
            let problem = read(body).unwrap_err();
            assert_eq!(problem.reply().status, 422, "{body}");
            assert!(problem.detail().contains(field), "{}", problem.detail());
        }
    }

    #[test]
    fn input_is_strict_base64_and_bounded() {
        let decode = |data: &str, limit| input_bytes(data.to_owned(), InputEncoding::Base64, limit);
        assert_eq!(decode("aGk=", 2), Ok(b"hi".to_vec()));
        for data in ["aGk", "aGk\n=", "a-_=", "aG k=", "=", "aGl="] {
            assert!(decode(data, 99).is_err(), "{data}");
        }
        assert_eq!(decode("aGk=", 1).unwrap_err().reply().status, 413);
        assert!(InputEncoding::parse(Some("UTF8"), InputEncoding::Base64).is_err());
        assert!(InputEncoding::parse(Some(""), InputEncoding::Base64).is_err());
    }
}
