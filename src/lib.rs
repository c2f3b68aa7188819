//! procring: a process API server for sandboxes.
//!
//! This is the map: every room, what always holds in it, and three walks through them. Most rooms say
//! at their top what goes in, what comes out, what they own and what they do not know;
//! docs/ARCHITECTURE.md tells the same at more length, with pictures and figures.
//!
//! # Rooms
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
//! | `wire::base64` | bytes as text, with AVX2 where the machine has it | wire |
//! | `wire::rfc3339` | times as text | wire |
//! | `wire::http` | RFC 9112 heads, bodies and answers | wire |
//! | `wire::ws` | RFC 6455 frames and messages | wire |
//! | `wire::vt` | terminal escapes: what is cut from a replay, the screen | wire, types |
//! | `wire::say` | every JSON that clients are sent | wire, types |
//! | `ledger::heritage` | what a program hands to the one that takes its place | ledger::variant |
//! | `ledger::records` | a record of each job | ledger, types |
//! | `process::table` | all processes: looked for, counted, and who goes when there are too many | process, types, budget, log, ledger |
//! | `api::routes` | the one table of routes | api, wire |
//! | `api::problem` | every refusal: its status, its kind, its words | api, types, wire |
//! | `api::idempotency` | which requests are repeats, and what they are answered | api, types, config::timeouts, wire |
//! | `api::endpoint` | a file for each group of routes: what is asked, what is answered | api, types, metrics, config, wire, log, process |
//! | `api::openapi` | what this API is, for programs | api, config |
//! | `supervisor::cgroup` | a cgroup for each child, with limits where it has any | types, ledger::heritage, supervisor::spawn::clone |
//! | `supervisor::message` | all that other threads see of the supervisor | supervisor::spawn::spec, types, metrics, ledger |
//! | `supervisor::mailbox` | a queue between two threads and its doorbell | |
//! | `supervisor::state_dir` | what a killed server left, written down for the next one | supervisor::cgroup, supervisor::living, supervisor::tree, types |
//! | `supervisor::tree` | who belongs to a child, and how it is ended | supervisor::cgroup, supervisor::reap, types |
//! | `supervisor::spawn` | starting a child | supervisor, types, config::timeouts, ledger |
//! | `io::runtime` | drivers, tasks, sockets, readiness, timers, turns, the heap: monoio | config, types, metrics, ledger |
//! | `io::screen` | screens of terminals | io, types, budget, config, wire, log, process, api |
//! | `io::host` | our ends of children | io::runtime, io::server, io::upgrade, io::screen, io::usage, io::wait, io::watchdog, types, budget, config::timeouts, config::flags::LogLevel, config::Settings, log, process, api, supervisor, journal, metrics, ledger |
//! | `io::conn` | connections | io, types, budget, config::timeouts, config::flags::Listen, wire, log, api, supervisor::message, supervisor::mailbox, journal, metrics, ledger::heritage |
//! | `io::ws` | what every WebSocket of a process is | io, types, budget, config::timeouts, wire, process, api |
//! | `io::attach` | a process over WebSocket | io, types, config::timeouts, wire, log, process, api, supervisor::spawn::pty, metrics |
//! | `io::terminal` | a terminal over WebSocket | io, types, config::timeouts, wire, log, process, api, metrics |
//! | `io::upgrade` | another program takes this one's place | io, types, config::timeouts, process, supervisor, journal, ledger |
//!
//! # What always holds
//!
//! - [`types`], [`config`]: words, limits and times; they do nothing.
//! - [`wire`]: an input that is cut anywhere gives the same outcome, and what two readers could
//!   understand differently is refused.
//! - [`ledger`]: what is committed is committed by the store of one word.
//! - [`log`]: a log never holds more than its limit; no reader can make a writer wait.
//! - [`budget`]: what is promised to a running log is nobody else's.
//! - [`process`]: ids are never used again; [`process::life`] makes every move of a state.
//! - [`api`]: it never awaits and names no descriptor.
//! - [`supervisor`]: nothing in its loop waits; only [`supervisor::tree::identity`] signals members of
//!   a tree, and none that is known by its number alone; a child gets descriptors 0, 1 and 2 only.
//! - [`io`]: no borrow of the shared state is held across an await; [`io::runtime`] alone names monoio.
//! - [`server`]: a process starts one server only, from its first thread.
//! - [`journal`]: telling never waits, and what a client can have happen at will is a line a second.
//! - `cli` and `client` know a server by its public API only.
//!
//! # A byte
//!
//! A child writes. The task of that output (`io::host::outputs`) wakes up and reads into the slot
//! that the bytes stay in ([`io::runtime::source`], [`log::Arena`]); [`log::Log`] adds an entry and
//! evicts what is over the limit. [`process::notify`] wakes the readers. Each walks on with its
//! [`log::Cursor`]; the first one has the entries encoded ([`log::batch`], [`wire::say`]), the others
//! take the same text, and `io::follow` or `io::terminal` sends it.
//!
//! # A request
//!
//! `io::conn` reads until [`wire::http::head`] has a head. [`api::plan`] checks who asks
//! ([`api::access`]), finds the row of [`api::routes`], and says which body may follow.
//! [`api::execute`] takes that body ([`api::body`]) to an [`api::Outcome`]: an answer, or something
//! to carry out, which `io::conn::carry_out` does: it sends the supervisor a
//! [`supervisor::message::Command`], waits (`io::wait`), or goes on as a stream. A refusal is an
//! [`api::Problem`] wherever it comes from.
//!
//! # An exit
//!
//! The supervisor reaps the child (`supervisor::deaths`) and sends a [`supervisor::message::Event`].
//! `io::host::reports` has what is still in the pipes read (`io::host::rest`); the record shows the
//! exit when all output is in its log ([`process::life`]), and whoever waits is told. What is left of
//! the tree is counted (`supervisor::leftovers`) or ended (`supervisor::ending`); of what has
//! exited the oldest goes first (`process::table::exited`).
//!
//! # What is public
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
