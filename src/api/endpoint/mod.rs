//! What is asked for, a file for each group of routes: what its query or its body may say, and what is
//! answered at once or carried out by `io`.
//!
//! In: a request that is let in, whose route is found. Out: an [`Outcome`](super::Outcome). Whoever
//! adds to what a route takes or says begins here.

pub(crate) mod activity;
pub(crate) mod attach;
#[cfg(feature = "console")]
pub(crate) mod console;
pub(crate) mod control;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod processes;
pub(crate) mod raw;
pub(crate) mod run;
pub(crate) mod screen;
pub(crate) mod server_info;
pub(crate) mod settings;
pub(crate) mod signal;
pub(crate) mod stream;
pub(crate) mod upgrade;
pub(crate) mod wait;
