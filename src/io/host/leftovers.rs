//! What outlives its process, on this side: runs that become records for it, and the bounds.
//!
//! In: a run that has left living descendants, records that have made room, outputs that are still
//! open. Out: changes of the table, trees to be ended. How many live the supervisor tells.

use std::rc::Rc;

use crate::io::runtime::source::Source;
use crate::io::server::Server;
use crate::notice;
use crate::process::Dropped;
use crate::process::table::Leftover;
use crate::supervisor::message::Command;
use crate::types::{JobId, ProcessId};

/// The supervisor tells that `left` of the tree of an exited child live on.
pub(crate) fn tell(server: &Server, job: JobId, left: u32) {
    let id = match job {
        JobId::Process(id) => Some(id),
        JobId::Run(key) => match server.runs.borrow_mut().get_mut(&key) {
            Some(run) => return run.leaves(left),
            None => server.recorded.borrow().get(&key).copied(),
        },
    };
    if let Some(id) = id
        && let Some((process, _)) = server.table.borrow_mut().get_mut(id)
    {
        process.leaves(left);
    }
}

/// Makes a run a record. What its tree writes from now on goes to the record's log.
pub(crate) fn record(server: &Server, key: u64, id: ProcessId, of: Leftover) {
    server.recorded.borrow_mut().insert(key, id);
    let dropped = server.table.borrow_mut().adopt(id, of);
    make_way(server, dropped);
    loop {
        let surplus = server.table.borrow_mut().surplus_leftover();
        let Some(Dropped { id, job, .. }) = surplus else {
            return;
        };
        server.command(Command::Kill { job });
        notice::line(format_args!(
            "ended what the run {id} left: too many runs have left something (--max-leftovers)"
        ));
    }
}

/// Lets go of records that have made room for others.
pub(crate) fn make_way(server: &Server, dropped: Vec<Dropped>) {
    for of in dropped {
        if of.leaves_unlisted {
            server.command(Command::Kill { job: of.job });
            notice::line(format_args!(
                "ended what the run {} left: its record has made room for others (--max-exited)",
                of.id
            ));
        }
        server.forget(of.id, of.job);
    }
}

/// Notes outputs that are open after the exit of their process, and gives up the oldest if there
/// are too many: a writer would be killed by SIGPIPE, so its tree is ended.
pub(crate) fn note_open<'a>(
    server: &Server,
    id: Option<ProcessId>,
    outputs: impl Iterator<Item = &'a Rc<Source>>,
) {
    let given_up = {
        let mut late = server.late_outputs.borrow_mut();
        late.add(id, outputs);
        let table = server.table.borrow();
        late.give_up(|id| table.get(id).is_some())
    };
    for id in given_up {
        let job = server.table.borrow().get(id).map(|process| process.job);
        if let Some(job) = job {
            server.command(Command::Kill { job });
            notice::line(format_args!(
                "ended what {id} left: too many descriptors are held by what has outlived its \
                 process (RLIMIT_NOFILE)"
            ));
        }
    }
}
