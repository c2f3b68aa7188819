//! procring: a process API server for sandboxes.
//!
//! Bytes flow child -> `io::runtime::source` -> `log` -> `log::cursor` -> `wire` -> `io::conn`.
//!
//! | room | in | out | knows |
//! |---|---|---|---|
//! | [`wire`] | bytes of a peer | requests, frames, events, and back | no socket, no clock |
#![deny(unsafe_code)]
// The docs are read by who works on this crate; they name private items.
#![allow(rustdoc::private_intra_doc_links)]

pub mod api;
pub mod cli;
pub mod config;
pub mod io;
pub mod log;
pub mod process;
pub mod supervisor;
pub mod token;
pub mod types;
pub mod wire;
