//! Logs that share an arena, under any sequence of appends, evictions, reads, snapshots and
//! removals, against a `Vec` of all that was ever written.

use procring::log::batch::{Batches, Encoder, Found, HEAD_BYTES_MAX};
use procring::log::cursor::Gap;
use procring::log::index::Entry;
use procring::log::walk::Place;
use procring::log::{Arena, Cursor, Log, Snapshot, Walk};
use procring::types::{Stream, StreamFilter};

/// Byte limits a log may have; the smallest cut entries, the largest let the index bound act.
const LIMITS: [u64; 6] = [1, 100, 3_000, 20_000, 200_000, u64::MAX];

const FILTERS: [StreamFilter; 4] = [
    StreamFilter::Combined,
    StreamFilter::Only(Stream::Stdout),
    StreamFilter::Only(Stream::Stderr),
    StreamFilter::Only(Stream::Pty),
];

const STREAMS: [Stream; 3] = [Stream::Stdout, Stream::Stderr, Stream::Pty];

/// Appends of one input at most, so that one input stays cheap.
const WRITTEN_MAX: usize = 4 << 20;

/// Checks one input: a sequence of operations.
pub fn log_ops(mut data: &[u8]) {
    let mut arena = Arena::new().expect("an arena");
    let mut logs = [Subject::default(), Subject::default()];
    let mut snapshots: Vec<(Snapshot, Vec<Written>)> = Vec::new();
    let mut written = 0;
    while let Some((&op, rest)) = data.split_first() {
        let (&[a, b], rest) = rest.split_first_chunk().unwrap_or((&[0, 0], &[]));
        data = rest;
        let subject = &mut logs[usize::from(op >> 7)];
        match op & 0x7f {
            0..60 => {
                let len = length(a, b);
                written += len;
                if written > WRITTEN_MAX {
                    break;
                }
                subject.append(&mut arena, op, len);
            }
            60..70 => subject.limit = LIMITS[usize::from(a) % LIMITS.len()],
            70..80 => subject.join(a, b),
            80..84 => subject.leave(a),
            84..110 => subject.read(&arena, a, usize::from(b)),
            110..116 => {
                let (from, to) = (subject.number(a), subject.number(b));
                let kept = subject.retained(from, to).cloned().collect();
                snapshots.push((subject.log.snapshot(&mut arena, from, to), kept));
            }
            116..122 if !snapshots.is_empty() => {
                let at = usize::from(a) % snapshots.len();
                finish(snapshots.swap_remove(at), &mut arena);
            }
            122..124 => arena.trim(),
            124 => subject.clear(&mut arena),
            _ => {
                subject.ask(a, b);
                subject.walk(&arena, a, b);
            }
        }
        subject.check_counts();
    }
    for snapshot in snapshots {
        finish(snapshot, &mut arena);
    }
    for subject in &mut logs {
        subject.check_bytes(&arena);
        subject.log.clear(&mut arena);
    }
    assert_eq!(arena.in_use(), 0);
}

/// Lengths from nothing to a whole slot, small ones more often.
fn length(a: u8, b: u8) -> usize {
    match a {
        0 => 0,
        1..200 => usize::from(a) * usize::from(b % 4 + 1),
        200..250 => usize::from(b) * 64 + usize::from(a),
        250..255 => 16_384 + usize::from(b) * 192,
        255 => 65_536 - usize::from(b),
    }
}

/// An entry as it was written.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    sequence: u64,
    timestamp_ms: u64,
    stream: Stream,
    data: Vec<u8>,
}

#[derive(Debug)]
struct Viewer {
    cursor: Cursor,
    /// The next number it expects.
    next: u64,
}

/// A log and what it must be like.
struct Subject {
    log: Log,
    batches: Batches,
    limit: u64,
    viewers: Vec<Viewer>,
    /// All entries ever, the first has number 1; evicted ones keep their length only.
    all: Vec<Written>,
    lengths: Vec<(Stream, u64)>,
    /// Bytes cut from the front of each.
    cuts: Vec<u64>,
    /// Entries evicted so far.
    evicted: usize,
    retained_bytes: u64,
    dropped_bytes: u64,
    /// Makes every written byte different from what may lie there.
    salt: u32,
}

impl Default for Subject {
    fn default() -> Self {
        Self {
            log: Log::default(),
            batches: Batches::default(),
            limit: LIMITS[3],
            viewers: Vec::new(),
            all: Vec::new(),
            lengths: Vec::new(),
            cuts: Vec::new(),
            evicted: 0,
            retained_bytes: 0,
            dropped_bytes: 0,
            salt: 0,
        }
    }
}

impl Subject {
    fn append(&mut self, arena: &mut Arena, op: u8, len: usize) {
        let tail = self.log.tail(arena).expect("a slot");
        assert!((4096..=65_536).contains(&tail.len()));
        let len = len.min(tail.len());
        let mut data = Vec::with_capacity(len);
        for _ in 0..len {
            self.salt = self
                .salt
                .wrapping_mul(1_664_525)
                .wrapping_add(u32::from(op) | 1);
            data.push((self.salt >> 24) as u8);
        }
        tail[..len].copy_from_slice(&data);
        let stream = STREAMS[usize::from(op) % 3];
        // Up to the year 2527, the last that an entry can have.
        let timestamp_ms = u64::from(self.salt) << 12;
        self.log
            .commit(arena, len, stream, timestamp_ms, self.limit);
        if len == 0 {
            return;
        }
        let cut = len.saturating_sub(usize::try_from(self.limit).unwrap_or(usize::MAX));
        self.dropped_bytes += cut as u64;
        data.drain(..cut);
        self.retained_bytes += data.len() as u64;
        self.lengths.push((stream, data.len() as u64));
        self.cuts.push(cut as u64);
        self.all.push(Written {
            sequence: self.all.len() as u64 + 1,
            timestamp_ms,
            stream,
            data,
        });
        let entries_max = (self.limit / 64).max(1024);
        while self.retained_bytes > self.limit
            || (self.all.len() - self.evicted) as u64 > entries_max
        {
            self.evict();
        }
    }

    fn evict(&mut self) {
        let gone = std::mem::take(&mut self.all[self.evicted].data);
        self.retained_bytes -= gone.len() as u64;
        self.dropped_bytes += gone.len() as u64;
        self.evicted += 1;
    }

    fn clear(&mut self, arena: &mut Arena) {
        self.log.clear(arena);
        while self.evicted < self.all.len() {
            self.evict();
        }
    }

    fn first(&self) -> u64 {
        self.evicted as u64 + 1
    }

    fn last(&self) -> u64 {
        self.all.len() as u64
    }

    /// A sequence number at, before or past the retained ones.
    fn number(&self, a: u8) -> u64 {
        match a {
            0..64 => u64::from(a),
            64..224 => (self.first() + u64::from(a)).saturating_sub(100),
            224..255 => (self.last() + u64::from(a)).saturating_sub(240),
            255 => u64::MAX - 1,
        }
    }

    /// Retained entries `from..=to`.
    fn retained(&self, from: u64, to: u64) -> impl Iterator<Item = &Written> {
        let wanted = move |entry: &&Written| (from..=to).contains(&entry.sequence);
        self.all[self.evicted..].iter().filter(wanted)
    }

    /// Bytes of entries before `sequence`.
    fn bytes_before(&self, sequence: u64, filter: StreamFilter) -> u64 {
        let count = usize::try_from(sequence.saturating_sub(1)).unwrap_or(usize::MAX);
        let before = self.lengths.iter().take(count);
        before
            .filter(|(stream, _)| filter.matches(*stream))
            .map(|(_, len)| len)
            .sum()
    }

    fn check_counts(&self) {
        assert_eq!(
            (self.log.first(), self.log.last()),
            (self.first(), self.last())
        );
        assert_eq!(self.log.retained_bytes(), self.retained_bytes);
        assert_eq!(self.log.dropped_bytes(), self.dropped_bytes);
        for filter in FILTERS {
            let cut = self.lengths.iter().zip(&self.cuts);
            let cut: u64 = cut
                .filter(|((stream, _), _)| filter.matches(*stream))
                .map(|(_, cut)| cut)
                .sum();
            let (first, end) = (self.first(), self.last() + 1);
            assert_eq!(
                (self.log.first_offset(filter), self.log.end_offset(filter)),
                (
                    self.bytes_before(first, filter) + cut,
                    self.bytes_before(end, filter) + cut
                )
            );
        }
        let entries = self.all.len() - self.evicted;
        assert!(self.log.heap_bytes() <= entries.max(256) * 64 + 4096 * 8);
    }

    fn check_bytes(&self, arena: &Arena) {
        let entries: Vec<_> = self.log.from(0).collect();
        assert_eq!(entries.len(), self.all.len() - self.evicted);
        for (entry, expected) in entries.iter().zip(self.retained(0, u64::MAX)) {
            assert_eq!(same(entry, self.log.bytes(arena, entry)), *expected);
            assert_eq!(self.log.get(entry.sequence).as_ref(), Some(entry));
        }
    }

    /// Questions that change nothing.
    fn ask(&self, a: u8, b: u8) {
        let (filter, sequence) = (FILTERS[usize::from(b) % 4], self.number(a));
        assert_eq!(
            self.log.bytes_before(sequence, filter),
            self.bytes_before(sequence, filter)
        );
        let inside = (self.first()..=self.last()).contains(&sequence);
        assert_eq!(self.log.get(sequence).is_some(), inside);
        let start = self
            .log
            .start_of_tail(&filter.into(), sequence, u64::from(b));
        assert_eq!(start, self.tail(filter, sequence, u64::from(b)));
    }

    /// The bytes at some offsets, in pieces, are those that are retained of them.
    fn walk(&self, arena: &Arena, a: u8, b: u8) {
        let filter = FILTERS[usize::from(b) % 4];
        let retained = self.retained(0, u64::MAX);
        let matching = retained.filter(|entry| filter.matches(entry.stream));
        let bytes: Vec<u8> = matching.flat_map(|entry| entry.data.clone()).collect();
        let base = self.log.first_offset(filter);
        let from = bytes.len() * usize::from(a) / 250;
        let to = from + bytes.len() * usize::from(b) / 100;
        let step = 1 + (usize::from(a) * usize::from(b) * 7) % 100_000;
        let offsets = base + from as u64..base + to as u64;
        let mut walk = Walk::new(&self.log, filter.into()).at(offsets);
        let mut read = Vec::new();
        loop {
            match walk.look(&self.log) {
                Place::Unwanted => {}
                Place::Bytes => {
                    let mut slices = Vec::new();
                    let count =
                        walk.slices(&self.log, arena, step.max(bytes.len() / 50), 9, &mut slices);
                    assert!(count > 0);
                    slices
                        .iter()
                        .for_each(|slice| read.extend_from_slice(slice));
                    walk.advance(&self.log, count);
                }
                Place::End => break assert!(to <= bytes.len() || from == to),
                Place::Nothing => break assert!(to > bytes.len()),
                Place::Evicted => unreachable!("nothing is evicted meanwhile"),
            }
        }
        let end = to.min(bytes.len());
        assert_eq!(read, bytes[from.min(end)..end]);
    }

    /// The number of the first of the last `count` matching entries after `since`.
    fn tail(&self, filter: StreamFilter, since: u64, count: u64) -> u64 {
        let after = self.retained(since.saturating_add(1), u64::MAX);
        let matching: Vec<_> = after.filter(|e| filter.matches(e.stream)).collect();
        let skip = matching.len().saturating_sub(count as usize);
        matching
            .get(skip)
            .map_or(self.last() + 1, |entry| entry.sequence)
    }

    fn join(&mut self, a: u8, b: u8) {
        let filter = FILTERS[usize::from(b) % 4];
        let since = self.number(a);
        let (cursor, next) = if b < 200 {
            let first = match since {
                0 => self.first(),
                since => since + 1,
            };
            (Cursor::after(&self.log, filter, since), first)
        } else {
            let count = u64::from(b - 200);
            let next = self.tail(filter, since, count).max(since + 1);
            (Cursor::tail(&self.log, filter, since, count), next)
        };
        assert_eq!(cursor.position(), next);
        self.batches.join(cursor.select());
        self.viewers.push(Viewer { cursor, next });
    }

    fn leave(&mut self, a: u8) {
        if self.viewers.is_empty() {
            return;
        }
        let who = usize::from(a) % self.viewers.len();
        let viewer = self.viewers.swap_remove(who);
        self.batches.leave(viewer.cursor.select());
        if self.viewers.is_empty() {
            assert_eq!(self.batches.kept_bytes(), 0);
        }
    }

    /// One viewer reads some batches.
    fn read(&mut self, arena: &Arena, who: u8, batches: usize) {
        if self.viewers.is_empty() {
            return;
        }
        let who = usize::from(who) % self.viewers.len();
        let mut viewer = self.viewers.swap_remove(who);
        let filter = viewer.cursor.select().streams;
        for _ in 0..=batches % 8 {
            let was = viewer.next;
            let found = self
                .batches
                .next(&self.log, arena, &mut viewer.cursor, &Framed);
            viewer.next = viewer.cursor.position();
            match found {
                Found::Gap(gap) => {
                    let (from, to) = (was, self.first() - 1);
                    let bytes = self.bytes_before(to + 1, filter) - self.bytes_before(from, filter);
                    assert_eq!(gap, Gap { from, to, bytes });
                    assert_eq!(viewer.next, self.first());
                }
                Found::Chunk(chunk) => {
                    assert!(was >= self.first());
                    let bytes = &chunk.bytes[chunk.range];
                    let matching = self.retained(was, viewer.next - 1);
                    let matching = matching.filter(|e| filter.matches(e.stream));
                    let mut expected = Vec::new();
                    for Written {
                        sequence,
                        timestamp_ms,
                        stream,
                        data,
                    } in matching
                    {
                        frame(*sequence, *timestamp_ms, *stream, data, &mut expected);
                    }
                    assert!(!expected.is_empty());
                    let head = format!("<{}:", expected.len());
                    assert_eq!(bytes, [head.as_bytes(), &expected, b">"].concat());
                }
                Found::Unwanted => unreachable!("so many entries are not written"),
                Found::Nothing => {
                    assert!(viewer.next > self.last() && viewer.next >= was);
                    let mut rest = self.retained(was, u64::MAX);
                    assert!(!rest.any(|e| filter.matches(e.stream)));
                    break;
                }
            }
        }
        self.viewers.push(viewer);
    }
}

fn same(entry: &Entry, data: &[u8]) -> Written {
    Written {
        sequence: entry.sequence,
        timestamp_ms: entry.timestamp_ms,
        stream: entry.stream,
        data: data.to_vec(),
    }
}

/// A snapshot still holds what was there when it was taken.
fn finish((mut snapshot, kept): (Snapshot, Vec<Written>), arena: &mut Arena) {
    let entries: Vec<Entry> = snapshot.from(0).collect();
    let bytes = |e: &Entry| same(e, arena.bytes(e.slot, e.start, e.len));
    assert_eq!(entries.iter().map(bytes).collect::<Vec<_>>(), kept);
    let skip = kept.len() / 2;
    assert!(snapshot.from(skip).eq(entries[skip..].iter().copied()));
    snapshot.release(arena);
}

/// Entries that can be told apart, behind their length.
struct Framed;

fn frame(sequence: u64, timestamp_ms: u64, stream: Stream, data: &[u8], out: &mut Vec<u8>) {
    let name = stream.as_str();
    out.extend_from_slice(format!("[{sequence} {timestamp_ms} {name} {}]", data.len()).as_bytes());
    out.extend_from_slice(data);
}

impl Encoder for Framed {
    fn entry(&self, entry: &Entry, data: &[u8], out: &mut Vec<u8>) {
        frame(entry.sequence, entry.timestamp_ms, entry.stream, data, out);
    }

    fn head(&self, body_len: usize, head: &mut [u8; HEAD_BYTES_MAX]) -> usize {
        let text = format!("<{body_len}:");
        head[..text.len()].copy_from_slice(text.as_bytes());
        text.len()
    }

    fn trailer(&self) -> &'static [u8] {
        b">"
    }
}
