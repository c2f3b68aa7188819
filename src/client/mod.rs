//! A client of the API, for the command line: blocking, over TCP or a unix socket.
//!
//! In: an [`Endpoint`] and requests. Out: answers whose bodies are read as they come, events,
//! WebSocket messages. Owns its sockets. Knows the framing of `wire` and nothing of the server's
//! other rooms: what it says is what any client could say.
//!
//! Each request has a connection of its own unless it says otherwise; a command makes a handful
//! of them. A body that breaks off is an error and never an end: whoever reads it is to know.

mod connection;
mod endpoint;
mod error;
mod request;
mod response;
mod sse;
mod websocket;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) use connection::Connection;
pub(crate) use endpoint::Endpoint;
pub(crate) use error::{ClientError, Problem, Result};
pub(crate) use request::{Body, Request};
pub(crate) use response::Response;
pub(crate) use sse::{Event, Events};
pub(crate) use websocket::{Message, Sender, WebSocket};

/// The pause between two tries to reach a server.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Who waits longer than this wants to know for what.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// Where a server is and what it asks for.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    endpoint: Arc<Endpoint>,
    token: Option<String>,
    patience: Duration,
    tell_waiting: fn(&str),
}

impl Client {
    /// A client of the server at `endpoint`.
    pub(crate) fn new(endpoint: Endpoint, token: Option<String>) -> Self {
        Self {
            endpoint: Arc::new(endpoint),
            token,
            patience: Duration::ZERO,
            tell_waiting: |_| {},
        }
    }

    /// The same, that calls this with the server's address when it has tried for a while.
    #[must_use]
    pub(crate) fn telling(self, tell_waiting: fn(&str)) -> Self {
        Self {
            tell_waiting,
            ..self
        }
    }

    /// The same, that tries for so long to reach a server that does not listen, and asks again what
    /// can be asked twice where a connection breaks.
    #[must_use]
    pub(crate) fn patient(&self, patience: Duration) -> Self {
        Self {
            patience,
            ..self.clone()
        }
    }

    /// Where the server is.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A new connection.
    ///
    /// # Errors
    /// When there is no server, after the client's patience.
    pub(crate) fn connect(&self) -> Result<Connection> {
        let since = Instant::now();
        let mut is_told = false;
        loop {
            match Connection::open(&self.endpoint) {
                Err(error) if error.is_absence() && since.elapsed() < self.patience => {
                    if since.elapsed() > TELL_AFTER && !std::mem::replace(&mut is_told, true) {
                        (self.tell_waiting)(self.endpoint.url());
                    }
                    std::thread::sleep(RETRY_PAUSE);
                }
                result => return result,
            }
        }
    }

    /// Sends a request and reads the head of its answer, whatever its status.
    ///
    /// # Errors
    /// When there is no server or it does not answer.
    pub(crate) fn send(&self, request: Request) -> Result<Response> {
        request.send(self.connect()?, &self.endpoint, self.token.as_deref())
    }

    /// The same; a status of 400 and more is an error.
    ///
    /// # Errors
    /// The server's problem, too.
    pub(crate) fn expect(&self, request: Request) -> Result<Response> {
        let response = self.send(request)?;
        if response.status() < 400 {
            return Ok(response);
        }
        Err(ClientError::Refused(response.problem()?))
    }

    /// A request whose answer is JSON.
    ///
    /// # Errors
    /// As [`Client::expect`], and when the answer is no JSON.
    pub(crate) fn json(&self, request: Request) -> Result<Value> {
        self.expect(request)?.json()
    }

    /// `GET path`, whose answer is JSON.
    ///
    /// # Errors
    /// As [`Client::json`].
    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        self.again(|| self.json(Request::get(path)))
    }

    /// `GET path`, whose answer is read as it comes.
    ///
    /// # Errors
    /// As [`Client::expect`].
    pub(crate) fn open(&self, path: &str) -> Result<Response> {
        self.again(|| self.expect(Request::get(path)))
    }

    /// Asks until there is an answer, or no more patience.
    fn again<T>(&self, ask: impl Fn() -> Result<T>) -> Result<T> {
        let until = Instant::now() + self.patience;
        loop {
            match ask() {
                Err(error) if error.may_pass() && Instant::now() < until => {
                    std::thread::sleep(RETRY_PAUSE);
                }
                result => return result,
            }
        }
    }

    /// `POST path` with a JSON body, whose answer is JSON.
    ///
    /// # Errors
    /// As [`Client::json`].
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.json(Request::post(path).json(body))
    }

    /// Opens a WebSocket.
    ///
    /// # Errors
    /// As [`Client::expect`], and for an answer that is no upgrade.
    pub(crate) fn websocket(&self, path: &str) -> Result<WebSocket> {
        let token = self.token.as_deref();
        self.again(|| WebSocket::open(self.connect()?, &self.endpoint, path, token))
    }
}

/// A segment of a path: what is not unreserved (RFC 3986) is percent-encoded.
pub(crate) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
