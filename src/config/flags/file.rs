//! The configuration file: TOML with one key for each flag (`max_exited = 10`).
//!
//! In: the text of a file. Out: what it says of which flag, and where; or a [`FileError`] that names
//! the line, shows it, and knows the nearest right key. Knows no file: `config::load` reads it.
//!
//! A flag's value is text here as everywhere: a number and a string say the same. A list is an array,
//! a flag that takes nothing a boolean, and pairs (`--default-limits a=1,b=2`) may be a table. What
//! is shown of a line never holds a secret, also where its key is misspelt.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::table::{Flag, NOT_IN_FILE, Takes, all_flags};
use super::{TOKEN, key};
use crate::types::nearest::nearest;

/// Characters of a line that are shown.
const SHOWN_CHARS_MAX: usize = 160;

/// What a file says of one flag.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) flag: &'static Flag,
    /// Its values; for a flag that takes nothing none (false) or one (true).
    pub(super) values: Vec<OsString>,
    /// Where its value stands in the text.
    span: Range<usize>,
}

/// What a file says.
pub(super) struct Document<'t> {
    name: &'t str,
    text: &'t str,
    pub(super) entries: Vec<Entry>,
}

/// What is wrong with a file, where, and the line itself.
#[derive(Clone, Debug)]
pub struct FileError {
    at: String,
    message: String,
    shown: Option<Shown>,
}

#[derive(Clone, Debug)]
struct Shown {
    number: usize,
    line: String,
    caret: Range<usize>,
}

impl FileError {
    /// One without a place in the file.
    pub(crate) fn whole(name: &str, message: impl Into<String>) -> Self {
        Self {
            at: name.to_owned(),
            message: message.into(),
            shown: None,
        }
    }

    /// The same in one line.
    pub fn sentence(&self) -> String {
        format!("{}: {}", self.at, self.message)
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message)?;
        let Some(shown) = &self.shown else {
            return Ok(());
        };
        let number = shown.number.to_string();
        let margin = " ".repeat(number.len());
        let before = " ".repeat(shown.caret.start);
        let caret = "^".repeat(shown.caret.len().max(1));
        write!(
            f,
            "\n{margin} |\n{number} | {}\n{margin} | {before}{caret}",
            shown.line
        )
    }
}

impl std::error::Error for FileError {}

impl<'t> Document<'t> {
    /// Reads the text of the file `name`.
    ///
    /// # Errors
    /// For what is not TOML, for a key that is no flag's, and for a value of the wrong type.
    pub(super) fn parse(name: &'t str, text: &'t str) -> Result<Self, FileError> {
        let mut document = Self {
            name,
            text,
            entries: Vec::new(),
        };
        let table = DeTable::parse(text).map_err(|error| {
            let span = error.span().unwrap_or_default();
            document.error(span, &error.message().replace('\n', ", "))
        })?;
        for (written, value) in table.get_ref() {
            let known = |flag: &&'static Flag| key(flag.long) == *written.get_ref().as_ref();
            let flag = in_file().find(known);
            let flag = flag.ok_or_else(|| document.unknown(written, value.get_ref().is_table()))?;
            let values = values(flag, value.get_ref());
            let values = values.map_err(|must| {
                let message = format!("{}: {must}", key(flag.long));
                document.error(value.span(), &message)
            })?;
            document.entries.push(Entry {
                flag,
                values,
                span: value.span(),
            });
        }
        Ok(document)
    }

    /// What is wrong with the value of an entry.
    pub(super) fn refusal(&self, entry: &Entry, value: &OsString, must: &str) -> FileError {
        let key = key(entry.flag.long);
        let message = match entry.flag.long {
            // A secret does not belong into a log.
            TOKEN => format!("{key} {must}"),
            _ => format!("{key} {value:?}: {must}"),
        };
        self.error(entry.span.clone(), &message)
    }

    fn unknown(&self, written: &Spanned<Cow<'_, str>>, is_section: bool) -> FileError {
        let name = written.get_ref();
        if is_section {
            let message =
                format!("{name:?} is a section, and there are none: keys stand by themselves");
            return self.error(written.span(), &message);
        }
        let keys: Vec<String> = in_file().map(|flag| key(flag.long)).collect();
        let near = nearest(name, keys.iter().map(String::as_str)).unwrap_or_default();
        let message = format!("unknown key {name:?}; the nearest known one is {near}");
        self.error(written.span(), &message)
    }

    fn error(&self, span: Range<usize>, message: &str) -> FileError {
        let start = floor(self.text, span.start);
        let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let rest = &self.text[line_start..];
        let line = rest.split(['\n', '\r']).next().unwrap_or_default();
        let number = self.text[..start].matches('\n').count() + 1;
        let column = self.text[line_start..start].chars().count();
        let end = floor(
            self.text,
            span.end.clamp(start, line_start + line.len()).max(start),
        );
        let length = self.text[start..end].chars().count();
        FileError {
            at: format!("{}:{number}:{}", self.name, column + 1),
            message: message.to_owned(),
            shown: showable(line).map(|line| {
                let visible = line.chars().take(SHOWN_CHARS_MAX);
                let line: String = visible
                    .map(|c| if c.is_control() { ' ' } else { c })
                    .collect();
                let width = line.chars().count();
                let from = column.min(width);
                Shown {
                    number,
                    caret: from..(column + length).min(width).max(from),
                    line,
                }
            }),
        }
    }
}

/// The last boundary of a character that is not behind `at`.
fn floor(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

/// What may be shown of a line: to the end of its value if its key is known and no secret's, else
/// what stands before its value. What comes behind may be a secret, under whatever key.
fn showable(line: &str) -> Option<&str> {
    let word = line.trim_start();
    let end = word.find(|c: char| !c.is_ascii_alphanumeric() && !"_-".contains(c));
    let word = &word[..end.unwrap_or(word.len())];
    let is_known = in_file().any(|flag| flag.long != TOKEN && key(flag.long) == word);
    let (before, value) = line.split_once('=')?;
    if !is_known {
        return Some(before.trim_end());
    }
    let start = line.len() - value.trim_start().len();
    let value = &line[start..];
    let first = value.chars().next().unwrap_or_default();
    let end = match first {
        '"' | '\'' => value[1..].find([first, '=']).map(|at| at + 2),
        '[' => value.find([']', '=']).map(|at| at + 1),
        '{' => value.find('}').map(|at| at + 1),
        _ => value.find(|c: char| c.is_whitespace() || ",;=#".contains(c)),
    };
    Some(&line[..end.map_or(line.len(), |end| start + end)])
}

/// The flags that may stand in a file.
fn in_file() -> impl Iterator<Item = &'static Flag> {
    all_flags().filter(|flag| !NOT_IN_FILE.contains(&flag.long))
}

/// A value as the flag takes it from the command line.
fn values(flag: &Flag, value: &DeValue<'_>) -> Result<Vec<OsString>, String> {
    match (flag.takes, value) {
        (Takes::Nothing(_), DeValue::Boolean(on)) => {
            Ok(on.then(|| OsString::from("true")).into_iter().collect())
        }
        (Takes::Nothing(_), _) => Err("must be true or false".to_owned()),
        (Takes::Value(..), DeValue::Table(pairs)) => {
            let pair = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                Ok::<_, String>(format!("{}={}", name.get_ref(), scalar(value.get_ref())?))
            };
            let pairs: Vec<_> = pairs.iter().map(pair).collect::<Result<_, _>>()?;
            Ok(vec![pairs.join(",").into()])
        }
        (Takes::Value(..), value) => Ok(vec![scalar(value)?.into()]),
        (Takes::Values(..), DeValue::Array(items)) => {
            let item = |item: &Spanned<DeValue<'_>>| scalar(item.get_ref()).map(OsString::from);
            items.iter().map(item).collect()
        }
        (Takes::Values(..), value) => Ok(vec![scalar(value)?.into()]),
    }
}

fn scalar(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        DeValue::Integer(_) => Err("a number must be decimal".to_owned()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        other => Err(format!(
            "must be a string or a number, and is {}",
            match other {
                DeValue::Boolean(_) => "a boolean",
                DeValue::Array(_) => "an array",
                DeValue::Table(_) => "a table",
                _ => "a date",
            }
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> FileError {
        match Document::parse("f.toml", text) {
            Err(error) => error,
            Ok(_) => panic!("{text:?} is taken"),
        }
    }

    #[test]
    fn a_typo_is_told_with_its_line_and_the_nearest_key() {
        assert_eq!(
            error("# c\n\nmax_exitd = 10\n").to_string(),
            "f.toml:3:1: unknown key \"max_exitd\"; the nearest known one is max_exited\n  |\n\
             3 | max_exitd\n  | ^^^^^^^^^"
        );
        assert_eq!(
            error("port = 1\nmax_exited = true").to_string(),
            "f.toml:2:14: max_exited: must be a string or a number, and is a boolean\n  |\n\
             2 | max_exited = true\n  |              ^^^^"
        );
        for (text, at) in [
            ("port = ", "f.toml:1:8: "),
            ("port = 1\nport = 2", "f.toml:2:1: "),
            ("é = 1", "f.toml:1:1: "),
            ("host = \"é\" x", "f.toml:1:"),
            ("[server]\nport = 1", "f.toml:1:2: "),
            ("config = \"x\"", "f.toml:1:1: "),
            ("no_token = 1", "f.toml:1:12: "),
            ("port = 2020-01-01", "f.toml:1:8: "),
            ("port = 0x10", "f.toml:1:8: "),
            ("listen = [[1]]", "f.toml:1:10: "),
        ] {
            let sentence = error(text).sentence();
            assert!(sentence.starts_with(at), "{text:?}: {sentence}");
        }
    }

    #[test]
    fn no_secret_is_shown_also_under_a_wrong_key() {
        for text in [
            "token = \"s3cret",
            "token = s3cret",
            "toekn = \"s3cret\"",
            "tok en = \"s3cret\"",
            "token = [\"s3cret\"]",
            "token = \"\"\"\ns3cret",
            "max_exited 7 \ntoken: s3cret",
            "\"tok en\" = \"s3cret\"",
            "x.token = \"s3cret\"",
            "port = 1 token = \"s3cret\"",
            "port = 1, toekn: s3cret",
            "port: 1, toekn: s3cret",
            "host = \"a\" token = \"s3cret\"",
            "listen = [\"a\"], token = \"s3cret\"",
            "listen = [\"a\", token = \"s3cret\"",
            "max_limits = { pids = 1 } token = \"s3cret\"",
        ] {
            let shown = error(text).to_string();
            assert!(!shown.contains("s3cret"), "{text:?}: {shown}");
        }
    }

    #[test]
    fn values_of_every_kind_are_as_flags_take_them() {
        let text = "port = 7\nhost = \"h\"\nshutdown_grace = 1.5\nno_token = true\n\
                    unix_token = false\ncors_allow_origin = [\"http://a\", \"http://b\"]\n\
                    allowed_host = \"one\"\nunix_allow_uid = [1, 2]\n\
                    default_limits = { nofile = 100, memoryBytes = \"64M\" }\n";
        let Ok(document) = Document::parse("f", text) else {
            panic!("{text}");
        };
        let of = |key: &str| -> Vec<String> {
            let entry = document.entries.iter().find(|of| of.flag.long == key);
            let values = &entry.expect("an entry").values;
            values
                .iter()
                .map(|value| value.to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(of("port"), ["7"]);
        assert_eq!(of("shutdown-grace"), ["1.5"]);
        assert_eq!(
            (of("no-token"), of("unix-token")),
            (vec!["true".to_owned()], vec![])
        );
        assert_eq!(of("cors-allow-origin"), ["http://a", "http://b"]);
        assert_eq!(of("allowed-host"), ["one"]);
        assert_eq!(of("unix-allow-uid"), ["1", "2"]);
        let mut pairs: Vec<_> = of("default-limits")[0]
            .split(',')
            .map(str::to_owned)
            .collect();
        pairs.sort();
        assert_eq!(pairs, ["memoryBytes=64M", "nofile=100"]);
    }
}
