//! A terminal's screen: no split changes it, and what draws it takes the place of everything that
//! came before.

use procring::types::WindowSize;
use procring::wire::vt::screen::Screen;

use super::split_point;

/// Checks one input, as the output of a terminal.
pub fn terminal_screen(data: &[u8]) {
    // Small, so that a short input fills it; the size is another one for another input.
    let seed = split_point(data);
    let size = WindowSize {
        cols: [1, 2, 3, 5, 8, 13, 80][seed % 7],
        rows: [1, 2, 3, 4, 24][seed / 7 % 5],
    };
    let scrollback = [0, 0, 3][seed % 3];
    let whole = fed(size, scrollback, &[data]);
    let drawn = dump(&whole);

    let (front, back) = data.split_at(split_point(data));
    let split = fed(size, scrollback, &[front, back]);
    assert_same(&dump(&split), &drawn);
    assert!(split.scrollback(9).eq(whole.scrollback(9)));
    assert_same(
        &dump(&fed(size, scrollback, &data.chunks(1).collect::<Vec<_>>())),
        &drawn,
    );

    // A dump in place of the front.
    let restored = fed(size, scrollback, &[&dump(&fed(size, scrollback, &[front]))]);
    assert_same(&dump(&restored), &dump(&fed(size, scrollback, &[front])));
    let restored = fed(
        size,
        scrollback,
        &[&dump(&fed(size, scrollback, &[front])), back],
    );
    assert_same(&dump(&restored), &drawn);
    assert!(restored.lines().eq(whole.lines()));
    assert_eq!(restored.cursor(), whole.cursor());

    // A redraw on a terminal that shows something else, lines that have scrolled out included.
    let mut redraw = Vec::new();
    whole.redraw(3, &mut redraw);
    let redrawn = fed(
        size,
        scrollback,
        &[b"\x1b[?1049hx\x1b[?6h\x1b]0;y", &redraw],
    );
    assert_same(&dump(&redrawn), &drawn);
    assert!(redrawn.scrollback(3).eq(whole.scrollback(3)));

    // Another size afterwards.
    let other = WindowSize {
        cols: 1 + (size.cols + 6) % 17,
        rows: 1 + (size.rows + 2) % 5,
    };
    let resized = |mut screen: Screen| {
        screen.resize(other);
        (dump(&screen), screen.size())
    };
    assert_eq!(resized(split).1, other);
    let (again, size) = resized(whole);
    assert_same(&dump(&fed(size, 0, &[&again])), &again);
}

fn fed(size: WindowSize, scrollback: u16, parts: &[&[u8]]) -> Screen {
    let mut screen = Screen::new(size, scrollback);
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            let used = screen.feed(rest, 10_000);
            assert!(used > 0);
            rest = &rest[used..];
        }
    }
    screen
}

fn dump(screen: &Screen) -> Vec<u8> {
    let mut out = Vec::new();
    screen.dump(&mut out);
    out
}

fn assert_same(one: &[u8], other: &[u8]) {
    assert_eq!(
        one.escape_ascii().to_string(),
        other.escape_ascii().to_string()
    );
}
