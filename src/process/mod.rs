//! What a job is: its life, its record, the table of all of them.
//!
//! In: events (spawned, exited, output ended). Out: what a client may see, what is to be done, and
//! who waits to hear of it. Owns the records, their logs and the arena. Knows no socket and no
//! runtime: [`notify`] is made of plain wakers.

pub mod backpressure;
pub mod captures;
pub mod counts;
pub mod extras;
pub mod history;
pub mod kept;
pub mod life;
pub mod notify;
pub mod pacing;
pub mod rate;
pub mod record;
pub mod searches;
pub mod table;
pub mod tags;
pub mod terminal;

pub use captures::Captures;
pub use counts::Counts;
pub use kept::{Kept, Keys};
pub use notify::Notify;
pub use record::{Description, Process};
pub use searches::Searches;
pub use table::{Dropped, Table};
pub use tags::Tags;
