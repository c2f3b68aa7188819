//! Where the last lines of a log begin.
//!
//! In: a log, from its end backwards, a bounded step at a time. Out: where the lines begin, for each
//! stream. Owns a few words. Knows no line's text.
//!
//! A line belongs to its stream: what another stream wrote in its middle is not part of it. Lines
//! are counted in the order of their last bytes, which is the order in which they were completed;
//! what a stream wrote behind its last line feed is a line, too. Where one is counted, all of it is
//! shown.

use super::arena::Arena;
use super::index::Entry;
use super::select::Select;
use super::store::Log;
use super::walk::{Begin, Begins, LOOKED_AT_MAX};
use crate::types::Stream;

/// Bytes that are searched in one step.
const SEARCHED_MAX: usize = 1 << 20;

/// Line feeds that are found in one step.
const FOUND_MAX: usize = 1 << 15;

/// How far the lines of one stream are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Not a byte of it has been looked at.
    Nothing,
    /// The line that is being looked at is one of those that are wanted.
    Wanted,
    /// Where they begin.
    Begin(Begin),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct LastLines {
    select: Select,
    /// Entries up to this one are not looked at.
    since: u64,
    /// Behind the last entry that is looked at.
    end: u64,
    /// Lines that are still wanted.
    left: u64,
    known: [Known; Stream::COUNT],
    /// The entry that is looked at next, and how many bytes of it; all if that is not known.
    at: u64,
    rest: Option<usize>,
}

impl LastLines {
    /// The last `count` lines of the entries `since + 1..=last` that `select` matches.
    pub fn new(select: Select, since: u64, last: u64, count: u64) -> Self {
        Self {
            select,
            since,
            end: last.saturating_add(1),
            left: count,
            known: [Known::Nothing; Stream::COUNT],
            at: last,
            rest: None,
        }
    }

    /// One step. Where the lines begin, once that is known.
    pub fn look(&mut self, log: &Log, arena: &Arena) -> Option<Begins> {
        let (mut searched, mut found, mut entries) = (0, 0, 0);
        while self.goes_on() {
            let oldest = log.first().max(self.since.saturating_add(1));
            if self.at < oldest {
                break;
            }
            if searched >= SEARCHED_MAX || found >= FOUND_MAX || entries >= LOOKED_AT_MAX {
                return None;
            }
            entries += 1;
            if let Some(entry) = log.get(self.at)
                && self.select.matches(&entry)
                && !matches!(self.known[entry.stream as usize], Known::Begin(_))
            {
                let bytes = log.bytes(arena, &entry);
                let bytes = &bytes[..self.rest.unwrap_or(bytes.len()).min(bytes.len())];
                // A part of it at a time: it may be full of line feeds.
                let part = bytes.len().min(FOUND_MAX);
                searched += part;
                found += self.search(&entry, bytes, bytes.len() - part);
                if part < bytes.len() {
                    self.rest = Some(bytes.len() - part);
                    continue;
                }
            }
            self.at -= 1;
            self.rest = None;
        }
        Some(self.begins())
    }

    /// Whether another line may be wanted, or the beginning of one that is.
    fn goes_on(&self) -> bool {
        self.left > 0 || self.known.contains(&Known::Wanted)
    }

    /// Searches the end of `bytes`, which begin entry `entry`, down to `from`. How many line feeds
    /// there are.
    fn search(&mut self, entry: &Entry, bytes: &[u8], from: usize) -> usize {
        let stream = entry.stream as usize;
        let behind = |at: usize| Begin {
            sequence: entry.sequence,
            skip: at + 1,
        };
        if self.known[stream] == Known::Nothing
            && let Some((last, _)) = bytes.split_last()
            && *last != b'\n'
        {
            self.known[stream] = self.line_before(behind(bytes.len() - 1));
        }
        let mut found = 0;
        for at in memchr::memrchr_iter(b'\n', &bytes[from..]) {
            if matches!(self.known[stream], Known::Begin(_)) {
                break;
            }
            found += 1;
            self.known[stream] = self.line_before(behind(from + at));
        }
        found
    }

    /// What is known once a line has been found that ends before `begin`.
    fn line_before(&mut self, begin: Begin) -> Known {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Known::Wanted
            }
            None => Known::Begin(begin),
        }
    }

    fn begins(&self) -> Begins {
        let all = Begin {
            sequence: self.since.saturating_add(1),
            skip: 0,
        };
        let none = Begin {
            sequence: self.end,
            skip: 0,
        };
        self.known.map(|known| match known {
            Known::Begin(begin) => begin,
            Known::Wanted => all,
            // Either there is none, or others were written later.
            Known::Nothing => none,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::walk::{Place, Walk};
    use super::*;
    use crate::types::StreamFilter;
    use Stream::{Stderr, Stdout};

    struct Subject {
        arena: Arena,
        log: Log,
    }

    impl Subject {
        fn new(entries: &[(&str, Stream)]) -> Self {
            let mut subject = Self {
                arena: Arena::new().unwrap(),
                log: Log::default(),
            };
            for (text, stream) in entries {
                subject.append(text.as_bytes(), *stream);
            }
            subject
        }

        fn append(&mut self, data: &[u8], stream: Stream) {
            self.log.append(&mut self.arena, data, stream, 1 << 24);
        }

        fn begins(&self, select: Select, since: u64, count: u64) -> (Begins, usize) {
            let mut lines = LastLines::new(select, since, self.log.last(), count);
            let mut steps = 1;
            loop {
                match lines.look(&self.log, &self.arena) {
                    Some(begins) => return (begins, steps),
                    None => steps += 1,
                }
            }
        }

        fn last_lines(&self, select: Select, since: u64, count: u64) -> String {
            let (begins, _) = self.begins(select, since, count);
            let mut walk = Walk::new(&self.log, select);
            walk.begin_at(begins);
            let mut text = Vec::new();
            while walk.look(&self.log) == Place::Bytes {
                let mut slices = Vec::new();
                let bytes = walk.slices(&self.log, &self.arena, 1 << 16, 9, &mut slices);
                text.extend(slices.iter().flat_map(|slice| slice.to_vec()));
                walk.advance(&self.log, bytes);
            }
            String::from_utf8(text).unwrap()
        }
    }

    fn only(stream: Stream) -> Select {
        StreamFilter::Only(stream).into()
    }

    #[test]
    fn lines_are_counted_across_entries() {
        let subject = Subject::new(&[("a\nb", Stdout), ("b\n\nc", Stdout), ("c\r\n", Stdout)]);
        for (count, text) in [
            (0, ""),
            (1, "cc\r\n"),
            (2, "\ncc\r\n"),
            (3, "bb\n\ncc\r\n"),
            (4, "a\nbb\n\ncc\r\n"),
            (5, "a\nbb\n\ncc\r\n"),
            (u64::MAX, "a\nbb\n\ncc\r\n"),
        ] {
            assert_eq!(subject.last_lines(Select::default(), 0, count), text);
        }
        assert_eq!(subject.last_lines(Select::default(), 1, 3), "b\n\ncc\r\n");
        assert_eq!(subject.last_lines(Select::default(), 1, 9), "b\n\ncc\r\n");
        assert_eq!(subject.last_lines(Select::default(), 3, 9), "");
        assert_eq!(subject.last_lines(only(Stderr), 0, 9), "");
    }

    #[test]
    fn what_follows_the_last_line_feed_is_a_line() {
        let subject = Subject::new(&[("a\nb", Stdout)]);
        assert_eq!(subject.last_lines(Select::default(), 0, 1), "b");
        assert_eq!(subject.last_lines(Select::default(), 0, 2), "a\nb");
        let subject = Subject::new(&[("no line feed", Stdout)]);
        assert_eq!(subject.last_lines(Select::default(), 0, 1), "no line feed");
        assert_eq!(subject.last_lines(Select::default(), 0, 0), "");
    }

    #[test]
    fn a_line_belongs_to_its_stream() {
        let subject = Subject::new(&[
            ("o1\no2 ", Stdout),
            ("e1\ne2 ", Stderr),
            ("goes on\n", Stdout),
            ("ends\n", Stderr),
            ("o3", Stdout),
        ]);
        for (count, text) in [
            (1, "o3"),
            (2, "e2 ends\no3"),
            (3, "o2 e2 goes on\nends\no3"),
            (4, "o2 e1\ne2 goes on\nends\no3"),
            (5, "o1\no2 e1\ne2 goes on\nends\no3"),
        ] {
            assert_eq!(subject.last_lines(Select::default(), 0, count), text);
        }
        assert_eq!(subject.last_lines(only(Stdout), 0, 2), "o2 goes on\no3");
        assert_eq!(subject.last_lines(only(Stderr), 0, 1), "e2 ends\n");
    }

    #[test]
    fn a_stream_that_has_no_line_among_the_last_ones_begins_with_what_comes() {
        let mut subject = Subject::new(&[("prompt> ", Stderr), ("1\n", Stdout), ("2\n", Stdout)]);
        let (begins, _) = subject.begins(Select::default(), 0, 2);
        let mut walk = Walk::new(&subject.log, Select::default());
        walk.begin_at(begins);
        assert_eq!(walk.look(&subject.log), Place::Bytes);
        walk.advance(&subject.log, 4);
        assert_eq!(walk.look(&subject.log), Place::Nothing);
        subject.append(b"later\n", Stderr);
        assert_eq!(walk.look(&subject.log), Place::Bytes);
    }

    #[test]
    fn a_long_search_takes_several_steps() {
        let mut subject = Subject::new(&[]);
        for _ in 0..8 {
            subject.append(&vec![b'\n'; 1 << 16], Stdout);
        }
        let (begins, steps) = subject.begins(Select::default(), 0, 500_000);
        assert!((8..64).contains(&steps), "{steps}");
        let at = begins[Stdout as usize];
        let before = (at.sequence - 1) * (1 << 16) + at.skip as u64;
        assert_eq!(8 * (1 << 16) - before, 500_000);
    }

    #[test]
    fn what_is_evicted_meanwhile_ends_the_search() {
        let mut subject = Subject::new(&[]);
        for _ in 0..40 {
            subject.append(&vec![b'x'; 1 << 16], Stdout);
        }
        let mut lines = LastLines::new(Select::default(), 0, 40, 3);
        assert_eq!(lines.look(&subject.log, &subject.arena), None);
        subject.log.clear(&mut subject.arena);
        let begins = lines.look(&subject.log, &subject.arena).unwrap();
        assert_eq!(begins[Stdout as usize].sequence, 1);
    }
}
