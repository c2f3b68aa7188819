//! What an operator and a client may set: flags, and the six limits of the API; and the times
//! that nobody sets.
//!
//! In: arguments, variables of the environment and a file, or the JSON object of a request. Out:
//! values that hold. Knows no process and no socket.

pub mod flags;
pub mod load;
mod settings;
pub(crate) mod timeouts;

pub use self::settings::{FIELDS, Settings, SettingsError};
