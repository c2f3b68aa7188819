//! Every route, once: method, path, who may ask, parameters, body, answers, and what it means.
//!
//! Dispatch, `allow`, the check of tokens and strict handling read this table; so do the API's
//! document (`openapi`), the counters by route and the audit log. There is no second list of routes.

mod find;
mod kinds;

use std::borrow::Cow;

use super::attach;
#[cfg(feature = "console")]
use super::console;
use super::events;
use super::list;
use super::metrics;
use super::openapi;
use super::problem::Problem;
use super::query;
use super::route::{Action, upgrade};
use super::screen;
use super::stream;
use super::wait::wait_query;

pub(super) use self::find::find;
pub use self::find::name;
pub(super) use self::kinds::Asked;
pub use self::kinds::{Access, Answer, Body, Kind, Parameter, Route, Shape, Verb};
use self::kinds::{number, of_kind, word};

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
