//! The runtime's names: drivers, readiness, timers, and when a task gives way.
//!
//! In: descriptors and times. Out: futures. Knows no process and no request.

pub mod backend;
pub(crate) mod pauses;
pub(crate) mod race;
pub(crate) mod source;
pub(crate) mod timer;
pub(crate) mod turn;
