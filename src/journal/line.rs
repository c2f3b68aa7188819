//! How a line looks: text, JSON, or text for the journal of systemd.
//!
//! In: an event, field by field, and when it was. Out: one line with its end, appended to others: it
//! needs no memory of its own, since each run has two. A value that holds blanks, quotes or control
//! characters is quoted, so that nothing that a client sends looks like a line of ours or moves
//! somebody's cursor.
//!
//! ```text
//! 2026-11-26T14:00:00.000Z procring: process_exited id=proc_1 command=sleep exitCode=0
//! {"ts":"2026-11-26T14:00:00.000Z","level":"info","event":"process_exited","id":"proc_1",…}
//! <6>process_exited id=proc_1 command=sleep exitCode=0
//! ```

use std::fmt::{self, Write};

use rustix::fs::fstat;
use rustix::stdio::stderr;

use super::Event;
use crate::config::flags::LogLevel;
use crate::types::UnixMs;
use crate::wire::rfc3339;

/// Characters of one value; more are cut.
const VALUE_CHARS_MAX: usize = 1024;

/// The forms of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    Json,
    Journal,
}

/// Whether standard error is what `JOURNAL_STREAM` names (systemd.exec(5)): a journal, which notes
/// the time and the name itself and reads a priority in front of the line (sd-daemon(3)).
pub(super) fn is_journal(variable: Option<&str>) -> bool {
    let named = variable.and_then(|value| {
        let (device, inode) = value.split_once(':')?;
        Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?))
    });
    let own = fstat(stderr()).map(|stat| (stat.st_dev, stat.st_ino));
    named.is_some_and(|named| own == Ok(named))
}

/// One that is being written.
pub(super) struct Line<'a> {
    shape: Shape,
    text: &'a mut String,
    /// Arguments are shown.
    pub(super) in_detail: bool,
}

impl Shape {
    /// Appends the line of an event, for a log of this level.
    pub(super) fn line(self, event: &Event<'_>, at: UnixMs, log: LogLevel, lines: &mut String) {
        let mut line = Line {
            shape: self,
            text: lines,
            in_detail: log >= LogLevel::Debug,
        };
        let level = event.level();
        let time = rfc3339::of(at.0);
        let time = std::str::from_utf8(&time).unwrap_or_default();
        match self {
            Shape::Text => line.pieces(&[time, " procring: ", mark(level)]),
            Shape::Journal => line.pieces(&["<", priority(level), ">"]),
            Shape::Json => {
                let (level, event) = (level.name(), event.name());
                line.pieces(&[
                    "{\"ts\":\"",
                    time,
                    "\",\"level\":\"",
                    level,
                    "\",\"event\":\"",
                ]);
                line.pieces(&[event, "\""]);
            }
        }
        let sentence = event.sentence();
        match (self, &sentence) {
            (Shape::Json, _) => {}
            (_, Some(sentence)) => plain(sentence, line.text),
            (_, None) => line.text.push_str(event.name()),
        }
        // A sentence says what its fields say.
        if self == Shape::Json || sentence.is_none() {
            event.fields(&mut line);
        }
        if let (Shape::Json, Some(sentence)) = (self, &sentence) {
            line.text("message", sentence);
        }
        line.text.push_str(match self {
            Shape::Json => "}\n",
            Shape::Text | Shape::Journal => "\n",
        });
    }

    /// The line of an event that happens now, by itself.
    pub(super) fn one(self, event: &Event<'_>) -> String {
        let mut line = String::new();
        self.line(event, UnixMs::now(), LogLevel::Info, &mut line);
        line
    }
}

/// In front of what is more or less important than usual.
fn mark(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error: ",
        LogLevel::Warn => "warning: ",
        LogLevel::Debug => "debug: ",
        LogLevel::Info | LogLevel::Off => "",
    }
}

/// As syslog(3) numbers them.
fn priority(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "3",
        LogLevel::Warn => "4",
        LogLevel::Info | LogLevel::Off => "6",
        LogLevel::Debug => "7",
    }
}

impl<'a> Line<'a> {
    /// Appends a JSON object that begins with this time.
    pub(super) fn begin(at: UnixMs, lines: &'a mut String) -> Self {
        let mut line = Self {
            shape: Shape::Json,
            text: lines,
            in_detail: false,
        };
        let time = rfc3339::of(at.0);
        let time = std::str::from_utf8(&time).unwrap_or_default();
        line.pieces(&["{\"ts\":\"", time, "\""]);
        line
    }

    /// That was all of it.
    pub(super) fn end(self) {
        self.text.push_str("}\n");
    }

    fn pieces(&mut self, pieces: &[&str]) {
        pieces.iter().for_each(|piece| self.text.push_str(piece));
    }

    fn key(&mut self, key: &str) {
        match self.shape {
            Shape::Json => self.pieces(&[",\"", key, "\":"]),
            Shape::Text | Shape::Journal => self.pieces(&[" ", key, "="]),
        }
    }

    /// A field that is text.
    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        let is_plain = !value.is_empty()
            && value.len() <= VALUE_CHARS_MAX
            && value
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"\"\\=".contains(&byte));
        let quotes = if is_plain && self.shape != Shape::Json {
            ""
        } else {
            "\""
        };
        self.text.push_str(quotes);
        match is_plain {
            true => self.text.push_str(value),
            false => escape(value, self.text),
        }
        self.text.push_str(quotes);
    }

    /// A field that is there if it has a value.
    pub(super) fn maybe(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// A field that is a word of the program, which needs no quotes, if it has a value.
    pub(super) fn maybe_word(&mut self, key: &str, value: Option<impl fmt::Display>) {
        let Some(value) = value else { return };
        self.key(key);
        // A String takes everything.
        let _ = match self.shape {
            Shape::Json => write!(self.text, "\"{value}\""),
            Shape::Text | Shape::Journal => write!(self.text, "{value}"),
        };
    }

    /// A field that is a number.
    pub(super) fn number(&mut self, key: &str, value: impl fmt::Display) {
        self.key(key);
        let _ = write!(self.text, "{value}");
    }

    /// A number that is there if it has a value.
    pub(super) fn maybe_number(&mut self, key: &str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.number(key, value);
        }
    }

    /// A field that is a list of texts.
    pub(super) fn list(&mut self, key: &str, values: &[String]) {
        self.key(key);
        self.text.push('[');
        for (at, value) in values.iter().enumerate() {
            self.text.push_str(if at > 0 { ",\"" } else { "\"" });
            escape(value, self.text);
            self.text.push('"');
        }
        self.text.push(']');
    }
}

/// Appends a sentence for people, which ends where its line does.
fn plain(sentence: &str, out: &mut String) {
    for piece in sentence.split_inclusive(char::is_control) {
        let end = piece.trim_end_matches(char::is_control).len();
        out.push_str(&piece[..end]);
        escape(&piece[end..], out);
    }
}

/// Appends a value as it stands between quotes, in JSON and in text. Every control character is
/// escaped, those of C1 too, which a terminal may obey.
fn escape(value: &str, out: &mut String) {
    for (at, c) in value.chars().enumerate() {
        if at == VALUE_CHARS_MAX {
            out.push('…');
            return;
        }
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Ended, Job, Refused};
    use crate::types::ProcessId;
    use std::borrow::Cow;

    fn lines(event: &Event<'_>, log: LogLevel) -> [String; 3] {
        [Shape::Text, Shape::Json, Shape::Journal].map(|shape| {
            let mut line = String::new();
            shape.line(event, UnixMs(784_111_777_999), log, &mut line);
            line
        })
    }

    fn ended(request: &str) -> Event<'_> {
        Event::Ended(Ended {
            job: Job {
                id: Some(ProcessId(1)),
                command: "sleep 7",
                request: Some(request),
                ..Job::default()
            },
            exit_code: Some(0),
            duration_ms: 12,
            ..Ended::default()
        })
    }

    #[test]
    fn the_three_forms_say_the_same() {
        let [text, json, journal] = lines(&ended("r-1"), LogLevel::Info);
        let rest = "process_exited id=proc_1 request=r-1 command=sleep exitCode=0 durationMs=12 \
                    outputBytes=0\n";
        assert_eq!(text, format!("1994-11-06T08:49:37.999Z procring: {rest}"));
        assert_eq!(journal, format!("<6>{rest}"));
        assert_eq!(
            json,
            "{\"ts\":\"1994-11-06T08:49:37.999Z\",\"level\":\"info\",\"event\":\"process_exited\",\
             \"id\":\"proc_1\",\"request\":\"r-1\",\"command\":\"sleep\",\"exitCode\":0,\
             \"durationMs\":12,\"outputBytes\":0}\n"
        );
    }

    #[test]
    fn a_value_cannot_end_its_line_or_its_quotes() {
        for value in [
            "a\nprocring: listening on http://evil",
            "a\" exitCode=7",
            "\u{1b}[2J",
            "\u{9b}2J",
            "a=b",
            "a b",
            "",
            "\\",
            "\u{7f}",
        ] {
            for line in lines(&ended(value), LogLevel::Info) {
                assert_eq!(line.matches('\n').count(), 1, "{line:?}");
                let rest = line.trim_end_matches('\n');
                assert!(!rest.chars().any(char::is_control), "{line:?}");
                if rest.starts_with('{') {
                    let json: serde_json::Value = serde_json::from_str(rest).unwrap();
                    assert_eq!(json["request"], value);
                } else {
                    assert_eq!(rest.matches(" exitCode=0").count(), 1, "{line:?}");
                    assert!(rest.contains(" request=\""), "{line:?}");
                }
            }
        }
        let long = "é".repeat(5000);
        for line in lines(&ended(&long), LogLevel::Info) {
            assert!(line.chars().count() < VALUE_CHARS_MAX + 300);
        }
        let sentence = Event::Warning("a\nb");
        let [text, ..] = lines(&sentence, LogLevel::Info);
        assert!(text.ends_with("procring: warning: a\\nb\n"), "{text:?}");
    }

    #[test]
    fn a_refusal_says_how_many_there_were() {
        let refused = Refused {
            reason: "token_invalid",
            status: 401,
            method: "GET",
            path: Cow::Borrowed("/v1/processes"),
            count: 9,
            ..Refused::default()
        };
        let [text, ..] = lines(&Event::Refused(refused), LogLevel::Info);
        assert!(
            text.ends_with(
                "procring: warning: refused reason=token_invalid status=401 method=GET \
                 path=/v1/processes count=9\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn only_the_named_stream_is_a_journal() {
        assert!(!is_journal(None));
        for value in ["", ":", "1", "1:x", "99999999:1"] {
            assert!(!is_journal(Some(value)), "{value}");
        }
        let own = fstat(stderr()).unwrap();
        let named = format!("{}:{}", own.st_dev, own.st_ino);
        assert!(is_journal(Some(&named)));
    }
}
