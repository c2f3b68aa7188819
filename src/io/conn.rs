//! Runs one connection: read a request, ask `api`, answer; again.
//!
//! In: a socket. Out: answers in the order of the requests. Owns the time limits of a connection.
//!
//! An answer is sent before the next request is looked at, so pipelined requests are answered in
//! order. Whatever cannot be framed any more ends with `connection: close` and a lingering close,
//! so that the answer is not lost to a reset.

use std::borrow::Cow;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use monoio::io::Splitable;
use monoio::net::TcpStream;

use crate::api::cors::VARY;
use crate::api::logs::Fetch;
use crate::api::query::TerminalQuery;
use crate::api::{self, BodyPolicy, Core, Outcome, Plan, Problem, Reply};
use crate::log::Cursor;
use crate::types::ProcessId;
use crate::wire::Parsed;
use crate::wire::http::chunked::{ChunkDecoder, ChunkError};
use crate::wire::http::head::{BodyFraming, Head, HeadScan, Method, parse_head};
use crate::wire::http::response::{CONTINUE, Length, ResponseHead};
use crate::wire::ws::handshake::Accept;

use super::control::{delete, input, resize, signal_and_wait};
use super::create::create;
use super::fetch::fetch;
use super::follow::follow;
use super::reader::{Filled, Reader};
use super::run::run;
use super::server::Server;
use super::terminal::attach;
use super::timer::within;
use super::turn::Turn;
use super::writer::Writer;

/// From the first byte of a request to the end of its head.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// Between requests, and before the first byte of the first one.
const IDLE_TIME_MAX: Duration = Duration::from_secs(120);

/// Between two pieces of a body.
const BODY_PAUSE_MAX: Duration = Duration::from_secs(15);

/// For a whole body.
const BODY_TIME_MAX: Duration = Duration::from_secs(120);

/// Bytes of a body.
const BODY_BYTES_MAX: u64 = 2 << 20;

/// After the last answer: what the peer still sends is read for so long, and so much of it.
const LINGER_TIME: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 4 << 20;

/// Bodies shorter than this are sent together with their head.
const SMALL_BODY_BYTES: usize = 16 << 10;

/// What is kept of a head once its bytes are gone.
struct Facts {
    head_only: bool,
    http_minor: u8,
    close: bool,
    framing: BodyFraming,
    expects_continue: bool,
    preflight: bool,
    /// `origin`, `access-control-request-method`, `access-control-request-headers`.
    cors: Option<Box<[Option<Vec<u8>>; 3]>>,
}

impl Facts {
    fn of(head: &Head<'_>) -> Self {
        let owned = |name| head.header(name).map(<[u8]>::to_vec);
        let cors = [
            owned("origin"),
            owned("access-control-request-method"),
            owned("access-control-request-headers"),
        ];
        Self {
            head_only: head.method() == Method::Head,
            http_minor: head.http_minor(),
            close: head.close(),
            framing: head.body(),
            expects_continue: head.expects_continue(),
            preflight: head.method() == Method::Options,
            cors: cors.iter().any(Option::is_some).then(|| Box::new(cors)),
        }
    }
}

/// Whether another request may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Next,
    /// Answered; close after the peer has had time to read it.
    Linger,
    /// Nothing more to say.
    Drop,
}

/// What is left to do once a request has been understood.
enum Stage {
    /// It has been answered.
    Over(Then),
    /// Its answer is long.
    Fetch(Facts, Fetch),
    /// Its answer goes on for as long as the process runs.
    Follow(Facts, ProcessId, Cursor),
    /// It becomes a terminal.
    Terminal(Facts, Box<Terminal>),
}

/// What an upgrade needs.
struct Terminal {
    id: ProcessId,
    query: TerminalQuery,
    accept: Accept,
}

struct Conn {
    server: Rc<Server>,
    reader: Reader,
    writer: Writer,
}

/// Serves one connection to its end.
pub(super) async fn serve(server: Rc<Server>, stream: TcpStream) {
    let mut conn = Conn::new(server, stream);
    loop {
        // Each stage is boxed by itself, so that a connection carries room for the stage it is in
        // and no other: an idle one waits in `head`, a follower in `follow`.
        let stage = match conn.head().await {
            Ok((facts, plan)) => Box::pin(conn.answer(facts, plan)).await,
            Err(then) => Stage::Over(then),
        };
        let then = match stage {
            Stage::Over(then) => then,
            Stage::Fetch(facts, fetch) => Box::pin(conn.fetch(facts, fetch)).await,
            Stage::Follow(facts, id, cursor) => Box::pin(conn.follow(facts, id, cursor)).await,
            Stage::Terminal(facts, terminal) => Box::pin(conn.terminal(facts, *terminal)).await,
        };
        match then {
            Then::Next => {}
            Then::Linger => return Box::pin(conn.linger()).await,
            Then::Drop => return,
        }
    }
}

/// Answers one request with 503 and closes.
pub(super) async fn refuse(server: Rc<Server>, stream: TcpStream) {
    let mut conn = Conn::new(server, stream);
    let problem = Problem::unavailable("too many connections", Some("limit_reached"));
    if conn.bare_reply(problem.reply()).await == Then::Linger {
        conn.linger().await;
    }
}

impl Conn {
    fn new(server: Rc<Server>, stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        let turn = Rc::new(Turn::default());
        Self {
            server,
            reader: Reader::new(read, turn.clone()),
            writer: Writer::new(write, turn),
        }
    }

    /// Reads the body of a request and carries it out.
    async fn answer(&mut self, facts: Facts, plan: Result<Plan, Reply>) -> Stage {
        let Plan {
            action,
            body: policy,
        } = match plan {
            Ok(plan) => plan,
            Err(reply) => return Stage::Over(self.refuse_body_and_reply(facts, reply).await),
        };
        let body = match self.body(&facts, policy).await {
            Ok(body) => body,
            Err(None) => return Stage::Over(Then::Drop),
            Err(Some(problem)) => {
                let facts = Facts {
                    close: true,
                    ..facts
                };
                return Stage::Over(self.reply(&facts, problem.reply()).await);
            }
        };
        let outcome = {
            let mut settings = self.server.settings.get();
            let mut table = self.server.table.borrow_mut();
            let shutting_down = self.server.shutting_down.get();
            let mut core = Core {
                settings: &mut settings,
                table: &mut table,
                shutting_down,
            };
            let outcome = api::execute(action, &body, &mut core);
            self.server.settings.set(settings);
            outcome
        };
        drop(body);
        let reply = match outcome {
            Outcome::Reply(reply) => reply,
            Outcome::Fetch(fetch) => return Stage::Fetch(facts, fetch),
            Outcome::Follow { id, cursor } => return Stage::Follow(facts, id, cursor),
            Outcome::Terminal { id, query, accept } => {
                let terminal = Terminal { id, query, accept };
                return Stage::Terminal(facts, Box::new(terminal));
            }
            other => match self.carry_out(other).await {
                Some(reply) => reply,
                None => return Stage::Over(Then::Drop),
            },
        };
        Stage::Over(self.reply(&facts, reply).await)
    }

    /// Reads a head. `Err` ends the connection.
    async fn head(&mut self) -> Result<(Facts, Result<Plan, Reply>), Then> {
        let mut scan = HeadScan::default();
        let mut deadline = Instant::now() + IDLE_TIME_MAX;
        let mut begun = false;
        loop {
            if !self.reader.bytes().is_empty() {
                match parse_head(
                    self.reader.bytes(),
                    &mut scan,
                    &self.server.options.head_limits,
                ) {
                    Ok(Parsed::Done { value: head, used }) => {
                        let facts = Facts::of(&head);
                        let plan = api::plan(&head, &self.server.options.guard);
                        self.reader.consume(used);
                        return Ok((facts, plan));
                    }
                    Ok(Parsed::NeedMore) => {}
                    Err(error) => {
                        return Err(Box::pin(self.bare_reply(Reply::new(error.status()))).await);
                    }
                }
                // Not for an empty line, which a client may send after a body.
                if scan.started() && !std::mem::replace(&mut begun, true) {
                    deadline = Instant::now() + HEAD_TIME_MAX;
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let filled = within(left, pin!(self.reader.fill())).await;
            match filled {
                Some(Filled::Data) => {}
                Some(Filled::End | Filled::Broken) => return Err(Then::Drop),
                None if begun => {
                    return Err(Box::pin(self.bare_reply(Reply::new(408))).await);
                }
                None => return Err(Then::Drop),
            }
        }
    }

    /// An answer to something that is not a request; nothing can follow it.
    async fn bare_reply(&mut self, reply: Reply) -> Then {
        let mut out = Vec::with_capacity(256);
        let fields: Vec<(&str, &str)> = reply
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_ref()))
            .collect();
        let head = ResponseHead {
            status: reply.status,
            content_type: reply.content_type,
            length: Length::Known(reply.body.len() as u64),
            close: true,
            keep_alive_http10: false,
            headers: &fields,
        };
        self.server.with_date(|date| head.write_to(date, &mut out));
        out.extend_from_slice(&reply.body);
        if self.writer.all(out).await.is_ok() {
            Then::Linger
        } else {
            Then::Drop
        }
    }

    /// Answers a request whose body nobody wants, and reads the body away if that is cheap.
    async fn refuse_body_and_reply(&mut self, mut facts: Facts, reply: Reply) -> Then {
        let cheap = match facts.framing {
            BodyFraming::Empty => true,
            // A client that waits for 100 may or may not send the body after a final answer.
            _ if facts.expects_continue => false,
            BodyFraming::Length(bytes) => bytes <= BODY_BYTES_MAX,
            BodyFraming::Chunked => true,
        };
        facts.close |= !cheap;
        match self.reply(&facts, reply).await {
            Then::Next => match self.body(&facts, BodyPolicy::Ignore).await {
                Ok(_) => Then::Next,
                Err(_) => Then::Linger,
            },
            then => then,
        }
    }

    /// Reads a body. `Err` holds the answer, or none if the peer is gone.
    async fn body(
        &mut self,
        facts: &Facts,
        policy: BodyPolicy,
    ) -> Result<Vec<u8>, Option<Problem>> {
        let too_long = || {
            Problem::unreadable(
                413,
                format!("the request body is longer than {BODY_BYTES_MAX} bytes"),
            )
        };
        let mut body = Vec::new();
        if facts.framing == BodyFraming::Empty {
            return Ok(body);
        }
        if let BodyFraming::Length(bytes) = facts.framing
            && bytes > BODY_BYTES_MAX
        {
            return Err(Some(too_long()));
        }
        if facts.expects_continue
            && self.reader.bytes().is_empty()
            && self.writer.all(CONTINUE.to_vec()).await.is_err()
        {
            return Err(None);
        }
        let mut decoder = match facts.framing {
            BodyFraming::Chunked => Some(ChunkDecoder::new(BODY_BYTES_MAX)),
            _ => None,
        };
        let mut left = match facts.framing {
            BodyFraming::Length(bytes) => bytes,
            _ => 0,
        };
        let deadline = Instant::now() + BODY_TIME_MAX;
        loop {
            let bytes = self.reader.bytes();
            let (used, done) = match &mut decoder {
                None => {
                    let used = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    body.extend_from_slice(&bytes[..used]);
                    left -= used as u64;
                    (used, left == 0)
                }
                Some(decoder) => match decoder.decode(bytes, &mut body) {
                    Ok(progress) => (progress.used, progress.done),
                    Err(ChunkError::BodyTooLong) => return Err(Some(too_long())),
                    Err(error) => {
                        let message = format!("the chunked request body is malformed: {error}");
                        return Err(Some(Problem::unreadable(error.status(), message)));
                    }
                },
            };
            self.reader.consume(used);
            if policy == BodyPolicy::Ignore {
                body.clear();
            }
            if done {
                return Ok(body);
            }
            let left = deadline
                .saturating_duration_since(Instant::now())
                .min(BODY_PAUSE_MAX);
            let filled = within(left, pin!(self.reader.fill())).await;
            match filled {
                Some(Filled::Data) => {}
                Some(Filled::End | Filled::Broken) => return Err(None),
                None => {
                    return Err(Some(Problem::unreadable(
                        408,
                        "the request body did not arrive in time",
                    )));
                }
            }
        }
    }

    /// Sends a whole answer.
    async fn reply(&mut self, facts: &Facts, reply: Reply) -> Then {
        let len = reply.body.len();
        let length = match reply.status {
            204 | 101 => Length::Absent,
            _ => Length::Known(len as u64),
        };
        let mut out = Vec::with_capacity(320 + if len < SMALL_BODY_BYTES { len } else { 0 });
        self.write_head(facts, &reply, length, &mut out);
        let close = facts.close || self.reader.ended() && self.reader.bytes().is_empty();
        let sent = if facts.head_only {
            self.writer.all(out).await
        } else if len < SMALL_BODY_BYTES {
            out.extend_from_slice(&reply.body);
            self.writer.all(out).await
        } else {
            match self.writer.all(out).await {
                Ok(()) => self.writer.all(reply.body.into_owned()).await,
                error => error,
            }
        };
        match sent {
            Err(_) => Then::Drop,
            Ok(()) if close => Then::Linger,
            Ok(()) => Then::Next,
        }
    }

    fn write_head(&self, facts: &Facts, reply: &Reply, length: Length, out: &mut Vec<u8>) {
        let options = &self.server.options;
        let asked = |at: usize| facts.cors.as_ref().and_then(|cors| cors[at].as_deref());
        let cors = options.cors.fields(&options.guard, asked(0));
        let preflight = if facts.preflight {
            options.cors.preflight_fields(asked(1), asked(2))
        } else {
            Vec::new()
        };
        let mut fields: Vec<(&str, &str)> = Vec::with_capacity(8);
        fields.push(VARY);
        fields.extend(
            cors.iter()
                .chain(&preflight)
                .map(|(name, value)| (*name, value.as_ref())),
        );
        fields.extend(
            reply
                .headers
                .iter()
                .map(|(name, value): &(_, Cow<'_, str>)| (*name, value.as_ref())),
        );
        let head = ResponseHead {
            status: reply.status,
            content_type: reply.content_type,
            length,
            close: facts.close,
            keep_alive_http10: facts.http_minor == 0 && !facts.close,
            headers: &fields,
        };
        self.server.with_date(|date| head.write_to(date, out));
    }

    /// Everything that takes time and then has one answer; None if the client is gone.
    async fn carry_out(&mut self, outcome: Outcome) -> Option<Reply> {
        let server = self.server.clone();
        match outcome {
            Outcome::Run {
                launch,
                timeout,
                output_max,
            } => run(&server, launch, timeout, output_max, &mut self.reader).await,
            Outcome::Create {
                id,
                launch,
                terminal,
            } => Some(create(&server, id, launch, terminal).await),
            Outcome::Signal { id, signal, wait } => {
                Some(signal_and_wait(&server, id, signal, wait).await)
            }
            Outcome::Input { id, data } => input(&server, id, &data, &mut self.reader).await,
            Outcome::Resize { id, size } => Some(resize(&server, id, size)),
            Outcome::Delete { id } => Some(delete(&server, id).await),
            // Answered by the caller.
            Outcome::Reply(_)
            | Outcome::Fetch(_)
            | Outcome::Follow { .. }
            | Outcome::Terminal { .. } => None,
        }
    }

    async fn fetch(&mut self, facts: Facts, what: Fetch) -> Then {
        let reply = Reply::new(200).typed("application/json", Vec::new());
        let mut out = Vec::with_capacity(320);
        self.write_head(
            &facts,
            &reply,
            Length::Known(what.body_len as u64),
            &mut out,
        );
        let whole = fetch(&self.server, what, out, facts.head_only, &mut self.writer).await;
        self.after_stream(&facts, whole)
    }

    async fn follow(&mut self, mut facts: Facts, id: ProcessId, cursor: Cursor) -> Then {
        let reply = Reply::new(200)
            .typed("text/event-stream", Vec::new())
            .header("cache-control", "no-cache")
            .header("x-accel-buffering", "no");
        let chunked = facts.http_minor > 0;
        // Without chunks only the end of the connection ends the body.
        facts.close |= !chunked;
        let mut out = Vec::with_capacity(320);
        let length = if chunked {
            Length::Chunked
        } else {
            Length::UntilClose
        };
        self.write_head(&facts, &reply, length, &mut out);
        if self.writer.all(out).await.is_err() {
            return Then::Drop;
        }
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        let whole =
            facts.head_only || follow(&self.server, id, cursor, chunked, reader, writer).await;
        self.after_stream(&facts, whole)
    }

    /// What follows an answer that was written piece by piece.
    fn after_stream(&self, facts: &Facts, whole: bool) -> Then {
        match whole {
            false => Then::Drop,
            true if facts.close || self.reader.ended() => Then::Linger,
            true => Then::Next,
        }
    }

    async fn terminal(&mut self, facts: Facts, terminal: Terminal) -> Then {
        let Terminal { id, query, accept } = terminal;
        let key = String::from_utf8_lossy(&accept.accept).into_owned();
        let mut reply = Reply::new(101)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-accept", key);
        if let Some(protocol) = &accept.protocol {
            reply = reply.header("sec-websocket-protocol", protocol.clone());
        }
        // `connection` is about the upgrade here, not about what comes after it.
        let facts = Facts {
            close: false,
            ..facts
        };
        let mut out = Vec::with_capacity(400);
        self.write_head(&facts, &reply, Length::Absent, &mut out);
        if self.writer.all(out).await.is_err() {
            return Then::Drop;
        }
        attach(&self.server, id, query, &mut self.reader, &mut self.writer).await;
        Then::Linger
    }

    /// Lets the last answer arrive: closing with unread bytes would reset the connection and may
    /// destroy it on the way.
    async fn linger(mut self) {
        self.writer.finish().await;
        let drain = async {
            let mut read = 0;
            while read < LINGER_BYTES && self.reader.fill().await == Filled::Data {
                let len = self.reader.bytes().len();
                read += len;
                self.reader.consume(len);
            }
        };
        let _ = within(LINGER_TIME, pin!(drain)).await;
    }
}
