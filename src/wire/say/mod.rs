//! What is written directly, without a tree: log entries, records, runs and frames of terminals as
//! JSON, lines as text.

pub mod asciicast;
pub mod attach;
pub mod entry;
pub mod lines;
pub mod record;
pub mod run;
pub mod screen;
pub mod terminal;
