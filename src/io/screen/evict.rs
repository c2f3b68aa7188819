//! The screen of a terminal whose oldest output is about to be evicted.
//!
//! In: what is about to go, of any terminal: with every read, before its bytes become an entry, and
//! where memory is short. Out: a screen that shows all of it; a second after the last eviction its
//! drawing, and the screen is dropped. Without an eviction, nothing.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::log::Arena;
use crate::process::Process;
use crate::types::JobId;

use super::{Position, Screens};
use crate::io::runtime;
use crate::io::runtime::timer::sleep;
use crate::io::server::Server;

/// Evictions that come faster than this share a screen.
const COOL_AFTER: Duration = Duration::from_secs(1);

/// What a byte of output may cost in the long run, in nanoseconds: twice the dearest of what
/// programs write.
const BYTE_COST_MAX: u64 = 40;

/// What it may cost at once.
const CREDIT_MAX: u64 = 5_000_000;

#[derive(Debug)]
pub(super) struct Hot {
    pub(super) position: Position,
    /// Nanoseconds that it may still spend.
    credit: u64,
    used_at: Instant,
}

/// To be called before the entries of a log up to `going` are evicted.
pub(crate) fn before_eviction(server: &Rc<Server>, process: &Process, arena: &Arena, going: u64) {
    let Some(terminal) = process.extras.get().and_then(|of| of.terminal.as_deref()) else {
        return;
    };
    let log = &process.log;
    if going <= terminal.checkpoint().upto {
        return;
    }
    let screens = &server.screens;
    let cells = usize::from(terminal.size().cols) * usize::from(terminal.size().rows);
    let is_new = !screens.hot.borrow().contains_key(&process.job);
    if is_new && screens.cells() + cells > Screens::cells_max(&server.budget) {
        // What goes is missing from the screen, which says so.
        return;
    }
    let mut hot = screens.hot.borrow_mut();
    let hot = hot.entry(process.job).or_insert_with(|| {
        Box::new(Hot {
            position: Position::from(terminal.checkpoint(), 0),
            credit: CREDIT_MAX,
            used_at: Instant::now(),
        })
    });
    if hot.position.upto >= going {
        return;
    }
    hot.used_at = Instant::now();
    // A slot at a time: what remains of it goes next.
    let slot = log.get(going).map(|entry| entry.slot);
    let rest = log.from(going).take_while(|entry| Some(entry.slot) == slot);
    let upto = rest.last().map_or(going, |entry| entry.sequence);
    if hot.position.upto + 1 < log.first() {
        // Nobody was asked: the log of another kind of process became this one's.
        hot.position.give_up(log.first() - 1, terminal.size(), 0);
    }
    while hot.position.upto < upto {
        let before = hot.position.upto;
        let next = log
            .from(before + 1)
            .take_while(|entry| entry.sequence <= upto);
        let len = next.map(|entry| entry.len as u64).sum::<u64>();
        hot.credit = (hot.credit + len * BYTE_COST_MAX).min(CREDIT_MAX);
        let (_, spent) = hot.position.advance(terminal, log, arena, hot.credit);
        hot.credit = hot.credit.saturating_sub(spent);
        if hot.position.upto == before || hot.position.within > 0 {
            hot.position.give_up(upto, terminal.size(), 0);
        }
    }
    cool_later(server);
}

/// Has screens that are no longer used become drawings.
fn cool_later(server: &Rc<Server>) {
    if server.screens.cooling.replace(true) {
        return;
    }
    let server = server.clone();
    runtime::spawn(async move {
        loop {
            let crowded = server.screens.cells() > Screens::cells_max(&server.budget);
            sleep(if crowded { COOL_AFTER / 20 } else { COOL_AFTER }).await;
            let now = Instant::now();
            let old: Vec<JobId> = {
                let hot = server.screens.hot.borrow();
                let crowded = server.screens.cells() > Screens::cells_max(&server.budget);
                let is_old = |hot: &Hot| crowded || now - hot.used_at >= COOL_AFTER;
                let old = hot.iter().filter(|(_, hot)| is_old(hot));
                old.map(|(job, _)| *job).collect()
            };
            for job in old {
                cool(&server, job);
            }
            if server.screens.hot.borrow().is_empty() {
                break;
            }
        }
        server.screens.cooling.set(false);
    });
}

fn cool(server: &Server, job: JobId) {
    let Some(hot) = server.screens.hot.borrow_mut().remove(&job) else {
        return;
    };
    if let Some((process, _)) = server.table.borrow_mut().job_mut(job)
        && let Some(terminal) = process.extras.make().terminal.as_mut()
    {
        terminal.keep(hot.position.checkpoint());
    }
}
