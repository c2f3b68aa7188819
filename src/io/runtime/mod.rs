//! The runtime's names: drivers, tasks, sockets, readiness, timers, when a task gives way or waits
//! in line, how long the loop is busy, and the heap's free memory. Nobody else names monoio.
//!
//! In: descriptors and times. Out: futures. Knows no process and no request.

pub(crate) mod backend;
pub(crate) mod heap;
pub(crate) mod lane;
pub(crate) mod meter;
pub(crate) mod pauses;
pub(crate) mod race;
pub(crate) mod socket;
pub(crate) mod source;
pub(crate) mod tcp;
pub(crate) mod timer;
pub(crate) mod turn;

pub(crate) use monoio::spawn;
