//! A long log as JSON, piece by piece.
//!
//! In: a snapshot. Out: the body. A client that reads slowly costs one piece and pins on slots
//! that other readers share, not the whole text.

use std::rc::Rc;

use crate::api::logs::Fetch;
use crate::api::{Problem, Reply};
use crate::budget::{Charge, Kind};
use crate::config::timeouts;
use crate::wire::http::response::Length;

use super::receive::Request;
use super::{Conn, Persistence};
use crate::io::conn::writer::Writer;
use crate::io::host::outputs::trim_later;
use crate::io::server::Server;

/// Bytes of one piece, about.
const PIECE_BYTES: usize = 192 << 10;

/// Room for one: the entry that makes it one may be long.
const ROOM_BYTES: usize = PIECE_BYTES + PIECE_BYTES / 2;

/// A log that is to be sent. Gives the snapshot back when dropped, also when the connection ends
/// first.
struct Held {
    server: Rc<Server>,
    fetch: Fetch,
    /// What the snapshot takes besides slots; with a piece, until there is one, which its writer
    /// counts. Many that begin at once are not all let in for the same room then.
    charge: Option<Charge>,
}

impl Held {
    /// Charges what there is of it.
    ///
    /// # Errors
    /// 503 where there is no room for that and a piece.
    fn new(server: &Rc<Server>, fetch: Fetch) -> Result<Self, Problem> {
        let bytes = fetch.snapshot.heap_bytes() as u64;
        let mut held = Self {
            server: server.clone(),
            fetch,
            charge: None,
        };
        held.charge = Some(server.charge(Kind::Answers, bytes + ROOM_BYTES as u64)?);
        Ok(held)
    }

    /// A piece is handed to its writer now.
    fn has_piece(&mut self) {
        let bytes = self.fetch.snapshot.heap_bytes() as u64;
        if let Some(charge) = &mut self.charge {
            charge.set(bytes);
        }
    }

    /// Bytes of the whole body.
    fn body_len(&self) -> u64 {
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
async fn fetch(mut held: Held, head: Vec<u8>, head_only: bool, writer: &mut Writer) -> bool {
    if writer.all(head).await.is_err() {
        return false;
    }
    let mut more = !head_only;
    while more {
        let mut piece = Vec::with_capacity(ROOM_BYTES);
        {
            let table = held.server.table.borrow();
            if held.fetch.snapshot.is_void(table.arena()) {
                // Others needed the memory; the client sees that it has not got all of it.
                return false;
            }
            more = held.fetch.piece(table.arena(), PIECE_BYTES, &mut piece);
        }
        held.has_piece();
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

impl Conn {
    pub(super) async fn fetch(&mut self, request: Box<Request>, what: Fetch) -> Persistence {
        let held = match Held::new(&self.server, what) {
            Ok(held) => held,
            Err(problem) => return self.reply(&request, problem.reply()).await,
        };
        let reply = Reply::new(200).typed("application/json", Vec::new());
        let mut out = Vec::with_capacity(320);
        self.write_head(&request, &reply, Length::Known(held.body_len()), &mut out);
        let whole = fetch(held, out, request.head_only, &mut self.writer).await;
        self.after_stream(&request, whole)
    }
}
