//! Replays the committed fuzz corpus, and every input that once broke a promise, as
//! ordinary tests. The checks are those of the fuzz targets.

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
