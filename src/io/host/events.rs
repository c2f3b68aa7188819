//! What the supervisor reports, as changes of the table and the runs.

use std::collections::hash_map::Entry;
use std::rc::Rc;
use std::time::Instant;

use crate::api::Reply;
use crate::api::processes::{self, now_ms};
use crate::process::run::RunEnd;
use crate::process::state::Happening;
use crate::supervisor::mailbox::Receiver;
use crate::supervisor::message::{Command, Event};
use crate::types::{JobId, ProcessId, SpawnError};

use crate::io::host::leftovers;
use crate::io::host::outputs::{Sink, child_exited, ingest};
use crate::io::runtime::source::Source;
use crate::io::server::Server;

/// Handles events until [`Event::AllGone`]; `bell` is a duplicate of their doorbell.
///
/// # Errors
/// When the doorbell cannot be waited for.
pub(crate) async fn handle(
    server: Rc<Server>,
    events: Receiver<Event>,
    bell: Source,
) -> std::io::Result<()> {
    loop {
        bell.readable().await?;
        let batch: Vec<Event> = events.drain().collect();
        for event in batch {
            match event {
                Event::Spawned { job, pid } => spawned(&server, job, pid),
                Event::SpawnFailed { job, error } => match job {
                    JobId::Process(id) => start_decided(&server, id, Err(error)),
                    JobId::Run(key) => run_ended(&server, key, RunEnd::NotStarted(error)),
                },
                Event::Exited { job, status, left } => match job {
                    JobId::Process(id) => child_exited(&server, id, status, left),
                    JobId::Run(key) => {
                        leftovers::tell(&server, job, left);
                        run_ended(&server, key, RunEnd::Exited(status));
                    }
                },
                Event::Left { job, left } => leftovers::tell(&server, job, left),
                Event::TimedOut { job, status } => {
                    if let JobId::Run(key) = job {
                        run_ended(&server, key, RunEnd::TimedOut(status));
                    }
                }
                Event::ShuttingDown => server.shutting_down.set(true),
                Event::AllGone => return Ok(()),
            }
        }
    }
}

fn run_ended(server: &Rc<Server>, key: u64, end: RunEnd) {
    match server.runs.borrow_mut().get_mut(&key) {
        Some(run) => run.ended(end, Instant::now(), now_ms()),
        // Its client is gone; the tree was ended when that was noticed.
        None => server.command(Command::Forget {
            job: JobId::Run(key),
        }),
    }
}

fn spawned(server: &Rc<Server>, job: JobId, pid: i32) {
    let JobId::Process(id) = job else { return };
    let Some((process_outputs, child)) = ({
        let mut starting = server.starting.borrow_mut();
        starting.get_mut(&id).map(|starting| {
            let outputs = std::mem::take(&mut starting.child.outputs);
            let input = starting.child.input.clone();
            (outputs.clone(), crate::io::server::Child { outputs, input })
        })
    }) else {
        return;
    };
    let record = {
        let mut table = server.table.borrow_mut();
        let Some((process, _)) = table.get_mut(id) else {
            return;
        };
        process.happen(Happening::Spawned { pid }, Instant::now(), now_ms());
        process.open_outputs = child.outputs.len() as u8;
        processes::reply(process)
    };
    server.children.borrow_mut().insert(id, Rc::new(child));
    for (stream, source) in process_outputs {
        monoio::spawn(ingest(server.clone(), Sink::Log(id, stream), source));
    }
    start_decided(server, id, Ok(record));
}

fn start_decided(server: &Rc<Server>, id: ProcessId, result: Result<Reply, SpawnError>) {
    if result.is_err() {
        server.table.borrow_mut().cancel(id);
    }
    let mut starting = server.starting.borrow_mut();
    if let Entry::Occupied(mut starting) = starting.entry(id) {
        if starting.get().abandoned {
            starting.remove();
            return;
        }
        starting.get_mut().result = Some(result);
        starting.get().done.notify();
    }
}
