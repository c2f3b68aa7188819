//! Thousands of idle processes and followers on one server: what does the next one cost?

use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use super::terminal::open;
use super::{Better, Goal, Row, Scenario, Stage, less};
use crate::account::{Meter, memory};
use crate::api::{Api, Process};
use crate::follow::Followers;
use crate::http::request;
use crate::load::{histogram, nanos_since};
use crate::sample::Sample;
use crate::server::Server;
use crate::sys;
use crate::terminal::Terminals;
use crate::trouble::{During, Result, Trouble};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "scale",
    title: "5,000 idle processes, 5,000 idle followers and 200 terminals on one server",
    rows: &[
        Row {
            key: "reached",
            label: "share of the size reached that the descriptor limit allows",
            unit: "",
            better: Better::More,
            goal: Goal::AtLeast(1.0),
            limit: None,
        },
        less(
            "create_growth",
            "CPU per create, at full size against the first step",
            "×",
            Goal::AtMost(1.5),
        ),
        less(
            "get_growth",
            "CPU per `GET` of one process, the same",
            "×",
            Goal::AtMost(1.5),
        ),
        less("create", "CPU per create, at full size", "µs", Goal::Shown),
        less("process", "PSS per process", "B", Goal::Shown),
        less("follower", "PSS per follower", "B", Goal::Shown),
        less("terminal", "PSS per terminal", "B", Goal::Shown),
        less("get", "CPU per `GET` of one process", "µs", Goal::Shown),
        less("list", "list of all, per process", "µs", Goal::Shown),
        less("stop", "kill, p50", "µs", Goal::Shown),
        less(
            "descriptors",
            "descriptors of the server at full size",
            "",
            Goal::Shown,
        ),
    ],
    run: scale,
}];

/// Requests for one process at each size.
const GETS: u32 = 2000;

/// The charts' series: what one unit costs at each size.
const SERIES: [&str; 4] = ["create", "process", "follower", "get"];

fn scale(stage: &Stage<'_>) -> Result<Sample> {
    let wanted: &[usize] = stage.pick(&[100, 500, 1000, 2500, 5000], &[50, 200]);
    let terminals: usize = stage.pick(200, 10);
    let allowed = allowed_size(terminals);
    let steps: Vec<usize> = wanted.iter().map(|step| (*step).min(allowed)).collect();
    let full = steps.last().copied().unwrap_or(1);
    let mut note = wanted
        .last()
        .filter(|wanted| **wanted > full)
        .map(|wanted| {
            format!(
                "the descriptor limit of this machine allows {full} of each instead of {wanted}"
            )
        });
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    api.configure(100_000, 10 << 20)?;
    let mut growth = Growth {
        server: &server,
        api: &mut api,
        processes: Vec::new(),
        followers: Followers::new()?,
        points: Vec::new(),
    };
    let meter = Meter::start(server.pid())?;
    let mut failed = false;
    for step in steps {
        if let Err(trouble) = growth.to(step) {
            failed = true;
            note = Some(format!(
                "ended at {} processes and {} followers: {trouble}",
                growth.processes.len(),
                growth.followers.len()
            ));
            break;
        }
    }
    let Growth {
        processes,
        followers,
        points,
        ..
    } = growth;
    let mut set = Terminals::new()?;
    let mut sample_values = Vec::new();
    if !failed {
        match open_terminals(&server, &mut api, &mut set, terminals) {
            Ok(bytes) => sample_values.push(("terminal", bytes)),
            Err(trouble) => {
                let limited = note.map_or(String::new(), |note| note + "; ");
                note = Some(format!("{limited}terminals: {trouble}"));
            }
        }
        sample_values.push(("descriptors", descriptors(server.pid())?));
        sample_values.push(("list", list(&mut api)? / processes.len() as f64));
        sample_values.push(("stop", kill_some(&mut api, &processes)?));
    }
    let held = processes.len() + followers.len() + set.len();
    sample_values.push(("reached", held as f64 / (2 * full + terminals) as f64));
    let usage = meter.stop()?;
    let mut sample = Sample::new(usage, memory(server.pid())?);
    sample.note = note;
    for (key, value) in sample_values {
        sample = sample.value(key, value);
    }
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        for (index, key) in SERIES.iter().enumerate() {
            sample = sample.value(key, last.costs[index]);
            let series = points
                .iter()
                .map(|point| (point.size, point.costs[index]))
                .collect();
            sample.series.insert((*key).to_owned(), series);
        }
        sample = sample
            .value("create_growth", last.costs[0] / first.costs[0])
            .value("get_growth", last.costs[3] / first.costs[3]);
    }
    Ok(sample)
}

/// How many processes with a follower each the descriptor limit allows one server: four
/// descriptors for a process (three pipes and a pidfd) and one for its follower, an eighth of all
/// for cgroups, and room for the terminals and the server's own.
pub(super) fn allowed_size(terminals: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    ((limit - limit / 8).saturating_sub(10 * terminals + 200) / 5).max(1)
}

struct Point {
    size: f64,
    /// In the order of [`SERIES`].
    costs: [f64; 4],
}

struct Growth<'a> {
    server: &'a Server,
    api: &'a mut Api,
    processes: Vec<Process>,
    followers: Followers,
    points: Vec<Point>,
}

impl Growth<'_> {
    /// Grows to `size` of each and notes what each new one cost.
    fn to(&mut self, size: usize) -> Result<()> {
        let pid = self.server.pid();
        let more = (size - self.processes.len()) as f64;
        let (pss, cpu) = (pss_bytes(pid)?, cpu_time(pid)?);
        while self.processes.len() < size {
            let process = self.api.create("sleep", &["1200"], false)?;
            self.processes.push(process);
        }
        let cpu = cpu_time(pid)?.saturating_sub(cpu);
        std::thread::sleep(Duration::from_millis(300));
        let with_processes = pss_bytes(pid)?;
        while self.followers.len() < size {
            let process = &self.processes[self.followers.len()];
            self.followers
                .open(self.server.address, &process.path("/logs?follow=true"))?;
        }
        std::thread::sleep(Duration::from_millis(300));
        let with_followers = pss_bytes(pid)?;
        let get = request("GET", &self.processes[size / 2].path(""), b"");
        let before = cpu_time(pid)?;
        for _ in 0..GETS {
            if self.api.connection().exchange(&get)? != 200 {
                return Err(Trouble::Protocol("GET of a process failed".into()));
            }
        }
        let get_cpu = cpu_time(pid)?.saturating_sub(before);
        self.points.push(Point {
            size: size as f64,
            costs: [
                cpu.as_secs_f64() * 1e6 / more,
                (with_processes - pss) / more,
                (with_followers - with_processes) / more,
                get_cpu.as_secs_f64() * 1e6 / f64::from(GETS),
            ],
        });
        Ok(())
    }
}

/// Opens `count` terminals; returns PSS bytes for each.
fn open_terminals(
    server: &Server,
    api: &mut Api,
    set: &mut Terminals,
    count: usize,
) -> Result<f64> {
    let before = pss_bytes(server.pid())?;
    for _ in 0..count {
        open(server, api, set, &["tty-echo"])?;
    }
    std::thread::sleep(Duration::from_millis(300));
    Ok((pss_bytes(server.pid())? - before) / count as f64)
}

/// Descriptors that the server has open.
fn descriptors(pid: i32) -> Result<f64> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).during("count descriptors")?;
    Ok(open.count() as f64)
}

/// Microseconds for one list of everything, the median of five.
fn list(api: &mut Api) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..5 {
        let at = Instant::now();
        api.get(crate::api::PROCESSES)?;
        times.push(at.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[2])
}

/// Microseconds from a kill to its answer, which comes when the process has ended.
fn kill_some(api: &mut Api, processes: &[Process]) -> Result<f64> {
    let mut latency = histogram();
    for process in processes.iter().step_by((processes.len() / 20).max(1)) {
        let at = Instant::now();
        api.kill(process)?;
        latency.saturating_record(nanos_since(at));
    }
    Ok(latency.value_at_quantile(0.5) as f64 / 1e3)
}

fn cpu_time(pid: i32) -> Result<Duration> {
    sys::process_cpu(pid).during("read the server's CPU clock")
}

pub(super) fn pss_bytes(pid: i32) -> Result<f64> {
    Ok(memory(pid)?.pss as f64 * 1024.0)
}
