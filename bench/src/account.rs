//! The kernel's own accounting of a process, read from /proc and from CPU-time clocks.
//!
//! In: a pid. Out: CPU time, memory, context switches. Knows no server and no scenario.

use std::fs;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::sys;
use crate::trouble::{During, Result, Trouble};

/// Memory of one process, KiB (proc_pid_status(5), proc_pid_smaps(5)).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// `VmRSS`.
    pub(crate) rss: u64,
    /// `VmHWM`, the highest RSS so far.
    pub(crate) rss_peak: u64,
    /// `Pss` of smaps_rollup: shared pages are divided among those who share them.
    pub(crate) pss: u64,
}

/// Reads the memory of `pid`.
///
/// # Errors
/// `Trouble::Io` when the process is gone.
pub(crate) fn memory(pid: i32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).during("read status")?;
    let smaps =
        fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).during("read smaps_rollup")?;
    Ok(Memory {
        rss: field(&status, "VmRSS:"),
        rss_peak: field(&status, "VmHWM:"),
        pss: field(&smaps, "Pss:"),
    })
}

/// Context switches of all living threads of `pid`, voluntary and forced. A thread that
/// sleeps through a window adds none, so the difference over a window counts wake-ups.
pub(crate) fn switches(pid: i32) -> Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).during("read task list")? {
        let path = task.during("read task list")?.path().join("status");
        // A thread may end between the listing and the read.
        let Ok(text) = fs::read_to_string(path) else {
            continue;
        };
        total += field(&text, "voluntary_ctxt_switches:");
        total += field(&text, "nonvoluntary_ctxt_switches:");
    }
    Ok(total)
}

/// Number of threads of `pid`.
pub(crate) fn threads(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).during("read status")?;
    Ok(field(&status, "Threads:"))
}

/// CPU seconds of the children that `pid` has reaped (`cutime + cstime`, proc_pid_stat(5)),
/// in steps of one clock tick.
pub(crate) fn reaped_cpu(pid: i32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).during("read stat")?;
    // The command name may hold spaces and brackets; fields are counted behind its end.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = rest.split_ascii_whitespace().skip(13);
    let mut ticks = || {
        fields
            .next()
            .and_then(|t| t.parse::<u64>().ok())
            .unwrap_or(0)
    };
    Ok((ticks() + ticks()) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Bytes that `pid` has passed to write(2) (`wchar`, proc_pid_io(5)).
pub(crate) fn bytes_written(pid: i32) -> Result<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).during("read io")?;
    Ok(field(&io, "wchar:"))
}

fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// CPU time of the benchmark itself (the load generator), without its children.
pub(crate) fn own_cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

/// Monotonic time in nanoseconds; the same clock in every process of the machine.
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Idle and total ticks of all cores (`cpu` line of proc_stat(5)).
fn machine_ticks() -> (u64, u64) {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or("")
        .split_ascii_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|t| t.parse().ok())
        .collect();
    let idle = ticks.get(3).copied().unwrap_or(0) + ticks.get(4).copied().unwrap_or(0);
    (idle, ticks.iter().sum())
}

/// What a stretch of work cost, and whom.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Usage {
    /// Wall time, seconds.
    pub(crate) wall_s: f64,
    /// CPU of the server process itself, seconds.
    pub(crate) server_s: f64,
    /// CPU of the children that the server reaped meanwhile, seconds.
    pub(crate) reaped_s: f64,
    /// CPU of the load generator, seconds.
    pub(crate) generator_s: f64,
    /// Share of all cores that was busy, by anything, 0 to 1.
    pub(crate) machine: f64,
}

/// Reads every account at the start of a stretch, and again at its end.
pub(crate) struct Meter {
    pid: i32,
    began: Instant,
    server: Duration,
    reaped: f64,
    own: Duration,
    machine: (u64, u64),
}

impl Meter {
    /// Starts the stretch for the server `pid`.
    pub(crate) fn start(pid: i32) -> Result<Meter> {
        Ok(Meter {
            pid,
            machine: machine_ticks(),
            reaped: reaped_cpu(pid)?,
            own: own_cpu(),
            server: sys::process_cpu(pid).during("read the server's CPU clock")?,
            began: Instant::now(),
        })
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Ends the stretch.
    ///
    /// # Errors
    /// `Trouble::Protocol` when the server has died meanwhile.
    pub(crate) fn stop(self) -> Result<Usage> {
        let wall = self.began.elapsed();
        let server = sys::process_cpu(self.pid)
            .map_err(|error| Trouble::Protocol(format!("the server is gone: {error}")))?;
        let (idle, total) = machine_ticks();
        let ticks = total.saturating_sub(self.machine.1).max(1);
        Ok(Usage {
            wall_s: wall.as_secs_f64(),
            server_s: server.saturating_sub(self.server).as_secs_f64(),
            reaped_s: reaped_cpu(self.pid)? - self.reaped,
            generator_s: own_cpu().saturating_sub(self.own).as_secs_f64(),
            machine: 1.0 - idle.saturating_sub(self.machine.0) as f64 / ticks as f64,
        })
    }
}
