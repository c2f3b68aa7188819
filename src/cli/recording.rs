//! `record` and `play`: what a terminal showed (asciicast v2).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::context::{Context, path};
use super::error::{CliError, Result};
use super::output;
use super::parse::Parsed;
use crate::client::Request;

pub(super) fn record(context: &Context, parsed: &Parsed) -> Result<u8> {
    let name = &parsed.words()?[0];
    context.require("recording", "recording")?;
    let what = format!("/logs/recording?follow={}", parsed.has("follow"));
    let mut cast = context.client.expect(Request::get(&path(name, &what)))?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match cast
            .read(&mut buffer)
            .map_err(CliError::local("the recording broke off"))?
        {
            0 => return Ok(0),
            read => output::stdout(&buffer[..read])?,
        }
    }
}

pub(super) fn play(_: &Context, parsed: &Parsed) -> Result<u8> {
    let file = &parsed.operands()[0];
    let name = file.to_string_lossy();
    let speed = |text: &str| {
        text.parse()
            .ok()
            .filter(|speed: &f64| speed.is_finite() && *speed > 0.0)
    };
    let speed = parsed
        .read_value("speed", "a number above 0", speed)?
        .unwrap_or(1.0);
    let idle_max = parsed.time("idle-max")?.unwrap_or(Duration::MAX);
    let lines: Box<dyn BufRead> = if file == "-" {
        Box::new(io::stdin().lock())
    } else {
        let opened = File::open(file).map_err(CliError::local(name.clone()))?;
        Box::new(BufReader::new(opened))
    };
    let foreign = || CliError::Failed(format!("{name} is no asciicast of version 2"), 1);
    let mut lines = lines.lines();
    let header = lines
        .next()
        .transpose()
        .map_err(CliError::local(name.clone()))?;
    let header: Value = serde_json::from_str(&header.unwrap_or_default()).map_err(|_| foreign())?;
    if header["version"] != 2 {
        return Err(foreign());
    }
    // Pauses that are cut move all that follows.
    let (mut due, mut before) = (Instant::now(), 0.0);
    for line in lines {
        let line = line.map_err(CliError::local(name.clone()))?;
        if line.trim().is_empty() {
            continue;
        }
        let event: Value = serde_json::from_str(&line).map_err(|_| foreign())?;
        let at = event[0].as_f64().ok_or_else(foreign)?;
        let pause = Duration::try_from_secs_f64((at - before) / speed).unwrap_or_default();
        due += pause.min(idle_max);
        before = at;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if event[1] == "o" {
            output::stdout(event[2].as_str().ok_or_else(foreign)?.as_bytes())?;
        }
    }
    Ok(0)
}
