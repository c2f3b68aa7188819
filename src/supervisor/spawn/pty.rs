//! Pseudoterminals: master, slave, window size (pty(7), ioctl_tty(2)).
//!
//! In: a size. Out: the master for the I/O thread, the slave for the child. Knows no process.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{
    InputModes, OptionalActions, SpecialCodeIndex, Winsize, tcgetattr, tcgetwinsize, tcsetattr,
    tcsetwinsize,
};

use crate::types::WindowSize;

/// Opens a new terminal of this size; both ends are close-on-exec and the master does not block.
///
/// # Errors
/// When there is no pseudoterminal left (ENOSPC, /proc/sys/kernel/pty/max) or no descriptor.
pub(crate) fn open(size: WindowSize) -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = match openpt(flags) {
        // Images that mount devpts without the usual link to it.
        Err(Errno::NOENT) => {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            // What is missing is the first one, whatever the second one says.
            fs::open("/dev/pts/ptmx", flags, Mode::empty()).map_err(|_| Errno::NOENT)?
        }
        master => master?,
    };
    grantpt(&master)?;
    unlockpt(&master)?;
    // By descriptor (kernel 4.13), not by name: /dev/pts may be another mount's.
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    set_size(&master, size)?;
    // What is typed is UTF-8, so that erasing takes a character and not a byte (termios(3)).
    let mut modes = tcgetattr(&slave)?;
    modes.input_modes |= InputModes::IUTF8;
    tcsetattr(&slave, OptionalActions::Now, &modes)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    Ok((master, slave))
}

/// Whether there is anything that [`open`] could open.
pub(crate) fn are_there() -> bool {
    let multiplexers = ["/dev/ptmx", "/dev/pts/ptmx"];
    multiplexers.iter().any(|path| fs::stat(*path).is_ok())
}

/// Changes the size; the foreground process group gets SIGWINCH if it differs.
///
/// # Errors
/// As TIOCSWINSZ.
pub(crate) fn set_size(master: impl AsFd, size: WindowSize) -> rustix::io::Result<()> {
    tcsetwinsize(
        master,
        Winsize {
            ws_row: size.rows,
            ws_col: size.cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
}

/// The character that means the end of input to the terminal, None if it has none (termios(3),
/// VEOF). The master shows the modes of its slave.
///
/// # Errors
/// As TCGETS.
pub(crate) fn end_of_input(master: impl AsFd) -> rustix::io::Result<Option<u8>> {
    let end = tcgetattr(master)?.special_codes[SpecialCodeIndex::VEOF];
    // _POSIX_VDISABLE.
    Ok(Some(end).filter(|&end| end != 0))
}

/// The size.
///
/// # Errors
/// As TIOCGWINSZ.
pub(crate) fn size(master: impl AsFd) -> rustix::io::Result<WindowSize> {
    let size = tcgetwinsize(master)?;
    Ok(WindowSize {
        cols: size.ws_col,
        rows: size.ws_row,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slave_shows_the_size_that_the_master_was_given() {
        let (master, slave) = open(WindowSize::default()).unwrap();
        assert_eq!(
            tcgetwinsize(&slave).map(|s| (s.ws_col, s.ws_row)),
            Ok((80, 24))
        );
        set_size(&master, WindowSize { cols: 7, rows: 3 }).unwrap();
        assert_eq!(
            tcgetwinsize(&slave).map(|s| (s.ws_col, s.ws_row)),
            Ok((7, 3))
        );
    }

    #[test]
    fn the_master_shows_the_end_of_input_that_the_slave_was_given() {
        let (master, slave) = open(WindowSize::default()).unwrap();
        assert_eq!(end_of_input(&master), Ok(Some(4)));
        for (code, end) in [(b'z', Some(b'z')), (0, None)] {
            let mut modes = tcgetattr(&slave).unwrap();
            modes.special_codes[SpecialCodeIndex::VEOF] = code;
            tcsetattr(&slave, OptionalActions::Now, &modes).unwrap();
            assert_eq!(end_of_input(&master), Ok(end));
        }
    }
}
