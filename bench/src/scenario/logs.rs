//! Fetching a log as JSON: all of it, and its end.

use std::time::Duration;

use super::{Better, Goal, Row, Scenario, Stage, rate};
use crate::account::{Meter, memory};
use crate::http::request;
use crate::load;
use crate::sample::{Loss, Sample};
use crate::trouble::{Result, Trouble};

/// Bytes of one held entry in the two kinds of log.
const LINE_ENTRY: u64 = 100;
const BLOCK_ENTRY: u64 = 8000;
/// Bytes held.
const HELD: u64 = 8_000_000;

/// How many entries the log holds; the same for every server, or the rates say nothing.
const ENTRIES: Row = Row {
    key: "entries",
    label: "entries held",
    unit: "",
    better: Better::Less,
    goal: Goal::Shown,
    limit: None,
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "logs-json",
        title: "logs as JSON, 8 MB held in blocks of 8 kB",
        rows: &[rate("rate", "log fetched", "MB/s", 6.0, 7.0), ENTRIES],
        run: |stage| fetch(stage, BLOCK_ENTRY, "/logs", 1.0),
    },
    Scenario {
        name: "logs-lines",
        title: "logs as JSON, 8 MB held in lines of 100 B",
        rows: &[
            Row {
                key: "rate",
                label: "log fetched",
                unit: "MB/s",
                better: Better::More,
                goal: Goal::Shown,
                limit: None,
            },
            ENTRIES,
        ],
        run: |stage| fetch(stage, LINE_ENTRY, "/logs", 1.0),
    },
    Scenario {
        name: "logs-tail",
        title: "`tail=50` of 8 MB held in lines of 100 B",
        rows: &[rate("requests", "requests/s", "/s", 100.0, 200.0), ENTRIES],
        run: |stage| fetch(stage, LINE_ENTRY, "/logs?tail=50", 0.0),
    },
];

/// Fetches `query` in a closed loop; `share` of the held bytes is in each answer.
fn fetch(stage: &Stage<'_>, block: u64, query: &str, share: f64) -> Result<Sample> {
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    let held = stage.pick(HELD, HELD / 8);
    let blocks = held / block;
    let process = api.create_child(&["paced", &blocks.to_string(), &block.to_string()], false)?;
    process.await_end(Duration::from_secs(60))?;
    std::thread::sleep(Duration::from_millis(50));
    let complete = api.logs(&process, "")?.len() as u64 == held;
    let entries =
        memchr::memmem::find_iter(&api.get(&process.path("/logs"))?, br#""sequence":"#).count();
    let request = request("GET", &process.path(query), b"");
    let first = api.connection().exchange(&request)?;
    let length = api.connection().body().len();
    if first != 200 {
        return Err(Trouble::Protocol(format!("logs answered {first}")));
    }
    let meter = Meter::start(server.pid())?;
    let load = load::threads(server.address, 1, stage.duration(), &|connection| {
        Ok(connection.exchange(&request)? == 200 && connection.body().len() == length)
    })?;
    let usage = meter.stop()?;
    let megabytes = load.count as f64 * held as f64 * share / 1e6;
    let errors = load.wrong + u64::from(!complete);
    Ok(Sample::new(usage, memory(server.pid())?)
        .value("rate", megabytes / usage.wall_s)
        .value("requests", load.count as f64 / usage.wall_s)
        .value("entries", entries as f64)
        .latency("fetch", &load.latency)
        .example(load.example)
        .lost(Loss {
            errors,
            ..Loss::default()
        }))
}
