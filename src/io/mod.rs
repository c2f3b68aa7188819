//! The I/O thread: the only room that awaits and the only one that names the runtime.
//!
//! In: connections, child output, the supervisor's events. Out: answers. Owns sockets, the
//! readable and writable ends of children, and, through [`server::Server`], the table and the
//! arena. Decides nothing about what a request means; that is `api`.
//!
//! One thread, one task per connection and one per child output. Tasks share [`server::Server`]
//! through an `Rc` and never hold a borrow of it across an await.

pub mod backend;
mod capacity;
mod conn;
mod control;
mod create;
mod events;
mod fetch;
mod follow;
mod input;
mod listener;
mod liveness;
mod outputs;
mod race;
mod reader;
mod run;
pub mod server;
mod source;
mod terminal;
mod timer;
mod turn;
mod typing;
mod writer;

pub use listener::serve;
