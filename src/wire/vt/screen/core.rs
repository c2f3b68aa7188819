//! What the parts of the output do to the screen.
//!
//! In: text, controls and sequences from the parser. Out: calls of `avt`, in words that it
//! understands as xterm.js does. Owns the cells, the modes and what has been spent.

use avt::parser::{AnsiMode, AnsiModes, DecMode, DecModes, EdScope, ElScope, Function, TbcScope};
use avt::{Charset, Line, ScreenKind, Terminal};
use unicode_width::UnicodeWidthChar;

use super::draw;
use super::modes::{Modes, Side};
use super::params::Params;
use super::parser::Handler;
use super::sgr;
use crate::types::WindowSize;

/// What parts cost, in nanoseconds: measured on the machine of docs/design/030-screens.md, rounded
/// up.
mod cost {
    pub(super) const CHARACTER: u64 = 12;
    pub(super) const SEQUENCE: u64 = 60;
    pub(super) const LINE: u64 = 40;
    /// Cells that are made anew, for each.
    pub(super) const NEW_CELL: u64 = 5;
    /// Bytes that are only looked at, in a nanosecond.
    pub(super) const SKIPPED_BYTES: u64 = 4;
}

/// The first character that a terminal may have to join to the one before it.
const COMBINING_FIRST: char = '\u{300}';

/// Top and bottom row of what scrolls, from 1.
type Margins = (u16, u16);

pub(super) struct Core {
    term: Terminal,
    modes: Modes,
    size: WindowSize,
    scrollback: u16,
    /// Of either screen.
    margins: [Margins; 2],
    spent: u64,
    spent_max: u64,
}

fn terminal(size: WindowSize, scrollback: u16) -> Terminal {
    let (cols, rows) = (usize::from(size.cols), usize::from(size.rows));
    let limit = Some(usize::from(scrollback));
    // Fails for a zero only, which `bounded` has excluded.
    Terminal::with_scrollback(cols, rows, limit).unwrap_or_else(|_| unreachable!())
}

fn bounded(size: WindowSize) -> WindowSize {
    WindowSize {
        cols: size.cols.clamp(1, WindowSize::SIDE_MAX),
        rows: size.rows.clamp(1, WindowSize::SIDE_MAX),
    }
}

impl Core {
    pub(super) fn new(size: WindowSize, scrollback: u16) -> Self {
        let size = bounded(size);
        Self {
            term: terminal(size, scrollback),
            modes: Modes::default(),
            size,
            scrollback,
            margins: [(1, size.rows); 2],
            spent: 0,
            spent_max: 0,
        }
    }

    /// Begins to spend.
    pub(super) fn begin(&mut self, budget: u64) {
        self.spent = 0;
        self.spent_max = budget;
    }

    /// What has been spent since then.
    pub(super) fn spent(&self) -> u64 {
        self.spent
    }

    /// Whether it is all spent.
    pub(super) fn is_spent(&self) -> bool {
        self.spent >= self.spent_max
    }

    pub(super) fn size(&self) -> WindowSize {
        self.size
    }

    pub(super) fn resize(&mut self, size: WindowSize) {
        let size = bounded(size);
        if size.rows != self.size.rows {
            self.margins = [(1, size.rows); 2];
        }
        self.size = size;
        self.term.resize(size.cols.into(), size.rows.into());
    }

    pub(super) fn cursor(&self) -> avt::Cursor {
        self.term.cursor()
    }

    pub(super) fn is_alternate(&self) -> bool {
        self.side() == Side::Alternate
    }

    pub(super) fn title(&self) -> &str {
        &self.modes.title
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        self.term.screen().visible_lines().map(text_of)
    }

    /// Of the primary screen; the other one has none.
    pub(super) fn scrollback(&self, count: usize) -> impl Iterator<Item = String> {
        let kept = self.scrollback_len();
        let lines = self.term.primary_screen().all_lines().take(kept);
        lines.skip(kept.saturating_sub(count)).map(text_of)
    }

    pub(super) fn draw(&self, scrollback: usize, out: &mut Vec<u8>) {
        draw::draw(
            &self.term,
            &self.modes,
            self.margins,
            scrollback.min(self.scrollback_len()),
            out,
        );
    }

    fn scrollback_len(&self) -> usize {
        let all = self.term.primary_screen().all_lines().count();
        all.saturating_sub(self.size.rows.into())
    }

    fn side(&self) -> Side {
        match self.term.active_screen_kind() {
            ScreenKind::Primary => Side::Primary,
            ScreenKind::Alternate => Side::Alternate,
        }
    }

    fn active_margins(&self) -> Margins {
        self.margins[self.side() as usize]
    }

    /// How much of a run of plain text need not be looked at, because all of it scrolls out.
    ///
    /// If a line of the run begins in the first column and as many lines follow as the screen and
    /// twice the screen have, then nothing before it is left, and nothing that follows depends on
    /// it: the modes stay, and the cursor is at the bottom either way.
    pub(super) fn skip_scrolled_out(&mut self, run: &[u8]) -> usize {
        let lines = 2 * usize::from(self.size.rows) + usize::from(self.scrollback) + 1;
        if run.len() <= lines || self.active_margins() != (1, self.size.rows) {
            return 0;
        }
        let ends = run.iter().enumerate().rev();
        let mut ends = ends.filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
        let Some(mut end) = ends.nth(lines - 1) else {
            self.spent += run.len() as u64 / cost::SKIPPED_BYTES;
            return 0;
        };
        // A line feed alone keeps the column.
        while end == 0 || run[end - 1] != b'\r' {
            match ends.next() {
                Some(earlier) => end = earlier,
                None => return 0,
            }
        }
        self.spent += run.len() as u64 / cost::SKIPPED_BYTES;
        self.term.execute(Function::Cr);
        end + 1
    }

    fn line_cost(&self) -> u64 {
        let (top, bottom) = self.active_margins();
        let moved = if (top, bottom) == (1, self.size.rows) {
            0
        } else {
            u64::from(self.size.rows)
        };
        cost::LINE + u64::from(self.size.cols) + moved
    }

    /// What it costs to go through all cells.
    fn screen_cost(&self) -> u64 {
        u64::from(self.size.cols) * u64::from(self.size.rows)
    }

    /// A cursor that waits behind the last column does so for a character and nothing else.
    fn leave_last_column(&mut self) {
        if self.is_waiting() {
            self.term.execute(Function::Cha(self.size.cols));
        }
    }

    fn is_waiting(&self) -> bool {
        self.term.cursor().col >= usize::from(self.size.cols)
    }

    fn line_feed(&mut self) {
        self.spent += self.line_cost();
        self.leave_last_column();
        self.term.execute(Function::Lf);
    }

    fn erase(&mut self, scope: u16) {
        self.spent += self.screen_cost();
        match scope {
            0 => self.term.execute(Function::Ed(EdScope::Below)),
            1 => self.term.execute(Function::Ed(EdScope::Above)),
            2 if self.is_alternate() => self.term.execute(Function::Ed(EdScope::All)),
            // As one it would move what it erases to the lines that have scrolled out.
            2 => self
                .term
                .execute([Function::Ed(EdScope::Above), Function::Ed(EdScope::Below)]),
            3 if self.scrollback > 0 && self.scrollback_len() > 0 => self.forget_scrollback(),
            _ => {}
        }
    }

    /// There is no call for it: a new terminal begins without.
    fn forget_scrollback(&mut self) {
        let mut drawn = Vec::new();
        self.draw(0, &mut drawn);
        let mut fresh = Self::new(self.size, self.scrollback);
        fresh.begin(u64::MAX);
        super::Parser::default().push(&drawn, &mut fresh);
        self.spent += 20_000 + fresh.spent;
        self.term = fresh.term;
    }

    fn private_mode(&mut self, mode: u16, on: bool) {
        let mode = match mode {
            1 => DecMode::CursorKeys,
            6 => DecMode::Origin,
            7 => DecMode::AutoWrap,
            25 => DecMode::TextCursorEnable,
            47 | 1047 => DecMode::AltScreenBuffer,
            1048 => DecMode::SaveCursor,
            1049 => DecMode::SaveCursorAltScreenBuffer,
            other => return self.modes.private(other, on),
        };
        let before = self.side();
        let modes = DecModes::from(&[mode][..]);
        self.term.execute(match on {
            true => Function::Decset(modes),
            false => Function::Decrst(modes),
        });
        if self.side() != before {
            self.spent += self.screen_cost() * cost::NEW_CELL;
            self.switched(before);
        }
    }

    /// Each screen has its own margins, and the alternate one begins anew.
    fn switched(&mut self, from: Side) {
        let whole = (1, self.size.rows);
        let left = self.margins[from as usize];
        if from == Side::Primary {
            self.margins[Side::Alternate as usize] = whole;
        }
        let (top, bottom) = self.active_margins();
        if left != (top, bottom) {
            let at = self.term.cursor();
            self.term.execute(Function::Decstbm(top, bottom));
            let number = |at: usize| u16::try_from(at + 1).unwrap_or(u16::MAX);
            self.term
                .execute(Function::Cup(number(at.row), number(at.col)));
        }
    }

    fn set_margins(&mut self, top: u16, bottom: u16) {
        let rows = self.size.rows;
        let top = top.max(1);
        let bottom = if bottom == 0 { rows } else { bottom.min(rows) };
        if top < bottom {
            self.margins[self.side() as usize] = (top, bottom);
            self.term.execute(Function::Decstbm(top, bottom));
        }
    }

    fn attributes(&mut self, params: &Params<'_>) {
        let words;
        let digits = if sgr::is_plain(params) {
            params.digits
        } else {
            words = sgr::plain(params);
            if words.is_empty() {
                return;
            }
            &words
        };
        // Digits and semicolons.
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        self.term.feed(["\x1b[", digits, "m"]);
    }

    fn soft_reset(&mut self) {
        self.modes.soft_reset();
        self.margins[self.side() as usize] = (1, self.size.rows);
        self.term.execute([
            Function::Decstr,
            Function::Decset(DecModes::from(&[DecMode::AutoWrap][..])),
            Function::Decrst(DecModes::from(&[DecMode::CursorKeys][..])),
        ]);
    }

    /// A sequence without marker and intermediate byte.
    fn plain_csi(&mut self, params: &Params<'_>) {
        let n = params.number(0);
        let rows_cost = u64::from(self.size.rows) + self.line_cost() * u64::from(n.clamp(1, 1000));
        let function = match params.end {
            b'm' => return self.attributes(params),
            b'H' | b'f' => Function::Cup(n, params.number(1)),
            b'A' => Function::Cuu(n),
            b'B' => Function::Cud(n),
            b'C' | b'a' => Function::Cuf(n),
            b'D' => Function::Cub(n),
            b'E' => Function::Cnl(n),
            b'F' => Function::Cpl(n),
            b'G' | b'`' => Function::Cha(n),
            b'd' => Function::Vpa(n),
            b'e' => Function::Vpr(n),
            b'I' => Function::Cht(n),
            b'Z' => Function::Cbt(n),
            b'J' => return self.erase(n),
            b'K' => match n {
                0 => Function::El(ElScope::ToRight),
                1 => Function::El(ElScope::ToLeft),
                2 => Function::El(ElScope::All),
                _ => return,
            },
            b'X' => Function::Ech(n),
            b'@' => Function::Ich(n),
            b'P' => Function::Dch(n),
            b'L' => Function::Il(n),
            b'M' => Function::Dl(n),
            b'S' => Function::Su(n),
            // With several parameters it is about the mouse.
            b'T' if params.fields().count() == 1 => Function::Sd(n),
            b'b' => Function::Rep(n),
            b'g' => match n {
                0 => Function::Tbc(TbcScope::CurrentColumn),
                3 => Function::Tbc(TbcScope::All),
                _ => return,
            },
            b'h' | b'l' => return self.ansi_modes(params),
            b'r' => return self.set_margins(n, params.number(1)),
            b's' => Function::Scosc,
            b'u' => Function::Scorc,
            _ => return self.modes.csi(params, self.side()),
        };
        self.spent += match params.end {
            b'L' | b'M' | b'S' | b'T' => rows_cost,
            b'b' => self.text_cost(n.max(1).into()),
            b'K' | b'X' | b'@' | b'P' => u64::from(self.size.cols),
            _ => 0,
        };
        self.term.execute(function);
    }

    fn ansi_modes(&mut self, params: &Params<'_>) {
        let known = params.numbers().filter_map(|mode| match mode {
            4 => Some(AnsiMode::Insert),
            20 => Some(AnsiMode::NewLine),
            _ => None,
        });
        let modes = AnsiModes::from(known.collect::<Vec<_>>());
        self.term.execute(match params.end {
            b'h' => Function::Sm(modes),
            _ => Function::Rm(modes),
        });
    }

    fn text_cost(&self, characters: u64) -> u64 {
        let lines = characters / u64::from(self.size.cols);
        characters * cost::CHARACTER + lines * self.line_cost()
    }
}

impl Handler for Core {
    fn text(&mut self, text: &str) {
        self.spent += self.text_cost(text.len() as u64);
        if text.is_ascii() {
            self.term.execute(text.chars().map(Function::Print));
        } else {
            let shown = text.chars().filter(|c| takes_a_cell(*c));
            self.term.execute(shown.map(Function::Print));
        }
    }

    fn control(&mut self, byte: u8) {
        self.spent += cost::CHARACTER;
        match byte {
            0x08 => self.term.execute(Function::Bs),
            b'\t' if !self.is_waiting() => self.term.execute(Function::Ht),
            b'\n' | 0x0b | 0x0c => self.line_feed(),
            b'\r' => self.term.execute(Function::Cr),
            0x0e => self.term.execute(Function::So),
            0x0f => self.term.execute(Function::Si),
            _ => {}
        }
    }

    fn escape(&mut self, intermediate: Option<u8>, byte: u8) {
        self.spent += cost::SEQUENCE;
        match (intermediate, byte) {
            (None, b'7') => self.term.execute(Function::Decsc),
            (None, b'8') => self.term.execute(Function::Decrc),
            (None, b'D') => self.line_feed(),
            (None, b'E') => {
                self.line_feed();
                self.term.execute(Function::Cr);
            }
            (None, b'H') => self.term.execute(Function::Hts),
            (None, b'M') => {
                self.spent += self.line_cost();
                self.leave_last_column();
                self.term.execute(Function::Ri);
            }
            (None, b'=') => self.modes.keypad(true),
            (None, b'>') => self.modes.keypad(false),
            (None, b'c') => {
                self.spent += 2 * self.screen_cost() * cost::NEW_CELL;
                self.modes.reset();
                self.margins = [(1, self.size.rows); 2];
                self.term.execute(Function::Ris);
            }
            (Some(b'#'), b'8') => {
                self.spent += self.screen_cost() * cost::CHARACTER;
                self.term.execute([Function::Cup(1, 1), Function::Decaln]);
            }
            (Some(b'('), set) => self.term.execute(Function::Gzd4(charset(set))),
            (Some(b')'), set) => self.term.execute(Function::G1d4(charset(set))),
            _ => {}
        }
    }

    fn csi(&mut self, body: &[u8]) {
        self.spent += cost::SEQUENCE + body.len() as u64;
        let Some(params) = Params::parse(body) else {
            return;
        };
        match (params.marker, params.intermediate, params.end) {
            (0, 0, _) => self.plain_csi(&params),
            (b'?', 0, b'h' | b'l') => {
                let on = params.end == b'h';
                params
                    .numbers()
                    .for_each(|mode| self.private_mode(mode, on));
            }
            // Selective erasure: nothing is protected.
            (b'?', 0, b'J') => self.erase(params.number(0)),
            (b'?', 0, b'K') => self.plain_csi(&Params {
                marker: 0,
                ..params
            }),
            (0, b'!', b'p') => self.soft_reset(),
            _ => self.modes.csi(&params, self.side()),
        }
    }

    fn osc(&mut self, body: &[u8]) {
        self.spent += cost::SEQUENCE + body.len() as u64;
        self.modes.osc(body);
    }

    fn is_tired(&self) -> bool {
        self.is_spent()
    }
}

fn charset(name: u8) -> Charset {
    match name {
        b'0' => Charset::Drawing,
        _ => Charset::Ascii,
    }
}

fn takes_a_cell(c: char) -> bool {
    c < COMBINING_FIRST || c.width() != Some(0)
}

fn text_of(line: &Line) -> String {
    let mut text = line.text();
    text.truncate(text.trim_end_matches(' ').len());
    text
}
