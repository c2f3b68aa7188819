//! Ports that somebody waits for: looks at which of them a tree listens on.
//!
//! In: a job and a port, as long as somebody waits. Out: [`Event::Port`]. A look is at all ports of
//! a job that are waited for; it is made in steps with the supervisor's other work between them, and
//! the next one begins some time later, the longer the more work it was.
//!
//! A look begins with those of the tree that are known: the leader, its group, its orphans. Only if
//! somebody listens on a port and is not among them, a look at orphans is asked for. While that goes
//! on, it is most likely a stranger, and looks become rarer.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::config::timeouts;
use crate::supervisor::leftovers::ORPHANS_AT_ONCE;
use crate::supervisor::message::Event;
use crate::supervisor::tree::sockets;
use crate::supervisor::tree::walk::Walk;
use crate::supervisor::{Due, Supervisor};
use crate::types::JobId;

/// A look may take one part in so many of the time.
const SHARE: u32 = 5;

/// Pauses become twice as long so often while a stranger listens: up to 0.8 s.
const DOUBLINGS_MAX: u32 = 4;

/// Looks that a stranger listens through before they become rarer: who is of the tree is known then.
const LOOKS_AT_STRANGERS: u32 = 4;

/// What is looked at for one job.
#[derive(Debug, Default)]
struct Watched {
    watches: Vec<Watch>,
    look: Option<Look>,
    /// Somebody came while a look was under way.
    again: bool,
    /// Looks in a row in which somebody listened who was not found in the tree.
    strangers: u32,
}

#[derive(Debug)]
struct Watch {
    number: u64,
    port: u16,
    told: bool,
}

/// A look under way.
#[derive(Debug)]
struct Look {
    stage: Stage,
    /// Watches from this number on came later.
    before: u64,
    took: Duration,
}

#[derive(Debug)]
enum Stage {
    /// Members are looked for.
    Members(Walk),
    Sockets(Box<sockets::Look>),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    jobs: HashMap<JobId, Watched>,
    /// Jobs with a look under way.
    looking: VecDeque<JobId>,
    /// The largest number of a watch so far.
    last: u64,
}

impl Ports {
    /// Whether [`Supervisor::step_ports`] would do something.
    pub(crate) fn is_looking(&self) -> bool {
        !self.looking.is_empty()
    }
}

impl Supervisor {
    /// Looks at a port from now on.
    pub(crate) fn watch_port(&mut self, id: JobId, port: u16, number: u64) {
        if !self.jobs.contains_key(&id) {
            // Its record is gone, or about to go.
            return;
        }
        self.ports.last = self.ports.last.max(number);
        let watched = self.ports.jobs.entry(id).or_default();
        watched.watches.push(Watch {
            number,
            port,
            told: false,
        });
        watched.strangers = 0;
        match watched.look {
            Some(_) => watched.again = true,
            None => self.deadlines.set(self.clock.now(), Due::Ports(id)),
        }
    }

    /// Nobody waits for it any more.
    pub(crate) fn unwatch_port(&mut self, id: JobId, number: u64) {
        if let Some(watched) = self.ports.jobs.get_mut(&id) {
            watched.watches.retain(|watch| watch.number != number);
            if watched.watches.is_empty() {
                self.forget_ports(id);
            }
        }
    }

    /// Nobody asks about a job any more.
    pub(crate) fn forget_ports(&mut self, id: JobId) {
        if let Some(watched) = self.ports.jobs.remove(&id) {
            self.deadlines.cancel(Due::Ports(id));
            if watched.look.is_some() {
                self.ports.looking.retain(|looking| *looking != id);
            }
        }
    }

    /// Another look is due.
    pub(crate) fn begin_look_at_ports(&mut self, id: JobId) {
        let has_group = self
            .jobs
            .get(&id)
            .is_some_and(|job| job.tree.group.is_some());
        if !has_group {
            let (by_pid, pool) = (&self.by_pid, &self.pool);
            let managed = |pid| by_pid.contains_key(&pid) || pool.is_in_flight(pid);
            let learned = self.orphans.learn(&self.claims, &managed, ORPHANS_AT_ONCE);
            self.note_reaped();
            if !learned {
                self.orphans.want(false);
            }
        }
        let mut walk = Walk::meeting();
        self.begin_at_tree(id, &mut walk);
        let before = self.ports.last + 1;
        if let Some(watched) = self.ports.jobs.get_mut(&id)
            && watched.look.is_none()
        {
            watched.look = Some(Look {
                stage: Stage::Members(walk),
                before,
                took: Duration::ZERO,
            });
            self.ports.looking.push_back(id);
        }
    }

    /// Goes on with one look.
    pub(crate) fn step_ports(&mut self, until: Instant) {
        let Some(id) = self.ports.looking.pop_front() else {
            return;
        };
        let Some(watched) = self.ports.jobs.get_mut(&id) else {
            return;
        };
        let Some(look) = &mut watched.look else {
            return;
        };
        let begun = Instant::now();
        let over = match &mut look.stage {
            Stage::Members(walk) => {
                if walk.step(Some(until)) {
                    let wanted: HashSet<u16> = watched.watches.iter().map(|of| of.port).collect();
                    let members = walk.met().iter().copied().collect();
                    let sockets = sockets::Look::new(wanted, members);
                    look.stage = Stage::Sockets(Box::new(sockets));
                }
                false
            }
            Stage::Sockets(sockets) => sockets.step(until),
        };
        look.took += begun.elapsed();
        match over {
            true => self.after_look_at_ports(id),
            false => self.ports.looking.push_back(id),
        }
    }

    fn after_look_at_ports(&mut self, id: JobId) {
        let Some(watched) = self.ports.jobs.get_mut(&id) else {
            return;
        };
        let Some(Look {
            stage: Stage::Sockets(sockets),
            before,
            took,
        }) = watched.look.take()
        else {
            return;
        };
        let open = |watch: &Watch| sockets.found().contains(&watch.port);
        for watch in &mut watched.watches {
            if open(watch) {
                let watch = watch.number;
                self.events.send(Event::Port { watch, open: true });
            } else if watch.number < before && !std::mem::replace(&mut watch.told, true) {
                let watch = watch.number;
                self.events.send(Event::Port { watch, open: false });
            }
        }
        watched.watches.retain(|watch| !open(watch));
        watched.strangers = match sockets.missed_somebody() {
            true => watched.strangers.saturating_add(1),
            false => 0,
        };
        if watched.strangers > 0 {
            // Who put itself beside its leader is in no list that was read.
            self.orphans.want(true);
        }
        if watched.watches.is_empty() {
            return self.forget_ports(id);
        }
        let rarer = watched.strangers.saturating_sub(LOOKS_AT_STRANGERS);
        let pause = timeouts::PORT_LOOK_EVERY * (1 << rarer.min(DOUBLINGS_MAX));
        let pause = match std::mem::take(&mut watched.again) {
            true => took,
            false => pause.max(took * SHARE),
        };
        self.deadlines.set(self.clock.now() + pause, Due::Ports(id));
    }
}
