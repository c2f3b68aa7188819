//! Starting children: what to start, threads that start it, and what the child does before exec.
//!
//! In: a [`spec::SpawnSpec`] and a job's number. Out: a pid and a pidfd, or the step that failed.
//! Knows no tree and no deadline.

pub(crate) mod clone;
pub(crate) mod environment;
mod exec;
mod hung;
pub(crate) mod inherit;
mod launchpad;
mod newborn;
pub(crate) mod pool;
pub(crate) mod pty;
pub(crate) mod rlimits;
mod search;
pub(crate) mod spec;
pub(crate) mod user;

pub(crate) use self::exec::{Spawned, spawn};
