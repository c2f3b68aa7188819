//! Names and labels: what a request may call a process.
//!
//! In: the fields of a body, a filter of a query. Out: [`Tags`] within bounds, or a problem that
//! names what is allowed. Knows no table; whether a name is free is asked there.

use std::collections::BTreeMap;

use crate::process::{Table, Tags};

use super::problem::{Problem, shortened};

/// Bytes of a name.
const NAME_BYTES_MAX: usize = 64;

/// Labels of one process.
pub(super) const LABELS_MAX: usize = 16;

/// Bytes of a label's key, and of its value.
const KEY_BYTES_MAX: usize = 63;
const VALUE_BYTES_MAX: usize = 256;

/// Names that paths have for something else.
const RESERVED: [&str; 2] = ["run", "config"];

/// Names that a client takes out of a path before it asks (RFC 3986, 5.2.4).
const DOTS: [&str; 2] = [".", ".."];

/// Bytes of a bad name or key that a problem quotes.
const QUOTED_CHARS_MAX: usize = 80;

const ALLOWED: &str = "1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-', not beginning with \
                       proc_, and none of run, config, '.' and '..'";

/// Whether a process may be called so.
pub(super) fn is_name(text: &str) -> bool {
    let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    fits && text.bytes().all(plain)
        && !text.starts_with("proc_")
        && !RESERVED.contains(&text)
        && !DOTS.contains(&text)
}

/// What is said of a text that is no name.
pub(super) fn no_name(what: &str, text: &str) -> String {
    let quoted = shortened(text, QUOTED_CHARS_MAX);
    format!("{what} must be {ALLOWED}; got {quoted:?}")
}

/// Checks the `name` and the `labels` of a body.
///
/// # Errors
/// 400 naming the field and what is allowed.
pub(super) fn checked(
    name: Option<String>,
    labels: Option<BTreeMap<String, String>>,
) -> Result<Tags, Problem> {
    if let Some(name) = name.as_deref().filter(|name| !is_name(name)) {
        return Err(Problem::invalid(no_name("name", name)));
    }
    let count = labels.as_ref().map_or(0, BTreeMap::len);
    if count > LABELS_MAX {
        return Err(Problem::invalid(format!(
            "labels must be at most {LABELS_MAX}; got {count}"
        )));
    }
    for (key, value) in labels.iter().flatten() {
        let quoted = shortened(key, QUOTED_CHARS_MAX);
        if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
            return Err(Problem::invalid(format!(
                "keys of labels must have 1 to {KEY_BYTES_MAX} bytes; {quoted:?} has {}",
                key.len()
            )));
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(Problem::invalid(format!(
                "values of labels must have at most {VALUE_BYTES_MAX} bytes; that of {quoted:?} \
                 has {}",
                value.len()
            )));
        }
    }
    let boxed = |(key, value): (String, String)| (key.into(), value.into());
    Ok(Tags {
        name: name.map(Into::into),
        labels: labels.map(|labels| labels.into_iter().map(boxed).collect()),
    })
}

/// Refuses a name that another record has, or one that is being started.
///
/// # Errors
/// 409 naming the holder.
pub(super) fn refuse_taken(tags: &Tags, table: &Table) -> Result<(), Problem> {
    let Some(name) = &tags.name else {
        return Ok(());
    };
    match table.holder(name) {
        Some(holder) => Err(Problem::name_taken(name, holder)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(name: Option<&str>, labels: &[(&str, &str)]) -> Option<String> {
        let labels = labels.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        let result = checked(name.map(Into::into), Some(labels.collect()));
        result.err().map(|problem| problem.detail())
    }

    #[test]
    fn a_name_is_what_a_path_can_hold_and_no_id() {
        let long = "x".repeat(64);
        for name in [
            "a", "Web-1", "0", "-", "_", "...", ".a", "proc", "proc-1", "Run", "x.y_z", &long,
        ] {
            assert!(is_name(name), "{name}");
        }
        let longer = "x".repeat(65);
        for name in [
            "", "proc_", "proc_1", "proc_x", "run", "config", ".", "..", "a b", "a/b", "\u{e9}",
            "a%", "a:b", "a\n", &longer,
        ] {
            assert!(!is_name(name), "{name}");
            let detail = detail(Some(name), &[]).unwrap();
            assert!(
                detail.contains("name must be 1 to 64 characters"),
                "{detail}"
            );
            assert!(detail.len() < 400, "{detail}");
        }
    }

    #[test]
    fn labels_are_bounded_in_number_and_length() {
        let (key, value) = ("k".repeat(63), "\u{e9}".repeat(128));
        assert_eq!(
            detail(None, &[(&key, &value), ("=", ""), (" ", "\u{0}")]),
            None
        );
        let many: Vec<String> = (0..17).map(|n| n.to_string()).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|key| (&**key, "")).collect();
        assert_eq!(detail(None, &many[..16]), None);
        for (labels, part) in [
            (&many[..], "at most 16; got 17"),
            (&[("", "v")], "1 to 63 bytes; \"\" has 0"),
            (&[("\u{e9}".repeat(32).as_str(), "")], "has 64"),
            (&[("k", "v".repeat(257).as_str())], "that of \"k\" has 257"),
        ] {
            let detail = detail(None, labels).unwrap();
            assert!(detail.contains(part), "{detail}");
        }
    }

    #[test]
    fn what_was_not_given_is_not_kept_and_an_empty_object_is() {
        assert!(checked(None, None).unwrap().is_empty());
        assert!(!checked(None, Some(BTreeMap::new())).unwrap().is_empty());
    }
}
