//! Who belongs to the tree of a child, and how it is ended.
//!
//! In: /proc, the marks and groups that children were born with. Out: who was found, and signals
//! to them. Knows no queue, no deadline and no message.

pub mod kill;
pub mod mark;
pub(crate) mod orphans;
