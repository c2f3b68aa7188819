//! procring: a process API server for sandboxes.
//!
//! This is the map. Most rooms say at their top what goes in, what comes out, what they own and what
//! they do not know; docs/ARCHITECTURE.md walks a start, a byte, a request and an exit through them.
//!
//! A room may name itself, its own wings, and what its row lists.
//! `tests/layers.rs` reads this table and fails with the arrow that was broken, or with the room
//! that is missing.
//!
//! | room | what it is | may name |
//! |---|---|---|
//! | `types` | words that every room shares: ids, streams, signals, exits, sizes | |
//! | `accounts` | who is who: users and groups, as /etc/passwd and /etc/group tell | types |
//! | `budget` | one budget for all memory that clients can make the server hold | |
//! | `metrics` | what is counted: plain numbers of one thread each | |
//! | `config` | flags, the limits that a client may change, how long is waited for what | types, wire::http::origin |
//! | `wire` | bytes of a peer to requests, frames and events, and back; no socket, no clock | types |
//! | `ledger` | what outlives a process: shared memory, records of jobs | types |
//! | `log` | child output in one mapping: slots, entries, cursors; never waits | types, metrics, budget, ledger |
//! | `process` | what a process is, the table of all, who waits for a change | types, budget, config::timeouts, log, ledger |
//! | `api` | what a request means; decides, never waits | types, metrics, accounts, config, wire, log, process |
//! | `supervisor` | the second thread: pids, deadlines, trees; the only room that signals | types, metrics, config::timeouts, ledger |
//! | `io` | the I/O thread: the only room that awaits | types, metrics, budget, accounts, config, wire, log, process, api, supervisor, journal, sd_notify, ledger |
//! | `token` | how the token is kept from children | config |
//! | `notice` | lines for whoever started the program | |
//! | `journal` | the server's own log: what happens, a line each | types, config::flags, config::timeouts, wire::rfc3339, notice |
//! | `sd_notify` | words to the service manager | types, config::timeouts |
//! | `server` | one server from its configuration: started, then run to its end | types, budget, config, wire, log, process, api, supervisor, io, token, journal, sd_notify, notice, ledger |
//! | `client` | a blocking client of the API | wire |
//! | `cli` | commands for people and scripts, over the API only | types, client, notice, wire::rfc3339 |
//! | `main` | the command line and the exit code | config, server, notice, journal, cli |
//!
//! Within a room that has wings, a wing may name less than the room:
//!
//! | wing | what it is | may name |
//! |---|---|---|
//! | `config::flags` | the table of flags, the command line, the environment | types, wire::http::origin, config::timeouts, config::settings |
//! | `config::timeouts` | how long is waited for what, and who relies on it | |
//! | `wire::http` | RFC 9112 heads, bodies and answers | wire |
//! | `wire::ws` | RFC 6455 frames and messages | wire |
//! | `wire::vt` | terminal escapes: what is cut from a replay, the screen | wire, types |
//! | `wire::say` | JSON that is written directly | wire, types |
//! | `api::endpoint` | a file for each group of routes: what is asked, what is answered | api, types, metrics, config, wire, log, process |
//! | `api::openapi` | what this API is, for programs | api, config |
//! | `supervisor::cgroup` | a cgroup for each child, with limits where it has any | types, ledger::heritage, supervisor::spawn::clone |
//! | `supervisor::mailbox` | a queue between two threads and its doorbell | |
//! | `supervisor::state_dir` | what a killed server left, written down for the next one | supervisor::cgroup, supervisor::living, supervisor::tree, types |
//! | `supervisor::tree` | who belongs to a child, and how it is ended | supervisor::cgroup, supervisor::reap, types |
//! | `supervisor::spawn` | starting a child | supervisor, types, metrics, config::timeouts, ledger |
//! | `io::runtime` | drivers, tasks, sockets, readiness, timers, turns, the heap: monoio | config, types, metrics, ledger |
//! | `io::screen` | screens of terminals | io, types, budget, config, wire, log, process, api |
//! | `io::host` | our ends of children | io::runtime, io::server, io::upgrade, io::screen, io::usage, io::wait, io::watchdog, io::conn::reader, types, budget, config::timeouts, config::flags::LogLevel, config::Settings, log, process, api, supervisor, journal, metrics, ledger |
//! | `io::conn` | connections | io, types, budget, config::timeouts, config::flags::Listen, wire, log, process, api, supervisor::message, supervisor::mailbox, journal, metrics, ledger::heritage |
//! | `io::ws` | what every WebSocket of a process is | io, types, budget, config::timeouts, wire, process, api |
//! | `io::attach` | a process over WebSocket | io, types, config::timeouts, wire, log, process, api, supervisor::spawn::pty, metrics |
//! | `io::terminal` | a terminal over WebSocket | io, types, config::timeouts, wire, log, process, api, supervisor::spawn::pty, metrics |
//!
//! Public is what `main.rs`, the tests and the fuzz targets use. All else is `pub(crate)` or less, so
//! that the compiler finds what nobody uses.
#![deny(unsafe_code)]
// What is wrong with a number of a test fails the test.
#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]
// The docs are read by who works on this crate; they name private items.
#![allow(rustdoc::private_intra_doc_links)]

mod accounts;
pub mod api;
mod budget;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
mod client;
pub mod config;
mod io;
pub mod journal;
mod ledger;
pub mod log;
mod metrics;
pub mod notice;
mod process;
mod sd_notify;
pub mod server;
mod supervisor;
mod token;
pub mod types;
pub mod wire;
