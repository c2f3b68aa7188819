//! What a route is made of: the words that the table is written in.

use crate::wire::http::head::{Head, Method};

use super::ROUTES;
use crate::api::problem::Problem;
use crate::api::query::Params;
use crate::api::route::{Action, Id};

/// Methods that routes have. HEAD is GET without a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// GET and HEAD.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
}

impl Verb {
    /// Whether this is the method of a request.
    pub fn is(self, method: Method) -> bool {
        match self {
            Verb::Get => matches!(method, Method::Get | Method::Head),
            Verb::Post => method == Method::Post,
            Verb::Put => method == Method::Put,
            Verb::Delete => method == Method::Delete,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Post => "POST",
            Verb::Put => "PUT",
            Verb::Delete => "DELETE",
        }
    }

    /// As it stands in `allow`.
    pub fn allow(self) -> &'static str {
        match self {
            Verb::Get => "GET,HEAD",
            Verb::Post => "POST",
            Verb::Put => "PUT",
            Verb::Delete => "DELETE",
        }
    }
}

/// Who may ask, where the server has a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Open,
    /// The same, also where only metrics are served.
    Probe,
    /// Who brings the token, unless metrics are public; some servers have them elsewhere.
    Metrics,
    /// Who brings the token.
    Token,
    /// The same; `access_token` in the query counts, too, since browsers cannot set headers on a
    /// WebSocket.
    TokenOrQuery,
}

/// What a parameter of the query may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An unsigned integer of 64 bits.
    Number,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Any text.
    Text,
    /// A name that a process may have.
    Name,
    /// The id of a process.
    Id,
    /// `KEY=VALUE`; may be repeated.
    Pair,
}

/// A parameter of the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name, in this case and no other.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
}

/// What a request brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing that is read.
    None,
    /// A JSON object of this shape.
    Json(Shape),
    /// Bytes of any media type and any length, which are passed on as they come.
    Raw,
}

/// What is in an answer of 2xx, or 101.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// JSON of this shape.
    Json(Shape),
    /// A stream of server-sent events, each with JSON of this shape.
    Events(Shape),
    /// JSON of this shape; an event stream with `follow=true`, and plain text with `format=text`.
    JsonOrEvents(Shape),
    /// Bytes (`application/octet-stream`), all (200) or a range (206).
    Bytes,
    /// Something else than JSON, or what the request has chosen.
    Various,
    /// Nothing (204).
    Empty,
    /// A WebSocket (101).
    Upgrade,
}

/// The shapes of JSON that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `{"docs":…,"name":…}`
    About,
    /// `{"status":"ok"}`
    Health,
    /// What the server is, what works here, and how much there is of everything.
    ServerInfo,
    /// What this API is.
    Document,
    /// The six limits.
    Settings,
    /// What to run.
    RunRequest,
    /// How a run ended and what it wrote.
    RunResult,
    /// What to start.
    CreateRequest,
    /// A record.
    Process,
    /// All records.
    ProcessList,
    /// A part of a log.
    Log,
    /// What has happened to a record, and the record as it was.
    Event,
    /// How a wait ended, and the record.
    WaitResult,
    /// Which signal to send, and to whom.
    SignalRequest,
    /// Bytes for a process.
    InputRequest,
    /// How many of them it took.
    InputResult,
    /// The size of a terminal.
    WindowSize,
}

/// What an action is made of.
#[derive(Clone, Copy)]
pub(in crate::api) struct Asked<'a, 'q> {
    pub(in crate::api) head: &'a Head<'q>,
    pub(in crate::api) id: &'a Id,
    pub(in crate::api) query: &'a Params<'a>,
}

/// One route.
pub struct Route {
    /// Its name in descriptions and counters; unique.
    pub name: &'static str,
    /// Its method.
    pub verb: Verb,
    /// Its path; `{id}` and `{file}` are one segment that is not empty.
    pub path: &'static str,
    /// Who may ask.
    pub access: Access,
    /// What the query may hold.
    pub parameters: &'static [Parameter],
    /// What a request brings.
    pub body: Body,
    /// What it is answered with when all is well.
    pub answer: Answer,
    /// Reads query and headers.
    pub(in crate::api) action: fn(Asked<'_, '_>) -> Result<Action, Problem>,
}

impl Route {
    /// Its place in the table.
    pub(in crate::api) fn place(&'static self) -> Option<usize> {
        ROUTES.iter().position(|route| std::ptr::eq(route, self))
    }
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.name, self.verb.allow(), self.path)
    }
}

pub(super) const fn number(name: &'static str) -> Parameter {
    let kind = Kind::Number;
    Parameter { name, kind }
}

pub(super) const fn of_kind(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind }
}

pub(super) const fn word(name: &'static str, words: &'static [&'static str]) -> Parameter {
    let kind = Kind::Word(words);
    Parameter { name, kind }
}
