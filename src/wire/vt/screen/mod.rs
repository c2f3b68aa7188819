//! The screen of a terminal, made from its output.
//!
//! In: output, cut anywhere, and sizes. Out: lines, the cursor, the title; and sequences that draw
//! all of it on another terminal, which plays what follows as the first one would have
//! ([`Screen::dump`], [`Screen::redraw`]). Owns the cells (in `avt`), the modes that cells do not
//! show and whatever has arrived of a sequence. Knows no process, no socket and no clock.
//!
//! What is drawn is made for xterm.js, and where implementations differ the screen does as it does.
//! Not kept: concealed, overlined and doubly or curly underlined text, the colour of underlines,
//! hyperlinks, images, marks that join the character before them, and character sets other than
//! ASCII and line drawing.
//!
//! - The same output gives the same screen, wherever it is cut and wherever a dump takes the place
//!   of what came before it; `fuzz/checks/terminal_screen.rs` holds it to that.
//! - What the output may cost is counted, in nanoseconds or so, and [`Screen::feed`] stops when it
//!   has spent what it was given.

mod boundary;
mod core;
mod draw;
mod hidden;
mod modes;
mod params;
mod parser;
mod sgr;
mod title;

use crate::types::WindowSize;
use crate::wire::prefix;

pub use self::boundary::Boundary;
use self::core::Core;
use self::parser::Parser;
pub use self::title::Titles;

/// Lines that have scrolled out at the top of a screen and are kept, at most.
pub const SCROLLBACK_MAX: u16 = 1000;

/// Bytes between two looks for a run that can be skipped.
const STRIDE: usize = 4096;

/// Throws away a sequence that is arriving, then everything.
pub const BEGIN: &[u8] = b"\x18\x1bc";

/// See the module.
pub struct Screen {
    parser: Parser,
    core: Core,
}

/// Where the cursor is, from 0, and whether it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Column.
    pub col: usize,
    /// Row of the screen.
    pub row: usize,
    /// DECTCEM.
    pub visible: bool,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen")
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

impl Screen {
    /// A blank screen that keeps this many lines that scroll out, of [`SCROLLBACK_MAX`]. Sides
    /// beyond [`WindowSize::SIDE_MAX`] are cut to it.
    pub fn new(size: WindowSize, scrollback: u16) -> Self {
        Self {
            parser: Parser::default(),
            core: Core::new(size, scrollback.min(SCROLLBACK_MAX)),
        }
    }

    /// Takes output, as much of it as `budget` nanoseconds are for. Returns how many bytes.
    pub fn feed(&mut self, bytes: &[u8], budget: u64) -> usize {
        self.core.begin(budget);
        let mut rest = bytes;
        while !rest.is_empty() && !self.core.is_spent() {
            let run = prefix::len_until(rest, |byte| !is_plain(byte));
            if self.parser.is_at_rest() {
                let skipped = self.core.skip_scrolled_out(&rest[..run]);
                rest = &rest[skipped..];
            }
            let len = run.max(STRIDE).min(rest.len());
            let used = self.parser.push(&rest[..len], &mut self.core);
            rest = &rest[used..];
        }
        bytes.len() - rest.len()
    }

    /// What the last [`Screen::feed`] has spent; the last thing that it did may have cost more than
    /// was left.
    pub fn spent(&self) -> u64 {
        self.core.spent()
    }

    /// Changes the size, as a terminal emulator does.
    pub fn resize(&mut self, size: WindowSize) {
        self.core.resize(size);
    }

    /// The size.
    pub fn size(&self) -> WindowSize {
        self.core.size()
    }

    /// Cells of both screens: memory, and what drawing costs.
    pub fn cells(&self) -> usize {
        let WindowSize { cols, rows } = self.size();
        2 * usize::from(cols) * usize::from(rows)
    }

    /// Appends what brings a new terminal of the same size to this point, but for the lines that
    /// have scrolled out.
    pub fn dump(&self, out: &mut Vec<u8>) {
        self.core.draw(0, out);
        self.parser.unfinished(out);
    }

    /// Appends what brings any terminal of the same size to this point, the last `scrollback` lines
    /// that have scrolled out included.
    pub fn redraw(&self, scrollback: u16, out: &mut Vec<u8>) {
        out.extend_from_slice(BEGIN);
        self.core.draw(usize::from(scrollback), out);
        self.parser.unfinished(out);
    }

    /// The cursor.
    pub fn cursor(&self) -> Cursor {
        let (cols, cursor) = (self.core.size().cols, self.core.cursor());
        Cursor {
            // Behind the last column it waits for the next character, and is shown on it.
            col: cursor.col.min(usize::from(cols) - 1),
            row: cursor.row,
            visible: cursor.visible,
        }
    }

    /// Whether the alternate screen is shown.
    pub fn is_alternate(&self) -> bool {
        self.core.is_alternate()
    }

    /// The title that was set last; empty without one.
    pub fn title(&self) -> &str {
        self.core.title()
    }

    /// The rows of the screen that is shown, without blanks at their ends.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.core.lines()
    }

    /// The last `count` lines that have scrolled out, oldest first.
    pub fn scrollback(&self, count: u16) -> impl Iterator<Item = String> {
        self.core.scrollback(usize::from(count))
    }
}

/// Text, and the controls that files of text have.
fn is_plain(byte: u8) -> bool {
    let is_control = byte < 0x20 && !matches!(byte, b'\n' | b'\r' | b'\t');
    // U+0080 to U+009F begin with 0xc2.
    !is_control && byte != 0x7f && byte != 0xc2
}

#[cfg(test)]
mod tests;
