//! `GET /openapi.json`: what this API is, for programs (OpenAPI 3.1).
//!
//! In: what the client takes. Out: the document. It is made of the table of routes and of what is
//! written beside it (`document.rs`) when the tests run, lies in docs/openapi.json, and is in the
//! program compressed (`build.rs`).
//!
//! After a change of the table, of a body or of the text:
//! `PROCRING_BLESS=1 cargo test -p procring --lib openapi` writes docs/openapi.json anew.

#[cfg(test)]
mod bodies;
#[cfg(test)]
mod document;

use std::borrow::Cow;

use super::reply::Reply;
use super::stream::{QUALITY_MAX, quality};

/// As gzip has it (RFC 1952).
static COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json.gz"));

/// Before and behind what is compressed: nothing optional is there.
const HEAD_BYTES: usize = 10;
const TAIL_BYTES: usize = 8;

/// Bytes of the document, far above what there are.
const BYTES_MAX: usize = 4 << 20;

/// Whether gzip may be sent, by `Accept-Encoding` (RFC 9110, 12.5.3). A client that does not say so
/// gets it as it is.
pub(super) fn takes_gzip<'a>(accept: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut ranges = accept.flat_map(|value| value.split(|byte| *byte == b','));
    ranges.any(|range| {
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let accepted = parts.find_map(quality).unwrap_or(QUALITY_MAX) > 0;
        name.eq_ignore_ascii_case(b"gzip") && accepted
    })
}

/// The answer.
pub(super) fn reply(gzip: bool) -> Reply {
    let reply = Reply::new(200).header("vary", "accept-encoding");
    match gzip {
        true => reply
            .typed("application/json", COMPRESSED)
            .header("content-encoding", "gzip"),
        false => reply.typed("application/json", plain()),
    }
}

fn plain() -> Cow<'static, [u8]> {
    let deflated = COMPRESSED.get(HEAD_BYTES..COMPRESSED.len().saturating_sub(TAIL_BYTES));
    let deflated = deflated.unwrap_or_default();
    let plain = miniz_oxide::inflate::decompress_to_vec_with_limit(deflated, BYTES_MAX);
    debug_assert!(plain.is_ok(), "what build.rs has compressed");
    Cow::Owned(plain.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn the_document_is_what_the_table_and_the_text_say() {
        let document = document::document();
        let text = serde_json::to_string_pretty(&document).unwrap() + "\n";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
        if std::env::var_os("PROCRING_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == text,
            "docs/openapi.json is stale: PROCRING_BLESS=1 cargo test -p procring --lib openapi"
        );
    }

    #[test]
    fn the_program_has_the_committed_document() {
        let committed: Value =
            serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap();
        let reply = reply(false);
        let served: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(served, committed);
        assert!(COMPRESSED.len() < 64 << 10, "{}", COMPRESSED.len());
    }

    #[test]
    fn bodies_are_read_as_their_schemas_say() {
        let schemas = document::schemas();
        for reads in bodies::BODIES {
            let schema = &schemas[reads.name];
            reads.compare(schema, &schemas);
        }
        let read = |name| bodies::BODIES.iter().any(|reads| reads.name == name);
        for route in crate::api::routes::ROUTES {
            if let crate::api::routes::Body::Json(shape) = route.body {
                assert!(
                    read(document::name_of(shape)),
                    "{route:?}: no type is compared with {shape:?}"
                );
            }
        }
    }

    /// Everything that a document refers to.
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(all) => {
                for (key, value) in all {
                    match (key.as_str(), value) {
                        ("$ref", Value::String(at)) => {
                            found.insert(at.clone());
                        }
                        _ => references(value, found),
                    }
                }
            }
            Value::Array(all) => all.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn what_is_referred_to_is_there_and_what_is_there_is_referred_to() {
        let document = document::document();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for at in &found {
            assert!(document.pointer(&at[1..]).is_some(), "{at} is not there");
        }
        for part in ["schemas", "parameters"] {
            for name in document["components"][part].as_object().unwrap().keys() {
                let at = format!("#/components/{part}/{name}");
                assert!(found.contains(&at), "nothing refers to {at}");
            }
        }
    }

    #[test]
    fn gzip_is_for_who_takes_it() {
        let takes = |accept: &str| takes_gzip([accept.as_bytes()].into_iter());
        for yes in ["gzip", "br, GZIP;q=0.5", "gzip ; q=1.0, *;q=0"] {
            assert!(takes(yes), "{yes}");
        }
        for no in ["", "br", "gzip;q=0", "x-gzip", "*"] {
            assert!(!takes(no), "{no}");
        }
    }
}
