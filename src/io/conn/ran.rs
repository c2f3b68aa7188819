//! The answer to a run that wrote much, piece by piece.
//!
//! In: the answer, to be made of what the run wrote. Out: its length, then its bytes. A client that
//! reads slowly costs one piece besides the slots that the output is in, and it has to take each
//! piece within a time, because it holds them.

use std::pin::pin;

use crate::config::timeouts;

use crate::io::conn::reader::{Filled, Reader};
use crate::io::conn::writer::Writer;
use crate::io::host::run::Long;
use crate::io::runtime::race::{First, race};
use crate::io::runtime::turn::rest;

/// Output of one piece; it may become six times as much.
const PIECE_BYTES: u64 = 64 << 10;

/// Pieces that are measured before others have their turn.
const PIECES_MAX: usize = 8;

/// How long the answer will be; None if the client is gone.
pub(super) async fn measure(long: &mut Long, reader: &mut Reader) -> Option<u64> {
    let (mut len, mut pieces) = (0, 0);
    let mut piece = Vec::new();
    loop {
        piece.clear();
        let more = long.piece(PIECE_BYTES, &mut piece);
        len += piece.len() as u64;
        if !more {
            long.rewind();
            return Some(len);
        }
        pieces += 1;
        if pieces % PIECES_MAX == 0
            && let First::Right(Filled::Broken) = race(pin!(rest()), pin!(reader.lost())).await
        {
            return None;
        }
    }
}

/// Sends `head` and the answer. False if the connection cannot go on.
pub(super) async fn send_long(
    long: &mut Long,
    mut head: Vec<u8>,
    head_only: bool,
    writer: &mut Writer,
) -> bool {
    let mut more = !head_only;
    if more {
        more = long.piece(PIECE_BYTES, &mut head);
    }
    loop {
        if writer.within(head, timeouts::HELD_PIECE_MAX).await.is_err() {
            return false;
        }
        if !more {
            return true;
        }
        head = Vec::new();
        more = long.piece(PIECE_BYTES, &mut head);
    }
}
