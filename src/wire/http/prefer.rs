//! The `Prefer` request header (RFC 7240, 2).
//!
//! In: the values of all its fields. Out: what one preference says. Knows no meaning of any.

/// The word of the preference `name` (any case), without its quotes; empty where it has none.
/// The first one counts where it is given twice, and what cannot be read is ignored.
#[must_use]
pub(crate) fn preference<'v>(
    values: impl IntoIterator<Item = &'v [u8]>,
    name: &str,
) -> Option<Vec<u8>> {
    values
        .into_iter()
        .flat_map(|value| parts(value, b','))
        .find_map(|preference| {
            // Parameters behind a semicolon say nothing about the preference itself.
            let said = parts(preference, b';').next().unwrap_or_default();
            let end = said.iter().position(|&byte| byte == b'=');
            let (found, word) = match end {
                Some(end) => (&said[..end], &said[end + 1..]),
                None => (said, &[][..]),
            };
            let found = found.trim_ascii();
            found
                .eq_ignore_ascii_case(name.as_bytes())
                .then(|| unquoted(word.trim_ascii()))
        })
}

/// Splits at `separator` where it stands outside a quoted string.
fn parts(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |&byte| {
        let was_escaped = escaped;
        escaped = quoted && byte == b'\\' && !was_escaped;
        if byte == b'"' && !was_escaped {
            quoted = !quoted;
        }
        byte == separator && !quoted
    })
}

/// A token as it is, a quoted string without its quotes and escapes (RFC 9110, 5.6.4).
fn unquoted(word: &[u8]) -> Vec<u8> {
    let inner = word
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    let Some(inner) = inner else {
        return word.to_vec();
    };
    let mut escaped = false;
    let keeps = |&&byte: &&u8| {
        escaped = byte == b'\\' && !escaped;
        !escaped
    };
    inner.iter().filter(keeps).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handling(values: &[&str]) -> Option<String> {
        let values = values.iter().map(|value| value.as_bytes());
        preference(values, "handling").map(|word| String::from_utf8(word).unwrap())
    }

    #[test]
    fn a_preference_is_found_among_others() {
        for values in [
            &["handling=strict"][..],
            &["Handling = strict"],
            &["respond-async, handling=strict; wait=5"],
            &["foo=\"a, handling=lenient; \\\"\", handling=\"strict\""],
            &["", ",,", "handling=\"st\\rict\"", "handling=lenient"],
            &["wait=1;handling=lenient,handling=strict"],
        ] {
            assert_eq!(handling(values).as_deref(), Some("strict"), "{values:?}");
        }
        assert_eq!(handling(&["handling"]).as_deref(), Some(""));
        assert_eq!(
            handling(&["handling=lenient, handling=strict"]).as_deref(),
            Some("lenient")
        );
        for values in [
            &[][..],
            &["x-handling=strict"],
            &["\"handling=strict\""],
            &["a=\"handling=strict, handling=strict"],
        ] {
            assert_eq!(handling(values), None, "{values:?}");
        }
    }
}
