//! Nothing happens: does the server sleep?

use std::time::Duration;

use super::terminal::open;
use super::{Goal, Scenario, Stage, less};
use crate::account::{Meter, memory, switches};
use crate::follow::Followers;
use crate::sample::Sample;
use crate::terminal::Terminals;
use crate::trouble::{Result, Trouble};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "idle",
    title: "idle with 20 processes, 20 followers and 5 terminals, between keep-alives",
    rows: &[
        less(
            "wakeups",
            "context switches of all threads",
            "/s",
            Goal::AtMost(0.0),
        ),
        less("cpu", "server CPU", "µs/s", Goal::AtMost(0.0)),
    ],
    run: idle,
}];

fn idle(stage: &Stage<'_>) -> Result<Sample> {
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    let mut followers = Followers::new()?;
    for _ in 0..20 {
        let process = api.create("sleep", &["600"], false)?;
        followers.open(server.address, &process.path("/logs?follow=true"))?;
    }
    let mut terminals = Terminals::new()?;
    let mut note = None;
    for _ in 0..5 {
        match open(&server, &mut api, &mut terminals, &["tty-echo"]) {
            Ok(_) => {}
            Err(Trouble::Unavailable(reason)) => {
                note = Some(format!("without terminals: {reason}"));
                break;
            }
            Err(trouble) => return Err(trouble),
        }
    }
    // The idle time allowed to a connection without a request is no part of the question.
    drop(api);
    // Timers that follow activity may still run; keep-alives come every 15 s of silence.
    std::thread::sleep(stage.pick(Duration::from_millis(3500), Duration::from_millis(1500)));
    let meter = Meter::start(server.pid())?;
    let before = switches(server.pid())?;
    std::thread::sleep(stage.pick(Duration::from_secs(9), Duration::from_secs(2)));
    let woken = switches(server.pid())?.saturating_sub(before);
    let usage = meter.stop()?;
    let mut sample = Sample::new(usage, memory(server.pid())?)
        .value("wakeups", woken as f64 / usage.wall_s)
        .value("cpu", usage.server_s * 1e6 / usage.wall_s);
    sample.note = note;
    Ok(sample)
}
