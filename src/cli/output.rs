//! What a command writes to its standard streams.

use std::io::{self, IsTerminal, Write};

use super::error::{CliError, Result};
use super::show::Look;

/// Writes a text to standard output.
pub(super) fn answer(text: &str) -> Result<()> {
    stdout(text.as_bytes())
}

/// One line on standard output.
pub(super) fn line(text: impl std::fmt::Display) -> Result<()> {
    answer(&format!("{text}\n"))
}

/// Writes bytes to standard output, at once.
pub(super) fn stdout(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.map_err(CliError::local("standard output"))
}

/// Writes bytes to standard error, at once.
pub(super) fn stderr(bytes: &[u8]) -> Result<()> {
    let written = io::stderr().lock().write_all(bytes);
    written.map_err(CliError::local("standard error"))
}

/// Whether standard output is a terminal, so that a person reads it.
pub(super) fn is_for_people() -> bool {
    io::stdout().is_terminal()
}

/// How something is to look on standard output.
pub(super) fn look() -> Look {
    if !is_for_people() {
        return Look::Plain;
    }
    let says = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    // https://no-color.org
    if says("NO_COLOR").is_some() || says("TERM").is_none_or(|term| term == "dumb") {
        return Look::Aligned;
    }
    Look::Coloured
}
