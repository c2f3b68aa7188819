//! What a process is: its record, its state, the table of all of them.
//!
//! In: facts (spawned, exited, output read). Out: what a client may see, and who waits to hear of
//! it. Owns the records, their logs and the arena. Knows no socket and no runtime: [`notify`] is
//! made of plain wakers.

pub mod life;
pub mod notify;
pub mod run;
pub mod state;
pub mod table;

pub use notify::Notify;
pub use run::Run;
pub use state::State;
pub use table::{Dropped, Process, Table};
