//! What an operator and a client may set: flags, and the six limits of the API; and the times
//! that nobody sets.
//!
//! In: arguments and variables of the environment, or the JSON object of a request. Out: values
//! that hold. Knows no process, no socket and no file.

pub mod flags;
mod settings;
pub mod timeouts;

pub use self::settings::{Settings, SettingsError};
