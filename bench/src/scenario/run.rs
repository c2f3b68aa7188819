//! One-shot runs: what does starting, waiting and answering cost?

use serde_json::json;

use super::{Scenario, Stage, cost, rate};
use crate::account::{Meter, memory};
use crate::http::request;
use crate::load;
use crate::sample::{Loss, Sample};
use crate::trouble::{During, Result};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "run-1",
        title: "`run` of /bin/true, 1 client",
        rows: &[
            rate("rate", "runs/s", "/s", 1.25, 1.5),
            cost("cpu", "server CPU per run", "µs", 3.0, 3.4),
        ],
        run: |stage| runs(stage, 1),
    },
    Scenario {
        name: "run-8",
        title: "`run` of /bin/true, 8 clients",
        rows: &[rate("rate", "runs/s", "/s", 1.45, 1.8)],
        run: |stage| runs(stage, 8),
    },
    Scenario {
        name: "run-32",
        title: "`run` of /bin/true, 32 clients",
        rows: &[
            rate("rate", "runs/s", "/s", 1.45, 1.8),
            cost("p99", "p99", "µs", 1.2, 0.0),
        ],
        run: |stage| runs(stage, 32),
    },
    Scenario {
        name: "run-1mb",
        title: "`run` with 1 MB of output, 1 client",
        rows: &[
            rate("rate", "output", "MB/s", 1.5, 1.6),
            cost("cpu", "server CPU per MB", "µs", 3.0, 0.0),
        ],
        run: output,
    },
];

const RUN: &str = "/v1/processes/run";

fn runs(stage: &Stage<'_>, clients: usize) -> Result<Sample> {
    let server = stage.start()?;
    let request = request("POST", RUN, br#"{"command":"/bin/true"}"#);
    let right = br#"{"exitCode":0,"timedOut":false,"#;
    let meter = Meter::start(server.pid())?;
    let load = load::threads(server.address, clients, stage.duration(), &|connection| {
        Ok(connection.exchange(&request)? == 200 && connection.body().starts_with(right))
    })?;
    let usage = meter.stop()?;
    Ok(Sample::new(usage, memory(server.pid())?)
        .value("rate", load.count as f64 / usage.wall_s)
        .value("cpu", usage.server_s * 1e6 / load.count as f64)
        .value("p99", load.latency.value_at_quantile(0.99) as f64 / 1e3)
        .latency("run", &load.latency)
        .example(load.example)
        .lost(Loss {
            errors: load.wrong,
            ..Loss::default()
        })
        .generators(clients as u64))
}

fn output(stage: &Stage<'_>) -> Result<Sample> {
    let text = std::fs::read_to_string(stage.text_file).during("read the text file")?;
    let body = json!({"command": "/bin/cat", "args": [stage.text_file]}).to_string();
    let request = request("POST", RUN, body.as_bytes());
    // The answer holds the text as JSON; comparing it costs the generator one pass.
    let right = format!(
        r#"{{"exitCode":0,"timedOut":false,"stdout":{}"#,
        json!(text)
    );
    let server = stage.start()?;
    let meter = Meter::start(server.pid())?;
    let load =
        load::threads(server.address, 1, stage.duration(), &|connection| {
            Ok(connection.exchange(&request)? == 200
                && connection.body().starts_with(right.as_bytes()))
        })?;
    let usage = meter.stop()?;
    let megabytes = (load.count * text.len() as u64) as f64 / 1e6;
    Ok(Sample::new(usage, memory(server.pid())?)
        .value("rate", megabytes / usage.wall_s)
        .value("cpu", usage.server_s * 1e6 / megabytes)
        .latency("run", &load.latency)
        .example(load.example)
        .lost(Loss {
            errors: load.wrong,
            bytes: load.wrong * text.len() as u64,
            ..Loss::default()
        }))
}
