//! `POST /v1/server/upgrade`: another program takes over.
//!
//! In: which one. Out: the same, if this caller may have it; carried out by `io`, and answered by the
//! server that goes on. Knows no keeper.

use std::path::PathBuf;

use crate::api::problem::Problem;
use crate::api::{Core, Outcome};

/// A program to take over; the one at the server's own path if None.
///
/// # Errors
/// 400 for a path that is not absolute, 403 where callers are not to be the server's user, 503 at
/// the server's end.
pub(crate) fn upgrade(binary: Option<String>, core: &Core<'_>) -> Result<Outcome, Problem> {
    crate::api::refuse_while_ending(core)?;
    let binary = binary.map(PathBuf::from);
    if binary.as_ref().is_some_and(|path| !path.is_absolute()) {
        return Err(Problem::invalid("binary must be an absolute path"));
    }
    if binary.is_some() && core.users.default.is_some() {
        return Err(Problem::forbidden(
            "with --default-user whoever asks is not to run programs as the server's user; put the \
             new program where the server's own is, and leave out binary",
        ));
    }
    Ok(Outcome::Upgrade { binary })
}
