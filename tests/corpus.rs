//! Replays the committed fuzz corpus, and every input that once broke a promise, as
//! ordinary tests. The checks are those of the fuzz targets.

// What is wrong with a number of a test fails the test.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

use std::fs;
use std::path::Path;

#[expect(unreachable_pub, reason = "public for the crate of the fuzz targets")]
#[path = "../fuzz/checks/mod.rs"]
mod checks;

/// Runs `check` on every file of one target's corpus.
fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut files = 0;
    for entry in fs::read_dir(&folder).expect("a corpus folder") {
        let path = entry.expect("an entry").path();
        // Shown by the test harness only where a check fails.
        println!("{}", path.display());
        check(&fs::read(&path).expect("a readable file"));
        files += 1;
    }
    assert!(files > 0, "{} is empty", folder.display());
    check(b"");
}

#[test]
fn request_heads_of_the_corpus_hold() {
    replay("request_head", checks::request_head);
}

#[test]
fn chunked_bodies_of_the_corpus_hold() {
    replay("chunked_body", checks::chunked_body);
}

#[test]
fn targets_of_the_corpus_hold() {
    replay("query_path", checks::query_path);
}

#[test]
fn response_heads_of_the_corpus_hold() {
    replay("response_head", checks::response_head);
}

#[test]
fn events_of_the_corpus_hold() {
    replay("sse_writer", checks::sse_writer);
}

#[test]
fn entries_of_the_corpus_hold() {
    replay("entry_json", checks::entry_json);
}

#[test]
fn lossy_texts_of_the_corpus_hold() {
    replay("json_lossy", checks::json_lossy);
}

#[test]
fn websocket_frames_of_the_corpus_hold() {
    replay("ws_frame", checks::ws_frame);
}

#[test]
fn websocket_conversations_of_the_corpus_hold() {
    replay("ws_message", checks::ws_message);
}

#[test]
fn terminal_output_of_the_corpus_holds() {
    replay("terminal_queries", checks::terminal_queries);
}

#[test]
fn screens_of_the_corpus_hold() {
    replay("terminal_screen", checks::terminal_screen);
}

/// The same check on output that nobody chose, made of what programs write.
#[test]
fn screens_are_the_same_whatever_the_order_and_the_cuts() {
    let pieces: &[&str] = &[
        "\x1b",
        "\x1b[",
        "\x1b]",
        "\x1bP",
        "\x1b\\",
        "\x07",
        "\x18",
        "[",
        "?",
        ">",
        "!p",
        ";",
        ":",
        "m",
        "h",
        "l",
        "r",
        "H",
        "J",
        "K",
        "L",
        "M",
        "S",
        "T",
        "P",
        "@",
        "X",
        "b",
        "s",
        "u",
        "t",
        "q",
        "1",
        "2",
        "3",
        "4",
        "6",
        "7",
        "8",
        "25",
        "47",
        "1049",
        "1047",
        "2004",
        "1006",
        "38;5;196",
        "38:2::1:2:3",
        "\x1b[7m",
        "\x1b[41m",
        "\x1b[m",
        "\x1b[2J",
        "\x1b[3J",
        "\x1b[H",
        "\x1b[?1049h",
        "\x1b[?1049l",
        "\x1b[?6h",
        "\x1b[2;3r",
        "\x1b[r",
        "\x1b[?7l",
        "\x1b[?7h",
        "\x1b[4h",
        "\x1b[4l",
        "\x1b7",
        "\x1b8",
        "\x1bM",
        "\x1bD",
        "\x1bE",
        "\x1bc",
        "\x1b#8",
        "\x1b(0",
        "\x1b(B",
        "\x1b)0",
        "\x0e",
        "\x0f",
        "\x1bH",
        "\x1b[3g",
        "\t",
        "\x08",
        "\r",
        "\n",
        "\r\n",
        "\r\n\r\n\r\n",
        "a",
        "bc",
        "line of text",
        "\u{e9}",
        "\u{754c}",
        "\u{1f600}",
        "\u{301}",
        "\u{9b}",
        "\u{9d}",
        "\u{9c}",
        "\u{a0}",
        "0;title",
        "\x1b]2;t\x07",
        "\x1b[22t",
        "\x1b[23t",
        "\x1b[>1u",
        "\x1b[<u",
        "\x1b=",
        "\x1b[5b",
        "\x1b[20h",
        "\x1b[K",
        "     ",
    ];
    let mut seed = 0x5c4ee_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 20) as usize % below
    };
    for _ in 0..2000 {
        let mut soup = Vec::new();
        for _ in 0..1 + random(40) {
            match random(30) {
                0 => soup.push(random(256) as u8),
                _ => soup.extend_from_slice(pieces[random(pieces.len())].as_bytes()),
            }
        }
        println!("{}", soup.escape_ascii());
        checks::terminal_screen(&soup);
    }
}

#[test]
fn inputs_of_the_corpus_hold() {
    replay("input_data", checks::input_data);
}

#[test]
fn terminal_frames_of_the_corpus_hold() {
    replay("terminal_text", checks::terminal_text);
}

#[test]
fn bodies_of_the_corpus_hold() {
    replay("json_body", checks::json_body);
}

#[test]
fn log_operations_of_the_corpus_hold() {
    replay("log_ops", checks::log_ops);
}

/// The same check on sequences that nobody chose, with the long runs that a corpus file lacks.
#[test]
fn logs_are_what_a_plain_model_of_them_is() {
    let mut seed = 0x5eed_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..50 {
        let len = random() % 6000;
        let input: Vec<u8> = (0..len).map(|_| (random() >> 32) as u8).collect();
        checks::log_ops(&input);
    }
}
