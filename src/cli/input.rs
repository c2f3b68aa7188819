//! `input`: a text, or all of standard input, to a process.

use std::io::{self, IsTerminal};

use serde_json::json;

use super::context::{Context, path};
use super::error::{CliError, Result};
use super::parse::Parsed;
use crate::client::{Body, Request};

pub(super) fn input(context: &Context, parsed: &Parsed) -> Result<u8> {
    let words = parsed.words()?;
    let (name, text) = (&words[0], words.get(1));
    let eof = parsed.has("eof");
    if parsed.has("line") && text.is_none() {
        return Err(CliError::Usage(
            "--line ends a text, and there is none".to_owned(),
        ));
    }
    if let Some(text) = text {
        let end = if parsed.has("line") { "\n" } else { "" };
        let mut body = json!({"data": format!("{text}{end}"), "encoding": "utf8"});
        if eof {
            context.require("stdin", "--eof")?;
            body["eof"] = true.into();
        }
        context.client.post(&path(name, "/input"), &body)?;
        return Ok(0);
    }
    context.require("stdin", "input without a text")?;
    let mut stdin = io::stdin();
    if eof && stdin.is_terminal() {
        // Nothing but the end.
        context
            .client
            .expect(Request::post(&path(name, "/stdin/close")))?;
        return Ok(0);
    }
    let what = format!("/stdin?eof={eof}");
    let request = Request::post(&path(name, &what)).body(Body::Stream(&mut stdin));
    context.client.json(request)?;
    Ok(0)
}
