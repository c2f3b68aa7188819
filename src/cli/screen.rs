//! `screen`: what a terminal shows now.

use super::context::{Context, path};
use super::error::Result;
use super::output;
use super::parse::Parsed;
use crate::client::Request;

pub(super) fn screen(context: &Context, parsed: &Parsed) -> Result<u8> {
    let name = &parsed.words()?[0];
    let format = match (parsed.has("json"), parsed.has("ansi")) {
        (true, _) => "json",
        (false, true) => "ansi",
        (false, false) => "text",
    };
    let scrollback = parsed.number("scrollback")?.unwrap_or(0);
    let what = format!("/terminal/screen?format={format}&scrollback={scrollback}");
    context.require("screen", "screen")?;
    let mut shown = context
        .client
        .expect(Request::get(&path(name, &what)))?
        .whole()?;
    if shown.last() != Some(&b'\n') {
        shown.push(b'\n');
    }
    output::stdout(&shown)?;
    Ok(0)
}
