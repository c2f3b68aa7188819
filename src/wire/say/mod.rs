//! JSON that is written directly, without a tree: log entries.

pub mod entry;
