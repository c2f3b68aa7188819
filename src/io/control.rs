//! Stop, kill, input, resize, delete: what a request does to a managed process, and its answer.
//!
//! In: what [`crate::api`] has decided. Out: the answer, once there is one.

use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::api::{Problem, Reply, Signal, processes};
use crate::process::State;
use crate::supervisor::message::Command;
use crate::supervisor::reap;
use crate::supervisor::spawn::pty;
use crate::types::{JobId, ProcessId, WindowSize};

use crate::io::conn::reader::{Filled, Reader};
use crate::io::host::input::{InputError, Patience};
use crate::io::host::outputs::trim_later;
use crate::io::runtime::race::{First, race};
use crate::io::runtime::timer::sleep;
use crate::io::server::Server;

/// How long the news of an exit may take that has happened, and the last output after it.
const EXIT_NEWS_MAX: Duration = Duration::from_secs(1);

/// Sends the signal and waits for the exit, at most `wait`.
pub(super) async fn signal_and_wait(
    server: &Server,
    id: ProcessId,
    signal: Signal,
    wait: Duration,
) -> Reply {
    let job = JobId::Process(id);
    server.command(match signal {
        Signal::Stop { grace } => Command::Stop { job, grace },
        Signal::Kill => Command::Kill { job },
    });
    until_exited(server, id, wait).await;
    match server.table.borrow().get(id) {
        None => Problem::from(id).reply(),
        Some(process) => processes::reply(process),
    }
}

/// Completes when the process is shown as exited or is gone, at the latest after `wait`.
async fn until_exited(server: &Server, id: ProcessId, wait: Duration) {
    let deadline = Instant::now() + wait;
    loop {
        let changed = match server.table.borrow().get(id) {
            Some(process) if process.state.is_running() => process.changed.clone(),
            _ => return,
        };
        let seen = changed.version();
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        race(pin!(changed.changed(seen)), pin!(sleep(left))).await;
    }
}

/// Removes the record of a process that has ended. One that counts as running may have ended, too:
/// who has waited for that by other means is faster than the news through the supervisor.
pub(super) async fn delete(server: &Rc<Server>, id: ProcessId) -> Reply {
    let state = server.table.borrow().get(id).map(|process| process.state);
    let news_to_come = match state {
        Some(State::Running { pid }) => reap::has_ended(pid),
        Some(State::Draining { .. }) => true,
        _ => false,
    };
    if news_to_come {
        until_exited(server, id, EXIT_NEWS_MAX).await;
    }
    if let Err(problem) = processes::remove(id, &mut server.table.borrow_mut()) {
        return problem.reply();
    }
    server.end(id);
    trim_later(server);
    Reply::new(204)
}

/// Writes an input; None if the client is gone, and with it the rest of the input.
pub(super) async fn input(
    server: &Server,
    id: ProcessId,
    data: &[u8],
    client: &mut Reader,
) -> Option<Reply> {
    let not_running = || Problem::conflict("process is not running").reply();
    let child = server.children.borrow().get(&id).cloned();
    let Some(child) = child else {
        return Some(not_running());
    };
    let result = {
        let write = child.input.write(server, id, data, Patience::InAll);
        // A client that half-closes waits for its answer; the write's own limit holds.
        let broken = async {
            if client.lost().await == Filled::End {
                std::future::pending::<()>().await;
            }
        };
        match race(pin!(write), pin!(broken)).await {
            First::Left(result) => result,
            First::Right(()) => return None,
        }
    };
    Some(match result {
        Ok(()) => Reply::json(format!("{{\"bytesWritten\":{}}}", data.len()).into_bytes()),
        Err(InputError::NotRunning) => not_running(),
        Err(InputError::Timeout { written }) => Problem::input_timeout(written).reply(),
        Err(InputError::Failed(errno)) => {
            let errno = errno.raw_os_error();
            let error = std::io::Error::from_raw_os_error(errno);
            Problem::stream(format!("failed to write stdin: {error}"), Some(errno)).reply()
        }
    })
}

/// Changes the size of a terminal.
pub(super) fn resize(server: &Server, id: ProcessId, size: WindowSize) -> Reply {
    let child = server.children.borrow().get(&id).cloned();
    let Some(child) = child else {
        return Problem::conflict("PTY resize handle unavailable").reply();
    };
    match pty::set_size(&**child.input.source(), size) {
        Ok(()) => {
            Reply::json(format!("{{\"cols\":{},\"rows\":{}}}", size.cols, size.rows).into_bytes())
        }
        Err(errno) => {
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
