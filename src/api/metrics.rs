//! `GET /metrics`: what is counted, in the text formats of Prometheus and of OpenMetrics.
//!
//! In: numbers. Out: the answer. Knows nothing of who counts. No label names a process: what a
//! server has to tell does not grow with what it runs.
//!
//! prometheus-client writes the formats; the numbers are not its own kinds, since those are shared
//! between threads and ours are not. They are copied for each answer.

use std::borrow::Cow;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::metrics::{
    BOUNDS_US, Durations, Ended, Kind, Metrics, RunResult, SupervisorMetrics, metrics,
};
use crate::process::Counts;

use super::reply::Reply;
use super::stream::{QUALITY_MAX, quality};

/// Which text is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Classic,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Format {
    /// By what `Accept` names (RFC 9110, 12.5.1): OpenMetrics where it is named and nothing that
    /// the classic format fits is preferred.
    pub fn of<'a>(accept: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut open, mut classic) = (0, None);
        for range in accept.flat_map(|value| value.split(|byte| *byte == b',')) {
            let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts.find_map(quality).unwrap_or(QUALITY_MAX);
            match &*name {
                b"application/openmetrics-text" => open = quality.max(open),
                // A wildcard says nothing about which of the two.
                b"text/plain" => classic = classic.max(Some(quality)),
                _ => {}
            }
        }
        match open > 0 && classic.is_none_or(|classic| open >= classic) {
            true => Format::OpenMetrics,
            false => Format::Classic,
        }
    }
}

/// What the I/O thread knows besides what is counted.
#[derive(Clone, Debug, Default)]
pub struct Sample {
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
    /// Lines of the log and of the audit log that are in neither.
    pub lines_dropped: u64,
}

type Labels = Vec<(&'static str, Cow<'static, str>)>;

#[derive(Debug)]
enum Value {
    Count(u64),
    Seconds(f64),
    Durations(Durations),
    Info,
}

#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    kind: MetricType,
    series: Vec<(Labels, Value)>,
}

/// All that is told, in its order.
#[derive(Debug, Default)]
struct Told(Vec<Family>);

impl Told {
    fn family(
        &mut self,
        kind: MetricType,
        name: &'static str,
        help: &'static str,
        series: impl IntoIterator<Item = (Labels, Value)>,
    ) {
        // In OpenMetrics the unit is the end of the name.
        let unit = [("_seconds", Unit::Seconds), ("_bytes", Unit::Bytes)];
        let unit = unit
            .into_iter()
            .find_map(|(end, unit)| Some((name.strip_suffix(end)?, unit)));
        let (name, unit) = unit.map_or((name, None), |(name, unit)| (name, Some(unit)));
        self.0.push(Family {
            name,
            help,
            unit,
            kind,
            series: series.into_iter().collect(),
        });
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, value: u64) {
        let series = [(Labels::new(), Value::Count(value))];
        self.family(MetricType::Gauge, name, help, series);
    }

    fn gauges<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: [(&'static str, u64); N],
    ) {
        let series = values.map(|(word, value)| (labels(label, word), Value::Count(value)));
        self.family(MetricType::Gauge, name, help, series);
    }

    fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        let series = [(Labels::new(), Value::Count(value))];
        self.family(MetricType::Counter, name, help, series);
    }

    fn counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        series: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        let series = series.into_iter();
        let series = series.map(|(labels, value)| (labels, Value::Count(value)));
        self.family(MetricType::Counter, name, help, series);
    }

    fn histogram(&mut self, name: &'static str, help: &'static str, all: Durations) {
        let series = [(Labels::new(), Value::Durations(all))];
        self.family(MetricType::Histogram, name, help, series);
    }
}

fn labels(name: &'static str, value: impl Into<Cow<'static, str>>) -> Labels {
    vec![(name, value.into())]
}

fn told(sample: &Sample, counted: &Metrics) -> Told {
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

impl Collector for Told {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.0 {
            let Family {
                name,
                help,
                unit,
                kind,
                series,
            } = family;
            if series.is_empty() {
                continue;
            }
            let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), *kind)?;
            for (labels, value) in series {
                if let Value::Info = value {
                    metric.encode_info(labels)?;
                    continue;
                }
                let mut one = metric.encode_family(labels)?;
                match (value, kind) {
                    (Value::Count(count), MetricType::Counter) => {
                        one.encode_counter::<NoLabelSet, _, u64>(count, None)?;
                    }
                    (Value::Seconds(seconds), MetricType::Counter) => {
                        one.encode_counter::<NoLabelSet, _, f64>(seconds, None)?;
                    }
                    (Value::Count(count), _) => one.encode_gauge(count)?,
                    (Value::Seconds(seconds), _) => one.encode_gauge(seconds)?,
                    (Value::Durations(all), _) => {
                        let buckets = buckets(all);
                        let sum = all.sum.as_secs_f64();
                        one.encode_histogram::<NoLabelSet>(sum, all.count(), &buckets, None)?;
                    }
                    (Value::Info, _) => {}
                }
            }
        }
        Ok(())
    }
}

/// Each range's upper end in seconds, and how many were in it alone.
fn buckets(all: &Durations) -> Vec<(f64, u64)> {
    #[expect(clippy::cast_precision_loss, reason = "the bounds are small")]
    let ends = BOUNDS_US.iter().map(|us| *us as f64 / 1e6);
    let ends = ends.chain([f64::INFINITY]);
    ends.zip(all.counts).collect()
}

/// The answer.
pub fn reply(sample: &Sample, format: Format) -> Reply {
    let told = metrics(|counted| told(sample, counted));
    let mut registry = Registry::default();
    registry.register_collector(Box::new(told));
    let mut out = String::with_capacity(16 << 10);
    let (content_type, written) = match format {
        Format::Classic => (
            prometheus_text::CONTENT_TYPE,
            prometheus_text::encode(&mut out, &registry),
        ),
        Format::OpenMetrics => (OPEN_METRICS, text::encode(&mut out, &registry)),
    };
    debug_assert!(written.is_ok(), "a string takes everything");
    Reply::new(200)
        .typed(content_type, out.into_bytes())
        .header("cache-control", "no-store")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::time::Duration;

    fn shown(format: Format) -> String {
        let histogram = crate::metrics::Histogram::default();
        histogram.observe(Duration::from_micros(300));
        let sample = Sample {
            requests: vec![("/v1/processes/{id}", "GET", histogram.get())],
            statuses: vec![(200, 7)],
            refusals: vec![("token_invalid", 2)],
            resident_bytes: Some(1),
            descriptors_max: Some(2),
            ..Sample::default()
        };
        String::from_utf8(reply(&sample, format).body.into_owned()).unwrap()
    }

    #[test]
    fn the_format_is_the_one_that_accept_prefers() {
        let of = |accept: &str| Format::of([accept.as_bytes()].into_iter());
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,\
                          text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert_eq!(of(prometheus), Format::OpenMetrics);
        for classic in [
            "",
            "*/*",
            "text/plain",
            "application/json",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.3, text/plain;q=0.4",
        ] {
            assert_eq!(of(classic), Format::Classic, "{classic}");
        }
        assert_eq!(of("Application/OpenMetrics-Text"), Format::OpenMetrics);
    }

    #[test]
    fn ranges_add_up_in_both_formats() {
        for format in [Format::Classic, Format::OpenMetrics] {
            let text = shown(format);
            let of = |end: &str| {
                let end = format!("le=\"{end}\"");
                let parts = ["route=\"/v1/processes/{id}\"", "method=\"GET\"", &end];
                let mut lines = text.lines();
                let name = "procring_request_seconds_bucket{";
                let fits = |line: &&str| {
                    line.starts_with(name) && parts.iter().all(|part| line.contains(part))
                };
                lines
                    .find(fits)
                    .map(|line| line.rsplit_once(' ').unwrap().1)
            };
            assert_eq!(of("0.00025"), Some("0"), "{text}");
            assert_eq!(of("0.0005"), Some("1"));
            assert_eq!(of("+Inf"), Some("1"));
            assert!(text.contains("procring_refusals_total{reason=\"token_invalid\"} 2\n"));
        }
        assert!(shown(Format::OpenMetrics).ends_with("# EOF\n"));
    }

    #[test]
    fn every_family_is_named_once_and_helped() {
        let text = shown(Format::Classic);
        let mut names = HashSet::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
            let (name, help) = line.split_once(' ').unwrap();
            assert!(names.insert(name.to_owned()), "{name}");
            assert!(help.ends_with('.'), "{line}");
            assert!(name.starts_with("procring_") || name.starts_with("process_"));
        }
        assert!(names.len() > 30, "{names:?}");
    }
}
