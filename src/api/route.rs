//! Method and path to an action.
//!
//! In: a request head and what the command line says about callers. Out: a [`Plan`], or the
//! answer that ends the matter. Reads the query and the headers, not the body.

use crate::types::ProcessId;
use crate::wire::http::head::{Head, Method};
use crate::wire::http::prefer::preference;
use crate::wire::http::target::{decode_segment, split_target};
use crate::wire::ws::handshake::{self, Accept, HandshakeError, UpgradeRequest};

use super::guard::Guard;
use super::problem::{Problem, shortened};
use super::query::{self, LogsQuery, Owner, Params, TerminalQuery};
use super::reply::Reply;

/// A process id as the client wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id {
    /// Percent-decoded, for messages.
    pub raw: String,
    /// The id it stands for, if it can be one.
    pub parsed: Option<ProcessId>,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// `GET /`
    Root,
    /// `GET /v1/health`
    Health,
    /// `GET /v1/processes/config`
    GetSettings,
    /// `POST /v1/processes/config`
    SetSettings,
    /// `POST /v1/processes/run`
    Run,
    /// `POST /v1/processes`
    Create,
    /// `GET /v1/processes`
    List {
        /// Only these.
        owner: Owner,
    },
    /// `GET /v1/processes/{id}`
    Get(Id),
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
    /// `POST /v1/processes/{id}/input`
    Input(Id),
    /// `POST /v1/processes/{id}/terminal/resize`
    Resize(Id),
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
pub enum BodyPolicy {
    /// Read it and throw it away.
    Ignore,
    /// The action needs it.
    Read,
}

/// A request that may be carried out once its body is there.
#[derive(Debug)]
pub struct Plan {
    /// What is to be done.
    pub action: Action,
    /// Whether the body is needed.
    pub body: BodyPolicy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Root,
    Health,
    Processes,
    Settings,
    Run,
    Process,
    Logs,
    Stop,
    Kill,
    Input,
    Resize,
    Terminal,
}

impl Endpoint {
    /// The value of `allow`.
    fn methods(self) -> &'static str {
        match self {
            Endpoint::Root | Endpoint::Health | Endpoint::Logs | Endpoint::Terminal => "GET,HEAD",
            Endpoint::Processes | Endpoint::Settings => "GET,HEAD,POST",
            Endpoint::Process => "GET,HEAD,DELETE",
            Endpoint::Run
            | Endpoint::Stop
            | Endpoint::Kill
            | Endpoint::Input
            | Endpoint::Resize => "POST",
        }
    }

    fn allows(self, method: Method) -> bool {
        let word = match method {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Delete => "DELETE",
            Method::Options | Method::Other => return false,
        };
        self.methods().split(',').any(|allowed| allowed == word)
    }

    fn needs_token(self) -> bool {
        self != Endpoint::Root
    }
}

/// The endpoint of a path, and the id segment in it, still encoded. The path is taken literally.
fn endpoint(path: &str) -> Option<(Endpoint, &str)> {
    match path {
        "/" => return Some((Endpoint::Root, "")),
        "/v1/health" => return Some((Endpoint::Health, "")),
        "/v1/processes" => return Some((Endpoint::Processes, "")),
        "/v1/processes/config" => return Some((Endpoint::Settings, "")),
        "/v1/processes/run" => return Some((Endpoint::Run, "")),
        _ => {}
    }
    let rest = path.strip_prefix("/v1/processes/")?;
    let (id, rest) = rest.split_once('/').unwrap_or((rest, ""));
    if id.is_empty() {
        return None;
    }
    let endpoint = match rest {
        // A trailing slash leaves the same rest as none; the lengths tell them apart.
        "" if path.ends_with('/') => return None,
        "" => Endpoint::Process,
        "logs" => Endpoint::Logs,
        "stop" => Endpoint::Stop,
        "kill" => Endpoint::Kill,
        "input" => Endpoint::Input,
        "terminal/resize" => Endpoint::Resize,
        "terminal/ws" => Endpoint::Terminal,
        _ => return None,
    };
    Some((endpoint, id))
}

/// Characters of a header that a problem quotes.
const QUOTED_CHARS_MAX: usize = 200;

/// Whether a request wants names that nobody knows to be refused (`Prefer: handling=strict`,
/// RFC 7240, 4.4).
pub fn is_strict(head: &Head<'_>) -> bool {
    let handling = preference(head.headers("prefer"), "handling");
    handling.is_some_and(|word| word.eq_ignore_ascii_case(b"strict"))
}

/// Decides what a request asks for.
///
/// # Errors
/// The answer, where there is nothing to carry out: `OPTIONS`, 401, 403, 404, 405, 400, 415.
pub fn plan(head: &Head<'_>, guard: &Guard) -> Result<Plan, Reply> {
    if !guard.host_allowed(head.host()) {
        let host = shortened(head.host().unwrap_or_default(), QUOTED_CHARS_MAX);
        return Err(Problem::forbidden(format!(
            "host {host:?} is not allowed; start the server with --allowed-host to allow it"
        ))
        .reply());
    }
    let (path, raw_query) = split_target(head.target());
    let found = endpoint(path);
    if head.method() == Method::Options {
        let reply = Reply::new(200);
        return Err(match found {
            Some((endpoint, _)) => reply.header("allow", endpoint.methods()),
            None => reply,
        });
    }
    let Some((endpoint, id)) = found else {
        return Err(Problem::no_route().reply());
    };
    let query = Params::parse(raw_query.unwrap_or_default());
    let allowed = endpoint.allows(head.method());
    let with_allow = |reply: Reply| {
        if allowed {
            reply
        } else {
            reply.header("allow", endpoint.methods())
        }
    };
    if endpoint.needs_token() {
        // Browsers cannot set headers on a WebSocket, so there, and only there, the query counts.
        let access_token = match endpoint {
            Endpoint::Terminal => query.first("access_token"),
            _ => None,
        };
        if !guard.token_matches(head.header("authorization"), access_token.as_deref()) {
            return Err(with_allow(Problem::unauthorized().reply()));
        }
    }
    let changes =
        matches!(head.method(), Method::Post | Method::Delete) || endpoint == Endpoint::Terminal;
    if changes && !guard.origin_allowed(head.header("origin"), head.host()) {
        let origin = String::from_utf8_lossy(head.header("origin").unwrap_or_default());
        let origin = shortened(&origin, QUOTED_CHARS_MAX);
        return Err(Problem::forbidden(format!(
            "origin {origin:?} is not allowed; start the server with --cors-allow-origin, or with \
             --allowed-host where it is the server's own name, to allow it"
        ))
        .reply());
    }
    if !allowed {
        return Err(Reply::new(405).header("allow", endpoint.methods()));
    }
    let id = decode_segment(id)
        .map_err(|_| Problem::unreadable(400, "the process id in the path is not UTF-8").reply())?
        .into_owned();
    let id = Id {
        parsed: ProcessId::parse(&id),
        raw: id,
    };
    let planned = action(endpoint, head, id, &query).and_then(|plan| {
        if is_strict(head) {
            query.refuse_unknown()?;
        }
        Ok(plan)
    });
    planned.map_err(|problem| {
        let reply = problem.reply();
        let upgrade = endpoint == Endpoint::Terminal && reply.status == 400;
        if upgrade {
            reply.header("sec-websocket-version", "13")
        } else {
            reply
        }
    })
}

fn action(
    endpoint: Endpoint,
    head: &Head<'_>,
    id: Id,
    query: &Params<'_>,
) -> Result<Plan, Problem> {
    let posts = head.method() == Method::Post;
    let ignore = |action| {
        Ok(Plan {
            action,
            body: BodyPolicy::Ignore,
        })
    };
    let read = |action| {
        json_content_type(head.header("content-type"))?;
        Ok(Plan {
            action,
            body: BodyPolicy::Read,
        })
    };
    match endpoint {
        Endpoint::Root => ignore(Action::Root),
        Endpoint::Health => ignore(Action::Health),
        Endpoint::Processes if posts => read(Action::Create),
        Endpoint::Processes => ignore(Action::List {
            owner: query::owner(query)?,
        }),
        Endpoint::Settings if posts => read(Action::SetSettings),
        Endpoint::Settings => ignore(Action::GetSettings),
        Endpoint::Run => read(Action::Run),
        Endpoint::Process if head.method() == Method::Delete => ignore(Action::Delete {
            id,
            tree: query::flag(query, "tree")?,
        }),
        Endpoint::Process => ignore(Action::Get(id)),
        Endpoint::Logs => {
            let query = query::logs(query, head.header("last-event-id"))?;
            ignore(Action::Logs { id, query })
        }
        Endpoint::Stop => {
            let (wait, grace) = (
                query::number(query, "waitMs")?,
                query::number(query, "graceMs")?,
            );
            ignore(Action::Stop { id, wait, grace })
        }
        Endpoint::Kill => ignore(Action::Kill {
            id,
            wait: query::number(query, "waitMs")?,
        }),
        Endpoint::Input => read(Action::Input(id)),
        Endpoint::Resize => read(Action::Resize(id)),
        Endpoint::Terminal => {
            let query = query::terminal(query)?;
            let accept = upgrade(head)?;
            ignore(Action::Terminal { id, query, accept })
        }
    }
}

fn upgrade(head: &Head<'_>) -> Result<Accept, Problem> {
    let all = |name: &str| head.headers(name).collect::<Vec<_>>();
    let single = |name: &str| {
        let mut values = head.headers(name);
        let first = values.next();
        if values.next().is_some() { None } else { first }
    };
    let request = UpgradeRequest {
        connection: &all("connection"),
        upgrade: &all("upgrade"),
        version: single("sec-websocket-version"),
        key: single("sec-websocket-key"),
        protocols: &all("sec-websocket-protocol"),
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

    #[test]
    fn paths_are_literal() {
        let id_of = |path| endpoint(path).map(|(endpoint, id)| (endpoint, id.to_owned()));
        assert_eq!(
            id_of("/v1/processes/config"),
            Some((Endpoint::Settings, String::new()))
        );
        assert_eq!(
            id_of("/v1/processes/config/logs"),
            Some((Endpoint::Logs, "config".into()))
        );
        assert_eq!(
            id_of("/v1/processes/a%2Fb"),
            Some((Endpoint::Process, "a%2Fb".into()))
        );
        assert_eq!(
            id_of("/v1/processes/p/terminal/ws"),
            Some((Endpoint::Terminal, "p".into()))
        );
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
        ] {
            assert_eq!(id_of(path), None, "{path}");
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
