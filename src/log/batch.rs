//! Encoded runs of entries that all readers of one log share.
//!
//! In: a log, a cursor and the reader's [`Encoder`]. Out: bytes ready to send, encoded once.
//! Owns what was encoded and not yet taken by every reader, up to [`CACHE_BYTES_MAX`]. Knows no
//! wire format.
//!
//! Only what a reader wants is encoded: readers of one stream share batches of that stream, and what
//! a reader that also selects by time gets is nobody else's. Without a second reader nothing is
//! kept. A reader that lags further behind than the cache
//! reaches has its part encoded again: the alternative, keeping it, would make one stalled
//! reader hold the whole log in encoded form.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use super::arena::Arena;
use super::cursor::{Cursor, Next};
use super::index::Entry;
use super::select::Select;
use super::store::Log;
use crate::types::{Stream, StreamFilter};

/// Raw bytes of one batch, about; a batch is also one write to a socket.
pub const BATCH_BYTES_MAX: usize = 128 << 10;

/// Entries of one batch at most, so that a log of tiny entries does not make huge ones.
const BATCH_ENTRIES_MAX: usize = 1024;

/// Entries of a log that are looked at for one batch; more than [`BATCH_ENTRIES_MAX`] of them where
/// most are of other streams.
const LOOKED_AT_MAX: usize = 1 << 16;

/// Encoded bytes kept for readers that have not taken them yet, for each reader: more readers of
/// a burst drift further apart, as far as their socket buffers reach.
const CACHE_BYTES_PER_READER: usize = 256 << 10;

/// The same for all readers of one log together.
const CACHE_BYTES_MAX: usize = 16 << 20;

/// How a kind of reader wants its entries.
pub trait Encoder {
    /// The last entry that may be encoded now, where `last` is the newest.
    fn until(&self, last: u64) -> u64 {
        last
    }

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
    /// Number of the first of its entries.
    first: u64,
    /// Number of the last of them.
    last: u64,
    /// Head, entries, trailer; the head ends at [`HEAD_BYTES_MAX`].
    bytes: Rc<Vec<u8>>,
    head_start: usize,
    entries: Vec<Place>,
    /// Bytes that its readers' streams hold from `first` to `last`, encoded or not.
    raw: u64,
    /// Readers that have taken its end.
    taken: usize,
}

/// Where an entry is in a batch.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// How far its number is behind the first one's.
    behind_first: u32,
    /// Where it ends in the bytes.
    end: u32,
    /// Its bytes before they were encoded.
    raw: u32,
}

impl Batch {
    /// Encodes entries for `select` from `first` on, which is one of them, up to `last`.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an entry lies in one slot of 64 KiB; BATCH_ENTRIES_MAX of them, with \
                  BATCH_BYTES_MAX together, are encoded in less than 1 MiB, and are among \
                  LOOKED_AT_MAX"
    )]
    fn encode(
        log: &Log,
        arena: &Arena,
        (first, last): (u64, u64),
        select: &Select,
        encoder: &impl Encoder,
    ) -> Self {
        // Of its streams, whatever its time.
        let (mut passed, mut raw) = (0, 0);
        let mut wanted: Vec<Entry> = Vec::new();
        let mut encoded = 0;
        for entry in log.from(first).take(LOOKED_AT_MAX) {
            let fits = wanted.is_empty() || encoded + entry.len <= BATCH_BYTES_MAX;
            if entry.sequence > last || wanted.len() == BATCH_ENTRIES_MAX {
                break;
            }
            if select.streams.matches(entry.stream) {
                if select.is_in_time(&entry) {
                    if !fits {
                        break;
                    }
                    encoded += entry.len;
                    wanted.push(entry);
                    raw = passed + entry.len as u64;
                }
                passed += entry.len as u64;
            }
        }
        let mut bytes =
            Vec::with_capacity(HEAD_BYTES_MAX + encoded * 4 / 3 + wanted.len() * 160 + 8);
        bytes.resize(HEAD_BYTES_MAX, 0);
        let mut entries = Vec::with_capacity(wanted.len());
        for entry in &wanted {
            encoder.entry(entry, log.bytes(arena, entry), &mut bytes);
            entries.push(Place {
                behind_first: (entry.sequence - first) as u32,
                end: bytes.len() as u32,
                raw: entry.len as u32,
            });
        }
        let head_start = frame(&mut bytes, encoder);
        Self {
            first,
            last: wanted.last().map_or(first, |entry| entry.sequence),
            bytes: Rc::new(bytes),
            head_start,
            entries,
            raw,
            taken: 0,
        }
    }

    /// What `cursor` gets of this batch; moves it past the batch.
    fn take(&mut self, cursor: &mut Cursor, encoder: &impl Encoder) -> Chunk {
        self.taken += 1;
        let behind = cursor.position().saturating_sub(self.first);
        let skip = self
            .entries
            .partition_point(|entry| u64::from(entry.behind_first) < behind);
        if skip == 0 {
            cursor.advance(self.last, self.raw);
            return Chunk {
                bytes: self.bytes.clone(),
                range: self.head_start..self.bytes.len(),
            };
        }
        let (passed, rest) = self.entries.split_at(skip);
        let start = passed.last().map_or(HEAD_BYTES_MAX, |at| at.end as usize);
        let end = rest.last().map_or(start, |at| at.end as usize);
        let mut bytes = vec![0; HEAD_BYTES_MAX];
        bytes.extend_from_slice(&self.bytes[start..end]);
        let head_start = frame(&mut bytes, encoder);
        cursor.advance(self.last, rest.iter().map(|at| u64::from(at.raw)).sum());
        Chunk {
            range: head_start..bytes.len(),
            bytes: Rc::new(bytes),
        }
    }
}

/// Puts the head before entries that begin at [`HEAD_BYTES_MAX`], and the trailer behind them.
/// Returns where the head begins.
fn frame(bytes: &mut Vec<u8>, encoder: &impl Encoder) -> usize {
    let mut head = [0; HEAD_BYTES_MAX];
    let head_len = encoder
        .head(bytes.len() - HEAD_BYTES_MAX, &mut head)
        .min(HEAD_BYTES_MAX);
    let head_start = HEAD_BYTES_MAX - head_len;
    bytes[head_start..HEAD_BYTES_MAX].copy_from_slice(&head[..head_len]);
    bytes.extend_from_slice(encoder.trailer());
    head_start
}

/// The batches of one kind of reader of one log.
#[derive(Debug, Default)]
pub struct Batches {
    combined: Shared,
    /// By stream; most logs have no reader of one stream.
    of_stream: Option<Box<[Shared; Stream::COUNT]>>,
    encoded: u64,
}

/// The batches of readers that want the same.
#[derive(Debug, Default)]
struct Shared {
    readers: usize,
    /// By number; they do not overlap.
    kept: VecDeque<Batch>,
    kept_bytes: usize,
}

/// What a reader finds.
#[derive(Debug)]
pub enum Found {
    /// Entries to send.
    Chunk(Chunk),
    /// Eviction has passed the reader.
    Gap(super::cursor::Gap),
    /// Many entries that the reader does not want; it has passed them, and there may be more.
    Unwanted,
    /// Nothing new yet.
    Nothing,
}

impl Batches {
    /// Counts a reader in.
    pub fn join(&mut self, select: &Select) {
        if select.is_timeless() {
            self.of(select.streams).readers += 1;
        }
    }

    /// Counts a reader out.
    pub fn leave(&mut self, select: &Select) {
        if !select.is_timeless() {
            return;
        }
        self.of(select.streams).leave();
        if let Some(of_stream) = &self.of_stream
            && of_stream.iter().all(|shared| shared.readers == 0)
        {
            self.of_stream = None;
        }
    }

    /// How many are counted in.
    pub fn readers(&self) -> usize {
        let of_stream = self.of_stream.iter().flat_map(|of_stream| of_stream.iter());
        let shared = of_stream.chain([&self.combined]);
        shared.map(|shared| shared.readers).sum()
    }

    /// Entries encoded so far, for tests and statistics.
    pub fn encoded_entries(&self) -> u64 {
        self.encoded
    }

    /// Bytes kept for readers that have not taken them yet.
    pub fn kept_bytes(&self) -> usize {
        let of_stream = self.of_stream.iter().flat_map(|of_stream| of_stream.iter());
        let shared = of_stream.chain([&self.combined]);
        shared.map(|shared| shared.kept_bytes).sum()
    }

    fn of(&mut self, streams: StreamFilter) -> &mut Shared {
        match streams {
            StreamFilter::Combined => &mut self.combined,
            StreamFilter::Only(stream) => {
                &mut self.of_stream.get_or_insert_default()[stream as usize]
            }
        }
    }

    /// What comes next for `cursor`; moves it.
    pub fn next(
        &mut self,
        log: &Log,
        arena: &Arena,
        cursor: &mut Cursor,
        encoder: &impl Encoder,
    ) -> Found {
        let last = match cursor.next(log) {
            Next::Gap(gap) => return Found::Gap(gap),
            Next::Nothing => return Found::Nothing,
            Next::Entries { last } => encoder.until(last),
        };
        if cursor.position() > last {
            return Found::Nothing;
        }
        if !cursor.skip_unwanted(log) {
            return if cursor.position() > last {
                Found::Nothing
            } else {
                Found::Unwanted
            };
        }
        let select = *cursor.select();
        let range = (cursor.position(), last);
        if !select.is_timeless() {
            let mut batch = Batch::encode(log, arena, range, &select, encoder);
            self.encoded += batch.entries.len() as u64;
            return Found::Chunk(batch.take(cursor, encoder));
        }
        let shared = self.of(select.streams);
        if let Some(chunk) = shared.take(cursor, encoder) {
            return Found::Chunk(chunk);
        }
        let range = shared.clear_of_kept(range);
        let mut batch = Batch::encode(log, arena, range, &select, encoder);
        let encoded = batch.entries.len() as u64;
        let chunk = batch.take(cursor, encoder);
        shared.keep(batch);
        self.encoded += encoded;
        Found::Chunk(chunk)
    }
}

impl Shared {
    fn leave(&mut self) {
        self.readers = self.readers.saturating_sub(1);
        let readers = self.readers;
        self.kept
            .retain(|batch| readers >= 2 && batch.taken < readers);
        self.kept_bytes = self.kept.iter().map(|batch| batch.bytes.len()).sum();
    }

    /// What is kept for `cursor`; moves it past that.
    fn take(&mut self, cursor: &mut Cursor, encoder: &impl Encoder) -> Option<Chunk> {
        let position = cursor.position();
        let at = self.behind(position).checked_sub(1)?;
        let batch = self
            .kept
            .get_mut(at)
            .filter(|batch| batch.last >= position)?;
        let chunk = batch.take(cursor, encoder);
        if batch.taken >= self.readers {
            self.remove(at);
        }
        Some(chunk)
    }

    /// Where the batches are that begin behind `position`.
    fn behind(&self, position: u64) -> usize {
        self.kept.partition_point(|batch| batch.first <= position)
    }

    /// As much of a range that begins in no kept batch as reaches into none.
    fn clear_of_kept(&self, (first, last): (u64, u64)) -> (u64, u64) {
        let next = self.kept.get(self.behind(first));
        (first, next.map_or(last, |next| last.min(next.first - 1)))
    }

    fn keep(&mut self, batch: Batch) {
        if self.readers < 2 {
            return;
        }
        self.kept_bytes += batch.bytes.len();
        self.kept.insert(self.behind(batch.first), batch);
        let bound = (self.readers * CACHE_BYTES_PER_READER).min(CACHE_BYTES_MAX);
        while self.kept_bytes > bound && self.kept.len() > 1 {
            self.remove(0);
        }
    }

    fn remove(&mut self, at: usize) {
        if let Some(batch) = self.kept.remove(at) {
            self.kept_bytes -= batch.bytes.len();
        }
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
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
        log.append(arena, data, stream, 1 << 20);
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
        cursors
            .iter()
            .for_each(|cursor| batches.join(cursor.select()));
        for round in 0..10u8 {
            append(&mut log, &mut arena, &[b'a' + round], Stream::Stdout);
            append(&mut log, &mut arena, &[b'A' + round], Stream::Stderr);
            let first = all(&mut batches, &log, &arena, &mut cursors[0]);
            for cursor in &mut cursors[1..] {
                assert_eq!(all(&mut batches, &log, &arena, cursor), first);
            }
            assert_eq!(batches.kept_bytes(), 0);
        }
        assert_eq!(batches.encoded_entries(), 20);
    }

    #[test]
    fn a_reader_that_joins_in_the_middle_shares_the_encoding_and_one_of_a_stream_has_its_own() {
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
        for cursor in [&whole, &stderr, &late] {
            batches.join(cursor.select());
        }
        assert_eq!(
            all(&mut batches, &log, &arena, &mut whole),
            "<1:a2:b3:c4:d5:e6:f>"
        );
        assert_eq!(all(&mut batches, &log, &arena, &mut stderr), "<2:b4:d6:f>");
        assert_eq!(all(&mut batches, &log, &arena, &mut late), "<5:e6:f>");
        assert_eq!(batches.encoded_entries(), 9);
        let mut second = Cursor::after(&log, StreamFilter::Only(Stream::Stderr), 3);
        batches.join(second.select());
        append(&mut log, &mut arena, b"g", Stream::Stderr);
        assert_eq!(all(&mut batches, &log, &arena, &mut stderr), "<7:g>");
        assert_eq!(
            all(&mut batches, &log, &arena, &mut second),
            "<4:d6:f><7:g>"
        );
        // 7 for `stderr`, kept; 4 and 6 for `second`, which then takes what is kept.
        assert_eq!(batches.encoded_entries(), 12);
    }

    #[test]
    fn a_stalled_reader_keeps_no_more_than_the_cache_bound() {
        let (mut arena, mut log, mut batches) =
            (Arena::new().unwrap(), Log::default(), Batches::default());
        let mut fast = Cursor::after(&log, StreamFilter::Combined, 0);
        let mut slow = Cursor::after(&log, StreamFilter::Combined, 0);
        batches.join(fast.select());
        batches.join(slow.select());
        let mut seen = String::new();
        for _ in 0..200 {
            append(&mut log, &mut arena, &[b'x'; 5000], Stream::Stdout);
            seen += &all(&mut batches, &log, &arena, &mut fast).replace(['<', '>'], "");
            assert!(batches.kept_bytes() <= 2 * CACHE_BYTES_PER_READER);
        }
        let late = all(&mut batches, &log, &arena, &mut slow).replace(['<', '>'], "");
        assert_eq!(late, seen);
        batches.leave(slow.select());
        assert_eq!(batches.kept_bytes(), 0);
    }

    #[test]
    fn what_no_reader_wants_is_passed_without_being_encoded() {
        let (mut arena, mut log, mut batches) =
            (Arena::new().unwrap(), Log::default(), Batches::default());
        for _ in 0..3000 {
            append(&mut log, &mut arena, b"x", Stream::Stdout);
        }
        let mut pty = Cursor::after(&log, StreamFilter::Only(Stream::Pty), 0);
        batches.join(pty.select());
        assert!(matches!(
            batches.next(&log, &arena, &mut pty, &Plain),
            Found::Nothing
        ));
        assert_eq!((pty.position(), batches.encoded_entries()), (3001, 0));
        // A log of many entries is passed in several steps.
        for _ in 0..2 * LOOKED_AT_MAX {
            log.tail(&mut arena).unwrap()[0] = b'x';
            log.commit(&mut arena, 1, Stream::Stdout, 1, u64::MAX);
        }
        let mut steps = 0;
        while let Found::Unwanted = batches.next(&log, &arena, &mut pty, &Plain) {
            steps += 1;
        }
        assert_eq!((steps, pty.position()), (1, log.last() + 1));
        append(&mut log, &mut arena, b"p", Stream::Pty);
        let sequence = log.last();
        let out = all(&mut batches, &log, &arena, &mut pty);
        assert_eq!(
            (out, batches.encoded_entries()),
            (format!("<{sequence}:p>"), 1)
        );
    }

    #[test]
    fn a_reader_by_time_gets_its_entries_and_gaps_count_all_of_its_streams() {
        let (mut arena, mut log, mut batches) =
            (Arena::new().unwrap(), Log::default(), Batches::default());
        let append = |log: &mut Log, arena: &mut Arena, at: u64| {
            log.tail(arena).unwrap()[..10].fill(b'a');
            log.commit(arena, 10, Stream::Stdout, at, 100);
        };
        for at in [5, 30, 10, 19, 20, 12] {
            append(&mut log, &mut arena, at);
        }
        let span = Select {
            since_ms: 10,
            until_ms: 20,
            ..Select::default()
        };
        let mut cursor = Cursor::after(&log, span, 0);
        batches.join(cursor.select());
        let ten = "a".repeat(10);
        let expected = format!("<3:{ten}4:{ten}6:{ten}>");
        assert_eq!(all(&mut batches, &log, &arena, &mut cursor), expected);
        assert_eq!(batches.kept_bytes(), 0);
        for _ in 0..20 {
            append(&mut log, &mut arena, 40);
        }
        let found = batches.next(&log, &arena, &mut cursor, &Plain);
        let Found::Gap(gap) = found else {
            panic!("{found:?}");
        };
        assert_eq!((gap.from, gap.to, gap.bytes), (7, 16, 100));
        batches.leave(cursor.select());
    }
}
