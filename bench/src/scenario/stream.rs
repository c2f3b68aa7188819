//! Streamed runs: how late is a line, and how fast is a long output?
//!
//! A server that does not stream runs does the same job with what it has: a managed process whose
//! log is followed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use super::follow::{losses, record_stamps};
use super::{Better, Goal, Row, Scenario, Stage, bare, cost, less, rate, share};
use crate::account::{Meter, memory};
use crate::api::Api;
use crate::follow::{Followers, Tally};
use crate::http::request_for;
use crate::load::histogram;
use crate::payload::LINE;
use crate::sample::{Loss, Sample};
use crate::server::Server;
use crate::trouble::{During, Result, Trouble};

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
    Scenario {
        name: "stream-first",
        title: "the first byte of a streamed run",
        rows: &[
            less(
                "p50",
                "write to receipt, p50, procring's own",
                "µs",
                Goal::AtMost(1000.0),
            ),
            less("p90", "the same, p90", "µs", Goal::Shown),
        ],
        run: first,
    },
    Scenario {
        name: "stream-relay",
        title: "1 GiB through a streamed run, read and not looked at",
        rows: &[
            Row {
                key: "rate",
                label: "delivered",
                unit: "MB/s",
                better: Better::More,
                goal: Goal::Shown,
                limit: None,
            },
            share("of a bare relay"),
            less(
                "grown",
                "memory that it took, at its peak",
                "KiB",
                Goal::AtMost(8192.0),
            ),
        ],
        run: relay,
    },
];

/// Lines a second.
const PER_SECOND: u64 = 500;

/// Where runs are asked for.
const RUN: &str = "/v1/processes/run";

/// The request of a run of what `args` have this program do, streamed as `format`.
fn run_request(stage: &Stage<'_>, args: &[&str], format: &str) -> Vec<u8> {
    let all: Vec<_> = ["child"].iter().chain(args).collect();
    let body = json!({"command": stage.program, "args": all, "stdin": "\n"}).to_string();
    request_for("POST", RUN, &[("accept", format)], body.as_bytes())
}

/// Opens a stream of what `args` have this program do, and lets it begin.
fn open(stage: &Stage<'_>, (server, api): (&Server, &mut Api), args: &[&str]) -> Result<Followers> {
    let mut set = Followers::new()?;
    if api.offers("streamingRun")? {
        let request = run_request(stage, args, "text/event-stream");
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

fn first(stage: &Stage<'_>) -> Result<Sample> {
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    let (mut latency, mut broken, mut lost) = (histogram(), 0, Loss::default());
    let meter = Meter::start(server.pid())?;
    for _ in 0..stage.pick(100, 10) {
        let mut set = open(stage, (&server, &mut api), &["lines", "1", "0"])?;
        set.pump_until(
            Duration::from_secs(5),
            |set| set.tallies().all(|tally| tally.bytes >= LINE as u64),
            &mut |_, _, entry| broken += u64::from(!record_stamps(entry, &mut latency).1),
        )?;
        lost.add(&losses(set.tallies(), LINE as u64, 0));
    }
    lost.errors += broken;
    let usage = meter.stop()?;
    Ok(Sample::new(usage, memory(server.pid())?)
        .value("p50", latency.value_at_quantile(0.5) as f64 / 1e3)
        .value("p90", latency.value_at_quantile(0.9) as f64 / 1e3)
        .latency("first", &latency)
        .lost(lost))
}

fn relay(stage: &Stage<'_>) -> Result<Sample> {
    let total: u64 = stage.pick(1 << 30, 32 << 20);
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    if !api.offers("streamingRun")? {
        return Err(Trouble::Unavailable("it streams no runs".into()));
    }
    let bare = bare::from_pipe(stage.program, total / 2)?;
    let bytes = total.to_string();
    let request = run_request(stage, &["flood", &bytes], "application/x-ndjson");
    let (before, _) = read_all(bare, b"GET / HTTP/1.1\r\n\r\n", 0)?;
    let began = memory(server.pid())?;
    let meter = Meter::start(server.pid())?;
    let (took, end) = read_all(server.address, &request, 512)?;
    let usage = meter.stop()?;
    let memory = memory(server.pid())?;
    let (behind, _) = read_all(bare, b"GET / HTTP/1.1\r\n\r\n", 0)?;
    let whole = "\"exitCode\":0,\"timedOut\":false";
    let count = format!("\"stdoutBytes\":{total},");
    let is_whole = end.contains(whole) && end.contains(&count);
    Ok(Sample::new(usage, memory)
        .value("rate", total as f64 / 1e6 / took.as_secs_f64())
        .value(
            "share",
            (before + behind).as_secs_f64() / took.as_secs_f64(),
        )
        .value("grown", memory.rss_peak.saturating_sub(began.rss) as f64)
        .lost(Loss {
            errors: u64::from(!is_whole),
            ..Loss::default()
        }))
}

/// Sends `request` and reads until nothing more comes or the last chunk has; how long that took, and
/// the last bytes of it.
fn read_all(address: SocketAddr, request: &[u8], keeps: usize) -> Result<(Duration, String)> {
    let mut stream = TcpStream::connect(address).during("connect")?;
    let limit = Some(Duration::from_secs(60));
    stream
        .set_read_timeout(limit)
        .during("set the read timeout")?;
    let mut block = vec![0; 256 << 10];
    let mut end = Vec::new();
    let began = Instant::now();
    stream.write_all(request).during("ask for a run")?;
    loop {
        let len = stream.read(&mut block).during("read a run")?;
        end.extend_from_slice(&block[len.saturating_sub(keeps)..len]);
        end.drain(..end.len().saturating_sub(keeps));
        if len == 0 || end.ends_with(b"\r\n0\r\n\r\n") {
            break;
        }
    }
    Ok((began.elapsed(), String::from_utf8_lossy(&end).into_owned()))
}
