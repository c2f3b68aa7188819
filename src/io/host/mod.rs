//! Our ends of children: their outputs into logs, their inputs, and how they begin and end.
//!
//! In: what `api` has decided, what the supervisor reports, readiness. Out: bytes in the arena,
//! commands to the supervisor, changes of the table. Knows no socket.

pub(crate) mod admission;
pub(crate) mod backlog;
pub(crate) mod begun;
pub(crate) mod capacity;
pub(crate) mod create;
pub(crate) mod effects;
pub(crate) mod feed;
pub(crate) mod handed;
pub(crate) mod input;
pub(crate) mod late;
pub(crate) mod leftovers;
pub(crate) mod line;
pub(crate) mod outputs;
mod paced;
pub(crate) mod reports;
mod rest;
pub(crate) mod resume;
pub(crate) mod run;
pub(crate) mod sizes;
mod tally;
mod told;
pub(crate) mod underway;
