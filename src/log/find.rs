//! Looks for a text in a log, each byte once.
//!
//! In: a log, as often as it has grown. Out: the entry in which the text ends. Owns a place in the
//! log and, for each stream, how much of the text its last bytes were (Knuth, Morris and Pratt): a
//! text that is cut into entries is found without a byte being kept or looked at again. Inside of a
//! long entry the whole text is looked for, which is many times faster (memmem). A search goes on for
//! as much work as it is told and can be taken up again.

use memchr::memmem::Finder;

use super::arena::Arena;
use super::store::Log;
use crate::types::{Stream, StreamFilter};

/// The longest text that is looked for, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 4096;

/// What an entry costs besides its bytes.
const ENTRY_COST: usize = 64;

/// An entry of so many times a text's length is a long one for it.
const LONG: usize = 4;

/// A text, and what it takes to find it.
#[derive(Debug)]
struct Pattern {
    text: Finder<'static>,
    /// For each place: the longest beginning of the text that ends just before it, itself apart.
    fallback: Box<[u16]>,
}

impl Pattern {
    fn new(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let mut fallback = vec![0_u16; text.len()];
        let mut known = 0_u16;
        for at in 1..text.len() {
            fallback[at] = known;
            while known > 0 && text[at] != text[usize::from(known)] {
                known = fallback[usize::from(known)];
            }
            if text[at] == text[usize::from(known)] {
                known += 1;
            }
        }
        Some(Self {
            text: Finder::new(text).into_owned(),
            fallback: fallback.into(),
        })
    }

    /// Goes on behind `known` bytes of the text; None once all of it was there.
    fn feed(&self, known: u16, data: &[u8]) -> Option<u16> {
        let len = self.text.needle().len();
        if data.len() < LONG * len {
            return self.feed_bytes(known, data);
        }
        // What begins before this data ends at its beginning; what ends behind it begins at its end.
        self.feed_bytes(known, &data[..len - 1])?;
        match self.text.find(data) {
            None => self.feed_bytes(0, &data[data.len() - (len - 1)..]),
            Some(_) => None,
        }
    }

    /// The same, byte by byte.
    fn feed_bytes(&self, mut known: u16, data: &[u8]) -> Option<u16> {
        let text = self.text.needle();
        let first = text[0];
        let mut rest = data;
        while !rest.is_empty() {
            if known == 0 {
                match rest.iter().position(|&byte| byte == first) {
                    Some(at) => rest = &rest[at..],
                    None => return Some(0),
                }
            }
            let byte = rest[0];
            while known > 0 && byte != text[usize::from(known)] {
                known = self.fallback[usize::from(known)];
            }
            if byte == text[usize::from(known)] {
                known += 1;
                if usize::from(known) == text.len() {
                    return None;
                }
            }
            rest = &rest[1..];
        }
        Some(known)
    }
}

/// What a step has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The text ends in this entry.
    Found {
        /// Its number.
        sequence: u64,
    },
    /// The work was used up before the log was.
    More,
    /// It is not in the log so far.
    Nothing,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Search {
    pattern: Pattern,
    filter: StreamFilter,
    /// The entry to look at next.
    next: u64,
    /// Bytes of all entries before that, once the log has been seen.
    passed: Option<u64>,
    /// How much of the text each stream ends with.
    known: [u16; Stream::COUNT],
}

impl Search {
    /// Looks for a text of 1 to [`TEXT_BYTES_MAX`] bytes in the entries after `since`, within one
    /// stream of those asked for. None for any other length.
    pub(crate) fn new(text: &[u8], filter: StreamFilter, since: u64) -> Option<Self> {
        Some(Self {
            pattern: Pattern::new(text)?,
            filter,
            next: since.saturating_add(1),
            passed: None,
            known: [0; Stream::COUNT],
        })
    }

    /// The entry that it will look at next.
    pub(crate) fn position(&self) -> u64 {
        self.next
    }

    /// Bytes of all entries that it will not look at any more.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.unwrap_or(0)
    }

    /// Goes on for `work` bytes or a little more. What was evicted before it was looked at is not
    /// found, and a text does not go on behind it.
    pub(crate) fn step(&mut self, log: &Log, arena: &Arena, work: usize) -> Step {
        if self.next < log.first() {
            self.next = log.first();
            self.known = [0; Stream::COUNT];
            self.passed = None;
        }
        let before = || log.bytes_before(self.next, StreamFilter::Combined);
        let mut passed = self.passed.unwrap_or_else(before);
        let mut left = work;
        for entry in log.from(self.next) {
            if left == 0 {
                self.passed = Some(passed);
                return Step::More;
            }
            self.next = entry.sequence + 1;
            passed += entry.len as u64;
            left = left.saturating_sub(ENTRY_COST);
            if !self.filter.matches(entry.stream) {
                continue;
            }
            left = left.saturating_sub(entry.len);
            let known = &mut self.known[entry.stream as usize];
            match self.pattern.feed(*known, log.bytes(arena, &entry)) {
                Some(now) => *known = now,
                None => {
                    return Step::Found {
                        sequence: entry.sequence,
                    };
                }
            }
        }
        self.passed = Some(log.entered_bytes());
        Step::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(entries: &[(&[u8], Stream)], limit: u64) -> (Log, Arena) {
        let (mut log, mut arena) = (Log::default(), Arena::new().unwrap());
        for (data, stream) in entries {
            log.append(&mut arena, data, *stream, limit);
        }
        (log, arena)
    }

    fn find(text: &[u8], log: &Log, arena: &Arena) -> Option<u64> {
        let mut search = Search::new(text, StreamFilter::Combined, 0).unwrap();
        loop {
            // The least work there is.
            match search.step(log, arena, 1) {
                Step::Found { sequence } => return Some(sequence),
                Step::More => {}
                Step::Nothing => return None,
            }
        }
    }

    #[test]
    fn a_text_is_found_wherever_it_is_cut() {
        for text in [&b"ready"[..], b"a", b"aab", b"aaaa", b"abab", b"abcabd"] {
            for before in [&b""[..], b"a", b"abc", b"aaa", b"ababcab", b"rea"] {
                let all = [before, text, b"tail"].concat();
                let naive = all.windows(text.len()).position(|part| part == text);
                let end = naive.unwrap() + text.len();
                for cut in 1..all.len() {
                    let (left, right) = all.split_at(cut);
                    let parts = [(left, Stream::Stdout), (right, Stream::Stdout)];
                    let (log, arena) = log_of(&parts, 1000);
                    let expected = if end <= cut { 1 } else { 2 };
                    assert_eq!(find(text, &log, &arena), Some(expected), "{all:?} at {cut}");
                }
                let bytes: Vec<_> = all.chunks(1).map(|byte| (byte, Stream::Pty)).collect();
                let (log, arena) = log_of(&bytes, 100_000);
                assert_eq!(find(text, &log, &arena), Some(end as u64), "{all:?}");
            }
        }
    }

    #[test]
    fn it_agrees_with_a_plain_search_on_texts_of_two_letters() {
        for seed in 0..1 << 12 {
            let letters: Vec<u8> = (0..12).map(|at| b'a' + (seed >> at & 1) as u8).collect();
            let (text, data) = letters.split_at(4);
            let plain = data.windows(4).any(|part| part == text);
            let (log, arena) = log_of(&[(data, Stream::Stdout)], 1000);
            assert_eq!(find(text, &log, &arena).is_some(), plain, "{letters:?}");
        }
    }

    #[test]
    fn a_text_lies_within_one_stream_and_behind_where_the_search_begins() {
        let entries = [
            (&b"re"[..], Stream::Stdout),
            (b"ad", Stream::Stderr),
            (b"ad", Stream::Stdout),
            (b"y", Stream::Stderr),
            (b"y", Stream::Stdout),
        ];
        let (log, arena) = log_of(&entries, 1000);
        assert_eq!(find(b"ready", &log, &arena), Some(5));
        assert_eq!(find(b"ady", &log, &arena), Some(4));
        let of = |filter, since| {
            let mut search = Search::new(b"ady", filter, since).unwrap();
            search.step(&log, &arena, 1000)
        };
        let stdout = StreamFilter::Only(Stream::Stdout);
        assert_eq!(of(stdout, 0), Step::Found { sequence: 5 });
        assert_eq!(of(stdout, 2), Step::Found { sequence: 5 });
        assert_eq!(of(stdout, 3), Step::Nothing);
        assert_eq!(of(StreamFilter::Only(Stream::Pty), 0), Step::Nothing);
        assert_eq!(of(StreamFilter::Combined, u64::MAX), Step::Nothing);
    }

    #[test]
    fn a_text_does_not_go_on_over_what_was_evicted() {
        let (mut log, mut arena) = log_of(&[(b"re", Stream::Stdout)], 4);
        let mut search = Search::new(b"ready", StreamFilter::Combined, 0).unwrap();
        assert_eq!(search.step(&log, &arena, 1000), Step::Nothing);
        for part in [b"xxxx", b"ady."] {
            log.append(&mut arena, part, Stream::Stdout, 4);
        }
        assert_eq!(search.step(&log, &arena, 1000), Step::Nothing);
        log.append(&mut arena, b"read", Stream::Stdout, 4);
        assert_eq!(search.step(&log, &arena, 1000), Step::Nothing);
        log.append(&mut arena, b"y", Stream::Stdout, 4);
        let found = Step::Found { sequence: 5 };
        assert_eq!(search.step(&log, &arena, 1000), found);
    }

    #[test]
    fn what_it_has_passed_is_counted_whatever_it_looks_for_and_from_where() {
        let parts = [(&b"1234"[..], Stream::Stdout), (b"567", Stream::Stderr)];
        let (mut log, mut arena) = log_of(&parts.repeat(4), 20);
        assert_eq!((log.first(), log.entered_bytes()), (4, 28));
        for (since, filter) in [
            (0, StreamFilter::Combined),
            (5, StreamFilter::Only(Stream::Stderr)),
            (u64::MAX, StreamFilter::Combined),
        ] {
            let mut search = Search::new(b"nowhere", filter, since).unwrap();
            let mut step = search.step(&log, &arena, 1);
            while step == Step::More {
                let before = log.bytes_before(search.position(), StreamFilter::Combined);
                assert_eq!(search.passed(), before, "{since}");
                step = search.step(&log, &arena, 1);
            }
            assert_eq!(search.passed(), log.entered_bytes(), "{since}");
            for _ in 0..8 {
                log.append(&mut arena, b"more", Stream::Stdout, 20);
            }
            search.step(&log, &arena, 1);
            assert!(search.passed() >= log.dropped_bytes(), "{since}");
        }
    }

    #[test]
    fn a_step_does_the_work_it_is_told_and_no_entry_twice() {
        let data = [b'a'; 1000];
        let (log, arena) = log_of(&[(&data[..], Stream::Stdout); 10], 100_000);
        let mut search = Search::new(b"aab", StreamFilter::Combined, 0).unwrap();
        let mut places = Vec::new();
        while search.step(&log, &arena, 2000) == Step::More {
            places.push(search.position());
        }
        assert_eq!(places, [3, 5, 7, 9]);
        // Entries that nobody asked for are not free.
        let filter = StreamFilter::Only(Stream::Stderr);
        let mut search = Search::new(b"aab", filter, 0).unwrap();
        assert_eq!(search.step(&log, &arena, ENTRY_COST), Step::More);
        assert_eq!(search.position(), 2);
    }

    #[test]
    fn long_entries_and_short_ones_hold_the_same() {
        // Few letters, so that every kind of beginning that is none comes up.
        let mut seed = 1_u32;
        let mut letter = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b"ab"[(seed >> 31) as usize]
        };
        let data: Vec<u8> = (0..2000).map(|_| letter()).collect();
        for len in [1, 2, 3, 7, 12, 40] {
            for at in [0, 1, 500, 1991] {
                let text = &data[at..(at + len).min(data.len())];
                let ends = data.windows(text.len()).position(|part| part == text);
                let end = ends.unwrap() + text.len();
                for cut in [1, 5, 64, 333, 2000] {
                    let parts = data.chunks(cut).map(|part| (part, Stream::Stdout));
                    let (log, arena) = log_of(&parts.collect::<Vec<_>>(), 1 << 20);
                    let expected = end.div_ceil(cut) as u64;
                    assert_eq!(find(text, &log, &arena), Some(expected), "{len} {at} {cut}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_text_or_too_long_is_not_looked_for() {
        let of = |len| Search::new(&vec![b'x'; len], StreamFilter::Combined, 0).is_some();
        assert!(!of(0) && of(1) && of(TEXT_BYTES_MAX) && !of(TEXT_BYTES_MAX + 1));
    }
}
