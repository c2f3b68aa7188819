//! `Prefer: handling=strict` (RFC 7240, 4.4): names that nobody knows, and what is said of them.
//!
//! In: names as they are found, and those that are known there. Out: a list of bounded length
//! for a problem. Knows neither JSON nor queries.

use std::fmt;

use super::problem::shortened;
use crate::types::nearest::nearest;

/// Names that are told; the rest is counted.
const TOLD_MAX: usize = 5;

/// Characters of a name that are looked at and told.
const NAME_CHARS_MAX: usize = 64;

/// Names that were found and are not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unknown {
    told: Vec<String>,
    more: usize,
}

impl Unknown {
    /// Notes `name`, found at `path`, where only `known` may stand.
    pub(super) fn note(&mut self, path: &[String], name: &str, known: &[&str]) {
        if self.told.len() == TOLD_MAX {
            self.more += 1;
            return;
        }
        let name = shortened(name, NAME_CHARS_MAX);
        let nearest = nearest(&name, known.iter().copied());
        let mut text = String::new();
        for outer in path {
            text.push_str(&shortened(outer, NAME_CHARS_MAX));
            text.push('.');
        }
        text.push_str(&name);
        match nearest {
            Some(nearest) => text.push_str(&format!(" (nearest known: {nearest})")),
            None => text.push_str(" (none is known here)"),
        }
        self.told.push(text);
    }

    /// Whether there is nothing to refuse.
    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told.join(", "))?;
        match self.more {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_known_name_is_told() {
        let known = ["timeoutMs", "maxOutputBytes", "env"];
        let mut unknown = Unknown::default();
        for name in ["timeout_ms", "maxOutputByte", "ENV"] {
            unknown.note(&[], name, &known);
        }
        unknown.note(&["a".to_owned()], "b", &[]);
        assert_eq!(
            unknown.to_string(),
            "timeout_ms (nearest known: timeoutMs), maxOutputByte (nearest known: \
             maxOutputBytes), ENV (nearest known: env), a.b (none is known here)"
        );
    }

    #[test]
    fn many_and_long_names_are_told_in_bounds() {
        let mut unknown = Unknown::default();
        for _ in 0..1000 {
            unknown.note(&[], &"\u{fc}".repeat(100_000), &["env"]);
        }
        let text = unknown.to_string();
        assert!(
            text.len() < 1000 && text.ends_with(" and 995 more"),
            "{text}"
        );
    }
}
