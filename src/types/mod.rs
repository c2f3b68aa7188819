//! Vocabulary that every room shares. Knows nothing but itself.

mod exit;
mod ids;
pub mod nearest;
pub mod signal;
mod spawn_error;
mod stdin;
mod stream;
mod time;
mod usage;
mod window;

pub use self::exit::{Exit, ExitReason, ExitStatus};
pub use self::ids::{JobId, ProcessId};
pub use self::spawn_error::{SpawnError, SpawnStage};
pub use self::stdin::Stdin;
pub use self::stream::{Stream, StreamFilter};
pub use self::time::{Monotonic, UnixMs};
pub use self::usage::{Usage, UsageScope};
pub use self::window::WindowSize;
