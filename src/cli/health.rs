//! `health`: for a container's HEALTHCHECK.

use super::context::Context;
use super::error::Result;
use super::parse::Parsed;

pub(super) fn health(context: &Context, _: &Parsed) -> Result<u8> {
    context.client.get("/v1/health")?;
    Ok(0)
}
