//! What is written directly, without a tree: log entries, records, runs and frames of terminals as
//! JSON, lines as text.

pub(crate) mod asciicast;
pub(crate) mod attach;
pub mod entry;
pub(crate) mod lines;
pub(crate) mod record;
pub(crate) mod run;
pub(crate) mod screen;
pub(crate) mod terminal;
