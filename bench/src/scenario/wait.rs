//! Waiters: how late do they hear of an exit, and what do they cost meanwhile?

use std::time::Duration;

use base64::Engine;
use hdrhistogram::Histogram;

use super::{Better, Goal, Row, Scenario, Stage, less};
use crate::account::{Meter, memory, monotonic_ns, switches};
use crate::api::{Api, Process};
use crate::http::{Connection, request};
use crate::load::histogram;
use crate::sample::Sample;
use crate::server::Server;
use crate::trouble::{Result, Trouble};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "wait-exit",
        title: "to hear of an exit (reference: `GET` every 100 ms)",
        rows: &[
            less(
                "p50",
                "the program's last write to its answer, p50",
                "µs",
                Goal::AtMost(5000.0),
            ),
            less("p99", "the same, p99", "µs", Goal::Shown),
        ],
        run: exits,
    },
    Scenario {
        name: "wait-idle",
        title: "waiters for one exit that does not come",
        rows: &[
            Row {
                key: "waiter",
                label: "RSS per waiter",
                unit: "B",
                better: Better::Less,
                goal: Goal::AtMost(4096.0),
                limit: None,
            },
            less(
                "wakeups",
                "context switches of all threads",
                "/s",
                Goal::AtMost(0.0),
            ),
        ],
        run: idle,
    },
];

/// Between two looks of a client that cannot wait.
const INTERVAL: Duration = Duration::from_millis(100);

fn exits(stage: &Stage<'_>) -> Result<Sample> {
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    let waits = api.offers("wait")?;
    let mut latency = histogram();
    let meter = Meter::start(server.pid())?;
    for _ in 0..stage.pick(100, 10) {
        one_exit(&server, &mut api, waits, &mut latency)?;
    }
    let usage = meter.stop()?;
    Ok(Sample::new(usage, memory(server.pid())?)
        .value("p50", latency.value_at_quantile(0.5) as f64 / 1e3)
        .value("p99", latency.value_at_quantile(0.99) as f64 / 1e3)
        .latency("exit", &latency))
}

/// Has a program write when it is and exit, and notes when its client hears of that.
fn one_exit(
    server: &Server,
    api: &mut Api,
    waits: bool,
    latency: &mut Histogram<u64>,
) -> Result<()> {
    let process = api.create_child(&["lines", "1", "0"], false)?;
    let mut waiter = Connection::open(server.address)?;
    if waits {
        waiter.send(&request("GET", &process.path("/wait"), b""))?;
        // So that the wait is there before the exit.
        std::thread::sleep(Duration::from_millis(5));
    }
    api.input(&process, "\n")?;
    if waits {
        waiter.receive()?;
    } else {
        let look = request("GET", &process.path(""), b"");
        while waiter.exchange(&look)? != 200
            || memchr::memmem::find(waiter.body(), b"\"exited\"").is_none()
        {
            std::thread::sleep(INTERVAL);
        }
    }
    let heard = monotonic_ns();
    if memchr::memmem::find(waiter.body(), b"\"status\":\"exited\"").is_none() {
        return Err(Trouble::Protocol("the process has not exited".into()));
    }
    let wrote = stamp(api, &process)?;
    latency.saturating_record(heard.saturating_sub(wrote).max(1));
    Ok(())
}

/// When the program wrote its line.
fn stamp(api: &mut Api, process: &Process) -> Result<u64> {
    let logs: serde_json::Value = serde_json::from_slice(&api.get(&process.path("/logs"))?)
        .map_err(|error| Trouble::Protocol(error.to_string()))?;
    let data = logs["entries"][0]["data"].as_str().unwrap_or("");
    let line = base64::engine::general_purpose::STANDARD.decode(data);
    line.ok()
        .and_then(|line| String::from_utf8(line).ok()?.trim().parse().ok())
        .ok_or_else(|| Trouble::Protocol(format!("no stamp in {data:?}")))
}

fn idle(stage: &Stage<'_>) -> Result<Sample> {
    let count: u64 = stage.pick(500, 100);
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    if !api.offers("wait")? {
        return Err(Trouble::Unavailable("it has no waits".into()));
    }
    let process = api.create("sleep", &["600"], false)?;
    drop(api);
    let wait = request("GET", &process.path("/wait?timeoutMs=600000"), b"");
    let mut waiters = Vec::new();
    let mut open = |count: u64| -> Result<()> {
        for _ in 0..count {
            let mut waiter = Connection::open(server.address)?;
            waiter.send(&wait)?;
            waiters.push(waiter);
        }
        std::thread::sleep(Duration::from_millis(500));
        Ok(())
    };
    // One first, so that what is set up once is not charged to the many.
    open(1)?;
    let before = memory(server.pid())?.rss;
    open(count)?;
    let grown = (memory(server.pid())?.rss.saturating_sub(before) * 1024) as f64;
    // Timers that follow activity may still run.
    std::thread::sleep(stage.pick(Duration::from_millis(3500), Duration::from_millis(1500)));
    let meter = Meter::start(server.pid())?;
    let before = switches(server.pid())?;
    std::thread::sleep(stage.pick(Duration::from_secs(9), Duration::from_secs(2)));
    let woken = switches(server.pid())?.saturating_sub(before);
    let usage = meter.stop()?;
    Ok(Sample::new(usage, memory(server.pid())?)
        .value("waiter", grown / count as f64)
        .value("wakeups", woken as f64 / usage.wall_s))
}
