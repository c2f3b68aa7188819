//! A request body as it comes, whatever its framing.
//!
//! In: received bytes. Out: those that are the body's, and where it ends. Owns the state between
//! two pieces, no bytes.

use std::ops::Deref;

use crate::wire::http::chunked::{ChunkDecoder, ChunkError, Progress};
use crate::wire::http::head::BodyFraming;

use crate::io::conn::reader::Reader;

/// The rest of a body.
#[derive(Debug)]
pub(crate) enum Body {
    /// So many bytes are to come.
    Length(u64),
    /// Chunks.
    Chunked(ChunkDecoder),
}

/// A part of a body.
#[derive(Debug)]
pub(crate) struct Piece {
    bytes: Vec<u8>,
    start: usize,
}

impl Piece {
    /// These bytes.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self { bytes, start: 0 }
    }

    /// Forgets the first `len` bytes.
    pub(crate) fn skip(&mut self, len: usize) {
        self.start += len;
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

impl Body {
    /// A body of this framing; of chunks no more than `bytes_max` bytes are taken.
    pub(crate) fn new(framing: BodyFraming, bytes_max: u64) -> Self {
        match framing {
            BodyFraming::Empty => Body::Length(0),
            BodyFraming::Length(bytes) => Body::Length(bytes),
            BodyFraming::Chunked => Body::Chunked(ChunkDecoder::new(bytes_max)),
        }
    }

    /// The rest of one that another server has begun with: so many bytes, or whatever comes in chunks.
    pub(crate) fn rest(left: Option<u64>) -> Self {
        left.map_or_else(|| Body::new(BodyFraming::Chunked, u64::MAX), Body::Length)
    }

    /// Bytes that are to come, unless they come in chunks.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Body::Length(left) => Some(*left),
            Body::Chunked(_) => None,
        }
    }

    /// What another server has to read before what comes, as [`ChunkDecoder::way`].
    pub(crate) fn way(&self) -> (Vec<u8>, u64) {
        match self {
            Body::Length(_) => (Vec::new(), 0),
            Body::Chunked(decoder) => decoder.way(),
        }
    }

    /// Appends to `out` what `bytes` hold of the body.
    ///
    /// # Errors
    /// As [`ChunkDecoder::decode`].
    pub(crate) fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Progress, ChunkError> {
        match self {
            Body::Chunked(decoder) => decoder.decode(bytes, out),
            Body::Length(left) => {
                let used = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                out.extend_from_slice(&bytes[..used]);
                *left -= used as u64;
                Ok(Progress {
                    used,
                    done: *left == 0,
                })
            }
        }
    }

    /// Takes what has come of the body from the reader; true if it was the last of it.
    ///
    /// # Errors
    /// As [`Body::take`].
    pub(crate) fn piece(&mut self, reader: &mut Reader) -> Result<(Piece, bool), ChunkError> {
        let there = reader.bytes().len();
        if let Body::Length(left) = self
            && there as u64 <= *left
        {
            *left -= there as u64;
            let (bytes, start) = reader.take();
            return Ok((Piece { bytes, start }, *left == 0));
        }
        let mut bytes = Vec::new();
        let Progress { used, done } = self.take(reader.bytes(), &mut bytes)?;
        reader.consume(used);
        Ok((Piece { bytes, start: 0 }, done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_body_is_left_whatever_its_framing() {
        for (framing, sent) in [
            (BodyFraming::Empty, &b""[..]),
            (BodyFraming::Length(5), b"hello"),
            (
                BodyFraming::Chunked,
                b"2\r\nhe\r\n3\r\nllo\r\n0\r\nx: y\r\n\r\n",
            ),
        ] {
            let with_more = [sent, b"GET /"].concat();
            for cut in 0..=with_more.len() {
                let mut body = Body::new(framing, u64::MAX);
                let (mut out, mut used, mut done) = (Vec::new(), 0, sent.is_empty());
                for end in [cut, with_more.len()] {
                    if !done {
                        let progress = body.take(&with_more[used..end], &mut out).unwrap();
                        used += progress.used;
                        done = progress.done;
                    }
                }
                assert!(done, "{framing:?} cut at {cut}");
                assert_eq!(used, sent.len(), "{framing:?} cut at {cut}");
                let whole: &[u8] = if sent.is_empty() { b"" } else { b"hello" };
                assert_eq!(out, whole);
            }
        }
    }
}
