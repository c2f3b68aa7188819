//! Every route, once: method, path, who may ask, parameters, body, answers, and what it means.
//!
//! Dispatch, `allow`, the check of tokens and strict handling read this table; a description of
//! the API and counters can, too. There is no second list of routes.

use std::borrow::Cow;

use crate::wire::http::head::{Head, Method};

use super::attach;
#[cfg(feature = "console")]
use super::console;
use super::events;
use super::list;
use super::metrics;
use super::openapi;
use super::problem::Problem;
use super::query::{self, Params};
use super::route::{Action, Id, upgrade};
use super::screen;
use super::stream;
use super::wait::wait_query;

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
pub(super) struct Asked<'a, 'q> {
    pub(super) head: &'a Head<'q>,
    pub(super) id: &'a Id,
    pub(super) query: &'a Params<'a>,
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
    pub(super) action: fn(Asked<'_, '_>) -> Result<Action, Problem>,
}

impl Route {
    /// Its place in the table.
    pub(super) fn place(&'static self) -> Option<usize> {
        ROUTES.iter().position(|route| std::ptr::eq(route, self))
    }
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.name, self.verb.allow(), self.path)
    }
}

const fn number(name: &'static str) -> Parameter {
    let kind = Kind::Number;
    Parameter { name, kind }
}

const fn of_kind(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind }
}

const fn word(name: &'static str, words: &'static [&'static str]) -> Parameter {
    let kind = Kind::Word(words);
    Parameter { name, kind }
}

const TRUE_OR_FALSE: &[&str] = &["true", "false"];

/// Whether records say what they use.
const USAGE: Parameter = word("usage", TRUE_OR_FALSE);

const STREAMS: &[&str] = &["stdout", "stderr", "combined", "pty"];

const STDIN_PARAMETERS: &[Parameter] = &[number("offset"), word("eof", TRUE_OR_FALSE)];

fn stdin(asked: Asked<'_, '_>) -> Result<Action, Problem> {
    let query = query::stdin(asked.query)?;
    let id = asked.id.clone();
    Ok(Action::Stdin { id, query })
}

/// All of them. A path that names a thing stands before one with `{id}` in its place.
pub static ROUTES: &[Route] = &[
    Route {
        name: "root",
        verb: Verb::Get,
        path: "/",
        access: Access::Open,
        parameters: &[],
        body: Body::None,
        answer: Answer::Json(Shape::About),
        action: |_| Ok(Action::Root),
    },
    #[cfg(feature = "console")]
    Route {
        name: "findConsole",
        verb: Verb::Get,
        path: "/console",
        access: Access::Open,
        parameters: &[],
        body: Body::None,
        answer: Answer::Various,
        action: |asked| Ok(Action::Console(console::moved(asked.head))),
    },
    #[cfg(feature = "console")]
    Route {
        name: "getConsole",
        verb: Verb::Get,
        path: "/console/",
        access: Access::Open,
        parameters: &[],
        body: Body::None,
        answer: Answer::Various,
        action: |asked| console::wanted("", asked.head).map(Action::Console),
    },
    #[cfg(feature = "console")]
    Route {
        name: "getConsoleFile",
        verb: Verb::Get,
        path: "/console/{file}",
        access: Access::Open,
        parameters: &[],
        body: Body::None,
        answer: Answer::Various,
        action: |asked| console::wanted(&asked.id.raw, asked.head).map(Action::Console),
    },
    Route {
        name: "healthz",
        verb: Verb::Get,
        path: "/healthz",
        access: Access::Probe,
        parameters: &[],
        body: Body::None,
        answer: Answer::Json(Shape::Health),
        action: |_| Ok(Action::Healthz),
    },
    Route {
        name: "readyz",
        verb: Verb::Get,
        path: "/readyz",
        access: Access::Probe,
        parameters: &[],
        body: Body::None,
        answer: Answer::Json(Shape::Health),
        action: |_| Ok(Action::Readyz),
    },
    Route {
        name: "openapi",
        verb: Verb::Get,
        path: "/openapi.json",
        access: Access::Open,
        parameters: &[],
        body: Body::None,
        answer: Answer::Json(Shape::Document),
        action: |asked| {
            let gzip = openapi::takes_gzip(asked.head.headers("accept-encoding"));
            Ok(Action::OpenApi { gzip })
        },
    },
    Route {
        name: "metrics",
        verb: Verb::Get,
        path: "/metrics",
        access: Access::Metrics,
        parameters: &[],
        body: Body::None,
        answer: Answer::Various,
        action: |asked| {
            let format = metrics::Format::of(asked.head.headers("accept"));
            Ok(Action::Metrics(format))
        },
    },
    Route {
        name: "health",
        verb: Verb::Get,
        path: "/v1/health",
        access: Access::Token,
        parameters: &[],
        body: Body::None,
        answer: Answer::Json(Shape::Health),
        action: |_| Ok(Action::Health),
    },
    Route {
        name: "getServer",
        verb: Verb::Get,
        path: "/v1/server",
        access: Access::Token,
        parameters: &[],
        body: Body::None,
        answer: Answer::Json(Shape::ServerInfo),
        action: |_| Ok(Action::ServerInfo),
    },
    Route {
        name: "upgradeServer",
        verb: Verb::Post,
        path: "/v1/server/upgrade",
        access: Access::Token,
        parameters: &[of_kind("binary", Kind::Text)],
        body: Body::None,
        answer: Answer::Json(Shape::ServerInfo),
        action: |asked| {
            let binary = asked.query.unique("binary")?.map(Cow::into_owned);
            Ok(Action::Upgrade { binary })
        },
    },
    Route {
        name: "watchEvents",
        verb: Verb::Get,
        path: "/v1/events",
        access: Access::Token,
        parameters: &[
            number("since"),
            of_kind("label", Kind::Pair),
            number("activityMs"),
        ],
        body: Body::None,
        answer: Answer::Events(Shape::Event),
        action: |asked| {
            let resumed = asked.head.header("last-event-id");
            let query = events::parse(asked.query, resumed)?;
            Ok(Action::Events(query))
        },
    },
    Route {
        name: "listProcesses",
        verb: Verb::Get,
        path: "/v1/processes",
        access: Access::Token,
        parameters: &[
            word("owner", &["user", "desktop", "system"]),
            of_kind("name", Kind::Name),
            of_kind("label", Kind::Pair),
            word("status", &["running", "exited"]),
            number("limit"),
            of_kind("after", Kind::Id),
            USAGE,
        ],
        body: Body::None,
        answer: Answer::Json(Shape::ProcessList),
        action: |asked| Ok(Action::List(Box::new(list::parse(asked.query)?))),
    },
    Route {
        name: "createProcess",
        verb: Verb::Post,
        path: "/v1/processes",
        access: Access::Token,
        parameters: &[],
        body: Body::Json(Shape::CreateRequest),
        answer: Answer::Json(Shape::Process),
        action: |_| Ok(Action::Create),
    },
    Route {
        name: "getConfig",
        verb: Verb::Get,
        path: "/v1/processes/config",
        access: Access::Token,
        parameters: &[],
        body: Body::None,
        answer: Answer::Json(Shape::Settings),
        action: |_| Ok(Action::GetSettings),
    },
    Route {
        name: "setConfig",
        verb: Verb::Post,
        path: "/v1/processes/config",
        access: Access::Token,
        parameters: &[],
        body: Body::Json(Shape::Settings),
        answer: Answer::Json(Shape::Settings),
        action: |_| Ok(Action::SetSettings),
    },
    Route {
        name: "runProcess",
        verb: Verb::Post,
        path: "/v1/processes/run",
        access: Access::Token,
        parameters: &[USAGE],
        body: Body::Json(Shape::RunRequest),
        answer: Answer::Json(Shape::RunResult),
        action: |asked| {
            let stream = stream::format(asked.head.headers("accept"));
            if stream.is_some() && asked.head.header("idempotency-key").is_some() {
                return Err(Problem::invalid(
                    "Idempotency-Key needs an answer that can be kept; a stream is none",
                ));
            }
            let usage = query::flag(asked.query, "usage")?;
            Ok(Action::Run { stream, usage })
        },
    },
    Route {
        name: "getProcess",
        verb: Verb::Get,
        path: "/v1/processes/{id}",
        access: Access::Token,
        parameters: &[USAGE],
        body: Body::None,
        answer: Answer::Json(Shape::Process),
        action: |asked| {
            let usage = query::flag(asked.query, "usage")?;
            let id = asked.id.clone();
            Ok(Action::Get { id, usage })
        },
    },
    Route {
        name: "deleteProcess",
        verb: Verb::Delete,
        path: "/v1/processes/{id}",
        access: Access::Token,
        parameters: &[word("tree", TRUE_OR_FALSE)],
        body: Body::None,
        answer: Answer::Empty,
        action: |asked| {
            let tree = query::flag(asked.query, "tree")?;
            let id = asked.id.clone();
            Ok(Action::Delete { id, tree })
        },
    },
    Route {
        name: "getProcessLogs",
        verb: Verb::Get,
        path: "/v1/processes/{id}/logs",
        access: Access::Token,
        parameters: &[
            word("stream", STREAMS),
            number("tail"),
            number("since"),
            number("sinceMs"),
            number("untilMs"),
            number("waitMs"),
            number("maxBytes"),
            number("offset"),
            word("format", &["json", "text"]),
            word("timestamps", TRUE_OR_FALSE),
            word("follow", TRUE_OR_FALSE),
        ],
        body: Body::None,
        answer: Answer::JsonOrEvents(Shape::Log),
        action: |asked| {
            let query = query::logs(asked.query, asked.head.header("last-event-id"))?;
            let id = asked.id.clone();
            Ok(Action::Logs { id, query })
        },
    },
    Route {
        name: "getProcessRawLogs",
        verb: Verb::Get,
        path: "/v1/processes/{id}/logs/raw",
        access: Access::Token,
        parameters: &[
            word("stream", STREAMS),
            number("offset"),
            word("follow", TRUE_OR_FALSE),
        ],
        body: Body::None,
        answer: Answer::Bytes,
        action: |asked| {
            let query = query::raw(asked.query, asked.head)?;
            let id = asked.id.clone();
            Ok(Action::RawLogs { id, query })
        },
    },
    Route {
        name: "stopProcess",
        verb: Verb::Post,
        path: "/v1/processes/{id}/stop",
        access: Access::Token,
        parameters: &[number("waitMs"), number("graceMs")],
        body: Body::None,
        answer: Answer::Json(Shape::Process),
        action: |asked| {
            let wait = query::number(asked.query, "waitMs")?;
            let grace = query::number(asked.query, "graceMs")?;
            let id = asked.id.clone();
            Ok(Action::Stop { id, wait, grace })
        },
    },
    Route {
        name: "killProcess",
        verb: Verb::Post,
        path: "/v1/processes/{id}/kill",
        access: Access::Token,
        parameters: &[number("waitMs")],
        body: Body::None,
        answer: Answer::Json(Shape::Process),
        action: |asked| {
            let wait = query::number(asked.query, "waitMs")?;
            let id = asked.id.clone();
            Ok(Action::Kill { id, wait })
        },
    },
    Route {
        name: "waitForProcess",
        verb: Verb::Get,
        path: "/v1/processes/{id}/wait",
        access: Access::Token,
        parameters: &[
            number("timeoutMs"),
            Parameter {
                name: "log",
                kind: Kind::Text,
            },
            word("stream", &["stdout", "stderr", "combined", "pty"]),
            number("since"),
            number("port"),
            USAGE,
        ],
        body: Body::None,
        answer: Answer::Json(Shape::WaitResult),
        action: |asked| {
            let wait = wait_query(asked.query)?;
            let id = asked.id.clone();
            Ok(Action::Wait { id, wait })
        },
    },
    Route {
        name: "signalProcess",
        verb: Verb::Post,
        path: "/v1/processes/{id}/signal",
        access: Access::Token,
        parameters: &[],
        body: Body::Json(Shape::SignalRequest),
        answer: Answer::Json(Shape::Process),
        action: |asked| Ok(Action::Signal(asked.id.clone())),
    },
    Route {
        name: "sendProcessInput",
        verb: Verb::Post,
        path: "/v1/processes/{id}/input",
        access: Access::Token,
        parameters: &[],
        body: Body::Json(Shape::InputRequest),
        answer: Answer::Json(Shape::InputResult),
        action: |asked| Ok(Action::Input(asked.id.clone())),
    },
    Route {
        name: "writeProcessStdin",
        verb: Verb::Post,
        path: "/v1/processes/{id}/stdin",
        access: Access::Token,
        parameters: STDIN_PARAMETERS,
        body: Body::Raw,
        answer: Answer::Json(Shape::InputResult),
        action: stdin,
    },
    Route {
        name: "uploadProcessStdin",
        verb: Verb::Put,
        path: "/v1/processes/{id}/stdin",
        access: Access::Token,
        parameters: STDIN_PARAMETERS,
        body: Body::Raw,
        answer: Answer::Json(Shape::InputResult),
        action: stdin,
    },
    Route {
        name: "closeProcessStdin",
        verb: Verb::Post,
        path: "/v1/processes/{id}/stdin/close",
        access: Access::Token,
        parameters: &[],
        body: Body::None,
        answer: Answer::Empty,
        action: |asked| Ok(Action::CloseStdin(asked.id.clone())),
    },
    Route {
        name: "attachProcess",
        verb: Verb::Get,
        path: "/v1/processes/{id}/attach/ws",
        access: Access::TokenOrQuery,
        parameters: &[
            number("since"),
            number("tail"),
            word("mode", &["ro", "rw"]),
            word("frames", &["json", "binary"]),
            Parameter {
                name: "access_token",
                kind: Kind::Text,
            },
        ],
        body: Body::None,
        answer: Answer::Upgrade,
        action: |asked| {
            let query = attach::query(asked.query)?;
            let accept = upgrade(asked.head)?;
            let id = asked.id.clone();
            Ok(Action::Attach { id, query, accept })
        },
    },
    Route {
        name: "resizeProcessTerminal",
        verb: Verb::Post,
        path: "/v1/processes/{id}/terminal/resize",
        access: Access::Token,
        parameters: &[],
        body: Body::Json(Shape::WindowSize),
        answer: Answer::Json(Shape::WindowSize),
        action: |asked| Ok(Action::Resize(asked.id.clone())),
    },
    Route {
        name: "getProcessRecording",
        verb: Verb::Get,
        path: "/v1/processes/{id}/logs/recording",
        access: Access::Token,
        parameters: &[word("follow", TRUE_OR_FALSE)],
        body: Body::None,
        answer: Answer::Various,
        action: |asked| {
            let follow = query::flag(asked.query, "follow")?;
            let id = asked.id.clone();
            Ok(Action::Recording { id, follow })
        },
    },
    Route {
        name: "getProcessScreen",
        verb: Verb::Get,
        path: "/v1/processes/{id}/terminal/screen",
        access: Access::Token,
        parameters: &[
            word("format", &["json", "text", "ansi"]),
            number("scrollback"),
        ],
        body: Body::None,
        answer: Answer::Various,
        action: |asked| {
            let query = screen::screen_query(asked.query)?;
            let id = asked.id.clone();
            Ok(Action::Screen { id, query })
        },
    },
    Route {
        name: "connectProcessTerminal",
        verb: Verb::Get,
        path: "/v1/processes/{id}/terminal/ws",
        access: Access::TokenOrQuery,
        parameters: &[
            word("replay", &["none", "all", "tail", "screen"]),
            number("scrollback"),
            number("since"),
            number("offset"),
            word("mode", &["ro", "rw"]),
            word("input", &["binary", "text"]),
            word("flow", &["ack"]),
            word("control", &["extended"]),
            number("cols"),
            number("rows"),
            Parameter {
                name: "access_token",
                kind: Kind::Text,
            },
        ],
        body: Body::None,
        answer: Answer::Upgrade,
        action: |asked| {
            let query = query::terminal(asked.query)?;
            let accept = upgrade(asked.head)?;
            let id = asked.id.clone();
            Ok(Action::Terminal { id, query, accept })
        },
    },
];

/// The routes of one path, and the id segment in it, still encoded. The path is taken literally.
#[derive(Clone, Copy)]
pub(super) struct Found<'p> {
    template: &'static str,
    /// What stands for `{id}` or `{file}`; empty without one.
    pub(super) id: &'p str,
}

/// What a path with an id begins with, in requests and in the table.
const PROCESS: (&str, &str) = ("/v1/processes/", "/v1/processes/{id}");

/// The page for people, and what its files begin with.
const CONSOLE: (&str, &str) = ("/console", "/console/");

/// Finds the routes of a path.
pub(super) fn find(path: &str) -> Option<Found<'_>> {
    let rest = path.strip_prefix(PROCESS.0).filter(|rest| !rest.is_empty());
    let of_process = rest.map(|rest| rest.split_at(rest.find('/').unwrap_or(rest.len())));
    let file = path.strip_prefix(CONSOLE.1);
    let file = file.filter(|file| !file.is_empty() && !file.contains('/'));
    ROUTES.iter().find_map(|route| {
        let template = route.path;
        if template == "/console/{file}" {
            return file.map(|id| Found { template, id });
        }
        let id = match (template.strip_prefix(PROCESS.1), of_process) {
            (None, _) => (path == template).then_some("")?,
            (Some(behind), Some((id, rest))) => (behind == rest && !id.is_empty()).then_some(id)?,
            (Some(_), None) => return None,
        };
        Some(Found { template, id })
    })
}

impl Found<'_> {
    /// Whether it is the page for people.
    pub(super) fn is_console(self) -> bool {
        self.template == CONSOLE.0 || self.template.starts_with(CONSOLE.1)
    }

    fn routes(self) -> impl Iterator<Item = &'static Route> {
        let template = self.template;
        ROUTES.iter().filter(move |route| route.path == template)
    }

    /// Who may ask.
    pub(super) fn access(self) -> Access {
        self.routes()
            .next()
            .map_or(Access::Token, |route| route.access)
    }

    /// The route of this method.
    pub(super) fn of(self, method: Method) -> Option<&'static Route> {
        self.routes().find(|route| route.verb.is(method))
    }

    /// The value of `allow`.
    pub(super) fn allow(self) -> String {
        let methods: Vec<_> = self.routes().map(|route| route.verb.allow()).collect();
        methods.join(",")
    }
}

/// The name of a route, if there is one of this name.
pub fn name(name: &str) -> Option<&'static str> {
    let mut all = ROUTES.iter().map(|route| route.name);
    all.find(|known| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn id_of(path: &str) -> Option<(&'static str, &str)> {
        find(path).map(|found| (found.template, found.id))
    }

    #[test]
    fn paths_are_literal() {
        assert_eq!(
            id_of("/v1/processes/config"),
            Some(("/v1/processes/config", ""))
        );
        for (path, template, id) in [
            (
                "/v1/processes/config/logs",
                "/v1/processes/{id}/logs",
                "config",
            ),
            ("/v1/processes/a%2Fb", "/v1/processes/{id}", "a%2Fb"),
            (
                "/v1/processes/p/terminal/ws",
                "/v1/processes/{id}/terminal/ws",
                "p",
            ),
        ] {
            assert_eq!(id_of(path), Some((template, id)), "{path}");
        }
        for path in [
            "",
            "//",
            "/v1",
            "/v1/health/",
            "/V1/health",
            "/v1/processes/",
            "/v1/processes//logs",
            "/v1/processes/p/",
            "/v1/processes/p/logs/",
            "/v1//processes",
            "/v1/processes/p//logs",
            "/v1/./health",
            "/v1/processes/p/terminal",
            "/v1/processes/p/q/logs",
            "/v1/processes/logs/",
            "/console/a/b",
            "/console/app.js/",
        ] {
            assert_eq!(id_of(path), None, "{path}");
        }
    }

    #[test]
    fn allow_has_the_order_of_the_table() {
        for (path, allow) in [
            ("/", "GET,HEAD"),
            ("/v1/processes", "GET,HEAD,POST"),
            ("/v1/processes/config", "GET,HEAD,POST"),
            ("/v1/processes/run", "POST"),
            ("/v1/processes/x", "GET,HEAD,DELETE"),
            ("/v1/processes/x/stdin", "POST,PUT"),
            ("/v1/processes/x/terminal/ws", "GET,HEAD"),
        ] {
            assert_eq!(
                find(path).map(Found::allow).as_deref(),
                Some(allow),
                "{path}"
            );
        }
    }

    #[test]
    fn a_name_and_a_pair_of_method_and_path_mean_one_route_and_its_paths_agree_on_access() {
        let mut seen = HashSet::new();
        for route in ROUTES {
            assert!(seen.insert(route.name), "{route:?}");
            assert!(seen.insert(&*format!("{} {}", route.verb.allow(), route.path).leak()));
            let same_path = ROUTES.iter().filter(|other| other.path == route.path);
            assert!(
                same_path
                    .into_iter()
                    .all(|other| other.access == route.access)
            );
            // Each path is found as what it is.
            let path = route.path.replace("{id}", "proc_1");
            let path = path.replace("{file}", "app.js");
            assert_eq!(find(&path).map(|found| found.template), Some(route.path));
            let is_item = route.path.starts_with(PROCESS.1);
            assert_eq!(is_item, route.path.contains("{id}"), "{route:?}");
        }
    }
}
