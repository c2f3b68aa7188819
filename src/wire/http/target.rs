//! Request targets: path segments and query parameters (RFC 3986; WHATWG URL, 5.1).
//!
//! In: the target of a head. Out: decoded text, borrowed where nothing was encoded.
//! Knows no route.

use std::borrow::Cow;

/// Splits a target at its first `?`. An empty path (absolute form without one) is `/`.
#[must_use]
pub fn split_target(target: &str) -> (&str, Option<&str>) {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    (if path.is_empty() { "/" } else { path }, query)
}

/// A percent-encoded path segment is not UTF-8 once decoded. Answer 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotUtf8;

impl std::fmt::Display for NotUtf8 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("path segment is not UTF-8")
    }
}

impl std::error::Error for NotUtf8 {}

/// Decodes `%XX` in one path segment. What is not two hexadecimal digits stays as it
/// is (`%zz`, `%4`); `+` is a plus.
///
/// # Errors
/// [`NotUtf8`] where the decoded bytes are not UTF-8.
pub fn decode_segment(segment: &str) -> Result<Cow<'_, str>, NotUtf8> {
    match decode(segment, false) {
        None => Ok(Cow::Borrowed(segment)),
        Some(bytes) => String::from_utf8(bytes)
            .map(Cow::Owned)
            .map_err(|_| NotUtf8),
    }
}

/// A query parameter that may be given once was given twice. Answer 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DuplicateParam;

impl std::fmt::Display for DuplicateParam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("duplicate query parameter")
    }
}

impl std::error::Error for DuplicateParam {}

/// The parameters of a query, in the form encoding (WHATWG URL, 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'q> {
    raw: &'q str,
}

impl<'q> Query<'q> {
    /// The parameters of `raw`, the text behind `?`. Nothing is decoded yet.
    #[must_use]
    pub fn parse(raw: &'q str) -> Self {
        Self { raw }
    }

    /// All pairs in order, decoded: `+` is a space, bytes that are not UTF-8 become
    /// U+FFFD, a name without `=` has an empty value, empty pairs are left out.
    pub fn pairs(&self) -> impl Iterator<Item = (Cow<'q, str>, Cow<'q, str>)> + use<'q> {
        self.raw_pairs()
            .map(|(name, value)| (decode_form(name), decode_form(value)))
    }

    /// The value of the parameter `name` (case-sensitive), if it is given.
    ///
    /// # Errors
    /// [`DuplicateParam`] where it is given more than once.
    pub fn unique(&self, name: &str) -> Result<Option<Cow<'q, str>>, DuplicateParam> {
        let mut values = self
            .raw_pairs()
            .filter(|(found, _)| decode_form(found) == name)
            .map(|(_, value)| decode_form(value));
        let value = values.next();
        match values.next() {
            None => Ok(value),
            Some(_) => Err(DuplicateParam),
        }
    }

    fn raw_pairs(&self) -> impl Iterator<Item = (&'q str, &'q str)> + use<'q> {
        self.raw
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }
}

fn decode_form(text: &str) -> Cow<'_, str> {
    match decode(text, true) {
        None => Cow::Borrowed(text),
        Some(bytes) => Cow::Owned(match String::from_utf8_lossy(&bytes) {
            Cow::Owned(text) => text,
            // Borrowed means valid: take the bytes over without a copy.
            Cow::Borrowed(_) => String::from_utf8(bytes).unwrap_or_default(),
        }),
    }
}

/// The decoded bytes, or `None` where nothing is encoded.
fn decode(text: &str, plus_is_space: bool) -> Option<Vec<u8>> {
    let clean = text
        .bytes()
        .position(|byte| byte == b'%' || (byte == b'+' && plus_is_space))?;
    let (start, mut rest) = text.as_bytes().split_at(clean);
    let mut bytes = Vec::with_capacity(text.len());
    bytes.extend_from_slice(start);
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        bytes.push(match (byte, behind) {
            (b'+', _) if plus_is_space => b' ',
            (b'%', [high, low, behind @ ..]) => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = behind;
                    (high << 4) | low
                }
                _ => b'%',
            },
            _ => byte,
        });
    }
    Some(bytes)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::Rng;

    #[test]
    fn a_target_is_split_at_its_first_question_mark() {
        assert_eq!(split_target("/a/b"), ("/a/b", None));
        assert_eq!(split_target("/a?"), ("/a", Some("")));
        assert_eq!(split_target("/a?b?c=/d"), ("/a", Some("b?c=/d")));
        assert_eq!(split_target("?q"), ("/", Some("q")));
        assert_eq!(split_target(""), ("/", None));
        assert_eq!(split_target("*"), ("*", None));
    }

    #[test]
    fn segments_are_percent_decoded_once() {
        for (segment, decoded) in [
            ("proc_1", "proc_1"),
            ("proc%5F1", "proc_1"),
            ("proc%5f1", "proc_1"),
            ("a%2Fb", "a/b"),
            ("%252F", "%2F"),
            ("a+b", "a+b"),
            ("%c3%a9", "\u{e9}"),
            ("%00", "\0"),
            ("%zz", "%zz"),
            ("%4", "%4"),
            ("%", "%"),
            ("%%41", "%A"),
            ("%4%31", "%41"),
            ("%+1", "%+1"),
            ("", ""),
        ] {
            assert_eq!(decode_segment(segment).as_deref(), Ok(decoded), "{segment}");
        }
        for segment in ["%ff", "a%c3", "%c3%28", "%ed%a0%80", "%f4%90%80%80"] {
            assert_eq!(decode_segment(segment), Err(NotUtf8), "{segment}");
        }
    }

    #[test]
    fn text_without_escapes_is_borrowed() {
        assert!(matches!(decode_segment("proc_1"), Ok(Cow::Borrowed(_))));
        let query = Query::parse("since=5&stream=stdout");
        for (name, value) in query.pairs() {
            assert!(matches!(
                (name, value),
                (Cow::Borrowed(_), Cow::Borrowed(_))
            ));
        }
    }

    fn pairs(raw: &str) -> Vec<(String, String)> {
        Query::parse(raw)
            .pairs()
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect()
    }

    #[test]
    fn queries_are_read_as_forms() {
        for (raw, expected) in [
            ("", &[][..]),
            ("&&", &[]),
            ("a", &[("a", "")]),
            ("a=", &[("a", "")]),
            ("=b", &[("", "b")]),
            ("a=b=c&d", &[("a", "b=c"), ("d", "")]),
            ("a+b=c+%2B", &[("a b", "c +")]),
            ("%61=%c3%A9", &[("a", "\u{e9}")]),
            ("a=%26&b=%3D", &[("a", "&"), ("b", "=")]),
            ("a=%ff%41", &[("a", "\u{fffd}A")]),
            ("a=%zz%", &[("a", "%zz%")]),
            ("a;b=c", &[("a;b", "c")]),
        ] {
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            assert_eq!(pairs(raw), expected, "{raw}");
        }
    }

    #[test]
    fn a_parameter_given_twice_is_no_unique_one() {
        let query = Query::parse("a=1&b=2&A=3&a%62=4&c=&d=x&%64=x");
        let unique = |name| query.unique(name).map(|value| value.map(Cow::into_owned));
        assert_eq!(unique("a"), Ok(Some("1".to_owned())));
        assert_eq!(unique("ab"), Ok(Some("4".to_owned())));
        assert_eq!(unique("c"), Ok(Some(String::new())));
        assert_eq!(unique("x"), Ok(None));
        assert_eq!(unique("d"), Err(DuplicateParam));
    }

    #[test]
    fn whatever_is_encoded_is_decoded_back() {
        let mut rng = Rng(3);
        for _ in 0..2000 {
            let text: String = (0..rng.below(12))
                .map(|_| {
                    rng.pick(&[
                        'a',
                        '%',
                        '+',
                        '&',
                        '=',
                        ' ',
                        '/',
                        '\0',
                        '\u{e9}',
                        '\u{1f600}',
                    ])
                })
                .collect();
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            assert_eq!(decode_segment(&encoded).as_deref(), Ok(&text[..]));
            assert_eq!(pairs(&format!("k={encoded}")), [("k".to_owned(), text)]);
        }
    }
}
