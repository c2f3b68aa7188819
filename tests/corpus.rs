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
