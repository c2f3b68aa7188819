//! Where one viewer is in the output of its terminal, and what it is shown before live output.
//!
//! In: a log. Out: what comes next for this viewer. Replay and live output are one walk of one
//! cursor, so nothing can be lost or repeated between them. Knows no socket.

use std::time::Instant;

use crate::api::query::Replay;
use crate::log::cursor::Next;
use crate::log::{Arena, Cursor, Log};
use crate::process::pacing::Place;
use crate::types::StreamFilter;
use crate::wire::vt::QueryFilter;
use crate::wire::vt::screen::Boundary;

use crate::io::screen::RECENT_BYTES;

/// Bytes that are looked at to find a place between two sequences.
const BOUNDARY_BYTES: usize = 64 << 10;

/// Raw bytes of one replayed frame, about.
const REPLAY_FRAME_BYTES: usize = 64 << 10;

/// Output that was retained, as it is shown to a viewer: without the queries in it.
#[derive(Debug, Default)]
pub(super) struct Drawing {
    filter: QueryFilter,
    /// The last entry of it; live output follows.
    last: u64,
    /// Bytes that are left out at the beginning of the first entry.
    skip: u64,
    /// What is left of a character that began earlier is left out, too.
    at_character: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct View {
    cursor: Cursor,
    /// Bytes of the output before the cursor.
    at: u64,
    /// What is shown first; None once that has been handed out.
    drawing: Option<Box<Drawing>>,
    /// Everything up to here has been sent.
    pub(super) sent: Place,
    /// The last entry that it is to get, once that is known.
    last: Option<u64>,
    /// What the last `cursor` frame said, and when.
    pub(super) told: Option<(Place, Instant)>,
}

impl View {
    /// A viewer of `log` that begins as it has asked for.
    ///
    /// # Errors
    /// Where that would have been, if it is no longer retained and `exactly` that is wanted.
    pub(super) fn new(
        log: &Log,
        arena: &Arena,
        replay: Replay,
        exactly: bool,
    ) -> Result<Self, Place> {
        let (first, retained) = (log.first(), log.first_offset(ALL));
        let evicted = |place: Place| place.next < first && exactly;
        let place = match replay {
            // Who is shown the screen is told where that is; it is not asked for here.
            Replay::None | Replay::Usual(_) | Replay::Screen(_) => end(log),
            Replay::All => place(retained, first),
            Replay::Since(sequence) => {
                let next = sequence.saturating_add(1);
                let place = place(offset(log, next.min(log.last() + 1)), next);
                if evicted(place) {
                    return Err(place);
                }
                match next < first {
                    true => self::place(retained, first),
                    false => place,
                }
            }
            Replay::Offset(offset) => match located(log, offset) {
                Some((place, skip)) => return Ok(Self::at(log, place, skip, false)),
                None => return Err(place(offset, evicted_entry(log, offset))),
            },
            Replay::Recent => {
                let (place, skip) = outside(log, arena, recent(log));
                return Ok(Self::at(log, place, skip, false));
            }
        };
        // What was evicted may have ended in the middle of a character.
        let is_cut = place.next == first && first > 1;
        Ok(Self::at(log, place, 0, is_cut))
    }

    /// A viewer that has been shown the screen that everything through entry `shown` has made.
    pub(super) fn behind(log: &Log, shown: u64) -> Self {
        let next = (shown + 1).max(log.first());
        let mut view = Self::at(log, place(offset(log, next), next), 0, false);
        // What came meanwhile, if anything, has not been shown to anybody.
        view.drawing = None;
        view
    }

    /// Goes on where another one begins: it has been drawn anew.
    pub(super) fn again(&mut self, other: Self) {
        let (last, told, sent) = (self.last, self.told, self.sent);
        *self = other;
        (self.last, self.told, self.sent) = (last, told, sent);
    }

    /// `skip` bytes of the first entry are before `place`.
    pub(super) fn at(log: &Log, place: Place, skip: u64, at_character: bool) -> Self {
        let drawing = (place.next <= log.last()).then(|| {
            Box::new(Drawing {
                last: log.last(),
                skip,
                at_character,
                ..Drawing::default()
            })
        });
        Self {
            cursor: Cursor::at(log, ALL, place.next),
            at: place.at - skip,
            drawing,
            sent: place,
            last: None,
            told: None,
        }
    }

    /// How many bytes there are that it has not been handed.
    pub(super) fn lacks(&self, log: &Log) -> u64 {
        end(log).at.saturating_sub(self.at)
    }

    /// Whether it has been handed all there is, or waits for an entry that is still to come.
    pub(super) fn has_all(&mut self, log: &Log) -> bool {
        let has_all = self.cursor.position() > log.last();
        if has_all {
            self.at = end(log).at;
        }
        has_all
    }

    /// The place of what is taken next.
    pub(super) fn place(&self) -> Place {
        place(self.at, self.cursor.position())
    }

    /// Whether it is still shown what was retained.
    pub(super) fn is_drawing(&self) -> bool {
        self.drawing.is_some()
    }

    /// The next piece of what was retained, which may be empty; None if there is none, an error if
    /// eviction was faster.
    pub(super) fn draw(&mut self, log: &Log, arena: &Arena) -> Result<Option<Vec<u8>>, ()> {
        let Some(drawing) = &mut self.drawing else {
            return Ok(None);
        };
        if let Next::Gap(_) = self.cursor.next(log) {
            return Err(());
        }
        let mut shown = Vec::new();
        let mut raw = 0;
        for entry in log.from(self.cursor.position()) {
            if entry.sequence > drawing.last || raw > 0 && raw + entry.len > REPLAY_FRAME_BYTES {
                break;
            }
            raw += entry.len;
            let mut bytes = log.bytes(arena, &entry);
            let skip = usize::try_from(std::mem::take(&mut drawing.skip)).unwrap_or(usize::MAX);
            bytes = bytes.get(skip..).unwrap_or_default();
            if std::mem::take(&mut drawing.at_character) {
                bytes = behind_character(bytes);
            }
            drawing.filter.push(bytes, &mut shown);
            self.cursor.advance(entry.sequence, entry.len as u64);
            self.at += entry.len as u64;
        }
        if self.cursor.position() > drawing.last {
            drawing.filter.finish(&mut shown);
            self.drawing = None;
        }
        Ok(Some(shown))
    }

    /// The cursor, to take live output with.
    pub(super) fn cursor(&mut self) -> &mut Cursor {
        &mut self.cursor
    }

    /// `bytes` of live output have been taken.
    pub(super) fn took(&mut self, bytes: u64) {
        self.at += bytes;
    }

    /// There will be no more than what is in the log now. Whether it has been handed all of that.
    pub(super) fn ends(&mut self, log: &Log) -> bool {
        let last = *self.last.get_or_insert(log.last());
        self.drawing.is_none() && self.cursor.position() > last
    }

    /// Whether it is known where it ends.
    pub(super) fn is_ending(&self) -> bool {
        self.last.is_some()
    }
}

const ALL: StreamFilter = StreamFilter::Combined;

fn place(at: u64, next: u64) -> Place {
    Place {
        at,
        next,
        owes: false,
    }
}

/// Behind everything.
pub(super) fn end(log: &Log) -> Place {
    place(log.end_offset(ALL), log.last() + 1)
}

/// Bytes of the output before an entry; about, if that is no longer retained.
fn offset(log: &Log, sequence: u64) -> u64 {
    let (before, first) = (
        log.bytes_before(sequence, ALL),
        log.bytes_before(log.first(), ALL),
    );
    match before.checked_sub(first) {
        Some(retained) => log.first_offset(ALL) + retained,
        None => before,
    }
}

/// Where the last [`RECENT_BYTES`] begin, in whole entries.
fn recent(log: &Log) -> Place {
    let mut place = end(log);
    let all = place.at;
    for entry in log.from(log.first()).rev() {
        if all - place.at + entry.len as u64 > RECENT_BYTES {
            break;
        }
        place.at -= entry.len as u64;
        place.next = entry.sequence;
    }
    place
}

/// `place`, or the first one behind it that is in no character and no sequence; the second number
/// is how many bytes of its entry are before it.
fn outside(log: &Log, arena: &Arena, place: Place) -> (Place, u64) {
    let mut boundary = Boundary::default();
    let mut before = 0;
    let earlier = log.from(log.first()).rev();
    let earlier = earlier.skip_while(|entry| entry.sequence >= place.next);
    let earlier = earlier.take_while(|entry| {
        let enough = before >= BOUNDARY_BYTES;
        before += entry.len;
        !enough
    });
    let Some(from) = earlier.last().map(|entry| entry.sequence) else {
        return (place, 0);
    };
    let mut at = place;
    let mut looked_at = 0;
    for entry in log.from(from) {
        let bytes = log.bytes(arena, &entry);
        if entry.sequence < place.next {
            boundary.push(bytes);
            continue;
        }
        let skip = boundary.find(bytes);
        if let Some(skip) = skip {
            at.at += skip as u64;
            return (at, skip as u64);
        }
        at.at += entry.len as u64;
        at.next = entry.sequence + 1;
        looked_at += entry.len;
        if looked_at >= BOUNDARY_BYTES {
            break;
        }
    }
    // A string that long is as good as any.
    (place, 0)
}

/// The entry that byte `offset` is in, and how many bytes of that are before it. The end, if there
/// is no such byte yet; None if it is no longer retained.
fn located(log: &Log, offset: u64) -> Option<(Place, u64)> {
    let mut begin = end(log);
    if offset >= begin.at {
        return Some((begin, 0));
    }
    for entry in log.from(log.first()).rev() {
        begin.at -= entry.len as u64;
        if begin.at <= offset {
            return Some((place(offset, entry.sequence), offset - begin.at));
        }
    }
    None
}

/// The entry that byte `offset` was in, about; it is no longer retained.
fn evicted_entry(log: &Log, offset: u64) -> u64 {
    let (mut low, mut high) = (1, log.first());
    while low < high {
        let middle = low + (high - low) / 2;
        match log.bytes_before(middle + 1, ALL) <= offset {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    low
}

/// `bytes` without what is left of a character that began before them.
fn behind_character(bytes: &[u8]) -> &[u8] {
    let is_inside = |byte: &&u8| **byte & 0xc0 == 0x80;
    let inside = bytes.iter().take(3).take_while(is_inside).count();
    &bytes[inside..]
}
