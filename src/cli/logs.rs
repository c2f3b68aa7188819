//! `logs`: what a process wrote, each stream to its own, without loss or repetition over a cut.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::context::{Context, PATIENCE, PAUSE, path};
use super::error::{CliError, Result};
use super::parse::{Parsed, time};
use super::{output, show};
use crate::client::{ClientError, Events};
use crate::notice;

pub(super) fn logs(context: &Context, parsed: &Parsed) -> Result<u8> {
    let name = &parsed.words()?[0];
    let tail = parsed
        .read_value("tail", "a whole number, or all", lines)?
        .flatten();
    let since_ms = parsed.read_value(
        "since",
        "a time such as 90s or 1h30m, or a moment such as 2026-01-31T12:00:00Z",
        |text| moment(text, show::now_ms()),
    )?;
    let mut printer = Printer {
        since_ms,
        timestamps: parsed.has("timestamps").then(Default::default),
        last: 0,
    };
    let entries = retained(context, name, tail, since_ms)?;
    let skip = tail.map_or(0, |lines| bytes_before(&entries, lines));
    printer.print_behind(&entries, skip)?;
    if parsed.has("follow") {
        if context.capabilities()?.is_empty() {
            ask_again(context, name, &mut printer)?;
        } else {
            follow(context, name, &mut printer)?;
        }
    }
    Ok(0)
}

/// How many lines are asked for; all of them if none within.
fn lines(text: &str) -> Option<Option<u64>> {
    match text {
        "all" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

/// A moment, or a time before `now`, in milliseconds of Unix.
fn moment(text: &str, now: u64) -> Option<u64> {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if let Some(before) = time(text) {
        return Some(now.saturating_sub(ms(before)));
    }
    let moment = humantime::parse_rfc3339_weak(text).ok()?;
    let since = moment.duration_since(UNIX_EPOCH);
    Some(since.map_or(0, ms))
}

/// Prints the last lines of what is retained. Returns the number of the last entry there is.
pub(super) fn tail(context: &Context, name: &str, lines: u64) -> Result<u64> {
    let mut printer = Printer::default();
    let entries = retained(context, name, Some(lines), None)?;
    printer.print_behind(&entries, bytes_before(&entries, lines))?;
    Ok(printer.last)
}

/// An entry of a log.
struct Entry {
    sequence: u64,
    is_error: bool,
    at: u64,
    data: Vec<u8>,
}

impl Entry {
    fn read(entry: &Value) -> Result<Self> {
        let foreign = || CliError::Client(ClientError::Foreign("an entry of a log is missing"));
        let data = entry["data"].as_str().ok_or_else(foreign)?;
        Ok(Self {
            sequence: entry["sequence"].as_u64().ok_or_else(foreign)?,
            is_error: entry["stream"] == "stderr",
            at: entry["timestampMs"].as_u64().unwrap_or(0),
            data: STANDARD.decode(data).map_err(|_| foreign())?,
        })
    }
}

/// What is retained, or as many of its last entries as hold so many lines.
fn retained(
    context: &Context,
    name: &str,
    tail: Option<u64>,
    since_ms: Option<u64>,
) -> Result<Vec<Entry>> {
    // At least one entry, to know where to go on.
    let mut asked = tail.map(|lines| lines.max(1));
    loop {
        let mut query: Vec<String> = asked.iter().map(|asked| format!("tail={asked}")).collect();
        query.extend(since_ms.map(|since| format!("sinceMs={since}")));
        let log = context
            .client
            .get(&path(name, &format!("/logs?{}", query.join("&"))))?;
        let entries = log["entries"].as_array().into_iter().flatten();
        let entries = entries.map(Entry::read).collect::<Result<Vec<_>>>()?;
        let (Some(lines), Some(wanted)) = (tail, asked) else {
            // Who asks for an end, or for what is young, misses nothing of it.
            if let (None, Some(bytes @ 1..)) = (since_ms, log["droppedBytes"].as_u64()) {
                say_lost(bytes);
            }
            return Ok(entries);
        };
        // An entry holds a part of a line or many; so many that their ends are seen, and one more
        // in front, where the first of the lines begins.
        let is_all = (entries.len() as u64) < wanted;
        if is_all || bytes_before(&entries, lines) > 0 {
            return Ok(entries);
        }
        asked = Some(wanted.saturating_mul(4).max(64));
    }
}

/// Bytes in front of the last `lines` lines, over both streams.
fn bytes_before(entries: &[Entry], lines: u64) -> usize {
    let all: usize = entries.iter().map(|entry| entry.data.len()).sum();
    if lines == 0 {
        return all;
    }
    let bytes = entries
        .iter()
        .rev()
        .flat_map(|entry| entry.data.iter().rev());
    // The end of the last line begins no other one.
    let mut ends = bytes
        .enumerate()
        .skip(1)
        .filter(|(_, byte)| **byte == b'\n');
    let nth = usize::try_from(lines - 1).unwrap_or(usize::MAX);
    ends.nth(nth).map_or(0, |(from_end, _)| all - from_end)
}

/// Prints entries, each once.
#[derive(Default)]
struct Printer {
    since_ms: Option<u64>,
    /// Whether the next byte of standard output, and of standard error, goes on with a line.
    timestamps: Option<[bool; 2]>,
    /// The last sequence number that was printed.
    last: u64,
}

impl Printer {
    /// Prints entries, but for so many bytes in front.
    fn print_behind(&mut self, entries: &[Entry], mut skip: usize) -> Result<()> {
        for entry in entries {
            let skip_here = skip.min(entry.data.len());
            skip -= skip_here;
            self.print(entry, skip_here)?;
        }
        Ok(())
    }

    fn print(&mut self, entry: &Entry, skip: usize) -> Result<()> {
        self.last = self.last.max(entry.sequence);
        // The reference has no such parameter, and ignores it.
        if self.since_ms.is_some_and(|since| entry.at < since) {
            return Ok(());
        }
        let data = &entry.data[skip..];
        let write = if entry.is_error {
            output::stderr
        } else {
            output::stdout
        };
        let Some(within) = &mut self.timestamps else {
            return write(data);
        };
        let within = &mut within[usize::from(entry.is_error)];
        let stamp = format!("{} ", show::moment(entry.at));
        let mut out = Vec::with_capacity(data.len() + stamp.len());
        for line in data.split_inclusive(|byte| *byte == b'\n') {
            if !*within {
                out.extend_from_slice(stamp.as_bytes());
            }
            out.extend_from_slice(line);
            *within = line.last() != Some(&b'\n');
        }
        write(&out)
    }
}

/// Says that so much was evicted before it could be read.
pub(super) fn say_lost(bytes: u64) {
    notice::line(format_args!(
        "{bytes} bytes are lost: the server had evicted them before they could be read"
    ));
}

/// Follows to the exit, over cuts.
fn follow(context: &Context, name: &str, printer: &mut Printer) -> Result<()> {
    // It was there a moment ago; one that is away comes back.
    let client = context.client.patient(PATIENCE);
    loop {
        let what = format!("/logs?follow=true&since={}", printer.last);
        let response = client.open(&path(name, &what))?;
        for event in Events::new(response) {
            let Ok(event) = event else {
                break;
            };
            let data: Value = serde_json::from_str(&event.data).unwrap_or(Value::Null);
            match &*event.name {
                "log" => printer.print(&Entry::read(&data)?, 0)?,
                "gap" => say_lost(data["bytes"].as_u64().unwrap_or(0)),
                "exit" => return Ok(()),
                _ => {}
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// Follows at a server whose event stream says nothing of an exit and loses entries without a sign,
/// as the reference's does.
fn ask_again(context: &Context, name: &str, printer: &mut Printer) -> Result<()> {
    let client = context.client.patient(PATIENCE);
    loop {
        // First this: what an exit leaves is in the log by then, or a moment later.
        let has_exited = client.get(&path(name, ""))?["status"] != "running";
        let log = client.get(&path(name, &format!("/logs?since={}", printer.last)))?;
        let entries = log["entries"].as_array().into_iter().flatten();
        for entry in entries {
            printer.print(&Entry::read(entry)?, 0)?;
        }
        if has_exited {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_begin_at_a_moment_or_a_time_before_now() {
        let at = |text| moment(text, 1_000_000);
        assert_eq!((at("10s"), at("1m")), (Some(990_000), Some(940_000)));
        assert_eq!(at("1h"), Some(0));
        // As --timestamps prints them.
        assert_eq!(at("1970-01-01T00:00:02.500Z"), Some(2_500));
        assert_eq!(at("1970-01-02T00:00:00"), Some(86_400_000));
        assert_eq!((at("yesterday"), at("")), (None, None));
        assert_eq!(
            ["7", "all", "-1", "five"].map(lines),
            [Some(Some(7)), Some(None), None, None]
        );
    }

    #[test]
    fn the_last_lines_are_counted_over_entries() {
        let entry = |data: &str| Entry {
            sequence: 1,
            is_error: false,
            at: 0,
            data: data.as_bytes().to_vec(),
        };
        let entries = ["a\nb", "c\n", "d\ne"].map(entry);
        assert_eq!(
            [0, 1, 2, 3, 4, 9].map(|n| bytes_before(&entries, n)),
            [8, 7, 5, 2, 0, 0]
        );
        let ended = ["a\n", "b\n"].map(entry);
        assert_eq!([1, 2, 3].map(|n| bytes_before(&ended, n)), [2, 0, 0]);
    }
}
