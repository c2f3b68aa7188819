//! A long log as JSON, piece by piece.
//!
//! In: a snapshot. Out: the body. A client that reads slowly costs one piece and pins on slots
//! that other readers share, not the whole text.

use std::rc::Rc;

use crate::api::Problem;
use crate::api::logs::Fetch;
use crate::budget::{Charge, Kind};
use crate::config::timeouts;

use crate::io::conn::writer::Writer;
use crate::io::host::outputs::trim_later;
use crate::io::server::Server;

/// Bytes of one piece, about.
const PIECE_BYTES: usize = 192 << 10;

/// A log that is to be sent. Gives the snapshot back when dropped, also when the connection ends
/// first.
pub(super) struct Held {
    server: Rc<Server>,
    fetch: Fetch,
    /// What the snapshot takes besides slots.
    charge: Option<Charge>,
}

impl Held {
    /// Charges what there is of it.
    ///
    /// # Errors
    /// 503 where there is no room for that and a piece.
    pub(super) fn new(server: &Rc<Server>, fetch: Fetch) -> Result<Self, Problem> {
        let bytes = fetch.snapshot.heap_bytes() as u64;
        let mut held = Self {
            server: server.clone(),
            fetch,
            charge: None,
        };
        let mut charge = server.charge(Kind::Answers, bytes + PIECE_BYTES as u64)?;
        charge.set(bytes);
        held.charge = Some(charge);
        Ok(held)
    }

    /// Bytes of the whole body.
    pub(super) fn body_len(&self) -> u64 {
        self.fetch.body_len as u64
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.fetch
            .snapshot
            .release(self.server.table.borrow_mut().arena_mut());
        trim_later(&self.server);
    }
}

/// Writes `head` and the body. False if the connection cannot go on.
pub(super) async fn fetch(
    mut held: Held,
    head: Vec<u8>,
    head_only: bool,
    writer: &mut Writer,
) -> bool {
    if writer.all(head).await.is_err() {
        return false;
    }
    let mut more = !head_only;
    while more {
        let mut piece = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 2);
        {
            let table = held.server.table.borrow();
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
