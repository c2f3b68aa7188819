//! Managed processes that come and go: create, end, delete.

use std::time::{Duration, Instant};

use super::{Scenario, Stage, cost, rate};
use crate::account::{Meter, memory};
use crate::load::{histogram, nanos_since};
use crate::sample::Sample;
use crate::trouble::Result;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "create-delete",
    title: "create /bin/true, wait for its end, delete",
    rows: &[
        rate("rate", "cycles/s", "/s", 1.5, 1.8),
        cost("cpu", "server CPU per cycle", "µs", 4.0, 0.0),
    ],
    run: cycles,
}];

fn cycles(stage: &Stage<'_>) -> Result<Sample> {
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    let mut latency = histogram();
    let mut again = 0;
    let meter = Meter::start(server.pid())?;
    while meter.elapsed() < stage.duration() {
        let at = Instant::now();
        let process = api.create("/bin/true", &[], false)?;
        process.await_end(Duration::from_secs(10))?;
        again += api.delete(&process)?;
        latency.saturating_record(nanos_since(at));
    }
    let usage = meter.stop()?;
    let count = latency.len() as f64;
    Ok(Sample::new(usage, memory(server.pid())?)
        .value("rate", count / usage.wall_s)
        .value("cpu", usage.server_s * 1e6 / count)
        .value("again", again as f64 / count)
        .latency("cycle", &latency))
}
