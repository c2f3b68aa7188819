//! Makes a screen: from the last drawing, and what the log has since then.
//!
//! In: a process. Out: its screen as it is now. Up to 10 MiB are gone through, a few milliseconds
//! at a time, so that the others have their turn.

use std::rc::Rc;
use std::time::Duration;

use crate::budget::{Charge, Kind};
use crate::log::Log;
use crate::process::terminal::Terminal;
use crate::types::{JobId, ProcessId};
use crate::wire::vt::screen::Screen;

use super::{CELL_BYTES, FOR_SCREENS, Position, Screens};
use crate::io::runtime::timer::sleep;
use crate::io::server::Server;

/// Bytes before a rest.
const SLICE_BYTES: u64 = 256 << 10;

/// Nanoseconds before a rest, by the screen's own count.
const SLICE_COST: u64 = 3_000_000;

/// The shortest rest that timers know.
const REST: Duration = Duration::from_millis(1);

/// What a whole screen may cost: twice as much as a full log of a program that means well.
const COST_MAX: u64 = 500_000_000;

/// Of output that costs more only this much is looked at, from its end; if that costs too much as well,
/// only the next.
const DEAR_BYTES: [u64; 2] = [4 << 10, 512];

/// What each of them may cost.
const DEAR_COST_MAX: u64 = 200_000_000;

/// A terminal has two screens, and there is the drawing of one.
const COPIES: u64 = 3;

/// A screen that is kept for the next who asks.
#[derive(Debug)]
pub(super) struct Kept {
    position: Position,
    scrollback: u16,
}

impl Kept {
    pub(super) fn cells(&self) -> usize {
        let screen = &self.position.screen;
        let scrolled = usize::from(self.scrollback) * usize::from(screen.size().cols);
        screen.cells() + scrolled
    }
}

/// A screen as it is behind an entry, and for one moment now.
pub(crate) struct Made {
    server: Rc<Server>,
    job: JobId,
    kept: Option<Box<Kept>>,
    /// The last entry that it shows.
    pub(crate) sequence: u64,
    /// Nothing is missing.
    pub(crate) is_complete: bool,
    _room: Room,
}

impl Made {
    /// The screen.
    pub(crate) fn screen(&self) -> &Screen {
        // Taken by `drop` only.
        match &self.kept {
            Some(kept) => &kept.position.screen,
            None => unreachable!(),
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let Some(kept) = self.kept.take() else {
            return;
        };
        let screens = &self.server.screens;
        if screens.cells() + kept.cells() > Screens::cells_max(&self.server.budget) {
            return;
        }
        if let Some(watched) = screens.watched.borrow_mut().get_mut(&self.job) {
            let is_newer = |other: &Kept| kept.position.upto >= other.position.upto;
            if watched.kept.as_deref().is_none_or(is_newer) {
                watched.kept = Some(kept);
            }
        }
    }
}

/// A place among those who wait for room, until dropped.
struct InLine<'a> {
    screens: &'a Screens,
    number: u64,
}

impl<'a> InLine<'a> {
    fn join(screens: &'a Screens) -> Self {
        let mut line = screens.line.borrow_mut();
        let number = line.last().map_or(0, |last| last + 1);
        line.insert(number);
        Self { screens, number }
    }

    fn is_first(&self) -> bool {
        self.screens.line.borrow().first() == Some(&self.number)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.screens.line.borrow_mut().remove(&self.number);
        self.screens.made.notify();
    }
}

/// A share of what screens that are being made may take, given back when dropped. Whoever has one does
/// not wait for a client.
struct Room {
    server: Rc<Server>,
    bytes: u64,
    _charge: Charge,
}

impl Room {
    /// Waits until there is room for so many bytes beside the others, or there are no others. Who
    /// has come first is first, since small ones would leave a large one no room.
    async fn take(server: &Rc<Server>, bytes: impl Fn() -> u64) -> Self {
        let screens = &server.screens;
        let place = InLine::join(screens);
        loop {
            let (bytes, others) = (bytes(), screens.making.get());
            let all = others.saturating_add(bytes);
            let fits = others == 0 || all <= server.budget.max() / FOR_SCREENS;
            if place.is_first() && fits {
                screens.making.set(all);
                return Self {
                    server: server.clone(),
                    bytes,
                    _charge: server.budget.hold(Kind::Records, bytes),
                };
            }
            screens.made.changed(screens.made.version()).await;
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let screens = &self.server.screens;
        let left = screens.making.get().saturating_sub(self.bytes);
        screens.making.set(left);
        screens.made.notify();
    }
}

/// The screen of a terminal, with `scrollback` lines that have scrolled out; None if the record is
/// gone or has no terminal, or the screen [is too large](is_too_large).
pub(crate) async fn make(server: &Rc<Server>, id: ProcessId, scrollback: u16) -> Option<Made> {
    let job = server.table.borrow().get(id)?.job;
    if is_too_large(server, id) {
        return None;
    }
    let room = Room::take(server, || bytes(server, id, scrollback)).await;
    let mut making = Making {
        job,
        scrollback,
        position: None,
        spent: 0,
        cost_max: COST_MAX,
        dear: 0,
    };
    while !making.slice(server)? {
        sleep(REST).await;
    }
    let position = making.position?;
    Some(Made {
        server: server.clone(),
        job,
        sequence: position.upto,
        is_complete: !position.is_partial,
        _room: room,
        kept: Some(Box::new(Kept {
            position,
            scrollback,
        })),
    })
}

/// Whether one screen of this terminal, whatever has scrolled out of it, would take more than the
/// server may hold in all.
pub(super) fn is_too_large(server: &Server, id: ProcessId) -> bool {
    bytes(server, id, 0) > server.budget.max()
}

/// What a screen of this terminal takes in memory, with `scrollback` lines.
pub(super) fn bytes(server: &Server, id: ProcessId, scrollback: u16) -> u64 {
    let table = server.table.borrow();
    let extras = table.get(id).and_then(|process| process.extras.get());
    let terminal = extras.and_then(|extras| extras.terminal.as_deref());
    terminal.map_or(0, |terminal| {
        let size = terminal.size();
        let lines = u64::from(size.rows) * COPIES + u64::from(scrollback);
        lines * u64::from(size.cols) * CELL_BYTES as u64
    })
}

/// A screen on its way.
struct Making {
    job: JobId,
    scrollback: u16,
    position: Option<Position>,
    /// Nanoseconds, in all.
    spent: u64,
    /// What it may spend until it begins anew near the end.
    cost_max: u64,
    /// How often it has.
    dear: usize,
}

impl Making {
    /// Goes on until it is time for a rest. Whether it shows everything now; None if the record is
    /// gone.
    fn slice(&mut self, server: &Server) -> Option<bool> {
        let mut table = server.table.borrow_mut();
        let (process, arena) = table.job_mut(self.job)?;
        let terminal = process.extras.get()?.terminal.as_deref()?;
        let log = &process.log;
        let mut now = match self.position.take() {
            // Eviction may be faster.
            Some(position) if is_retained(&position, log) => position,
            _ => begin(server, self.job, terminal, log, self.scrollback),
        };
        let (mut bytes, mut spent) = (0, 0);
        while now.upto < log.last() && bytes < SLICE_BYTES && spent < SLICE_COST {
            if self.spent + spent > self.cost_max {
                let Some(&bytes) = DEAR_BYTES.get(self.dear) else {
                    now.upto = log.last();
                    now.within = 0;
                    now.is_partial = true;
                    break;
                };
                self.dear += 1;
                self.cost_max = self.spent + spent + DEAR_COST_MAX;
                let upto = before_last(log, bytes).max(now.upto);
                now.give_up(upto, terminal.size(), self.scrollback);
                now.within = beyond(log, upto + 1, bytes);
            }
            let (taken, cost) = now.advance(terminal, log, arena, SLICE_COST - spent);
            bytes += taken as u64;
            spent += cost;
        }
        self.spent += spent;
        let is_done = now.upto >= log.last();
        if is_done {
            now.take_sizes(terminal);
        }
        self.position = Some(now);
        Some(is_done)
    }
}

/// How much of an entry is more than `bytes`.
fn beyond(log: &Log, sequence: u64, bytes: u64) -> usize {
    let len = log.get(sequence).map_or(0, |entry| entry.len);
    len.saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// The last entry before the newest `bytes`, or before the newest one if that is longer.
fn before_last(log: &Log, bytes: u64) -> u64 {
    let mut left = bytes;
    let newer = log.from(log.first()).rev().take_while(|entry| {
        let fits = entry.len as u64 <= left;
        left = left.saturating_sub(entry.len as u64);
        fits
    });
    let newest = newer.last().map_or(log.last(), |entry| entry.sequence);
    newest.saturating_sub(1)
}

fn is_retained(position: &Position, log: &Log) -> bool {
    position.upto + 1 >= log.first()
}

/// The furthest screen that there is, if it keeps enough lines; else one from the last drawing.
fn begin(server: &Server, job: JobId, terminal: &Terminal, log: &Log, scrollback: u16) -> Position {
    if let Some(watched) = server.screens.watched.borrow_mut().get_mut(&job) {
        let fits = |kept: &mut Box<Kept>| {
            kept.scrollback >= scrollback && is_retained(&kept.position, log)
        };
        if let Some(kept) = watched.kept.take_if(fits) {
            return kept.position;
        }
    }
    let mut position = match server.screens.hot.borrow().get(&job) {
        Some(hot) => Position::from(&hot.position.checkpoint(), scrollback),
        None => Position::from(terminal.checkpoint(), scrollback),
    };
    if !is_retained(&position, log) {
        position.give_up(log.first() - 1, terminal.size(), scrollback);
    }
    position
}
