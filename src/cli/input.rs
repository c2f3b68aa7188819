//! `input`: a text, or all of standard input, to a process.

use std::io::{self, IsTerminal};

use serde_json::json;

use super::context::{Context, path};
use super::error::{CliError, Result};
use super::feed;
use super::parse::Parsed;
use crate::client::Request;

pub(super) fn input(context: &Context, parsed: &Parsed) -> Result<u8> {
    let words = parsed.words()?;
    let (name, text) = (&words[0], words.get(1));
    let eof = parsed.has("eof");
    if parsed.has("line") && text.is_none() {
        return Err(CliError::Usage(
            "--line ends a text, and there is none".to_owned(),
        ));
    }
    let client = &context.client;
    if let Some(text) = text {
        let end = if parsed.has("line") { "\n" } else { "" };
        let text = format!("{text}{end}");
        if context.capabilities()?.iter().any(|word| word == "stdin") {
            feed::pass_on(client, name, &mut text.as_bytes(), eof)?;
        } else if eof {
            return Err(context.too_old("--eof"));
        } else {
            let body = json!({"data": text, "encoding": "utf8"});
            client.post(&path(name, "/input"), &body)?;
        }
        return Ok(0);
    }
    context.require("stdin", "input without a text")?;
    let mut stdin = io::stdin();
    if eof && stdin.is_terminal() {
        // Nothing but the end.
        client.expect(Request::post(&path(name, "/stdin/close")))?;
        return Ok(0);
    }
    feed::pass_on(client, name, &mut stdin, eof)?;
    Ok(0)
}
