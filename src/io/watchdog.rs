//! Whether both loops go round.
//!
//! In: a probe, or the patience of the service manager (`WatchdogSec=`, systemd.service(5)). Out:
//! that a question of this thread has come back from the supervisor, with what that has counted:
//! then both have passed. Owns the last answer. A server that nobody watches has no timer here and
//! asks nobody.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use crate::metrics::SupervisorMetrics;
use crate::process::Notify;
use crate::supervisor::message::Command;

use crate::io::runtime::timer::{sleep, within};
use crate::io::server::Server;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    /// The supervisor has been asked and has not answered. One that hangs is asked once only.
    asked: Cell<bool>,
    /// Tells of an answer.
    answered: Notify,
    /// What it last said.
    last: RefCell<SupervisorMetrics>,
}

impl Watchdog {
    fn ask(&self, server: &Server) {
        if !self.asked.replace(true) {
            server.command(Command::Ping);
        }
    }

    /// What the supervisor last said.
    pub(super) fn last(&self) -> SupervisorMetrics {
        *self.last.borrow()
    }
}

/// Whether the supervisor's loop comes round within `limit`. What was asked for before is answered
/// from now on, too.
pub(super) async fn look(server: &Server, limit: Duration) -> bool {
    let watchdog = &server.watchdog;
    watchdog.ask(server);
    let answered = watchdog.answered.changed(watchdog.answered.version());
    within(limit, pin!(answered)).await.is_some()
}

/// Asks for ever, or ends at once if nobody wants to know.
pub(super) async fn watch(server: Rc<Server>) {
    let Some(every) = server.options.manager.watchdog() else {
        return;
    };
    loop {
        server.watchdog.ask(&server);
        sleep(every).await;
    }
}

/// The supervisor has answered.
pub(super) fn passed(server: &Server, metrics: SupervisorMetrics) {
    let watchdog = &server.watchdog;
    watchdog.asked.set(false);
    *watchdog.last.borrow_mut() = metrics;
    watchdog.answered.notify();
    let manager = &server.options.manager;
    if manager.watchdog().is_some() {
        manager.alive(&status(server));
    }
}

/// The end has begun.
pub(super) fn stopping(server: &Server) {
    let counts = server.table.borrow().counts();
    let left = counts.running + counts.runs;
    let status = format!("ending; processes to be ended: {left}");
    let manager = &server.options.manager;
    manager.stopping(&status, server.end_max.get());
}

/// What `systemctl status` shows of a running server.
pub(super) fn status(server: &Server) -> String {
    let counts = server.table.borrow().counts();
    let addresses = &server.options.addresses;
    let (running, runs) = (counts.running, counts.runs);
    format!("listening on {addresses}; processes: {running} running, runs: {runs}")
}
