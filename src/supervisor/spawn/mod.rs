//! Starting children: what to start, threads that start it, and what the child does before exec.
//!
//! In: a [`spec::SpawnSpec`] and a job's number. Out: a pid and a pidfd, or the step that failed.
//! Knows no tree and no deadline.

pub(crate) mod clone;
pub mod environment;
mod exec;
mod hung;
pub mod inherit;
mod launchpad;
mod newborn;
pub(crate) mod pool;
pub mod pty;
pub mod rlimits;
mod search;
pub mod spec;
pub mod user;

pub use self::exec::{Spawned, spawn};
