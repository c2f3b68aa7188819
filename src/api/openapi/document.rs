//! Makes docs/openapi.json of the table of routes and of what is written beside it.
//!
//! In: [`ROUTES`], `text.yaml`, `schemas.yaml`, `examples.json`. Out: the document. It fails where
//! something of one has nothing in the other, so a route, a parameter or a problem cannot be
//! forgotten, nor stay when it is gone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::api::routes::{Access, Body, Kind, Parameter, ROUTES, Route, Shape};

const TEXT: &str = include_str!("text.yaml");
const SCHEMAS: &str = include_str!("schemas.yaml");
const EXAMPLES: &str = include_str!("examples.json");

/// An object of the text, and which of its keys have been used.
struct Text {
    what: String,
    all: Map<String, Value>,
    used: BTreeSet<String>,
}

impl Text {
    fn of(what: impl Into<String>, value: Value) -> Self {
        let what = what.into();
        let Value::Object(all) = value else {
            panic!("{what} is no object");
        };
        let used = BTreeSet::new();
        Self { what, all, used }
    }

    fn get(&mut self, key: &str) -> Option<Value> {
        self.used.insert(key.to_owned());
        self.all.get(key).cloned()
    }

    fn need(&mut self, key: &str) -> Value {
        let what = self.what.clone();
        self.get(key)
            .unwrap_or_else(|| panic!("text.yaml: {what} has no {key}"))
    }

    fn words(&mut self, key: &str) -> String {
        let words = self.need(key);
        words.as_str().expect("words").trim_end().to_owned()
    }

    fn sub(&mut self, key: &str) -> Self {
        let of = self.get(key).unwrap_or_else(|| json!({}));
        Self::of(format!("{}.{key}", self.what), of)
    }

    /// Nothing of it has been forgotten.
    fn done(self) {
        let unused = self.all.keys().filter(|key| !self.used.contains(*key));
        let unused: Vec<_> = unused.collect();
        assert!(
            unused.is_empty(),
            "text.yaml: {}: {unused:?} of nothing",
            self.what
        );
    }
}

fn yaml(text: &str) -> Value {
    let mut value: serde_yaml_ng::Value = serde_yaml_ng::from_str(text).expect("YAML");
    value.apply_merge().expect("merges");
    yaml_to_json(value)
}

/// Keys that are numbers, such as status codes, are their digits.
fn yaml_to_json(value: serde_yaml_ng::Value) -> Value {
    use serde_yaml_ng::Value as Yaml;
    match value {
        Yaml::Mapping(all) => {
            let pair = |(key, value)| {
                let key = match key {
                    Yaml::String(text) => text,
                    Yaml::Number(number) => number.to_string(),
                    other => panic!("a key that is no text: {other:?}"),
                };
                (key, yaml_to_json(value))
            };
            Value::Object(all.into_iter().map(pair).collect())
        }
        Yaml::Sequence(all) => Value::Array(all.into_iter().map(yaml_to_json).collect()),
        other => serde_json::to_value(other).expect("JSON"),
    }
}

/// What `$u` and short `$ref`s stand for.
fn schema(value: Value) -> Value {
    match value {
        Value::Object(all) => {
            let mut out = Map::new();
            for (key, value) in all {
                match (&*key, &value) {
                    ("$ref", Value::String(name)) => {
                        out.insert(key, json!(format!("#/components/schemas/{name}")));
                    }
                    ("$u", bits) => {
                        let max = match bits.as_u64() {
                            Some(64) => u64::MAX,
                            Some(32) => u32::MAX.into(),
                            other => panic!("no integer has {other:?} bits"),
                        };
                        out.entry("type").or_insert(json!("integer"));
                        out.entry("minimum").or_insert(json!(0));
                        out.entry("maximum").or_insert(json!(max));
                    }
                    _ => {
                        out.insert(key, schema(value));
                    }
                }
            }
            Value::Object(out)
        }
        Value::Array(all) => Value::Array(all.into_iter().map(schema).collect()),
        other => other,
    }
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The schemas, by name.
pub(super) fn schemas() -> Map<String, Value> {
    let Value::Object(all) = schema(yaml(SCHEMAS)) else {
        panic!("schemas.yaml is no object");
    };
    all
}

/// What a shape is called.
pub(super) fn name_of(shape: Shape) -> &'static str {
    match shape {
        Shape::About => "About",
        Shape::Health => "Health",
        Shape::ServerInfo => "ServerInfo",
        Shape::Settings => "Settings",
        Shape::RunRequest => "RunRequest",
        Shape::RunResult => "RunResult",
        Shape::CreateRequest => "CreateRequest",
        Shape::Process => "Process",
        Shape::ProcessList => "ProcessList",
        Shape::Log => "Log",
        Shape::Event => "Event",
        Shape::WaitResult => "WaitResult",
        Shape::SignalRequest => "SignalRequest",
        Shape::InputRequest => "InputRequest",
        Shape::InputResult => "InputResult",
        Shape::WindowSize => "WindowSize",
        Shape::Document => "Document",
    }
}

fn of_kind(kind: Kind) -> Value {
    match kind {
        Kind::Number => json!({"type": "integer", "minimum": 0, "maximum": u64::MAX}),
        Kind::Word(["true", "false"]) => json!({"type": "boolean"}),
        Kind::Word(words) => json!({"type": "string", "enum": words}),
        Kind::Text => json!({"type": "string"}),
        Kind::Name => reference("Name"),
        Kind::Id => reference("ProcessId"),
        Kind::Pair => json!({
            "type": "array",
            "items": {"type": "string", "pattern": "^[^=]+=.*$"},
        }),
    }
}

fn merge(into: &mut Value, more: &Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        for (key, value) in more {
            into.insert(key.clone(), value.clone());
        }
    }
}

fn parameter(parameter: &Parameter, own: &mut Text, common: &mut Text) -> Value {
    let name = parameter.name;
    let text = match own.get(name) {
        Some(text) => text,
        None => common.need(name),
    };
    let mut text = Text::of(format!("parameter {name}"), text);
    let mut schema = of_kind(parameter.kind);
    merge(&mut schema, &text.get("schema").unwrap_or_default());
    let mut out = json!({
        "name": name,
        "in": "query",
        "description": text.words("text"),
        "schema": schema,
    });
    if parameter.kind == Kind::Pair {
        merge(&mut out, &json!({"style": "form", "explode": true}));
    }
    text.done();
    out
}

/// The problems that a route of this kind has by itself.
fn usual_problems(route: &Route) -> Vec<&'static str> {
    let mut all = vec!["malformed", "bad_query", "forbidden", "unavailable"];
    if matches!(
        route.access,
        Access::Token | Access::TokenOrQuery | Access::Metrics
    ) {
        all.push("no_token");
    }
    if route.path.contains("{id}") {
        all.extend(["bad_path", "not_found"]);
    }
    if route.verb.name() != "GET" {
        all.extend(["body_too_slow"]);
        if route.body != Body::Raw {
            all.push("body_too_long");
        }
    }
    if let Body::Json(_) = route.body {
        all.extend(["bad_json", "no_json", "bad_shape"]);
    }
    all
}

/// Examples of a route: what was asked, and what a server has answered.
struct Examples(Vec<Value>);

impl Examples {
    fn of(route: &Route, all: &mut Text) -> Self {
        let own = all.get(route.name).unwrap_or_else(|| json!([]));
        Self(own.as_array().expect("a list of examples").clone())
    }

    /// Those that have this part, by their names.
    fn part(&self, has: impl Fn(&Value) -> Option<Value>) -> Option<Value> {
        let mut out = Map::new();
        for example in &self.0 {
            if let Some(value) = has(example) {
                let name = example["name"].as_str().expect("a name").to_owned();
                let summary = example["summary"].clone();
                let mut shown = json!({"value": value});
                if summary.is_string() {
                    merge(&mut shown, &json!({"summary": summary}));
                }
                out.insert(name, shown);
            }
        }
        (!out.is_empty()).then_some(Value::Object(out))
    }

    fn answered(&self, status: &str, media: &str) -> Option<Value> {
        self.part(|example| {
            let fits =
                example["status"].as_u64() == status.parse().ok() && example["media"] == media;
            fits.then(|| example["answer"].clone())
        })
    }
}

fn content(schema: Value, examples: Option<Value>) -> Value {
    let mut out = json!({"schema": schema});
    if let Some(examples) = examples {
        merge(&mut out, &json!({"examples": examples}));
    }
    out
}

fn events(mut events: Text) -> Value {
    let names: Vec<_> = events.all.keys().cloned().collect();
    let mut out = Map::new();
    for name in names {
        let mut event = events.sub(&name);
        let data = event.words("data");
        let mut one = json!({"description": event.words("text"), "data": reference(&data)});
        if event.get("id") == Some(json!(true)) {
            merge(&mut one, &json!({"id": "the sequence, for Last-Event-ID"}));
        }
        event.done();
        out.insert(name, one);
    }
    Value::Object(out)
}

fn answer(status: &str, mut text: Text, examples: &Examples) -> Value {
    let mut out = json!({"description": text.words("text")});
    let mut media = Map::new();
    if let Some(shape) = text.get("json") {
        let shape = shape.as_str().expect("a name").to_owned();
        let shown = examples.answered(status, "application/json");
        media.insert(
            "application/json".to_owned(),
            content(reference(&shape), shown),
        );
    }
    let mut others = text.sub("media");
    let names: Vec<_> = others.all.keys().cloned().collect();
    for name in names {
        let mut other = others.sub(&name);
        let own = schema(other.get("schema").unwrap_or_else(|| json!({})));
        let mut one = content(own, examples.answered(status, &name));
        if let Some(words) = other.get("text") {
            merge(&mut one, &json!({"x-when": words}));
        }
        other.done();
        media.insert(name, one);
    }
    others.done();
    let streamed = text.sub("events");
    if !streamed.all.is_empty() {
        let name = "text/event-stream";
        let mut one = content(json!({"type": "string"}), examples.answered(status, name));
        merge(&mut one, &json!({"x-events": events(streamed)}));
        media.insert(name.to_owned(), one);
    }
    if !media.is_empty() {
        merge(&mut out, &json!({"content": media}));
    }
    let mut frames = text.sub("frames");
    if !frames.all.is_empty() {
        let mut of = |way: &str| -> Vec<Value> {
            let names = frames.need(way);
            let names = names.as_array().expect("a list").iter();
            names
                .map(|name| reference(name.as_str().expect("a name")))
                .collect()
        };
        let (from, to) = (of("out"), of("in"));
        merge(
            &mut out,
            &json!({"x-websocket": {"fromServer": from, "toServer": to}}),
        );
        frames.done();
    }
    let mut headers = text.sub("headers");
    let names: Vec<_> = headers.all.keys().cloned().collect();
    let mut shown = Map::new();
    for name in names {
        let description = headers.words(&name);
        shown.insert(
            name,
            json!({"description": description, "schema": {"type": "string"}}),
        );
    }
    if !shown.is_empty() {
        merge(&mut out, &json!({"headers": shown}));
    }
    let mut links = text.sub("links");
    let names: Vec<_> = links.all.keys().cloned().collect();
    let mut shown = Map::new();
    for name in names {
        let mut link = links.sub(&name);
        let to = link.words("operation");
        assert!(ROUTES.iter().any(|route| route.name == to), "no route {to}");
        let one = json!({
            "operationId": to,
            "description": link.words("text"),
            "parameters": {"id": "$response.body#/id"},
        });
        link.done();
        shown.insert(name, one);
    }
    if !shown.is_empty() {
        merge(&mut out, &json!({"links": shown}));
    }
    text.done();
    out
}

/// One answer for each status, which says all that may have led to it.
fn refusals(names: &[String], all: &mut Text, examples: &Examples) -> Map<String, Value> {
    let mut by_status: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for name in names {
        let mut problem = all.sub(name);
        let status = problem.need("status").to_string();
        let mut one = json!({"description": problem.words("text")});
        if let Some(kind) = problem.get("kind") {
            let kind = kind.as_str().expect("a kind");
            merge(
                &mut one,
                &json!({"type": format!("urn:sandbox-agent:error:{kind}")}),
            );
        }
        if let Some(code) = problem.get("code") {
            merge(&mut one, &json!({"code": code}));
        }
        problem.done();
        by_status.entry(status).or_default().push(one);
    }
    let mut out = Map::new();
    for (status, problems) in by_status {
        let words = problems
            .iter()
            .map(|one| one["description"].as_str().unwrap_or_default());
        let mut answer = json!({
            "description": words.collect::<Vec<_>>().join("\n\n"),
            "x-problems": problems,
        });
        if problems.iter().any(|one| one.get("type").is_some()) {
            let media = "application/problem+json";
            let shown = examples.answered(&status, media);
            let content = json!({media: content(reference("Problem"), shown)});
            merge(&mut answer, &json!({"content": content}));
        }
        let header = match &*status {
            "401" => Some(("www-authenticate", "`Bearer`.")),
            "503" => Some(("retry-after", "Seconds, where trying again may help.")),
            _ => None,
        };
        if let Some((name, description)) = header {
            let headers = json!({name: {"description": description, "schema": {"type": "string"}}});
            merge(&mut answer, &json!({"headers": headers}));
        }
        out.insert(status, answer);
    }
    out
}

fn operation(route: &Route, text: &mut Text, whole: &mut Whole) -> Value {
    let examples = Examples::of(route, &mut whole.examples);
    let mut parameters = Vec::new();
    for name in ["id", "file"] {
        if route.path.contains(&format!("{{{name}}}")) {
            parameters.push(json!({"$ref": format!("#/components/parameters/{name}")}));
        }
    }
    let mut own = text.sub("parameters");
    for one in route.parameters {
        parameters.push(parameter(one, &mut own, &mut whole.parameters));
    }
    own.done();
    for name in text
        .get("headers")
        .unwrap_or_else(|| json!([]))
        .as_array()
        .expect("a list")
    {
        let name = name.as_str().expect("a name");
        whole.headers.used.insert(name.to_owned());
        assert!(whole.headers.all.contains_key(name), "no header {name}");
        parameters.push(json!({"$ref": format!("#/components/parameters/{name}")}));
    }
    let mut out = json!({
        "operationId": route.name,
        "tags": [text.need("tag")],
        "summary": text.words("summary"),
    });
    if let Some(description) = text.get("description") {
        merge(&mut out, &json!({"description": description}));
    }
    if !parameters.is_empty() {
        merge(&mut out, &json!({"parameters": parameters}));
    }
    match route.body {
        Body::None => {}
        Body::Json(shape) => {
            let shown = examples.part(|example| example.get("body").cloned());
            let content = json!({"application/json": content(reference(name_of(shape)), shown)});
            merge(
                &mut out,
                &json!({"requestBody": {"required": true, "content": content}}),
            );
        }
        Body::Raw => {
            let bytes = json!({"type": "string", "format": "binary"});
            let content = json!({"application/octet-stream": {"schema": bytes}});
            merge(&mut out, &json!({"requestBody": {"content": content}}));
        }
    }
    let mut names: Vec<String> = usual_problems(route)
        .into_iter()
        .map(str::to_owned)
        .collect();
    let own = text.get("problems").unwrap_or_else(|| json!([]));
    let own = own.as_array().expect("a list").iter();
    names.extend(own.map(|name| name.as_str().expect("a name").to_owned()));
    let mut responses = Map::new();
    let mut answers = text.sub("answers");
    let statuses: Vec<_> = answers.all.keys().cloned().collect();
    for status in statuses {
        let one = answers.sub(&status);
        responses.insert(status.clone(), answer(&status, one, &examples));
    }
    answers.done();
    responses.extend(refusals(&names, &mut whole.problems, &examples));
    merge(&mut out, &json!({"responses": responses}));
    let security = match route.access {
        Access::Open | Access::Probe => json!([]),
        Access::Token | Access::Metrics => json!([{"token": []}]),
        Access::TokenOrQuery => json!([{"token": []}, {"tokenInQuery": []}]),
    };
    merge(&mut out, &json!({"security": security}));
    out
}

/// The parts that routes share.
struct Whole {
    parameters: Text,
    headers: Text,
    problems: Text,
    examples: Text,
}

/// The document.
pub(super) fn document() -> Value {
    let mut text = Text::of("text.yaml", yaml(TEXT));
    let examples = serde_json::from_str(EXAMPLES).expect("examples.json");
    let mut whole = Whole {
        parameters: text.sub("parameters"),
        headers: text.sub("headers"),
        problems: text.sub("problems"),
        examples: Text::of("examples.json", examples),
    };
    let mut routes = text.sub("routes");
    let mut paths = Map::new();
    for route in ROUTES {
        let mut own = routes.sub(route.name);
        let operation = operation(route, &mut own, &mut whole);
        own.done();
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        merge(path, &json!({route.verb.name().to_lowercase(): operation}));
    }
    routes.done();
    let mut parameters = json!({
        "id": {
            "name": "id", "in": "path", "required": true,
            "description": "An id, or the name that the process was given.",
            "schema": {"type": "string", "minLength": 1, "pattern": "^[^/]+$"},
            "example": "proc_1",
        },
        "file": {
            "name": "file", "in": "path", "required": true,
            "schema": {"type": "string", "minLength": 1, "pattern": "^[^/]+$"},
            "example": "app.js",
        },
    });
    for name in whole.headers.all.keys().cloned().collect::<Vec<_>>() {
        let mut header = whole.headers.sub(&name);
        let one = json!({
            "name": name,
            "in": header.need("in"),
            "description": header.words("text"),
            "schema": header.need("schema"),
        });
        header.done();
        merge(&mut parameters, &json!({name: one}));
    }
    let Whole {
        parameters: common,
        headers,
        problems,
        examples,
    } = whole;
    common.done();
    headers.done();
    problems.done();
    examples.done();
    let mut info = text.need("info");
    merge(&mut info, &json!({"version": env!("CARGO_PKG_VERSION")}));
    let tags = text.need("tags");
    let tags = tags.as_object().expect("tags").iter();
    let tags: Vec<_> = tags
        .map(|(name, words)| json!({"name": name, "description": words}))
        .collect();
    text.done();
    json!({
        "openapi": "3.1.0",
        "info": info,
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http", "scheme": "bearer",
                    "description": "Where the server has a token (`--token`).",
                },
                "tokenInQuery": {"type": "apiKey", "in": "query", "name": "access_token"},
            },
            "parameters": parameters,
            "schemas": schemas(),
        },
    })
}
