//! Whether connections are read.
//!
//! In: a word that they are not to be, before they are handed over. Out: a wait in front of each read.
//! Only where there is a keeper.

use std::cell::Cell;

use crate::process::Notify;

/// Whether connections are read. While they are not, what comes stays in the kernel.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    is_shut: Cell<bool>,
    changed: Notify,
}

impl Gate {
    /// Connections are read, or not.
    pub(crate) fn shut(&self, shut: bool) {
        self.is_shut.set(shut);
        self.changed.notify();
    }

    /// Completes when they are read.
    pub(crate) async fn pass(&self) {
        while self.is_shut.get() {
            self.changed.changed(self.changed.version()).await;
        }
    }
}
