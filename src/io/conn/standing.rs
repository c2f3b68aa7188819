//! Where a connection stands: what another server needs to go on with it.
//!
//! In: what its reader has read and what it is doing, as it happens. Out: the bytes of which nothing
//! is answered yet. Only where there is a keeper; a connection then reads only what is there
//! (readiness first), so that no byte is in flight that nobody knows of.

use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use crate::budget::Charge;
use crate::io::host::run::Handed;
use crate::io::runtime::heap;
use crate::ledger::heritage::{Connection, Text};
use crate::types::{JobId, Monotonic, UnixMs};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Doing {
    /// There is no whole request: it can be handed over.
    #[default]
    Rests,
    /// There is one that has changed nothing yet: it can be handed over, and is begun again.
    Waits,
    /// One is being carried out or answered, which has to come to its end.
    Answers,
    /// An answer is on its way that can be asked for again.
    Sends,
    /// It goes on for as long as somebody likes, and can be resumed.
    Streams,
}

/// A run that another server can go on with: it has no input, no record and no key, and nothing of
/// its answer is sent.
#[derive(Debug)]
struct Run {
    /// None as long as it is in line.
    begun: Option<(JobId, Since)>,
    body: Vec<u8>,
    _charge: Charge,
}

impl Drop for Run {
    /// Its body is large where it came from another server, and nothing else passes then.
    fn drop(&mut self) {
        heap::passed(self.body.len());
    }
}

/// When something began, by the monotonic clock and by that of people.
pub(crate) type Since = (Monotonic, UnixMs);

/// See the module.
#[derive(Debug)]
pub(crate) struct Standing {
    socket: RawFd,
    of_starter: bool,
    for_metrics: bool,
    doing: Cell<Doing>,
    since: Cell<Monotonic>,
    /// The request under way, as it came.
    request: RefCell<Vec<u8>>,
    /// What has come behind it.
    unread: RefCell<Vec<u8>>,
    /// How long the client waited before this server had the connection.
    waited: Cell<Duration>,
    /// The run that it has asked for.
    run: RefCell<Option<Run>>,
    /// The run that it had asked for when another server had the connection.
    had: RefCell<Option<(Option<Handed>, Vec<u8>)>>,
    /// When that began.
    run_since: Cell<Option<Since>>,
    /// The client waits for the end of an upgrade.
    pub(crate) asks: Cell<bool>,
    /// It has waited for that when another server had the connection.
    asked: Cell<bool>,
}

impl Standing {
    /// Of a connection that rests.
    pub(crate) fn new(socket: RawFd, of_starter: bool, for_metrics: bool) -> Rc<Self> {
        Rc::new(Self {
            socket,
            of_starter,
            for_metrics,
            doing: Cell::default(),
            since: Cell::new(Monotonic::now()),
            request: RefCell::default(),
            unread: RefCell::default(),
            waited: Cell::default(),
            run: RefCell::default(),
            had: RefCell::default(),
            run_since: Cell::default(),
            asks: Cell::default(),
            asked: Cell::default(),
        })
    }

    /// What it is doing.
    pub(crate) fn doing(&self) -> Doing {
        self.doing.get()
    }

    /// It does something else from now on; this is what has come and is not understood yet.
    pub(crate) fn does(&self, doing: Doing, unread: &[u8]) {
        self.run.take();
        if doing == Doing::Rests {
            self.request.take();
            self.asks.set(false);
        }
        self.doing.set(doing);
        self.since.set(Monotonic::now());
        self.reads(unread);
    }

    /// This is a whole request.
    pub(crate) fn has_request(&self, head: &[u8]) {
        *self.request.borrow_mut() = head.to_vec();
    }

    /// This is what has come and is not understood yet.
    pub(crate) fn reads(&self, unread: &[u8]) {
        if matches!(self.doing.get(), Doing::Rests | Doing::Waits) || self.run.borrow().is_some() {
            *self.unread.borrow_mut() = unread.to_vec();
        }
    }

    /// What it asks for is a run, with this body; until it does something else.
    pub(crate) fn asks_for_run(&self, body: Vec<u8>, charge: Charge, unread: &[u8]) {
        *self.run.borrow_mut() = Some(Run {
            begun: None,
            body,
            _charge: charge,
        });
        self.reads(unread);
    }

    /// Its run is about to begin, or goes on.
    pub(crate) fn runs(&self, job: JobId) {
        if let Some(run) = &mut *self.run.borrow_mut() {
            let now = (Monotonic::now(), UnixMs::now());
            run.begun = Some((job, self.run_since.take().unwrap_or(now)));
        }
    }

    /// Its run is over, or its client gone.
    pub(crate) fn answers(&self) {
        self.run.take();
    }

    /// The run that another server can go on with, if it has begun.
    pub(crate) fn run(&self) -> Option<Option<(JobId, Since)>> {
        self.run.borrow().as_ref().map(|run| run.begun)
    }

    /// Bytes of the body that asks for the run.
    pub(crate) fn run_body_len(&self) -> u64 {
        let run = self.run.borrow();
        run.as_ref().map_or(0, |run| run.body.len() as u64)
    }

    /// The run that another server had begun for it, if it had, and the body of the request; asked for
    /// once.
    pub(crate) fn take_run(&self) -> Option<(Option<Handed>, Vec<u8>)> {
        self.had.take()
    }

    /// How long the client of a connection that was handed over has waited; asked for once.
    pub(crate) fn take_waited(&self) -> Duration {
        self.waited.take()
    }

    /// Whether its client has asked for the upgrade that was; asked for once.
    pub(crate) fn take_asked(&self) -> bool {
        self.asked.take()
    }

    /// The connection was handed over like this.
    pub(crate) fn was(&self, before: Connection, run: Option<Handed>) {
        self.waited.set(Duration::from_millis(before.waited));
        self.asked.set(before.asked);
        if before.is_run {
            let (since, at) = before.since;
            let since = (Monotonic::from_nanos(since), UnixMs(at));
            self.run_since.set(run.as_ref().map(|_| since));
            *self.had.borrow_mut() = Some((run, before.body.0));
        }
    }

    /// What another server needs; None if it cannot go on with the connection.
    pub(crate) fn hand_over(&self) -> Option<Connection> {
        let waits = match self.doing.get() {
            Doing::Rests => false,
            Doing::Waits => true,
            Doing::Answers if self.run.borrow().is_some() => false,
            Doing::Answers | Doing::Sends | Doing::Streams => return None,
        };
        let run = self.run.borrow();
        let run = run.as_ref();
        let waited = Monotonic::now().since(self.since.get());
        let waited = if waits { waited } else { Duration::ZERO };
        Some(Connection {
            fd: self.socket,
            for_metrics: self.for_metrics,
            of_starter: self.of_starter,
            bytes: [&self.request.borrow()[..], &self.unread.borrow()[..]].concat(),
            waited: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
            asked: self.asks.get(),
            is_run: run.is_some(),
            job: run.and_then(|run| run.begun).map(|(job, _)| job.0),
            since: run
                .and_then(|run| run.begun)
                .map(|(_, (since, at))| (since.nanos(), at.0))
                .unwrap_or_default(),
            body: Text(run.map_or(Vec::new(), |run| run.body.clone())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(standing: &Standing) -> Option<String> {
        let handed = standing.hand_over()?;
        Some(String::from_utf8(handed.bytes).unwrap())
    }

    #[test]
    fn what_is_handed_over_is_what_is_not_answered() {
        let standing = Standing::new(7, false, false);
        assert_eq!(bytes(&standing).as_deref(), Some(""));
        standing.reads(b"GET / HT");
        assert_eq!(bytes(&standing).as_deref(), Some("GET / HT"));
        standing.reads(b"GET / HTTP/1.1\r\n\r\nGET");
        standing.has_request(b"GET / HTTP/1.1\r\n\r\n");
        standing.reads(b"GET");
        standing.does(Doing::Answers, b"GET");
        assert_eq!(bytes(&standing), None);
        standing.does(Doing::Waits, b"GET");
        let both = "GET / HTTP/1.1\r\n\r\nGET";
        assert_eq!(bytes(&standing).as_deref(), Some(both));
        standing.does(Doing::Rests, b"GET");
        assert_eq!(bytes(&standing).as_deref(), Some("GET"));
    }
}
