//! `GET /v1/processes`: which records, and how many of them.
//!
//! In: the query. Out: the records that fit, by number, and where the next part begins. Looks at
//! every record behind `after` until there are enough; a name is looked up.

use std::collections::HashMap;

use crate::process::{Process, Table};
use crate::types::{JobId, ProcessId, Usage};
use crate::wire::say::lists;

use super::processes::write_short;
use crate::api::problem::Problem;
use crate::api::query::{self, Owner, Params};
use crate::api::reply::Reply;
use crate::api::tags::{LABELS_MAX, is_name, no_name};
use crate::api::usage::Asked;
use crate::api::{Core, Outcome};

/// Records of one answer where the query bounds them.
const LIMIT_MAX: u64 = 1000;

/// Which records are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListQuery {
    /// `owner`
    pub owner: Owner,
    /// `name`
    pub name: Option<Box<str>>,
    /// `label`, each `KEY=VALUE`; all must fit.
    pub labels: Vec<Box<str>>,
    /// `status`: whether it runs.
    pub is_running: Option<bool>,
    /// `limit`
    pub limit: Option<usize>,
    /// `after`
    pub after: Option<ProcessId>,
    /// `usage`
    pub usage: bool,
}

/// The labels that must fit, each `KEY=VALUE`.
///
/// # Errors
/// 400 for one without `=`, and for more than a process may have.
pub(in crate::api) fn labels(params: &Params<'_>) -> Result<Vec<Box<str>>, Problem> {
    let bad = |message: String| Problem::unreadable(400, message);
    let labels: Vec<Box<str>> = params.all("label").map(Into::into).collect();
    if labels.iter().any(|pair| !pair.contains('=')) {
        return Err(bad("query parameter label must be KEY=VALUE".to_owned()));
    }
    if labels.len() > LABELS_MAX {
        return Err(bad(format!(
            "query parameter label may be given {LABELS_MAX} times, which is how many labels a \
             process may have"
        )));
    }
    Ok(labels)
}

/// Reads the query of a list.
///
/// # Errors
/// 400 naming the parameter and what is allowed.
pub(in crate::api) fn parse(params: &Params<'_>) -> Result<ListQuery, Problem> {
    let bad = |message: String| Problem::unreadable(400, message);
    let owner = query::owner(params)?;
    let name = params.unique("name")?;
    if let Some(name) = name.as_deref().filter(|name| !is_name(name)) {
        return Err(bad(no_name("query parameter name", name)));
    }
    let labels = labels(params)?;
    let statuses = [("running", true), ("exited", false)];
    let is_running = query::choice(params, "status", &statuses)?;
    let limit = match query::number(params, "limit")? {
        None => None,
        Some(limit @ 1..=LIMIT_MAX) => usize::try_from(limit).ok(),
        Some(_) => {
            return Err(bad(format!(
                "query parameter limit must be between 1 and {LIMIT_MAX}"
            )));
        }
    };
    let after = match params.unique("after")? {
        None => None,
        Some(text) => Some(ProcessId::parse(&text).ok_or_else(|| {
            bad("query parameter after must be the id of a process, such as proc_1".to_owned())
        })?),
    };
    Ok(ListQuery {
        owner,
        name: name.map(Into::into),
        labels,
        is_running,
        limit,
        after,
        usage: query::flag(params, "usage")?,
    })
}

impl ListQuery {
    fn fits(&self, process: &Process) -> bool {
        let running = process.life.is_running();
        let tags = process.tags();
        let has = |pair: &str| tags.is_some_and(|tags| tags.has_label(pair));
        self.is_running.is_none_or(|wanted| wanted == running)
            && self.labels.iter().all(|pair| has(pair))
    }

    /// The records that fit behind this one, by number.
    fn fitting<'a>(
        &'a self,
        behind: ProcessId,
        table: &'a Table,
    ) -> impl Iterator<Item = &'a Process> {
        let after = self.after.unwrap_or(ProcessId(0)).max(behind);
        let named = self.name.as_deref().map(|name| table.get_named(name));
        let (of_name, rest) = match named {
            Some(named) => (named.filter(|process| process.id > after), None),
            None => (None, Some(table.iter_behind(after))),
        };
        let all = of_name.into_iter().chain(rest.into_iter().flatten());
        all.filter(|process| self.owner == Owner::User && self.fits(process))
    }
}

/// Bytes of a list that is answered at once; of a longer one it is the first piece, about.
const PIECE_BYTES: usize = 256 << 10;

/// Bytes of the arguments of one record that a list shows: of hundreds of records, a few with long
/// ones would be all of it. The record itself shows them.
const ARGS_BYTES_MAX: usize = 64 << 10;

/// Which records a list shows.
#[derive(Debug)]
enum Of {
    /// Those that fit, `left` more of them at most.
    Fitting { query: ListQuery, left: usize },
    /// These, by number, with what they use; whether there are `more` behind them.
    Counted {
        records: Vec<(ProcessId, JobId)>,
        used: HashMap<JobId, Usage>,
        more: bool,
    },
}

/// A list that is made piece by piece: each shows the records as they are then.
#[derive(Debug)]
pub(crate) struct List {
    of: Of,
    /// The last record that has been written.
    last: Option<ProcessId>,
    /// What has been written and not been sent.
    begun: Vec<u8>,
}

impl List {
    /// Answers with all of it, or begins if that is long.
    fn begin(of: Of, table: &Table) -> Outcome {
        let mut list = Self {
            of,
            last: None,
            begun: lists::PROCESSES.to_vec(),
        };
        let (out, more) = list.piece(table);
        if !more {
            return Outcome::Reply(Reply::json(out));
        }
        list.begun = out;
        Outcome::List(Box::new(list))
    }

    /// What it takes itself, however much of it has been sent.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.of {
            Of::Fitting { .. } => 0,
            Of::Counted { records, used, .. } => {
                let records = records.capacity() * size_of::<(ProcessId, JobId)>();
                (records + used.capacity() * size_of::<(JobId, Usage)>()) as u64
            }
        }
    }

    /// What a piece takes, about.
    pub(crate) fn piece_bytes(&self) -> u64 {
        self.begun.len() as u64
    }

    /// What was written when it was found to be long.
    pub(crate) fn begun(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.begun)
    }

    /// The next piece. The second is false for the last one.
    pub(crate) fn piece(&mut self, table: &Table) -> (Vec<u8>, bool) {
        let mut out = self.begun();
        let behind = self.last.unwrap_or(ProcessId(0));
        let next = match &mut self.of {
            Of::Fitting { query, left } => {
                let mut fitting = query.fitting(behind, table);
                let shown = fitting.by_ref().take(*left);
                let shown = shown.map(|process| (process, None));
                let (written, is_all) = write(shown, &mut self.last, &mut out);
                *left -= written;
                if !is_all {
                    return (out, true);
                }
                self.last.filter(|_| fitting.next().is_some())
            }
            Of::Counted {
                records,
                used,
                more,
            } => {
                let from = records.partition_point(|(id, _)| *id <= behind);
                // Those that are gone are left out.
                let shown = records[from..].iter().filter_map(|(id, job)| {
                    let process = table.get(*id)?;
                    Some((process, used.get(job).copied()))
                });
                if !write(shown, &mut self.last, &mut out).1 {
                    return (out, true);
                }
                records.last().map(|(id, _)| *id).filter(|_| *more)
            }
        };
        lists::end_processes(next, &mut out);
        (out, false)
    }
}

/// Writes records until it is enough for one piece: how many, and whether that was all.
fn write<'a>(
    records: impl Iterator<Item = (&'a Process, Option<Usage>)>,
    last: &mut Option<ProcessId>,
    out: &mut Vec<u8>,
) -> (usize, bool) {
    let mut written = 0;
    for (process, usage) in records {
        if last.replace(process.id).is_some() {
            out.push(b',');
        }
        write_short(process, usage, ARGS_BYTES_MAX, out);
        written += 1;
        if out.len() >= PIECE_BYTES {
            return (written, false);
        }
    }
    (written, true)
}

/// The records that fit, by number.
pub(in crate::api) fn list(query: ListQuery, core: &Core<'_>) -> Outcome {
    let left = query.limit.unwrap_or(usize::MAX);
    if query.usage {
        let mut fitting = query.fitting(ProcessId(0), core.table);
        let shown = fitting.by_ref().take(left);
        let shown = shown.map(|process| (process.id, process.job)).collect();
        return Outcome::Usage(Asked::list(shown, fitting.next().is_some()));
    }
    List::begin(Of::Fitting { query, left }, core.table)
}

/// These records, by number, with what they use; whether there are `more` behind them.
pub(in crate::api) fn counted(
    records: Vec<(ProcessId, JobId)>,
    used: HashMap<JobId, Usage>,
    more: bool,
    table: &Table,
) -> Outcome {
    let of = Of::Counted {
        records,
        used,
        more,
    };
    List::begin(of, table)
}
