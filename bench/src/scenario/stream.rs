//! Streamed runs: how late is a line, and how fast is a long output?
//!
//! A server that does not stream runs does the same job with what it has: a managed process whose
//! log is followed.

use std::time::{Duration, Instant};

use serde_json::json;

use super::follow::{losses, record_stamps};
use super::{Better, Goal, Row, Scenario, Stage, cost, rate};
use crate::account::{Meter, memory};
use crate::api::Api;
use crate::follow::{Followers, Tally};
use crate::http::{request, request_for};
use crate::load::histogram;
use crate::payload::LINE;
use crate::sample::Sample;
use crate::server::Server;
use crate::trouble::Result;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "stream-line",
        title: "one line at a time from a streamed run",
        rows: &[
            cost("p50", "write to receipt, p50", "µs", 1.0, 0.0),
            cost("cpu", "server CPU per line", "µs", 1.0, 0.0),
        ],
        run: lines,
    },
    Scenario {
        name: "stream-burst",
        title: "a long output from a streamed run",
        rows: &[
            rate("rate", "delivered", "MB/s", 1.0, 25.0),
            cost("cpu", "server CPU per GB delivered", "s", 1.0, 0.0),
            Row {
                key: "lost",
                label: "bytes lost",
                unit: "B",
                better: Better::Less,
                goal: Goal::AtMost(0.0),
                limit: None,
            },
        ],
        run: burst,
    },
];

/// Lines a second.
const PER_SECOND: u64 = 500;

/// Opens a stream of what `args` have this program do, and lets it begin.
fn open(stage: &Stage<'_>, (server, api): (&Server, &mut Api), args: &[&str]) -> Result<Followers> {
    let mut set = Followers::new()?;
    let told = api.connection();
    let streams = told.exchange(&request("GET", "/v1/server", b""))? == 200
        && memchr::memmem::find(told.body(), b"\"streamingRun\"").is_some();
    if streams {
        let all: Vec<_> = ["child"].iter().chain(args).collect();
        let body = json!({"command": stage.program, "args": all, "stdin": "\n"}).to_string();
        let headers = [("accept", "text/event-stream")];
        let path = "/v1/processes/run";
        let request = request_for("POST", path, &headers, body.as_bytes());
        set.ask(server.address, &request)?;
    } else {
        let process = api.create_child(args, false)?;
        set.open(server.address, &process.path("/logs?follow=true"))?;
        api.input(&process, "\n")?;
    }
    Ok(set)
}

fn lines(stage: &Stage<'_>) -> Result<Sample> {
    let count = stage.pick(4, 1) * PER_SECOND;
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    let interval = (1_000_000 / PER_SECOND).to_string();
    let meter = Meter::start(server.pid())?;
    let args = ["lines", &count.to_string(), &interval];
    let mut set = open(stage, (&server, &mut api), &args)?;
    let (mut latency, mut broken) = (histogram(), 0);
    let whole = count * LINE as u64;
    set.pump_until(
        Duration::from_secs(5),
        |set| set.tallies().all(|tally| tally.bytes >= whole),
        &mut |_, _, entry| broken += u64::from(!record_stamps(entry, &mut latency).1),
    )?;
    let usage = meter.stop()?;
    Ok(Sample::new(usage, memory(server.pid())?)
        .value("p50", latency.value_at_quantile(0.5) as f64 / 1e3)
        .value("cpu", usage.server_s * 1e6 / count as f64)
        .latency("line", &latency)
        .lost(losses(set.tallies(), whole, broken)))
}

fn burst(stage: &Stage<'_>) -> Result<Sample> {
    let total: u64 = stage.pick(256 << 20, 16 << 20);
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    api.configure(64, 512 << 20)?;
    let meter = Meter::start(server.pid())?;
    let mut set = open(stage, (&server, &mut api), &["flood", &total.to_string()])?;
    let began = Instant::now();
    let last = set.pump_until(
        Duration::from_secs(4),
        |set| set.tallies().all(|tally| tally.bytes >= total),
        &mut |_, _: &mut Tally, _| (),
    )?;
    let usage = meter.stop()?;
    let delivered = set.tallies().map(|tally| tally.bytes).sum::<u64>() as f64;
    let loss = losses(set.tallies(), total, 0);
    Ok(Sample::new(usage, memory(server.pid())?)
        .value("rate", delivered / 1e6 / (last - began).as_secs_f64())
        .value("cpu", usage.server_s / (delivered / 1e9))
        .value("lost", loss.bytes as f64)
        .lost(loss))
}
