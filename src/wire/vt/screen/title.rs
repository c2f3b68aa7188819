//! The title of a terminal, for who does not keep its screen.
//!
//! In: output, cut anywhere. Out: the title as it is then. Owns what the [`Parser`] holds and two
//! small strings' worth of titles, all bounded. Text is passed over without a look.

use super::modes::{Modes, Side};
use super::params::Params;
use super::parser::{Handler, Parser};
use crate::wire::prefix;

/// What begins a control: ESC, and the lead of U+0080 to U+00BF in UTF-8.
const BEGINS: [u8; 2] = [0x1b, 0xc2];

/// Bytes of a sequence that are gone through before it is looked whether text follows.
const PIECE_BYTES: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Titles {
    parser: Parser,
    modes: Modes,
}

impl Titles {
    /// A terminal that has this title.
    pub fn new(title: &str) -> Self {
        let mut titles = Self::default();
        title.clone_into(&mut titles.modes.title);
        titles
    }

    /// Goes through more output.
    pub fn push(&mut self, output: &[u8]) {
        let mut rest = output;
        while !rest.is_empty() {
            if self.parser.is_at_rest() {
                let text = prefix::len_until(rest, |byte| BEGINS.contains(&byte));
                rest = &rest[text..];
            }
            let (piece, more) = rest.split_at(rest.len().min(PIECE_BYTES));
            self.parser.push(piece, &mut OfTitles(&mut self.modes));
            rest = more;
        }
    }

    /// The title that was set last; empty without one.
    pub fn title(&self) -> &str {
        &self.modes.title
    }
}

/// Hears of nothing else.
struct OfTitles<'a>(&'a mut Modes);

impl Handler for OfTitles<'_> {
    fn text(&mut self, _: &str) {}

    fn control(&mut self, _: u8) {}

    fn escape(&mut self, _: Option<u8>, _: u8) {}

    fn csi(&mut self, body: &[u8]) {
        if let Some(params) = Params::parse(body)
            && params.end == b't'
        {
            self.0.csi(&params, Side::Primary);
        }
    }

    fn osc(&mut self, body: &[u8]) {
        self.0.osc(body);
    }

    fn is_tired(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::WindowSize;
    use crate::wire::testing::Rng;
    use crate::wire::vt::screen::Screen;

    fn title_of(parts: &[&[u8]]) -> String {
        let mut titles = Titles::default();
        parts.iter().for_each(|part| titles.push(part));
        titles.title().to_owned()
    }

    #[test]
    fn the_title_is_what_was_set_last() {
        assert_eq!(title_of(&[b"text"]), "");
        assert_eq!(title_of(&[b"a\x1b]0;one\x07b\x1b]2;two\x1b\\c"]), "two");
        assert_eq!(
            title_of(&[b"\x1b]2;", b"a \xc3", b"\xa9", b"\x07"]),
            "a \u{e9}"
        );
        assert_eq!(title_of(&[b"\x1b]1;icon\x07"]), "");
        let pushed = b"\x1b]2;one\x07\x1b[22;2t\x1b]2;two\x07\x1b[23;2t";
        assert_eq!(title_of(&[pushed]), "one");
        let mut known = Titles::new("before");
        known.push(b"\x1b]2;unfinished");
        assert_eq!(known.title(), "before");
    }

    #[test]
    fn it_is_the_one_that_the_screen_has() {
        const PARTS: &[&[u8]] = &[
            b"\x1b]0;a\x07",
            b"\x1b]2;b\x1b\\",
            b"\x1b]2;c",
            b"\x1b]",
            b"\x1b[22t",
            b"\x1b[23;0t",
            b"\x1b[23",
            b"t",
            b"\x07",
            b"\x18",
            b"\xc2\x9d2;d\x07",
            b"\xc2",
            b"\xe2\x82",
            b"text",
            b"\x1bc",
            b"\n",
            b"\x1b[?1049h",
        ];
        let mut rng = Rng(7);
        for _ in 0..2000 {
            let mut output = Vec::new();
            for _ in 0..rng.below(12) {
                output.extend_from_slice(PARTS[rng.below(PARTS.len())]);
            }
            let mut screen = Screen::new(WindowSize { cols: 20, rows: 5 }, 0);
            let mut at = 0;
            while at < output.len() {
                at += screen.feed(&output[at..], u64::MAX);
            }
            let cut = rng.below(output.len() + 1);
            let (front, back) = output.split_at(cut);
            assert_eq!(title_of(&[front, back]), screen.title(), "{output:?}");
        }
    }
}
