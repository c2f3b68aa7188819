//! What is written directly, without a tree: log entries and records as JSON, lines as text.

pub mod entry;
pub mod lines;
pub mod record;
