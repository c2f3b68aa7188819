//! What is answered to an input and to a new window size.
//!
//! In: how much was taken, or the size. Out: one object.

use crate::types::WindowSize;

/// How much of an input was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// Bytes written for this request.
    pub bytes_written: u64,
    /// Bytes that the process has accepted, of all requests; where the request asks for it.
    pub offset: Option<u64>,
}

impl Accepted {
    /// As an answer: all of it was taken.
    pub(crate) fn json(&self) -> Vec<u8> {
        let mut out = format!("{{\"bytesWritten\":{}", self.bytes_written).into_bytes();
        self.write_offset(&mut out);
        out.push(b'}');
        out
    }

    /// Appends the key `offset`, where there is one.
    pub(super) fn write_offset(&self, out: &mut Vec<u8>) {
        if let Some(offset) = self.offset {
            out.extend_from_slice(format!(",\"offset\":{offset}").as_bytes());
        }
    }
}

/// The size that a terminal has now.
pub(crate) fn window(size: WindowSize) -> Vec<u8> {
    format!("{{\"cols\":{},\"rows\":{}}}", size.cols, size.rows).into_bytes()
}
