//! JSON bodies: what is accepted is what a tree of the same text says, and every refusal is a
//! whole problem of bounded size.

use std::collections::HashSet;
use std::fmt;

use procring::api::Problem;
use procring::api::body::{CreateBody, InputBody, ResizeBody, RunBody, object};
use procring::config::Settings;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Checks one input as every kind of body.
pub fn json_body(data: &[u8]) {
    let tree = serde_json::from_slice::<Value>(data).ok();
    check("run", data, &tree, object::<RunBody>(data), |v| {
        command(v) && number(v, "timeoutMs") && number(v, "maxOutputBytes")
    });
    check("create", data, &tree, object::<CreateBody>(data), |v| {
        command(v)
            && ["tty", "interactive"]
                .iter()
                .all(|name| v.get(name).is_none_or(Value::is_boolean))
            && number(v, "cols")
            && number(v, "rows")
    });
    check("input", data, &tree, object::<InputBody>(data), |v| {
        v["data"].is_string() && text(v, "encoding")
    });
    check("resize", data, &tree, object::<ResizeBody>(data), |v| {
        ["cols", "rows"]
            .iter()
            .all(|name| v[name].as_u64().is_some_and(|n| n <= 0xffff))
    });
    check("config", data, &tree, object::<Settings>(data), |v| {
        [
            "maxConcurrentProcesses",
            "defaultRunTimeoutMs",
            "maxRunTimeoutMs",
            "maxOutputBytes",
            "maxLogBytesPerProcess",
            "maxInputBytesPerRequest",
        ]
        .iter()
        .all(|name| v[name].is_u64())
    });
    if let (Ok(run), Some(tree)) = (object::<RunBody>(data), &tree) {
        assert_eq!(tree["command"], *run.command);
        assert_eq!(
            tree.get("timeoutMs").and_then(Value::as_u64),
            run.timeout_ms
        );
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

/// `fits` says whether a tree has the right shape.
fn check<T>(
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
        .is_none_or(|value| value.is_u64() || value.is_null())
}
