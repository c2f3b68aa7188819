//! What is told, a family of numbers each: its name, what it is for, and where it is counted.

use prometheus_client::metrics::MetricType;

use super::family::{Labels, Told, Value, labels};
use crate::metrics::{Durations, Ended, Kind, Metrics, RunResult, SupervisorMetrics};
use crate::process::Counts;

/// What the I/O thread knows besides what is counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// Whether it runs on io_uring; else on epoll.
    pub uring: bool,
    /// When the server was started, in milliseconds.
    pub started_at_ms: u64,
    /// Records and runs.
    pub counts: Counts,
    /// Runs that wait in line.
    pub queued_runs: usize,
    /// What clients make it hold in memory, by kind, and the bound of all.
    pub memory: [(&'static str, u64); 4],
    /// See there.
    pub memory_max: u64,
    /// Connections now, and at most.
    pub connections: (usize, usize),
    /// Slots of the arena: in use, free with their pages, in all.
    pub slots: [u64; 3],
    /// Bytes of a slot.
    pub slot_bytes: u64,
    /// Resident memory, if the kernel tells.
    pub resident_bytes: Option<u64>,
    /// Processor time of the whole process, in seconds.
    pub cpu_seconds: f64,
    /// RLIMIT_NOFILE; None is no limit.
    pub descriptors_max: Option<u64>,
    /// Whether the supervisor's loop has come round.
    pub supervisor_answers: bool,
    /// What it has counted.
    pub supervisor: SupervisorMetrics,
    /// The server is ending.
    pub is_ending: bool,
    /// Answers by route and method, with how long they took to begin.
    pub requests: Vec<(&'static str, &'static str, Durations)>,
    /// Answers by status code.
    pub statuses: Vec<(u16, u64)>,
    /// Refusals by reason.
    pub refusals: Vec<(&'static str, u64)>,
    /// Servers that have died, where another one goes on.
    pub server_deaths: Option<u64>,
    /// How often something of a record was found to be damaged, if there is a keeper.
    pub damages: Option<u64>,
    /// Lines of the log and of the audit log that are in neither.
    pub lines_dropped: u64,
}

/// All that is told, in its order.
pub(super) fn told(sample: &Sample, counted: &Metrics) -> Told {
    let mut told = Told::default();
    let backend = if sample.uring { "io_uring" } else { "epoll" };
    let build = vec![
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("backend", backend.into()),
        ("arch", std::env::consts::ARCH.into()),
    ];
    let build = [(build, Value::Info)];
    told.family(
        MetricType::Info,
        "procring_build",
        "What this server is and what it runs on.",
        build,
    );
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds since 1970 stay below 2^53 for 285,000 years"
    )]
    let started = Value::Seconds(sample.started_at_ms as f64 / 1000.0);
    let help = "When the server was started, since the Unix epoch.";
    let started = [(Labels::new(), started)];
    told.family(
        MetricType::Gauge,
        "process_start_time_seconds",
        help,
        started,
    );
    let cpu = [(Labels::new(), Value::Seconds(sample.cpu_seconds))];
    let help = "Processor time of the server itself, without its children.";
    told.family(MetricType::Counter, "process_cpu_seconds", help, cpu);
    if let Some(bytes) = sample.resident_bytes {
        let help = "Resident memory of the server itself, logs included.";
        told.gauge("process_resident_memory_bytes", help, bytes);
    }
    if let Some(most) = sample.descriptors_max {
        let help = "Descriptors that the server may have open (RLIMIT_NOFILE).";
        told.gauge("process_max_fds", help, most);
    }
    if let Some(deaths) = sample.server_deaths {
        let help = "Servers that have died and that another one has gone on for (--keep).";
        told.counter("procring_server_deaths", help, deaths);
    }
    if let Some(damages) = sample.damages {
        let help = "Damages of the memory of records that were found and told in the log (--keep).";
        told.counter("procring_records_damaged", help, damages);
    }
    programs(&mut told, sample, counted);
    clients(&mut told, sample, counted);
    logs(&mut told, sample, counted);
    loops(&mut told, sample, counted);
    told
}

fn programs(told: &mut Told, sample: &Sample, counted: &Metrics) {
    let Counts {
        running,
        exited,
        leftovers,
        runs,
    } = sample.counts;
    told.gauges(
        "procring_processes",
        "Records of processes, by state.",
        "state",
        [("running", running as u64), ("exited", exited as u64)],
    );
    told.gauge(
        "procring_leftovers",
        "Records of runs whose descendants live on; they are among the exited.",
        leftovers as u64,
    );
    told.gauge(
        "procring_runs_in_progress",
        "Runs that are not answered yet.",
        runs as u64,
    );
    told.gauge(
        "procring_runs_queued",
        "Those of them that wait in line (--max-concurrent-runs).",
        sample.queued_runs as u64,
    );
    told.counters(
        "procring_runs",
        "Runs that are over, by how they ended for their client.",
        RunResult::ALL.map(|result| {
            let over = &counted.runs[result as usize];
            (labels("result", result.as_str()), over.get())
        }),
    );
    let of = |get: fn(&crate::metrics::Programs) -> u64| {
        Kind::ALL.map(|kind| (labels("kind", kind.as_str()), get(counted.of(kind))))
    };
    told.counters(
        "procring_starts",
        "Programs that were to be started.",
        of(|programs| programs.starts.get()),
    );
    told.counters(
        "procring_start_failures",
        "Those of them that could not be.",
        of(|programs| programs.failures.get()),
    );
    let ends = Kind::ALL.into_iter().flat_map(|kind| {
        Ended::ALL.map(|how| {
            let labels = vec![("kind", kind.as_str().into()), ("how", how.as_str().into())];
            (labels, counted.of(kind).ends[how as usize].get())
        })
    });
    told.counters("procring_exits", "Programs that have ended.", ends);
    told.histogram(
        "procring_spawn_seconds",
        "From the order to start a program until it runs.",
        sample.supervisor.spawns,
    );
    told.histogram(
        "procring_first_byte_seconds",
        "From the order to start a program to its first byte of output.",
        counted.first_byte.get(),
    );
    told.histogram(
        "procring_exit_notice_seconds",
        "From the kernel's word that a program has ended to when its waiters are told.",
        counted.exit_notice.get(),
    );
}

fn clients(told: &mut Told, sample: &Sample, counted: &Metrics) {
    let (connections, connections_max) = sample.connections;
    told.gauge(
        "procring_connections",
        "Connections of clients.",
        connections as u64,
    );
    told.gauge(
        "procring_connections_max",
        "As many as there may be (--max-connections).",
        connections_max as u64,
    );
    told.counter(
        "procring_connections_accepted",
        "Connections so far.",
        counted.accepted.get(),
    );
    told.gauges(
        "procring_streams",
        "Answers that go on: followers of logs, viewers of terminals, attached clients, watchers \
         of all events, streamed runs.",
        "kind",
        [
            ("follower", counted.followers.get()),
            ("viewer", counted.viewers.get()),
            ("attached", counted.attached.get()),
            ("watcher", counted.watchers.get()),
            ("run", counted.streamed_runs.get()),
        ],
    );
    let requests = sample.requests.iter().map(|(route, method, took)| {
        let labels = vec![("route", (*route).into()), ("method", (*method).into())];
        (labels, Value::Durations(*took))
    });
    told.family(
        MetricType::Histogram,
        "procring_request_seconds",
        "From the head of a request to the head of its answer, by the route's pattern. A route \
         that nobody has asked for is not there.",
        requests,
    );
    let statuses = sample.statuses.iter();
    told.counters(
        "procring_answers",
        "Answers by their status code.",
        statuses.map(|(status, count)| (labels("status", status.to_string()), *count)),
    );
    let refusals = sample.refusals.iter();
    told.counters(
        "procring_refusals",
        "Requests that were refused, by the code or else the kind of the problem.",
        refusals.map(|(reason, count)| (labels("reason", *reason), *count)),
    );
    told.counter(
        "procring_received_bytes",
        "Bytes from clients.",
        counted.received_bytes.get(),
    );
    told.counter(
        "procring_sent_bytes",
        "Bytes to clients.",
        counted.sent_bytes.get(),
    );
}

fn logs(told: &mut Told, sample: &Sample, counted: &Metrics) {
    told.counter(
        "procring_input_bytes",
        "Bytes that programs have taken as their input.",
        counted.input_bytes.get(),
    );
    told.counter(
        "procring_output_bytes",
        "Bytes that were read from programs.",
        counted.output_bytes.get(),
    );
    told.counter(
        "procring_evicted_bytes",
        "Bytes of output that have left their log for want of room.",
        counted.evicted_bytes.get(),
    );
    told.counter(
        "procring_gaps",
        "Times that a reader of a log was told that it has missed output.",
        counted.gaps.get(),
    );
    told.counter(
        "procring_gap_bytes",
        "Bytes of output that readers have missed.",
        counted.gap_bytes.get(),
    );
    let [in_use, hot, slots] = sample.slots;
    told.gauges(
        "procring_arena_slots",
        "Slots of the memory for output: in use, free with their pages kept.",
        "state",
        [("used", in_use), ("free", hot)],
    );
    told.gauge(
        "procring_arena_slots_max",
        "As many slots as there can be.",
        slots,
    );
    told.gauge(
        "procring_arena_slot_bytes",
        "Bytes of a slot.",
        sample.slot_bytes,
    );
    told.gauges(
        "procring_memory_bytes",
        "What clients make the server hold, by kind.",
        "kind",
        sample.memory,
    );
    told.gauge(
        "procring_memory_max_bytes",
        "As much as they may make it hold (--memory-max).",
        sample.memory_max,
    );
    told.counter(
        "procring_log_lines_dropped",
        "Lines of the server's own log, and of the audit log, that could not be written.",
        sample.lines_dropped,
    );
}

fn loops(told: &mut Told, sample: &Sample, counted: &Metrics) {
    let turns = [
        ("io", counted.turns.get()),
        ("supervisor", sample.supervisor.turns),
    ];
    let series = turns.map(|(thread, turns)| (labels("thread", thread), Value::Durations(turns)));
    told.family(
        MetricType::Histogram,
        "procring_loop_turn_seconds",
        "How long a loop was busy at a time; the sum is how long it was busy.",
        series,
    );
    let longest = turns.map(|(thread, turns)| {
        let longest = Value::Seconds(turns.longest.as_secs_f64());
        (labels("thread", thread), longest)
    });
    told.family(
        MetricType::Gauge,
        "procring_loop_longest_turn_seconds",
        "The longest time that a loop was busy without a pause, since the start.",
        longest,
    );
    told.gauge(
        "procring_supervisor_answers",
        "1 if the supervisor's loop has come round for this answer.",
        u64::from(sample.supervisor_answers),
    );
    told.gauge(
        "procring_ending",
        "1 while the server is ending.",
        u64::from(sample.is_ending),
    );
}
