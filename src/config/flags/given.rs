//! Where the configuration comes from: flags, the environment, a file; and what is in force of it.
//!
//! In: what was given on each of the three ways. Out: [`ServerArgs`], with every value as text and
//! where it came from. A flag wins over its variable, and that over the file. A token is one thing,
//! however it is given: where a flag names one, neither the variable nor the file counts.

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;

use super::file::Document;
use super::table::{Flag, LIVE, NOT_IN_FILE, Takes, all_flags};
use super::{FileError, ServerArgs, TOKEN, UsageError, apply, key, value, variable};

/// The flag that names a file with the token.
const TOKEN_FILE: &str = "token-file";

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Flag,
    Variable,
    File,
}

/// A flag's values as they were written.
#[derive(Clone)]
struct InForce {
    flag: &'static Flag,
    texts: Vec<OsString>,
    origin: Origin,
}

/// Everything that was given. It holds secrets, so it shows nothing of itself.
#[derive(Clone, Default)]
pub struct Given {
    /// In their order.
    flags: Vec<(&'static Flag, Option<OsString>)>,
    variables: Vec<(&'static Flag, OsString)>,
    in_force: Vec<InForce>,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Given")
    }
}

impl Given {
    pub(super) fn new(
        flags: Vec<(&'static Flag, Option<OsString>)>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        let of = |(name, value): (OsString, OsString)| {
            let is_it = |flag: &&Flag| name == variable(flag.long).as_str();
            all_flags().find(is_it).map(|flag| (flag, value))
        };
        Self {
            flags,
            variables: variables.into_iter().filter_map(of).collect(),
            in_force: Vec::new(),
        }
    }

    /// The variable with the token, as it was before it was overwritten.
    pub fn token_variable(&self) -> Option<&OsStr> {
        let found = self.variables.iter().find(|(flag, _)| flag.long == TOKEN);
        found.map(|(_, value)| value.as_os_str())
    }

    /// The command line again, behind the program's name.
    pub fn words(&self) -> Vec<OsString> {
        let word = |(flag, value): &(&Flag, Option<OsString>)| {
            let mut word = OsString::from(format!("--{}", flag.long));
            if let Some(value) = value {
                word.push("=");
                word.push(value);
            }
            word
        };
        let flags = self.flags.iter().map(word);
        std::iter::once("server".into()).chain(flags).collect()
    }

    fn is_flag(&self, long: &str) -> bool {
        self.flags.iter().any(|(flag, _)| flag.long == long)
    }

    fn is_variable(&self, long: &str) -> bool {
        self.variables.iter().any(|(flag, _)| flag.long == long)
    }

    /// Whether a token that is named before these counts.
    fn hides_token(&self, before: Origin) -> bool {
        let any = |is: &dyn Fn(&str) -> bool| is(TOKEN) || is(TOKEN_FILE);
        any(&|long| self.is_flag(long))
            || before == Origin::File && any(&|long| self.is_variable(long))
    }

    /// What is in force with the text of the file `name`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn with_file(&self, name: &str, text: &str) -> Result<ServerArgs, ConfigError> {
        let document = Document::parse(name, text)?;
        self.clone().resolve(Some(&document))
    }

    /// What is in force with that in the file.
    pub(super) fn resolve(self, file: Option<&Document<'_>>) -> Result<ServerArgs, ConfigError> {
        let mut args = ServerArgs::default();
        let mut in_force = Vec::new();
        for flag in all_flags() {
            let is_token = [TOKEN, TOKEN_FILE].contains(&flag.long);
            let by_flag = self.flags.iter().filter(|(of, _)| of.long == flag.long);
            let variable = self.variables.iter().find(|(of, _)| of.long == flag.long);
            let entry = file.and_then(|file| {
                let found = |entry: &&super::file::Entry| entry.flag.long == flag.long;
                Some((file, file.entries.iter().find(found)?))
            });
            let mut note = |texts: Vec<OsString>, origin| {
                in_force.push(InForce {
                    flag,
                    texts,
                    origin,
                });
            };
            if self.is_flag(flag.long) {
                let source = format!("--{}", flag.long);
                let mut texts = Vec::new();
                for (_, value) in by_flag {
                    let value = value.clone().unwrap_or_else(|| "true".into());
                    match flag.takes {
                        Takes::Nothing(set) => set(&mut args),
                        Takes::Value(_, set) | Takes::Values(_, set) => {
                            apply(&mut args, flag, set, &source, &value)?;
                        }
                    }
                    if !matches!(flag.takes, Takes::Values(..)) {
                        texts.clear();
                    }
                    texts.push(value);
                }
                note(texts, Origin::Flag);
            } else if let Some((_, value)) = variable {
                // `token` reads this variable itself: it overwrites it where others could see it.
                if flag.long != TOKEN && !(is_token && self.hides_token(Origin::Variable)) {
                    let texts = set_from_variable(&mut args, flag, value)?;
                    note(texts, Origin::Variable);
                }
            } else if let Some((file, entry)) = entry
                && !(is_token && self.hides_token(Origin::File))
            {
                for text in &entry.values {
                    let set = match flag.takes {
                        Takes::Nothing(set) => {
                            set(&mut args);
                            continue;
                        }
                        Takes::Value(_, set) | Takes::Values(_, set) => set,
                    };
                    set(&mut args, text).map_err(|must| file.refusal(entry, text, &must))?;
                }
                note(entry.values.clone(), Origin::File);
            }
        }
        // Each is in its range, so this only lowers a default to the maximum.
        args.settings = args
            .settings
            .validated()
            .map_err(|error| UsageError::new(error.message()))?;
        args.given = Self { in_force, ..self };
        Ok(args)
    }

    /// Whether a flag is given, in whatever way.
    pub fn names(&self, long: &str) -> bool {
        self.in_force.iter().any(|of| of.flag.long == long)
    }

    fn texts(&self, long: &str) -> &[OsString] {
        let found = self.in_force.iter().find(|of| of.flag.long == long);
        found.map_or(&[], |of| of.texts.as_slice())
    }

    /// What is another value in `new`, as keys, and whether each can change while a server runs.
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        let changed = all_flags().filter(|flag| self.texts(flag.long) != new.texts(flag.long));
        changed
            .map(|flag| Change {
                long: flag.long,
                is_live: LIVE.contains(&flag.long),
                text: match flag.long {
                    // A secret does not belong into a log.
                    TOKEN => key(TOKEN),
                    long => format!(
                        "{} from {} to {}",
                        key(long),
                        shown(flag, self.texts(long)),
                        shown(flag, new.texts(long))
                    ),
                },
            })
            .collect()
    }

    /// The configuration in force, as a file that says the same. Secrets are left out.
    pub fn print(&self) -> String {
        let mut out = format!("# procring {}\n", env!("CARGO_PKG_VERSION"));
        let in_file = |flag: &&Flag| !NOT_IN_FILE.contains(&flag.long);
        for flag in all_flags().filter(in_file) {
            let key = key(flag.long);
            let found = self.in_force.iter().find(|of| of.flag.long == flag.long);
            let line = match (found, flag.takes, flag.default) {
                (Some(_), ..) if flag.long == TOKEN => "# token is set".to_owned(),
                (Some(of), ..) => {
                    let source = match of.origin {
                        Origin::Flag => format!("--{}", flag.long),
                        Origin::Variable => variable(flag.long),
                        Origin::File => "file".to_owned(),
                    };
                    format!("{key} = {} # {source}", toml(flag, &of.texts))
                }
                (None, Takes::Value(..), Some(default)) => {
                    format!("{key} = {}", toml(flag, &[default.into()]))
                }
                (None, Takes::Nothing(_), _) => format!("{key} = false"),
                (None, ..) if flag.long == TOKEN && self.token_variable().is_some() => {
                    "# token is set".to_owned()
                }
                (None, ..) => format!("# {key}"),
            };
            // A String takes everything.
            let _ = writeln!(out, "{line}");
        }
        out
    }
}

/// What differs between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The flag.
    pub long: &'static str,
    /// It can change while a server runs.
    pub is_live: bool,
    /// For people.
    pub text: String,
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// A flag or a variable.
    Usage(UsageError),
    /// The file.
    File(Box<FileError>),
}

impl ConfigError {
    /// The same in one line.
    pub fn sentence(&self) -> String {
        match self {
            Self::Usage(error) => error.to_string(),
            Self::File(error) => error.sentence(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => error.fmt(f),
            Self::File(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConfigError {}

impl From<UsageError> for ConfigError {
    fn from(error: UsageError) -> Self {
        Self::Usage(error)
    }
}

impl From<FileError> for ConfigError {
    fn from(error: FileError) -> Self {
        Self::File(Box::new(error))
    }
}

/// Sets a flag from its variable. Returns what that says, as flags would.
fn set_from_variable(
    args: &mut ServerArgs,
    flag: &Flag,
    given: &OsStr,
) -> Result<Vec<OsString>, UsageError> {
    let source = variable(flag.long);
    match flag.takes {
        Takes::Nothing(set) => {
            let on = value::switch(given);
            let on = on.map_err(|must| super::refusal(flag, &source, given, &must))?;
            if on {
                set(args);
            }
            Ok(on.then(|| "true".into()).into_iter().collect())
        }
        Takes::Value(_, set) => {
            apply(args, flag, set, &source, given)?;
            Ok(vec![given.to_owned()])
        }
        Takes::Values(_, set) => {
            let items = given.as_bytes().split(|byte| *byte == b',');
            let items = items.map(|item| OsStr::from_bytes(item.trim_ascii()).to_owned());
            let items: Vec<_> = items.collect();
            for item in &items {
                apply(args, flag, set, &source, item)?;
            }
            Ok(items)
        }
    }
}

/// A value for people.
fn shown(flag: &Flag, texts: &[OsString]) -> String {
    match (texts, flag.takes, flag.default) {
        ([], Takes::Nothing(_), _) => "false".to_owned(),
        ([], _, Some(default)) => default.to_owned(),
        ([], _, None) => "none".to_owned(),
        (texts, ..) => {
            let texts: Vec<_> = texts.iter().map(|text| text.to_string_lossy()).collect();
            texts.join(",")
        }
    }
}

/// A value as TOML.
fn toml(flag: &Flag, texts: &[OsString]) -> String {
    let one = |text: &OsString| {
        let text = text.to_string_lossy();
        let is_number = text.len() < 19
            && (text == "0" || !text.starts_with('0'))
            && !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_digit());
        match is_number {
            true => text.into_owned(),
            false => quoted(&text),
        }
    };
    match flag.takes {
        Takes::Nothing(_) => (!texts.is_empty()).to_string(),
        Takes::Value(..) => texts.last().map_or_else(String::new, one),
        Takes::Values(..) => {
            let all: Vec<_> = texts.iter().map(one).collect();
            format!("[{}]", all.join(", "))
        }
    }
}

/// A basic string (TOML 1.0).
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::flags::{Invocation, parse};

    fn args(flags: &[&str], variables: &[(&str, &str)], file: &str) -> Result<ServerArgs, String> {
        let flags = std::iter::once("server").chain(flags.iter().copied());
        let variables = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        match parse(flags.map(OsString::from), variables) {
            Ok(Invocation::Server(args)) => {
                let args = args.given.with_file("f.toml", file);
                args.map_err(|error| error.sentence())
            }
            Ok(_) => Err("not the server".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_flag_wins_over_its_variable_and_that_over_the_file() {
        let file = "max_exited = 1\nmax_leftovers = 1\nmax_connections = 1\nno_token = true\n";
        let variables = [
            ("PROCRING_MAX_EXITED", "2"),
            ("PROCRING_MAX_LEFTOVERS", "2"),
        ];
        let found = args(&["--max-exited", "3"], &variables, file).unwrap();
        let of = (found.exited_max, found.leftovers_max, found.connections_max);
        assert_eq!((of, found.no_token), ((3, 2, 1), true));
        let off = [("PROCRING_NO_TOKEN", "false")];
        assert!(!args(&[], &off, file).unwrap().no_token);
        let error = args(&[], &[], "max_exited = 0").unwrap_err();
        assert_eq!(
            error,
            "f.toml:1:14: max_exited \"0\": must be a number greater than 0"
        );
        let error = args(&[], &[], "token = \" \"").unwrap_err();
        assert!(error.starts_with("f.toml:1:9: token must"), "{error}");
    }

    #[test]
    fn a_token_that_is_given_higher_up_hides_those_below() {
        let file = "token = \"t\"\ntoken_file = \"/f\"";
        let both = args(&[], &[], file).unwrap();
        assert_eq!(both.token.as_deref(), Some("t"));
        assert!(both.token_file.is_some());
        let by_flag = args(&["--token-file", "/g"], &[], file).unwrap();
        assert_eq!(
            (by_flag.token, by_flag.token_file),
            (None, Some("/g".into()))
        );
        // `token` reads the variable itself.
        let hidden = args(&[], &[("PROCRING_TOKEN", "v")], file).unwrap();
        assert_eq!((hidden.token, hidden.token_file), (None, None));
        assert_eq!(hidden.given.token_variable(), Some(OsStr::new("v")));
    }

    #[test]
    fn what_is_printed_says_the_same_when_it_is_read_and_no_secret() {
        let file = "cors_allow_origin = [\"http://a\"]\nmax_output_bytes = \"2M\"\n\
                    state_dir = \"/a \\\"b\\\\\"\nno_token = true\nunix_mode = 640\n";
        let flags = [
            "--token",
            "s3cret",
            "--port",
            "0",
            "--shutdown-grace",
            "250ms",
        ];
        let first = args(&flags, &[("PROCRING_MAX_EXITED", "7")], file).unwrap();
        let printed = first.given.print();
        assert!(!printed.contains("s3cret"), "{printed}");
        let mut again = args(&[], &[], &printed).expect(&printed);
        again.token.clone_from(&first.token);
        assert_eq!(format!("{first:?}"), format!("{again:?}"), "{printed}");
        // Every key is there, so that who reads it knows what there is.
        for flag in all_flags().filter(|flag| !NOT_IN_FILE.contains(&flag.long)) {
            assert!(printed.contains(&key(flag.long)), "{}", flag.long);
        }
    }

    #[test]
    fn changes_are_named_and_a_secret_is_not() {
        let before = args(&[], &[], "port = 1\ntoken = \"a\"\nmax_exited = 1").unwrap();
        let after = args(&[], &[], "port = 2\ntoken = \"s3cret\"\nno_token = true").unwrap();
        let changes = before.given.changes(&after.given);
        let of: Vec<_> = changes
            .iter()
            .map(|of| (of.text.as_str(), of.is_live))
            .collect();
        assert_eq!(
            of,
            [
                ("port from 1 to 2", false),
                ("token", true),
                ("no_token from false to true", false),
                ("max_exited from 1 to 1024", true),
            ]
        );
        assert_eq!(before.given.changes(&before.given), []);
        for live in LIVE.iter().chain(&NOT_IN_FILE) {
            assert!(all_flags().any(|flag| flag.long == *live), "{live}");
        }
        for (flag, _) in crate::config::settings::FIELDS {
            assert!(LIVE.contains(&flag), "{flag}");
        }
    }
}
