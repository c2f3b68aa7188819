//! Signals that clients ask for, on this side of the threads.
//!
//! In: which signal, to whom. Out: that it has been sent, or why nobody got it. Owns the requests
//! that the supervisor has not answered, each under a number of its own.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::pin;

use rustix::termios::tcgetpgrp;

use crate::api::signal::{Signalling, no_foreground, not_running};
use crate::api::{Problem, Reply, processes};
use crate::config::timeouts;
use crate::process::Notify;
use crate::supervisor::message::{Command, Escalation, SignalError, SignalRequest};
use crate::types::ProcessId;
use crate::types::signal::Scope;

use crate::io::conn::reader::Reader;
use crate::io::server::Server;
use crate::io::wait::{Limits, Waited, for_client, until};

/// What the supervisor says of one request.
type Answer = Option<Result<(), SignalError>>;

/// Requests that are not answered.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    last: Cell<u64>,
    open: RefCell<HashMap<u64, (Answer, Notify)>>,
}

impl Asked {
    /// The supervisor has answered. Nothing if nobody waits any more.
    pub(crate) fn answer(&self, ticket: u64, result: Result<(), SignalError>) {
        if let Some((answer, done)) = self.open.borrow_mut().get_mut(&ticket) {
            *answer = Some(result);
            done.notify();
        }
    }
}

/// A request that somebody waits for.
struct Ticket<'a> {
    asked: &'a Asked,
    number: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.asked.open.borrow_mut().remove(&self.number);
    }
}

/// Sends a signal; completes once it has been sent.
///
/// # Errors
/// 404; 409 if there is nobody to get it, 502 if the kernel refuses.
pub(crate) async fn send(
    server: &Server,
    id: ProcessId,
    signalling: Signalling,
) -> Result<(), Problem> {
    let foreground = match signalling.scope {
        Scope::Foreground => foreground(server, id)?,
        Scope::Leader | Scope::Group | Scope::Tree => 0,
    };
    let job = match server.table.borrow_mut().get_mut(id) {
        None => return Err(id.into()),
        Some((process, _)) if !process.life.is_running() => return Err(not_running()),
        Some((process, _)) => {
            process.told_to_end |= signalling.is_to_end();
            process.job
        }
    };
    let asked = &server.signals;
    let number = asked.last.get() + 1;
    asked.last.set(number);
    let ticket = Ticket { asked, number };
    let none = (None, Notify::default());
    asked.open.borrow_mut().insert(number, none);
    server.command(Command::Signal {
        job,
        request: SignalRequest {
            signal: signalling.signal,
            scope: signalling.scope,
            foreground,
            escalation: signalling
                .escalation
                .map(|(after, signal)| Escalation { signal, after }),
        },
        ticket: number,
    });
    let result = until(|| match asked.open.borrow().get(&number) {
        Some((None, done)) => Err(done.clone()),
        Some((Some(result), _)) => Ok(*result),
        None => Ok(Err(SignalError::NotRunning)),
    });
    let result = result.await;
    drop(ticket);
    result.map_err(|error| match error {
        SignalError::NotRunning => not_running(),
        SignalError::NoForeground => no_foreground(),
        SignalError::Refused(errno) => {
            let error = std::io::Error::from_raw_os_error(errno);
            Problem::stream(format!("failed to send the signal: {error}"), Some(errno))
        }
    })
}

/// The number of the foreground group of a terminal (tcgetpgrp(3)). Whoever uses it makes sure
/// that it means some of the tree.
fn foreground(server: &Server, id: ProcessId) -> Result<i32, Problem> {
    let Some(input) = server.input(id) else {
        return Err(not_running());
    };
    let terminal = input.terminal().ok_or_else(no_foreground)?;
    match tcgetpgrp(&**terminal) {
        Ok(group) => Ok(group.as_raw_nonzero().get()),
        // None, or one that this PID namespace does not show.
        Err(_) => Err(no_foreground()),
    }
}

/// Sends a signal and answers with the record; None if the client is gone.
pub(super) async fn signal(
    server: &Server,
    id: ProcessId,
    signalling: Signalling,
    client: &mut Reader,
) -> Option<Reply> {
    let limits = Limits {
        in_all: None,
        half_closed: timeouts::HALF_CLOSED_MAX,
    };
    let sent = match for_client(pin!(send(server, id, signalling)), limits, client).await {
        Waited::Done(sent) => sent,
        Waited::TimeUp => Ok(()),
        Waited::Gone => return None,
    };
    Some(match (sent, server.table.borrow().get(id)) {
        (Err(problem), _) => problem.reply(),
        (Ok(()), None) => Problem::from(id).reply(),
        (Ok(()), Some(process)) => processes::reply(process),
    })
}
