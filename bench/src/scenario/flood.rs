//! One process floods 16 followers, or nobody: do the others still get their turn?

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::follow::{losses, record_stamps};
use super::{Goal, Row, Scenario, Stage, less};
use crate::account::{Meter, memory};
use crate::follow::Followers;
use crate::http::{Connection, request};
use crate::load::{histogram, nanos_since};
use crate::payload::LINE;
use crate::sample::{Loss, Sample};
use crate::trouble::{Result, Trouble};

/// The other's lines, write to receipt.
const LINE_P99: Row = less(
    "line_p99",
    "the other's lines, write to receipt, p99",
    "µs",
    Goal::NotWorse,
);

const HEALTH_P99: Row = less("health_p99", "`GET /v1/health`, p99", "µs", Goal::NotWorse);

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "flood",
        title: "one process floods 16 followers; another prints a line every 5 ms",
        rows: &[
            LINE_P99,
            HEALTH_P99,
            less("line_p50", "the other's lines, p50", "µs", Goal::Shown),
        ],
        run: |stage| flood(stage, 16, PAUSE),
    },
    Scenario {
        name: "flood-unread",
        title: "one process floods and nobody reads it; another prints a line every 5 ms",
        rows: &[
            LINE_P99,
            less("line_p50", "the other's lines, p50", "µs", Goal::NotWorse),
            HEALTH_P99,
            less("health_p50", "`GET /v1/health`, p50", "µs", Goal::NotWorse),
        ],
        run: |stage| flood(stage, 0, PAUSE),
    },
    Scenario {
        name: "flood-http",
        title: "one process floods and nobody reads it; one client asks without a pause",
        rows: &[
            less("health_p50", "`GET /v1/health`, p50", "µs", Goal::NotWorse),
            HEALTH_P99,
        ],
        run: |stage| flood(stage, 0, Duration::ZERO),
    },
];

/// Between two requests.
const PAUSE: Duration = Duration::from_millis(5);

fn flood(stage: &Stage<'_>, followers: usize, pause: Duration) -> Result<Sample> {
    let count: u64 = stage.pick(600, 100);
    let server = stage.start()?;
    let mut api = stage.api(&server)?;
    let noisy = api.create_child(&["flood"], false)?;
    let quiet = api.create_child(&["lines", &count.to_string(), "5000"], false)?;
    let mut crowd = Followers::new()?;
    for _ in 0..followers {
        crowd.open(server.address, &noisy.path("/logs?follow=true"))?;
    }
    let mut reader = Followers::new()?;
    reader.open(server.address, &quiet.path("/logs?follow=true"))?;
    api.input(&noisy, "\n")?;

    let over = AtomicBool::new(false);
    let meter = Meter::start(server.pid())?;
    let (lines, health, wrong) = std::thread::scope(|scope| -> Result<_> {
        let drain = scope.spawn(|| -> Result<()> {
            while followers > 0 && !over.load(Ordering::Relaxed) {
                crowd.pump(Duration::from_millis(20), &mut |_, _, _| ())?;
            }
            Ok(())
        });
        let ping = scope.spawn(|| -> Result<_> {
            let mut latency = histogram();
            let mut connection = Connection::open(server.address)?;
            let health = request("GET", "/v1/health", b"");
            let mut wrong = 0;
            while !over.load(Ordering::Relaxed) {
                let at = Instant::now();
                wrong += u64::from(connection.exchange(&health)? != 200);
                latency.saturating_record(nanos_since(at));
                std::thread::sleep(pause);
            }
            Ok((latency, wrong))
        });
        std::thread::sleep(Duration::from_millis(200));
        let mut latency = histogram();
        let mut broken = 0;
        let whole = count * LINE as u64;
        let pumped = api.input(&quiet, "\n").and_then(|()| {
            reader.pump_until(
                Duration::from_secs(10),
                |set| set.tallies().all(|tally| tally.bytes >= whole),
                &mut |_, _, entry| broken += u64::from(!record_stamps(entry, &mut latency).1),
            )
        });
        over.store(true, Ordering::Relaxed);
        let panicked = |_| Trouble::Setup("a load thread panicked".into());
        drain.join().map_err(panicked)??;
        let (health, wrong) = ping.join().map_err(panicked)??;
        pumped?;
        Ok((latency, health, wrong + broken))
    })?;
    let usage = meter.stop()?;
    let memory = memory(server.pid())?;
    let mut loss = losses(reader.tallies(), count * LINE as u64, 0);
    loss.add(&Loss {
        errors: wrong,
        ..Loss::default()
    });
    Ok(Sample::new(usage, memory)
        .value("line_p99", lines.value_at_quantile(0.99) as f64 / 1e3)
        .value("line_p50", lines.value_at_quantile(0.5) as f64 / 1e3)
        .value("health_p50", health.value_at_quantile(0.5) as f64 / 1e3)
        .value("health_p99", health.value_at_quantile(0.99) as f64 / 1e3)
        .latency("line", &lines)
        .latency("health", &health)
        .lost(loss)
        .generators(3))
}
