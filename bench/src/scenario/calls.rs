//! System calls of a fan-out, counted by strace(1): do they grow with the followers?
//!
//! Counts, not times: tracing slows a server down many times over.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::follow::losses;
use super::{Goal, Scenario, Stage, less};
use crate::account::{Meter, memory};
use crate::follow::Followers;
use crate::payload::LINE;
use crate::sample::Sample;
use crate::trouble::{During, Result, Trouble};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "fanout-calls",
    title: "system calls while single lines go to 1 and to 50 followers (strace)",
    rows: &[
        less(
            "growth",
            "ring submissions per line and further follower",
            "",
            Goal::AtMost(0.1),
        ),
        less(
            "ring_1",
            "ring submissions per line, 1 follower",
            "",
            Goal::Shown,
        ),
        less(
            "ring_50",
            "ring submissions per line, 50 followers",
            "",
            Goal::Shown,
        ),
        less(
            "all_1",
            "system calls per line, 1 follower",
            "",
            Goal::Shown,
        ),
        less(
            "all_50",
            "system calls per line, 50 followers",
            "",
            Goal::Shown,
        ),
    ],
    run: calls,
}];

fn calls(stage: &Stage<'_>) -> Result<Sample> {
    let count = stage.pick(200, 50);
    let (one, first) = traced(stage, 1, count)?;
    let (fifty, second) = traced(stage, 50, count)?;
    let ring =
        |calls: &Calls| calls.get("io_uring_enter").copied().unwrap_or(0) as f64 / count as f64;
    let all = |calls: &Calls| calls.values().sum::<u64>() as f64 / count as f64;
    let mut sample = second
        .value("all_1", all(&one))
        .value("all_50", all(&fifty))
        .value("ring_1", ring(&one))
        .value("ring_50", ring(&fifty))
        .lost(first.loss);
    // A server without a ring has no submissions to compare.
    if ring(&one) > 0.0 {
        sample = sample.value("growth", (ring(&fifty) - ring(&one)).max(0.0) / 49.0);
    }
    Ok(sample)
}

type Calls = BTreeMap<String, u64>;

/// Sends `count` lines to `followers` of a fresh server and counts its system calls.
/// The sample holds what that cost and lost.
fn traced(stage: &Stage<'_>, followers: usize, count: u64) -> Result<(Calls, Sample)> {
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    let process = api.create_child(&["lines", &count.to_string(), "10000"], false)?;
    let mut set = Followers::new()?;
    for _ in 0..followers {
        set.open(server.address, &process.path("/logs?follow=true"))?;
    }
    let meter = Meter::start(server.pid())?;
    let trace = Trace::attach(server.pid())?;
    api.input(&process, "\n")?;
    let whole = count * LINE as u64;
    set.pump_until(
        Duration::from_secs(5),
        |set| set.tallies().all(|tally| tally.bytes >= whole),
        &mut |_, _, _| (),
    )?;
    let calls = trace.detach()?;
    let sample = Sample::new(meter.stop()?, memory(server.pid())?);
    Ok((calls, sample.lost(losses(set.tallies(), whole, 0))))
}

/// A strace that counts the calls of one process.
struct Trace {
    strace: Child,
    output: PathBuf,
}

impl Trace {
    /// Attaches to every thread of `pid`.
    ///
    /// # Errors
    /// `Trouble::Unavailable` where strace is absent or not allowed.
    fn attach(pid: i32) -> Result<Trace> {
        let output = crate::install::scratch()?.join("strace");
        let strace = Command::new("strace")
            .args(["-f", "-c", "-p", &pid.to_string(), "-o"])
            .arg(&output)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Trouble::Unavailable(format!("strace: {error}")))?;
        let mut trace = Trace { strace, output };
        let began = Instant::now();
        while !all_traced(pid)? {
            if trace.strace.try_wait().during("wait for strace")?.is_some() {
                return Err(Trouble::Unavailable("strace could not attach".into()));
            }
            if began.elapsed() > Duration::from_secs(5) {
                return Err(Trouble::TimedOut("strace"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(trace)
    }

    /// Detaches and reads the counts.
    fn detach(mut self) -> Result<Calls> {
        kill_process(Pid::from_child(&self.strace), Signal::INT).during("end strace")?;
        self.strace.wait().during("wait for strace")?;
        Ok(parse(
            &fs::read_to_string(&self.output).during("read strace's counts")?,
        ))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

fn all_traced(pid: i32) -> Result<bool> {
    for task in fs::read_dir(format!("/proc/{pid}/task")).during("read task list")? {
        let status = task.during("read task list")?.path().join("status");
        if fs::read_to_string(status).is_ok_and(|text| text.contains("TracerPid:\t0\n")) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads a summary: `% time, seconds, usecs/call, calls, [errors,] syscall`.
fn parse(summary: &str) -> Calls {
    let mut calls = Calls::new();
    for line in summary.lines() {
        let cells: Vec<&str> = line.split_ascii_whitespace().collect();
        if let (Some(name), Some(Ok(count))) = (cells.last(), cells.get(3).map(|cell| cell.parse()))
            && *name != "total"
        {
            calls.insert((*name).to_owned(), count);
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_with_and_without_errors() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 90.00    0.000090           1        60           io_uring_enter
 10.00    0.000010           1        40        20 read
------ ----------- ----------- --------- --------- ----------------
100.00    0.000100           1       100        20 total
";
        let calls = parse(summary);
        assert_eq!(calls.len(), 2);
        assert_eq!((calls["io_uring_enter"], calls["read"]), (60, 40));
    }
}
