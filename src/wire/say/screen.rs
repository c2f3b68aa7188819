//! The screen of a terminal, as JSON and as text.
//!
//! In: a screen and how it was made. Out: the body of an answer.

use crate::types::WindowSize;
use crate::wire::json;
use crate::wire::vt::screen::Screen;

/// Which screen, besides what it shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    /// The last entry of the log that it shows.
    pub sequence: u64,
    /// Nothing is missing.
    pub is_complete: bool,
    /// How many lines that have scrolled out are wanted.
    pub scrollback: u16,
}

/// One object.
pub(crate) fn json(screen: &Screen, made: Made) -> Vec<u8> {
    let WindowSize { cols, rows } = screen.size();
    let cursor = screen.cursor();
    let mut out = format!(
        "{{\"cols\":{cols},\"rows\":{rows},\"cursor\":{{\"col\":{},\"row\":{},\"visible\":{}}},\
         \"altScreen\":{},\"title\":",
        cursor.col,
        cursor.row,
        cursor.visible,
        screen.is_alternate()
    )
    .into_bytes();
    json::write_string(screen.title(), &mut out);
    let rest = format!(
        ",\"sequence\":{},\"complete\":{},\"scrollback\":",
        made.sequence, made.is_complete
    );
    out.extend_from_slice(rest.as_bytes());
    array(screen.scrollback(made.scrollback), &mut out);
    out.extend_from_slice(b",\"lines\":");
    array(screen.lines(), &mut out);
    out.push(b'}');
    out
}

/// Lines, each with its end.
pub(crate) fn text(screen: &Screen, made: Made) -> Vec<u8> {
    let lines = screen.scrollback(made.scrollback).chain(screen.lines());
    let mut out = Vec::new();
    for line in lines {
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
    out
}

fn array(lines: impl Iterator<Item = String>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (at, line) in lines.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        json::write_string(&line, out);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_told_line_by_line() {
        let mut screen = Screen::new(WindowSize { cols: 5, rows: 2 }, 10);
        screen.feed(
            "1\r\n\"2\"  \r\n\x1b]2;t\x07\u{e9}\x1b[?25l".as_bytes(),
            u64::MAX,
        );
        let made = Made {
            sequence: 7,
            is_complete: true,
            scrollback: 9,
        };
        assert_eq!(
            String::from_utf8(json(&screen, made)).unwrap(),
            r#"{"cols":5,"rows":2,"cursor":{"col":1,"row":1,"visible":false},"altScreen":false,"title":"t","sequence":7,"complete":true,"scrollback":["1"],"lines":["\"2\"","é"]}"#
        );
        assert_eq!(text(&screen, made), "1\n\"2\"\né\n".as_bytes());
    }
}
