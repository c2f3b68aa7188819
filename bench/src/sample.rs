//! What one measurement hands back, and how it is kept.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::account::{Memory, Usage};

/// Which server a figure belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    /// procring.
    Procring,
    /// The reference.
    Reference,
    /// An older build of procring.
    Baseline,
}

impl Side {
    /// Every side, in the order of the report.
    pub(crate) const ALL: [Side; 3] = [Side::Procring, Side::Reference, Side::Baseline];

    /// As it is written in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Side::Procring => "procring",
            Side::Reference => "reference",
            Side::Baseline => "baseline",
        }
    }
}

/// Percentiles of one histogram, microseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// Values recorded.
    pub(crate) count: u64,
    /// Median.
    pub(crate) p50: f64,
    /// 90th percentile.
    pub(crate) p90: f64,
    /// 99th percentile.
    pub(crate) p99: f64,
    /// 99.9th percentile.
    pub(crate) p999: f64,
    /// Highest value.
    pub(crate) max: f64,
}

impl Latency {
    /// Reads the percentiles of a histogram of nanoseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Latency {
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Latency {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1000.0,
        }
    }
}

/// What did not arrive.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Loss {
    /// Bytes that were written and not delivered.
    pub(crate) bytes: u64,
    /// Sequence numbers that were skipped.
    pub(crate) entries: u64,
    /// Answers, orders or contents that were wrong.
    pub(crate) errors: u64,
}

impl Loss {
    /// Whether everything arrived, once and in order.
    pub(crate) fn none(&self) -> bool {
        self.bytes == 0 && self.entries == 0 && self.errors == 0
    }

    /// Adds another account to this one.
    pub(crate) fn add(&mut self, other: &Loss) {
        self.bytes += other.bytes;
        self.entries += other.entries;
        self.errors += other.errors;
    }
}

/// One measurement of one server.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Figures by the key that a row names.
    pub(crate) values: BTreeMap<String, f64>,
    /// Latencies by name.
    pub(crate) latencies: BTreeMap<String, Latency>,
    /// What was lost.
    pub(crate) loss: Loss,
    /// What it cost.
    pub(crate) usage: Usage,
    /// Highest resident memory of the server, KiB.
    pub(crate) rss_peak: u64,
    /// Proportional memory of the server at the end, KiB.
    pub(crate) pss: u64,
    /// Threads of the load generator.
    pub(crate) generator_threads: u64,
    /// Series for charts: name to (x, y).
    pub(crate) series: BTreeMap<String, Vec<(f64, f64)>>,
    /// What a reader should know about this measurement.
    pub(crate) note: Option<String>,
}

impl Sample {
    /// A sample with its costs; figures are added with [`Sample::value`].
    pub(crate) fn new(usage: Usage, memory: Memory) -> Sample {
        Sample {
            usage,
            rss_peak: memory.rss_peak,
            pss: memory.pss,
            generator_threads: 1,
            ..Sample::default()
        }
    }

    /// Adds one figure.
    pub(crate) fn value(mut self, key: &str, value: f64) -> Sample {
        self.values.insert(key.to_owned(), value);
        self
    }

    /// Adds the percentiles of a histogram.
    pub(crate) fn latency(mut self, key: &str, histogram: &Histogram<u64>) -> Sample {
        self.latencies
            .insert(key.to_owned(), Latency::of(histogram));
        self
    }

    /// Adds to the account of losses.
    pub(crate) fn lost(mut self, loss: Loss) -> Sample {
        self.loss.add(&loss);
        self
    }

    /// Keeps an example of what was wrong.
    pub(crate) fn example(mut self, wrong: Option<String>) -> Sample {
        self.note = wrong
            .map(|body| format!("a wrong answer: {body}"))
            .or(self.note);
        self
    }

    /// Says how many threads the generator had.
    pub(crate) fn generators(mut self, threads: u64) -> Sample {
        self.generator_threads = threads;
        self
    }

    /// Share of one core that the generator used.
    pub(crate) fn generator_share(&self) -> f64 {
        if self.usage.wall_s > 0.0 {
            self.usage.generator_s / self.usage.wall_s
        } else {
            0.0
        }
    }
}

/// How one measurement went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// There are figures.
    Done(Sample),
    /// The server does not offer it, or cannot reach the size.
    Unavailable(String),
    /// It went wrong.
    Failed(String),
}

impl Outcome {
    /// The figures, where there are any.
    pub(crate) fn sample(&self) -> Option<&Sample> {
        match self {
            Outcome::Done(sample) => Some(sample),
            _ => None,
        }
    }
}
