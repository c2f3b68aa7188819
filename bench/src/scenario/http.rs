//! Small requests on 64 keep-alive connections.

use super::{Scenario, Stage, cost, rate};
use crate::account::{Meter, memory};
use crate::http::request;
use crate::load;
use crate::sample::{Loss, Sample};
use crate::trouble::Result;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "health-64",
        title: "`GET /v1/health`, 64 connections",
        rows: &[
            rate("rate", "requests/s", "/s", 2.4, 3.0),
            cost("cpu", "server CPU per request", "µs", 4.0, 5.0),
        ],
        run: |stage| {
            let server = stage.start()?;
            load(stage, &server, "/v1/health")
        },
    },
    Scenario {
        name: "process-64",
        title: "`GET` of one process, 64 connections",
        rows: &[
            rate("rate", "requests/s", "/s", 2.4, 3.0),
            cost("cpu", "server CPU per request", "µs", 4.0, 5.0),
        ],
        run: |stage| {
            let server = stage.start()?;
            let process = stage.api(&server)?.create("sleep", &["600"], false)?;
            load(stage, &server, &process.path(""))
        },
    },
];

fn load(stage: &Stage<'_>, server: &crate::server::Server, path: &str) -> Result<Sample> {
    let meter = Meter::start(server.pid())?;
    let load = load::epoll(
        server.address,
        64,
        stage.duration(),
        &request("GET", path, b""),
    )?;
    let usage = meter.stop()?;
    Ok(Sample::new(usage, memory(server.pid())?)
        .value("rate", load.count as f64 / usage.wall_s)
        .value("cpu", usage.server_s * 1e6 / load.count as f64)
        .latency("request", &load.latency)
        .example(load.example)
        .lost(Loss {
            errors: load.wrong,
            ..Loss::default()
        }))
}
