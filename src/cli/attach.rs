//! `attach`: part of a process: its terminal, or its pipes.

use serde_json::Value;

use super::context::{Context, PATIENCE, PAUSE, path};
use super::detach::Keys;
use super::error::{CliError, Result};
use super::parse::Parsed;
use super::ps::{exit_code, text};
use super::session::{self, Ended, Kind};
use super::{logs, signals};

/// How the user and a process parted.
pub(super) enum Left {
    /// The process has exited; its record.
    Exited(Value),
    /// The user wants out.
    Detached,
    /// This signal came.
    Ended(i32),
}

pub(super) fn attach(context: &Context, parsed: &Parsed) -> Result<u8> {
    let name = &parsed.words()?[0];
    let record = context.process(name)?;
    let read_only = parsed.has("read-only");
    let keys = Keys::parse(parsed.value("detach-keys")?.as_deref())?;
    let (kind, since) = if record["tty"] == true {
        (Kind::Terminal, None)
    } else {
        if parsed.has("detach-keys") {
            return Err(CliError::Usage(
                "--detach-keys is for terminals, and this process has none; Ctrl-\\ leaves its pipes"
                    .to_owned(),
            ));
        }
        context.require("attach", "attach to pipes")?;
        // What is new begins behind this, also if the first connection breaks before any of it.
        let last = logs::tail(context, name, parsed.number("tail")?.unwrap_or(0))?;
        (Kind::Pipes, Some(last))
    };
    match stay(context, name, kind, since, read_only, Some(keys))? {
        Left::Exited(record) => exit_code(&record),
        Left::Detached => {
            detached(&record);
            Ok(0)
        }
        Left::Ended(signal) => signals::exit_by(signal),
    }
}

/// One line that says how to come back.
pub(super) fn detached(record: &Value) {
    let id = text(record, "id");
    let name = record["name"].as_str().unwrap_or(id);
    crate::notice::line(format_args!(
        "detached; `procring attach {name}` comes back"
    ));
}

/// Stays with a process until its exit or until the user leaves. Goes on by itself after a cut: a
/// terminal is drawn again, pipes go on behind what has come, or behind entry `since` of the log. A
/// terminal that is new is one whose `since` is the beginning.
pub(super) fn stay(
    context: &Context,
    name: &str,
    kind: Kind,
    mut since: Option<u64>,
    read_only: bool,
    keys: Option<Keys>,
) -> Result<Left> {
    // It was there a moment ago; one that is away comes back.
    let client = context.client.patient(PATIENCE);
    let has_screen = context.capabilities()?.iter().any(|word| word == "screen");
    let mut user = session::User::begin(kind, has_screen, read_only, keys)?;
    loop {
        let socket = client.websocket(&path(name, &user.query(since)));
        let ended = match socket {
            Ok(socket) => {
                let ended = user.serve(socket, &mut since);
                if kind == Kind::Terminal {
                    // It is not new any more.
                    since = None;
                }
                ended
            }
            Err(error) => Err(error.into()),
        };
        match ended {
            Ok(Ended::Exited) => {
                user.leave(false)?;
                return Ok(Left::Exited(client.get(&path(name, ""))?));
            }
            Ok(Ended::Detached) => {
                user.leave(true)?;
                return Ok(Left::Detached);
            }
            Ok(Ended::Signal(signal)) => {
                user.leave(true)?;
                return Ok(Left::Ended(signal));
            }
            Ok(Ended::Cut) => std::thread::sleep(PAUSE),
            Ok(Ended::Redrawn) => {}
            Err(error) => {
                user.leave(true)?;
                return Err(error);
            }
        }
    }
}
