//! One events stream over thousands of idle processes: what does it cost?

use std::time::Duration;

use super::scale::{allowed_size, pss_bytes};
use super::{Better, Goal, Row, Scenario, Stage, less};
use crate::account::{Meter, memory, switches};
use crate::follow::Followers;
use crate::sample::Sample;
use crate::trouble::{Result, Trouble};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "events-idle",
    title: "events streams over 10,000 idle processes",
    rows: &[
        Row {
            key: "share",
            label: "memory of an events stream, against a follower of one process",
            unit: "×",
            better: Better::Less,
            goal: Goal::AtMost(1.15),
            limit: None,
        },
        less("stream", "PSS per events stream", "B", Goal::Shown),
        less("follower", "PSS per follower", "B", Goal::Shown),
        less(
            "wakeups",
            "context switches of all threads",
            "/s",
            Goal::AtMost(0.0),
        ),
        less("processes", "idle processes", "", Goal::Shown),
    ],
    run: idle,
}];

fn idle(stage: &Stage<'_>) -> Result<Sample> {
    let wanted = stage.pick(10_000, 100);
    let processes = allowed_size(100).min(wanted);
    let readers = stage.pick(500, 50);
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    if !api.offers("events")? {
        return Err(Trouble::Unavailable("it has no events".into()));
    }
    api.configure(100_000, 10 << 20)?;
    let mut last = None;
    for _ in 0..processes {
        last = Some(api.create("sleep", &["1200"], false)?);
    }
    let followed = last.map_or(String::new(), |last| last.path("/logs?follow=true"));
    drop(api);
    let mut set = Followers::new()?;
    let mut open = |path: &str, count: usize| -> Result<f64> {
        let before = pss_bytes(server.pid())?;
        for _ in 0..count {
            set.open(server.address, path)?;
        }
        std::thread::sleep(Duration::from_millis(500));
        Ok((pss_bytes(server.pid())? - before) / count as f64)
    };
    // One of each first, so that what is set up once is not charged to the many.
    open("/v1/events", 1)?;
    open(&followed, 1)?;
    let stream = open("/v1/events", readers)?;
    let follower = open(&followed, readers)?;
    std::thread::sleep(stage.pick(Duration::from_millis(3500), Duration::from_millis(1500)));
    let meter = Meter::start(server.pid())?;
    let before = switches(server.pid())?;
    std::thread::sleep(stage.pick(Duration::from_secs(8), Duration::from_secs(2)));
    let woken = switches(server.pid())?.saturating_sub(before);
    let usage = meter.stop()?;
    let mut sample = Sample::new(usage, memory(server.pid())?)
        .value("share", stream / follower)
        .value("stream", stream)
        .value("follower", follower)
        .value("wakeups", woken as f64 / usage.wall_s)
        .value("processes", processes as f64);
    if processes < wanted {
        sample.note = Some(format!(
            "the descriptor limit of this machine allows {processes} processes instead of {wanted}"
        ));
    }
    Ok(sample)
}
