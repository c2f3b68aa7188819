//! What tests of logs share.

use super::{Arena, Log};
use crate::types::Stream;

impl Log {
    /// Appends what a child is to have written, in the first millisecond of all.
    pub(crate) fn append(&mut self, arena: &mut Arena, data: &[u8], stream: Stream, limit: u64) {
        self.append_at(arena, data, stream, 1, limit);
    }

    /// The same at another time.
    pub(crate) fn append_at(
        &mut self,
        arena: &mut Arena,
        data: &[u8],
        stream: Stream,
        at_ms: u64,
        limit: u64,
    ) {
        self.tail(arena).unwrap()[..data.len()].copy_from_slice(data);
        self.commit(arena, data.len(), stream, at_ms, limit);
    }
}
