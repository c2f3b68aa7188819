//! Ranges of bytes (RFC 9110, 14), and what `If-Range` and `If-None-Match` compare.
//!
//! In: the values of `Range`, `If-Range` and `If-None-Match`. Out: the one range that is asked for,
//! or that there is none to be told apart. Knows no length: whether a range can be satisfied is for
//! whoever knows what there is.

/// What a `Range` field asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// Bytes from `first` on, up to `last` if that is said; `last` is not less than `first`.
    From {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte, included.
        last: Option<u64>,
    },
    /// So many bytes at the end; with 0 no byte.
    Suffix(u64),
}

/// Reads the `Range` fields of a request. None if the whole is to be sent: there is no such field,
/// its unit is another one or unknown, it asks for several ranges, or it is malformed (14.2 lets a
/// server ignore that, and requires it of an unknown unit). Numbers beyond 64 bits are as good as
/// the largest: no byte is there.
pub(crate) fn range<'v>(fields: impl IntoIterator<Item = &'v [u8]>) -> Option<Range> {
    let mut fields = fields.into_iter();
    let value = fields.next()?;
    if fields.next().is_some() {
        return None;
    }
    let at = value.iter().position(|&byte| byte == b'=')?;
    let (unit, set) = (&value[..at], &value[at + 1..]);
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    // A list may have empty elements (RFC 9110, 5.6.1.2).
    let mut ranges = set
        .split(|&byte| byte == b',')
        .map(trim)
        .filter(|range| !range.is_empty());
    let only = ranges.next()?;
    if ranges.next().is_some() {
        return None;
    }
    one(only)
}

fn one(range: &[u8]) -> Option<Range> {
    let at = range.iter().position(|&byte| byte == b'-')?;
    let (first, last) = (&range[..at], &range[at + 1..]);
    if first.is_empty() {
        return Some(Range::Suffix(number(last)?));
    }
    let first = number(first)?;
    if last.is_empty() {
        return Some(Range::From { first, last: None });
    }
    let last = number(last)?;
    (first <= last).then_some(Range::From {
        first,
        last: Some(last),
    })
}

/// Digits, at least one; what does not fit is the largest number.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}

/// Whether a `Range` counts: there is no `If-Range`, or it names the entity tag of what there is
/// now, which must be a strong one (13.1.5). A date never does, since no answer has one.
pub(crate) fn if_range(value: Option<&[u8]>, etag: Option<&str>) -> bool {
    let Some(value) = value else {
        return true;
    };
    etag.is_some_and(|etag| etag.starts_with('"') && etag.as_bytes() == trim(value))
}

/// Whether `If-None-Match` names the entity tag of what there is now (13.1.2), so that the client
/// has it already.
pub(crate) fn if_none_match<'v>(values: impl IntoIterator<Item = &'v [u8]>, etag: &str) -> bool {
    values.into_iter().any(|value| {
        let mut tags = value.split(|&byte| byte == b',').map(trim);
        tags.any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
    })
}

/// Without the white space around it (OWS: SP and HTAB).
fn trim(value: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_blank(byte));
    let end = value.iter().rposition(|byte| !is_blank(byte));
    match (start, end) {
        (Some(start), Some(end)) => &value[start..=end],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::Rng;

    fn read(value: &str) -> Option<Range> {
        range([value.as_bytes()])
    }

    fn from(first: u64, last: impl Into<Option<u64>>) -> Option<Range> {
        let last = last.into();
        Some(Range::From { first, last })
    }

    #[test]
    fn one_range_is_read_as_the_rfc_writes_it() {
        assert_eq!(read("bytes=0-499"), from(0, 499));
        assert_eq!(read("bytes=500-"), from(500, None));
        assert_eq!(read("bytes=-500"), Some(Range::Suffix(500)));
        assert_eq!(read("bytes=-0"), Some(Range::Suffix(0)));
        assert_eq!(read("Bytes=7-7"), from(7, 7));
        assert_eq!(read("bytes= , 1-2 ,\t"), from(1, 2));
        assert_eq!(
            read("bytes=0018-00000000000000000000000000019"),
            from(18, 19)
        );
    }

    #[test]
    fn numbers_beyond_64_bits_are_the_largest() {
        assert_eq!(read("bytes=99999999999999999999-"), from(u64::MAX, None));
        assert_eq!(read("bytes=1-18446744073709551616"), from(1, u64::MAX));
        let long = "9".repeat(10_000);
        assert_eq!(
            read(&format!("bytes=-{long}")),
            Some(Range::Suffix(u64::MAX))
        );
    }

    #[test]
    fn what_is_not_one_range_of_bytes_asks_for_the_whole() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=5",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=1-2-3",
            "bytes=1 - 2",
            "bytes=1-2 3",
            "bytes=0x1-2",
            "bytes = 1-2",
            " bytes=1-2x",
            "bytes=--1",
            "bytes=\u{661}-2",
            "lines=1-2",
            "none=1-2",
            // Several of them.
            "bytes=0-1,3-4",
            "bytes=0-0,-1",
        ] {
            assert_eq!(read(value), None, "{value:?}");
        }
        assert_eq!(range([]), None);
        assert_eq!(range([&b"bytes=0-1"[..], b"bytes=0-1"]), None);
    }

    #[test]
    fn no_bytes_at_all_are_too_odd() {
        let mut rng = Rng(9);
        let pieces: [&[u8]; 16] = [
            b"bytes",
            b"=",
            b"-",
            b",",
            b" ",
            b"\t",
            b"0",
            b"9",
            b"42",
            b"\xff",
            b"W/",
            b"\"",
            b"18446744073709551615",
            b"bytes=",
            b"*",
            b"\0",
        ];
        for _ in 0..200_000 {
            let parts = rng.below(9);
            let value: Vec<u8> = (0..parts)
                .flat_map(|_| rng.pick(&pieces).to_vec())
                .collect();
            if let Some(Range::From { first, last }) = range([&value[..]]) {
                assert!(last.is_none_or(|last| last >= first));
            }
            // What is read is read again from its canonical form.
            let canonical = match range([&value[..]]) {
                None => continue,
                Some(Range::Suffix(bytes)) => format!("bytes=-{bytes}"),
                Some(Range::From { first, last }) => {
                    let last = last.map_or(String::new(), |last| last.to_string());
                    format!("bytes={first}-{last}")
                }
            };
            assert_eq!(read(&canonical), range([&value[..]]), "{value:?}");
            if_range(Some(&value), Some("\"a\""));
            if_none_match([&value[..]], "\"a\"");
        }
    }

    #[test]
    fn if_range_wants_the_very_tag() {
        let etag = Some("\"a-1\"");
        assert!(if_range(None, etag) && if_range(None, None));
        assert!(if_range(Some(b"\"a-1\""), etag) && if_range(Some(b" \"a-1\" "), etag));
        for other in [
            &b"\"a-2\""[..],
            b"W/\"a-1\"",
            b"a-1",
            b"*",
            b"",
            b"Sun, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert!(!if_range(Some(other), etag), "{other:?}");
        }
        assert!(!if_range(Some(b"\"a-1\""), None));
        assert!(!if_range(Some(b"W/\"a\""), Some("W/\"a\"")));
    }

    #[test]
    fn if_none_match_is_a_list_of_tags() {
        let matches = |values: &[&[u8]]| if_none_match(values.iter().copied(), "\"a\"");
        assert!(matches(&[b"\"a\""]) && matches(&[b"*"]) && matches(&[b"\"b\", W/\"a\""]));
        assert!(matches(&[b"\"b\"", b"\"a\""]));
        assert!(!matches(&[]) && !matches(&[b"\"b\""]) && !matches(&[b"a"]));
    }
}
