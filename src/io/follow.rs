//! The log as an event stream: cursor to socket.
//!
//! In: a cursor. Out: events until the process is over, its record is deleted or the peer is
//! gone. Replay and live output are one loop. A slow peer costs a cursor and one write in flight;
//! it holds up nobody.

use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use crate::log::batch::{Chunk, Encoder, Found, HEAD_BYTES_MAX};
use crate::log::index::Entry;
use crate::log::{Cursor, Select};
use crate::metrics::{metrics, present};
use crate::process::life::State;
use crate::types::{Monotonic, ProcessId};
use crate::wire::http::chunked::{CHUNK_END, chunk_head};
use crate::wire::say::entry::{EntryHead, write_event};
use crate::wire::say::events;
use crate::wire::sse;

use crate::io::conn::reader::Reader;
use crate::io::conn::writer::Writer;
use crate::io::event_stream::EventStream;
use crate::io::runtime::timer::instant;
use crate::io::runtime::turn::rest;
use crate::io::server::Server;

/// Entries as events, a batch as one HTTP chunk.
struct Events;

impl Encoder for Events {
    fn entry(&self, entry: &Entry, data: &[u8], out: &mut Vec<u8>) {
        let head = EntryHead {
            sequence: entry.sequence,
            stream: entry.stream.as_str(),
            timestamp_ms: entry.timestamp_ms,
        };
        write_event(&head, data, out);
    }

    fn head(&self, body_len: usize, head: &mut [u8; HEAD_BYTES_MAX]) -> usize {
        chunk_head(body_len, head)
    }

    fn trailer(&self) -> &'static [u8] {
        CHUNK_END
    }
}

/// Counted among a log's readers until dropped.
struct Joined<'a> {
    server: &'a Server,
    id: ProcessId,
    select: Select,
}

impl<'a> Joined<'a> {
    fn new(server: &'a Server, id: ProcessId, select: Select) -> Self {
        if let Some((process, _)) = server.table.borrow_mut().get_mut(id) {
            process.extras.make().shared.make().events.join(&select);
        }
        Self { server, id, select }
    }
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        if let Some((process, _)) = self.server.table.borrow_mut().get_mut(self.id) {
            process
                .extras
                .make()
                .shared
                .make()
                .events
                .leave(&self.select);
        }
    }
}

/// What the stream does next.
enum Step {
    Send(Chunk),
    Event(Vec<u8>),
    Last(Vec<u8>),
    /// There was much to pass; go on when others have had their turn.
    Rest,
    Wait {
        seen: u64,
        changed: crate::process::Notify,
        until: Option<Instant>,
    },
    Gone,
}

fn step(server: &Rc<Server>, id: ProcessId, cursor: &mut Cursor) -> Step {
    let mut table = server.table.borrow_mut();
    let Some((process, arena)) = table.get_mut(id) else {
        return Step::Gone;
    };
    let mut event = Vec::new();
    let events = &mut process.extras.make().shared.make().events;
    match events.next(&process.log, arena, cursor, &Events) {
        Found::Chunk(chunk) => Step::Send(chunk),
        Found::Gap(gap) => {
            metrics(|all| all.gap(gap.bytes));
            server.tell_gap(id, gap.bytes);
            sse::write_event(
                "gap",
                None,
                &events::gap(gap.from, gap.to, gap.bytes),
                &mut event,
            );
            Step::Event(event)
        }
        Found::Unwanted => Step::Rest,
        Found::Nothing => match process.life.state() {
            State::Over {
                end, complete_at, ..
            } => {
                if process.life.is_complete(Monotonic::now()) {
                    let last = process.log.last();
                    // An EventSource sends the id when it comes back, whatever it was shown, and
                    // is told by a 204 that there is no more.
                    sse::write_event(
                        "exit",
                        Some(last),
                        &events::exit(end.status(), last),
                        &mut event,
                    );
                    return Step::Last(event);
                }
                Step::Wait {
                    seen: process.changed.version(),
                    changed: process.changed.clone(),
                    until: Some(instant(complete_at)),
                }
            }
            _ => Step::Wait {
                seen: process.changed.version(),
                changed: process.changed.clone(),
                until: None,
            },
        },
    }
}

/// Streams from `cursor` on; the head has been sent. False if the connection cannot go on.
pub(super) async fn follow(
    server: &Rc<Server>,
    id: ProcessId,
    mut cursor: Box<Cursor>,
    chunked: bool,
    reader: &mut Reader,
    writer: &mut Writer,
) -> bool {
    let _joined = Joined::new(server, id, *cursor.select());
    let _present = present(|all| &all.followers);
    let mut stream = EventStream::new(reader, writer, chunked);
    loop {
        let goes_on = match step(server, id, &mut cursor) {
            Step::Send(chunk) => stream.chunk(chunk).await,
            Step::Event(event) => stream.send(event).await,
            Step::Last(event) => {
                return stream.send(event).await.is_ok() && stream.end().await.is_ok();
            }
            Step::Gone => return stream.end().await.is_ok(),
            Step::Rest => {
                rest().await;
                continue;
            }
            Step::Wait {
                seen,
                changed,
                until,
            } => stream.wait(pin!(changed.changed(seen)), until).await,
        };
        if goes_on.is_err() {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Follow<'a, F> =
        fn(&'a Rc<Server>, ProcessId, Box<Cursor>, bool, &'a mut Reader, &'a mut Writer) -> F;

    fn size<F>(_: Follow<'_, F>) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_follower_that_waits_is_small() {
        // It was 744 with two cursors and room for a write.
        assert!(size(follow) <= 520, "{} bytes", size(follow));
    }
}
