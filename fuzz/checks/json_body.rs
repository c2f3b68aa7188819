//! JSON bodies: what is accepted is what a tree of the same text says, every refusal is a whole
//! problem of bounded size, and strict handling refuses unknown fields besides, nothing else.

use std::collections::HashSet;
use std::fmt;

use procring::api::Problem;
use procring::api::body::{CreateBody, InputBody, ResizeBody, RunBody, object};
use procring::config::Settings;
use procring::types::Limit;
use serde::de::DeserializeOwned;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Checks one input as every kind of body.
pub fn json_body(data: &[u8]) {
    let tree = serde_json::from_slice::<Value>(data).ok();
    check::<RunBody>("run", data, &tree, &RUN, |v| {
        command(v)
            && number(v, "timeoutMs")
            && number(v, "maxOutputBytes")
            && text(v, "user")
            && limits(v)
    });
    check::<CreateBody>("create", data, &tree, &CREATE, |v| {
        command(v)
            && ["tty", "interactive"]
                .iter()
                .all(|name| v.get(name).is_none_or(Value::is_boolean))
            && number(v, "cols")
            && number(v, "rows")
            && text(v, "stdin")
            && text(v, "user")
            && limits(v)
    });
    check::<InputBody>("input", data, &tree, &INPUT, |v| {
        v.get("data").is_none_or(Value::is_string)
            && v.get("eof").is_none_or(Value::is_boolean)
            && text(v, "encoding")
            && number(v, "offset")
    });
    check::<ResizeBody>("resize", data, &tree, &SIZE, |v| {
        SIZE.iter()
            .all(|name| integer(&v[name]).is_some_and(|n| n <= 0xffff))
    });
    check::<Settings>("config", data, &tree, &CONFIG, |v| {
        CONFIG.iter().all(|name| integer(&v[name]).is_some())
    });
    if let (Ok(run), Some(tree)) = (object::<RunBody>(data, false), &tree) {
        assert_eq!(tree["command"], *run.command);
        assert_eq!(tree.get("timeoutMs").and_then(integer), run.timeout_ms);
        let args = tree.get("args").and_then(Value::as_array);
        let args: Vec<_> = args
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(args, run.args);
        assert_eq!(tree.get("cwd").and_then(Value::as_str), run.cwd.as_deref());
        for (name, value) in &run.env {
            assert_eq!(tree["env"][name], **value);
        }
    }
}

/// The fields of each body, besides those above.
const RUN: [&str; 8] = [
    "command",
    "args",
    "cwd",
    "env",
    "timeoutMs",
    "maxOutputBytes",
    "limits",
    "user",
];
const INPUT: [&str; 4] = ["data", "encoding", "offset", "eof"];
const CREATE: [&str; 11] = [
    "command",
    "args",
    "cwd",
    "env",
    "tty",
    "interactive",
    "cols",
    "rows",
    "stdin",
    "limits",
    "user",
];
const SIZE: [&str; 2] = ["cols", "rows"];
const CONFIG: [&str; 6] = [
    "maxConcurrentProcesses",
    "defaultRunTimeoutMs",
    "maxRunTimeoutMs",
    "maxOutputBytes",
    "maxLogBytesPerProcess",
    "maxInputBytesPerRequest",
];

/// `fits` says whether a tree has the right shape; `known` are the names it may hold.
fn check<T: DeserializeOwned>(
    what: &str,
    data: &[u8],
    tree: &Option<Value>,
    known: &[&str],
    fits: impl Fn(&Value) -> bool,
) {
    let strict = object::<T>(data, true);
    let lenient = object::<T>(data, false);
    // Strict handling reads an unknown name and skips its value, as lenient handling does.
    match (&lenient, &strict) {
        (Ok(_), strict) => {
            let names = tree.as_ref().and_then(Value::as_object);
            if let Some(names) = names {
                let of_limits = names.get("limits").filter(|_| known.contains(&"limits"));
                let of_limits = of_limits.and_then(Value::as_object).into_iter().flatten();
                let unknown = names.keys().any(|name| !known.contains(&name.as_str()))
                    || of_limits
                        .into_iter()
                        .any(|(name, _)| Limit::named(name).is_none());
                assert_eq!(strict.is_err(), unknown, "{what}: {tree:?}");
            }
            if let Err(problem) = strict {
                assert_eq!(problem.reply().status, 422, "{what}");
                assert!(problem.detail().len() < 4000, "{what}");
            }
        }
        (Err(problem), Err(other)) => {
            assert_eq!(problem.reply().status, other.reply().status, "{what}");
        }
        (Err(problem), Ok(_)) => panic!("{what}: strict takes more: {}", problem.detail()),
    }
    conclude(what, data, tree, lenient, fits);
}

fn conclude<T>(
    what: &str,
    data: &[u8],
    tree: &Option<Value>,
    result: Result<T, Problem>,
    fits: impl Fn(&Value) -> bool,
) {
    let object = tree.as_ref().filter(|tree| tree.is_object());
    match result {
        Ok(_) => {
            assert!(std::str::from_utf8(data).is_ok(), "{what}");
            // A tree cannot hold all that an ignored field may be: 1e999, half a pair.
            assert!(
                tree.is_none() || object.is_some_and(fits),
                "{what}: {tree:?}"
            );
        }
        Err(problem) => {
            let reply = problem.reply();
            let detail = problem.detail();
            assert!(matches!(reply.status, 400 | 422), "{what}: {detail}");
            assert!(detail.chars().count() < 1000, "{what}: {detail}");
            let body: Value = serde_json::from_slice(&reply.body).expect("a problem in JSON");
            assert_eq!(body["status"], reply.status);
            assert_eq!(body["detail"], *detail);
            if reply.status == 400 {
                assert!(tree.is_none(), "{what}: {detail}");
            } else if object.is_some_and(fits) {
                // The tree holds the last value of a name; an earlier one may have been wrong.
                let repeats = serde_json::from_slice::<Repeats>(data);
                assert!(repeats.is_ok_and(|found| found.0), "{what}: {detail}");
            }
        }
    }
}

/// Whether a name is given twice in any object.
struct Repeats(bool);

impl<'de> Deserialize<'de> for Repeats {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        decoder.deserialize_any(RepeatsVisitor)
    }
}

struct RepeatsVisitor;

impl<'de> Visitor<'de> for RepeatsVisitor {
    type Value = Repeats;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Repeats, E> {
        Ok(Repeats(false))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Repeats, E> {
        Ok(Repeats(false))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Repeats, E> {
        Ok(Repeats(false))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Repeats, E> {
        Ok(Repeats(false))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Repeats, E> {
        Ok(Repeats(false))
    }

    fn visit_str<E>(self, _: &str) -> Result<Repeats, E> {
        Ok(Repeats(false))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Repeats, A::Error> {
        let mut found = false;
        while let Some(Repeats(inner)) = items.next_element()? {
            found |= inner;
        }
        Ok(Repeats(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Repeats, A::Error> {
        let mut names = HashSet::new();
        let mut found = false;
        while let Some((name, Repeats(inner))) = fields.next_entry::<String, Repeats>()? {
            found |= inner | !names.insert(name);
        }
        Ok(Repeats(found))
    }
}

fn command(tree: &Value) -> bool {
    let texts = |args: &Value| {
        args.as_array()
            .is_some_and(|a| a.iter().all(Value::is_string))
    };
    let env = |env: &Value| {
        env.as_object()
            .is_some_and(|e| e.values().all(Value::is_string))
    };
    tree["command"].is_string()
        && tree.get("args").is_none_or(texts)
        && tree.get("env").is_none_or(env)
        && text(tree, "cwd")
}

fn text(tree: &Value, name: &str) -> bool {
    tree.get(name)
        .is_none_or(|value| value.is_string() || value.is_null())
}

fn number(tree: &Value, name: &str) -> bool {
    tree.get(name)
        .is_none_or(|value| integer(value).is_some() || value.is_null())
}

fn limits(tree: &Value) -> bool {
    let fits = |limits: &Value| {
        let known = |limits: &Value| Limit::NAMES.iter().all(|name| number(limits, name));
        limits.is_null() || limits.is_object() && known(limits)
    };
    tree.get("limits").is_none_or(fits)
}

/// An unsigned integer of 64 bits, however it is written.
fn integer(value: &Value) -> Option<u64> {
    let whole = |float: &f64| float.fract() == 0.0 && *float >= 0.0 && *float < 2_f64.powi(64);
    let of_float = || value.as_f64().filter(whole).map(|float| float as u64);
    value.as_u64().or_else(of_float)
}
