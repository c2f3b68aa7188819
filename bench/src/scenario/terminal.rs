//! Terminals: how late is a typed key's echo, and how fast is output?

use std::time::{Duration, Instant};

use super::{Scenario, Stage, cost, rate};
use crate::account::{Meter, memory};
use crate::api::{Api, Process};
use crate::load::{histogram, nanos_since};
use crate::sample::{Loss, Sample};
use crate::server::Server;
use crate::terminal::Terminals;
use crate::trouble::Result;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "echo-1",
        title: "keystroke echo over WebSocket, 1 terminal",
        rows: &[
            cost("p50", "key to echo, p50", "µs", 1.7, 2.5),
            cost("cpu", "server CPU per key", "µs", 3.5, 4.0),
        ],
        run: |stage| echo(stage, 1),
    },
    Scenario {
        name: "echo-20",
        title: "keystroke echo over WebSocket, 20 terminals at once",
        rows: &[
            cost("p50", "key to echo, p50", "µs", 1.4, 1.8),
            cost("cpu", "server CPU per key", "µs", 4.5, 5.0),
        ],
        run: |stage| echo(stage, 20),
    },
    Scenario {
        name: "tty-output",
        title: "100 MB of terminal output to 1 WebSocket",
        rows: &[
            rate("rate", "delivered", "MB/s", 1.0, 1.1),
            cost("cpu", "server CPU per MB", "µs", 1.8, 2.2),
        ],
        run: output,
    },
];

/// Creates a terminal program, waits until it is in raw mode, and attaches.
pub(super) fn open(
    server: &Server,
    api: &mut Api,
    set: &mut Terminals,
    args: &[&str],
) -> Result<Process> {
    let process = api.create_child(args, true)?;
    api.await_log(&process, b"R")?;
    set.attach(server.address, &process.path(""))?;
    Ok(process)
}

fn echo(stage: &Stage<'_>, terminals: usize) -> Result<Sample> {
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    let mut set = Terminals::new()?;
    for _ in 0..terminals {
        open(&server, &mut api, &mut set, &["tty-echo"])?;
    }
    let mut latency = histogram();
    let mut pressed = vec![Instant::now(); terminals];
    let mut answered = Vec::with_capacity(terminals);
    let (mut keys, mut echoes) = (0, 0);
    let meter = Meter::start(server.pid())?;
    for (number, at) in pressed.iter_mut().enumerate() {
        *at = Instant::now();
        set.press(number, 'a')?;
        keys += 1;
    }
    let mut quiet = Instant::now();
    while echoes < keys && quiet.elapsed() < Duration::from_secs(5) {
        answered.clear();
        set.pump(Duration::from_millis(100), &mut |number, bytes| {
            latency.saturating_record(nanos_since(pressed[number]));
            echoes += bytes;
            answered.push(number);
        })?;
        if !answered.is_empty() {
            quiet = Instant::now();
        }
        if meter.elapsed() < stage.duration() {
            for &number in &answered {
                pressed[number] = Instant::now();
                set.press(number, 'a')?;
                keys += 1;
            }
        }
    }
    let usage = meter.stop()?;
    Ok(Sample::new(usage, memory(server.pid())?)
        .value("p50", latency.value_at_quantile(0.5) as f64 / 1e3)
        .value("cpu", usage.server_s * 1e6 / keys as f64)
        .latency("echo", &latency)
        .lost(Loss {
            bytes: keys.saturating_sub(echoes),
            errors: echoes.saturating_sub(keys) + u64::from(set.any_closed()),
            ..Loss::default()
        }))
}

fn output(stage: &Stage<'_>) -> Result<Sample> {
    let total: u64 = stage.pick(100_000_000, 10_000_000);
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    // The program's output must stay within the log: a viewer may be behind.
    api.configure(64, 256 << 20)?;
    let mut set = Terminals::new()?;
    open(
        &server,
        &mut api,
        &mut set,
        &["tty-burst", &total.to_string()],
    )?;
    let meter = Meter::start(server.pid())?;
    let began = Instant::now();
    set.press(0, 'a')?;
    let (mut received, mut last) = (0, began);
    while received < total && last.elapsed() < Duration::from_secs(4) {
        let count = set.pump(Duration::from_millis(100), &mut |_, _| ())?;
        if count > 0 {
            received += count;
            last = Instant::now();
        }
    }
    let usage = meter.stop()?;
    let megabytes = received as f64 / 1e6;
    Ok(Sample::new(usage, memory(server.pid())?)
        .value("rate", megabytes / (last - began).as_secs_f64())
        .value("cpu", usage.server_s * 1e6 / megabytes)
        .lost(Loss {
            bytes: total.saturating_sub(received),
            errors: received.saturating_sub(total),
            ..Loss::default()
        }))
}
