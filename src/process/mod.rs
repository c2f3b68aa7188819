//! What a job is: its life, its record, the table of all of them.
//!
//! In: events (spawned, exited, output ended). Out: what a client may see, what is to be done, and
//! who waits to hear of it. Owns the records, their logs and the arena. Knows no socket and no
//! runtime: [`notify`] is made of plain wakers.

pub(crate) mod backpressure;
pub(crate) mod captures;
pub(crate) mod counts;
pub(crate) mod extras;
pub(crate) mod history;
pub(crate) mod kept;
pub(crate) mod life;
pub(crate) mod notify;
pub(crate) mod pacing;
pub(crate) mod rate;
pub(crate) mod record;
pub(crate) mod searches;
pub(crate) mod table;
pub(crate) mod tags;
pub(crate) mod terminal;

pub(crate) use captures::Captures;
pub(crate) use counts::Counts;
pub(crate) use kept::{Kept, Keys};
pub(crate) use notify::Notify;
pub(crate) use record::{Description, Process};
pub(crate) use searches::Searches;
pub(crate) use table::{Dropped, Table};
pub(crate) use tags::Tags;
