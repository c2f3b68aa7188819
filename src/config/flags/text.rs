//! The table of flags as text: what `--help` prints, and the manual page.

use std::fmt::Write;

use super::table::{Flag, Takes, all_flags};

/// Column at which descriptions begin in `--help`.
const DESCRIPTIONS_AT: usize = 32;

/// What `--help` prints, with what is said of other commands.
pub fn help(commands: &str) -> String {
    let mut out = "procring: a process API server for sandboxes\n\n\
                   Usage: procring server [OPTIONS]\n"
        .to_owned();
    if !commands.is_empty() {
        out.push_str("       procring COMMAND [OPTIONS] ...\n\n");
        out.push_str(commands);
    }
    out.push_str("\nOptions of the server:\n");
    let mut row = |short: Option<char>, name: &str, description: &str| {
        let short = short.map_or("    ".to_owned(), |short| format!("-{short}, "));
        let name = format!("  {short}--{name}");
        if name.chars().count() >= DESCRIPTIONS_AT {
            // Beside it there is no room.
            let _ = writeln!(out, "{name}\n{:DESCRIPTIONS_AT$}{description}", "");
        } else {
            let _ = writeln!(out, "{name:DESCRIPTIONS_AT$}{description}");
        }
    };
    for flag in all_flags() {
        row(flag.short, &spelled(flag), &description(flag));
    }
    row(Some('h'), "help", "print this");
    row(Some('V'), "version", "print the version");
    out.push_str(
        "\nEvery flag is also a variable: --max-exited is PROCRING_MAX_EXITED, a list is separated by\n\
         commas, a flag without a value is true or false; and a key of the --config file:\n\
         max_exited = 10. A flag wins over its variable, that over the file. No child sees any of \
         them.\n\n\
         Exit codes: 0 ended by a signal, 1 could not start, 2 wrong usage, 78 --io-backend uring\n\
         where io_uring is not available.\n",
    );
    out
}

/// The manual page, for man(1) and mandoc(1), with the section on other commands.
pub fn man(commands: &str) -> String {
    let mut out = format!(
        ".\\\" Written by the program: procring man\n\
         .TH PROCRING 1 \"\" \"procring {}\" \"User Commands\"\n\
         .SH NAME\nprocring \\- a process API server for sandboxes\n\
         .SH SYNOPSIS\n.B procring server\n[\\fIOPTIONS\\fR]\n.br\n.B procring\n\\fICOMMAND\\fR [\\fIOPTIONS\\fR] ...\n\
         .SH DESCRIPTION\n\
         Runs commands, manages long-lived processes, keeps and streams their logs, and serves \
         terminals\nover WebSocket, for clients of an HTTP API.\n{commands}.SH OPTIONS OF THE SERVER\n",
        env!("CARGO_PKG_VERSION")
    );
    for flag in all_flags() {
        let (name, value) = match flag.takes {
            Takes::Nothing(_) => (flag.long, String::new()),
            Takes::Value(value, _) | Takes::Values(value, _) => {
                (flag.long, format!(" \\fI{value}\\fR"))
            }
        };
        let short = flag
            .short
            .map_or(String::new(), |short| format!("\\-{short}, "));
        let name = name.replace('-', "\\-");
        let _ = writeln!(out, ".TP\n\\fB{short}\\-\\-{name}\\fR{value}");
        let _ = writeln!(out, "{}", sentence(&description(flag)));
        if !flag.more.is_empty() {
            let _ = writeln!(out, "{}", roff(flag.more));
        }
    }
    out.push_str(
        ".SH ENVIRONMENT\nEvery flag is also a variable, named PROCRING_ and the flag's name in \
         capitals\n(\\fBPROCRING_MAX_EXITED\\fR). A flag wins over its variable.\n\
         A list is separated by commas; a flag without a value is true or false.\n\
         No child sees any of them.\n\
         .SH FILES\nThe file of \\fB\\-\\-config\\fR is TOML; its keys are the flags, with _ for \\-:\n\
         .PP\n.nf\nmax_exited = 10\nmax_output_bytes = \"2M\"\n\
         cors_allow_origin = [\"https://app.example\"]\n.fi\n.PP\n\
         An unknown key is an error that names the nearest known one.\n\
         .SH SIGNALS\n.TP\nSIGHUP\nreads the file and the tokens' files again: limits, tokens, \
         users, origins and the level of the log change,\nall of them or none; a line says what has changed, or why \
         nothing has. What a client has set with\nPOST /v1/processes/config goes where the file names \
         it. The audit log is opened anew.\nWith a terminal, which is gone then, it ends the server.\n\
         .TP\nSIGUSR2\nwith \\fB\\-\\-keep\\fR: the program at the server's own path takes over, and \
         what runs goes on; a line\nsays so, or why not\n\
         .TP\nSIGTERM, SIGINT, SIGQUIT\nend the server; once more, and it ends at once\n\
         .SH EXIT STATUS\n.TP\n0\nended by a signal\n.TP\n1\ncould not start\n.TP\n2\nwrong \
         usage\n.TP\n78\n\\fB\\-\\-io\\-backend uring\\fR where io_uring is not available\n",
    );
    out
}

/// The flag with what follows it.
fn spelled(flag: &Flag) -> String {
    match flag.takes {
        Takes::Nothing(_) => flag.long.to_owned(),
        Takes::Value(value, _) | Takes::Values(value, _) => format!("{} {value}", flag.long),
    }
}

fn description(flag: &Flag) -> String {
    let mut text = flag.help.to_owned();
    if let Some(default) = flag.default {
        let _ = write!(text, " [{default}]");
    }
    if matches!(flag.takes, Takes::Values(..)) {
        text.push_str(" (repeatable)");
    }
    text
}

/// The words of `--help` as a sentence.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    roff(&format!(
        "{}{}.",
        first.unwrap_or_default(),
        letters.as_str()
    ))
}

/// Text in which nothing is taken for a request of roff(7).
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) {
        format!("\\&{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_fits_a_terminal_and_names_every_flag() {
        let help = help("");
        for flag in all_flags() {
            assert!(help.contains(&format!("--{} ", flag.long)), "{}", flag.long);
            let apart = [" ", "\n"].map(|end| format!("--{}{end}", spelled(flag)));
            let is_apart = apart.iter().any(|name| help.contains(name));
            assert!(is_apart, "{}", flag.long);
        }
        for line in help.lines() {
            assert!(line.chars().count() <= 95, "{line}");
        }
    }
}
