//! Vocabulary that every room shares. Knows nothing but itself.

pub mod arguments;
mod exit;
mod ids;
mod kept;
mod limits;
pub(crate) mod nearest;
pub(crate) mod signal;
pub(crate) mod size;
mod spawn_error;
mod stdin;
mod stream;
mod time;
mod usage;
mod user;
mod window;

pub use self::exit::{Exit, ExitReason, ExitStatus};
pub use self::ids::{JobId, ProcessId};
pub use self::kept::KeptLimits;
pub use self::limits::{Limit, Limits, LimitsError};
pub use self::spawn_error::{SpawnError, SpawnStage};
pub use self::stdin::Stdin;
pub use self::stream::{Stream, StreamFilter};
pub use self::time::{Monotonic, UnixMs};
pub use self::usage::{Usage, UsageScope, Used};
pub use self::user::{Credentials, UserError, UserName, Who};
pub use self::window::WindowSize;
