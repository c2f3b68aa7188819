//! Ports that clients wait for, on this side of the threads.
//!
//! In: a job and a port. Out: whether it has been looked at, and whether somebody of the tree listens
//! there. Owns what the supervisor has been asked to look at: all who wait for one port of one job
//! share a watch, which ends with the last of them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use crate::process::Notify;
use crate::supervisor::message::Command;
use crate::types::JobId;

use crate::io::server::Server;

/// A port that is looked at.
#[derive(Debug)]
struct Watch {
    number: u64,
    job: JobId,
    port: u16,
    looked: Cell<bool>,
    open: Cell<bool>,
    changed: Notify,
    waiting: Cell<usize>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    last: Cell<u64>,
    by_port: RefCell<HashMap<(JobId, u16), Rc<Watch>>>,
    by_number: RefCell<HashMap<u64, Rc<Watch>>>,
}

impl Ports {
    /// The supervisor has looked.
    pub(crate) fn seen(&self, number: u64, open: bool) {
        let watch = self.by_number.borrow().get(&number).cloned();
        if let Some(watch) = watch {
            watch.looked.set(true);
            if open {
                watch.open.set(true);
                // Whoever comes later is told of what is then.
                self.forget(&watch);
            }
            watch.changed.notify();
        }
    }

    fn forget(&self, watch: &Watch) {
        self.by_number.borrow_mut().remove(&watch.number);
        self.by_port.borrow_mut().remove(&(watch.job, watch.port));
    }
}

/// Somebody who waits for a port; the watch ends when the last of them is dropped.
pub(crate) struct Waiting<'a> {
    server: &'a Server,
    watch: Rc<Watch>,
}

impl<'a> Waiting<'a> {
    /// Has a port of a job looked at from now on.
    pub(crate) fn new(server: &'a Server, job: JobId, port: u16) -> Self {
        let ports = &server.ports;
        let known = ports.by_port.borrow().get(&(job, port)).cloned();
        let watch = known.unwrap_or_else(|| {
            let number = ports.last.get() + 1;
            ports.last.set(number);
            let watch = Rc::new(Watch {
                number,
                job,
                port,
                looked: Cell::new(false),
                open: Cell::new(false),
                changed: Notify::default(),
                waiting: Cell::new(0),
            });
            ports.by_number.borrow_mut().insert(number, watch.clone());
            ports
                .by_port
                .borrow_mut()
                .insert((job, port), watch.clone());
            server.command(Command::WatchPort {
                job,
                port,
                watch: number,
            });
            watch
        });
        watch.waiting.set(watch.waiting.get() + 1);
        Self { server, watch }
    }

    /// Whether somebody listens there.
    pub(crate) fn is_open(&self) -> bool {
        self.watch.open.get()
    }

    /// Whether it has been looked at.
    pub(crate) fn is_looked_at(&self) -> bool {
        self.watch.looked.get()
    }

    /// Tells of a change of both.
    pub(crate) fn changes(&self) -> Notify {
        self.watch.changed.clone()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let (watch, left) = (&self.watch, self.watch.waiting.get() - 1);
        watch.waiting.set(left);
        if left == 0 && !watch.open.get() {
            self.server.ports.forget(watch);
            self.server.command(Command::UnwatchPort {
                job: watch.job,
                watch: watch.number,
            });
        }
    }
}
