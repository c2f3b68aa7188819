//! The answer to a run that wrote much, piece by piece.
//!
//! In: the answer, to be made of what the run wrote. Out: its length, then its bytes. A client that
//! reads slowly costs one piece besides the slots that the output is in, and it has to take each
//! piece within a time, because it holds them.

use std::pin::pin;

use crate::api::Reply;
use crate::api::idempotency::REPLAYED;
use crate::api::run::Progress;
use crate::config::timeouts;
use crate::wire::http::response::Length;

use super::receive::Request;
use super::{Conn, Persistence};
use crate::io::conn::reader::Filled;
use crate::io::conn::writer::Writer;
use crate::io::host::run::Long;
use crate::io::runtime::race::{First, race};
use crate::io::runtime::turn::rest;
use crate::io::wait::Client;

/// Output of one piece; it may become six times as much.
const PIECE_BYTES: u64 = 64 << 10;

/// Pieces that are measured before others have their turn.
const PIECES_MAX: usize = 8;

/// How long the answer will be; None if the client is gone.
pub(crate) async fn measure(long: &Long, client: &mut impl Client) -> Option<u64> {
    let (mut len, mut pieces) = (0, 0);
    let mut progress = Progress::default();
    let mut piece = Vec::new();
    loop {
        piece.clear();
        let more = long.piece(&mut progress, PIECE_BYTES, &mut piece);
        len += piece.len() as u64;
        if !more {
            return Some(len);
        }
        pieces += 1;
        if pieces % PIECES_MAX == 0
            && let First::Right(Filled::Broken) = race(pin!(rest()), pin!(client.lost())).await
        {
            return None;
        }
    }
}

/// All of an answer of `len` bytes.
pub(crate) async fn whole(long: &Long, len: u64) -> Reply {
    let mut body = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    let (mut progress, mut pieces) = (Progress::default(), 0);
    while long.piece(&mut progress, PIECE_BYTES, &mut body) {
        pieces += 1;
        if pieces % PIECES_MAX == 0 {
            rest().await;
        }
    }
    Reply::json(body)
}

/// Sends `head` and the answer. False if the connection cannot go on.
async fn send_long(long: &Long, mut head: Vec<u8>, head_only: bool, writer: &mut Writer) -> bool {
    let mut progress = Progress::default();
    let mut more = !head_only;
    if more {
        more = long.piece(&mut progress, PIECE_BYTES, &mut head);
    }
    loop {
        if writer.within(head, timeouts::HELD_PIECE_MAX).await.is_err() {
            return false;
        }
        if !more {
            return true;
        }
        head = Vec::new();
        more = long.piece(&mut progress, PIECE_BYTES, &mut head);
    }
}

impl Conn {
    /// Answers a run piece by piece.
    pub(super) async fn ran(&mut self, request: Box<Request>, long: Box<Long>) -> Persistence {
        match measure(&long, &mut self.reader).await {
            Some(len) => self.send_ran(request, &long, len, false).await,
            None => Persistence::Close,
        }
    }

    /// Sends an answer of `len` bytes piece by piece. `replayed`: it was another request's.
    pub(super) async fn send_ran(
        &mut self,
        request: Box<Request>,
        long: &Long,
        len: u64,
        replayed: bool,
    ) -> Persistence {
        let mut reply = Reply::new(200).typed("application/json", Vec::new());
        if replayed {
            let (name, value) = REPLAYED;
            reply = reply.header(name, value);
        }
        let mut out = Vec::with_capacity(320);
        self.write_head(&request, &reply, Length::Known(len), &mut out);
        let whole = send_long(long, out, request.head_only, &mut self.writer).await;
        self.after_stream(&request, whole)
    }
}
