//! Child output: memory only, never waits.
//!
//! In: `io::runtime::source` reads into the tail that [`Log::tail`] lends. Out: [`Cursor`] walks
//! the entries and lends their bytes. Owns the arena's slots. Knows no process, no socket and no
//! encoding; a reader brings its [`batch::Encoder`], and [`batch`] keeps what it wrote for the next
//! reader.
//!
//! Byte layout: one sealed memfd is cut into 64 KiB slots ([`arena`]), another one into blocks of
//! 256 bytes (`ledger::blocks`); a log is a queue of slots and an index of 16-byte entries into
//! them, in blocks ([`index`]). At every store the two are whole, so that another process can go on
//! with them ([`recovery`], docs/design/036-shared-memory.md).

pub(crate) mod arena;
pub mod batch;
pub(crate) mod capture;
pub(crate) mod characters;
pub mod cursor;
pub(crate) mod find;
#[cfg(test)]
mod fixture;
mod give_up;
pub mod index;
pub(crate) mod lines;
mod offsets;
pub(crate) mod recovery;
pub(crate) mod select;
pub(crate) mod snapshot;
pub(crate) mod store;
pub mod walk;

pub use crate::ledger::CellId;
pub use arena::{Arena, ArenaError, SLOT_BYTES};
pub use cursor::Cursor;
pub use lines::LastLines;
pub use recovery::Recovery;
pub use select::Select;
pub use snapshot::Snapshot;
pub use store::Log;
pub use walk::Walk;
