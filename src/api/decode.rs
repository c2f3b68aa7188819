//! How JSON is read: serde's way, with two differences.
//!
//! In: a deserializer. Out: another one. Where a type takes an integer, a number without a
//! fraction is one, however it is written (`94388.0`, `1e3`), as JSON Schema has it. And names
//! that a struct does not know are noted, where that is asked for. Knows no body.

use std::cell::RefCell;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

use super::strict::Unknown;

/// Unknown names, and where in the document the decoder is.
#[derive(Debug, Default)]
pub(super) struct Notes {
    path: Vec<String>,
    /// What was found.
    pub(super) unknown: Unknown,
}

/// Reads as `inner` does, with the differences that the module names.
#[derive(Clone, Copy)]
pub(super) struct Json<'n, T> {
    pub(super) inner: T,
    /// None where unknown names are nobody's concern.
    pub(super) notes: Option<&'n RefCell<Notes>>,
}

/// A visitor that passes on what it is shown, and hands out deserializers of our kind.
struct Shown<'n, V> {
    visitor: V,
    notes: Option<&'n RefCell<Notes>>,
    /// The visitor wants an integer.
    integer: bool,
    /// The visitor is a struct with these fields.
    fields: Option<&'static [&'static str]>,
}

impl<'n, T> Json<'n, T> {
    fn shown<V>(&self, visitor: V) -> Shown<'n, V> {
        Shown {
            visitor,
            notes: self.notes,
            integer: false,
            fields: None,
        }
    }
}

macro_rules! pass_on {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            let shown = self.shown(visitor);
            self.inner.$method(shown)
        }
    )*};
}

macro_rules! pass_on_integer {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            let shown = Shown { integer: true, ..self.shown(visitor) };
            self.inner.$method(shown)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Json<'_, D> {
    type Error = D::Error;

    pass_on! {
        deserialize_any deserialize_bool deserialize_f32 deserialize_f64 deserialize_char
        deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf
        deserialize_option deserialize_unit deserialize_seq deserialize_map
        deserialize_identifier
    }

    pass_on_integer! {
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let shown = Shown {
            fields: Some(fields),
            ..self.shown(visitor)
        };
        self.inner.deserialize_struct(name, fields, shown)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let shown = self.shown(visitor);
        self.inner.deserialize_newtype_struct(name, shown)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let shown = self.shown(visitor);
        self.inner.deserialize_unit_struct(name, shown)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let shown = self.shown(visitor);
        self.inner.deserialize_tuple(len, shown)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let shown = self.shown(visitor);
        self.inner.deserialize_tuple_struct(name, len, shown)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_enum(name, variants, visitor)
    }

    /// What is ignored is skipped as it is.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_ignored_any(visitor)
    }
}

/// 2^64 and 2^63, the first numbers that no longer fit.
const U64_END: f64 = 18_446_744_073_709_551_616.0;
const I64_END: f64 = 9_223_372_036_854_775_808.0;

impl<'de, V: Visitor<'de>> Visitor<'de> for Shown<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both are exact: the value is whole and in the range asked for just before"
    )]
    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        if self.integer && value.fract() == 0.0 {
            if (0.0..U64_END).contains(&value) {
                return self.visitor.visit_u64(value as u64);
            }
            if (-I64_END..0.0).contains(&value) {
                return self.visitor.visit_i64(value as i64);
            }
        }
        self.visitor.visit_f64(value)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<V::Value, E> {
        self.visitor.visit_bool(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<V::Value, E> {
        self.visitor.visit_i64(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<V::Value, E> {
        self.visitor.visit_u64(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<V::Value, E> {
        self.visitor.visit_str(value)
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<V::Value, E> {
        self.visitor.visit_borrowed_str(value)
    }

    fn visit_string<E: Error>(self, value: String) -> Result<V::Value, E> {
        self.visitor.visit_string(value)
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let notes = self.notes;
        self.visitor.visit_some(Json { inner, notes })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let notes = self.notes;
        self.visitor.visit_newtype_struct(Json { inner, notes })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let notes = self.notes;
        self.visitor.visit_seq(Json { inner, notes })
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Fields {
            inner,
            notes: self.notes,
            known: self.fields,
        })
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Json<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let notes = self.notes;
        self.inner.next_element_seed(Json { inner: seed, notes })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Json<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        let notes = self.notes;
        self.inner.deserialize(Json { inner, notes })
    }
}

/// The fields of an object.
struct Fields<'n, A> {
    inner: A,
    notes: Option<&'n RefCell<Notes>>,
    /// Those that a struct has; None for a map, which may have any.
    known: Option<&'static [&'static str]>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let Some(notes) = self.notes else {
            return self.inner.next_key_seed(seed);
        };
        let Some(name) = self.inner.next_key::<String>()? else {
            return Ok(None);
        };
        let mut notes = notes.borrow_mut();
        if let Some(known) = self.known
            && !known.contains(&name.as_str())
        {
            let Notes { path, unknown } = &mut *notes;
            unknown.note(path, &name, known);
        }
        notes.path.push(name.clone());
        seed.deserialize(name.into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let notes = self.notes;
        let value = self.inner.next_value_seed(Json { inner: seed, notes });
        if let Some(notes) = notes {
            notes.borrow_mut().path.pop();
        }
        value
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Outer {
        count: Option<u64>,
        small: Option<u16>,
        below: Option<i8>,
        share: Option<f64>,
        #[serde(default)]
        list: Vec<Inner>,
        #[serde(default)]
        free: BTreeMap<String, u64>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Inner {
        size: u32,
    }

    fn read(text: &str) -> Result<(Outer, Unknown), String> {
        let notes = RefCell::default();
        let mut inner = serde_json::Deserializer::from_str(text);
        let value = Outer::deserialize(Json {
            inner: &mut inner,
            notes: Some(&notes),
        });
        let value = value.map_err(|error| error.to_string())?;
        let plain = serde_json::from_str::<Outer>(text);
        assert!(plain.is_err() || plain.is_ok_and(|plain| plain == value));
        Ok((value, notes.into_inner().unknown))
    }

    #[test]
    fn a_number_without_a_fraction_is_an_integer_wherever_it_stands() {
        for (text, count) in [
            ("0.0", 0),
            ("-0", 0),
            ("-0.0", 0),
            ("94388.0", 94_388),
            ("1e3", 1000),
            ("1.5e1", 15),
            ("1e19", 10_000_000_000_000_000_000),
        ] {
            let (outer, _) = read(&format!(r#"{{"count":{text}}}"#)).unwrap();
            assert_eq!(outer.count, Some(count), "{text}");
        }
        let (outer, _) = read(
            r#"{"small":6.5535e4,"below":-128.0,"share":2,"list":[{"size":7.0}],"free":{"a":1e0}}"#,
        )
        .unwrap();
        assert_eq!((outer.small, outer.below), (Some(65_535), Some(-128)));
        assert_eq!((outer.share, outer.list[0].size), (Some(2.0), 7));
        assert_eq!(outer.free["a"], 1);
    }

    #[test]
    fn a_fraction_and_what_is_out_of_range_stay_refused() {
        for text in [
            r#"{"count":0.5}"#,
            r#"{"count":1e-1}"#,
            r#"{"count":-1.0}"#,
            r#"{"count":18446744073709551616}"#,
            r#"{"count":1e300}"#,
            r#"{"small":65536.0}"#,
            r#"{"below":-129.0}"#,
            r#"{"list":[{"size":0.1}]}"#,
            r#"{"free":{"a":1.5}}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn unknown_names_are_noted_where_a_struct_is_read_and_not_in_a_map() {
        let text = r#"{"count":1,"cuont":{"x":[{}]},"list":[{"size":1},{"size":2,"sizes":3}],"free":{"any":1}}"#;
        let (_, unknown) = read(text).unwrap();
        assert_eq!(
            unknown.to_string(),
            "cuont (nearest known: count), list.sizes (nearest known: size)"
        );
        assert!(read(r#"{"count":1}"#).unwrap().1.is_empty());
    }
}
