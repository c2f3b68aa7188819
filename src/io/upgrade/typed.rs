//! What viewers have typed and processes have not read, for another program.
//!
//! In: the queues of all viewers, which have left. Out: all of it, in the order in which it is to be
//! written; and on the other side a queue for each process.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::taken;
use crate::io::server::Server;
use crate::io::ws::input_pump::InputPump;
use crate::io::ws::input_queue::What;
use crate::ledger::heritage::{Heritage, Text, Typed};
use crate::types::{JobId, ProcessId};

/// What is handed over of it; with more, an upgrade is refused.
const BYTES_MAX: usize = 16 << 20;

/// What is to be written to processes.
///
/// # Errors
/// A sentence, if it is too much.
pub(super) fn hand_over(server: &Server) -> Result<Vec<Typed>, String> {
    let table = server.table.borrow();
    let mut all: Vec<(u64, Typed)> = Vec::new();
    for (id, queue) in &*server.input_queues.borrow() {
        if let (Some(process), Some(queue)) = (table.get(*id), queue.upgrade()) {
            let job = process.job.0;
            let left = queue.left().into_iter();
            all.extend(left.map(|(number, what)| (number, typed(job, what))));
        }
    }
    let bytes: usize = all.iter().map(|(_, typed)| typed.data.0.len()).sum();
    if bytes > BYTES_MAX {
        return Err(format!(
            "{bytes} bytes were typed that processes have not read (at most {BYTES_MAX}); try again \
             when they have"
        ));
    }
    all.sort_by_key(|(number, typed)| (typed.job, *number));
    Ok(all.into_iter().map(|(_, typed)| typed).collect())
}

fn typed(job: u64, what: What) -> Typed {
    let typed = Typed {
        job,
        ..Typed::default()
    };
    match what {
        What::End => Typed {
            is_end: true,
            ..typed
        },
        What::Data { data, offset } => Typed {
            data: Text(data),
            offset,
            ..typed
        },
    }
}

/// Jobs whose input ends behind that.
pub(super) fn ends(server: &Server) -> Vec<u64> {
    let children = server.children.borrow();
    let ends = children
        .iter()
        .filter(|(_, child)| child.input.as_ref().is_some_and(|input| input.ends()));
    ends.map(|(job, _)| job.0).collect()
}

/// Goes on with what another program has handed over.
pub(super) fn go_on(server: &Rc<Server>) {
    let left = |taken: &mut Heritage| {
        (
            std::mem::take(&mut taken.typed),
            std::mem::take(&mut taken.ends),
        )
    };
    let (typed, ends) = taken(server, left).unwrap_or_default();
    let id = |job| -> Option<ProcessId> { Some(server.table.borrow().job(JobId(job))?.id) };
    let mut all: BTreeMap<u64, Vec<What>> = BTreeMap::new();
    for typed in typed {
        let of_job = all.entry(typed.job).or_default();
        of_job.push(match typed.is_end {
            true => What::End,
            false => What::Data {
                data: typed.data.0,
                offset: typed.offset,
            },
        });
    }
    for (job, typed) in all {
        if let Some(id) = id(job) {
            InputPump::resume(server, id, typed);
        }
    }
    for job in ends {
        if let Some(input) = id(job).and_then(|id| server.input(id)) {
            input.end();
        }
    }
}
