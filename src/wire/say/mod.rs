//! What is written directly, without a tree: log entries, records, runs and frames of terminals as
//! JSON, lines as text.

pub mod attach;
pub mod entry;
pub mod lines;
pub mod record;
pub mod run;
pub mod terminal;
