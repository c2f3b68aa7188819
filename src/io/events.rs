//! `GET /v1/events`: what happens to records, as an event stream.
//!
//! In: a place in the history. Out: events from there on, until the client is gone or nothing can
//! happen any more. A reader costs its place and one write in flight, however many processes there
//! are; one that is slow is told what it has missed.

use std::pin::pin;
use std::rc::Rc;

use std::time::Instant;

use crate::api::activity::Activity;
use crate::api::events::write;
use crate::metrics::present;
use crate::process::{Notify, Process};
use crate::types::UnixMs;
use crate::wire::sse::write_place;

use crate::io::conn::reader::Reader;
use crate::io::conn::writer::Writer;
use crate::io::event_stream::EventStream;
use crate::io::server::Server;

/// Bytes of one piece, but for the last event in it.
const PIECE_BYTES: usize = 32 << 10;

/// What a client wants to be told of.
#[derive(Debug)]
pub(super) struct Watch {
    /// Events behind this one.
    pub(super) seen: u64,
    /// Labels that must fit.
    pub(super) labels: Vec<Box<str>>,
    /// Output and followers, if it wants that.
    pub(super) activity: Option<Box<Activity>>,
}

/// What the stream does next.
enum Step {
    Send(Vec<u8>),
    Wait { changed: Notify, version: u64 },
    End,
}

fn step(server: &Server, watch: &mut Watch, due: &mut Instant) -> Step {
    let table = server.table.borrow();
    let history = table.history();
    let mut piece = Vec::new();
    let labels = &watch.labels;
    watch.seen = write(history, watch.seen, labels, PIECE_BYTES, &mut piece);
    if let Some(activity) = &mut watch.activity
        && Instant::now() >= *due
    {
        activity.write(&table, labels, UnixMs::now(), &mut piece);
        *due = Instant::now() + activity.every;
    }
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

/// Streams what is watched; the head has been sent. False if the connection cannot go on.
pub(super) async fn events(
    server: &Rc<Server>,
    mut watch: Watch,
    chunked: bool,
    reader: &mut Reader,
    writer: &mut Writer,
) -> bool {
    let _present = present(|all| &all.watchers);
    let mut stream = EventStream::new(reader, writer, chunked);
    let mut due = Instant::now();
    // Who is cut off before the first event comes back behind what it has not missed.
    let mut place = Vec::new();
    write_place(watch.seen, &mut place);
    if stream.send(place).await.is_err() {
        return false;
    }
    loop {
        let goes_on = match step(server, &mut watch, &mut due) {
            Step::Send(piece) => stream.send(piece).await,
            Step::Wait { changed, version } => {
                let until = watch.activity.is_some().then_some(due);
                stream.wait(pin!(changed.changed(version)), until).await
            }
            Step::End => return stream.end().await.is_ok(),
        };
        if goes_on.is_err() {
            return false;
        }
    }
}
