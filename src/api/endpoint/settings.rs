//! `GET` and `POST /v1/processes/config`.

use crate::config::Settings;

use crate::api::problem::Problem;
use crate::api::reply::Reply;
use crate::api::{Core, Outcome, body};

fn reply(settings: &Settings) -> Outcome {
    // Six integers always serialise.
    Outcome::Reply(Reply::json(
        serde_json::to_vec(settings).unwrap_or_default(),
    ))
}

/// The limits in force.
pub(crate) fn get(core: &Core<'_>) -> Outcome {
    reply(core.settings)
}

/// Replaces all limits at once, or none.
///
/// # Errors
/// 400 for a zero, 422 for a missing or mistyped field.
pub(crate) fn set(bytes: &[u8], core: &mut Core<'_>) -> Result<Outcome, Problem> {
    let wanted: Settings = body::object(bytes, core.strict)?;
    *core.settings = wanted
        .validated()
        .map_err(|error| Problem::invalid(error.message()))?;
    Ok(reply(core.settings))
}
