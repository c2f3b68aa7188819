//! A terminal, as sequences that draw it.
//!
//! In: the cells and the modes. Out: bytes for a terminal of the same size that has been reset.
//! What stands here is in an order that matters: modes that change how text is printed come last,
//! and the cursor after everything that moves it.

use std::io::Write;

use avt::{Cell, Color, Line, Pen, ScreenKind, Terminal};

use super::hidden::{Hidden, Saved};
use super::modes::{Modes, Side};

/// Shorter runs of one character are written out.
const REPEATED_MIN: usize = 6;

/// Appends everything; `scrollback` of the lines that have scrolled out.
pub(super) fn draw(
    term: &Terminal,
    modes: &Modes,
    margins: [(u16, u16); 2],
    scrollback: usize,
    out: &mut Vec<u8>,
) {
    let dump = term.dump();
    let hidden = Hidden::of(&dump);
    let (_, rows) = term.size();
    let is_alternate = term.active_screen_kind() == ScreenKind::Alternate;
    let is_whole = |(top, bottom): (u16, u16)| top == 1 && usize::from(bottom) == rows;

    modes.write(out);
    lines(term.primary_screen().all_lines(), rows, scrollback, out);
    tabs(&hidden, out);
    let switch = Switch::of(&hidden, is_alternate);
    if switch == Switch::Bare {
        saved(hidden.saved[0].as_ref(), out);
    }
    modes.write_keyboard(Side::Primary, out);
    let [beneath, above] = margins;
    if is_alternate {
        if !is_whole(beneath) {
            let _ = write!(out, "\x1b[{};{}r", beneath.0, beneath.1);
        }
        let _ = write!(out, "\x1b[{}H", hidden.beneath);
        wait_behind(term.primary_screen(), hidden.beneath, out);
    }
    if is_alternate || hidden.saved[1].is_some() || modes.has_keyboard(Side::Alternate) {
        switch.write(out);
        modes.write_keyboard(Side::Alternate, out);
        if is_alternate {
            out.extend_from_slice(b"\x1b[H");
            lines(term.screen().all_lines(), rows, 0, out);
            tabs(&hidden, out);
        }
        saved(hidden.saved[1].as_ref(), out);
        if !is_alternate {
            out.extend_from_slice(b"\x1b[?1047l");
        }
    }
    if hidden.is_origin {
        out.extend_from_slice(b"\x1b[?6h");
    }
    let margins = if is_alternate { above } else { beneath };
    if !is_whole(margins) {
        let _ = write!(out, "\x1b[{};{}r", margins.0, margins.1);
    }
    cursor(term, &hidden, margins, usize::from(is_alternate), out);
    pen(hidden.pen, out);
    behind_everything(term, &hidden, out);
}

/// How the alternate screen is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Switch<'a> {
    /// As the program did: the cursor beneath is saved with these attributes. Programs leave with
    /// 1049, too, and some terminals (tmux) then put the cursor where the last 1049 was, and not
    /// where DECSC was.
    Saving(&'a str),
    /// Nothing is saved.
    Bare,
}

impl<'a> Switch<'a> {
    fn of(hidden: &Hidden<'a>, is_alternate: bool) -> Self {
        let (at, pen) = match &hidden.saved[0] {
            Some(saved) if saved.is_origin || saved.is_without_wrap => return Self::Bare,
            Some(saved) => (saved.at, saved.pen),
            None => ("1;1", ""),
        };
        match is_alternate && at == hidden.beneath {
            true => Self::Saving(pen),
            false => Self::Bare,
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Saving(attributes) => {
                pen(attributes, out);
                out.extend_from_slice(b"\x1b[?1049h\x1b[m");
                // It was cleared with these attributes.
                if !attributes.is_empty() {
                    out.extend_from_slice(b"\x1b[2J");
                }
            }
            Self::Bare => out.extend_from_slice(b"\x1b[m\x1b[?1047h"),
        }
    }
}

/// Modes that would change how the rest is drawn.
fn behind_everything(term: &Terminal, hidden: &Hidden<'_>, out: &mut Vec<u8>) {
    for (is_set, sequence) in [
        (!term.cursor().visible, &b"\x1b[?25l"[..]),
        (hidden.is_drawing[0], b"\x1b(0"),
        (hidden.is_drawing[1], b"\x1b)0"),
        (hidden.is_shifted, b"\x0e"),
        (hidden.is_inserting, b"\x1b[4h"),
        (hidden.is_without_wrap, b"\x1b[?7l"),
        (hidden.is_new_line, b"\x1b[20h"),
        (hidden.has_cursor_keys, b"\x1b[?1h"),
    ] {
        if is_set {
            out.extend_from_slice(sequence);
        }
    }
}

fn tabs(hidden: &Hidden<'_>, out: &mut Vec<u8>) {
    if let Some(columns) = &hidden.tabs {
        out.extend_from_slice(b"\x1b[3g");
        for column in columns {
            let _ = write!(out, "\x1b[{column}G\x1bH");
        }
    }
}

fn saved(saved: Option<&Saved<'_>>, out: &mut Vec<u8>) {
    let Some(saved) = saved else {
        return;
    };
    let mut around = |is_set: bool, sequence: &[u8]| {
        if is_set {
            out.extend_from_slice(sequence);
        }
    };
    around(saved.is_without_wrap, b"\x1b[?7l");
    around(saved.is_origin, b"\x1b[?6h");
    let _ = write!(out, "\x1b[{}H", saved.at);
    pen(saved.pen, out);
    out.extend_from_slice(b"\x1b7");
    let mut around = |is_set: bool, sequence: &[u8]| {
        if is_set {
            out.extend_from_slice(sequence);
        }
    };
    around(saved.is_without_wrap, b"\x1b[?7h");
    around(saved.is_origin, b"\x1b[?6l");
    out.extend_from_slice(b"\x1b[m");
}

/// Parameters of SGR as `avt` writes them; with colons xterm.js reads other colours.
fn pen(params: &str, out: &mut Vec<u8>) {
    let _ = write!(out, "\x1b[{}m", params.replace(':', ";"));
}

fn cursor(
    term: &Terminal,
    hidden: &Hidden<'_>,
    (top, bottom): (u16, u16),
    side: usize,
    out: &mut Vec<u8>,
) {
    let cursor = term.cursor();
    let (col, row) = (cursor.col + 1, cursor.row + 1);
    let (top, bottom) = (usize::from(top), usize::from(bottom));
    if !hidden.is_origin {
        let _ = write!(out, "\x1b[{row};{col}H");
    } else if (top..=bottom).contains(&row) {
        let _ = write!(out, "\x1b[{};{col}H", row - top + 1);
    } else if let Some(saved) = &hidden.saved[side] {
        // Nothing but DECRC leads out of the margins.
        let mut numbers = saved.at.split(';').map(|n| n.parse().unwrap_or(1));
        let (from_row, from_col) = (numbers.next().unwrap_or(1), numbers.next().unwrap_or(1));
        out.extend_from_slice(b"\x1b8");
        step(from_col, col, [b'D', b'C'], out);
        step(from_row, row, [b'A', b'B'], out);
    }
    if col > term.size().0 {
        wait_at(term.screen(), cursor.row, out);
    }
}

fn step(from: usize, to: usize, [back, forth]: [u8; 2], out: &mut Vec<u8>) {
    let end = if to < from { back } else { forth };
    if to != from {
        let _ = write!(out, "\x1b[{}{}", to.abs_diff(from), char::from(end));
    }
}

/// Has the cursor wait behind the last column if that is where `at` (`row;column`) is.
fn wait_behind(screen: avt::Screen<'_>, at: &str, out: &mut Vec<u8>) {
    let mut numbers = at.split(';').map(|n| n.parse::<usize>().unwrap_or(1));
    let (row, col) = (numbers.next().unwrap_or(1), numbers.next().unwrap_or(1));
    let cols = screen.line(0).map_or(0, Line::len);
    if col > cols {
        wait_at(screen, row - 1, out);
    }
}

/// Prints the last character of a row again, which leaves the cursor waiting behind it.
fn wait_at(screen: avt::Screen<'_>, row: usize, out: &mut Vec<u8>) {
    let Some(cells) = screen.line(row).map(Line::cells) else {
        return;
    };
    let Some(last) = cells.iter().rposition(|cell| cell.width() > 0) else {
        return;
    };
    if cells[last].width() == 2 {
        out.extend_from_slice(b"\x1b[D");
    }
    attributes(cells[last].pen(), out);
    character(cells[last].char(), out);
}

/// The last `scrollback` of the lines that have scrolled out, and the `rows` of the screen. The
/// cursor is in the first column and stays where the last one ends.
fn lines<'a>(
    all: impl Iterator<Item = &'a Line>,
    rows: usize,
    scrollback: usize,
    out: &mut Vec<u8>,
) {
    let all: Vec<&Line> = all.collect();
    let shown = &all[all.len().saturating_sub(rows + scrollback)..];
    let is_continued = |at: usize| at > 0 && shown[at - 1].is_wrapped();
    // What is blank at the bottom need not be drawn, unless it has to push something out.
    let is_needed = |at: &usize| {
        let line = shown[*at];
        line.is_wrapped() || is_continued(*at) || !line.cells().iter().all(is_default)
    };
    let last = match shown.len() > rows {
        true => shown.len().checked_sub(1),
        false => (0..shown.len()).rev().find(is_needed),
    };
    let mut pen = Pen::default();
    let drawn = last.map_or(0, |last| last + 1);
    for (at, line) in shown.iter().enumerate().take(drawn) {
        row(line, is_continued(at), &mut pen, out);
        if !line.is_wrapped() && at + 1 < drawn {
            // A line that scrolls in has the attributes of the moment.
            change(&mut pen, &Pen::default(), out);
            out.extend_from_slice(b"\r\n");
        }
    }
    change(&mut pen, &Pen::default(), out);
}

fn row(line: &Line, is_continued: bool, now: &mut Pen, out: &mut Vec<u8>) {
    let cells = line.cells();
    let mut end = cells.len();
    let mut erased = None;
    if !line.is_wrapped() {
        let last = cells.iter().rposition(|cell| !is_default(cell));
        // A row continues the one before it only if something is printed there.
        end = last.map_or(0, |at| at + 1).max(usize::from(is_continued));
        if end == cells.len() {
            erased = erasable(cells, is_continued);
        }
    }
    let printed = erased.unwrap_or(end);
    let mut at = 0;
    while at < printed {
        let cell = &cells[at];
        if cell.width() == 0 {
            at += 1;
            continue;
        }
        change(now, cell.pen(), out);
        character(cell.char(), out);
        let same = cells[at..printed].iter().take_while(|other| *other == cell);
        let run = if cell.width() == 1 { same.count() } else { 1 };
        if run >= REPEATED_MIN {
            let _ = write!(out, "\x1b[{}b", run - 1);
            at += run;
        } else {
            at += 1;
        }
    }
    if let Some(from) = erased {
        change(now, cells[from].pen(), out);
        out.extend_from_slice(b"\x1b[K");
    } else if is_continued && end < cells.len() && !cells[0].pen().is_default() {
        // It may have scrolled in with the attributes of its first character.
        change(now, &Pen::default(), out);
        out.extend_from_slice(b"\x1b[K");
    }
}

/// Where the blanks begin that end a row and can be had by erasing: with a background at most.
fn erasable(cells: &[Cell], is_continued: bool) -> Option<usize> {
    let last = cells.last()?;
    let pen = last.pen();
    let shows = pen.is_inverse() || pen.is_underline() || pen.is_strikethrough();
    let blanks = cells.iter().rev().take_while(|cell| *cell == last).count();
    let from = cells.len() - blanks;
    let is_blank = last.char() == ' ' && last.width() == 1;
    // Behind the last column nothing is erased, and what continues a row must be printed.
    let is_reached = from > 0 || !is_continued;
    (is_blank && !shows && is_reached && blanks >= 2).then_some(from)
}

fn is_default(cell: &Cell) -> bool {
    cell.char() == ' ' && cell.width() == 1 && cell.pen().is_default()
}

fn character(c: char, out: &mut Vec<u8>) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn change(now: &mut Pen, to: &Pen, out: &mut Vec<u8>) {
    if now != to {
        attributes(to, out);
        *now = *to;
    }
}

/// Sets exactly these attributes.
fn attributes(pen: &Pen, out: &mut Vec<u8>) {
    if pen.is_default() {
        out.extend_from_slice(b"\x1b[m");
        return;
    }
    out.extend_from_slice(b"\x1b[0");
    for (is_set, number) in [
        (pen.is_bold(), '1'),
        (pen.is_faint(), '2'),
        (pen.is_italic(), '3'),
        (pen.is_underline(), '4'),
        (pen.is_blink(), '5'),
        (pen.is_inverse(), '7'),
        (pen.is_strikethrough(), '9'),
    ] {
        if is_set {
            let _ = write!(out, ";{number}");
        }
    }
    colour(pen.foreground(), 30, out);
    colour(pen.background(), 40, out);
    out.push(b'm');
}

fn colour(colour: Option<Color>, base: u16, out: &mut Vec<u8>) {
    let _ = match colour {
        None => Ok(()),
        Some(Color::Indexed(index @ 0..8)) => write!(out, ";{}", base + u16::from(index)),
        Some(Color::Indexed(index @ 8..16)) => write!(out, ";{}", base + 52 + u16::from(index)),
        Some(Color::Indexed(index)) => write!(out, ";{};5;{index}", base + 8),
        Some(Color::RGB(rgb)) => {
            write!(out, ";{};2;{};{};{}", base + 8, rgb.r, rgb.g, rgb.b)
        }
    };
}
