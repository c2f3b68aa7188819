//! Every JSON that clients are sent, a file for each kind of thing, and lines as text. The limits,
//! which clients send and are sent, are in [`Settings`](crate::config::Settings); the document of the
//! API is in `api::openapi`.

pub(crate) mod asciicast;
pub(crate) mod attach;
pub mod entry;
pub(crate) mod events;
pub(crate) mod input;
pub(crate) mod lines;
pub(crate) mod lists;
pub(crate) mod problem;
pub(crate) mod record;
pub(crate) mod run;
pub(crate) mod screen;
pub(crate) mod server;
pub(crate) mod terminal;
