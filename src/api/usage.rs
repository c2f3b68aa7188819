//! `?usage=true` on records: whose usage is asked for, and the answer once it has been counted.
//!
//! In: records that fit, later what each of them has used. Out: the same answers as without, each
//! record with `usage`; a long list comes in pieces, too. Counts nothing itself.

use std::collections::HashMap;

use crate::process::{Process, Table};
use crate::types::{JobId, ProcessId, Usage};

use super::Outcome;
use super::list;
use super::problem::Problem;
use super::processes;
use super::reply::Reply;

/// An answer that waits for what its records have used.
#[derive(Debug)]
pub(crate) struct Asked {
    of: Vec<(ProcessId, JobId)>,
    shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    One,
    List { more: bool },
}

impl Asked {
    /// One record.
    pub(super) fn one(process: &Process) -> Self {
        Self {
            of: vec![(process.id, process.job)],
            shape: Shape::One,
        }
    }

    /// These, and whether there are more behind them.
    pub(super) fn list(of: Vec<(ProcessId, JobId)>, more: bool) -> Self {
        let shape = Shape::List { more };
        Self { of, shape }
    }

    /// Whose usage is to be counted.
    pub(crate) fn jobs(&self) -> Vec<JobId> {
        self.of.iter().map(|(_, job)| *job).collect()
    }

    /// The answer, from the records as they are now. Those that are gone are left out.
    pub(crate) fn answer(self, used: HashMap<JobId, Usage>, table: &Table) -> Outcome {
        match (self.shape, self.of.first()) {
            (Shape::One, Some((id, job))) => Outcome::Reply(match table.get(*id) {
                None => Problem::from(*id).reply(),
                Some(process) => {
                    let mut out = Vec::with_capacity(384);
                    processes::write(process, used.get(job).copied(), &mut out);
                    Reply::json(out)
                }
            }),
            (shape, _) => {
                let more = shape == Shape::List { more: true };
                list::counted(self.of, used, more, table)
            }
        }
    }
}
