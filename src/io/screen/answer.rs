//! A screen as an answer, and as what a viewer of a terminal is shown.

use std::pin::pin;
use std::rc::Rc;

use crate::api::screen::{Format, ScreenQuery};
use crate::api::{Problem, Reply};
use crate::config::timeouts;
use crate::types::ProcessId;
use crate::wire::say::screen as say;
use crate::wire::vt::screen::BEGIN;

use super::make;
use super::make::{bytes, is_too_large};
use crate::budget::Kind;
use crate::io::conn::reader::Reader;
use crate::io::server::Server;
use crate::io::wait::{Limits, Waited, for_client};

/// Answers with the screen; None if the client is gone.
pub(crate) async fn answer(
    server: &Rc<Server>,
    id: ProcessId,
    query: ScreenQuery,
    client: &mut Reader,
) -> Option<Reply> {
    let limits = Limits {
        in_all: None,
        half_closed: timeouts::HALF_CLOSED_MAX,
    };
    // Looked at only: what it takes is counted while it is made.
    let bytes = bytes(server, id, query.scrollback);
    if let Err(problem) = server.charge(Kind::Records, bytes) {
        return Some(problem.reply());
    }
    let mut made = pin!(make(server, id, query.scrollback));
    let made = match for_client(made.as_mut(), limits, client).await {
        Waited::Done(made) => made,
        Waited::TimeUp => made.await,
        Waited::Gone => return None,
    };
    let Some(made) = made else {
        return Some(Problem::from(id).reply());
    };
    let how = say::Made {
        sequence: made.sequence,
        is_complete: made.is_complete,
        scrollback: query.scrollback,
    };
    Some(match query.format {
        Format::Json => Reply::json(say::json(made.screen(), how)),
        Format::Text => {
            let text = say::text(made.screen(), how);
            Reply::new(200).typed("text/plain; charset=utf-8", text)
        }
        Format::Ansi => {
            let mut drawing = Vec::new();
            made.screen().redraw(query.scrollback, &mut drawing);
            Reply::new(200).typed("application/octet-stream", drawing)
        }
    })
}

/// What brings a viewer to where a terminal is.
pub(crate) struct Drawn {
    /// Output to send.
    pub(crate) bytes: Vec<u8>,
    /// The last entry that it shows; what comes next follows without a break.
    pub(crate) sequence: u64,
}

/// Draws a terminal for a viewer that comes, returns or was outrun, with the last `scrollback`
/// lines that have scrolled out. None if the record is gone. One that is too large for the server is
/// empty: what the program writes next is seen. Takes its time; the entry that follows is the next one
/// at the moment of return.
pub(crate) async fn redraw(server: &Rc<Server>, id: ProcessId, scrollback: u16) -> Option<Drawn> {
    if is_too_large(server, id) {
        let table = server.table.borrow();
        return table.get(id).map(|process| Drawn {
            bytes: BEGIN.to_vec(),
            sequence: process.log.last(),
        });
    }
    let made = make(server, id, scrollback).await?;
    let mut bytes = Vec::new();
    made.screen().redraw(scrollback, &mut bytes);
    Some(Drawn {
        bytes,
        sequence: made.sequence,
    })
}
