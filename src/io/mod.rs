//! The I/O thread: the only room that awaits and the only one that names the runtime.
//!
//! In: connections, child output, the supervisor's events. Out: answers. Owns sockets, the
//! readable and writable ends of children, and, through [`server::Server`], the table and the
//! arena. Decides nothing about what a request means; that is `api`.
//!
//! One thread, one task per connection and one per child output. Tasks share [`server::Server`]
//! through an `Rc` and never hold a borrow of it across an await.

pub(crate) mod accounts;
mod attach;
mod audit;
mod bytes;
mod conn;
mod control;
mod entry;
mod event_stream;
mod events;
mod follow;
mod gate;
mod host;
pub(crate) mod ids;
mod memory;
mod metrics;
mod ports;
mod recording;
pub(crate) mod reload;
mod repeats;
pub(crate) mod rules;
pub(crate) mod runtime;
pub(crate) mod screen;
pub(crate) mod server;
mod server_info;
pub(crate) mod signal;
mod stdin;
mod strangers;
mod stream;
mod telling;
mod terminal;
pub(crate) mod upgrade;
mod usage;
mod wait;
mod wait_for;
pub(crate) mod watchdog;
mod ws;

pub(crate) use conn::listener::serve;
pub(crate) use conn::open::{Kind, ListenError, Listening, open};
pub(crate) use host::admission::RunBounds;
pub(crate) use host::resume::resume;
pub(crate) use repeats::resume as resume_keys;
