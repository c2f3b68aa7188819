//! The size of a terminal: set by whoever was last, and told to its viewers.
//!
//! In: a size. Out: the kernel's, which tells the program (SIGWINCH) if it is another one.

use rustix::io::Errno;

use crate::supervisor::spawn::pty;
use crate::types::{ProcessId, WindowSize};

use crate::io::screen::resized;
use crate::io::server::Server;

/// Why a size was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SizeError {
    /// Its process is over.
    NotRunning,
    /// As TIOCSWINSZ.
    Failed(Errno),
}

/// Gives a terminal this size.
///
/// # Errors
/// See [`SizeError`].
pub(crate) fn set(server: &Server, id: ProcessId, size: WindowSize) -> Result<(), SizeError> {
    let input = server.input(id).ok_or(SizeError::NotRunning)?;
    let terminal = input.terminal().ok_or(SizeError::NotRunning)?;
    pty::set_size(&**terminal, size).map_err(SizeError::Failed)?;
    resized(server, id, size);
    if let Some((process, _)) = server.table.borrow_mut().get_mut(id)
        && process.extras.make().size.replace(size) != Some(size)
    {
        process.changed.notify();
    }
    Ok(())
}

/// The size of a terminal, as far as that is known.
pub(crate) fn get(server: &Server, id: ProcessId) -> Option<WindowSize> {
    let known = {
        let table = server.table.borrow();
        table.get(id)?.extras.get().and_then(|extras| extras.size)
    };
    known.or_else(|| pty::size(&**server.input(id)?.terminal()?).ok())
}
