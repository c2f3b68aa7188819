//! Stop, kill, resize, delete: what a request does to a managed process, and its answer.
//!
//! In: what [`crate::api`] has decided. Out: the answer, once there is one.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use crate::api::{Problem, Reply, Signal, processes};
use crate::config::timeouts;
use crate::process::Process;
use crate::process::life::State;
use crate::supervisor::message::Command;
use crate::supervisor::reap;
use crate::types::{ProcessId, WindowSize};
use crate::wire::say;

use crate::io::conn::reader::Reader;
use crate::io::host::outputs::trim_later;
use crate::io::host::sizes::{self, SizeError};
use crate::io::runtime;
use crate::io::runtime::timer::within;
use crate::io::server::Server;
use crate::io::wait::{Limits, Waited, exited, for_client, until_process};

/// Sends the signal and waits, at most `wait`: for the exit, or, if that has been, for the end of
/// what is left of the tree. None if the client is gone; what it asked for is done all the same.
pub(super) async fn signal_and_wait(
    server: &Server,
    id: ProcessId,
    signal: Signal,
    wait: Duration,
    client: &mut Reader,
) -> Option<Reply> {
    let Some((job, running)) = server.table.borrow_mut().get_mut(id).map(|(process, _)| {
        let running = process.life.is_running();
        process.told_to_end |= running;
        (process.job, running)
    }) else {
        return Some(Problem::from(id).reply());
    };
    server.command(match signal {
        Signal::Stop { grace } => Command::Stop { job, grace },
        Signal::Kill => Command::Kill { job },
    });
    let ended = until_process(server, id, |process| match running {
        true => !process.life.is_running(),
        false => process.life.left() == 0,
    });
    let limits = Limits {
        in_all: Some(wait),
        half_closed: timeouts::HALF_CLOSED_MAX,
    };
    if for_client(pin!(ended), limits, client).await == Waited::Gone {
        return None;
    }
    Some(match server.table.borrow().get(id) {
        None => Problem::from(id).reply(),
        Some(process) => processes::reply(process),
    })
}

/// Removes the record of a process that has ended; None if the client is gone. What is left of its
/// tree lives on, or with `tree` is ended before.
pub(super) async fn delete(
    server: &Rc<Server>,
    id: ProcessId,
    tree: bool,
    client: &mut Reader,
) -> Option<Reply> {
    let limits = Limits {
        in_all: None,
        half_closed: timeouts::HALF_CLOSED_MAX,
    };
    let ended = pin!(ended_for_removal(server, id, tree));
    if for_client(ended, limits, client).await == Waited::Gone {
        let server = server.clone();
        runtime::spawn(async move {
            ended_for_removal(&server, id, tree).await;
            remove(&server, id);
        });
        return None;
    }
    Some(remove(server, id))
}

/// Completes when a record may be removed, or when that has been waited for long enough. A process
/// that counts as running may have ended: who has waited for that by other means is faster than
/// the news through the supervisor.
async fn ended_for_removal(server: &Server, id: ProcessId, tree: bool) {
    let state = server
        .table
        .borrow()
        .get(id)
        .map(|process| process.life.state());
    let news_to_come = match state {
        Some(State::Running { pid }) => reap::has_ended(pid),
        Some(State::Draining { .. }) => true,
        _ => false,
    };
    if news_to_come {
        within(timeouts::EXIT_NEWS_MAX, pin!(exited(server, id))).await;
    }
    if tree {
        let exited = |process: &&Process| !process.life.is_running();
        let job = server.table.borrow().get(id).filter(exited).map(|p| p.job);
        if let Some(job) = job {
            server.command(Command::Kill { job });
            let gone = until_process(server, id, |process| process.life.left() == 0);
            within(timeouts::TREE_END_MAX, pin!(gone)).await;
        }
    }
}

fn remove(server: &Rc<Server>, id: ProcessId) -> Reply {
    let removed = processes::remove(id, &mut server.table.borrow_mut());
    let job = match removed {
        Ok(job) => job,
        Err(problem) => return problem.reply(),
    };
    server.forget(job);
    trim_later(server);
    Reply::new(204)
}

/// Changes the size of a terminal.
pub(super) fn resize(server: &Server, id: ProcessId, size: WindowSize) -> Reply {
    match sizes::set(server, id, size) {
        Ok(()) => Reply::json(say::input::window(size)),
        Err(SizeError::NotRunning) => Problem::conflict("PTY resize handle unavailable").reply(),
        Err(SizeError::Failed(errno)) => {
            let errno = errno.raw_os_error();
            let error = std::io::Error::from_raw_os_error(errno);
            Problem::stream(
                format!("failed to resize the terminal: {error}"),
                Some(errno),
            )
            .reply()
        }
    }
}
