//! Memory for what clients send and are sent: charged to the budget, or refused.
//!
//! In: how much is needed, and what for. Out: a charge that is given back when dropped, or a problem
//! that says what to do. Makes others give up what may go first (`process::table`, answers that are
//! kept for repeats).

use crate::api::Problem;
use crate::budget::{Charge, Kind};

use crate::io::host::leftovers::{self, Bound};
use crate::io::server::Server;

/// What is smaller is not worth counting: connections are bounded, too.
pub(crate) const SMALL_BYTES: u64 = 16 << 10;

impl Server {
    /// Charges the budget for as long as the charge lives.
    ///
    /// # Errors
    /// 503 where there is no room.
    pub(crate) fn charge(&self, kind: Kind, bytes: u64) -> Result<Charge, Problem> {
        self.make_room(bytes);
        let charge = self.budget.charge(kind, bytes);
        charge.ok_or_else(|| Problem::no_memory(self.budget.max()))
    }

    /// Makes a charge larger, or smaller.
    ///
    /// # Errors
    /// 503 where there is no room; nothing has changed.
    pub(crate) fn recharge(&self, charge: &mut Charge, bytes: u64) -> Result<(), Problem> {
        self.make_room(bytes.saturating_sub(charge.bytes()));
        match charge.resize(bytes) {
            true => Ok(()),
            false => Err(Problem::no_memory(self.budget.max())),
        }
    }

    /// Has others give up what may go, until there is room for so many bytes or nothing is left.
    pub(crate) fn make_room(&self, bytes: u64) {
        if self.budget.free() >= bytes || bytes > self.budget.max() {
            return;
        }
        // Whoever has it borrowed makes room there.
        let Ok(mut table) = self.table.try_borrow_mut() else {
            return;
        };
        let made = table.make_memory(bytes);
        drop(table);
        self.make_way();
        if !made {
            self.repeats.make_room(|| self.budget.free() >= bytes);
            crate::io::repeats::write_down(self);
        }
    }

    /// Lets go of records that have made room in memory.
    pub(crate) fn make_way(&self) {
        let dropped = self.table.borrow_mut().take_dropped();
        if !dropped.is_empty() {
            leftovers::make_way(self, dropped, Bound::Memory);
        }
    }
}
