//! JSON that is written directly, without a tree: log entries, records.

pub mod entry;
pub mod record;
