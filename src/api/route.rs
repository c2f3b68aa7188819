//! Method and path to an action.
//!
//! In: a request head and what the command line says about callers. Out: a [`Plan`], or the
//! answer that ends the matter. Reads the query and the headers, not the body.

use std::borrow::Cow;

use crate::types::ProcessId;
use crate::wire::http::head::{Head, Method};
use crate::wire::http::prefer::preference;
use crate::wire::http::target::{decode_segment, split_target};
use crate::wire::say::run::Format;
use crate::wire::ws::handshake::{self, Accept, HandshakeError, UpgradeRequest};

use super::access::{Caller, Credential, Peer};
use super::attach::AttachQuery;
#[cfg(feature = "console")]
use super::console::Wanted;
use super::events::EventsQuery;
use super::guard::Guard;
use super::idempotency::Name;
use super::list::ListQuery;
use super::metrics;
use super::problem::{Problem, shortened};
use super::query::{LogsQuery, Params, RawQuery, StdinQuery, TerminalQuery};
use super::reply::Reply;
use super::routes::{self, Access, Asked, Body, Route, Shape};
use super::screen::ScreenQuery;
use super::subprotocol::Offered;
use super::wait::Wait;

/// A process id as the client wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Id {
    /// Percent-decoded, for messages.
    pub raw: String,
    /// The id it stands for, if it can be one.
    pub parsed: Option<ProcessId>,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Action {
    /// `GET /`
    Root,
    /// `GET /console/` and what belongs to it
    #[cfg(feature = "console")]
    Console(Wanted),
    /// `GET /healthz`
    Healthz,
    /// `GET /readyz`
    Readyz,
    /// `GET /openapi.json`
    OpenApi {
        /// It may be sent compressed.
        gzip: bool,
    },
    /// `GET /metrics`
    Metrics(metrics::Format),
    /// `GET /v1/health`
    Health,
    /// `GET /v1/server`
    ServerInfo,
    /// `POST /v1/server/upgrade`
    Upgrade {
        /// `binary`
        binary: Option<String>,
    },
    /// `GET /v1/processes/config`
    GetSettings,
    /// `POST /v1/processes/config`
    SetSettings,
    /// `POST /v1/processes/run`
    Run {
        /// As a stream, in this format.
        stream: Option<Format>,
        /// `usage`
        usage: bool,
    },
    /// `POST /v1/processes`
    Create,
    /// `GET /v1/processes`
    List(Box<ListQuery>),
    /// `GET /v1/processes/{id}`
    Get {
        /// Which process.
        id: Id,
        /// `usage`
        usage: bool,
    },
    /// `DELETE /v1/processes/{id}`
    Delete {
        /// Which process.
        id: Id,
        /// `tree`
        tree: bool,
    },
    /// `GET /v1/processes/{id}/logs`
    Logs {
        /// Of which process.
        id: Id,
        /// Which part.
        query: LogsQuery,
    },
    /// `GET /v1/processes/{id}/logs/raw`
    RawLogs {
        /// Of which process.
        id: Id,
        /// Which bytes.
        query: RawQuery,
    },
    /// `POST /v1/processes/{id}/stop`
    Stop {
        /// Which process.
        id: Id,
        /// `waitMs`
        wait: Option<u64>,
        /// `graceMs`
        grace: Option<u64>,
    },
    /// `POST /v1/processes/{id}/kill`
    Kill {
        /// Which process.
        id: Id,
        /// `waitMs`
        wait: Option<u64>,
    },
    /// `GET /v1/events`
    Events(EventsQuery),
    /// `GET /v1/processes/{id}/wait`
    Wait {
        /// For which process.
        id: Id,
        /// For what.
        wait: Wait,
    },
    /// `POST /v1/processes/{id}/signal`
    Signal(Id),
    /// `POST /v1/processes/{id}/input`
    Input(Id),
    /// `POST` or `PUT /v1/processes/{id}/stdin`
    Stdin {
        /// Of which process.
        id: Id,
        /// How it is taken.
        query: StdinQuery,
    },
    /// `POST /v1/processes/{id}/stdin/close`
    CloseStdin(Id),
    /// `POST /v1/processes/{id}/terminal/resize`
    Resize(Id),
    /// `GET /v1/processes/{id}/attach/ws`
    Attach {
        /// Which process.
        id: Id,
        /// What to show.
        query: AttachQuery,
        /// The handshake's answer.
        accept: Accept,
    },
    /// `GET /v1/processes/{id}/terminal/screen`
    Screen {
        /// Of which process.
        id: Id,
        /// In which form.
        query: ScreenQuery,
    },
    /// `GET /v1/processes/{id}/logs/recording`
    Recording {
        /// Of which process.
        id: Id,
        /// `follow`
        follow: bool,
    },
    /// `GET /v1/processes/{id}/terminal/ws`
    Terminal {
        /// Which process.
        id: Id,
        /// What to show.
        query: TerminalQuery,
        /// The handshake's answer.
        accept: Accept,
    },
}

/// What to do with the request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyPolicy {
    /// Read it and throw it away.
    Ignore,
    /// The action needs it.
    Read,
    /// The action needs it piece by piece; it is decided upon before the first of them.
    Stream,
}

/// A request that may be carried out once its body is there.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What is to be done.
    pub action: Action,
    /// Whether the body is needed.
    pub body: BodyPolicy,
    /// Who asks.
    pub caller: Caller,
    /// Which route this is, as its place in the table.
    pub route: Option<usize>,
    /// What it is known by, if it may come again.
    pub repeat: Option<Box<Name>>,
}

/// Characters of a header that a problem quotes.
const QUOTED_CHARS_MAX: usize = 200;

/// Whether a request wants names that nobody knows to be refused (`Prefer: handling=strict`,
/// RFC 7240, 4.4).
pub(crate) fn is_strict(head: &Head<'_>) -> bool {
    let handling = preference(head.headers("prefer"), "handling");
    handling.is_some_and(|word| word.eq_ignore_ascii_case(b"strict"))
}

/// Decides what a request from `peer` asks for.
///
/// # Errors
/// The answer, where there is nothing to carry out: `OPTIONS`, 401, 403, 404, 405, 400, 415.
pub(crate) fn plan(head: &Head<'_>, guard: &Guard, peer: Peer) -> Result<Plan, Reply> {
    if !guard.lets_in(peer) {
        return Err(Problem::forbidden(
            "this user is not allowed on this socket; start the server with --unix-allow-uid to \
             allow one"
                .to_owned(),
        )
        .because("user_not_allowed")
        .reply());
    }
    let known = guard.known(peer);
    // No page's name leads to a socket that is no address.
    let has_name = matches!(peer, Peer::Address(_) | Peer::Unknown);
    if has_name && !guard.host_allowed(head.host()) {
        let host = shortened(head.host().unwrap_or_default(), QUOTED_CHARS_MAX);
        return Err(Problem::forbidden(format!(
            "host {host:?} is not allowed; start the server with --allowed-host to allow it"
        ))
        .because("host_not_allowed")
        .reply());
    }
    let (path, raw_query) = split_target(head.target());
    let found = routes::find(guard.without_base(path));
    let found = found.filter(|found| !guard.no_console || !found.is_console());
    let found = found.filter(|found| guard.serves(found.access()));
    if head.method() == Method::Options {
        let reply = Reply::new(200);
        return Err(match found {
            Some(found) => reply.header("allow", found.allow()),
            None => reply,
        });
    }
    let Some(found) = found else {
        return Err(Problem::no_route().reply());
    };
    let route = found.of(head.method());
    let query = Params::parse(
        raw_query.unwrap_or_default(),
        route.map_or(&[], |route| route.parameters),
    );
    let with_allow = |reply: Reply| match route {
        Some(_) => reply,
        None => reply.header("allow", found.allow()),
    };
    let access = found.access();
    let mut credential = Credential::None;
    if guard.wants_token(access) {
        let authorization = head.header("authorization");
        let (access_token, offered) = match access {
            Access::TokenOrQuery => (query.first("access_token"), Some(offered(head))),
            _ => (None, None),
        };
        let by_protocol = offered.as_ref().map_or(0, Offered::credentials);
        let others = usize::from(authorization.is_some()) + usize::from(access_token.is_some());
        if by_protocol > 0 && by_protocol + others > 1 {
            return Err(with_allow(as_upgrade(Problem::unreadable(
                400,
                "more than one credential: a token comes in one of Sec-WebSocket-Protocol \
                 (procring.bearer.v1.TOKEN, once), Authorization and access_token",
            ))));
        }
        let token = match &offered {
            Some(offered) if by_protocol > 0 => offered.token().map(Cow::Owned),
            _ => access_token,
        };
        credential = match known {
            Some(known) => known,
            None => match guard.opened_by(authorization, token.as_deref()) {
                Some(credential) => credential,
                None => return Err(with_allow(Problem::unauthorized().reply())),
            },
        };
    }
    // Who opens a terminal may type into it.
    let is_terminal = access == Access::TokenOrQuery;
    let changes = match head.method() {
        Method::Post | Method::Delete => true,
        // Where no route has it, it is answered as any other wrong method.
        Method::Put => route.is_some(),
        _ => is_terminal,
    };
    if changes && !guard.origin_allowed(head.header("origin"), head.host()) {
        let origin = String::from_utf8_lossy(head.header("origin").unwrap_or_default());
        let origin = shortened(&origin, QUOTED_CHARS_MAX);
        return Err(Problem::forbidden(format!(
            "origin {origin:?} is not allowed; start the server with --cors-allow-origin, or with \
             --allowed-host where it is the server's own name, to allow it"
        ))
        .because("origin_not_allowed")
        .reply());
    }
    let Some(route) = route else {
        // The body is as empty as the reference's; the log has the sentence.
        let sentence = format!("this path takes {}, and no other method", found.allow());
        return Err(with_allow(Reply::new(405)).refused("method_not_allowed", sentence));
    };
    let id = decode_segment(found.id)
        .map_err(|_| Problem::unreadable(400, "the process id in the path is not UTF-8").reply())?
        .into_owned();
    let id = Id {
        parsed: ProcessId::parse(&id),
        raw: id,
    };
    let asked = Asked {
        head,
        id: &id,
        query: &query,
    };
    let caller = Caller { credential, peer };
    planned(route, asked, caller).map_err(|problem| match is_terminal {
        true => as_upgrade(problem),
        false => problem.reply(),
    })
}

/// The answer to an upgrade that is refused.
fn as_upgrade(problem: Problem) -> Reply {
    let reply = problem.reply();
    match reply.status {
        400 => reply.header("sec-websocket-version", "13"),
        _ => reply,
    }
}

/// The subprotocols that a request offers.
fn offered<'q>(head: &Head<'q>) -> Offered<'q> {
    Offered::new(head.headers("sec-websocket-protocol"))
}

fn planned(route: &'static Route, asked: Asked<'_, '_>, caller: Caller) -> Result<Plan, Problem> {
    let body = match route.body {
        Body::None => BodyPolicy::Ignore,
        Body::Raw => BodyPolicy::Stream,
        Body::Json(_) => {
            json_content_type(asked.head.header("content-type"))?;
            BodyPolicy::Read
        }
    };
    let action = (route.action)(asked)?;
    let repeat = match route.body {
        Body::Json(Shape::CreateRequest | Shape::RunRequest) => {
            Name::read(asked.head, &caller, route.name)?
        }
        _ => None,
    };
    if is_strict(asked.head) {
        asked.query.refuse_unknown()?;
    }
    Ok(Plan {
        action,
        body,
        caller,
        route: route.place(),
        repeat,
    })
}

/// Reads a WebSocket handshake.
pub(super) fn upgrade(head: &Head<'_>) -> Result<Accept, Problem> {
    let all = |name: &str| head.headers(name).collect::<Vec<_>>();
    let single = |name: &str| {
        let mut values = head.headers(name);
        let first = values.next();
        if values.next().is_some() { None } else { first }
    };
    let offered = offered(head);
    let request = UpgradeRequest {
        connection: &all("connection"),
        upgrade: &all("upgrade"),
        version: single("sec-websocket-version"),
        key: single("sec-websocket-key"),
        protocols: &offered.selectable(),
    };
    if head.method() != Method::Get || head.http_minor() == 0 {
        return Err(Problem::unreadable(
            400,
            HandshakeError::ConnectionMissing.to_string(),
        ));
    }
    handshake::accept(&request).map_err(|error| Problem::unreadable(400, error.to_string()))
}

/// `application/json` or `application/*+json`, with any parameters.
fn json_content_type(value: Option<&[u8]>) -> Result<(), Problem> {
    let essence = value
        .and_then(|value| std::str::from_utf8(value).ok())
        .map(|value| {
            value
                .split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .to_ascii_lowercase()
        });
    let subtype = essence
        .as_deref()
        .and_then(|essence| essence.strip_prefix("application/"));
    if subtype.is_some_and(|subtype| {
        subtype == "json" || (subtype.len() > 5 && subtype.ends_with("+json"))
    }) {
        return Ok(());
    }
    Err(Problem::unreadable(
        415,
        "a request with a body needs `content-type: application/json`",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::routes::Kind;
    use crate::wire::Parsed;
    use crate::wire::http::head::{HeadLimits, HeadScan, parse_head};

    /// What a request for `target` of this method comes to.
    fn planned(method: &str, target: &str) -> Result<Plan, Reply> {
        let text = format!(
            "{method} {target} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nprefer: handling=strict\r\n\r\n"
        );
        let mut scan = HeadScan::default();
        let parsed = parse_head(text.as_bytes(), &mut scan, &HeadLimits::default());
        let Ok(Parsed::Done { value: head, .. }) = parsed else {
            panic!("{text}");
        };
        plan(&head, &Guard::default(), Peer::Unknown)
    }

    #[test]
    fn every_parameter_of_the_table_is_read_and_no_other_is_known() {
        for route in routes::ROUTES {
            let method = route.verb.name();
            let path = route.path.replace("{id}", "proc_1");
            let path = path.replace("{file}", "app.js");
            assert!(planned(method, &path).is_ok(), "{route:?}");
            let refused = planned(method, &format!("{path}?nobody-knows=1"));
            assert_eq!(
                refused.map_err(|reply| reply.status).err(),
                Some(400),
                "{route:?}"
            );
            for parameter in route.parameters {
                let (name, good) = match parameter.kind {
                    Kind::Number => (parameter.name, "7"),
                    Kind::Word(words) => (parameter.name, words[0]),
                    Kind::Text | Kind::Name => (parameter.name, "x"),
                    Kind::Id => (parameter.name, "proc_7"),
                    Kind::Pair => (parameter.name, "k=v"),
                };
                // Two that go together.
                let other = match name {
                    "cols" => "&rows=7",
                    "rows" => "&cols=7",
                    _ => "",
                };
                let with = |value: &str| planned(method, &format!("{path}?{name}={value}{other}"));
                assert!(with(good).is_ok(), "{route:?}: {name}={good}");
                if parameter.kind != Kind::Text {
                    let status = with("ne/ither").map_err(|reply| reply.status).err();
                    assert_eq!(status, Some(400), "{route:?}: {name} is not read");
                }
            }
        }
    }

    #[test]
    fn a_base_path_may_stand_in_front_and_what_only_looks_like_it_is_another_path() {
        let guard = Guard {
            base_path: "/tool/x".to_owned(),
            ..Guard::default()
        };
        for (path, found) in [
            ("/tool/x/v1/health", true),
            ("/v1/health", true),
            ("/tool/x/", true),
            ("/tool/x", true),
            ("/tool/xv1/health", false),
            ("/tool/v1/health", false),
            ("/tool/x/tool/x/v1/health", false),
        ] {
            let found_here = routes::find(guard.without_base(path)).is_some();
            assert_eq!(found_here, found, "{path}");
        }
    }

    #[test]
    fn json_bodies_may_say_so_in_several_ways() {
        for value in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/problem+json",
            "application/json;x",
        ] {
            assert!(json_content_type(Some(value.as_bytes())).is_ok(), "{value}");
        }
        for value in [
            "text/plain",
            "application/jsonx",
            "application/+json",
            "json",
            "",
            "text/json",
        ] {
            assert!(
                json_content_type(Some(value.as_bytes())).is_err(),
                "{value}"
            );
        }
        assert!(json_content_type(None).is_err());
    }
}
