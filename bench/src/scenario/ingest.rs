//! A process that writes as fast as the server reads, and nobody who follows.

use std::time::Duration;

use super::{Goal, Scenario, Stage, cost, less, rate};
use crate::account::{Meter, bytes_written, memory};
use crate::payload::END;
use crate::sample::{Loss, Sample};
use crate::trouble::Result;

const GIB: f64 = (1u64 << 30) as f64;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "write-64k",
        title: "1 GiB written by a managed process in 64 KiB blocks",
        rows: &[
            rate("rate", "taken in", "GiB/s", 7.0, 9.0),
            cost("cpu", "server CPU per GiB", "s", 8.0, 11.0),
            cost("rss", "peak RSS", "MiB", 2.2, 2.5),
        ],
        run: |stage| blocks(stage, 64 * 1024),
    },
    Scenario {
        name: "write-8k",
        title: "the same in 8 KiB blocks",
        rows: &[
            rate("rate", "taken in", "GiB/s", 4.0, 4.5),
            less("cpu", "server CPU per GiB", "s", Goal::Shown),
            less("rss", "peak RSS", "MiB", Goal::Shown),
        ],
        run: |stage| blocks(stage, 8 * 1024),
    },
    Scenario {
        name: "write-yes",
        title: "line by line: `yes` for two seconds",
        rows: &[
            rate("rate", "taken in", "GiB/s", 2.7, 3.1),
            less("cpu", "server CPU per GiB", "s", Goal::Shown),
            less("rss", "peak RSS", "MiB", Goal::Shown),
        ],
        run: yes,
    },
];

fn blocks(stage: &Stage<'_>, block: u64) -> Result<Sample> {
    let total: u64 = stage.pick(1 << 30, 1 << 28);
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    let meter = Meter::start(server.pid())?;
    let process = api.create_child(&["write", &total.to_string(), &block.to_string()], false)?;
    process.await_end(Duration::from_secs(120))?;
    let usage = meter.stop()?;
    let memory = memory(server.pid())?;
    // What is retained must end with the very last bytes written.
    std::thread::sleep(Duration::from_millis(50));
    let tail = api.logs(&process, "?tail=2")?;
    let errors = u64::from(!tail.ends_with(END));
    Ok(Sample::new(usage, memory)
        .value("rate", total as f64 / GIB / usage.wall_s)
        .value("cpu", usage.server_s / (total as f64 / GIB))
        .value("rss", memory.rss_peak as f64 / 1024.0)
        .lost(Loss {
            errors,
            ..Loss::default()
        }))
}

fn yes(stage: &Stage<'_>) -> Result<Sample> {
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    let process = api.create("yes", &[], false)?;
    std::thread::sleep(Duration::from_millis(100));
    let meter = Meter::start(server.pid())?;
    let before = bytes_written(process.pid)?;
    std::thread::sleep(stage.pick(Duration::from_secs(2), Duration::from_millis(500)));
    let written = (bytes_written(process.pid)? - before) as f64 / GIB;
    let usage = meter.stop()?;
    let memory = memory(server.pid())?;
    api.kill(&process)?;
    Ok(Sample::new(usage, memory)
        .value("rate", written / usage.wall_s)
        .value("cpu", usage.server_s / written)
        .value("rss", memory.rss_peak as f64 / 1024.0))
}
