//! `top`: what processes use, again and again.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Read};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::context::Context;
use super::error::Result;
use super::parse::Parsed;
use super::ps::{command, text};
use super::show::{Colour, Look};
use super::signals::{self, Wish};
use super::terminal::{self, Raw};
use super::{output, show};

const INTERVAL: Duration = Duration::from_secs(2);

/// What can be sorted by, with the key of `usage`.
const COLUMNS: [(&str, &str); 5] = [
    ("cpu", ""),
    ("memory", "maxRssBytes"),
    ("in", "inputBytes"),
    ("out", "outputBytes"),
    ("followers", "followers"),
];

/// CPU time of a process at a moment.
type Before = HashMap<String, (u64, Instant)>;

pub(super) fn top(context: &Context, parsed: &Parsed) -> Result<u8> {
    let interval = parsed
        .time("interval")?
        .unwrap_or(INTERVAL)
        .max(Duration::from_millis(100));
    let by = parsed.read_value("sort", "cpu, memory, in, out or followers", |word| {
        COLUMNS.iter().position(|(name, _)| *name == word)
    })?;
    let by = by.unwrap_or(0);
    let mut before = Before::new();
    if !output::is_for_people() {
        let rows = rows(context, &mut before, by)?;
        output::answer(&show::table(&HEADER, &rows, Look::Plain))?;
        return Ok(0);
    }
    let (hear, heard) = mpsc::channel();
    let pressed = hear.clone();
    signals::listen(move |wish| {
        // Nobody listens any more when it is over.
        let _ = hear.send(wish);
    })?;
    let keys = match io::stdin().is_terminal() {
        true => Some(Raw::keys()?),
        false => None,
    };
    if keys.is_some() {
        signals::beside(move || await_leave(&pressed))?;
    }
    let shown = watch(context, &mut before, by, interval, &heard, keys.as_ref());
    drop(keys);
    terminal::is_drawn(false);
    terminal::is_alternate(false);
    output::stdout(b"\x1b[?25h\x1b[?1049l")?;
    shown?;
    Ok(0)
}

/// Reads keys until one says that the user has seen enough.
fn await_leave(pressed: &mpsc::Sender<Wish>) {
    let mut key = [0];
    while io::stdin().lock().read_exact(&mut key).is_ok() {
        if matches!(key[0], b'q' | b'Q') {
            let _ = pressed.send(Wish::Interrupt);
            return;
        }
    }
}

fn begin() -> Result<()> {
    terminal::is_drawn(true);
    terminal::is_alternate(true);
    output::stdout(b"\x1b[?1049h\x1b[?25l")
}

fn watch(
    context: &Context,
    before: &mut Before,
    by: usize,
    interval: Duration,
    heard: &mpsc::Receiver<Wish>,
    keys: Option<&Raw>,
) -> Result<()> {
    begin()?;
    loop {
        let rows = rows(context, before, by)?;
        let (cols, lines) = terminal::size().unwrap_or((80, 24));
        let table = show::table(&HEADER, &rows, Look::Aligned);
        let look = output::look();
        let mut frame = String::from("\x1b[H");
        let shown = table.lines().take(usize::from(lines).saturating_sub(1));
        for (row, line) in shown.enumerate() {
            let colour = (row == 0).then_some(Colour::Bold);
            frame.push_str(&look.paint(&show::shortened(line, cols.into()), colour));
            frame.push_str("\x1b[K\r\n");
        }
        frame.push_str("\x1b[J");
        output::answer(&frame)?;
        match heard.recv_timeout(interval) {
            Ok(Wish::Interrupt | Wish::End(_)) => return Ok(()),
            Ok(Wish::Continued) => {
                // It may have been hung up, which is heard of otherwise.
                let _ = keys.map(Raw::again);
                begin()?;
            }
            Ok(Wish::Resized) | Err(_) => {}
        }
    }
}

const HEADER: [&str; 9] = [
    "ID",
    "NAME",
    "CPU%",
    "MEMORY",
    "IN",
    "OUT",
    "PROCESSES",
    "FOLLOWERS",
    "COMMAND",
];

fn rows(context: &Context, before: &mut Before, by: usize) -> Result<Vec<Vec<String>>> {
    let list = context
        .client
        .get("/v1/processes?status=running&usage=true")?;
    let now = Instant::now();
    let records = list["processes"].as_array().into_iter().flatten();
    let mut seen = Before::new();
    let mut rows: Vec<(f64, Vec<String>)> = Vec::new();
    for record in records.filter(|record| record["status"] == "running") {
        let id = text(record, "id").to_owned();
        let usage = &record["usage"];
        let cpu_us = usage["userCpuUs"]
            .as_u64()
            .zip(usage["systemCpuUs"].as_u64());
        let cpu_us = cpu_us.map(|(user, system)| user + system);
        let age = show::since(record["createdAtMs"].as_u64().unwrap_or(0));
        let cpu = cpu_us.map(|us| share(us, before.get(&id), now, age));
        if let Some(us) = cpu_us {
            seen.insert(id.clone(), (us, now));
        }
        let key = match by {
            0 => cpu.unwrap_or(-1.0),
            _ => usage[COLUMNS[by].1].as_f64().unwrap_or(-1.0),
        };
        let bytes = |key: &str| usage[key].as_u64().map_or(String::new(), show::size);
        let number = |key: &str| usage[key].as_u64().map_or(String::new(), |n| n.to_string());
        rows.push((
            key,
            vec![
                id,
                text(record, "name").to_owned(),
                cpu.map_or(String::new(), |cpu| format!("{cpu:.1}")),
                bytes("maxRssBytes"),
                bytes("inputBytes"),
                bytes("outputBytes"),
                number("processes"),
                number("followers"),
                command(record),
            ],
        ));
    }
    *before = seen;
    rows.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// Per cent of one CPU since the last look, or since the start.
fn share(us: u64, before: Option<&(u64, Instant)>, now: Instant, age: Duration) -> f64 {
    let (used, time) = match before {
        Some((before, at)) => (us.saturating_sub(*before), now - *at),
        None => (us, age),
    };
    Duration::from_micros(used).as_secs_f64() / time.as_secs_f64().max(0.001) * 100.0
}
