//! What a viewer of a terminal is shown before live output.
//!
//! In: what it has asked for, and what the server shows who does not say. Out: output as it was, or
//! the screen.

use std::rc::Rc;

use crate::api::query::Replay;
use crate::config::flags::ReplayChoice;
use crate::types::ProcessId;
use crate::wire::vt::screen::SCROLLBACK_MAX;

use super::answer::{Drawn, redraw};
use super::make;
use super::make::is_too_large;
use crate::io::server::Server;

/// Recent output shown to a new viewer.
pub(crate) const RECENT_BYTES: u64 = 256 << 10;

/// See the module.
pub(crate) enum First {
    /// Output as it was written, less what would act again.
    Output(Replay),
    /// The screen.
    Screen(Drawn),
}

/// Decides what is shown first.
pub(crate) async fn first(server: &Rc<Server>, id: ProcessId, replay: Replay) -> First {
    // Who cannot ask gets all that there is.
    let usual = |scrollback: Option<u16>| scrollback.unwrap_or(SCROLLBACK_MAX);
    let scrollback = match (replay, server.rules().terminal_replay) {
        (Replay::Screen(scrollback), _) => scrollback,
        (Replay::Usual(scrollback), ReplayChoice::Screen) => usual(scrollback),
        (Replay::Usual(_), ReplayChoice::Tail) => return First::Output(Replay::Recent),
        (Replay::Usual(_), ReplayChoice::None) => return First::Output(Replay::None),
        (Replay::Usual(scrollback), ReplayChoice::Auto) => {
            if is_simple(server, id).await {
                return First::Output(Replay::Recent);
            }
            usual(scrollback)
        }
        (other, _) => return First::Output(other),
    };
    if is_too_large(server, id) {
        return First::Output(Replay::Recent);
    }
    match redraw(server, id, scrollback).await {
        Some(drawn) => First::Screen(drawn),
        // Gone; whatever is shown of it is nothing.
        None => First::Output(Replay::None),
    }
}

/// Whether the recent output is all that there is, and the main screen is shown: then it draws
/// itself, and the viewer has what has scrolled out as well.
async fn is_simple(server: &Rc<Server>, id: ProcessId) -> bool {
    let (is_whole, is_empty) = match server.table.borrow().get(id) {
        Some(process) => {
            let log = &process.log;
            let is_short = log.retained_bytes() <= RECENT_BYTES;
            (is_short && log.dropped_bytes() == 0, log.last() == 0)
        }
        None => return true,
    };
    if !is_whole || is_empty {
        return is_whole;
    }
    let made = make(server, id, 0).await;
    made.is_none_or(|made| !made.screen().is_alternate())
}
