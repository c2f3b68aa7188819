//! Followers: how late is a line, and how much of a burst arrives how fast?

use std::time::{Duration, Instant};

use base64::Engine;
use hdrhistogram::Histogram;

use super::{Better, Goal, Row, Scenario, Stage, cost, rate};
use crate::account::{Meter, memory, monotonic_ns};
use crate::follow::{Followers, Tally};
use crate::load::histogram;
use crate::payload::LINE;
use crate::sample::{Loss, Sample};
use crate::sse::Entry;
use crate::trouble::{Result, Trouble};

/// Followers of a burst that one thread of the load generator reads.
const READERS_OF_ONE_THREAD: u64 = 16;

/// A burst's own rows: the rate is judged, and so is every byte.
const fn burst(factor: f64) -> [Row; 3] {
    [
        rate("rate", "delivered", "MB/s", factor, 25.0),
        cost("cpu", "server CPU per GB delivered", "s", 45.0, 60.0),
        Row {
            key: "lost",
            label: "bytes lost",
            unit: "B",
            better: Better::Less,
            goal: Goal::AtMost(0.0),
            limit: None,
        },
    ]
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "line-1",
        title: "one line at a time to 1 follower",
        rows: &[
            cost("p50", "write to receipt, p50", "µs", 1.2, 1.4),
            cost("cpu", "server CPU per line", "µs", 2.0, 0.0),
        ],
        run: |stage| lines(stage, 1, 500),
    },
    Scenario {
        name: "line-50",
        title: "one line at a time to 50 followers",
        rows: &[
            cost("p50", "write to receipt, p50", "µs", 1.4, 1.6),
            cost("cpu", "server CPU per line", "µs", 3.0, 4.0),
        ],
        run: |stage| lines(stage, 50, 200),
    },
    Scenario {
        name: "burst-1",
        title: "64 MiB burst to 1 follower",
        rows: &burst(12.0),
        run: |stage| bursts(stage, 1),
    },
    Scenario {
        name: "burst-16",
        title: "64 MiB burst to 16 followers",
        rows: &burst(12.0),
        run: |stage| bursts(stage, 16),
    },
    Scenario {
        name: "burst-64",
        title: "64 MiB burst to 64 followers",
        rows: &burst(18.0),
        run: |stage| bursts(stage, 64),
    },
];

/// Reads the stamps out of an entry of lines and records how late they are.
/// Returns the number of lines, and whether the entry held whole lines only.
pub(super) fn record_stamps(entry: &Entry<'_>, latency: &mut Histogram<u64>) -> (u64, bool) {
    let now = monotonic_ns();
    let mut text = Vec::with_capacity(LINE * 4);
    if base64::engine::general_purpose::STANDARD
        .decode_vec(entry.data, &mut text)
        .is_err()
    {
        return (0, false);
    }
    let (lines, rest) = text.as_chunks::<LINE>();
    let mut whole = rest.is_empty();
    for line in lines {
        match std::str::from_utf8(&line[..20])
            .ok()
            .and_then(|stamp| stamp.parse::<u64>().ok())
        {
            Some(stamp) => {
                latency.saturating_record(now.saturating_sub(stamp).clamp(1, 119_000_000_000))
            }
            None => whole = false,
        }
    }
    (lines.len() as u64, whole)
}

fn lines(stage: &Stage<'_>, followers: u64, per_second: u64) -> Result<Sample> {
    let count = stage.pick(4, 1) * per_second;
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    let interval = (1_000_000 / per_second).to_string();
    let process = api.create_child(&["lines", &count.to_string(), &interval], false)?;
    let mut set = Followers::new()?;
    for _ in 0..followers {
        set.open(server.address, &process.path("/logs?follow=true"))?;
    }
    let (mut latency, mut received, mut broken) = (histogram(), 0, 0);
    let meter = Meter::start(server.pid())?;
    api.input(&process, "\n")?;
    let whole = count * LINE as u64;
    set.pump_until(
        Duration::from_secs(5),
        |set| set.tallies().all(|tally| tally.bytes >= whole),
        &mut |_, _, entry| {
            let (lines, whole) = record_stamps(entry, &mut latency);
            received += lines;
            broken += u64::from(!whole);
        },
    )?;
    let usage = meter.stop()?;
    Ok(Sample::new(usage, memory(server.pid())?)
        .value("p50", latency.value_at_quantile(0.5) as f64 / 1e3)
        .value("cpu", usage.server_s * 1e6 / count as f64)
        .latency("line", &latency)
        .lost(losses(set.tallies(), whole, broken)))
}

fn bursts(stage: &Stage<'_>, followers: u64) -> Result<Sample> {
    let total: u64 = stage.pick(64 << 20, 16 << 20);
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    api.configure(64, 256 << 20)?;
    let process = api.create_child(&["burst", &total.to_string()], false)?;
    api.await_log(&process, b"ready")?;
    // That word was entry 1; everything behind it is the burst.
    // One thread could not read what the server sends to so many.
    let threads = if followers > READERS_OF_ONE_THREAD {
        2
    } else {
        1
    };
    let mut sets = Vec::new();
    for thread in 0..threads {
        let mut set = Followers::new()?;
        for _ in 0..(followers + thread) / threads {
            set.open(server.address, &process.path("/logs?follow=true&since=1"))?;
        }
        sets.push(set);
    }
    let meter = Meter::start(server.pid())?;
    let began = Instant::now();
    api.input(&process, "\n")?;
    let read = |set: &mut Followers| {
        set.pump_until(
            Duration::from_secs(4),
            |set| set.tallies().all(|tally| tally.offset >= total),
            &mut |_, tally: &mut Tally, entry| tally.place(entry),
        )
    };
    let mut last = began;
    std::thread::scope(|scope| {
        let readers: Vec<_> = sets
            .iter_mut()
            .map(|set| scope.spawn(move || read(set)))
            .collect();
        for reader in readers {
            let ended = reader
                .join()
                .map_err(|_| Trouble::Setup("a reader panicked".into()))??;
            last = last.max(ended);
        }
        Ok::<(), Trouble>(())
    })?;
    let usage = meter.stop()?;
    let tallies = || sets.iter().flat_map(Followers::tallies);
    let delivered = tallies().map(|tally| tally.bytes).sum::<u64>() as f64;
    let loss = losses(
        tallies(),
        total,
        tallies().map(|tally| tally.misplaced).sum(),
    );
    Ok(Sample::new(usage, memory(server.pid())?)
        .generators(threads)
        .value("rate", delivered / 1e6 / (last - began).as_secs_f64())
        .value("cpu", usage.server_s / (delivered / 1e9))
        .value("lost", loss.bytes as f64)
        .lost(loss))
}

/// What followers did not get, of `whole` bytes each.
pub(super) fn losses<'t>(
    tallies: impl Iterator<Item = &'t Tally> + Clone,
    whole: u64,
    errors: u64,
) -> Loss {
    Loss {
        bytes: tallies
            .clone()
            .map(|tally| whole.saturating_sub(tally.bytes))
            .sum(),
        entries: tallies.clone().map(|tally| tally.skipped).sum(),
        errors: errors
            + tallies
                .map(|tally| tally.repeated + tally.gaps)
                .sum::<u64>(),
    }
}
