//! What is asked for, a file for each group of routes: what its query or its body may say, and what is
//! answered at once or carried out by `io`.
//!
//! In: a request that is let in, whose route is found. Out: an [`Outcome`](super::Outcome). Whoever adds to
//! what a route takes or says begins here.

pub mod activity;
pub mod attach;
#[cfg(feature = "console")]
pub mod console;
pub mod control;
pub mod events;
pub mod health;
pub mod list;
pub mod logs;
pub mod metrics;
pub mod processes;
pub mod raw;
pub mod run;
pub mod screen;
pub mod server_info;
pub mod settings;
pub mod signal;
pub mod stream;
pub mod upgrade;
pub mod wait;
