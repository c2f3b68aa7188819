//! Outputs that outlive their process: somebody still holds the other end.
//!
//! In: the outputs of a process that has exited. Out: whose are to be given up, so that they do
//! not take the descriptors that new work needs. Owns no output: the task that reads one does.
//!
//! Closing such an output has its writer killed by SIGPIPE, so it is read for as long as it may
//! be, into the log of its record or to nowhere.

use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use crate::io::runtime::source::Source;
use crate::types::JobId;

/// See the module.
#[derive(Debug)]
pub(crate) struct LateOutputs {
    /// Oldest first.
    of: VecDeque<Late>,
    max: usize,
}

#[derive(Debug)]
struct Late {
    /// Whose they are.
    job: JobId,
    outputs: Vec<Weak<Source>>,
}

impl Late {
    fn open(&self) -> usize {
        let open = self.outputs.iter().filter(|of| of.strong_count() > 0);
        open.count()
    }
}

impl LateOutputs {
    /// Room for `max` outputs.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            of: VecDeque::new(),
            max,
        }
    }

    /// Notes the outputs of a process that has exited.
    pub(crate) fn add<'a>(&mut self, job: JobId, outputs: impl Iterator<Item = &'a Rc<Source>>) {
        let outputs = outputs.map(Rc::downgrade).collect();
        self.of.push_back(Late { job, outputs });
    }

    /// Gives outputs up while there are too many: first what no record tells of, then the oldest.
    /// Returns the jobs with a record that they belonged to.
    pub(crate) fn give_up(&mut self, has_record: impl Fn(JobId) -> bool) -> Vec<JobId> {
        self.of.retain(|late| late.open() > 0);
        let mut open: usize = self.of.iter().map(Late::open).sum();
        let mut given_up = Vec::new();
        while open > self.max {
            let unlisted = |late: &Late| !has_record(late.job);
            let at = self.of.iter().position(unlisted).unwrap_or(0);
            let Some(late) = self.of.remove(at) else {
                break;
            };
            open -= late.open();
            for output in late.outputs.iter().filter_map(Weak::upgrade) {
                output.give_up();
            }
            given_up.extend(Some(late.job).filter(|&job| has_record(job)));
        }
        given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::runtime::backend::block_on;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::task::{Context, Waker};

    #[test]
    fn what_no_record_tells_of_goes_first_and_then_the_oldest() {
        block_on(async {
            let output = || {
                let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
                (Rc::new(Source::new(reader).unwrap()), writer)
            };
            let outputs: Vec<_> = (0..6).map(|_| output()).collect();
            let of = |n: usize| std::iter::once(&outputs[n].0);
            let context = Context::from_waker(Waker::noop());
            let mut late = LateOutputs::new(3);
            late.add(JobId(1), of(0));
            late.add(JobId(2), of(1));
            late.add(JobId(9), of(2));
            let listed = |job: JobId| job != JobId(2) && job != JobId(9);
            assert!(late.give_up(listed).is_empty());
            for (n, id, gone) in [(3, 3, 1), (4, 4, 2)] {
                late.add(JobId(id), of(n));
                assert!(late.give_up(listed).is_empty());
                assert!(outputs[gone].0.poll_given_up(&context), "{n}");
            }
            late.add(JobId(5), of(5));
            assert_eq!(late.give_up(listed), [JobId(1)]);
            let given_up: Vec<_> = outputs
                .iter()
                .map(|(o, _)| o.poll_given_up(&context))
                .collect();
            assert_eq!(given_up, [true, true, true, false, false, false]);
            // What has ended by itself makes room.
            drop(outputs);
            assert!(late.give_up(listed).is_empty());
            assert!(late.of.is_empty());
        });
    }
}
