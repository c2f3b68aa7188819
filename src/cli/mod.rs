//! The command line: commands for people and scripts, over the public API only.
//!
//! In: arguments, the environment, standard streams. Out: what a command shows, and its exit code.
//! Knows the server through `client` alone.
//!
//! - [`commands`]: every command and flag, once; parser, help, manual and completions read it;
//! - [`parse`]: arguments to what they mean;
//! - `run`, `ps`, `logs`, …: one file a command, or a few that do nearly the same;
//! - [`terminal`]: raw mode and its way back; [`signals`]: what the user presses;
//! - [`show`]: tables, times and sizes for people.

mod alternate;
mod attach;
mod commands;
mod completion;
mod config;
mod context;
mod control;
mod detach;
mod embedded;
mod error;
mod events;
mod feed;
mod health;
mod input;
mod logs;
mod output;
mod parse;
mod ps;
mod recording;
mod run;
mod screen;
mod session;
mod show;
mod signals;
mod start;
mod terminal;
mod text;
mod top;
mod upgrade;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::notice;

use self::context::Context;
use self::error::CliError;
use self::parse::Parsed;

pub use self::text::{commands_help, commands_man};

/// Whether these arguments, without the program's name, are for a command of this room.
pub fn is_meant(args: &[OsString]) -> bool {
    match parse::word(args) {
        Some(word) => word != "server" && word != "man",
        None => parse::is_for_commands(args),
    }
}

/// A flag of `procring server`, for completions: its name, what follows it, its help.
pub type ServerFlag = (&'static str, Option<&'static str>, &'static str);

/// Carries out a command.
pub fn main(args: Vec<OsString>, server_flags: Vec<ServerFlag>) -> ExitCode {
    let done = Parsed::read(args).and_then(|parsed| {
        if parsed.has("help") {
            output::answer(&text::help(parsed.command()))?;
            return Ok(0);
        }
        let context = Context::new(&parsed, server_flags)?;
        (parsed.command().action)(&context, &parsed)
    });
    match done {
        Ok(code) => ExitCode::from(code),
        Err(CliError::Gone) => ExitCode::from(error::READER_GONE),
        Err(error) => {
            notice::line(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
