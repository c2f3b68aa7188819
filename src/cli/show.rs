//! Tables, times and sizes for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::wire::rfc3339;

/// What stands where there is nothing to show, so that columns can be counted.
const NOTHING: &str = "-";

/// Blanks between the columns of a table.
const GAP: usize = 3;

/// Characters of a last column that are left of it, however narrow the terminal.
const LAST_MIN: usize = 16;

/// How a table looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Columns are separated by tabs, for programs.
    Plain,
    /// Columns are aligned, for people.
    Aligned,
    /// The same, on a terminal that shows colours to somebody who wants them.
    Coloured,
}

impl Look {
    /// Whether a person reads it.
    pub(super) fn is_for_people(self) -> bool {
        self != Self::Plain
    }

    /// A word with what makes it stand out, if anything may.
    pub(super) fn paint(self, word: &str, colour: Option<Colour>) -> String {
        match (self, colour) {
            (Self::Coloured, Some(colour)) => format!("\x1b[{}m{word}\x1b[0m", colour as u8),
            _ => word.to_owned(),
        }
    }
}

/// What a word stands out by (ECMA-48, 8.3.117).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    /// A heading.
    Bold = 1,
    /// Trouble.
    Red = 31,
    /// It runs.
    Green = 32,
}

/// The colour of what is said of a process.
pub(super) fn colour_of(status: &str) -> Option<Colour> {
    let quiet = ["exited(0)", "deleted"];
    match status {
        "running" | "created" => Some(Colour::Green),
        _ if quiet.iter().any(|quiet| status.starts_with(quiet)) => None,
        _ => Some(Colour::Red),
    }
}

/// Lines of a table.
pub(super) fn table(header: &[&str], rows: &[Vec<String>], look: Look) -> String {
    let shown = |cell: &str| {
        if cell.is_empty() {
            NOTHING.to_owned()
        } else {
            plain(cell)
        }
    };
    let mut lines = vec![
        header
            .iter()
            .map(|&cell| cell.to_owned())
            .collect::<Vec<_>>(),
    ];
    lines.extend(
        rows.iter()
            .map(|row| row.iter().map(|cell| shown(cell)).collect()),
    );
    if look == Look::Plain {
        return lines.iter().map(|line| line.join("\t") + "\n").collect();
    }
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut out = String::new();
    for (row, line) in lines.iter().enumerate() {
        let mut blanks = String::new();
        for ((cell, width), column) in line.iter().zip(&widths).zip(header) {
            let colour = match *column {
                _ if row == 0 => Some(Colour::Bold),
                "STATUS" => colour_of(cell),
                _ => None,
            };
            out.push_str(&blanks);
            out.push_str(&look.paint(cell, colour));
            blanks = " ".repeat(width - cell.chars().count() + GAP);
        }
        out.push('\n');
    }
    out
}

/// Shortens the last cell of rows so that a table of them is no wider than `cols`, as far as that
/// leaves anything of it.
pub(super) fn fit(header: &[&str], rows: &mut [Vec<String>], cols: usize) {
    let Some(last) = header.len().checked_sub(1) else {
        return;
    };
    let width = |column: usize| {
        let cells = rows.iter().map(|row| plain(&row[column]).chars().count());
        cells.max().unwrap_or(0).max(header[column].len()) + GAP
    };
    let before: usize = (0..last).map(width).sum();
    let room = cols.saturating_sub(before).max(LAST_MIN);
    for row in rows {
        row[last] = shortened(&plain(&row[last]), room);
    }
}

/// JSON in lines of its own, with the keys in the order in which they came.
pub(super) fn indented(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
    let mut before = ' ';
    for c in json.trim().chars() {
        if is_text {
            is_text = is_escaped || c != '"';
            is_escaped = !is_escaped && c == '\\';
            out.push(c);
            continue;
        }
        let line = |depth: usize| format!("\n{}", "  ".repeat(depth));
        match c {
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if !matches!(before, '{' | '[') {
                    out.push_str(&line(depth));
                }
                out.push(c);
            }
            c if c.is_whitespace() => continue,
            c => {
                if matches!(before, '{' | '[') {
                    out.push_str(&line(depth));
                }
                is_text = c == '"';
                out.push(c);
                match c {
                    '{' | '[' => depth += 1,
                    ',' => out.push_str(&line(depth)),
                    ':' => out.push(' '),
                    _ => {}
                }
            }
        }
        before = c;
    }
    out
}

/// A text of a stranger, without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    let shown = |c: char| {
        if c.is_control() {
            c.escape_default().collect()
        } else {
            c.to_string()
        }
    };
    text.chars().map(shown).collect()
}

/// A command line as a shell would take it.
pub(super) fn command_line(command: &str, args: &[&str]) -> String {
    let safe = |c: char| c.is_alphanumeric() || "-_./=:,+@%^".contains(c);
    let quoted = |word: &str| {
        if !word.is_empty() && word.chars().all(safe) {
            return word.to_owned();
        }
        format!("'{}'", word.replace('\'', "'\\''"))
    };
    let words = std::iter::once(command).chain(args.iter().copied());
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

/// At most so many characters.
pub(super) fn shortened(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some(_) => {
            let kept: String = text.chars().take(max.saturating_sub(1)).collect();
            kept + "…"
        }
    }
}

/// How long something has been, in its two largest units.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let two = |large: u64, name: char, small: u64, of: char| match small {
        0 => format!("{large}{name}"),
        _ => format!("{large}{name}{small}{of}"),
    };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => two(seconds / 60, 'm', seconds % 60, 's'),
        3600..86_400 => two(seconds / 3600, 'h', seconds % 3600 / 60, 'm'),
        _ => two(seconds / 86_400, 'd', seconds % 86_400 / 3600, 'h'),
    }
}

/// How long ago a moment was.
pub(super) fn since(unix_ms: u64) -> Duration {
    Duration::from_millis(now_ms().saturating_sub(unix_ms))
}

/// Now.
pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// A number of bytes with three digits, in units of 1024.
pub(super) fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    #[expect(
        clippy::cast_precision_loss,
        reason = "three digits are shown; what a float cannot hold is far behind them"
    )]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    match (unit, value) {
        (0, _) => format!("{bytes}B"),
        (_, ..10.0) => format!("{value:.2}{}", units[unit]),
        (_, ..100.0) => format!("{value:.1}{}", units[unit]),
        _ => format!("{value:.0}{}", units[unit]),
    }
}

/// A moment in RFC 3339, UTC, with milliseconds.
pub(super) fn moment(unix_ms: u64) -> String {
    String::from_utf8_lossy(&rfc3339::of(unix_ms)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_for_people_and_stable_for_programs() {
        let rows = [
            vec!["proc_1".to_owned(), String::new()],
            vec!["p".into(), "a\tb".into()],
        ];
        assert_eq!(
            table(&["ID", "NAME"], &rows, Look::Aligned),
            "ID       NAME\nproc_1   -\np        a\\tb\n"
        );
        assert_eq!(
            table(&["ID", "NAME"], &rows, Look::Plain),
            "ID\tNAME\nproc_1\t-\np\ta\\tb\n"
        );
        let rows = ["running", "exited(0)", "exited(SIGKILL)"].map(|cell| vec![cell.to_owned()]);
        assert_eq!(
            table(&["STATUS"], &rows, Look::Coloured),
            "\x1b[1mSTATUS\x1b[0m\n\x1b[32mrunning\x1b[0m\nexited(0)\n\
             \x1b[31mexited(SIGKILL)\x1b[0m\n"
        );
    }

    #[test]
    fn a_table_is_no_wider_than_its_terminal() {
        let row = |command: &str| vec!["proc_1".to_owned(), command.to_owned()];
        let mut rows = [row("short"), row(&"a\t".repeat(40))];
        fit(&["ID", "COMMAND"], &mut rows, 40);
        let table = table(&["ID", "COMMAND"], &rows, Look::Aligned);
        assert!(table.contains("proc_1   short\n"), "{table}");
        let longest = table.lines().map(|line| line.chars().count()).max();
        assert_eq!(longest, Some(40), "{table}");
        fit(&["ID", "COMMAND"], &mut rows, 1);
        assert_eq!(rows[1][1].chars().count(), LAST_MIN);
    }

    #[test]
    fn json_is_indented_and_nothing_of_it_is_changed() {
        let json = r#"{"b":[1,{"a":"x\"{,"}],"e":{},"l":[]}"#;
        let shown = "{\n  \"b\": [\n    1,\n    {\n      \"a\": \"x\\\"{,\"\n    }\n  ],\n  \
                     \"e\": {},\n  \"l\": []\n}";
        assert_eq!(indented(json), shown);
        assert_eq!(indented(shown), shown);
    }

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_001, "2000-02-29T00:00:00.001Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(moment(ms), text);
        }
    }

    #[test]
    fn times_and_sizes_are_short() {
        let of = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!(
            [of(5), of(65), of(7200), of(90_000)],
            ["5s", "1m5s", "2h", "1d1h"]
        );
        assert_eq!(
            [size(999), size(1024), size(64 << 20)],
            ["999B", "1.00KiB", "64.0MiB"]
        );
        assert_eq!(
            command_line("sh", &["-c", "a 'b'", ""]),
            r"sh -c 'a '\''b'\''' ''"
        );
        assert_eq!(
            (shortened("abcd", 4), shortened("abcde", 4)),
            ("abcd".into(), "abc…".into())
        );
    }
}
