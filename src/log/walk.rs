//! The bytes of a log as they were written: a place in it that is exact to a byte.
//!
//! In: a log. Out: slices of its slots, in the order in which they came. Owns a few words; it pins
//! nothing, so a reader that stalls holds no slot, and is told when eviction has passed it.
//!
//! A walk begins at the oldest retained byte and passes what is not wanted, a bounded number of
//! entries at a time. So it needs nothing that a log would have to keep for it: where a byte
//! stands among all that were ever written follows from what the log counts as evicted.

use std::io::IoSlice;
use std::ops::Range;

use super::arena::{Arena, SlotId};
use super::index::Entry;
use super::select::Select;
use super::store::Log;
use crate::types::Stream;

/// Entries that are looked at in one step: a fraction of a millisecond.
pub(super) const LOOKED_AT_MAX: usize = 1 << 16;

/// Where the bytes that are wanted of a stream begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Begin {
    /// In this entry; with none of this number, in the first one behind it.
    pub sequence: u64,
    /// Behind so many bytes of it.
    pub skip: usize,
}

/// The same for each stream, indexed by `Stream as usize`.
pub type Begins = [Begin; Stream::COUNT];

/// What is at a walk's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Bytes that are wanted.
    Bytes,
    /// Much that is not wanted has been passed, and there may be more.
    Unwanted,
    /// Nothing yet.
    Nothing,
    /// Nothing will ever come: this was all that is wanted.
    End,
    /// Bytes that are wanted have been evicted.
    Evicted,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Walk {
    select: Select,
    begins: Begins,
    /// Entries up to this one.
    last: u64,
    /// Bytes at these offsets among all of the selected streams.
    offsets: Range<u64>,
    /// The entry it is in.
    next: u64,
    /// Bytes of that entry that are behind it.
    skip: usize,
    /// Bytes of the selected streams that are behind it.
    offset: u64,
}

impl Walk {
    /// From the oldest retained byte on, for ever.
    pub fn new(log: &Log, select: Select) -> Self {
        Self {
            select,
            begins: Begins::default(),
            last: u64::MAX,
            offsets: 0..u64::MAX,
            next: log.first(),
            skip: 0,
            offset: log.first_offset(select.streams),
        }
    }

    /// The same, only entries after `since`.
    pub fn after(mut self, since: u64) -> Self {
        let sequence = since.saturating_add(1);
        self.begin_at([Begin { sequence, skip: 0 }; Stream::COUNT]);
        self
    }

    /// Leaves out what lies before these places.
    pub fn begin_at(&mut self, begins: Begins) {
        self.begins = begins;
    }

    /// The same, only entries up to `last`.
    pub fn up_to(self, last: u64) -> Self {
        Self { last, ..self }
    }

    /// The same, only bytes at these offsets.
    pub fn at(self, offsets: Range<u64>) -> Self {
        Self { offsets, ..self }
    }

    /// What it selects.
    pub fn select(&self) -> &Select {
        &self.select
    }

    /// Looks at what is next, and passes what is not wanted.
    pub fn look(&mut self, log: &Log) -> Place {
        let evicted = log.first_offset(self.select.streams);
        if self.offset < evicted {
            if !self.unwanted_before(log.first(), evicted) {
                return Place::Evicted;
            }
            self.offset = evicted;
        }
        if self.next < log.first() {
            self.next = log.first();
            self.skip = 0;
        }
        for entry in log.from(self.next).take(LOOKED_AT_MAX) {
            if self.is_over() {
                return Place::End;
            }
            if !self.wanted(&entry, self.skip, self.offset).is_empty() {
                return Place::Bytes;
            }
            self.pass(&entry, entry.len);
        }
        if self.is_over() {
            Place::End
        } else if self.next > log.last() {
            Place::Nothing
        } else {
            Place::Unwanted
        }
    }

    /// The pieces of entries that come next, at most so many bytes of them; only where there are
    /// [`Place::Bytes`].
    pub fn pieces<'l>(
        &self,
        log: &'l Log,
        bytes_max: usize,
    ) -> impl Iterator<Item = (Entry, Range<usize>)> + 'l {
        let mut place = self.clone();
        let mut left = bytes_max;
        let entries = log.from(self.next).take(LOOKED_AT_MAX);
        entries
            .map_while(move |entry| {
                if left == 0 || place.is_over() {
                    return None;
                }
                let mut wanted = place.wanted(&entry, place.skip, place.offset);
                place.pass(&entry, entry.len);
                wanted.end = wanted.end.min(wanted.start.saturating_add(left));
                left -= wanted.len();
                Some((entry, wanted))
            })
            .filter(|(_, wanted)| !wanted.is_empty())
    }

    /// Adds the slices that come next, at most so many bytes and so many slices; how many bytes
    /// they are. What lies side by side in a slot is one slice.
    pub fn slices<'a>(
        &self,
        log: &Log,
        arena: &'a Arena,
        bytes_max: usize,
        slices_max: usize,
        out: &mut Vec<IoSlice<'a>>,
    ) -> usize {
        let full = out.len() + slices_max;
        let mut bytes = 0;
        let mut last: Option<(SlotId, Range<usize>)> = None;
        for (entry, wanted) in self.pieces(log, bytes_max) {
            let (start, end) = (entry.start + wanted.start, entry.start + wanted.end);
            match &mut last {
                Some((slot, range)) if *slot == entry.slot && range.end == start => {
                    range.end = end;
                    continue;
                }
                _ => {}
            }
            if let Some((slot, range)) = last.take() {
                bytes += range.len();
                out.push(IoSlice::new(arena.bytes(slot, range.start, range.len())));
                if out.len() >= full {
                    return bytes;
                }
            }
            last = Some((entry.slot, start..end));
        }
        if let Some((slot, range)) = last {
            bytes += range.len();
            out.push(IoSlice::new(arena.bytes(slot, range.start, range.len())));
        }
        bytes
    }

    /// Passes the next `bytes` wanted bytes, which are in the log.
    pub fn advance(&mut self, log: &Log, bytes: usize) {
        let mut left = bytes;
        while left > 0
            && let Some(entry) = log.get(self.next)
        {
            let wanted = self.wanted(&entry, self.skip, self.offset);
            let taken = wanted.len().min(left);
            left -= taken;
            let to = if left == 0 {
                wanted.start + taken
            } else {
                entry.len
            };
            self.pass(&entry, to);
        }
    }

    /// Moves to byte `to` of the entry it is in.
    fn pass(&mut self, entry: &Entry, to: usize) {
        if self.select.streams.matches(entry.stream) {
            self.offset += to.saturating_sub(self.skip) as u64;
        }
        if to >= entry.len {
            self.next = entry.sequence + 1;
            self.skip = 0;
        } else {
            self.skip = to;
        }
    }

    fn is_over(&self) -> bool {
        self.next > self.last || self.offset >= self.offsets.end
    }

    /// Which bytes of an entry are wanted, `skip` of it being behind, which are those before
    /// `offset`.
    fn wanted(&self, entry: &Entry, skip: usize, offset: u64) -> Range<usize> {
        let begin = self.begins[entry.stream as usize];
        if !self.select.matches(entry) || entry.sequence < begin.sequence {
            return 0..0;
        }
        let clamp = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let first = clamp(self.offsets.start.saturating_sub(offset)).saturating_add(skip);
        let end = clamp(self.offsets.end.saturating_sub(offset)).saturating_add(skip);
        let begun = if entry.sequence == begin.sequence {
            begin.skip
        } else {
            0
        };
        let start = first.max(begun).min(entry.len);
        start..end.min(entry.len).max(start)
    }

    /// Whether nothing was wanted of what has been evicted: all before entry `first`, and before
    /// byte `offset`.
    fn unwanted_before(&self, first: u64, offset: u64) -> bool {
        if offset <= self.offsets.start {
            return true;
        }
        let streams = [Stream::Stdout, Stream::Stderr, Stream::Pty];
        let mut selected = streams
            .into_iter()
            .filter(|stream| self.select.streams.matches(*stream));
        selected.all(|stream| self.begins[stream as usize].sequence >= first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::StreamFilter;

    struct Subject {
        arena: Arena,
        log: Log,
        limit: u64,
    }

    impl Subject {
        fn new(limit: u64) -> Self {
            let (arena, log) = (Arena::new().unwrap(), Log::default());
            Self { arena, log, limit }
        }

        fn append(&mut self, data: &[u8], stream: Stream) {
            self.append_at(data, stream, 1);
        }

        fn append_at(&mut self, data: &[u8], stream: Stream, at: u64) {
            let (arena, limit) = (&mut self.arena, self.limit);
            self.log.append_at(arena, data, stream, at, limit);
        }

        /// Reads on, at most `step` bytes at a time, until there is nothing more.
        fn read(&self, walk: &mut Walk, step: usize) -> (String, Place) {
            let mut text = Vec::new();
            loop {
                match walk.look(&self.log) {
                    Place::Unwanted => {}
                    Place::Bytes => {
                        let mut slices = Vec::new();
                        let bytes = walk.slices(&self.log, &self.arena, step, 3, &mut slices);
                        assert!((1..=step).contains(&bytes) && slices.len() <= 3);
                        let read: Vec<u8> = slices.iter().flat_map(|s| s.to_vec()).collect();
                        assert_eq!(read.len(), bytes);
                        text.extend(read);
                        walk.advance(&self.log, bytes);
                    }
                    place => return (String::from_utf8(text).unwrap(), place),
                }
            }
        }
    }

    fn only(stream: Stream) -> Select {
        StreamFilter::Only(stream).into()
    }

    /// `a1bb22ccc333`: letters to stdout, numbers to stderr.
    fn mixed() -> Subject {
        let mut subject = Subject::new(1000);
        for (text, stream) in [
            ("a", Stream::Stdout),
            ("1", Stream::Stderr),
            ("bb", Stream::Stdout),
            ("22", Stream::Stderr),
            ("ccc", Stream::Stdout),
            ("333", Stream::Stderr),
        ] {
            subject.append(text.as_bytes(), stream);
        }
        subject
    }

    #[test]
    fn all_bytes_come_once_and_in_order_however_they_are_cut() {
        let subject = mixed();
        for step in 1..20 {
            for (select, text) in [
                (Select::default(), "a1bb22ccc333"),
                (only(Stream::Stdout), "abbccc"),
                (only(Stream::Stderr), "122333"),
                (only(Stream::Pty), ""),
            ] {
                let mut walk = Walk::new(&subject.log, select);
                let read = subject.read(&mut walk, step);
                assert_eq!(read, (text.to_owned(), Place::Nothing));
                let mut walk = Walk::new(&subject.log, select).up_to(6);
                let read = subject.read(&mut walk, step);
                assert_eq!(read, (text.to_owned(), Place::End));
            }
        }
    }

    #[test]
    fn offsets_are_of_the_selected_streams() {
        let mut subject = mixed();
        let all = "a1bb22ccc333";
        for step in [1, 2, 100] {
            for first in 0..12 {
                for end in first..14 {
                    let mut walk = Walk::new(&subject.log, Select::default());
                    walk = walk.at(first as u64..end as u64);
                    let place = if end <= 12 {
                        Place::End
                    } else {
                        Place::Nothing
                    };
                    let text = all[first..end.min(12)].to_owned();
                    assert_eq!(subject.read(&mut walk, step), (text, place));
                }
            }
            let mut walk = Walk::new(&subject.log, only(Stream::Stdout)).at(2..5);
            let expected = ("bcc".to_owned(), Place::End);
            assert_eq!(subject.read(&mut walk, step), expected);
        }
        // An offset that is still to come.
        let mut walk = Walk::new(&subject.log, Select::default()).at(14..17);
        assert_eq!(subject.read(&mut walk, 9), (String::new(), Place::Nothing));
        subject.append(b"4", Stream::Stderr);
        assert_eq!(subject.read(&mut walk, 9), (String::new(), Place::Nothing));
        subject.append(b"56789", Stream::Stderr);
        assert_eq!(subject.read(&mut walk, 9), ("678".to_owned(), Place::End));
    }

    #[test]
    fn a_walk_goes_on_with_what_comes_later() {
        let mut subject = mixed();
        let mut walk = Walk::new(&subject.log, only(Stream::Stderr)).after(4);
        assert_eq!(subject.read(&mut walk, 2), ("333".into(), Place::Nothing));
        subject.append(b"d", Stream::Stdout);
        assert_eq!(subject.read(&mut walk, 2), ("".into(), Place::Nothing));
        subject.append(b"4", Stream::Stderr);
        assert_eq!(subject.read(&mut walk, 2), ("4".into(), Place::Nothing));
    }

    #[test]
    fn each_stream_may_begin_elsewhere() {
        let subject = mixed();
        let mut begins = Begins::default();
        begins[Stream::Stdout as usize] = Begin {
            sequence: 3,
            skip: 1,
        };
        begins[Stream::Stderr as usize] = Begin {
            sequence: 6,
            skip: 3,
        };
        for step in 1..5 {
            let mut walk = Walk::new(&subject.log, Select::default());
            walk.begin_at(begins);
            assert_eq!(
                subject.read(&mut walk, step),
                ("bccc".into(), Place::Nothing)
            );
        }
    }

    #[test]
    fn entries_of_another_time_are_passed() {
        let mut subject = Subject::new(1000);
        for (text, at) in [("a", 10), ("b", 20), ("c", 15), ("d", 30)] {
            subject.append_at(text.as_bytes(), Stream::Stdout, at);
        }
        let select = Select {
            since_ms: 15,
            until_ms: 30,
            ..Select::default()
        };
        let mut walk = Walk::new(&subject.log, select);
        assert_eq!(subject.read(&mut walk, 9), ("bc".into(), Place::Nothing));
    }

    #[test]
    fn a_reader_that_eviction_has_passed_is_told_and_another_stream_s_loss_is_not_its_own() {
        let mut subject = Subject::new(10);
        subject.append(b"err", Stream::Stderr);
        subject.append(b"outout", Stream::Stdout);
        let mut out = Walk::new(&subject.log, only(Stream::Stdout));
        let mut err = Walk::new(&subject.log, only(Stream::Stderr));
        let mut half = out.clone();
        assert_eq!(half.look(&subject.log), Place::Bytes);
        half.advance(&subject.log, 3);
        subject.append(b"xx", Stream::Stdout);
        assert_eq!(subject.log.first(), 2);
        assert_eq!(err.look(&subject.log), Place::Evicted);
        let (text, place) = subject.read(&mut out, 4);
        assert_eq!((&*text, place), ("outoutxx", Place::Nothing));
        subject.append(b"yyyyy", Stream::Stdout);
        assert_eq!(half.look(&subject.log), Place::Evicted);
        assert_eq!(subject.read(&mut out, 9), ("yyyyy".into(), Place::Nothing));
        // Longer than all that the log may hold: the front is lost though the entry is there.
        subject.append(b"0123456789ab", Stream::Stdout);
        assert_eq!(subject.log.get(subject.log.last()).unwrap().len, 10);
        assert_eq!(out.look(&subject.log), Place::Evicted);
    }

    #[test]
    fn what_was_not_wanted_may_be_evicted() {
        let mut subject = Subject::new(10);
        subject.append(b"0123456789", Stream::Stdout);
        let mut later = Walk::new(&subject.log, Select::default()).at(12..14);
        let mut after = Walk::new(&subject.log, Select::default()).after(1);
        let mut here = Walk::new(&subject.log, Select::default()).at(9..14);
        subject.append(b"abcd", Stream::Stdout);
        assert_eq!(subject.read(&mut later, 9), ("cd".into(), Place::End));
        assert_eq!(subject.read(&mut after, 9), ("abcd".into(), Place::Nothing));
        assert_eq!(here.look(&subject.log), Place::Evicted);
    }

    #[test]
    fn neighbours_in_a_slot_are_one_slice() {
        let mut subject = Subject::new(1 << 20);
        for _ in 0..5000 {
            subject.append(b"x", Stream::Stdout);
        }
        let walk = Walk::new(&subject.log, Select::default());
        let mut slices = Vec::new();
        let bytes = walk.slices(&subject.log, &subject.arena, 1 << 20, 8, &mut slices);
        assert_eq!((bytes, slices.len()), (5000, 1));
    }
}
