//! Families of numbers, and how they are handed to prometheus-client.

use std::borrow::Cow;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::metrics::{BOUNDS_US, Durations};

pub(super) type Labels = Vec<(&'static str, Cow<'static, str>)>;

#[derive(Debug)]
pub(super) enum Value {
    Count(u64),
    Seconds(f64),
    Durations(Durations),
    Info,
}

#[derive(Debug)]
pub(super) struct Family {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    kind: MetricType,
    series: Vec<(Labels, Value)>,
}

/// All that is told, in its order.
#[derive(Debug, Default)]
pub(super) struct Told(pub(super) Vec<Family>);

impl Told {
    pub(super) fn family(
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

    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str, value: u64) {
        let series = [(Labels::new(), Value::Count(value))];
        self.family(MetricType::Gauge, name, help, series);
    }

    pub(super) fn gauges<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: [(&'static str, u64); N],
    ) {
        let series = values.map(|(word, value)| (labels(label, word), Value::Count(value)));
        self.family(MetricType::Gauge, name, help, series);
    }

    pub(super) fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        let series = [(Labels::new(), Value::Count(value))];
        self.family(MetricType::Counter, name, help, series);
    }

    pub(super) fn counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        series: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        let series = series.into_iter();
        let series = series.map(|(labels, value)| (labels, Value::Count(value)));
        self.family(MetricType::Counter, name, help, series);
    }

    pub(super) fn histogram(&mut self, name: &'static str, help: &'static str, all: Durations) {
        let series = [(Labels::new(), Value::Durations(all))];
        self.family(MetricType::Histogram, name, help, series);
    }
}

pub(super) fn labels(name: &'static str, value: impl Into<Cow<'static, str>>) -> Labels {
    vec![(name, value.into())]
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
