//! Runs one connection: read a request, ask `api`, answer; again.
//!
//! In: a socket. Out: answers in the order of the requests. Owns the connection, and says whether it
//! goes on. A request comes through `receive`, becomes a [`stage`] in `answer`, and is answered by
//! `send` or, where that takes time, by the file that is named after it.
//!
//! An answer is sent before the next request is looked at, so pipelined requests are answered in
//! order. Whatever cannot be framed any more ends with `connection: close` and a lingering close,
//! so that the answer is not lost to a reset.

mod answer;
pub(crate) mod body;
mod carry_out;
pub(crate) mod fetch;
mod lasting;
mod list;
pub(crate) mod listener;
mod once;
pub(super) mod open;
pub(crate) mod ran;
pub(crate) mod reader;
pub(crate) mod receive;
mod request_id;
mod send;
mod stage;
pub(crate) mod standing;
mod stream;
mod unread;
mod upload;
mod web_socket;
pub(crate) mod writer;

use std::os::fd::AsRawFd;
use std::pin::pin;
use std::rc::Rc;

use crate::api::access::{Credential, Peer};
use crate::api::{Plan, Problem};
use crate::config::timeouts;
use crate::ledger::heritage::Connection;

use self::standing::{Doing, Had, Standing};
use crate::io::conn::reader::{Filled, Reader};
use crate::io::conn::writer::Writer;
use crate::io::runtime::socket::{Splitable, TcpStream};
use crate::io::runtime::timer::within;
use crate::io::runtime::turn::Turn;
use crate::io::server::Server;
use crate::io::strangers;

/// After the last answer no more than this is read of what the peer still sends.
const LINGER_BYTES: usize = 4 << 20;

/// What becomes of the connection behind an answer (RFC 9112, 9.3 and 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Persistence {
    /// Another request may follow.
    Persist,
    /// It is closed when the peer has had time to read the answer.
    Linger,
    /// It is closed: there is nothing more to say, or nobody to say it to.
    Close,
}

/// A connection and what belongs to it.
pub(crate) struct Conn {
    server: Rc<Server>,
    /// The other end.
    peer: Peer,
    /// It has come to where only metrics are.
    for_metrics: bool,
    reader: Reader,
    writer: Writer,
    /// It counts among [`Server::busy`].
    busy: bool,
    /// Where it stands, if there is a keeper.
    standing: Option<Rc<Standing>>,
    /// Nobody has been let in on it yet.
    stranger: Option<strangers::Number>,
}

impl Drop for Conn {
    fn drop(&mut self) {
        if let Some(number) = self.stranger.take() {
            self.server.strangers(self.for_metrics).gone(number);
        }
        self.set_busy(false);
        if self.standing.is_some() {
            let socket = self.reader.socket();
            self.server.standing.borrow_mut().remove(&socket);
        }
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve(mut conn: Box<Conn>) {
    loop {
        conn.set_busy(false);
        conn.does(Doing::Rests);
        // Nothing but the connection is kept over a wait here: `begin` and `go_on` take the rest.
        let mut head = conn.head().await;
        if conn.server.holds.get() {
            conn.does(Doing::Waits);
            let server = conn.server.clone();
            let held = Box::pin(async move {
                server.begins().await;
                head
            });
            head = held.await;
        }
        conn.does(Doing::Answers);
        let stage = conn.begin(head).await;
        let persistence = match conn.go_on(stage) {
            Ok(persistence) => persistence,
            Err(doing) => doing.await,
        };
        match persistence {
            Persistence::Persist => {}
            Persistence::Linger => return Box::pin(conn.linger()).await,
            Persistence::Close => {
                if conn.writer.has_stalled() {
                    conn.server.tell_dropped(None, "stalled");
                }
                return;
            }
        }
    }
}

/// Answers one request with 503 and closes.
pub(crate) async fn refuse(mut conn: Box<Conn>) {
    conn.does(Doing::Answers);
    if conn.bare_reply(too_many().reply()).await == Persistence::Linger {
        conn.linger().await;
    }
}

fn too_many() -> Problem {
    Problem::unavailable("too many connections", Some("limit_reached")).because("max_connections")
}

impl Conn {
    /// Of a socket that has been accepted.
    pub(crate) fn new(
        server: Rc<Server>,
        stream: TcpStream,
        peer: Peer,
        for_metrics: bool,
    ) -> Box<Self> {
        let socket = stream.as_raw_fd();
        let (read, write) = stream.into_split();
        let turn = Rc::new(Turn::default());
        let budget = server.budget.clone();
        let standing = server.options.upgrades.as_ref().map(|_| {
            let standing = Standing::new(
                socket,
                peer == Peer::Starter,
                for_metrics,
                server.gate.clone(),
            );
            let mut all = server.standing.borrow_mut();
            all.insert(socket, standing.clone());
            standing
        });
        let stranger = Some(server.strangers(for_metrics).come(socket));
        Box::new(Self {
            stranger,
            server,
            peer,
            for_metrics,
            standing: standing.clone(),
            reader: Reader::new(read, socket, turn.clone(), standing),
            writer: Writer::new(write, socket, turn, budget),
            busy: false,
        })
    }

    /// Of a socket that another program has handed over.
    pub(crate) fn goes_on_with(&mut self, mut about: Connection, run: Option<Had>) {
        let unread = std::mem::take(&mut about.bytes);
        if let Some(standing) = &self.standing {
            standing.was(&about, run);
        }
        self.reader.goes_on_with(unread);
    }

    /// Notes what it is doing.
    fn does(&self, doing: Doing) {
        if let Some(standing) = &self.standing {
            standing.does(doing, self.reader.bytes());
        }
    }

    /// Another server could not go on with what it is doing any more.
    fn answers(&self) {
        if let Some(standing) = &self.standing {
            standing.answers();
        }
    }

    /// Whoever asks this may ask: its connection is no stranger's any more.
    fn let_in(&mut self, plan: &Plan) {
        let is_known = plan.caller.credential != Credential::None
            || self.peer == Peer::Starter
            || !self.server.rules().guard(self.for_metrics).has_token();
        if let Some(number) = self.stranger
            && is_known
            && !self.for_metrics
            && self.server.strangers(false).let_in(number)
        {
            self.stranger = None;
        }
    }

    /// Notes that its head is not finished, and has so many bytes; 0 once it is. False if the
    /// connection has to go.
    fn hold_head(&self, bytes: usize) -> bool {
        self.stranger.is_none_or(|number| {
            let strangers = self.server.strangers(self.for_metrics);
            strangers.hold_head(number, bytes as u64, &self.server.budget)
        })
    }

    /// Notes whether it has a request to answer.
    fn set_busy(&mut self, busy: bool) {
        match (std::mem::replace(&mut self.busy, busy), busy) {
            (false, true) => self.server.busy.begin(),
            (true, false) => self.server.busy.end(),
            _ => {}
        }
        if let Some(number) = self.stranger {
            self.server
                .strangers(self.for_metrics)
                .answers(number, busy);
        }
    }

    /// Lets the last answer arrive: closing with unread bytes would reset the connection and may
    /// destroy it on the way.
    async fn linger(mut self) {
        self.does(Doing::Streams);
        self.writer.finish().await;
        let drain = async {
            let mut read = 0;
            while read < LINGER_BYTES && self.reader.fill().await == Filled::Data {
                let len = self.reader.bytes().len();
                read += len;
                self.reader.consume(len);
            }
        };
        let _ = within(timeouts::LINGER_TIME, pin!(drain)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a function with these arguments returns, in bytes.
    fn size<A, F>(_: fn(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_that_waits_carries_no_stage_that_it_is_not_in() {
        // It was 560 with room for the next stage, and for what refuses a head.
        assert!(size(serve) <= 400, "{} bytes", size(serve));
    }
}
