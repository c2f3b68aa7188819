//! The user's own terminal: raw while a session lasts, and put back whatever happens.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::panic;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::error::{CliError, Result};
use super::output;

/// What a program may have switched on and a shell does not want: mouse reports, bracketed paste,
/// focus reports, application keys, the kitty keyboard, a hidden cursor.
const LEAVE: &[u8] = b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1004l\
                       \x1b[?1l\x1b>\x1b[<u\x1b[?25h";

/// The alternate screen is left where there is one, and only there.
const LEAVE_ALTERNATE: &[u8] = b"\x1b[?1049l";

/// All rows scroll again, with the cursor where it is; in a line of its own, with nothing below.
const LAST_LINE: &[u8] = b"\x1b7\x1b[r\x1b8\x1b[0m\r\n\x1b[J";

/// The terminal as it was when the first session began.
static BEFORE: OnceLock<Termios> = OnceLock::new();

/// Whether a program draws on the terminal now.
static IS_DRAWN: AtomicBool = AtomicBool::new(false);

/// Whether it has the screen for itself.
static IS_ALTERNATE: AtomicBool = AtomicBool::new(false);

/// Raw mode, until it is dropped.
#[derive(Debug)]
pub(super) struct Raw(Termios);

impl Raw {
    /// Begins.
    ///
    /// # Errors
    /// When standard input is no terminal.
    pub(super) fn begin() -> Result<Self> {
        Self::with(Termios::make_raw)
    }

    /// Keys one by one and unseen, while Ctrl-C and Ctrl-Z are signals and output is as ever.
    ///
    /// # Errors
    /// When standard input is no terminal.
    pub(super) fn keys() -> Result<Self> {
        Self::with(|modes| {
            modes
                .local_modes
                .remove(LocalModes::ICANON | LocalModes::ECHO)
        })
    }

    fn with(change: impl Fn(&mut Termios)) -> Result<Self> {
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
        change(&mut raw);
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

/// Says that the alternate screen is shown, or is not.
pub(super) fn is_alternate(is: bool) {
    IS_ALTERNATE.store(is, Ordering::Relaxed);
}

/// Says to a person what is waited for, where no program draws.
pub(super) fn tell_waiting(url: &str) {
    if io::stderr().is_terminal() && !IS_DRAWN.load(Ordering::Relaxed) {
        crate::notice::line(format_args!("waiting for the server at {url}"));
    }
}

/// Says to a person, once, why an input takes so long.
pub(super) fn tell_unread() {
    static IS_TOLD: AtomicBool = AtomicBool::new(false);
    if io::stderr().is_terminal() && !IS_TOLD.swap(true, Ordering::Relaxed) {
        crate::notice::line("waiting for the process to read its input");
    }
}

/// Gives the terminal to whoever has it next, from any thread and whatever the others do.
pub(super) fn hand_back() {
    put_back();
    if IS_DRAWN.load(Ordering::Relaxed) && output::is_for_people() {
        // Past the lock that another thread may hold for ever.
        let _ = rustix::io::write(io::stdout(), &leaving());
    }
}

/// Puts the terminal back; nothing where it was never changed.
pub(super) fn put_back() {
    if let Some(before) = BEFORE.get() {
        // It may have been hung up.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, before);
    }
}

/// Draws what a shell expects, when a program is left alone or has left the screen as it was.
pub(super) fn leave_screen() -> Result<()> {
    output::stdout(&leaving())
}

fn leaving() -> Vec<u8> {
    let alternate = match IS_ALTERNATE.swap(false, Ordering::Relaxed) {
        true => LEAVE_ALTERNATE,
        false => b"",
    };
    [LEAVE, alternate, LAST_LINE].concat()
}

/// Whether whoever had the screen for itself has not left it.
pub(super) fn is_taken() -> bool {
    IS_ALTERNATE.load(Ordering::Relaxed)
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
