//! What one stream of a run wrote, up to a cap: its first bytes, its last ones, or half of each.
//!
//! In: bytes already read into the room it lends. Out: pieces in order. Owns its slots until
//! [`Capture::release`]. Knows no stream names and no text.
//!
//! - Byte n of the stream lies in its slot n / [`SLOT_BYTES`], so what is kept needs no index.
//! - Slots between the first bytes and the last ones are given back as the stream goes on. It
//!   holds one slot more than what may be kept takes up.

use std::collections::VecDeque;
use std::ops::Range;

use super::arena::{Arena, ArenaError, SLOT_BYTES, SlotId};
use crate::ledger::heritage::Slots;

/// Which bytes of a stream are kept that is longer than the cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Keep {
    /// The first ones.
    #[default]
    Head,
    /// The last ones.
    Tail,
    /// The first half, the odd byte too, and the last half.
    Both,
}

impl Keep {
    /// As clients call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Keep::Head => "head",
            Keep::Tail => "tail",
            Keep::Both => "both",
        }
    }

    /// The one of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let all = [Keep::Head, Keep::Tail, Keep::Both];
        all.into_iter().find(|keep| keep.name() == name)
    }
}

/// Bytes before the last ones that stay readable: whoever reads text can tell whether a character
/// was cut there.
const BEFORE_LAST: u64 = 3;

/// [`SLOT_BYTES`] as positions in a stream are counted.
const SLOT: u64 = SLOT_BYTES as u64;

/// What one stream of a run wrote, cut at its cap.
#[derive(Debug)]
pub(crate) struct Capture {
    /// The slots that the first bytes are in.
    head: Vec<SlotId>,
    head_max: u64,
    /// The slots behind those that the last bytes are in.
    tail: VecDeque<SlotId>,
    /// Which slot of the stream the first of `tail` is.
    tail_number: u64,
    tail_max: u64,
    /// Bytes that were written.
    written: u64,
    /// Bytes before this one were not read into slots, unless they are of the first.
    tail_from: u64,
}

impl Capture {
    /// Keeps at most `cap` bytes.
    pub(crate) fn new(keep: Keep, cap: u64) -> Self {
        let tail_max = match keep {
            Keep::Head => 0,
            Keep::Tail => cap,
            Keep::Both => cap / 2,
        };
        Self {
            head: Vec::new(),
            head_max: cap - tail_max,
            tail: VecDeque::new(),
            tail_number: 0,
            tail_max,
            written: 0,
            tail_from: 0,
        }
    }

    /// What is kept of it, in three pieces: the first bytes, those just before the last ones, and the
    /// last ones.
    pub(crate) fn kept(&self, arena: &Arena) -> [Vec<u8>; 3] {
        let bytes = |range: Range<u64>| self.segments(range, arena).flatten().copied().collect();
        [
            bytes(self.first()),
            bytes(self.before_last()),
            bytes(self.last()),
        ]
    }

    /// One of which another server has kept this, of `written` bytes.
    pub(crate) fn resumed(
        keep: Keep,
        cap: u64,
        written: u64,
        [first, before, last]: [&[u8]; 3],
        arena: &mut Arena,
    ) -> Self {
        let mut capture = Self::new(keep, cap);
        capture.append(arena, first);
        let from = written.saturating_sub((before.len() + last.len()) as u64);
        if written > first.len() as u64 {
            // There may have been no slot for all of it.
            capture.head_max = capture.head_max.min(first.len() as u64);
            capture.written = from;
            capture.tail_from = from;
            if capture.tail_max > 0 {
                capture.append(arena, before);
                capture.append(arena, last);
            }
            capture.written = written;
        }
        capture
    }

    /// Where what is kept of it is, for another program.
    pub(crate) fn places(&self) -> Slots {
        Slots {
            head: self.head.iter().map(|slot| slot.number()).collect(),
            head_max: self.head_max,
            tail: self.tail.iter().map(|slot| slot.number()).collect(),
            tail_number: self.tail_number,
            tail_from: self.tail_from,
        }
    }

    /// One of `written` bytes of which what is kept was found there, in slots that are nobody else's
    /// ([`Recovery::holds`](super::Recovery::holds)).
    pub(crate) fn placed(keep: Keep, cap: u64, written: u64, places: Slots) -> Self {
        let slots = |numbers: Vec<u32>| numbers.into_iter().map(SlotId::from_number);
        Self {
            head: slots(places.head).collect(),
            head_max: places.head_max,
            tail: slots(places.tail).collect(),
            tail_number: places.tail_number,
            written,
            tail_from: places.tail_from,
            ..Self::new(keep, cap)
        }
    }

    /// Lends free bytes to read into, or nothing if no more is to be kept: then read elsewhere and
    /// call [`Capture::discard`].
    ///
    /// # Errors
    /// [`ArenaError::Full`] when a new slot is needed and there is none.
    pub(crate) fn room<'a>(&mut self, arena: &'a mut Arena) -> Result<&'a mut [u8], ArenaError> {
        if self.tail_max == 0 && self.written >= self.head_max {
            return Ok(&mut []);
        }
        let (number, start) = place(self.written);
        if let Some(slot) = self.slot(number) {
            return Ok(arena.tail(slot, start));
        }
        if number < self.head_max.div_ceil(SLOT) {
            let slot = arena.alloc()?;
            self.head.push(slot);
            return Ok(arena.tail(slot, start));
        }
        let keeps_from = self
            .written
            .saturating_sub(self.tail_max.saturating_add(BEFORE_LAST));
        while (self.tail_number + 1) * SLOT <= keeps_from
            && let Some(slot) = self.tail.pop_front()
        {
            arena.free(slot);
            self.tail_number += 1;
        }
        let slot = arena.alloc()?;
        if self.tail.is_empty() {
            self.tail_number = number;
        }
        self.tail.push_back(slot);
        Ok(arena.tail(slot, start))
    }

    /// Slots that it holds.
    pub(crate) fn slots(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Whether [`Capture::room`] would take a slot.
    pub(crate) fn needs_slot(&self) -> bool {
        let is_full = self.tail_max == 0 && self.written >= self.head_max;
        !is_full && self.slot(place(self.written).0).is_none()
    }

    /// Notes that the first `len` bytes of the room were written.
    pub(crate) fn commit(&mut self, len: usize) {
        self.written += len as u64;
    }

    /// Notes that `len` bytes were read and are not in a slot. If there was room for them but no
    /// slot, only what comes after them can be kept as well.
    pub(crate) fn discard(&mut self, arena: &mut Arena, len: usize) {
        if len > 0 {
            self.head_max = self.head_max.min(self.written);
            self.tail.drain(..).for_each(|slot| arena.free(slot));
            self.written += len as u64;
            self.tail_from = self.written;
        }
    }

    /// Keeps a copy of what was read elsewhere, as far as it is to be kept.
    pub(crate) fn append(&mut self, arena: &mut Arena, mut data: &[u8]) {
        while !data.is_empty() {
            let len = match self.room(arena) {
                Ok(room) if !room.is_empty() => {
                    let len = room.len().min(data.len());
                    room[..len].copy_from_slice(&data[..len]);
                    len
                }
                _ => return self.discard(arena, data.len()),
            };
            self.commit(len);
            data = &data[len..];
        }
    }

    /// Whether bytes were lost to the cap.
    pub(crate) fn truncated(&self) -> bool {
        self.lost() > 0
    }

    /// Bytes that were written.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Bytes that were written and are not kept.
    pub(crate) fn lost(&self) -> u64 {
        self.last_from() - self.first_len()
    }

    /// Bytes that are kept.
    pub(crate) fn kept_len(&self) -> u64 {
        self.written - self.lost()
    }

    /// The first bytes that are kept: all of them if nothing was lost.
    pub(crate) fn first(&self) -> Range<u64> {
        match self.truncated() {
            true => 0..self.first_len(),
            false => 0..self.written,
        }
    }

    /// The last bytes that are kept, if something before them was lost.
    pub(crate) fn last(&self) -> Range<u64> {
        match self.truncated() {
            true => self.last_from()..self.written,
            false => self.written..self.written,
        }
    }

    /// Bytes just before the last ones, as far as they are still there.
    pub(crate) fn before_last(&self) -> Range<u64> {
        let from = self.last_from();
        let start = from.saturating_sub(BEFORE_LAST).max(self.tail_from);
        start.min(from)..from
    }

    fn first_len(&self) -> u64 {
        self.written.min(self.head_max)
    }

    fn last_from(&self) -> u64 {
        let from = self.written.saturating_sub(self.tail_max);
        from.max(self.first_len()).max(self.tail_from)
    }

    fn slot(&self, number: u64) -> Option<SlotId> {
        let at = |number: u64| usize::try_from(number).ok();
        let in_tail = || self.tail.get(at(number.checked_sub(self.tail_number)?)?);
        let in_head = at(number).and_then(|number| self.head.get(number));
        in_head.or_else(in_tail).copied()
    }

    /// The slots that hold these bytes, and where in them they are.
    fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = (SlotId, Range<usize>)> + '_ {
        let mut at = range.start;
        std::iter::from_fn(move || {
            let (number, start) = place(at);
            let room = SLOT_BYTES - start;
            let len = usize::try_from(range.end - at).map_or(room, |left| left.min(room));
            at += len as u64;
            (len > 0).then_some((self.slot(number)?, start..start + len))
        })
    }

    /// These bytes in order, which are among those that are kept.
    pub(crate) fn segments<'a>(
        &'a self,
        range: Range<u64>,
        arena: &'a Arena,
    ) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.pieces(range)
            .map(|(slot, part)| arena.bytes(slot, part.start, part.len()))
    }

    /// Hands over the slots that hold kept bytes, in order, and where in them these are; nothing is
    /// kept afterwards. Where both ends are in one slot, what lies between them is handed over, too.
    pub(crate) fn take(&mut self, arena: &mut Arena) -> Vec<(SlotId, Range<usize>)> {
        let mut taken: Vec<(SlotId, Range<usize>)> = Vec::new();
        let (first, last) = (self.first(), self.last());
        for (slot, part) in self.pieces(first.clone()).chain(self.pieces(last.clone())) {
            match taken.last_mut().filter(|(before, _)| *before == slot) {
                Some((_, before)) => before.end = part.end,
                None => taken.push((slot, part)),
            }
        }
        let holds = |number: u64, range: &Range<u64>| {
            number * SLOT < range.end && range.start < (number + 1) * SLOT
        };
        let head = (0..).zip(self.head.drain(..));
        for (number, slot) in head.chain((self.tail_number..).zip(self.tail.drain(..))) {
            if !holds(number, &first) && !holds(number, &last) {
                arena.free(slot);
            }
        }
        (self.head_max, self.tail_max) = (0, 0);
        taken
    }

    /// Gives the slots back.
    pub(crate) fn release(&mut self, arena: &mut Arena) {
        for slot in self.head.drain(..).chain(self.tail.drain(..)) {
            arena.free(slot);
        }
        (self.head_max, self.tail_max) = (0, 0);
    }
}

/// Which slot of the stream a byte is in, and where in it.
fn place(at: u64) -> (u64, usize) {
    (at / SLOT, (at % SLOT) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(capture: &mut Capture, arena: &mut Arena, data: &[u8]) {
        capture.append(arena, data);
    }

    fn text(len: u64) -> Vec<u8> {
        (0..len).map(|i| (i * 31 / 8) as u8).collect()
    }

    fn bytes(capture: &Capture, range: Range<u64>, arena: &Arena) -> Vec<u8> {
        let segments = capture.segments(range, arena);
        segments.flatten().copied().collect()
    }

    #[test]
    fn exactly_the_cap_is_not_truncated_and_one_more_is() {
        let mut arena = Arena::new().unwrap();
        for keep in [Keep::Head, Keep::Tail, Keep::Both] {
            for (len, truncated) in [
                (99_999, false),
                (100_000, false),
                (100_001, true),
                (300_000, true),
                (900_000, true),
            ] {
                let data = text(len);
                let mut capture = Capture::new(keep, 100_000);
                data.chunks(7000)
                    .for_each(|part| write(&mut capture, &mut arena, part));
                let (head, tail) = match keep {
                    _ if !truncated => (len, 0),
                    Keep::Head => (100_000, 0),
                    Keep::Tail => (0, 100_000),
                    Keep::Both => (50_000, 50_000),
                };
                assert_eq!(capture.first(), 0..head, "{keep:?} {len}");
                assert_eq!(capture.last(), len - tail..len, "{keep:?} {len}");
                for range in [capture.first(), capture.last(), capture.before_last()] {
                    let expected = &data[range.start as usize..range.end as usize];
                    assert_eq!(bytes(&capture, range, &arena), expected);
                }
                assert_eq!(capture.truncated(), truncated, "{keep:?} {len}");
                assert_eq!(capture.lost(), len - head - tail);
                assert!(arena.in_use() <= 4, "{keep:?} {len}: {}", arena.in_use());
                capture.release(&mut arena);
                assert_eq!(arena.in_use(), 0);
            }
        }
    }

    #[test]
    fn the_odd_byte_is_of_the_first_half_and_no_length_is_cut_wrong() {
        let mut arena = Arena::new().unwrap();
        for keep in [Keep::Head, Keep::Tail, Keep::Both] {
            for cap in 0..6_u64 {
                for len in 0..12_u64 {
                    let mut capture = Capture::new(keep, cap);
                    let data = text(len);
                    data.iter()
                        .for_each(|byte| write(&mut capture, &mut arena, &[*byte]));
                    let head = match keep {
                        Keep::Head => cap,
                        Keep::Tail => 0,
                        Keep::Both => cap - cap / 2,
                    };
                    let expected = match len <= cap {
                        true => (data.clone(), Vec::new()),
                        false => {
                            let last = (len - (cap - head)) as usize;
                            (data[..head as usize].to_vec(), data[last..].to_vec())
                        }
                    };
                    let kept = (
                        bytes(&capture, capture.first(), &arena),
                        bytes(&capture, capture.last(), &arena),
                    );
                    assert_eq!(kept, expected, "{keep:?} {cap} {len}");
                    assert_eq!(capture.written(), len);
                    capture.release(&mut arena);
                }
            }
        }
        assert_eq!(arena.in_use(), 0);
    }

    #[test]
    fn what_another_server_had_kept_and_has_no_slot_here_is_lost() {
        let (first, last) = (text(100_000), text(70_000));
        for keep in [Keep::Head, Keep::Both] {
            let mut arena = Arena::of_slots(1);
            let last = if keep == Keep::Both { &last[..] } else { &[] };
            let kept = [&first[..], &[], last];
            let capture = Capture::resumed(keep, 200_000, 900_000, kept, &mut arena);
            assert_eq!(capture.first(), 0..SLOT, "{keep:?}");
            assert_eq!(bytes(&capture, 0..SLOT, &arena), first[..SLOT_BYTES]);
            assert_eq!(
                (capture.written(), capture.lost()),
                (900_000, 900_000 - SLOT)
            );
        }
    }

    #[test]
    fn what_another_server_has_kept_is_gone_on_with_where_it_is() {
        for keep in [Keep::Head, Keep::Tail, Keep::Both] {
            for len in [0, 10, SLOT, 3 * SLOT + 5, 9 * SLOT + 77] {
                let mut arena = Arena::new().unwrap();
                let (mut one, mut same) = (
                    Capture::new(keep, 4 * SLOT + 100),
                    Capture::new(keep, 4 * SLOT + 100),
                );
                let all = text(len + 2 * SLOT);
                let (before, after) = all.split_at(len as usize);
                write(&mut one, &mut arena, before);
                write(&mut same, &mut arena, before);
                let places = one.places();
                let mut one = Capture::placed(keep, 4 * SLOT + 100, one.written(), places);
                write(&mut one, &mut arena, after);
                write(&mut same, &mut arena, after);
                assert_eq!(one.written(), same.written());
                assert_eq!(one.kept(&arena), same.kept(&arena), "{keep:?} {len}");
                one.release(&mut arena);
                same.release(&mut arena);
                assert_eq!(arena.in_use(), 0);
            }
        }
    }

    #[test]
    fn what_had_no_slot_is_lost_and_what_comes_after_it_is_kept_at_the_end() {
        let mut arena = Arena::new().unwrap();
        let mut capture = Capture::new(Keep::Both, 100);
        write(&mut capture, &mut arena, b"begin");
        capture.discard(&mut arena, 1 << 20);
        write(&mut capture, &mut arena, b"end");
        assert_eq!(bytes(&capture, capture.first(), &arena), b"begin");
        assert_eq!(bytes(&capture, capture.last(), &arena), b"end");
        assert_eq!(capture.lost(), 1 << 20);
        assert!(capture.before_last().is_empty());
        let taken = capture.take(&mut arena);
        assert_eq!(taken.iter().map(|(_, part)| part.len()).sum::<usize>(), 8);
        assert_eq!(arena.in_use() as usize, taken.len());
    }

    #[test]
    fn a_taken_slot_holds_kept_bytes_and_no_other_slot_stays() {
        let mut arena = Arena::new().unwrap();
        for keep in [Keep::Head, Keep::Tail, Keep::Both] {
            for (cap, len) in [
                (10, 40),
                (10, 1 << 20),
                (SLOT * 4, SLOT * 9 + 5),
                (SLOT, SLOT),
            ] {
                let mut capture = Capture::new(keep, cap);
                let data = text(len);
                write(&mut capture, &mut arena, &data);
                let kept = bytes(&capture, capture.first(), &arena);
                let last = bytes(&capture, capture.last(), &arena);
                let taken = capture.take(&mut arena);
                assert_eq!(arena.in_use() as usize, taken.len(), "{keep:?} {cap} {len}");
                let all: Vec<u8> = taken
                    .iter()
                    .flat_map(|(slot, part)| arena.bytes(*slot, part.start, part.len()))
                    .copied()
                    .collect();
                assert!(all.starts_with(&kept) && all.ends_with(&last));
                taken.iter().for_each(|(slot, _)| arena.free(*slot));
            }
        }
    }

    #[test]
    fn a_cap_of_zero_takes_no_slot_and_says_truncated_only_for_output() {
        let mut arena = Arena::new().unwrap();
        for keep in [Keep::Head, Keep::Tail, Keep::Both] {
            let mut capture = Capture::new(keep, 0);
            assert!(!capture.truncated());
            write(&mut capture, &mut arena, b"x");
            assert!(capture.truncated());
            assert_eq!((capture.lost(), arena.in_use()), (1, 0));
        }
    }
}
