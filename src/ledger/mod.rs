//! What outlives a process: memory that another one goes on with.
//!
//! In: facts and entries, as they happen. Out: the same, after any store. Owns sealed memfds: blocks
//! that indexes of logs and texts are in ([`blocks`]), and a record of each job ([`records`], only
//! where there is a keeper). What another program needs to go on with them is a [`heritage`]. Knows
//! no log and no life; whoever knows them says what the numbers mean.
//!
//! Why one word is enough: docs/design/036-shared-memory.md.

pub(crate) mod blocks;
pub(crate) mod heritage;
pub(crate) mod memory;
pub(crate) mod records;
#[cfg(debug_assertions)]
pub(crate) mod variant;

pub use blocks::CellId;
pub(crate) use heritage::Heritage;
pub(crate) use records::{PidSlot, RecordId, Records};
