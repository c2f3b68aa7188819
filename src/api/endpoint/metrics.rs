//! `GET /metrics`: what is counted, in the text formats of Prometheus and of OpenMetrics.
//!
//! In: numbers. Out: the answer. Knows nothing of who counts. No label names a process: what a
//! server has to tell does not grow with what it runs.
//!
//! prometheus-client writes the formats; the numbers are not its own kinds, since those are shared
//! between threads and ours are not. They are copied for each answer.

mod families;
mod family;

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

pub(crate) use self::families::Sample;
use self::families::told;
use super::stream::{QUALITY_MAX, quality};
use crate::api::reply::Reply;
use crate::metrics::metrics;

/// Which text is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus text format 0.0.4.
    Classic,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Format {
    /// By what `Accept` names (RFC 9110, 12.5.1): OpenMetrics where it is named and nothing that
    /// the classic format fits is preferred.
    pub(crate) fn of<'a>(accept: impl Iterator<Item = &'a [u8]>) -> Self {
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

/// The answer.
pub(crate) fn reply(sample: &Sample, format: Format) -> Reply {
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
