//! A long list of records, piece by piece.
//!
//! In: the list. Out: its body. A client that reads slowly costs one piece, and nothing waits for
//! it: each piece shows the records as they are then.

use std::rc::Rc;

use crate::api::Reply;
use crate::api::list::List;
use crate::budget::{Charge, Kind};
use crate::wire::http::chunked::{CHUNK_END, LAST_CHUNK, chunk_head};
use crate::wire::http::response::Length;

use super::receive::Request;
use super::{Conn, Persistence};
use crate::io::conn::writer::Writer;
use crate::io::memory::SMALL_BYTES;
use crate::io::runtime::turn::give_way;
use crate::io::server::Server;

/// Sends `head` and the list. `room` is kept for a piece until there is one, which the writer counts:
/// many that begin at once are not all let in for the same room then. False if the connection cannot
/// go on.
async fn send_list(
    server: &Rc<Server>,
    list: &mut List,
    head: Vec<u8>,
    chunked: bool,
    room: Charge,
    writer: &mut Writer,
) -> bool {
    if writer.all(head).await.is_err() {
        return false;
    }
    drop(room);
    let (mut piece, mut more) = (list.begun(), true);
    loop {
        let framed = if chunked { frame(&piece, !more) } else { piece };
        if writer.all(framed).await.is_err() {
            return false;
        }
        if !more {
            return true;
        }
        give_way().await;
        (piece, more) = list.piece(&server.table.borrow());
    }
}

/// A piece as a chunk, and the end of the body behind the last.
fn frame(piece: &[u8], is_last: bool) -> Vec<u8> {
    let mut line = [0; 18];
    let line_len = chunk_head(piece.len(), &mut line);
    let end = if is_last { LAST_CHUNK } else { b"" };
    [&line[..line_len], piece, CHUNK_END, end].concat()
}

impl Conn {
    /// Answers with a list piece by piece.
    pub(super) async fn list(
        &mut self,
        mut request: Box<Request>,
        mut list: Box<List>,
    ) -> Persistence {
        let room = match self.server.charge(Kind::Answers, list.piece_bytes()) {
            Ok(room) => room,
            Err(problem) => return self.reply(&request, problem.reply()).await,
        };
        let reply = Reply::new(200).typed("application/json", Vec::new());
        let length = request.length_unknown();
        let chunked = length == Length::Chunked;
        let mut out = Vec::with_capacity(320);
        self.write_head(&request, &reply, length, &mut out);
        let bytes = list.bytes();
        let _held = (bytes >= SMALL_BYTES).then(|| self.server.budget.hold(Kind::Answers, bytes));
        let whole = match request.head_only {
            true => self.writer.all(out).await.is_ok(),
            false => {
                let writer = &mut self.writer;
                send_list(&self.server, &mut list, out, chunked, room, writer).await
            }
        };
        self.after_stream(&request, whole)
    }
}
