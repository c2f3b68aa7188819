//! Where a connection stands: what another server needs to go on with it.
//!
//! In: what its reader has read and what it is doing, as it happens. Out: the bytes of which nothing
//! is answered yet. Only where there is a keeper; a connection then reads only what is there
//! (readiness first), so that no byte is in flight that nobody knows of.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use crate::budget::Charge;
use crate::io::gate::Gate;
use crate::io::host::handed::Handed;
use crate::io::repeats::Waiting;
use crate::io::runtime::heap;
use crate::ledger::heritage::{Connection, Text, Upload};
use crate::types::{JobId, Monotonic};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Doing {
    /// There is no whole request: it can be handed over.
    #[default]
    Rests,
    /// The body of one has not come as a whole: it can be handed over.
    Receives,
    /// There is one that has changed nothing yet: it can be handed over, and is begun again.
    Waits,
    /// One is being carried out or answered, which has to come to its end.
    Answers,
    /// An answer is on its way that can be asked for again.
    Sends,
    /// It goes on for as long as somebody likes, and can be resumed.
    Streams,
}

/// A run that somebody has asked for: its job, and what asks for it until it has begun.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    job: Cell<Option<JobId>>,
    body: RefCell<Option<Body>>,
    /// How long it was in line before this server was asked.
    waited: Cell<Duration>,
}

impl Wanted {
    /// It is asked for by this, and has been in line for so long.
    pub(crate) fn asks(&self, body: Vec<u8>, charge: Charge, waited: Duration) {
        *self.body.borrow_mut() = Some(Body(body, charge));
        self.waited.set(waited);
    }

    /// It is about to begin.
    pub(crate) fn begins(&self, job: JobId) {
        self.job.set(Some(job));
        self.body.take();
    }

    /// As what it is about to begin, or has begun.
    pub(crate) fn job(&self) -> Option<JobId> {
        self.job.get()
    }

    /// How long it was in line before this server was asked.
    pub(crate) fn waited(&self) -> Duration {
        self.waited.get()
    }

    /// Bytes of what asks for it, as long as it has not begun.
    pub(crate) fn body_len(&self) -> u64 {
        let body = self.body.borrow();
        body.as_ref().map_or(0, |Body(body, _)| body.len() as u64)
    }
}

#[derive(Debug)]
struct Body(
    Vec<u8>,
    #[expect(dead_code, reason = "it counts as long as it is there")] Charge,
);

impl Drop for Body {
    /// It is large where it came from another server, and nothing else passes then.
    fn drop(&mut self) {
        heap::passed(self.0.len());
    }
}

/// What has become of a run for which the client waited when another server had the connection.
pub(crate) enum Had {
    /// It had not begun; this asks for it.
    InLine(Vec<u8>),
    /// It goes on.
    Begun(Box<Handed>),
    /// So it does, for all who wait for the same; whether another one came before this client.
    Joins(Waiting, bool),
    /// It is not known any more.
    Lost,
}

impl fmt::Debug for Had {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Had")
    }
}

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
    /// The same of the request under way.
    waits_since: Cell<Duration>,
    /// The run that it has asked for, and whether another request had, with the same key.
    run: RefCell<Option<(Rc<Wanted>, bool)>>,
    /// The run that it had asked for when another server had the connection.
    had: RefCell<Option<Had>>,
    /// The client waits for the end of an upgrade.
    pub(crate) asks: Cell<bool>,
    /// It has waited for that when another server had the connection.
    asked: Cell<bool>,
    /// The client was told to send the body of its request, and of the one that comes.
    told: Cell<bool>,
    told_before: Cell<bool>,
    /// A body that stands still until it is handed over, and what is to be read before what comes.
    upload: RefCell<Option<(Upload, Vec<u8>)>>,
    /// The body that was under way when another server had the connection.
    uploaded: RefCell<Option<Upload>>,
    /// Whether it is read.
    gate: Rc<Gate>,
}

impl Standing {
    /// Of a connection that rests.
    pub(crate) fn new(
        socket: RawFd,
        of_starter: bool,
        for_metrics: bool,
        gate: Rc<Gate>,
    ) -> Rc<Self> {
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
            waits_since: Cell::default(),
            asks: Cell::default(),
            asked: Cell::default(),
            told: Cell::default(),
            told_before: Cell::default(),
            upload: RefCell::default(),
            uploaded: RefCell::default(),
            gate,
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
            self.told.set(false);
        }
        self.doing.set(doing);
        self.since.set(Monotonic::now());
        self.reads(unread);
    }

    /// This is a whole request.
    pub(crate) fn has_request(&self, head: &[u8]) {
        self.waits_since.set(self.waited.take());
        self.told.set(self.told_before.take());
        *self.request.borrow_mut() = head.to_vec();
    }

    /// This is what has come and is not understood yet.
    pub(crate) fn reads(&self, unread: &[u8]) {
        if self.notes() {
            *self.unread.borrow_mut() = unread.to_vec();
        }
    }

    /// And this has come behind it.
    pub(crate) fn came(&self, bytes: &[u8]) {
        if self.notes() {
            self.unread.borrow_mut().extend_from_slice(bytes);
        }
    }

    fn notes(&self) -> bool {
        let rests = matches!(
            self.doing.get(),
            Doing::Rests | Doing::Receives | Doing::Waits
        );
        rests || self.run.borrow().is_some() || self.upload.borrow().is_some()
    }

    /// Whether it is read.
    pub(crate) fn gate(&self) -> &Rc<Gate> {
        &self.gate
    }

    /// Its client is told to send the body of its request; whether it was before.
    pub(crate) fn tells(&self) -> bool {
        self.told.replace(true)
    }

    /// The body that it passes on stands still, with what has to be read before `unread`; or goes on.
    pub(crate) fn stands_still(&self, upload: Option<(Upload, Vec<u8>)>, unread: &[u8]) {
        *self.upload.borrow_mut() = upload;
        self.reads(unread);
    }

    /// Whether that is so.
    pub(crate) fn is_still(&self) -> bool {
        self.upload.borrow().is_some()
    }

    /// The body that was under way when another server had the connection; asked for once.
    pub(crate) fn take_upload(&self) -> Option<Upload> {
        self.uploaded.take()
    }

    /// What it asks for is a run, until it does something else. `is_repeat`: it was asked for before,
    /// under the same key.
    pub(crate) fn asks_for_run(&self, run: Rc<Wanted>, is_repeat: bool, unread: &[u8]) {
        *self.run.borrow_mut() = Some((run, is_repeat));
        self.reads(unread);
    }

    /// Its run is about to begin, or goes on.
    pub(crate) fn runs(&self, job: JobId) {
        if let Some((run, _)) = &*self.run.borrow() {
            run.begins(job);
        }
    }

    /// Its run is over, or its client gone.
    pub(crate) fn answers(&self) {
        self.run.take();
    }

    /// The run that its client waits for.
    pub(crate) fn run(&self) -> Option<Rc<Wanted>> {
        self.run.borrow().as_ref().map(|(run, _)| run.clone())
    }

    /// The run for which the client waited when another server had the connection; asked for once.
    pub(crate) fn take_run(&self) -> Option<Had> {
        self.had.take()
    }

    /// How long the client has waited for this answer before this server had the connection.
    pub(crate) fn waited(&self) -> Duration {
        self.waits_since.get()
    }

    /// Since when it does what it is doing.
    pub(crate) fn since(&self) -> Monotonic {
        self.since.get()
    }

    /// Whether its client has asked for the upgrade that was; asked for once.
    pub(crate) fn take_asked(&self) -> bool {
        self.asked.take()
    }

    /// The connection was handed over like this.
    pub(crate) fn was(&self, before: &Connection, run: Option<Had>) {
        self.waited.set(Duration::from_millis(before.waited));
        self.asked.set(before.asked);
        self.told_before.set(before.told);
        self.uploaded.borrow_mut().clone_from(&before.upload);
        *self.had.borrow_mut() = run;
    }

    /// What another server needs; None if it cannot go on with the connection.
    pub(crate) fn hand_over(&self) -> Option<Connection> {
        let (run, upload) = (self.run.borrow(), self.upload.borrow());
        let waits = match self.doing.get() {
            Doing::Rests | Doing::Receives => false,
            Doing::Waits => true,
            Doing::Answers if run.is_some() || upload.is_some() => true,
            Doing::Answers | Doing::Sends | Doing::Streams => return None,
        };
        let waited = self.waits_since.get() + Monotonic::now().since(self.since.get());
        let waited = if waits { waited } else { Duration::ZERO };
        let body = run.as_ref().map(|(run, _)| run.body.borrow());
        let body = body.as_ref().and_then(|body| body.as_ref());
        let way = upload.as_ref().map_or(&[][..], |(_, way)| way);
        Some(Connection {
            fd: self.socket,
            for_metrics: self.for_metrics,
            of_starter: self.of_starter,
            bytes: [&self.request.borrow()[..], way, &self.unread.borrow()[..]].concat(),
            waited: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
            asked: self.asks.get(),
            is_run: run.is_some(),
            job: run.as_ref().and_then(|(run, _)| run.job()).map(|job| job.0),
            is_repeat: run.as_ref().is_some_and(|(_, is_repeat)| *is_repeat),
            body: Text(body.map_or(Vec::new(), |Body(body, _)| body.clone())),
            told: self.told.get() || self.told_before.get(),
            upload: upload.as_ref().map(|(upload, _)| upload.clone()),
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
        let standing = Standing::new(7, false, false, Rc::default());
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
