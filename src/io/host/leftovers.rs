//! What outlives its process, on this side: runs that become records for it, and the bounds.
//!
//! In: a run that has left living descendants, records that have made room, outputs that are still
//! open. Out: changes of the table, trees to be ended. How many live the supervisor tells.

use std::rc::Rc;

use crate::io::runtime::source::Source;
use crate::io::server::Server;
use crate::journal::Event;
use crate::process::Description;
use crate::process::Dropped;
use crate::supervisor::message::Command;
use crate::types::{JobId, ProcessId};

/// Lists a run that has left living descendants, under an id that was taken for it. What its tree
/// writes from now on goes to the record's log.
pub(crate) fn list(
    server: &Server,
    job: JobId,
    id: ProcessId,
    description: Description,
    log_max: u64,
) {
    let limit = server.settings.get().max_log_bytes_per_process;
    let mut table = server.table.borrow_mut();
    let dropped = table.list(job, id, description, log_max, limit);
    drop(table);
    make_way(server, dropped, Bound::Exited);
    end_surplus(server);
}

/// Ends the oldest trees that runs have left, if there are too many.
pub(crate) fn end_surplus(server: &Server) {
    loop {
        let surplus = server.table.borrow_mut().surplus_leftover();
        let Some(Dropped { id, job, .. }) = surplus else {
            return;
        };
        server.command(Command::Kill { job });
        server.tell(&Event::LeftEnded {
            of: "the run",
            id: Some(id),
            reason: "max_leftovers",
            why: "too many runs have left something (--max-leftovers)",
        });
    }
}

/// What records have to make room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Other records.
    Exited,
    /// What else is held in memory.
    Memory,
}

impl Bound {
    fn name(self) -> &'static str {
        match self {
            Bound::Exited => "max_exited",
            Bound::Memory => "memory_max",
        }
    }
}

/// Lets go of records that have made room for others.
pub(crate) fn make_way(server: &Server, dropped: Vec<Dropped>, bound: Bound) {
    for of in dropped {
        if of.leaves_unlisted {
            server.command(Command::Kill { job: of.job });
            server.tell(&Event::LeftEnded {
                of: "the run",
                id: Some(of.id),
                reason: bound.name(),
                why: match bound {
                    Bound::Exited => "its record has made room for others (--max-exited)",
                    Bound::Memory => "its record has made room in memory (--memory-max)",
                },
            });
        }
        server.tell_seldom(Event::Limit {
            reason: bound.name(),
            id: Some(of.id),
            count: 1,
        });
        server.forget(of.job);
    }
}

/// Notes outputs that are open after the exit of their process, and gives up the oldest if there
/// are too many: a writer would be killed by SIGPIPE, so its tree is ended.
pub(crate) fn note_open<'a>(
    server: &Server,
    job: JobId,
    outputs: impl Iterator<Item = &'a Rc<Source>>,
) {
    let listed = |job| {
        let table = server.table.borrow();
        let process = table.job(job)?;
        process.is_listed().then_some(process.id)
    };
    let given_up = {
        let mut late = server.late_outputs.borrow_mut();
        late.add(job, outputs);
        late.give_up(|job| listed(job).is_some())
    };
    for job in given_up {
        if let Some(id) = listed(job) {
            server.command(Command::Kill { job });
            server.tell(&Event::LeftEnded {
                of: "process",
                id: Some(id),
                reason: "descriptors",
                why: "too many descriptors are held by what has outlived its process \
                      (RLIMIT_NOFILE)",
            });
        }
    }
}
