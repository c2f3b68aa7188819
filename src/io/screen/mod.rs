//! The screens of terminals: made when somebody wants to see one, and kept as a drawing where
//! output is about to be evicted (docs/design/030-screens.md).
//!
//! In: logs and sizes. Out: a [`Screen`] that shows everything up to an entry. Owns the screens
//! that are in use: of a terminal whose output is being evicted ([`evict`]), and of one that
//! somebody watches ([`make()`](make::make)). Knows no client.
//!
//! - A terminal that nobody looks at has no screen until its log is full.
//! - Those that are being made take a sixteenth of the budget together, or are made one by one.
//! - What a screen may cost at once is bounded, whatever is written to it: making one has rests in
//!   it, and where output is evicted a screen that costs too much is given up.

mod answer;
mod evict;
mod make;
mod replay;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use crate::budget::Budget;
use crate::log::{Arena, Log};
use crate::process::terminal::{Checkpoint, Terminal};
use crate::process::{Notify, Process};
use crate::types::{JobId, ProcessId, WindowSize};
use crate::wire::vt::screen::Screen;

use crate::io::runtime::heap;
use crate::io::server::Server;

pub(crate) use answer::{Drawn, answer, redraw};
pub(crate) use evict::before_eviction;
pub(crate) use make::make;
pub(crate) use replay::{First, RECENT_BYTES, first};

/// Cells of all screens that are in use together, at most, of 20 bytes each: 80 MB. Beyond it
/// screens are made anew whenever they are wanted.
const CELLS_MAX: usize = 4 << 20;

const CELL_BYTES: usize = 20;

/// The part of the budget that they take at most.
const FOR_SCREENS: u64 = 16;

/// A screen, and how much it is made of.
#[derive(Debug)]
struct Position {
    screen: Screen,
    /// The last entry that it has all of.
    upto: u64,
    /// Bytes of the next one.
    within: usize,
    is_partial: bool,
}

impl Position {
    fn from(checkpoint: &Checkpoint, scrollback: u16) -> Self {
        let mut screen = Screen::new(checkpoint.size, scrollback);
        screen.feed(&checkpoint.drawing, u64::MAX);
        Self {
            screen,
            upto: checkpoint.upto,
            within: 0,
            is_partial: checkpoint.is_partial,
        }
    }

    fn checkpoint(&self) -> Checkpoint {
        let mut drawing = Vec::new();
        self.screen.dump(&mut drawing);
        drawing.shrink_to_fit();
        Checkpoint {
            upto: self.upto,
            size: self.screen.size(),
            drawing,
            is_partial: self.is_partial,
        }
    }

    /// Begins anew behind `upto`: what came before costs too much.
    fn give_up(&mut self, upto: u64, size: WindowSize, scrollback: u16) {
        *self = Self {
            screen: Screen::new(size, scrollback),
            upto,
            within: 0,
            is_partial: true,
        };
    }

    /// Takes of the next entries what `budget` nanoseconds are for: those that lie side by side, so
    /// that a run of text in them is one. How many bytes that were, and what they cost.
    fn advance(
        &mut self,
        terminal: &Terminal,
        log: &Log,
        arena: &Arena,
        budget: u64,
    ) -> (usize, u64) {
        if self.within == 0 {
            self.take_sizes(terminal);
        }
        let Some(first) = log.get(self.upto + 1) else {
            return (0, 0);
        };
        let mut len = first.len;
        let mut lens = vec![len];
        for next in log.from(first.sequence + 1) {
            let is_beside = next.slot == first.slot && next.start == first.start + len;
            let is_resized = terminal.sizes_behind(next.sequence - 1).next().is_some();
            if !is_beside || is_resized {
                break;
            }
            len += next.len;
            lens.push(next.len);
        }
        let bytes = arena.bytes(first.slot, first.start, len);
        let used = self
            .screen
            .feed(bytes.get(self.within..).unwrap_or_default(), budget);
        self.within += used;
        for len in lens {
            if self.within < len {
                break;
            }
            self.within -= len;
            self.upto += 1;
        }
        (used, self.screen.spent())
    }

    /// The sizes that the terminal got behind the last entry.
    fn take_sizes(&mut self, terminal: &Terminal) {
        for size in terminal.sizes_behind(self.upto) {
            self.screen.resize(size);
        }
    }
}

impl Drop for Position {
    /// Between the drawings of many terminals the room of their screens is nobody's, and much.
    fn drop(&mut self) {
        heap::passed(self.screen.cells() * CELL_BYTES);
    }
}

/// Screens in use.
#[derive(Debug, Default)]
pub(crate) struct Screens {
    /// Of terminals whose output is being evicted.
    hot: RefCell<HashMap<JobId, Box<evict::Hot>>>,
    /// Whether somebody looks after those already.
    cooling: Cell<bool>,
    /// Of terminals that are watched: how many viewers, and the screen once it has been made.
    watched: RefCell<HashMap<JobId, Watched>>,
    /// Bytes of those that are being made.
    making: Cell<u64>,
    /// Who waits for room to make one, by the order of coming.
    line: RefCell<BTreeSet<u64>>,
    /// Tells that one has been made, or that somebody waits no longer.
    made: Notify,
}

#[derive(Debug, Default)]
struct Watched {
    viewers: u32,
    kept: Option<Box<make::Kept>>,
}

impl Screens {
    /// Cells that may be in use together: a sixteenth of the budget at most.
    fn cells_max(budget: &Budget) -> usize {
        let most = budget.max() / FOR_SCREENS / CELL_BYTES as u64;
        usize::try_from(most).map_or(CELLS_MAX, |most| CELLS_MAX.min(most))
    }

    /// The screen that what is no longer retained of a terminal has made, drawn for any terminal of
    /// its size; nothing where all is retained.
    pub(crate) fn at_border(&self, process: &Process, terminal: &Terminal) -> Checkpoint {
        let mut border = match self.hot.borrow().get(&process.job) {
            Some(hot) => hot.position.checkpoint(),
            None => terminal.checkpoint().clone(),
        };
        if border.upto > 0 {
            let position = Position::from(&border, 0);
            border.drawing.clear();
            position.screen.redraw(0, &mut border.drawing);
        }
        border
    }

    fn cells(&self) -> usize {
        let hot = self.hot.borrow();
        let hot = hot.values().map(|hot| hot.position.screen.cells());
        let watched = self.watched.borrow();
        let kept = watched
            .values()
            .filter_map(|watched| watched.kept.as_deref());
        hot.sum::<usize>() + kept.map(make::Kept::cells).sum::<usize>()
    }
}

/// Watches a terminal until dropped: its screen is worth keeping.
pub(crate) struct Watching {
    server: Rc<Server>,
    job: JobId,
}

impl Watching {
    /// None if the record is gone.
    pub(crate) fn new(server: &Rc<Server>, id: ProcessId) -> Option<Self> {
        let job = server.table.borrow().get(id)?.job;
        let mut watched = server.screens.watched.borrow_mut();
        watched.entry(job).or_default().viewers += 1;
        drop(watched);
        let server = server.clone();
        Some(Self { server, job })
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut watched = self.server.screens.watched.borrow_mut();
        if let Some(of) = watched.get_mut(&self.job) {
            of.viewers -= 1;
            if of.viewers == 0 {
                watched.remove(&self.job);
            }
        }
    }
}

/// Notes that a terminal has another size from here on.
pub(crate) fn resized(server: &Server, id: ProcessId, size: WindowSize) {
    if let Some((process, _)) = server.table.borrow_mut().get_mut(id) {
        let last = process.log.last();
        if let Some(terminal) = process.extras.make().terminal.as_mut() {
            terminal.resized(last, size);
        }
    }
}
