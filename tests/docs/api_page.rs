//! docs/api.md, made of the table of routes.

use std::fmt::Write as _;

use procring::api::routes::{Access, Body, Kind, Parameter, ROUTES, Route, Verb};

const HEAD: &str = "# API

<!-- Made of the table of routes (src/api/routes.rs): PROCRING_WRITE_DOCS=1 cargo test --test docs -->

Every route, what its query may hold, what it takes and what it answers when all is well. Refusals are
on the page [Troubleshooting](troubleshooting.md); what fields mean stands in README.md, and every field
with its type in the server's own `/openapi.json`, from which clients can be generated.

- `{id}` is the id of a process, or its name.
- GET takes HEAD, too. JSON bodies want `Content-Type: application/json`.
- Where the server has a token, all but what is marked *open* want `Authorization: Bearer TOKEN`; a
  WebSocket may bring it as `access_token` or as a subprotocol ([Security](security.md)).
- Unknown fields and parameters are ignored, and refused with `Prefer: handling=strict`.

";

/// The page.
pub(crate) fn page() -> String {
    let mut out = HEAD.to_owned();
    let mut group = "";
    for route in ROUTES {
        let of = group_of(route.path);
        if of != group {
            let _ = writeln!(out, "## {of}\n");
            group = of;
        }
        write_route(&mut out, route);
    }
    let end = out.trim_end().len();
    out.truncate(end);
    out.push('\n');
    out
}

fn group_of(path: &str) -> &'static str {
    match path {
        path if path.contains("/logs") => "Logs",
        path if path.contains("/terminal") || path.contains("/attach") => "Terminals and attaching",
        path if path.contains("/std") || path.contains("/input") => "Input",
        path if path.starts_with("/v1/processes/{id}") => "One process",
        path if path.starts_with("/v1/processes") => "Processes and runs",
        _ => "The server",
    }
}

fn write_route(out: &mut String, route: &Route) {
    let verb = match route.verb {
        Verb::Get => "GET",
        other => other.allow(),
    };
    let _ = writeln!(out, "### {verb} {}\n", route.path);
    let access = match route.access {
        Access::Open => ", *open*",
        _ => "",
    };
    let _ = writeln!(out, "`{}`{access}\n", route.name);
    for Parameter { name, kind } in route.parameters {
        let kind = match kind {
            Kind::Word(words) => words
                .iter()
                .map(|word| format!("`{word}`"))
                .collect::<Vec<_>>()
                .join(", "),
            Kind::Pair => "`KEY=VALUE`, may be repeated".to_owned(),
            other => spaced(&format!("{other:?}")),
        };
        let _ = writeln!(out, "- query `{name}`: {kind}");
    }
    match route.body {
        Body::None => {}
        Body::Json(shape) => {
            let _ = writeln!(out, "- takes JSON: {}", spaced(&format!("{shape:?}")));
        }
        _ => out.push_str("- takes bytes of any length and type\n"),
    }
    let _ = writeln!(
        out,
        "- answers: {}\n",
        answer(&format!("{:?}", route.answer))
    );
}

/// `JsonOrEvents(Log)` as words.
fn answer(debug: &str) -> String {
    let (kind, rest) = debug.split_once('(').unwrap_or((debug, ""));
    let shape = spaced(rest.trim_end_matches(')'));
    match kind {
        "Json" => format!("JSON: {shape}"),
        "Events" => format!("server-sent events: {shape}"),
        "JsonOrEvents" => {
            format!("JSON: {shape}; a stream with `follow=true`, text with `format=text`")
        }
        "Bytes" => "bytes, all (200) or a range (206)".to_owned(),
        "Empty" => "nothing (204)".to_owned(),
        "Upgrade" => "a WebSocket (101)".to_owned(),
        "Various" => "what the request has chosen".to_owned(),
        other => spaced(other),
    }
}

/// `RunRequest` as words.
fn spaced(name: &str) -> String {
    let mut out = String::new();
    for (at, c) in name.chars().enumerate() {
        if c.is_uppercase() && at > 0 {
            out.push(' ');
        }
        out.extend(c.to_lowercase());
    }
    out
}
