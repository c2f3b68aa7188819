//! What must hold for any input: one function per fuzz target.
//!
//! In: bytes, from libFuzzer or from a file of the corpus. Out: a panic where a
//! promise is broken. `fuzz_targets/` and `tests/corpus.rs` call the same functions.

mod chunked_body;
mod entry_json;
mod input_data;
mod json_body;
mod json_lossy;
mod log_ops;
mod query_path;
mod request_head;
mod response_head;
mod sse_writer;
mod terminal_queries;
mod terminal_screen;
mod terminal_text;
mod ws_frame;
mod ws_message;

pub use chunked_body::chunked_body;
pub use entry_json::entry_json;
pub use input_data::input_data;
pub use json_body::json_body;
pub use json_lossy::json_lossy;
pub use log_ops::log_ops;
pub use query_path::query_path;
pub use request_head::request_head;
pub use response_head::response_head;
pub use sse_writer::sse_writer;
pub use terminal_queries::terminal_queries;
pub use terminal_screen::terminal_screen;
pub use terminal_text::terminal_text;
pub use ws_frame::ws_frame;
pub use ws_message::ws_message;

/// A place to split `data`, different from input to input but always the same for one,
/// so that a file of the corpus is nothing but the bytes of the protocol (FNV-1a).
fn split_point(data: &[u8]) -> usize {
    let hash = data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash % (data.len() as u64 + 1)) as usize
}

/// The first eight bytes as a number (missing ones are 0), and the rest.
fn take_u64(data: &[u8]) -> (u64, &[u8]) {
    let (front, rest) = data.split_at(data.len().min(8));
    let mut bytes = [0; 8];
    bytes[..front.len()].copy_from_slice(front);
    (u64::from_le_bytes(bytes), rest)
}
