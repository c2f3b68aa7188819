//! Carries out what the life of a job asks for.
//!
//! In: an event. Out: the record's next state, and everything that follows from it on this side:
//! outputs read, answers, waiters told, the supervisor asked. The only place that changes a life.

use std::rc::Rc;

use crate::api::processes;
use crate::process::Process;
use crate::process::life::{Answer, Effects, Event};
use crate::supervisor::message::Command;
use crate::types::{JobId, Monotonic, UnixMs};

use crate::io::host::leftovers::{self, Bound};
use crate::io::host::outputs::{ingest, trim_later};
use crate::io::host::paced::{self, Output};
use crate::io::host::rest::read_rest;
use crate::io::host::told;
use crate::io::runtime;
use crate::io::runtime::timer::sleep;
use crate::io::server::Server;

/// Something has happened to a job. Nothing follows if it is gone.
pub(crate) fn happen(server: &Rc<Server>, job: JobId, event: Event) {
    if matches!(event, Event::Exited { .. } | Event::TimedOut(_)) {
        paced::rest_is_free(server, job);
    }
    let (now, wall) = (Monotonic::now(), UnixMs::now());
    let effects = server.table.borrow_mut().on(job, event, now, wall);
    if let Some(effects) = effects {
        carry_out(server, job, effects);
    }
}

fn carry_out(server: &Rc<Server>, job: JobId, effects: Effects) {
    if effects.listen {
        listen(server, job);
    }
    if effects.read_rest {
        read_rest(server, job);
    }
    if effects.retire {
        told::ended(server, job);
        retire(server, job);
    }
    if let Some(answer) = effects.answer {
        if matches!(answer, Answer::Started) {
            told::started(server, job);
        }
        answer_create(server, job, answer);
    }
    if effects.tell
        && let Some(process) = server.table.borrow().job(job)
    {
        process.tell();
    }
    if let Some(at) = effects.wake_at {
        let server = server.clone();
        runtime::spawn(async move {
            sleep(at.since(Monotonic::now())).await;
            happen(&server, job, Event::Time);
        });
    }
    if effects.kill {
        server.command(match told_to_end(server, job) {
            // Its record tells of its end.
            true => Command::Kill { job },
            false => Command::End { job },
        });
    }
}

/// Notes that a job is about to be asked to end. Whether it is listed.
pub(crate) fn told_to_end(server: &Server, job: JobId) -> bool {
    match server.table.borrow_mut().job_mut(job) {
        Some((process, _)) => {
            process.told_to_end = true;
            process.is_listed()
        }
        None => false,
    }
}

/// Begins to read the outputs of a managed process.
fn listen(server: &Rc<Server>, job: JobId) {
    let child = server.children.borrow().get(&job).cloned();
    let is_paced = paced::is_paced(server, job);
    for &(stream, ref source) in child.iter().flat_map(|child| &child.outputs) {
        let output = Output { stream, is_paced };
        runtime::spawn(ingest(server.clone(), job, output, source.clone()));
    }
}

/// The place of what is listed is free, and its input is closed.
fn retire(server: &Rc<Server>, job: JobId) {
    let dropped = server.table.borrow_mut().retire(job);
    leftovers::make_way(server, dropped, Bound::Exited);
    let leaves = |run: &Process| run.life.kind().is_run() && run.life.left() > 0;
    let has_left = server.table.borrow().job(job).is_some_and(leaves);
    if has_left {
        leftovers::end_surplus(server);
    }
    close(server, job);
    trim_later(server);
}

/// Lets go of the descriptors of a job that has ended. Outputs that somebody holds open are read
/// on by their own tasks.
pub(crate) fn close(server: &Server, job: JobId) {
    let accepted = server.accepted_input(job);
    let child = server.children.borrow_mut().remove(&job);
    if let Some((process, _)) = server.table.borrow_mut().job_mut(job) {
        process.input_bytes += accepted;
    }
    let open = server
        .table
        .borrow()
        .job(job)
        .map_or(0, |of| of.life.open_outputs());
    if let Some(child) = child
        && open > 0
    {
        let outputs = child.outputs.iter().map(|(_, source)| source);
        leftovers::note_open(server, job, outputs);
    }
}

/// Answers who asked for a managed process, with its record as it is now. A run looks for itself.
fn answer_create(server: &Server, job: JobId, answer: Answer) {
    let result = match answer {
        Answer::Started => match server.table.borrow().job(job) {
            Some(process) => Ok(processes::reply(process)),
            None => return,
        },
        Answer::Failed(error) => Err(error),
        Answer::Ended(_) => return,
    };
    let mut creates = server.creates.borrow_mut();
    if let Some(create) = creates.get_mut(&job) {
        create.result = Some(result);
        create.done.notify();
    }
}
