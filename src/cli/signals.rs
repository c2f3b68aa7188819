//! Signals of the user: a thread of its own hears of them, so that no handler does anything.

use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};
use signal_hook::iterator::Signals;

use super::error::{CliError, Result};
use super::terminal;

/// What a user means by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Ctrl-C.
    Interrupt,
    /// The command is to end: SIGTERM, SIGQUIT, or the window is closed.
    End(i32),
    /// The window has another size.
    Resized,
}

/// Calls `heard` for each signal, on a thread of its own.
pub(super) fn listen(heard: impl Fn(Wish) + Send + 'static) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH])
        .map_err(CliError::local("signals"))?;
    thread::spawn(move || {
        for signal in signals.forever() {
            heard(match signal {
                SIGINT => Wish::Interrupt,
                SIGWINCH => Wish::Resized,
                signal => Wish::End(signal),
            });
        }
    });
    Ok(())
}

/// Ends this program as a signal would have, with the terminal put back.
pub(super) fn exit_by(signal: i32) -> ! {
    terminal::put_back();
    std::process::exit(128 + signal)
}
