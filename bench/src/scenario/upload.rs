//! A long body into a process's input, beside a bare relay.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::json;

use super::{Better, Goal, Row, Scenario, Stage, bare, rate, share};
use crate::account::{Meter, memory};
use crate::api::Api;
use crate::http::{Connection, request};
use crate::sample::Sample;
use crate::trouble::{Result, Trouble};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "stdin-bulk",
    title: "1 GiB into `cat > /dev/null` (reference: inputs of 48 KiB)",
    rows: &[
        rate("rate", "taken", "MB/s", 3.0, 20.0),
        share("of a bare relay"),
        Row {
            key: "grown",
            label: "memory that it took, at its peak",
            unit: "KiB",
            better: Better::Less,
            goal: Goal::AtMost(256.0),
            limit: None,
        },
    ],
    run: upload,
}];

/// Bytes of one write of the client, as curl has them.
const BLOCK: usize = 64 << 10;

/// Bytes of one input, as many as go into one of 64 KiB.
const INPUT: usize = 48 << 10;

fn upload(stage: &Stage<'_>) -> Result<Sample> {
    let total: u64 = stage.pick(1 << 30, 32 << 20);
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    if !api.offers("stdin")? {
        return inputs(stage, total / 16);
    }
    let relay = bare::to_pipe(total / 2)?;
    let path = sink(&mut api)?;
    // What is made for the first of them stays.
    body(server.address, &format!("{path}?eof=false"), BLOCK as u64)?;
    let before = body(relay, "/", total / 2)?;
    let began = memory(server.pid())?;
    let meter = Meter::start(server.pid())?;
    let took = body(server.address, &format!("{path}?eof=true"), total)?;
    let usage = meter.stop()?;
    let memory = memory(server.pid())?;
    let behind = body(relay, "/", total / 2)?;
    let floor = (before + behind).as_secs_f64();
    Ok(Sample::new(usage, memory)
        .value("rate", total as f64 / 1e6 / took.as_secs_f64())
        .value("share", floor / took.as_secs_f64())
        .value("grown", memory.rss_peak.saturating_sub(began.rss) as f64))
}

fn sink(api: &mut Api) -> Result<String> {
    let process = api.create("sh", &["-c", "cat > /dev/null"], false)?;
    Ok(process.path("/stdin"))
}

/// Sends `total` bytes as the body of one request; how long that took, to its answer.
fn body(address: SocketAddr, path: &str, total: u64) -> Result<Duration> {
    let mut connection = Connection::open(address)?;
    let block = [b'x'; BLOCK];
    let began = Instant::now();
    let head = format!("PUT {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {total}\r\n\r\n");
    connection.send(head.as_bytes())?;
    for _ in 0..total / BLOCK as u64 {
        connection.send(&block)?;
    }
    match connection.receive()? {
        200 => Ok(began.elapsed()),
        status => Err(Trouble::Protocol(format!("the body was answered {status}"))),
    }
}

/// The same in inputs, as a server takes them that has nothing better.
fn inputs(stage: &Stage<'_>, total: u64) -> Result<Sample> {
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    let process = api.create("sh", &["-c", "cat > /dev/null"], false)?;
    let data = base64::engine::general_purpose::STANDARD.encode([b'x'; INPUT]);
    let input = json!({"data": data, "encoding": "base64"}).to_string();
    let input = request("POST", &process.path("/input"), input.as_bytes());
    let began = memory(server.pid())?;
    let meter = Meter::start(server.pid())?;
    let count = total / INPUT as u64;
    for _ in 0..count {
        if api.connection().exchange(&input)? != 200 {
            return Err(Trouble::Protocol("an input was refused".into()));
        }
    }
    let usage = meter.stop()?;
    let memory = memory(server.pid())?;
    let sent = count as f64 * INPUT as f64;
    Ok(Sample::new(usage, memory)
        .value("rate", sent / 1e6 / usage.wall_s)
        .value("grown", memory.rss_peak.saturating_sub(began.rss) as f64))
}
