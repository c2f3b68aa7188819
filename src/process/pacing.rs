//! When a terminal is read: no faster than the fastest of its viewers takes what it says.
//!
//! In: who watches, how far each of them is, how far the log goes, and the time. Out: how much may
//! be read now, or how long nothing is. Owns some words for each viewer. Knows no descriptor, no
//! socket and no clock.
//!
//! A program whose terminal is not read waits in write(2), as it does for a real one. The fastest
//! viewer decides and not the slowest, so that a phone does not slow a laptop down. A viewer counts
//! while it has everything or takes some of it all the time, so that nobody can hold a program by
//! reading a byte now and then; one that has stopped counts again once it has everything, or has
//! been shown where things are. Nobody who counts, no pause.
//!
//! Why these numbers: docs/design/032-flow-control.md

use std::time::Duration;

use super::notify::Notify;
use crate::config::timeouts::{HELD_OUTPUT_MAX, VIEWER_COUNTS_FOR};
use crate::types::Monotonic;

/// How far the fastest viewer may be behind before the terminal is not read. Bytes. It is read
/// again at half of that. Less where the log is small.
pub(crate) const BEHIND_MAX: u64 = 64 << 10;

/// The least that a viewer takes in [`VIEWER_COUNTS_FOR`] to count. Bytes.
const TAKES_MIN: u32 = 4 << 10;

/// How what was taken is counted: by parts of [`VIEWER_COUNTS_FOR`], and the one that runs.
const PARTS: usize = 8;
const PART: Duration = Duration::from_millis(250);
const SLOTS: usize = PARTS + 1;

/// How far a terminal's log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Bytes of all entries ever.
    pub end: u64,
    /// The number of the newest entry.
    pub last: u64,
    /// Bytes that the log may hold.
    pub limit: u64,
    /// Entries that it may hold.
    pub entries_max: u64,
    /// The process has exited; what it wrote last is to be read.
    pub exited: bool,
}

/// How far a viewer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Bytes of the output that the kernel has taken for it, or that it need not get any more.
    pub at: u64,
    /// The number of the entry that it takes next.
    pub next: u64,
    /// It has not acknowledged all that it was sent, and said that it would.
    pub owes: bool,
}

/// What may be done with a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permit {
    /// Read, and ask again after so many bytes.
    Read {
        /// At least 1.
        bytes: u64,
    },
    /// Wait for [`Pacing::resumed`], and ask again at this time.
    Wait {
        /// When the last viewer stops counting, unless it takes something.
        until: Monotonic,
    },
}

/// What names a viewer here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ViewerId(u64);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pacing {
    viewers: Vec<Viewer>,
    last_id: u64,
    /// The terminal is not read. The place from which on a viewer ends that.
    paused: Option<Place>,
    /// When the exit was first seen here.
    exited: Option<Monotonic>,
    /// Tells that it may be read again.
    resumed: Notify,
}

#[derive(Debug)]
struct Viewer {
    id: ViewerId,
    place: Place,
    /// When it last had everything, or was shown where things are.
    had_all: Monotonic,
    taken: Taken,
    /// It has stopped counting.
    lapsed: bool,
}

/// What was taken lately.
#[derive(Debug)]
struct Taken {
    begun: Monotonic,
    /// The number of the part that runs.
    part: usize,
    bytes: [u32; SLOTS],
}

impl Pacing {
    /// A viewer that may type has come.
    pub(crate) fn join(&mut self, place: Place, now: Monotonic) -> ViewerId {
        self.last_id += 1;
        let id = ViewerId(self.last_id);
        // Most terminals have one.
        self.viewers.reserve_exact(1);
        self.viewers.push(Viewer {
            id,
            place,
            had_all: now,
            taken: Taken::new(now),
            lapsed: false,
        });
        self.resume_if(self.paused.is_some());
        id
    }

    /// It has gone.
    pub(crate) fn leave(&mut self, id: ViewerId) {
        self.viewers.retain(|viewer| viewer.id != id);
        self.resume_if(self.paused.is_some());
    }

    /// Whether nobody is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.viewers.is_empty()
    }

    /// Tells when to ask again after a [`Permit::Wait`].
    pub(crate) fn resumed(&self) -> &Notify {
        &self.resumed
    }

    /// A viewer is at `place`, and has taken `bytes` (acknowledged, if it does that) since it was
    /// last heard of; the log goes to `end`.
    pub(crate) fn took(
        &mut self,
        id: ViewerId,
        place: Place,
        bytes: u64,
        end: u64,
        now: Monotonic,
    ) {
        let paused = self.paused;
        let Some(viewer) = self.viewers.iter_mut().find(|viewer| viewer.id == id) else {
            return;
        };
        viewer.place = place;
        viewer.taken.add(bytes, now);
        viewer.note_whether_all(end, now);
        let near = |paused: Place| place.at >= paused.at && place.next >= paused.next;
        let resumes = !viewer.lapsed && paused.is_some_and(near);
        self.resume_if(resumes);
    }

    /// A viewer is being shown where things are: what is before `place` it need not get.
    pub(crate) fn redrawn(&mut self, id: ViewerId, place: Place, now: Monotonic) {
        if let Some(viewer) = self.viewers.iter_mut().find(|viewer| viewer.id == id) {
            (viewer.place, viewer.had_all, viewer.lapsed) = (place, now, false);
        }
        self.resume_if(self.paused.is_some());
    }

    fn resume_if(&self, resumes: bool) {
        if resumes {
            self.resumed.notify();
        }
    }

    /// Whether the terminal may be read now.
    pub(crate) fn permit(&mut self, extent: Extent, now: Monotonic) -> Permit {
        let anything = Permit::Read { bytes: u64::MAX };
        // What was written before the exit is in the terminal, which is small. It is read at once
        // where the log can hold it beside what the fastest viewer lacks.
        let room = if extent.exited {
            let since = *self.exited.get_or_insert(now);
            if now >= since + HELD_OUTPUT_MAX {
                return anything;
            }
            Place::behind(extent.limit / 2, extent.entries_max / 2)
        } else {
            let bytes = BEHIND_MAX.min(extent.limit / 4);
            Place::behind(bytes, extent.entries_max / 4)
        };
        // Resumed with less behind, so that reading does not begin and stop for every write.
        let near = match self.paused.is_some() && !extent.exited {
            true => Place::behind(room.at / 2, room.next / 2),
            false => room,
        };
        let from = |near: Place| Place {
            at: extent.end.saturating_sub(near.at),
            next: (extent.last + 1).saturating_sub(near.next),
            owes: false,
        };
        let near = from(near);
        let mut last_until = None;
        for viewer in &mut self.viewers {
            viewer.note_whether_all(extent.end, now);
            let until = viewer.counts_until(now);
            viewer.lapsed |= until <= now;
            if viewer.lapsed {
                continue;
            }
            if viewer.place.at >= near.at && viewer.place.next >= near.next {
                self.paused = None;
                return Permit::Read {
                    bytes: room.at.max(1),
                };
            }
            last_until = last_until.max(Some(until));
        }
        match last_until {
            Some(until) => {
                self.paused = Some(from(Place::behind(room.at / 2, room.next / 2)));
                Permit::Wait { until }
            }
            None => {
                self.paused = None;
                anything
            }
        }
    }
}

impl Place {
    fn behind(bytes: u64, entries: u64) -> Self {
        Self {
            at: bytes,
            next: entries,
            owes: false,
        }
    }
}

impl Viewer {
    fn note_whether_all(&mut self, end: u64, now: Monotonic) {
        if self.place.at >= end && !self.place.owes {
            (self.had_all, self.lapsed) = (now, false);
        }
    }

    /// Until when it counts if it takes nothing more; `now` or earlier if it does not count.
    fn counts_until(&mut self, now: Monotonic) -> Monotonic {
        let had_all = self.had_all + VIEWER_COUNTS_FOR;
        self.taken
            .enough_until(now)
            .map_or(had_all, |until| had_all.max(until))
    }
}

impl Taken {
    fn new(now: Monotonic) -> Self {
        Self {
            begun: now,
            part: 0,
            bytes: [0; SLOTS],
        }
    }

    fn slot(&mut self, part: usize) -> &mut u32 {
        &mut self.bytes[part % SLOTS]
    }

    /// Forgets what is too old at `now`.
    fn advance(&mut self, now: Monotonic) {
        let since = now.since(self.begun).as_millis();
        let part = usize::try_from(since / PART.as_millis()).unwrap_or(usize::MAX);
        if part.saturating_sub(self.part) >= SLOTS {
            self.bytes = [0; SLOTS];
            self.part = part;
        }
        while self.part < part {
            self.part += 1;
            *self.slot(self.part) = 0;
        }
    }

    fn add(&mut self, bytes: u64, now: Monotonic) {
        self.advance(now);
        let slot = self.slot(self.part);
        *slot = slot.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// When less than [`TAKES_MIN`] is left of what has been taken; None if that is so now.
    fn enough_until(&mut self, now: Monotonic) -> Option<Monotonic> {
        self.advance(now);
        let mut left = 0_u32;
        // From the newest part back: the one that makes it enough is the one to wait for.
        for part in (self.part.saturating_sub(PARTS)..=self.part).rev() {
            left = left.saturating_add(*self.slot(part));
            if left >= TAKES_MIN {
                let parts = u32::try_from(part + SLOTS).unwrap_or(u32::MAX);
                return Some(self.begun + PART * parts);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
