//! Which entries of a log somebody wants: of some streams, and of some time.
//!
//! In: an entry. Out: whether it is wanted. Plain data. Times are those of the wall clock, which
//! may be set back: each entry is asked for itself, and nothing is concluded from its neighbours.

use super::index::Entry;
use crate::types::StreamFilter;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Select {
    /// Of these streams.
    pub streams: StreamFilter,
    /// Arrived at this moment or later, Unix milliseconds.
    pub since_ms: u64,
    /// Arrived before this moment. The default is later than any entry.
    pub until_ms: u64,
}

impl Select {
    /// Whether this entry is wanted.
    pub fn matches(&self, entry: &Entry) -> bool {
        self.streams.matches(entry.stream) && self.is_in_time(entry)
    }

    /// Whether it arrived when it should.
    pub fn is_in_time(&self, entry: &Entry) -> bool {
        (self.since_ms..self.until_ms).contains(&entry.timestamp_ms)
    }

    /// Whether all times are wanted.
    pub fn is_timeless(&self) -> bool {
        self.since_ms == 0 && self.until_ms == u64::MAX
    }
}

impl Default for Select {
    fn default() -> Self {
        StreamFilter::default().into()
    }
}

impl From<StreamFilter> for Select {
    fn from(streams: StreamFilter) -> Self {
        Self {
            streams,
            since_ms: 0,
            until_ms: u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Arena, Log};
    use crate::types::Stream;

    #[test]
    fn the_first_moment_is_included_and_the_last_is_not() {
        let (mut arena, mut log) = (Arena::new().unwrap(), Log::default());
        for at in [99, 100, 199, 200] {
            log.tail(&mut arena).unwrap();
            log.commit(&mut arena, 1, Stream::Stderr, at, 100);
        }
        let wanted = |select: Select| -> Vec<u64> {
            let entries = log.from(1).filter(|entry| select.matches(entry));
            entries.map(|entry| entry.timestamp_ms).collect()
        };
        let span = Select {
            since_ms: 100,
            until_ms: 200,
            ..Select::default()
        };
        assert_eq!(wanted(span), [100, 199]);
        assert_eq!(wanted(Select::default()), [99, 100, 199, 200]);
        let streams = StreamFilter::Only(Stream::Stdout);
        assert!(wanted(Select { streams, ..span }).is_empty());
        assert!(Select::default().is_timeless() && !span.is_timeless());
    }
}
