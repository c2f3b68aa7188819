//! Encoded runs of entries that all readers of one log share.
//!
//! In: a log, a cursor and the reader's [`Encoder`]. Out: bytes ready to send, encoded once.
//! Owns what was encoded and not yet taken by every reader, up to [`CACHE_BYTES_MAX`]. Knows no
//! wire format.
//!
//! Without a second reader nothing is kept. A reader that lags further behind than the cache
//! reaches has its part encoded again: the alternative, keeping it, would make one stalled
//! reader hold the whole log in encoded form.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use super::arena::Arena;
use super::cursor::{Cursor, Next};
use super::index::Entry;
use super::store::Log;
use crate::types::Stream;

/// Raw bytes of one batch, about; a batch is also one write to a socket.
pub const BATCH_BYTES_MAX: usize = 128 << 10;

/// Entries of one batch at most, so that a log of tiny entries does not make huge ones.
const BATCH_ENTRIES_MAX: usize = 1024;

/// Encoded bytes kept for readers that have not taken them yet, for each reader: more readers of
/// a burst drift further apart, as far as their socket buffers reach.
const CACHE_BYTES_PER_READER: usize = 256 << 10;

/// The same for all readers of one log together.
const CACHE_BYTES_MAX: usize = 16 << 20;

/// How a kind of reader wants its entries.
pub trait Encoder {
    /// Appends one entry.
    fn entry(&self, entry: &Entry, data: &[u8], out: &mut Vec<u8>);

    /// Writes what goes before `body_len` bytes of entries into `head`; returns how many bytes.
    fn head(&self, body_len: usize, head: &mut [u8; HEAD_BYTES_MAX]) -> usize;

    /// What goes after the entries.
    fn trailer(&self) -> &'static [u8];
}

/// Room for what [`Encoder::head`] writes.
pub const HEAD_BYTES_MAX: usize = 18;

/// Bytes for one write.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The buffer, shared with other readers where they are at the same place.
    pub bytes: Rc<Vec<u8>>,
    /// The part of it to send.
    pub range: Range<usize>,
}

#[derive(Debug)]
struct Batch {
    first: u64,
    /// Head, entries, trailer; the head ends at `body_start`.
    bytes: Rc<Vec<u8>>,
    head_start: usize,
    body_start: usize,
    /// End of each entry in `bytes`, its stream, its raw length.
    entries: Vec<(u32, Stream, u32)>,
    /// Readers that have taken its end.
    taken: usize,
}

impl Batch {
    fn last(&self) -> u64 {
        self.first + self.entries.len() as u64 - 1
    }

    fn encode(log: &Log, arena: &Arena, first: u64, last: u64, encoder: &impl Encoder) -> Self {
        let mut raw = 0;
        let entries: Vec<Entry> = log
            .from(first)
            .take_while(|e| e.sequence <= last)
            .take(BATCH_ENTRIES_MAX)
            .take_while(|e| {
                let fits = raw == 0 || raw + e.len <= BATCH_BYTES_MAX;
                raw += e.len;
                fits
            })
            .collect();
        let mut bytes = Vec::with_capacity(HEAD_BYTES_MAX + raw * 4 / 3 + entries.len() * 160 + 8);
        bytes.resize(HEAD_BYTES_MAX, 0);
        let mut ends = Vec::with_capacity(entries.len());
        for entry in &entries {
            encoder.entry(entry, log.bytes(arena, entry), &mut bytes);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "an entry lies in one slot of 64 KiB; BATCH_ENTRIES_MAX of them, with \
                          BATCH_BYTES_MAX together, are encoded in less than 1 MiB"
            )]
            ends.push((bytes.len() as u32, entry.stream, entry.len as u32));
        }
        let mut head = [0; HEAD_BYTES_MAX];
        let head_len = encoder
            .head(bytes.len() - HEAD_BYTES_MAX, &mut head)
            .min(HEAD_BYTES_MAX);
        let head_start = HEAD_BYTES_MAX - head_len;
        bytes[head_start..HEAD_BYTES_MAX].copy_from_slice(&head[..head_len]);
        bytes.extend_from_slice(encoder.trailer());
        Self {
            first,
            bytes: Rc::new(bytes),
            head_start,
            body_start: HEAD_BYTES_MAX,
            entries: ends,
            taken: 0,
        }
    }

    /// What `cursor` gets of this batch; moves it past the batch. None if no entry matches.
    fn take(&mut self, cursor: &mut Cursor, encoder: &impl Encoder) -> Option<Chunk> {
        self.taken += 1;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the position is one of `entries`, which begin with `first`"
        )]
        let skip = (cursor.position() - self.first) as usize;
        let wanted = || {
            self.entries[skip..]
                .iter()
                .filter(|(_, stream, _)| cursor.filter().matches(*stream))
        };
        let raw: u64 = wanted().map(|(_, _, len)| u64::from(*len)).sum();
        let matching = wanted().count();
        let last = self.last();
        let chunk = if matching == self.entries.len() {
            Some(Chunk {
                bytes: self.bytes.clone(),
                range: self.head_start..self.bytes.len(),
            })
        } else if matching == 0 {
            None
        } else {
            Some(self.copy_matching(skip, cursor, encoder))
        };
        cursor.advance(last, raw);
        chunk
    }

    fn copy_matching(&self, skip: usize, cursor: &Cursor, encoder: &impl Encoder) -> Chunk {
        let mut bytes = vec![0; HEAD_BYTES_MAX];
        let mut start = if skip == 0 {
            self.body_start
        } else {
            self.entries[skip - 1].0 as usize
        };
        for &(end, stream, _) in &self.entries[skip..] {
            if cursor.filter().matches(stream) {
                bytes.extend_from_slice(&self.bytes[start..end as usize]);
            }
            start = end as usize;
        }
        let mut head = [0; HEAD_BYTES_MAX];
        let head_len = encoder
            .head(bytes.len() - HEAD_BYTES_MAX, &mut head)
            .min(HEAD_BYTES_MAX);
        let head_start = HEAD_BYTES_MAX - head_len;
        bytes[head_start..HEAD_BYTES_MAX].copy_from_slice(&head[..head_len]);
        bytes.extend_from_slice(encoder.trailer());
        Chunk {
            range: head_start..bytes.len(),
            bytes: Rc::new(bytes),
        }
    }
}

/// The batches of one kind of reader of one log.
#[derive(Debug, Default)]
pub struct Batches {
    readers: usize,
    /// By number; they do not overlap.
    kept: VecDeque<Batch>,
    kept_bytes: usize,
    encoded: u64,
}

/// What a reader finds.
#[derive(Debug)]
pub enum Found {
    /// Entries to send.
    Chunk(Chunk),
    /// Eviction has passed the reader.
    Gap(super::cursor::Gap),
    /// Nothing new yet.
    Nothing,
}

impl Batches {
    /// Counts a reader in.
    pub fn join(&mut self) {
        self.readers += 1;
    }

    /// Counts a reader out.
    pub fn leave(&mut self) {
        self.readers = self.readers.saturating_sub(1);
        let readers = self.readers;
        self.drop_where(|batch| readers < 2 || batch.taken >= readers);
    }

    /// Readers counted in.
    pub fn readers(&self) -> usize {
        self.readers
    }

    /// Entries encoded so far, for tests and statistics.
    pub fn encoded_entries(&self) -> u64 {
        self.encoded
    }

    /// What comes next for `cursor`; moves it.
    pub fn next(
        &mut self,
        log: &Log,
        arena: &Arena,
        cursor: &mut Cursor,
        encoder: &impl Encoder,
    ) -> Found {
        loop {
            let last = match cursor.next(log) {
                Next::Gap(gap) => return Found::Gap(gap),
                Next::Nothing => return Found::Nothing,
                Next::Entries { last } => last,
            };
            if let Some(chunk) = self.batch(log, arena, cursor, last, encoder) {
                return Found::Chunk(chunk);
            }
        }
    }

    fn batch(
        &mut self,
        log: &Log,
        arena: &Arena,
        cursor: &mut Cursor,
        last: u64,
        encoder: &impl Encoder,
    ) -> Option<Chunk> {
        let position = cursor.position();
        let after = self.kept.partition_point(|batch| batch.first <= position);
        if let Some(batch) = after.checked_sub(1).and_then(|i| self.kept.get_mut(i))
            && batch.last() >= position
        {
            let chunk = batch.take(cursor, encoder);
            if batch.taken >= self.readers {
                self.remove(after - 1);
            }
            return chunk;
        }
        let last = self
            .kept
            .get(after)
            .map_or(last, |next| last.min(next.first - 1));
        let mut batch = Batch::encode(log, arena, position, last, encoder);
        self.encoded += batch.entries.len() as u64;
        let chunk = batch.take(cursor, encoder);
        if self.readers > 1 {
            self.kept_bytes += batch.bytes.len();
            self.kept.insert(after, batch);
            let bound = (self.readers * CACHE_BYTES_PER_READER).min(CACHE_BYTES_MAX);
            while self.kept_bytes > bound && self.kept.len() > 1 {
                self.remove(0);
            }
        }
        chunk
    }

    fn remove(&mut self, at: usize) {
        if let Some(batch) = self.kept.remove(at) {
            self.kept_bytes -= batch.bytes.len();
        }
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
    }

    fn drop_where(&mut self, done: impl Fn(&Batch) -> bool) {
        self.kept.retain(|batch| !done(batch));
        self.kept_bytes = self.kept.iter().map(|batch| batch.bytes.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::StreamFilter;

    struct Plain;
    impl Encoder for Plain {
        fn entry(&self, entry: &Entry, data: &[u8], out: &mut Vec<u8>) {
            out.extend_from_slice(format!("{}:", entry.sequence).as_bytes());
            out.extend_from_slice(data);
        }
        fn head(&self, _: usize, head: &mut [u8; HEAD_BYTES_MAX]) -> usize {
            head[0] = b'<';
            1
        }
        fn trailer(&self) -> &'static [u8] {
            b">"
        }
    }

    fn append(log: &mut Log, arena: &mut Arena, data: &[u8], stream: Stream) {
        log.tail(arena).unwrap()[..data.len()].copy_from_slice(data);
        log.commit(arena, data.len(), stream, 1, 1 << 20);
    }

    fn all(batches: &mut Batches, log: &Log, arena: &Arena, cursor: &mut Cursor) -> String {
        let mut out = String::new();
        while let Found::Chunk(chunk) = batches.next(log, arena, cursor, &Plain) {
            out.push_str(std::str::from_utf8(&chunk.bytes[chunk.range]).unwrap());
        }
        out
    }

    #[test]
    fn entries_are_encoded_once_for_all_readers_and_dropped_when_all_have_them() {
        let (mut arena, mut log, mut batches) =
            (Arena::new().unwrap(), Log::default(), Batches::default());
        let mut cursors: Vec<_> = (0..5)
            .map(|_| Cursor::after(&log, StreamFilter::Combined, 0))
            .collect();
        cursors.iter().for_each(|_| batches.join());
        for round in 0..10u8 {
            append(&mut log, &mut arena, &[b'a' + round], Stream::Stdout);
            append(&mut log, &mut arena, &[b'A' + round], Stream::Stderr);
            let first = all(&mut batches, &log, &arena, &mut cursors[0]);
            for cursor in &mut cursors[1..] {
                assert_eq!(all(&mut batches, &log, &arena, cursor), first);
            }
            assert_eq!(batches.kept_bytes, 0);
        }
        assert_eq!(batches.encoded_entries(), 20);
    }

    #[test]
    fn a_filtered_reader_and_one_that_joins_in_the_middle_share_the_encoding() {
        let (mut arena, mut log, mut batches) =
            (Arena::new().unwrap(), Log::default(), Batches::default());
        for i in 0..6u8 {
            append(
                &mut log,
                &mut arena,
                &[b'a' + i],
                if i % 2 == 0 {
                    Stream::Stdout
                } else {
                    Stream::Stderr
                },
            );
        }
        let mut whole = Cursor::after(&log, StreamFilter::Combined, 0);
        let mut stderr = Cursor::after(&log, StreamFilter::Only(Stream::Stderr), 0);
        let mut late = Cursor::after(&log, StreamFilter::Combined, 4);
        (0..3).for_each(|_| batches.join());
        assert_eq!(
            all(&mut batches, &log, &arena, &mut whole),
            "<1:a2:b3:c4:d5:e6:f>"
        );
        assert_eq!(all(&mut batches, &log, &arena, &mut stderr), "<2:b4:d6:f>");
        assert_eq!(all(&mut batches, &log, &arena, &mut late), "<5:e6:f>");
        assert_eq!(batches.encoded_entries(), 6);
    }

    #[test]
    fn a_stalled_reader_keeps_no_more_than_the_cache_bound() {
        let (mut arena, mut log, mut batches) =
            (Arena::new().unwrap(), Log::default(), Batches::default());
        let mut fast = Cursor::after(&log, StreamFilter::Combined, 0);
        let mut slow = Cursor::after(&log, StreamFilter::Combined, 0);
        batches.join();
        batches.join();
        let mut seen = String::new();
        for _ in 0..200 {
            append(&mut log, &mut arena, &[b'x'; 5000], Stream::Stdout);
            seen += &all(&mut batches, &log, &arena, &mut fast).replace(['<', '>'], "");
            assert!(batches.kept_bytes <= 2 * CACHE_BYTES_PER_READER);
        }
        let late = all(&mut batches, &log, &arena, &mut slow).replace(['<', '>'], "");
        assert_eq!(late, seen);
        batches.leave();
        assert_eq!(batches.kept_bytes, 0);
    }

    #[test]
    fn a_filter_that_matches_nothing_finds_nothing() {
        let (mut arena, mut log, mut batches) =
            (Arena::new().unwrap(), Log::default(), Batches::default());
        batches.join();
        append(&mut log, &mut arena, b"x", Stream::Stdout);
        let mut cursor = Cursor::after(&log, StreamFilter::Only(Stream::Pty), 0);
        assert!(matches!(
            batches.next(&log, &arena, &mut cursor, &Plain),
            Found::Nothing
        ));
        assert_eq!(cursor.position(), 2);
    }
}
