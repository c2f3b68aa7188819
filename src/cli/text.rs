//! The table of commands as text: `--help` and the manual page.

use std::fmt::Write;

use super::commands::{COMMANDS, COMMON, Command, Flag};

/// Column at which descriptions begin.
const DESCRIPTIONS_AT: usize = 32;

/// Columns of a usual terminal.
const COLUMNS: usize = 80;

/// A flag as it is written.
fn spelled(flag: &Flag) -> String {
    let short = flag
        .short
        .map_or("    ".to_owned(), |short| format!("-{short}, "));
    let value = flag
        .value
        .map_or(String::new(), |value| format!(" {value}"));
    format!("{short}--{}{value}", flag.long)
}

/// A name and what it is, which begins in a line of its own where the name reaches into its column.
fn row(out: &mut String, name: &str, description: &str) {
    let mut name = format!("  {name}");
    if name.chars().count() >= DESCRIPTIONS_AT {
        let _ = writeln!(out, "{}", std::mem::take(&mut name));
    }
    for line in wrapped(description, COLUMNS - DESCRIPTIONS_AT).lines() {
        let _ = writeln!(out, "{:DESCRIPTIONS_AT$}{line}", std::mem::take(&mut name));
    }
}

/// What `procring COMMAND --help` prints.
pub(super) fn help(command: &Command) -> String {
    let Command {
        name,
        usage,
        about,
        more,
        ..
    } = command;
    let mut out = format!("{about}\n\nUsage: procring {name} [OPTIONS] {usage}");
    out.truncate(out.trim_end().len());
    out.push_str("\n\nOptions:\n");
    for flag in command.flags.iter().chain(COMMON) {
        row(&mut out, &spelled(flag), flag.help);
    }
    if !more.is_empty() {
        let _ = write!(out, "\n{}", wrapped(more, COLUMNS));
    }
    out
}

/// The commands, for `procring --help`.
pub fn commands_help() -> String {
    let mut out = String::from("Commands:\n");
    for command in COMMANDS {
        row(&mut out, command.name, command.about);
    }
    out.push_str("\nFlags of every command, before or behind it:\n");
    for flag in COMMON {
        row(&mut out, &spelled(flag), flag.help);
    }
    out
}

/// The commands, for the manual page.
pub fn commands_man() -> String {
    let escape = |text: &str| text.replace('\\', "\\e").replace('-', "\\-");
    let mut out = String::from(".SH COMMANDS\n");
    for command in COMMANDS {
        let (name, usage) = (escape(command.name), escape(command.usage));
        let head = format!(".SS {name} [\\fIOPTIONS\\fR] {usage}");
        let _ = writeln!(out, "{}", head.trim_end());
        let _ = writeln!(out, "{}.", escape(&capitalized(command.about)));
        if !command.more.is_empty() {
            let _ = writeln!(out, "{}", escape(command.more));
        }
        for flag in command.flags {
            let _ = writeln!(out, ".TP\n\\fB{}\\fR", escape(spelled(flag).trim_start()));
            let _ = writeln!(out, "{}.", escape(&capitalized(flag.help)));
        }
    }
    out
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// Text in lines of at most `width` characters.
fn wrapped(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let len = word.chars().count();
        if used > 0 && used + 1 + len > width {
            out.push('\n');
            used = 0;
        }
        if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += len;
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_flag_is_told_within_a_terminal() {
        let all = commands_help();
        for command in COMMANDS {
            assert!(
                all.contains(&format!("\n  {} ", command.name)),
                "{command:?}"
            );
            let help = help(command);
            for flag in command.flags {
                assert!(help.contains(&format!("--{}", flag.long)), "{command:?}");
            }
            for line in help.lines().chain(all.lines()) {
                assert!(line.chars().count() <= COLUMNS, "{line}");
            }
        }
    }
}
