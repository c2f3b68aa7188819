//! Reading requests: heads and bodies, each within its time.
//!
//! In: bytes as they come. Out: a plan and what is kept of the head, then the body; or what ends
//! the connection.

use std::pin::pin;
use std::time::Instant;

use crate::api::route::is_strict;
use crate::api::{self, BodyPolicy, Plan, Problem, Reply};
use crate::config::timeouts;
use crate::wire::Parsed;
use crate::wire::http::chunked::{ChunkError, Progress};
use crate::wire::http::head::{BodyFraming, Head, HeadScan, Method, parse_head};
use crate::wire::http::response::{CONTINUE, Length};
use crate::wire::http::target::split_target;

use super::standing::Doing;
use super::{Conn, Persistence, request_id, too_many};
use crate::budget::{Charge, Kind};
use crate::io::audit::Change;
use crate::io::conn::body::Body;
use crate::io::conn::reader::Filled;
use crate::io::memory::SMALL_BYTES;
use crate::io::runtime::meter;
use crate::io::runtime::timer::within;
use crate::io::server::Server;

/// Bytes of a body.
pub(crate) const BODY_BYTES_MAX: u64 = 2 << 20;

/// Bytes of a body, with those of its framing, that wait for its end where there is a keeper.
const ARRIVING_MAX: usize = 4 << 20;

/// A request that is being answered: what is kept of its head once the bytes are gone.
pub(super) struct Request {
    pub(super) head_only: bool,
    /// Which route was asked for, if one was.
    pub(super) route: Option<usize>,
    /// When that was understood.
    pub(super) since: Instant,
    pub(super) http_minor: u8,
    pub(super) close: bool,
    pub(super) framing: BodyFraming,
    pub(super) expects_continue: bool,
    pub(super) preflight: bool,
    /// The client said `Connection: keep-alive`.
    pub(super) keep_alive: bool,
    /// Names that nobody knows are refused.
    pub(super) strict: bool,
    pub(super) method: Method,
    /// Its path, without a query, as far as a log shows it.
    pub(super) path: Box<str>,
    /// The id that it brought, or one in its place.
    pub(super) id: Option<Box<str>>,
    /// What it changes, if that is to be noted.
    pub(super) change: Option<Box<Change>>,
    /// `origin`, `access-control-request-method`, `access-control-request-headers`.
    pub(super) cors: Option<Box<[Option<Vec<u8>>; 3]>>,
}

impl Request {
    /// Frames the body of an answer whose length nobody knows yet (RFC 9112, 7.1).
    pub(super) fn length_unknown(&mut self) -> Length {
        if self.http_minor > 0 {
            return Length::Chunked;
        }
        // Only the end of the connection ends the body.
        self.close = true;
        Length::UntilClose
    }

    fn of(head: &Head<'_>) -> Self {
        let owned = |name| head.header(name).map(<[u8]>::to_vec);
        let cors = [
            owned("origin"),
            owned("access-control-request-method"),
            owned("access-control-request-headers"),
        ];
        Self {
            head_only: head.method() == Method::Head,
            route: None,
            since: meter::now(),
            http_minor: head.http_minor(),
            close: head.close(),
            keep_alive: head.asks_keep_alive(),
            framing: head.body(),
            expects_continue: head.expects_continue(),
            preflight: head.method() == Method::Options,
            strict: is_strict(head),
            method: head.method(),
            path: shown_path(head.target()).into(),
            id: request_id::of(head),
            change: None,
            cors: cors.iter().any(Option::is_some).then(|| Box::new(cors)),
        }
    }
}

/// The body of a request, and what is charged for it and for what it becomes.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) body: Vec<u8>,
    pub(super) charge: Option<Charge>,
}

impl Received {
    /// Charges so many bytes, if it is worth it.
    fn hold(&mut self, server: &Server, bytes: u64) -> Result<(), Problem> {
        match &mut self.charge {
            Some(charge) => server.recharge(charge, bytes),
            None if bytes < SMALL_BYTES => Ok(()),
            None => {
                self.charge = Some(server.charge(Kind::Bodies, bytes)?);
                Ok(())
            }
        }
    }
}

/// What a string of a body takes besides its bytes once it is decoded and on its way to a program,
/// at most: a few copies of a pointer, a length and the allocator's own.
const STRING_BYTES: u64 = 160;

/// What a body takes that is being carried out, at most: itself, decoded, and handed on.
fn decoded_bytes(body: &[u8]) -> u64 {
    let quotes = memchr::memchr_iter(b'"', body).count() as u64;
    body.len() as u64 * 3 + quotes / 2 * STRING_BYTES
}

/// Characters of a path that a log shows.
const PATH_CHARS_MAX: usize = 200;

/// The path of a target, without its query, which may hold a token.
fn shown_path(target: &str) -> &str {
    let (path, _) = split_target(target);
    match path.char_indices().nth(PATH_CHARS_MAX) {
        Some((end, _)) => &path[..end],
        None => path,
    }
}

impl Conn {
    /// Reads a head. `Err` ends the connection.
    pub(super) async fn head(
        &mut self,
    ) -> Result<(Box<Request>, Result<Plan, Reply>), Persistence> {
        let mut scan = HeadScan::default();
        let mut deadline = meter::now() + timeouts::IDLE_TIME_MAX;
        let mut begun = false;
        let mut unfinished = false;
        // A long head is of memory that others may need.
        let mut held = Received::default();
        loop {
            if !self.reader.bytes().is_empty() {
                match parse_head(
                    self.reader.bytes(),
                    &mut scan,
                    &self.server.options.head_limits,
                ) {
                    Ok(Parsed::Done { value: head, used }) => {
                        let mut request = Box::new(Request::of(&head));
                        let rules = self.server.rules();
                        let guard = rules.guard(self.for_metrics);
                        let plan = api::plan(&head, guard, self.peer);
                        request.route = plan.as_ref().ok().and_then(|plan| plan.route);
                        if let Some(standing) = &self.standing {
                            standing.has_request(&self.reader.bytes()[..used]);
                        }
                        self.reader.consume(used);
                        if unfinished {
                            // One that has to go is told when it is answered.
                            self.hold_head(0);
                        }
                        return Ok((request, plan));
                    }
                    Ok(Parsed::NeedMore) => {
                        unfinished = true;
                        if !self.hold_head(self.reader.bytes().len()) {
                            return Err(self.last_reply(&too_many().reply()));
                        }
                    }
                    Err(error) => {
                        let status = error.status();
                        let refused = match status {
                            400 => {
                                let reply = Reply::new(status);
                                reply.refused("malformed", error.to_string())
                            }
                            _ => Reply::new(status),
                        };
                        return Err(Box::pin(self.bare_reply(refused)).await);
                    }
                }
                // Not for an empty line, which a client may send after a body.
                if scan.started() && !std::mem::replace(&mut begun, true) {
                    deadline = meter::now() + timeouts::HEAD_TIME_MAX;
                }
            }
            let left = deadline.saturating_duration_since(meter::now());
            let filled = within(left, pin!(self.reader.fill())).await;
            match filled {
                Some(Filled::Data) => {
                    let len = self.reader.bytes().len() as u64;
                    let refused = held.hold(&self.server, len).err();
                    let reply = refused.map(|problem| Box::pin(self.bare_reply(problem.reply())));
                    if let Some(reply) = reply {
                        return Err(reply.await);
                    }
                }
                Some(Filled::End | Filled::Broken) => {
                    return Err(match self.hold_head(0) {
                        true => Persistence::Close,
                        // It has to go. What it is about to ask is not answered otherwise.
                        false => self.last_reply(&too_many().reply()),
                    });
                }
                None if begun => {
                    return Err(Box::pin(self.bare_reply(Reply::new(408))).await);
                }
                None => return Err(Persistence::Close),
            }
        }
    }

    /// Waits until the body has come, as far as another server can go on with what has: until then it
    /// stays where it is. Does nothing without a keeper.
    ///
    /// # Errors
    /// As [`Conn::body`].
    pub(super) async fn arrives(&mut self, request: &mut Request) -> Result<(), Option<Problem>> {
        let Some(standing) = self.standing.clone() else {
            return Ok(());
        };
        let mut rest = match request.framing {
            // Most have come with the head.
            BodyFraming::Length(bytes) if self.reader.bytes().len() as u64 >= bytes => {
                return Ok(());
            }
            BodyFraming::Length(bytes @ 1..=BODY_BYTES_MAX) => Body::Length(bytes),
            BodyFraming::Chunked => Body::new(request.framing, BODY_BYTES_MAX),
            // There is none, or none that is wanted.
            BodyFraming::Empty | BodyFraming::Length(_) => return Ok(()),
        };
        self.does(Doing::Receives);
        if std::mem::take(&mut request.expects_continue)
            && self.reader.bytes().is_empty()
            && !standing.tells()
            && self.writer.all(CONTINUE.to_vec()).await.is_err()
        {
            return Err(None);
        }
        let deadline = meter::now() + timeouts::BODY_TIME_MAX;
        let (mut seen, mut scratch, mut received) = (0, Vec::new(), Received::default());
        loop {
            let bytes = self.reader.bytes();
            scratch.clear();
            match rest.take(&bytes[seen..], &mut scratch) {
                Ok(Progress { used, done: false }) => seen += used,
                // What is wrong with it is told by whoever reads it.
                Ok(_) | Err(_) => break,
            }
            if seen > ARRIVING_MAX {
                break;
            }
            // Here and where it is noted.
            received.hold(&self.server, seen as u64 * 2)?;
            self.fill_within(deadline).await?;
        }
        if self.server.holds.get() {
            self.does(Doing::Waits);
            self.server.clone().begins().await;
        }
        self.does(Doing::Answers);
        Ok(())
    }

    /// Reads more of a body, as long as it may take.
    async fn fill_within(&mut self, deadline: Instant) -> Result<(), Option<Problem>> {
        let left = deadline
            .saturating_duration_since(meter::now())
            .min(timeouts::BODY_PAUSE_MAX);
        match within(left, pin!(self.reader.fill())).await {
            Some(Filled::Data) => Ok(()),
            Some(Filled::End | Filled::Broken) => Err(None),
            None => Err(Some(Problem::unreadable(
                408,
                "the request body did not arrive in time",
            ))),
        }
    }

    /// Reads a body. `Err` holds the answer, or none if the peer is gone.
    pub(super) async fn body(
        &mut self,
        request: &Request,
        policy: BodyPolicy,
    ) -> Result<Received, Option<Problem>> {
        let too_long = || {
            Problem::unreadable(
                413,
                format!("the request body is longer than {BODY_BYTES_MAX} bytes"),
            )
        };
        let mut received = Received::default();
        if request.framing == BodyFraming::Empty {
            return Ok(received);
        }
        if let BodyFraming::Length(bytes) = request.framing
            && bytes > BODY_BYTES_MAX
        {
            return Err(Some(too_long()));
        }
        if request.expects_continue
            && self.reader.bytes().is_empty()
            && self.writer.all(CONTINUE.to_vec()).await.is_err()
        {
            return Err(None);
        }
        let mut rest = Body::new(request.framing, BODY_BYTES_MAX);
        let deadline = meter::now() + timeouts::BODY_TIME_MAX;
        loop {
            let body = &mut received.body;
            let Progress { used, done } = match rest.take(self.reader.bytes(), body) {
                Ok(progress) => progress,
                Err(ChunkError::BodyTooLong) => return Err(Some(too_long())),
                Err(error) => {
                    let message = format!("the chunked request body is malformed: {error}");
                    return Err(Some(Problem::unreadable(error.status(), message)));
                }
            };
            self.reader.consume(used);
            if policy == BodyPolicy::Ignore {
                body.clear();
            }
            let held = if done {
                decoded_bytes(body)
            } else {
                body.capacity() as u64
            };
            received.hold(&self.server, held)?;
            if done {
                return Ok(received);
            }
            self.fill_within(deadline).await?;
        }
    }
}
