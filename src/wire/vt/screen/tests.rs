//! What a screen shows, and what it costs. That cuts and dumps change nothing is checked by
//! `fuzz/checks/terminal_screen.rs`.

use super::*;

const SIZE: WindowSize = WindowSize { cols: 20, rows: 4 };

fn screen(output: &str) -> Screen {
    let mut screen = Screen::new(SIZE, 10);
    assert_eq!(screen.feed(output.as_bytes(), u64::MAX), output.len());
    screen
}

fn lines(screen: &Screen) -> Vec<String> {
    screen.lines().collect()
}

fn scrollback(screen: &Screen) -> Vec<String> {
    screen.scrollback(9).collect()
}

fn dump(screen: &Screen) -> String {
    let mut out = Vec::new();
    screen.dump(&mut out);
    String::from_utf8_lossy(&out).replace('\x1b', "^")
}

#[test]
fn lines_have_no_blanks_at_their_ends_and_the_cursor_stays_on_the_screen() {
    let screen = screen("one  \r\n\x1b[44mtwo\x1b[K\r\n\x1b[m\x1b]0;hi\x07aaaaaaaaaabbbbbbbbbb");
    assert_eq!(lines(&screen), ["one", "two", "aaaaaaaaaabbbbbbbbbb", ""]);
    let cursor = Cursor {
        col: 19,
        row: 2,
        visible: true,
    };
    assert_eq!((screen.cursor(), screen.title()), (cursor, "hi"));
}

#[test]
fn the_screen_beneath_comes_back_from_a_dump() {
    let shown = screen("$ vim\r\n\x1b[?1049h\x1b[H~\x1b[?25l");
    assert!(shown.is_alternate() && !shown.cursor().visible);
    let mut again = Screen::new(SIZE, 0);
    again.feed(dump(&shown).replace('^', "\x1b").as_bytes(), u64::MAX);
    assert_eq!(lines(&again), ["~", "", "", ""]);
    again.feed(b"\x1b[?1049l", u64::MAX);
    assert_eq!(lines(&again), ["$ vim", "", "", ""]);
    assert_eq!((again.cursor().col, again.cursor().row), (0, 1));
}

/// What 1049 saved is saved by it again, which tmux tells from DECSC.
#[test]
fn the_alternate_screen_is_entered_as_the_program_did() {
    for (output, begin) in [
        ("\x1b[?1049h~", "^[1;1H^[m^[?1049h^[m^[H~"),
        (
            "$ vim\r\n\x1b[32m\x1b[?1049h~",
            "$ vim^[2;1H^[0;32m^[?1049h^[m^[2J^[H",
        ),
        // Neither of these saved where the cursor was.
        ("\x1b7$ vim\r\n\x1b[?1047h~", "$ vim^[2;1H^[m^[?1047h^[H"),
        (
            "\x1b7$ vim\r\n\x1b[?1049h\x1b[?1049l\r\n\x1b[?1047h~",
            "$ vim^[2;1H^[0m^7^[m^[3;1H^[m^[?1047h^[H",
        ),
    ] {
        let drawn = dump(&screen(output));
        assert!(drawn.starts_with(begin), "{output:?}: {drawn}");
    }
}

#[test]
fn erasing_the_screen_moves_nothing_to_the_lines_above_and_they_can_be_forgotten() {
    let mut screen = screen("1\r\n2\r\n3\r\n4\r\n5\x1b[2J");
    assert_eq!(scrollback(&screen), ["1"]);
    screen.feed(b"\x1b[3Jx", u64::MAX);
    assert_eq!(scrollback(&screen), [""; 0]);
    assert_eq!(lines(&screen), ["", "", "", " x"]);
}

#[test]
fn colours_and_tab_stops_are_drawn_in_words_that_every_terminal_knows() {
    let screen = screen("\x1b[3g\x1b[5G\x1bH\r\x1b[38:2::1:2:3;48;5;200mx");
    assert_eq!(
        dump(&screen),
        "^[0;38;2;1;2;3;48;5;200mx^[m^[3g^[5G^H^[1;2H^[0;38;2;1;2;3;48;5;200m"
    );
}

#[test]
fn a_mark_that_joins_a_character_takes_no_cell_and_styles_are_not_mistaken() {
    let screen = screen("e\u{301}a\x1b[58;5;196mb");
    assert_eq!(lines(&screen)[0], "eab");
    assert_eq!(dump(&screen), "eab^[1;4H^[0m");
}

#[test]
fn text_that_scrolls_out_is_skipped_and_nobody_can_tell() {
    let text: String = (0..5000)
        .map(|n| format!("line {n}\twith text\r\n"))
        .collect();
    for start in ["", "\x1b[31;42m", "\x1b[?1049h", "\x1b[2;3r", "\x1b[4h"] {
        let output = [start, &text, "x\r\n\x1b[mend"].concat();
        let mut slow = Screen::new(SIZE, 10);
        for piece in output.as_bytes().chunks(7) {
            slow.feed(piece, u64::MAX);
        }
        let fast = screen(&output);
        assert_eq!(dump(&fast), dump(&slow));
        assert_eq!(scrollback(&fast), scrollback(&slow));
    }
}

#[test]
fn what_is_dear_stops_it_soon() {
    let size = WindowSize {
        cols: 1000,
        rows: 1000,
    };
    for dear in [
        "\x1b#8",
        "\x1b[2J",
        "\x1b[?1049h\x1b[?1049l",
        "\x1bc",
        "\x1b[9999b",
        "x\x1b[3J",
    ] {
        let mut screen = Screen::new(size, 0);
        let output = dear.repeat(10_000);
        let used = screen.feed(output.as_bytes(), 1_000_000);
        assert!(used > 0 && used < 1000, "{dear:?}: {used}");
    }
}

#[test]
fn a_size_that_no_terminal_has_is_cut() {
    let size = |cols, rows| Screen::new(WindowSize { cols, rows }, 0).size();
    assert_eq!(size(0, 0), WindowSize { cols: 1, rows: 1 });
    let most = WindowSize {
        cols: 1000,
        rows: 1000,
    };
    assert_eq!(size(u16::MAX, 1001), most);
}

/// As xterm.js answers them, which knows RI with an ESC only.
#[test]
fn controls_as_characters_do_what_the_viewers_terminal_does() {
    for (output, shown) in [
        ("a\u{84}b", ["a", " b", "", ""]),
        ("a\u{85}b", ["a", "b", "", ""]),
        ("abc\u{88}\ry\tz", ["ybcz", "", "", ""]),
        ("a\r\nb\u{8d}c", ["a", "bc", "", ""]),
        ("a\u{80}\u{99}\u{9a}b", ["ab", "", "", ""]),
        ("\u{9b}2;2Hx\u{9b}1mX", ["", " xX", "", ""]),
        ("\x1b[3\u{9c}1mx", ["1mx", "", "", ""]),
        ("\u{90}$qm\u{9c}x\u{9e}hid\u{9c}y", ["xy", "", "", ""]),
    ] {
        assert_eq!(lines(&screen(output)), shown, "{output:?}");
    }
    for (output, title) in [
        ("\u{9d}0;hi\u{9c}x", "hi"),
        ("\u{9d}0;hi\x07x", "hi"),
        ("\x1b]0;hi\u{9b}1mx", ""),
        ("\x1b]0;hi\u{85}x", ""),
    ] {
        assert_eq!(screen(output).title(), title, "{output:?}");
    }
}
