//! Who answers what programs ask their terminal.
//!
//! In: viewers that may type. Out: the questions that were asked while there was none, for the first
//! one that comes.

use std::rc::Rc;

use crate::log::{Arena, Log};
use crate::types::ProcessId;
use crate::wire::vt::QueryFilter;

use crate::io::screen::RECENT_BYTES;
use crate::io::server::Server;

/// Counted among those who may answer until dropped.
pub(super) struct Answering {
    server: Rc<Server>,
    id: ProcessId,
}

impl Answering {
    /// Somebody comes, and what it is to be asked. None if the record is gone.
    pub(super) fn begin(server: &Rc<Server>, id: ProcessId) -> Option<(Self, Vec<u8>)> {
        let mut table = server.table.borrow_mut();
        let (process, arena) = table.get_mut(id)?;
        let terminal = process.extras.make().terminal.as_mut()?;
        let from = terminal.begin_answering();
        let asked = match from {
            Some(from) if process.life.is_running() => asked(&process.log, arena, from),
            _ => Vec::new(),
        };
        let server = server.clone();
        Some((Self { server, id }, asked))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some((process, _)) = self.server.table.borrow_mut().get_mut(self.id) {
            let last = process.log.last();
            if let Some(terminal) = &mut process.extras.make().terminal {
                terminal.end_answering(last);
            }
        }
    }
}

/// What was asked from entry `from` on, as far as it is recent.
fn asked(log: &Log, arena: &Arena, from: u64) -> Vec<u8> {
    let mut bytes = 0;
    let recent = log.from(from).rev().take_while(|entry| {
        bytes += entry.len as u64;
        bytes <= RECENT_BYTES
    });
    let Some(first) = recent.last() else {
        return Vec::new();
    };
    let (mut filter, mut shown) = (QueryFilter::default(), Vec::new());
    for entry in log.from(first.sequence) {
        filter.push(log.bytes(arena, &entry), &mut shown);
        shown.clear();
    }
    filter.asked().to_vec()
}
