//! Where reads cut characters: which bytes of an entry go with the next one, so that text stays text.
//!
//! In: a log. Out: an entry's bytes without the character that the next entry of its stream completes,
//! and with the one that it completes itself. What was read last waits for a moment for that next entry.
//! It is found in the log each time, so all readers get the same, and so does one that comes back.
//! Owns nothing. Bytes that are no text stay where they are, and none is left out.
//! docs/design/046-cut-characters.md.

use std::borrow::Cow;
use std::time::Duration;

use super::arena::Arena;
use super::index::Entry;
use super::store::Log;
use crate::types::Stream;

/// An entry that has not come will not have come in time so much later, in milliseconds: one that is
/// being read has its time already.
const LATE_MS: u64 = 100;

/// So many entries on, of other streams mostly, the next part is at most.
const NEAR: usize = 64;

/// The longest part of a character.
const PART_MAX: usize = 3;

/// Whether a byte goes on with a character.
fn goes_on(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// The beginning of a character at the end of `data`, if all before that is text.
fn beginning(data: &[u8]) -> &[u8] {
    match std::str::from_utf8(data) {
        Err(error) if error.error_len().is_none() => &data[error.valid_up_to()..],
        _ => &[],
    }
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Characters<'a> {
    log: &'a Log,
    arena: &'a Arena,
    /// So soon after the first part of a character the next one is read.
    soon_ms: u64,
}

/// An entry that waits for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsettled {
    /// Its number.
    pub(crate) sequence: u64,
    /// For so long, in milliseconds.
    pub(crate) for_ms: u64,
}

impl<'a> Characters<'a> {
    /// The next part of a character comes within `soon`.
    pub(crate) fn new(log: &'a Log, arena: &'a Arena, soon: Duration) -> Self {
        let soon_ms = soon.as_secs() * 1000 + u64::from(soon.subsec_millis());
        Self {
            log,
            arena,
            soon_ms,
        }
    }

    /// The text of an entry whose bytes are `data`.
    pub(crate) fn text<'d>(&self, entry: &Entry, data: &'d [u8]) -> Cow<'d, [u8]> {
        let begun = self.begun(entry, 0);
        let left = self.left(entry);
        if begun.is_empty() {
            return Cow::Borrowed(&data[..data.len().saturating_sub(left.len())]);
        }
        let mut text = [&begun, data].concat();
        text.truncate(text.len().saturating_sub(left.len()));
        Cow::Owned(text)
    }

    /// What of an entry's text goes with the next one.
    pub(crate) fn left(&self, entry: &Entry) -> Vec<u8> {
        let unfinished = self.unfinished(entry, 0);
        if unfinished.is_empty() {
            return unfinished;
        }
        let mut behind = self.log.from(entry.sequence + 1).take(NEAR);
        let next = behind.find(|next| next.stream == entry.stream);
        match next {
            Some(next) if self.takes(&next, entry, &unfinished) => unfinished,
            _ => Vec::new(),
        }
    }

    /// The first entry that the next one of its stream may still complete.
    pub(crate) fn unsettled(&self, now_ms: u64) -> Option<Unsettled> {
        let mut seen = [false; Stream::COUNT];
        let near = (self.log.last() + 1).saturating_sub(NEAR as u64);
        let newest = self.log.from(near.max(self.log.first())).rev();
        newest
            .filter(|entry| !std::mem::replace(&mut seen[entry.stream as usize], true))
            .filter_map(|entry| {
                let age = now_ms.checked_sub(entry.timestamp_ms)?;
                let for_ms = (self.soon_ms + LATE_MS)
                    .checked_sub(age)
                    .filter(|left| *left > 0)?;
                let waits = !self.unfinished(&entry, 0).is_empty();
                waits.then_some(Unsettled {
                    sequence: entry.sequence,
                    for_ms,
                })
            })
            .last()
    }

    /// The entries before `position` that have left something to one from there on, and how much: their
    /// numbers and bytes.
    pub(crate) fn owed(&self, position: u64) -> Vec<(u64, u64)> {
        let mut seen = [false; Stream::COUNT];
        let before = (1..=NEAR as u64).map_while(|back| self.log.get(position.checked_sub(back)?));
        before
            .filter(|entry| !std::mem::replace(&mut seen[entry.stream as usize], true))
            .map(|entry| (entry.sequence, self.left(&entry).len() as u64))
            .filter(|(_, bytes)| *bytes > 0)
            .collect()
    }

    /// What an earlier entry has begun and this one goes on with. It is `deep` parts from the one that
    /// is asked for.
    fn begun(&self, entry: &Entry, deep: usize) -> Vec<u8> {
        let data = self.log.bytes(self.arena, entry);
        if deep == PART_MAX || !data.first().is_some_and(|byte| goes_on(*byte)) {
            return Vec::new();
        }
        let before = (1..=NEAR as u64).map_while(|back| {
            let sequence = entry.sequence.checked_sub(back)?;
            self.log.get(sequence)
        });
        let mut before = before.filter(|before| before.stream == entry.stream);
        let Some(before) = before.next() else {
            return Vec::new();
        };
        let unfinished = self.unfinished(&before, deep + 1);
        match self.takes(entry, &before, &unfinished) {
            true => unfinished,
            false => Vec::new(),
        }
    }

    /// The character that is not whole at the end of an entry.
    fn unfinished(&self, entry: &Entry, deep: usize) -> Vec<u8> {
        let data = self.log.bytes(self.arena, entry);
        if data.last().is_none_or(u8::is_ascii) {
            return Vec::new();
        }
        let inside = data
            .iter()
            .take(PART_MAX)
            .take_while(|byte| goes_on(**byte));
        match inside.count() {
            inside if inside < data.len() => beginning(&data[inside..]).to_vec(),
            _ => {
                let mut part = self.begun(entry, deep);
                part.extend_from_slice(data);
                let whole = beginning(&part).len() == part.len();
                if whole { part } else { Vec::new() }
            }
        }
    }

    /// Whether `next` goes on with what is unfinished in the entry `before` it.
    fn takes(&self, next: &Entry, before: &Entry, unfinished: &[u8]) -> bool {
        let soon = next.timestamp_ms.checked_sub(before.timestamp_ms);
        let Some(&first) = self.log.bytes(self.arena, next).first() else {
            return false;
        };
        if unfinished.is_empty() || soon.is_none_or(|after| after >= self.soon_ms) {
            return false;
        }
        let longer = [unfinished, &[first]].concat();
        let text = std::str::from_utf8(&longer);
        goes_on(first) && text.map_or_else(|error| error.error_len().is_none(), |_| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Written {
        arena: Arena,
        log: Log,
    }

    impl Written {
        fn new(entries: &[(u64, Stream, &[u8])]) -> Self {
            let (mut arena, mut log) = (Arena::new().unwrap(), Log::default());
            for (at, stream, data) in entries {
                log.append_at(&mut arena, data, *stream, *at, 1 << 20);
            }
            Self { arena, log }
        }

        fn characters(&self) -> Characters<'_> {
            Characters::new(&self.log, &self.arena, Duration::from_millis(SOON_MS))
        }

        fn texts(&self) -> Vec<Vec<u8>> {
            let text = |entry: Entry| {
                let data = self.log.bytes(&self.arena, &entry);
                self.characters().text(&entry, data).into_owned()
            };
            self.log.from(1).map(text).collect()
        }
    }

    const OUT: Stream = Stream::Stdout;
    const SOON_MS: u64 = 1000;
    const WAIT_MS: u64 = SOON_MS + LATE_MS;

    #[test]
    fn text_stays_text_however_it_is_cut() {
        let text = "aé€\u{1F600}\u{10FFFF}€ééz\u{800}".as_bytes();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let parts = [&text[..first], &text[first..second], &text[second..]];
                let parts = parts.into_iter().filter(|part| !part.is_empty());
                let entries: Vec<_> = parts.map(|part| (5, OUT, part)).collect();
                let texts = Written::new(&entries).texts();
                assert_eq!(texts.concat(), text);
                for part in &texts {
                    std::str::from_utf8(part).unwrap();
                }
            }
        }
        let bytes: Vec<_> = text.chunks(1).map(|byte| (5, OUT, byte)).collect();
        let texts = Written::new(&bytes).texts();
        assert_eq!(texts.concat(), text);
        assert!(texts.iter().all(|part| std::str::from_utf8(part).is_ok()));
    }

    #[test]
    fn other_streams_between_the_parts_do_not_matter() {
        let err = (5, Stream::Stderr, &b"e"[..]);
        let written = Written::new(&[
            (5, OUT, b"a\xe2"),
            err,
            (6, OUT, b"\x82"),
            err,
            (7, OUT, b"\xac"),
        ]);
        assert_eq!(
            written.texts(),
            [&b"a"[..], b"e", b"", b"e", "€".as_bytes()]
        );
        let mut far = vec![(5, OUT, &b"\xc3"[..])];
        far.extend((0..NEAR).map(|_| err));
        far.push((5, OUT, b"\xa9"));
        assert_eq!(Written::new(&far).texts()[0], b"\xc3");
    }

    #[test]
    fn what_is_left_is_owed_until_the_next_of_the_stream() {
        let err = Stream::Stderr;
        let written = Written::new(&[
            (5, OUT, b"a\xe2\x82"),
            (5, err, b"\xc3"),
            (6, OUT, b"\xac\xc3"),
            (6, err, b"\xa9"),
            (6, OUT, b"."),
        ]);
        let owed = |position| written.characters().owed(position);
        assert_eq!(owed(1), []);
        assert_eq!(owed(2), [(1, 2)]);
        assert_eq!(owed(3), [(2, 1), (1, 2)]);
        assert_eq!(owed(4), [(2, 1)]);
        assert_eq!(owed(5), []);
        assert_eq!(owed(6), []);
    }

    #[test]
    fn what_is_not_completed_soon_or_is_no_text_stays_where_it_is() {
        for (late, parts) in [
            (SOON_MS, [&b"\xc3"[..], b"\xa9"]),
            (0, [&b"\xc3"[..], b"a"]),
            (0, [&b"\xe0"[..], b"\x80"]),
            (0, [&b"\xff\xc3"[..], b"\xa9"]),
            (0, [&b"\xa9\xa9"[..], b"\xa9"]),
            (0, [&b"\xc3\xa9"[..], b"\xa9"]),
        ] {
            let written = Written::new(&[(9, OUT, parts[0]), (9 + late, OUT, parts[1])]);
            assert_eq!(written.texts(), parts, "{parts:?}");
        }
        // The clock was set back.
        let written = Written::new(&[(9, OUT, b"\xc3"), (8, OUT, b"\xa9")]);
        assert_eq!(written.texts(), [b"\xc3", b"\xa9"]);
    }

    #[test]
    fn a_flood_of_continuations_is_looked_at_no_further_than_a_character_reaches() {
        let flood = [(5, OUT, &b"\x80"[..]); 300];
        assert!(
            Written::new(&flood)
                .texts()
                .iter()
                .all(|part| part == b"\x80")
        );
    }

    #[test]
    fn any_bytes_come_through_and_any_beginning_is_the_same() {
        let mut random = 7_u64;
        let mut next = |below: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % below
        };
        for _ in 0..500 {
            let alphabet = b"a\x80\x82\xac\xa9\xc3\xe2\xf0\x9f\xff";
            let entries: Vec<(u64, Stream, Vec<u8>)> = (0..12)
                .map(|at| {
                    let stream = if next(4) == 0 { Stream::Stderr } else { OUT };
                    let len = next(4) + 1;
                    let data = (0..len).map(|_| alphabet[next(10) as usize]).collect();
                    (at, stream, data)
                })
                .collect();
            let lent: Vec<_> = entries
                .iter()
                .map(|(at, on, data)| (*at, *on, &data[..]))
                .collect();
            let texts = Written::new(&lent).texts();
            for stream in [OUT, Stream::Stderr] {
                let of = |parts: &[Vec<u8>]| -> Vec<u8> {
                    let parts = parts.iter().zip(&lent);
                    let parts = parts.filter(|(_, entry)| entry.1 == stream);
                    parts.flat_map(|(part, _)| part.clone()).collect()
                };
                let all: Vec<_> = lent.iter().map(|entry| entry.2.to_vec()).collect();
                // Of the last entry everything is there: nothing is behind it.
                assert_eq!(of(&texts), of(&all));
            }
        }
    }

    #[test]
    fn the_newest_entry_waits_for_a_moment_and_no_longer() {
        let err = (20, Stream::Stderr, &b"x"[..]);
        let written = Written::new(&[(10, OUT, b"a\xe2"), err]);
        let at = |now| written.characters().unsettled(now);
        let first = |for_ms| {
            Some(Unsettled {
                sequence: 1,
                for_ms,
            })
        };
        assert_eq!(at(10), first(WAIT_MS));
        assert_eq!(at(10 + WAIT_MS - 1), first(1));
        assert_eq!(at(10 + WAIT_MS), None);
        assert_eq!(at(9), None);
        for newer in [&b"\x82"[..], b"b"] {
            let written = Written::new(&[(10, OUT, b"a\xe2"), err, (11, OUT, newer)]);
            let sequence = written
                .characters()
                .unsettled(11)
                .map(|entry| entry.sequence);
            assert_eq!(sequence, (newer == b"\x82").then_some(3));
        }
    }
}
