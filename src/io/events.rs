//! `GET /v1/events`: what happens to records, as an event stream.
//!
//! In: a place in the history. Out: events from there on, until the client is gone or nothing can
//! happen any more. A reader costs its place and one write in flight, however many processes there
//! are; one that is slow is told what it has missed.

use std::pin::pin;
use std::rc::Rc;

use crate::api::events::write;
use crate::process::{Notify, Process};

use crate::io::conn::reader::Reader;
use crate::io::conn::writer::Writer;
use crate::io::event_stream::EventStream;
use crate::io::server::Server;

/// Bytes of one piece, but for the last event in it.
const PIECE_BYTES: usize = 32 << 10;

/// What the stream does next.
enum Step {
    Send(Vec<u8>),
    Wait { changed: Notify, version: u64 },
    End,
}

fn step(server: &Server, seen: &mut u64, labels: &[Box<str>]) -> Step {
    let table = server.table.borrow();
    let history = table.history();
    let mut piece = Vec::new();
    *seen = write(history, *seen, labels, PIECE_BYTES, &mut piece);
    if !piece.is_empty() {
        return Step::Send(piece);
    }
    // What a terminal wrote last comes with a delay, and the exit after it.
    if server.all_gone.get() && table.iter().all(Process::is_over) {
        return Step::End;
    }
    Step::Wait {
        changed: history.changes().clone(),
        version: history.changes().version(),
    }
}

/// Streams what comes behind `seen`; the head has been sent. False if the connection cannot go on.
pub(super) async fn events(
    server: &Rc<Server>,
    mut seen: u64,
    labels: &[Box<str>],
    chunked: bool,
    reader: &mut Reader,
    writer: &mut Writer,
) -> bool {
    let mut stream = EventStream::new(reader, writer, chunked);
    loop {
        let goes_on = match step(server, &mut seen, labels) {
            Step::Send(piece) => stream.send(piece).await,
            Step::Wait { changed, version } => {
                stream.wait(pin!(changed.changed(version)), None).await
            }
            Step::End => return stream.end().await.is_ok(),
        };
        if goes_on.is_err() {
            return false;
        }
    }
}
