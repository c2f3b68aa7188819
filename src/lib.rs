//! procring: a process API server for sandboxes.
//!
//! Bytes flow child -> `io::source` -> `log` -> `log::cursor` -> `wire` -> `io::conn`.
//!
//! | room | in | out | knows |
//! |---|---|---|---|
//! | [`wire`] | bytes of a peer | requests, frames, events, and back | no socket, no clock |
#![deny(unsafe_code)]

pub mod child;
pub mod config;
pub mod log;
pub mod process;
pub mod types;
pub mod wire;
