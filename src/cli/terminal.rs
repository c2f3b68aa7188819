//! The user's own terminal: raw while a session lasts, and put back whatever happens.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::panic;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::error::{CliError, Result};
use super::output;

/// What a program may have switched on and a shell does not want: mouse reports, bracketed paste,
/// focus reports, application keys, the kitty keyboard, a hidden cursor, the alternate screen. The
/// cursor is kept before that: leaving an alternate screen that nobody is in puts back an older one.
const LEAVE: &[u8] = b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1004l\
                       \x1b[?1l\x1b>\x1b[<u\x1b[?25h\x1b7\x1b[?1049l\x1b[0m\r\n";

/// The terminal as it was when the first session began.
static BEFORE: OnceLock<Termios> = OnceLock::new();

/// Whether a program draws on the terminal now.
static IS_DRAWN: AtomicBool = AtomicBool::new(false);

/// Raw mode, until it is dropped.
#[derive(Debug)]
pub(super) struct Raw(Termios);

impl Raw {
    /// Begins.
    ///
    /// # Errors
    /// When standard input is no terminal.
    pub(super) fn begin() -> Result<Self> {
        let stdin = io::stdin();
        let wrong = |error: rustix::io::Errno| CliError::Local {
            what: "standard input".to_owned(),
            error: error.into(),
        };
        let before = tcgetattr(&stdin).map_err(wrong)?;
        let mut raw = before.clone();
        if BEFORE.set(before).is_ok() {
            // A release build ends at a panic, and runs this before that.
            let usual = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                hand_back();
                usual(info);
            }));
        }
        raw.make_raw();
        let raw = Self(raw);
        raw.again().map_err(wrong)?;
        Ok(raw)
    }

    /// Raw once more, behind a stop.
    pub(super) fn again(&self) -> rustix::io::Result<()> {
        IS_DRAWN.store(true, Ordering::Relaxed);
        tcsetattr(io::stdin(), OptionalActions::Drain, &self.0)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        IS_DRAWN.store(false, Ordering::Relaxed);
        put_back();
    }
}

/// Says that this program draws on the terminal, or has left it.
pub(super) fn is_drawn(is: bool) {
    IS_DRAWN.store(is, Ordering::Relaxed);
}

/// Says to a person what is waited for, where no program draws.
pub(super) fn tell_waiting(url: &str) {
    if io::stderr().is_terminal() && !IS_DRAWN.load(Ordering::Relaxed) {
        crate::notice::line(format_args!("waiting for the server at {url}"));
    }
}

/// Gives the terminal to whoever has it next, from any thread and whatever the others do.
pub(super) fn hand_back() {
    put_back();
    if IS_DRAWN.load(Ordering::Relaxed) && output::is_for_people() {
        // Past the lock that another thread may hold for ever.
        let _ = rustix::io::write(io::stdout(), LEAVE);
    }
}

/// Puts the terminal back; nothing where it was never changed.
pub(super) fn put_back() {
    if let Some(before) = BEFORE.get() {
        // It may have been hung up.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, before);
    }
}

/// Draws what a shell expects, when a program that still runs is left alone.
pub(super) fn leave_screen() -> Result<()> {
    output::stdout(LEAVE)
}

/// Columns and rows of the terminal that shows the output.
pub(super) fn size() -> Option<(u16, u16)> {
    let of = |fd: &dyn AsFd| tcgetwinsize(fd.as_fd()).ok();
    let size = of(&io::stdout()).or_else(|| of(&io::stdin()))?;
    (size.ws_col > 0 && size.ws_row > 0).then(|| (size.ws_col.min(1000), size.ws_row.min(1000)))
}

/// Whether a person sits at both ends.
pub(super) fn is_here() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}
