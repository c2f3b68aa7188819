//! A long log as JSON, piece by piece.
//!
//! In: a snapshot. Out: the body. A client that reads slowly costs one piece and pins on slots
//! that other readers share, not the whole text.

use std::rc::Rc;

use crate::api::logs::Fetch;
use crate::config::timeouts;

use crate::io::conn::writer::Writer;
use crate::io::host::outputs::trim_later;
use crate::io::server::Server;

/// Bytes of one piece, about.
const PIECE_BYTES: usize = 192 << 10;

/// Gives the snapshot back when dropped, also when the connection ends first.
struct Held<'a> {
    server: &'a Rc<Server>,
    fetch: Fetch,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.fetch
            .snapshot
            .release(self.server.table.borrow_mut().arena_mut());
        trim_later(self.server);
    }
}

/// Writes `head` and the body. False if the connection cannot go on.
pub(crate) async fn fetch(
    server: &Rc<Server>,
    fetch: Fetch,
    head: Vec<u8>,
    head_only: bool,
    writer: &mut Writer,
) -> bool {
    let mut held = Held { server, fetch };
    if writer.all(head).await.is_err() {
        return false;
    }
    let mut more = !head_only;
    while more {
        let mut piece = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 2);
        {
            let table = server.table.borrow();
            if held.fetch.snapshot.is_void(table.arena()) {
                // Others needed the memory; the client sees that it has not got all of it.
                return false;
            }
            more = held.fetch.piece(table.arena(), PIECE_BYTES, &mut piece);
        }
        if writer
            .within(piece, timeouts::HELD_PIECE_MAX)
            .await
            .is_err()
        {
            return false;
        }
    }
    true
}
