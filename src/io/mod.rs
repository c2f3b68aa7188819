//! The I/O thread: the only room that awaits and the only one that names the runtime.
//!
//! In: connections, child output, the supervisor's events. Out: answers. Owns sockets, the
//! readable and writable ends of children, and, through [`server::Server`], the table and the
//! arena. Decides nothing about what a request means; that is `api`.
//!
//! One thread, one task per connection and one per child output. Tasks share [`server::Server`]
//! through an `Rc` and never hold a borrow of it across an await.

pub mod accounts;
mod attach;
mod audit;
mod bytes;
mod conn;
mod control;
mod entry;
mod event_stream;
mod events;
mod follow;
mod host;
pub mod ids;
mod memory;
mod metrics;
mod ports;
mod recording;
pub mod reload;
mod repeats;
pub mod rules;
pub mod runtime;
pub(crate) mod screen;
pub mod server;
mod server_info;
pub(crate) mod signal;
mod stdin;
mod strangers;
mod stream;
mod telling;
mod terminal;
pub mod upgrade;
mod usage;
mod wait;
mod wait_for;
pub(crate) mod watchdog;
mod ws;

pub use conn::listener::serve;
pub use conn::open::{Kind, ListenError, Listening, open};
pub use host::admission::RunBounds;
pub use host::resume::resume;
pub use repeats::resume as resume_keys;
