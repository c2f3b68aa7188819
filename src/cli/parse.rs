//! Arguments to what they mean, by the table of commands.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use lexopt::{Arg, Parser};

use super::commands::{COMMANDS, COMMON, Command, Flag, Operands};
use super::error::{CliError, Result};
use crate::types::arguments;
use crate::types::nearest::meant;

/// See the module.
#[derive(Debug)]
pub(super) struct Parsed {
    command: &'static Command,
    flags: Vec<(&'static Flag, Option<OsString>)>,
    operands: Vec<OsString>,
}

/// The first word that is neither a flag nor its value.
pub(super) fn word(args: &[OsString]) -> Option<&OsStr> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        let takes_value = |flag: &&Flag| text == format!("--{}", flag.long) && flag.value.is_some();
        if COMMON.iter().any(|flag| takes_value(&flag)) {
            args.next();
        } else if !text.starts_with('-') {
            return Some(arg);
        }
    }
    None
}

/// Whether a flag is given that no server has, so that a command is missing.
pub(super) fn is_for_commands(args: &[OsString]) -> bool {
    let is_url = |arg: &OsString| {
        let arg = arg.to_string_lossy();
        arg == "--url" || arg.starts_with("--url=")
    };
    args.iter().any(is_url)
}

fn usage(text: String) -> CliError {
    CliError::Usage(text)
}

impl From<lexopt::Error> for CliError {
    fn from(error: lexopt::Error) -> Self {
        usage(arguments::refused(&error))
    }
}

impl Parsed {
    /// Reads arguments, without the program's name.
    pub(super) fn read(args: Vec<OsString>) -> Result<Self> {
        let mut parser = Parser::from_args(args);
        let mut command: Option<&'static Command> = None;
        let mut flags = Vec::new();
        let mut operands = Vec::new();
        while let Some(arg) = parser.next()? {
            let own = command.map_or(&[][..], |command| command.flags);
            let mut known = own.iter().chain(COMMON);
            let found = match &arg {
                Arg::Short(short) => known.find(|flag| flag.short == Some(*short)),
                Arg::Long(long) => known.find(|flag| flag.long == *long),
                Arg::Value(_) => None,
            };
            match (found, arg) {
                (Some(flag), _) => {
                    let value = match flag.value {
                        Some(what) => Some(value_of(&mut parser, what)?),
                        None => None,
                    };
                    flags.push((flag, value));
                }
                (None, Arg::Value(word)) => match command {
                    None => command = Some(find(&word)?),
                    Some(command) => {
                        operands.push(word);
                        if command.operands == Operands::Program {
                            operands.extend(parser.raw_args()?);
                        }
                    }
                },
                (None, Arg::Long(long)) => return Err(unknown(command, &format!("--{long}"))),
                (None, Arg::Short(short)) => return Err(unknown_letter(command, short)),
            }
        }
        let Some(command) = command else {
            return Err(usage(
                "the command is missing; try `procring --help`".to_owned(),
            ));
        };
        let parsed = Self {
            command,
            flags,
            operands,
        };
        if !parsed.has("help") {
            parsed.check_operands()?;
        }
        Ok(parsed)
    }

    fn check_operands(&self) -> Result<()> {
        let (least, most) = match self.command.operands {
            Operands::None => (0, 0),
            Operands::Words(least, most) => (least, most),
            Operands::Program => (1, usize::MAX),
        };
        if (least..=most).contains(&self.operands.len()) {
            return Ok(());
        }
        let Command {
            name, usage: of, ..
        } = self.command;
        let what = match self.operands.get(most) {
            Some(word) => format!("{word:?} is a word too many"),
            None => {
                // No command needs more than one.
                let first = of.split(' ').find(|word| !word.starts_with('['));
                format!("{} is missing", first.unwrap_or(of).trim_end_matches('.'))
            }
        };
        Err(usage(format!("{what}: procring {name} [OPTIONS] {of}")))
    }

    /// What to do.
    pub(super) fn command(&self) -> &'static Command {
        self.command
    }

    /// Words behind the flags.
    pub(super) fn operands(&self) -> &[OsString] {
        &self.operands
    }

    /// The same as text.
    pub(super) fn words(&self) -> Result<Vec<String>> {
        self.operands.iter().map(text).collect()
    }

    fn all(&self, long: &str) -> impl DoubleEndedIterator<Item = &Option<OsString>> {
        debug_assert!(
            self.command
                .flags
                .iter()
                .chain(COMMON)
                .any(|flag| flag.long == long),
            "{long}"
        );
        let given = self.flags.iter().filter(move |(flag, _)| flag.long == long);
        given.map(|(_, value)| value)
    }

    /// Whether a flag was given.
    pub(super) fn has(&self, long: &str) -> bool {
        self.all(long).next().is_some()
    }

    /// The last value of a flag.
    pub(super) fn value(&self, long: &str) -> Result<Option<String>> {
        let last = self.all(long).next_back().and_then(Option::as_deref);
        last.map(text).transpose()
    }

    /// Every value of a flag.
    pub(super) fn values(&self, long: &str) -> Result<Vec<String>> {
        let given = self.all(long).filter_map(Option::as_deref);
        given.map(text).collect()
    }

    /// A value that is a whole number.
    pub(super) fn number(&self, long: &str) -> Result<Option<u64>> {
        self.read_value(long, "a whole number", |text| text.parse().ok())
    }

    /// A value that is a time: `90s`, `1h30m`; a number alone counts seconds.
    pub(super) fn time(&self, long: &str) -> Result<Option<Duration>> {
        self.read_value(long, "a time such as 90s or 1h30m", time)
    }

    /// A value that `read` understands.
    pub(super) fn read_value<T>(
        &self,
        long: &str,
        what: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.value(long)? else {
            return Ok(None);
        };
        match read(&value) {
            Some(found) => Ok(Some(found)),
            None => Err(usage(format!("--{long} {value:?}: must be {what}"))),
        }
    }

    /// Values of the form `KEY=VALUE`.
    pub(super) fn pairs(&self, long: &str) -> Result<Vec<(String, String)>> {
        let split = |pair: String| match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(usage(format!("--{long} {pair:?}: must be KEY=VALUE"))),
        };
        self.values(long)?.into_iter().map(split).collect()
    }
}

/// The value of the flag that was read last, which is called `what`.
fn value_of(parser: &mut Parser, what: &str) -> Result<OsString> {
    let value = parser.value();
    value.map_err(|error| usage(format!("{}: {what}", arguments::refused(&error))))
}

fn find(word: &OsStr) -> Result<&'static Command> {
    if let Some(found) = COMMANDS.iter().find(|command| word == command.name) {
        return Ok(found);
    }
    let word = word.to_string_lossy();
    if let Some((_, here)) = COMMANDS_ELSEWHERE.iter().find(|(name, _)| *name == word) {
        return Err(usage(format!(
            "there is no command {word:?}; `procring {here}` does that, and `procring --help` lists all"
        )));
    }
    let names = COMMANDS.iter().map(|command| command.name);
    let near = meant(&word, names.chain(["server"]));
    let meant = near.map_or(String::new(), |near| {
        format!("the nearest is `procring {near}`, and ")
    });
    Err(usage(format!(
        "there is no command {word:?}; {meant}`procring --help` lists all"
    )))
}

/// What docker(1) and kubectl(1) call otherwise, and what does it here.
const COMMANDS_ELSEWHERE: &[(&str, &str)] = &[
    ("create", "start"),
    ("delete", "rm"),
    ("describe", "inspect"),
    ("exec", "run"),
    ("get", "ps"),
    ("list", "ps"),
    ("ls", "ps"),
    ("stats", "top"),
    ("version", "--version"),
];

/// The same for flags of commands.
const FLAGS_ELSEWHERE: &[(&str, &[&str], &str)] = &[
    ("run", &["-d", "--detach"], "`procring start` does not wait"),
    (
        "run",
        &["--rm"],
        "the record goes at the end anyway, unless it has a --name",
    ),
    ("start", &["-d", "--detach"], "it does not wait anyway"),
    (
        "ps",
        &["-o", "--output", "--format"],
        "--json is another form",
    ),
    ("ps", &["--filter", "--selector"], "--label chooses"),
    ("inspect", &["-o", "--output", "--format"], "it prints JSON"),
    ("top", &["--no-stream"], "on a pipe it prints once"),
];

/// What a flag of another program is called here, if it is known.
fn elsewhere(command: Option<&'static Command>, given: &str) -> Option<&'static str> {
    let name = command?.name;
    let of_signal = |c: char| c.is_ascii_digit() || c.is_ascii_uppercase();
    if name == "kill" && given.len() == 2 && given.ends_with(of_signal) {
        return Some("-s names a signal");
    }
    let mut known = FLAGS_ELSEWHERE.iter();
    let found = known.find(|(of, flags, _)| *of == name && flags.contains(&given));
    found.map(|(_, _, here)| *here)
}

fn unknown(command: Option<&'static Command>, given: &str) -> CliError {
    let name = spelled(command);
    if let Some(here) = elsewhere(command, given) {
        return usage(format!("{given} is no flag of `{name}`; {here}"));
    }
    let own = command.map_or(&[][..], |command| command.flags);
    let names = own.iter().chain(COMMON).map(|flag| flag.long);
    let way_out = match meant(given, names) {
        Some(near) => format!("the nearest is --{near}"),
        None => format!("`{name} --help` lists all"),
    };
    usage(format!("{given} is no flag of `{name}`; {way_out}"))
}

/// How a command is called.
fn spelled(command: Option<&'static Command>) -> String {
    command.map_or("procring".to_owned(), |command| {
        format!("procring {}", command.name)
    })
}

/// A letter has no nearest one; what begins with it may be meant.
fn unknown_letter(command: Option<&'static Command>, given: char) -> CliError {
    let own = command.map_or(&[][..], |command| command.flags);
    let name = spelled(command);
    if let Some(here) = elsewhere(command, &format!("-{given}")) {
        return usage(format!("-{given} is no flag of `{name}`; {here}"));
    }
    let mut all = own.iter().chain(COMMON);
    let near = all.find(|flag| flag.long.starts_with(given.to_ascii_lowercase()));
    let meant = near.map_or(String::new(), |flag| {
        format!("; the nearest is --{}", flag.long)
    });
    usage(format!(
        "-{given} is no flag of `{name}`{meant}; `{name} --help` lists all"
    ))
}

fn text(word: impl AsRef<OsStr>) -> Result<String> {
    let word = word.as_ref();
    let text = word.to_str().map(str::to_owned);
    text.ok_or_else(|| usage(format!("{word:?} is not UTF-8, which JSON cannot carry")))
}

/// A time as people write it.
pub(super) fn time(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    humantime::parse_duration(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Parsed> {
        Parsed::read(args.iter().map(OsString::from).collect())
    }

    #[test]
    fn the_first_word_of_a_program_ends_the_flags() {
        let parsed = read(&[
            "--url", "u", "run", "-t", "-e", "A=1", "-eB=2", "ls", "-t", "--", "x",
        ]);
        let parsed = parsed.unwrap();
        assert_eq!(parsed.words().unwrap(), ["ls", "-t", "--", "x"]);
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(
            parsed.pairs("env").unwrap(),
            [pair("A", "1"), pair("B", "2")]
        );
        assert_eq!(parsed.value("url").unwrap().as_deref(), Some("u"));
        let parsed = read(&["run", "--", "-x", "--url"]).unwrap();
        assert_eq!(parsed.words().unwrap(), ["-x", "--url"]);
        let parsed = read(&["logs", "web", "--tail", "3", "-f", "--url=u"]).unwrap();
        assert_eq!(parsed.number("tail").unwrap(), Some(3));
        assert!(parsed.has("follow") && !parsed.has("timestamps"));
    }

    #[test]
    fn the_command_is_found_behind_common_flags() {
        let word_of = |args: &[&str]| {
            let args: Vec<_> = args.iter().map(OsString::from).collect();
            word(&args).map(|word| word.to_string_lossy().into_owned())
        };
        assert_eq!(word_of(&["--url", "x", "ps"]).as_deref(), Some("ps"));
        assert_eq!(word_of(&["--url=x", "server"]).as_deref(), Some("server"));
        assert_eq!(word_of(&["--help"]), None);
    }

    #[test]
    fn a_mistake_gets_the_nearest_right_word() {
        let error = |args: &[&str]| read(args).unwrap_err().to_string();
        assert!(
            error(&["lgos"]).contains("`procring logs`"),
            "{}",
            error(&["lgos"])
        );
        assert!(error(&["logs", "--folow", "x"]).contains("--follow"));
        assert!(error(&["rm", "-F", "x"]).contains("--force"));
        assert_eq!(
            error(&["ps", "-z"]),
            "-z is no flag of `procring ps`; `procring ps --help` lists all"
        );
        assert_eq!(
            error(&["logs"]),
            "PROCESS is missing: procring logs [OPTIONS] PROCESS"
        );
        assert_eq!(
            error(&["run", "-t"]),
            "COMMAND is missing: procring run [OPTIONS] [--] COMMAND [ARG]..."
        );
        assert!(error(&["kill"]).starts_with("PROCESS is missing"));
        assert!(error(&["ps", "x"]).starts_with("\"x\" is a word too many"));
        assert_eq!(
            error(&["run", "--xyzzy", "ls"]),
            "--xyzzy is no flag of `procring run`; `procring run --help` lists all"
        );
        assert_eq!(
            error(&["frobnicate"]),
            "there is no command \"frobnicate\"; `procring --help` lists all"
        );
        assert!(error(&["--verbose"]).contains("is no flag"));
        assert_eq!(
            error(&["ps", "--json=3"]),
            "--json takes no value, and was given \"3\""
        );
        assert_eq!(
            error(&["run", "--timeout"]),
            "--timeout needs a value: TIME"
        );
        assert!(error(&["--url", "unix:/x"]).starts_with("the command is missing"));
        let parsed = read(&["logs", "x", "--tail", "-1"]).unwrap();
        let refused = parsed.number("tail").unwrap_err().to_string();
        assert_eq!(refused, "--tail \"-1\": must be a whole number");
    }

    #[test]
    fn words_of_docker_and_kubectl_are_told_what_they_are_here() {
        let error = |args: &[&str]| read(args).unwrap_err().to_string();
        assert_eq!(
            error(&["exec", "web", "ls"]),
            "there is no command \"exec\"; `procring run` does that, and `procring --help` lists all"
        );
        assert_eq!(
            error(&["run", "-d", "ls"]),
            "-d is no flag of `procring run`; `procring start` does not wait"
        );
        assert!(error(&["run", "--rm", "ls"]).contains("goes at the end anyway"));
        assert!(error(&["kill", "-9", "x"]).ends_with("-s names a signal"));
        assert!(error(&["kill", "-KILL", "x"]).ends_with("-s names a signal"));
        assert!(error(&["ps", "-o", "json"]).contains("--json"));
        for (_, here) in COMMANDS_ELSEWHERE {
            let is_there = COMMANDS.iter().any(|command| command.name == *here);
            assert!(is_there || *here == "--version", "{here}");
        }
        for (name, flags, _) in FLAGS_ELSEWHERE {
            let command = find(OsStr::new(name)).unwrap();
            let mut own = command.flags.iter().chain(COMMON);
            let is_own = own.any(|flag| flags.contains(&&*format!("--{}", flag.long)));
            assert!(!is_own, "{name} {flags:?}");
        }
    }

    #[test]
    fn a_flag_of_commands_alone_is_no_server() {
        let alone = |args: &[&str]| {
            let args: Vec<_> = args.iter().map(OsString::from).collect();
            is_for_commands(&args)
        };
        assert!(alone(&["--url", "unix:/x"]) && alone(&["--url=unix:/x"]));
        assert!(!alone(&["--token-file", "x"]) && !alone(&[]));
    }

    #[test]
    fn times_are_written_as_people_do() {
        assert_eq!(time("90s"), Some(Duration::from_secs(90)));
        assert_eq!(time("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(time("1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(time("250ms"), Some(Duration::from_millis(250)));
        assert_eq!((time("-1"), time("soon"), time("")), (None, None, None));
    }
}
