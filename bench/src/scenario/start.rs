//! What a server costs before it does anything, and what things cost that only exist.

use std::time::Duration;

use super::{Better, Goal, Row, Scenario, Stage, cost, less};
use crate::account::{Meter, memory, threads};
use crate::follow::Followers;
use crate::http::Connection;
use crate::sample::Sample;
use crate::trouble::Result;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "start",
        title: "start to first health answer, and memory then",
        rows: &[
            cost("start", "time", "ms", 15.0, 25.0),
            cost("rss", "RSS", "MiB", 5.0, 0.0),
            less("pss", "PSS", "MiB", Goal::Shown),
            less("threads", "threads", "", Goal::Shown),
        ],
        run: start,
    },
    Scenario {
        name: "idle-memory",
        title: "memory per idle thing",
        rows: &[
            cost("process", "RSS per idle process", "B", 25.0, 0.0),
            cost("follower", "RSS per idle follower", "B", 100.0, 0.0),
            Row {
                key: "follower_own",
                label: "RSS per idle follower, procring's own",
                unit: "B",
                better: Better::Less,
                goal: Goal::AtMost(4096.0),
                limit: None,
            },
            Row {
                key: "connection",
                label: "RSS per idle keep-alive connection",
                unit: "B",
                better: Better::Less,
                goal: Goal::AtMost(4096.0),
                limit: None,
            },
        ],
        run: per_thing,
    },
];

fn start(stage: &Stage<'_>) -> Result<Sample> {
    let mut times: Vec<f64> = Vec::new();
    for _ in 0..stage.pick(9, 3) {
        times.push(stage.start()?.started_in.as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let server = stage.start()?;
    let meter = Meter::start(server.pid())?;
    std::thread::sleep(Duration::from_millis(300));
    let usage = meter.stop()?;
    let memory = memory(server.pid())?;
    Ok(Sample::new(usage, memory)
        .value("start", times[times.len() / 2])
        .value("rss", memory.rss as f64 / 1024.0)
        .value("pss", memory.pss as f64 / 1024.0)
        .value("threads", threads(server.pid())? as f64))
}

fn per_thing(stage: &Stage<'_>) -> Result<Sample> {
    let count: u64 = stage.pick(500, 100);
    let settle = Duration::from_millis(300);
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    api.configure(10_000, 10 << 20)?;
    let idle = api.create("sleep", &["600"], false)?;
    // One of each first, so that what is set up once is not charged to the many.
    let mut followers = Followers::new()?;
    followers.open(server.address, &idle.path("/logs?follow=true"))?;
    std::thread::sleep(settle);
    let meter = Meter::start(server.pid())?;
    let rss = || memory(server.pid()).map(|memory| memory.rss * 1024);
    let per = |before: u64, after: u64| after.saturating_sub(before) as f64 / count as f64;

    let before = rss()?;
    for _ in 0..count {
        api.create("sleep", &["600"], false)?;
    }
    std::thread::sleep(settle);
    let with_processes = rss()?;
    for _ in 0..count {
        followers.open(server.address, &idle.path("/logs?follow=true"))?;
    }
    std::thread::sleep(settle);
    let with_followers = rss()?;
    let mut connections = Vec::new();
    for _ in 0..count {
        let mut connection = Connection::open(server.address)?;
        connection.ask("GET", "/v1/health", b"")?;
        connections.push(connection);
    }
    std::thread::sleep(settle);
    let with_connections = rss()?;
    let usage = meter.stop()?;
    Ok(Sample::new(usage, memory(server.pid())?)
        .value("process", per(before, with_processes))
        .value("follower", per(with_processes, with_followers))
        .value("follower_own", per(with_processes, with_followers))
        .value("connection", per(with_followers, with_connections)))
}
