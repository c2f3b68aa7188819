//! `GET /v1/events?activityMs=`: how much processes have written, and how many follow that.
//!
//! In: the table, now and then. Out: `activity` events with what has changed since the last one. Owns
//! what its client was last told, which is less than the table holds of the same processes. Knows no
//! clock; how often it is asked is up to its stream.

use std::collections::HashMap;
use std::time::Duration;

use crate::config::timeouts::{ACTIVITY_EVERY_MAX, ACTIVITY_EVERY_MIN};
use crate::process::Table;
use crate::types::{ProcessId, StreamFilter, UnixMs};
use crate::wire::say::events;
use crate::wire::sse;

/// Processes in one event.
const TOLD_MAX: usize = 256;

/// Bytes of output ever, and who follows.
type Told = (u64, usize);

/// See the module.
#[derive(Debug)]
pub(crate) struct Activity {
    /// How often the client is told.
    pub every: Duration,
    told: HashMap<ProcessId, Told>,
}

impl Activity {
    /// Of a client that knows nothing yet.
    pub(crate) fn new(every: Duration) -> Self {
        Self {
            every: every.clamp(ACTIVITY_EVERY_MIN, ACTIVITY_EVERY_MAX),
            told: HashMap::new(),
        }
    }

    /// Appends what is news to the client, of processes with all of these labels.
    pub(crate) fn write(
        &mut self,
        table: &Table,
        labels: &[Box<str>],
        now: UnixMs,
        out: &mut Vec<u8>,
    ) {
        let mut told = HashMap::with_capacity(self.told.len());
        let mut news = Vec::new();
        for process in table.iter() {
            let has = |pair: &str| process.tags().is_some_and(|tags| tags.has_label(pair));
            if !labels.iter().all(|pair| has(pair)) {
                continue;
            }
            let bytes = process.log.end_offset(StreamFilter::Combined);
            let is = (bytes, process.followers());
            let before = self.told.get(&process.id).copied().unwrap_or_default();
            if is != before {
                news.push((process.id, is));
            }
            if is != Told::default() {
                told.insert(process.id, is);
            }
        }
        self.told = told;
        for some in news.chunks(TOLD_MAX) {
            sse::write_event("activity", None, &events::activity(some, now), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_often_is_bounded_both_ways() {
        let every = |ms| Activity::new(Duration::from_millis(ms)).every;
        assert_eq!(every(0), ACTIVITY_EVERY_MIN);
        assert_eq!(every(1000), Duration::from_secs(1));
        assert_eq!(every(u64::MAX), ACTIVITY_EVERY_MAX);
    }
}
