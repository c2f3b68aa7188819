//! Tells the service manager that the server works (`WatchdogSec=`, systemd.service(5)).
//!
//! In: time. Out: a word to it, whenever a question of this thread has come back from the
//! supervisor: then both have passed. A server that nobody watches has no timer here.

use std::rc::Rc;

use crate::supervisor::message::Command;

use crate::io::runtime::timer::sleep;
use crate::io::server::Server;

/// Asks for ever, or ends at once if nobody wants to know.
pub(super) async fn watch(server: Rc<Server>) {
    let Some(every) = server.options.manager.watchdog() else {
        return;
    };
    loop {
        // A supervisor that hangs is asked once only.
        if !server.asked_supervisor.replace(true) {
            server.command(Command::Ping);
        }
        sleep(every).await;
    }
}

/// The supervisor has answered.
pub(super) fn passed(server: &Server) {
    server.asked_supervisor.set(false);
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
    manager.stopping(&status, server.options.end_max);
}

/// What `systemctl status` shows of a running server.
pub(super) fn status(server: &Server) -> String {
    let counts = server.table.borrow().counts();
    let addresses = &server.options.addresses;
    let (running, runs) = (counts.running, counts.runs);
    format!("listening on {addresses}; processes: {running} running, runs: {runs}")
}
