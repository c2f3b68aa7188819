//! `x-request-id`: what a client calls its request, to find it in logs.
//!
//! In: a head. Out: the id that the answer and the log carry; none if the request brought none.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::wire::http::head::Head;

const NAME: &str = "x-request-id";

/// Characters of an id.
const CHARS_MAX: usize = 128;

/// What the request brought; a new one in the place of what cannot be one.
pub(super) fn of(head: &Head<'_>) -> Option<Box<str>> {
    let mut all = head.headers(NAME);
    let first = all.next()?;
    let text = std::str::from_utf8(first).ok();
    let fits = |text: &&str| {
        (1..=CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match text.filter(fits).filter(|_| all.next().is_none()) {
        Some(id) => Some(id.into()),
        None => Some(new().into()),
    }
}

/// The field of an answer.
pub(super) fn field(id: &str) -> (&str, &str) {
    (NAME, id)
}

/// One that nobody has had: a hash under keys that are new each time.
fn new() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Parsed;
    use crate::wire::http::head::{HeadLimits, HeadScan, parse_head};

    fn read(fields: &str) -> Option<Box<str>> {
        let text = format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
        let mut scan = HeadScan::default();
        match parse_head(text.as_bytes(), &mut scan, &HeadLimits::default()) {
            Ok(Parsed::Done { value: head, .. }) => of(&head),
            other => panic!("{fields:?}: {other:?}"),
        }
    }

    #[test]
    fn an_id_is_kept_and_what_cannot_be_one_is_replaced() {
        assert_eq!(read(""), None);
        let longest = "x".repeat(CHARS_MAX);
        for id in ["a", "7f-3", "~!\"", &*longest] {
            assert_eq!(
                read(&format!("X-Request-Id: {id}\r\n")).as_deref(),
                Some(id)
            );
        }
        let mut made = Vec::new();
        for fields in [
            "x-request-id:\r\n".to_owned(),
            "x-request-id: a b\r\n".to_owned(),
            "x-request-id: \u{e9}\r\n".to_owned(),
            "x-request-id: a\r\nx-request-id: a\r\n".to_owned(),
            format!("x-request-id: {longest}y\r\n"),
        ] {
            let id = read(&fields).expect("an id");
            assert_eq!(id.len(), 16, "{fields:?}");
            assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
            made.push(id);
        }
        made.sort();
        made.dedup();
        assert_eq!(made.len(), 5, "each is another one");
    }
}
