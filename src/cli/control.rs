//! `stop`, `kill`, `wait` and `rm`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::context::{Context, path};
use super::error::{CliError, Result};
use super::output;
use super::parse::Parsed;
use super::ps::exit_code;
use crate::client::{Request, segment};

/// Between SIGTERM and SIGKILL, as docker(1) has it.
const GRACE: Duration = Duration::from_secs(10);

/// A server that ends a grace itself has done it by then.
const BEHIND_GRACE: Duration = Duration::from_millis(500);

/// For a SIGKILL: the kernel may take a moment to end a large process.
const AFTER_GRACE: Duration = Duration::from_secs(5);

/// One wait of the server's; it is asked again.
const WAIT: Duration = Duration::from_secs(60);

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn stop(context: &Context, parsed: &Parsed) -> Result<u8> {
    let grace = parsed.time("time")?.unwrap_or(GRACE);
    let wait = grace.saturating_add(BEHIND_GRACE);
    context.for_each(parsed, |name| {
        let what = format!("/stop?graceMs={}&waitMs={}", ms(grace), ms(wait));
        let record = context.act(name, &what)?;
        if record["status"] == "running" {
            // The reference knows no grace.
            end(context, name)?;
        }
        output::line(name)
    })
}

/// Kills a process with all that it started.
fn end(context: &Context, name: &str) -> Result<()> {
    let what = format!("/kill?waitMs={}", ms(AFTER_GRACE));
    if context.act(name, &what)?["status"] == "running" {
        return Err(CliError::Failed(
            "it still runs after SIGKILL".to_owned(),
            1,
        ));
    }
    Ok(())
}

pub(super) fn kill(context: &Context, parsed: &Parsed) -> Result<u8> {
    let signal = parsed.value("signal")?;
    let signal = signal.filter(|signal| crate::types::signal::number(signal) != Some(9));
    if signal.is_some() {
        context.require("signals", "another signal than SIGKILL")?;
    }
    context.for_each(parsed, |name| {
        match &signal {
            Some(signal) => {
                context
                    .client
                    .post(&path(name, "/signal"), &json!({ "signal": signal }))?;
            }
            None => end(context, name)?,
        }
        output::line(name)
    })
}

pub(super) fn wait(context: &Context, parsed: &Parsed) -> Result<u8> {
    let until = parsed
        .time("timeout")?
        .and_then(|time| Instant::now().checked_add(time));
    let mut what = String::new();
    if let Some(text) = parsed.value("log")? {
        what.push_str(&format!("&log={}", segment(&text)));
    }
    if let Some(port) = parsed.number("port")? {
        what.push_str(&format!("&port={port}"));
    }
    context.require("wait", "wait")?;
    let mut not_matched = 0;
    let failed = context.for_each(parsed, |name| {
        let (outcome, record) = wait_for(context, name, &what, until)?;
        if what.is_empty() {
            if outcome != "exited" {
                return Err(CliError::Failed("it still runs".to_owned(), 1));
            }
            return output::line(exit_code(&record)?);
        }
        not_matched |= u8::from(outcome != "matched");
        Ok(())
    })?;
    Ok(failed.max(not_matched))
}

/// Waits for one process, as often as the server ends a wait.
fn wait_for(
    context: &Context,
    name: &str,
    what: &str,
    until: Option<Instant>,
) -> Result<(String, Value)> {
    // It has been there a moment ago.
    let client = context.client.patient(super::context::PATIENCE);
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let wait = left.map_or(WAIT, |left| left.min(WAIT));
        let request = Request::get(&path(name, &format!("/wait?timeoutMs={}{what}", ms(wait))));
        // A proxy, or a server that is replaced, may cut a long wait: it is asked again.
        let answer = match client.json(request) {
            Err(error) if error.may_pass() => {
                let record = client.get(&path(name, ""))?;
                json!({"outcome": "timeout", "process": record})
            }
            answer => answer?,
        };
        let outcome = answer["outcome"].as_str().unwrap_or_default();
        if outcome != "timeout" || left.is_some_and(|left| left <= wait) {
            return Ok((outcome.to_owned(), answer["process"].clone()));
        }
    }
}

pub(super) fn remove(context: &Context, parsed: &Parsed) -> Result<u8> {
    let force = parsed.has("force");
    context.for_each(parsed, |name| {
        if force {
            context.act(name, &format!("/kill?waitMs={}", ms(AFTER_GRACE)))?;
        }
        let what = if force { "?tree=true" } else { "" };
        let removed = context.client.expect(Request::delete(&path(name, what)));
        removed.map_err(|error| match error.status() {
            Some(409) if !force => {
                CliError::Failed(format!("{error}; `procring rm -f {name}` does both"), 1)
            }
            _ => error.into(),
        })?;
        output::line(name)
    })
}
