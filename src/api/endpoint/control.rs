//! Stop, kill, input, resize, attach: what acts on a running process.

use std::time::Duration;

use crate::config::timeouts;
use crate::types::WindowSize;
use crate::wire::say::input::Accepted;
use crate::wire::ws::handshake::Accept;

use super::processes::{self, find};
use crate::api::body::{self, InputBody, InputEncoding, ResizeBody};
use crate::api::problem::Problem;
use crate::api::query::{StdinQuery, TerminalQuery};
use crate::api::reply::Reply;
use crate::api::route::Id;
use crate::api::{Core, Outcome, Signal};

fn wait(asked_ms: Option<u64>) -> Duration {
    asked_ms.map_or(timeouts::WAIT_DEFAULT, |ms| {
        Duration::from_millis(ms).min(timeouts::WAIT_MAX)
    })
}

/// SIGTERM to a running process; an exited one is answered as it is.
///
/// # Errors
/// 404.
pub(crate) fn stop(
    id: &Id,
    wait_ms: Option<u64>,
    grace_ms: Option<u64>,
    core: &Core<'_>,
) -> Result<Outcome, Problem> {
    let process = find(id, core)?;
    if !process.life.is_running() {
        return Ok(Outcome::Reply(processes::reply(process)));
    }
    let grace = grace_ms.map(|ms| Duration::from_millis(ms).min(timeouts::WAIT_MAX));
    Ok(Outcome::Signal {
        id: process.id,
        signal: Signal::Stop { grace },
        wait: wait(wait_ms),
    })
}

/// SIGKILL to the tree of a process, also of an exited one.
///
/// # Errors
/// 404.
pub(crate) fn kill(id: &Id, wait_ms: Option<u64>, core: &Core<'_>) -> Result<Outcome, Problem> {
    let process = find(id, core)?;
    Ok(Outcome::Signal {
        id: process.id,
        signal: Signal::Kill,
        wait: wait(wait_ms),
    })
}

/// Checks an input. Its encoding and size are looked at before the process.
///
/// # Errors
/// 400, 413 or 422 for the body, 404, 409 for an exited process.
pub(crate) fn input(id: &Id, bytes: &[u8], core: &Core<'_>) -> Result<Outcome, Problem> {
    let request = InputBody::read(bytes, core.strict)?;
    let encoding = InputEncoding::parse(request.encoding.as_deref(), InputEncoding::Base64)?;
    let data = body::input_bytes(
        request.data.unwrap_or_default(),
        encoding,
        core.settings.max_input_bytes_per_request,
    )?;
    let process = find(id, core)?;
    if !process.life.is_running() {
        return Err(Problem::conflict("process is not running"));
    }
    Ok(Outcome::Input {
        id: process.id,
        data,
        offset: request.offset,
        eof: request.eof,
    })
}

/// Checks whether raw input can be passed on.
///
/// # Errors
/// 404, 409 for an exited process.
pub(crate) fn stdin(id: &Id, query: StdinQuery, core: &Core<'_>) -> Result<Outcome, Problem> {
    let process = find(id, core)?;
    if !process.life.is_running() {
        return Err(Problem::conflict("process is not running"));
    }
    let id = process.id;
    Ok(Outcome::Stdin { id, query })
}

/// Asks for the end of input; one that has exited has had it.
///
/// # Errors
/// 404.
pub(crate) fn close_stdin(id: &Id, core: &Core<'_>) -> Result<Outcome, Problem> {
    let process = find(id, core)?;
    Ok(match process.life.is_running() {
        true => Outcome::CloseStdin { id: process.id },
        false => Outcome::Reply(Reply::new(204)),
    })
}

/// The answer to an input that was taken over; `offset` where the request asks for it.
pub(crate) fn accepted(accepted: Accepted) -> Reply {
    Reply::json(accepted.json())
}

/// Checks a new window size.
///
/// # Errors
/// 400 for a size out of range, 422 for a bad body, 404, 409 without a terminal.
pub(crate) fn resize(id: &Id, bytes: &[u8], core: &Core<'_>) -> Result<Outcome, Problem> {
    let request: ResizeBody = body::object(bytes, core.strict)?;
    let size = window(request.cols, request.rows)?;
    let process = find(id, core)?;
    if !process.description.tty {
        return Err(Problem::conflict("process is not running in tty mode"));
    }
    if !process.life.is_running() {
        return Err(Problem::conflict("PTY resize handle unavailable"));
    }
    Ok(Outcome::Resize {
        id: process.id,
        size,
    })
}

/// A size that a terminal may have.
///
/// # Errors
/// 400 beyond [`WindowSize::SIDE_MAX`] and for a zero.
pub(crate) fn window(cols: u16, rows: u16) -> Result<WindowSize, Problem> {
    let sides = 1..=WindowSize::SIDE_MAX;
    if !sides.contains(&cols) || !sides.contains(&rows) {
        return Err(Problem::invalid(format!(
            "cols and rows must be between 1 and {}",
            WindowSize::SIDE_MAX
        )));
    }
    Ok(WindowSize { cols, rows })
}

/// Checks whether a terminal can be attached to.
///
/// # Errors
/// 404, 409 without a terminal.
pub(crate) fn terminal(
    id: &Id,
    query: TerminalQuery,
    accept: Accept,
    core: &Core<'_>,
) -> Result<Outcome, Problem> {
    let process = find(id, core)?;
    if !process.description.tty {
        return Err(Problem::conflict("process is not running in tty mode"));
    }
    Ok(Outcome::Terminal {
        id: process.id,
        query,
        accept,
    })
}
