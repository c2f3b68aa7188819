//! The server's ends of a job's pipes and terminals, by the numbers of their descriptors.
//!
//! In: which descriptor an end is. Out: the same, until that is about to be closed.

use std::collections::HashMap;
use std::sync::Arc;

use super::{INPUT, OUTPUTS, RecordId, Records};
use crate::types::{JobId, Stream};

/// One end of a pipe or terminal that is the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Where this stream is read.
    Output(Stream),
    /// Where input is written.
    Input,
}

impl End {
    fn place(self) -> usize {
        match self {
            End::Output(stream) => OUTPUTS + stream as usize,
            End::Input => INPUT,
        }
    }
}

/// A descriptor that a record names, as long as this lives.
#[derive(Debug)]
pub(crate) struct Named {
    records: Arc<Records>,
    record: RecordId,
    job: JobId,
    end: End,
}

impl Drop for Named {
    fn drop(&mut self) {
        // The record may be another job's by now.
        if self.records.job(self.record) == self.job {
            self.records.set(self.record, self.end.place(), 0);
        }
    }
}

impl Records {
    /// Notes which descriptor an end is, until what is returned is dropped. Before there is a
    /// process, and dropped before the descriptor is closed.
    pub(crate) fn name(self: &Arc<Self>, record: RecordId, end: End, fd: i32) -> Named {
        self.set(record, end.place(), u64::from(fd.cast_unsigned()));
        Named {
            records: self.clone(),
            record,
            job: self.job(record),
            end,
        }
    }

    /// The descriptor of an end.
    pub(crate) fn fd(&self, record: RecordId, end: End) -> Option<i32> {
        let fd = i32::try_from(self.get(record, end.place())).ok()?;
        (fd > 2).then_some(fd)
    }

    /// All descriptors that it names.
    pub(crate) fn fds(&self, record: RecordId) -> impl Iterator<Item = i32> + '_ {
        let outputs = Stream::ALL.into_iter().map(End::Output);
        let ends = outputs.chain([End::Input]);
        ends.filter_map(move |end| self.fd(record, end))
    }

    /// Names no descriptor any more that two ends seem to be; the records that did.
    pub(crate) fn unname_shared(&self) -> Vec<RecordId> {
        let mut named = HashMap::<i32, (RecordId, usize)>::new();
        let mut shared = Vec::new();
        for record in self.iter() {
            for place in OUTPUTS..=INPUT {
                let fd = i32::try_from(self.get(record, place)).unwrap_or_default();
                if fd > 2
                    && let Some(other) = named.insert(fd, (record, place))
                {
                    shared.extend([other, (record, place)]);
                }
            }
        }
        for &(record, place) in &shared {
            self.set(record, place, 0);
        }
        shared.into_iter().map(|(record, _)| record).collect()
    }

    /// How many descriptors it names that may be read.
    pub(crate) fn outputs(&self, record: RecordId) -> u8 {
        let open = Stream::ALL
            .into_iter()
            .filter(|&stream| self.fd(record, End::Output(stream)).is_some());
        u8::try_from(open.count()).unwrap_or(u8::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_descriptor_is_named_until_it_is_about_to_be_closed() {
        let (records, next) = (Arc::new(Records::new().unwrap()), Cell::new(0));
        let record = records.begin(JobId(1), 0, &next).unwrap();
        let end = End::Output(Stream::Stderr);
        let named = records.name(record, end, 12);
        assert_eq!(records.fd(record, end), Some(12));
        assert_eq!(records.fd(record, End::Input), None);
        drop(named);
        assert_eq!(records.fd(record, end), None);
    }
}
