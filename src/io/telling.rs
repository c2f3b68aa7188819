//! What the I/O thread tells the log.
//!
//! In: events of all tasks. Out: lines (`journal`). Everything that is told goes through
//! here: what happens now and then by [`Server::tell`], what a client can have happen as often as it
//! likes by [`Server::tell_seldom`].

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::time::Instant;

use crate::api::Reply;
use crate::api::access::Peer;
use crate::config::flags::LogLevel;
use crate::journal::{Audit, Event, Journal, Offer, Refused, Seldom};
use crate::process::Counts;
use crate::types::{Monotonic, ProcessId};
use crate::wire::http::head::Method;

use crate::io::metrics;
use crate::io::runtime;
use crate::io::runtime::timer::sleep;
use crate::io::server::Server;

/// See the module.
#[derive(Debug)]
pub(super) struct Telling {
    pub(super) journal: Journal,
    seldom: RefCell<Seldom>,
    /// What there was to be ended when the end began, and when.
    ending: Cell<Option<(Counts, Instant)>>,
}

impl Telling {
    pub(super) fn new(journal: Journal) -> Self {
        Self {
            journal,
            seldom: RefCell::default(),
            ending: Cell::new(None),
        }
    }
}

/// What stands for an id in a path.
pub(super) fn id_in(path: &str) -> &str {
    let rest = path.strip_prefix("/v1/processes/").unwrap_or_default();
    match rest.split('/').next().unwrap_or_default() {
        "config" | "run" => "",
        id => id,
    }
}

/// A request, as a line tells of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'a> {
    /// Its method; None if nothing could be read of it.
    pub(super) method: Option<Method>,
    /// Its path, without a query.
    pub(super) path: &'a str,
    /// The id that it brought.
    pub(super) request: Option<&'a str>,
    /// Who asks.
    pub(super) peer: Peer,
}

impl Server {
    /// Whether anybody wants to know of events of this level.
    pub(super) fn tells(&self, level: LogLevel) -> bool {
        self.telling.journal.is_on(level)
    }

    /// Tells of something that has happened.
    pub(super) fn tell(&self, event: &Event<'_>) {
        self.telling.journal.tell(event);
    }

    /// Tells of something that may happen very often: a line a second for each kind.
    pub(super) fn tell_seldom(&self, event: Event<'_>) {
        if !self.tells(event.level()) {
            return;
        }
        let now = Monotonic::now();
        let offer = self.telling.seldom.borrow_mut().offer(event, now);
        match offer {
            Offer::Now(event) => self.tell(&event),
            Offer::Kept => {}
            Offer::KeptUntil(at) => {
                let server = self.me.clone();
                runtime::spawn(async move {
                    let mut next = Some(at);
                    while let Some(at) = next {
                        sleep(at.since(Monotonic::now())).await;
                        next = server.upgrade().and_then(|server| server.tell_kept());
                    }
                });
            }
        }
    }

    fn tell_kept(&self) -> Option<Monotonic> {
        let (events, next) = self.telling.seldom.borrow_mut().due(Monotonic::now());
        events.iter().for_each(|event| self.tell(event));
        next
    }

    /// Tells what was kept: the server ends.
    pub(super) fn tell_rest(&self) {
        let events = self.telling.seldom.borrow_mut().rest();
        events.iter().for_each(|event| self.tell(event));
    }

    /// A reader of this process has missed so many bytes.
    pub(super) fn tell_gap(&self, id: ProcessId, bytes: u64) {
        let count = 1;
        self.tell_seldom(Event::Gap { id, bytes, count });
    }

    /// A viewer, of this process if it is known, has been given up.
    pub(super) fn tell_dropped(&self, id: Option<ProcessId>, reason: &'static str) {
        let count = 1;
        self.tell_seldom(Event::ViewerDropped { id, reason, count });
    }

    /// Tells that the end has begun.
    pub(super) fn tell_stopping(&self) {
        let counts = self.table.borrow().counts();
        self.telling.ending.set(Some((counts, Instant::now())));
        self.tell(&Event::Stopping {
            processes: counts.running,
            runs: counts.runs,
        });
    }

    /// Tells that everything has ended.
    pub(super) fn tell_stopped(&self) {
        let Some((counts, since)) = self.telling.ending.get() else {
            return;
        };
        let took = since.elapsed().as_millis();
        self.tell(&Event::Stopped {
            processes: counts.running,
            runs: counts.runs,
            duration_ms: u64::try_from(took).unwrap_or(u64::MAX),
        });
    }

    /// Lines of all logs that nobody has got.
    pub(super) fn lines_lost(&self) -> u64 {
        let audit = self.audit.as_ref().map_or(0, Audit::lost);
        self.telling.journal.lost().saturating_add(audit)
    }

    /// A request is answered; tells if it was refused.
    pub(super) fn answered(&self, told: Told<'_>, reply: &Reply) {
        if reply.status < 400 {
            return;
        }
        let reason = metrics::reason(reply);
        let detail = reply.detail.as_deref().unwrap_or_default();
        self.tell_seldom(Event::Refused(Refused {
            reason,
            id: Cow::Borrowed(id_in(told.path)),
            status: reply.status,
            method: told.method.map_or("", Method::name),
            path: Cow::Borrowed(told.path),
            detail: Cow::Borrowed(detail),
            peer: Some(told.peer.to_string().into()),
            request: told.request.map(Cow::Borrowed),
            count: 1,
        }));
    }
}
