//! Every command and its flags, once.
//!
//! The parser, `--help`, the manual page and the completions read this table; there is no other
//! list of commands.

use super::context::Context;
use super::error::Result;
use super::parse::Parsed;
use super::{
    attach, completion, config, control, events, health, input, logs, ps, recording, run, screen,
    start, top, upgrade,
};

/// What a command is called with behind its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operands {
    /// Nothing.
    None,
    /// So many words, at least and at most.
    Words(usize, usize),
    /// A program and its arguments: the first word ends the flags.
    Program,
}

/// What an operand names, for completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Processes.
    Processes,
    /// One of these.
    Words(&'static [&'static str]),
    /// A program, and what that takes.
    Program,
    /// Files, or anything else.
    Anything,
}

/// One flag.
#[derive(Debug)]
pub(super) struct Flag {
    /// Behind two dashes.
    pub(super) long: &'static str,
    /// Behind one.
    pub(super) short: Option<char>,
    /// What follows it; nothing if None.
    pub(super) value: Option<&'static str>,
    /// One line for `--help`.
    pub(super) help: &'static str,
}

/// One command.
pub(super) struct Command {
    /// Its name.
    pub(super) name: &'static str,
    /// What follows its flags, as `--help` shows it.
    pub(super) usage: &'static str,
    /// What follows its flags.
    pub(super) operands: Operands,
    /// What they are.
    pub(super) names: Names,
    /// One line for `--help`.
    pub(super) about: &'static str,
    /// More sentences for its own help and the manual page.
    pub(super) more: &'static str,
    /// Its flags, besides [`COMMON`].
    pub(super) flags: &'static [Flag],
    /// Does it.
    pub(super) action: fn(&Context, &Parsed) -> Result<u8>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const fn flag(
    long: &'static str,
    short: Option<char>,
    value: Option<&'static str>,
    help: &'static str,
) -> Flag {
    Flag {
        long,
        short,
        value,
        help,
    }
}

/// Flags of every command, before or behind its name.
pub(super) const COMMON: &[Flag] = &[
    flag(
        "url",
        None,
        Some("URL"),
        "http://HOST:PORT or unix:PATH [PROCRING_URL, else http://127.0.0.1:2468]",
    ),
    flag(
        "token-file",
        None,
        Some("FILE"),
        "the server's token, in its first line [PROCRING_TOKEN, PROCRING_TOKEN_FILE]",
    ),
    flag("help", Some('h'), None, "print this"),
];

const JSON: Flag = flag("json", None, None, "as JSON");
const LABEL: Flag = flag("label", Some('l'), Some("K=V"), "a label (repeatable)");
const ENV: Flag = flag(
    "env",
    Some('e'),
    Some("K=V"),
    "a variable; K alone hands the own one on",
);
const WORKDIR: Flag = flag(
    "workdir",
    Some('w'),
    Some("DIR"),
    "its working directory [the server's own]",
);
const NAME: Flag = flag("name", None, Some("NAME"), "what to call it");
const LIMIT: Flag = flag(
    "limit",
    None,
    Some("K=V"),
    "a limit, as memoryBytes=64M (repeatable)",
);
const USER: Flag = flag("user", Some('u'), Some("USER"), "who it is to be");
const TTY: Flag = flag("tty", Some('t'), None, "in a terminal");
const DETACH_KEYS: Flag = flag(
    "detach-keys",
    None,
    Some("KEYS"),
    "leave a terminal with these, as ctrl-p,ctrl-q [ctrl-\\]",
);

/// All commands, in the order of `--help`.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "run",
        usage: "[--] COMMAND [ARG]...",
        operands: Operands::Program,
        names: Names::Program,
        about: "run a command, with its output and exit code as one's own",
        more: "Output comes as it is written; input that is no terminal is passed on, whatever \
               its length. Ctrl-C reaches the command, a second one kills it. Exits with the \
               command's code, 128 and the signal's number, 124 after --timeout, 125 when the \
               server is the trouble, 126 and 127 as a shell does. The record of the command is \
               removed at its end unless it has a --name. At a server that is named, or runs at the usual \
               address, the command works in that server's directory, with its files and environment; \
               where there is none, in this one.",
        flags: &[
            TTY,
            flag(
                "interactive",
                Some('i'),
                None,
                "accepted: input from a pipe or a file is passed on anyway, typed input with -t",
            ),
            ENV,
            WORKDIR,
            flag(
                "timeout",
                None,
                Some("TIME"),
                "kill it after so long, as 90s or 1h30m",
            ),
            NAME,
            LABEL,
            LIMIT,
            USER,
            DETACH_KEYS,
        ],
        action: run::run,
    },
    Command {
        name: "start",
        usage: "[--] COMMAND [ARG]...",
        operands: Operands::Program,
        names: Names::Program,
        about: "start a process and print its id",
        more: "It works in the server's directory, with the server's files and environment, unless -w and \
               -e say otherwise.",
        flags: &[
            TTY,
            ENV,
            WORKDIR,
            NAME,
            LABEL,
            flag(
                "stdin",
                None,
                Some("MODE"),
                "open or closed [the server's default]",
            ),
            flag("deadline", None, Some("TIME"), "kill it after so long"),
            LIMIT,
            USER,
        ],
        action: start::start,
    },
    Command {
        name: "ps",
        usage: "",
        operands: Operands::None,
        names: Names::Anything,
        about: "list running processes",
        more: "exited(0)+2: it has exited with 0, and two processes that it started still run; `procring \
               kill` ends them.",
        flags: &[
            flag("all", Some('a'), None, "exited ones, too"),
            flag("quiet", Some('q'), None, "ids only"),
            LABEL,
            JSON,
        ],
        action: ps::ps,
    },
    Command {
        name: "inspect",
        usage: "PROCESS...",
        operands: Operands::Words(1, usize::MAX),
        names: Names::Processes,
        about: "print records as JSON",
        more: "",
        flags: &[],
        action: ps::inspect,
    },
    Command {
        name: "logs",
        usage: "PROCESS",
        operands: Operands::Words(1, 1),
        names: Names::Processes,
        about: "print what a process wrote",
        more: "Its standard output goes to the own one, and its errors to the own errors. A follower goes \
               on by itself after a cut, without loss or repetition.",
        flags: &[
            flag("follow", Some('f'), None, "go on until its end"),
            flag("tail", Some('n'), Some("N"), "the last N lines only [all]"),
            flag(
                "since",
                None,
                Some("TIME"),
                "only what is younger, as 10m, or as 2026-01-31T12:00:00Z",
            ),
            flag(
                "timestamps",
                Some('t'),
                None,
                "begin each line with its time",
            ),
        ],
        action: logs::logs,
    },
    Command {
        name: "attach",
        usage: "PROCESS",
        operands: Operands::Words(1, 1),
        names: Names::Processes,
        about: "take part in a process: its output, its input, its terminal",
        more: "A terminal is drawn as it is; from pipes only what is new comes, unless --tail says \
               otherwise. Ctrl-\\ leaves, and ends nothing; from pipes Ctrl-C reaches the process, and a \
               second one leaves, too.",
        flags: &[
            flag(
                "tail",
                Some('n'),
                Some("N"),
                "from pipes, the last N lines before",
            ),
            flag("read-only", None, None, "look, do not type"),
            DETACH_KEYS,
        ],
        action: attach::attach,
    },
    Command {
        name: "stop",
        usage: "PROCESS...",
        operands: Operands::Words(1, usize::MAX),
        names: Names::Processes,
        about: "ask processes to end, and kill them after a grace",
        more: "",
        flags: &[flag("time", Some('t'), Some("TIME"), "the grace [10s]")],
        action: control::stop,
    },
    Command {
        name: "kill",
        usage: "PROCESS...",
        operands: Operands::Words(1, usize::MAX),
        names: Names::Processes,
        about: "kill processes with all they started, or send another signal",
        more: "",
        flags: &[flag(
            "signal",
            Some('s'),
            Some("SIGNAL"),
            "a name or a number [KILL]",
        )],
        action: control::kill,
    },
    Command {
        name: "wait",
        usage: "PROCESS...",
        operands: Operands::Words(1, usize::MAX),
        names: Names::Processes,
        about: "wait for an exit and print its code, or for a text or a port",
        more: "With --log or --port nothing is printed: exits with 0 when it is there, and with 1 \
               when it cannot come any more or the time is over.",
        flags: &[
            flag("log", None, Some("TEXT"), "until it has written this"),
            flag("port", None, Some("N"), "until it listens on this TCP port"),
            flag("timeout", None, Some("TIME"), "at most so long"),
        ],
        action: control::wait,
    },
    Command {
        name: "rm",
        usage: "PROCESS...",
        operands: Operands::Words(1, usize::MAX),
        names: Names::Processes,
        about: "remove records of exited processes",
        more: "",
        flags: &[flag(
            "force",
            Some('f'),
            None,
            "kill what still runs of them before",
        )],
        action: control::remove,
    },
    Command {
        name: "input",
        usage: "PROCESS [TEXT]",
        operands: Operands::Words(1, 2),
        names: Names::Processes,
        about: "write a text, or the own input, to a process",
        more: "A text is written as it is, without a line's end. Input that is no text is passed on to \
               its end, whatever its length. Of several that write to a process at once, each piece of \
               up to 256 KiB arrives whole, and pieces come in any order.",
        flags: &[
            flag("line", None, None, "end the text with a line's end"),
            flag("eof", None, None, "and then the end of its input"),
        ],
        action: input::input,
    },
    Command {
        name: "screen",
        usage: "PROCESS",
        operands: Operands::Words(1, 1),
        names: Names::Processes,
        about: "print the screen of a terminal",
        more: "",
        flags: &[
            flag("scrollback", None, Some("N"), "N lines above it, too"),
            flag("ansi", None, None, "with colours, as a terminal draws it"),
            JSON,
        ],
        action: screen::screen,
    },
    Command {
        name: "record",
        usage: "PROCESS",
        operands: Operands::Words(1, 1),
        names: Names::Processes,
        about: "print what a terminal showed, as an asciicast",
        more: "",
        flags: &[flag("follow", Some('f'), None, "go on until its end")],
        action: recording::record,
    },
    Command {
        name: "play",
        usage: "FILE",
        operands: Operands::Words(1, 1),
        names: Names::Anything,
        about: "play an asciicast; - is the own input",
        more: "",
        flags: &[
            flag("speed", None, Some("FACTOR"), "so many times as fast [1]"),
            flag("idle-max", None, Some("TIME"), "no pause longer than this"),
        ],
        action: recording::play,
    },
    Command {
        name: "events",
        usage: "",
        operands: Operands::None,
        names: Names::Anything,
        about: "print what happens to processes, as it happens",
        more: "",
        flags: &[
            LABEL,
            flag(
                "since",
                None,
                Some("SEQUENCE"),
                "begin behind this event; 0 is the oldest kept",
            ),
            JSON,
        ],
        action: events::events,
    },
    Command {
        name: "top",
        usage: "",
        operands: Operands::None,
        names: Names::Anything,
        about: "show what processes use, again and again",
        more: "q or Ctrl-C leaves. On something that is no terminal it prints once.",
        flags: &[
            flag("interval", None, Some("TIME"), "how often [2s]"),
            flag(
                "sort",
                None,
                Some("COLUMN"),
                "cpu, memory, in, out or followers [cpu]",
            ),
        ],
        action: top::top,
    },
    Command {
        name: "config",
        usage: "[set KEY=VALUE...]",
        operands: Operands::Words(0, usize::MAX),
        names: Names::Words(&["set"]),
        about: "print or change the server's limits",
        more: "",
        flags: &[JSON],
        action: config::config,
    },
    Command {
        name: "upgrade",
        usage: "",
        operands: Operands::None,
        names: Names::Anything,
        about: "have a new program take the server's place; what runs goes on",
        more: "The server must have been started with --keep. It is asked to become the program at \
               its own path, which you have replaced, or that of --binary. Processes, terminals, \
               connections and waits go on. If the new program cannot take over, nothing changes, and \
               this says why and exits with 1.",
        flags: &[flag(
            "binary",
            None,
            Some("PATH"),
            "the new program [the one at the server's own path]",
        )],
        action: upgrade::upgrade,
    },
    Command {
        name: "health",
        usage: "",
        operands: Operands::None,
        names: Names::Anything,
        about: "exit with 0 if the server answers, else with 1",
        more: "",
        flags: &[],
        action: health::health,
    },
    Command {
        name: "completion",
        usage: "bash|zsh|fish",
        operands: Operands::Words(1, 1),
        names: Names::Words(&["bash", "zsh", "fish"]),
        about: "print a script that completes commands, flags and processes",
        more: "",
        flags: &[],
        action: completion::completion,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_command_are_told_apart() {
        for command in COMMANDS {
            let flags: Vec<_> = command.flags.iter().chain(COMMON).collect();
            for (at, flag) in flags.iter().enumerate() {
                for other in &flags[at + 1..] {
                    assert_ne!(flag.long, other.long, "{command:?}");
                    assert!(
                        flag.short.is_none() || flag.short != other.short,
                        "{command:?}"
                    );
                }
            }
        }
        for (at, command) in COMMANDS.iter().enumerate() {
            assert!(
                COMMANDS[at + 1..]
                    .iter()
                    .all(|other| other.name != command.name)
            );
        }
    }
}
