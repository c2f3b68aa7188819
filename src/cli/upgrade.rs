//! `upgrade`: another program takes the server's place, and what runs goes on.

use std::path::Path;

use super::context::Context;
use super::error::{CliError, Result};
use super::output;
use super::parse::Parsed;
use crate::client::{ClientError, Request, segment};

pub(super) fn upgrade(context: &Context, parsed: &Parsed) -> Result<u8> {
    let mut path = "/v1/server/upgrade".to_owned();
    if let Some(binary) = parsed.value("binary")? {
        // The server may have been started elsewhere.
        let absolute = std::path::absolute(Path::new(&binary))
            .map_err(|error| CliError::Failed(format!("{binary}: {error}"), 1))?;
        path.push_str("?binary=");
        path.push_str(&segment(&absolute.to_string_lossy()));
    }
    let server = match context.client.json(Request::post(&path)) {
        // Another server's word for a route that it does not have.
        Err(ClientError::Refused(problem)) if matches!(problem.status, 404 | 405) => {
            return Err(context.too_old("upgrade"));
        }
        answer => answer?,
    };
    let version = server["version"].as_str().unwrap_or_default();
    output::line(format!("procring {version} serves"))?;
    Ok(0)
}
