//! Compares the schemas of request bodies with the types that read them.
//!
//! In: a type and its schema. Out: a failure where a field has no property or the other way round,
//! where one must be there and the other need not, or where a kind of value is taken by one of them
//! only. The types are asked, not looked at: several read a field in a way of their own, which no
//! derived schema knows.

use std::collections::BTreeSet;

use serde::de::value::Error;
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value, json};

use crate::api::body::{self, CreateBody, InputBody, ResizeBody, RunBody};
use crate::api::limits;
use crate::api::signal::SignalBody;
use crate::config::Settings;

/// Notes the fields that a struct asks for, and has nothing for them.
struct Asked<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        Err(serde::de::Error::custom("there is nothing"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("no struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// A type that reads a body.
pub(super) struct Reads {
    /// The name of its schema.
    pub(super) name: &'static str,
    fields: fn() -> &'static [&'static str],
    takes: fn(&Value) -> bool,
}

fn fields<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut found: &[&str] = &[];
    assert!(T::deserialize(Asked(&mut found)).is_err());
    found
}

fn takes<T: DeserializeOwned>(value: &Value) -> bool {
    body::object::<T>(value.to_string().as_bytes(), false).is_ok()
}

const fn reads<T: DeserializeOwned>(name: &'static str) -> Reads {
    Reads {
        name,
        fields: fields::<T>,
        takes: takes::<T>,
    }
}

/// Every type that reads one.
pub(super) const BODIES: [Reads; 7] = [
    reads::<RunBody>("RunRequest"),
    reads::<CreateBody>("CreateRequest"),
    reads::<limits::Asked>("Limits"),
    reads::<InputBody>("InputRequest"),
    reads::<ResizeBody>("WindowSize"),
    reads::<SignalBody>("SignalRequest"),
    reads::<Settings>("Settings"),
];

/// A value of each kind.
fn kinds() -> [(&'static str, Value); 8] {
    [
        ("null", Value::Null),
        ("boolean", json!(true)),
        ("integer", json!(7)),
        ("negative", json!(-7)),
        ("fraction", json!(7.5)),
        ("string", json!("7")),
        ("array", json!([])),
        ("object", json!({})),
    ]
}

fn resolved<'a>(schema: &'a Value, all: &'a Map<String, Value>) -> &'a Value {
    let name = schema["$ref"].as_str().and_then(|at| at.rsplit('/').next());
    name.map_or(schema, |name| &all[name])
}

/// Whether a schema admits a value of this kind.
fn admits(schema: &Value, kind: &str, all: &Map<String, Value>) -> bool {
    let schema = resolved(schema, all);
    for key in ["anyOf", "oneOf"] {
        if let Some(some) = schema[key].as_array() {
            return some.iter().any(|one| admits(one, kind, all));
        }
    }
    let types: BTreeSet<&str> = match &schema["type"] {
        Value::String(one) => [one.as_str()].into(),
        Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
        _ => panic!("a schema without a type: {schema}"),
    };
    match kind {
        "negative" => {
            let least = schema["minimum"].as_i64();
            types.contains("number") || types.contains("integer") && least.is_none_or(|at| at < 0)
        }
        "fraction" => types.contains("number"),
        kind => types.contains(kind),
    }
}

impl Reads {
    /// Fails where the type and its schema differ.
    pub(super) fn compare(&self, schema: &Value, all: &Map<String, Value>) {
        let shape = self.name;
        let properties = schema["properties"].as_object().expect("properties");
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let fields: BTreeSet<&str> = (self.fields)().iter().copied().collect();
        let known: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(
            fields, known,
            "{shape}: fields of the type, and of schemas.yaml"
        );
        // What is there anyway: a good value for each that must be.
        let good = |name: &str| {
            let fits = |(kind, _): &(&str, Value)| admits(&properties[name], kind, all);
            kinds().into_iter().find(fits).expect("a kind that fits").1
        };
        let needed = required.iter().filter_map(Value::as_str);
        let mut base: Map<_, _> = needed.map(|name| (name.to_owned(), good(name))).collect();
        if shape == "InputRequest" {
            base.insert("data".to_owned(), json!(""));
        }
        assert!(
            (self.takes)(&Value::Object(base.clone())),
            "{shape} takes {base:?}"
        );
        for name in fields {
            let mut without = base.clone();
            without.remove(name);
            let is_needed = required.contains(&json!(name));
            assert_eq!(
                (self.takes)(&Value::Object(without)),
                !is_needed,
                "{shape} without {name}"
            );
            for (kind, value) in kinds() {
                let mut with = base.clone();
                with.insert(name.to_owned(), value);
                let (takes, admits) = (
                    (self.takes)(&Value::Object(with)),
                    admits(&properties[name], kind, all),
                );
                // A number that is out of range may be refused as a value, and not as a shape.
                let is_value = ["negative", "fraction"].contains(&kind) && takes;
                assert!(
                    takes == admits || is_value,
                    "{shape}: {name} that is {kind}: the type takes it: {takes}, schemas.yaml: {admits}"
                );
            }
        }
    }
}
