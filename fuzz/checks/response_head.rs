//! Response heads: httparse reads the fields that were given, and never one more.

use procring::wire::http::response::{DateCache, Length, ResponseHead};

use super::{split_point, take_u64};

/// Checks one input: a number, then two values.
pub fn response_head(bytes: &[u8]) {
    let (number, rest) = take_u64(bytes);
    let (first, second) = rest.split_at(split_point(rest));
    let (first, second) = (
        String::from_utf8_lossy(first),
        String::from_utf8_lossy(second),
    );
    let mut cache = DateCache::default();
    let date = cache.at(number).to_owned();
    let head = ResponseHead {
        status: 100 + (number % 900) as u16,
        content_type: Some(&first),
        length: Length::Known(number),
        close: number % 2 == 0,
        keep_alive: Some(number),
        headers: &[("x-a", &second), ("x-b", &first)],
    };
    let mut out = Vec::new();
    head.write_to(&date, &mut out);

    let mut storage = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut storage);
    let used = response.parse(&out).expect("a head");
    assert_eq!(used, httparse::Status::Complete(out.len()));
    assert_eq!(response.code, Some(head.status));
    let (first, second) = (on_one_line(&first), on_one_line(&second));
    let length = number.to_string();
    let connection = if head.close { "close" } else { "keep-alive" };
    let timeout = format!("timeout={number}");
    let mut expected = vec![
        ("content-type", first.as_str()),
        ("x-a", &second),
        ("x-b", &first),
        ("content-length", &length),
        ("connection", connection),
        ("date", &date),
    ];
    if !head.close {
        expected.insert(5, ("keep-alive", &timeout));
    }
    let found: Vec<_> = response
        .headers
        .iter()
        .map(|header| {
            (
                header.name,
                std::str::from_utf8(header.value).expect("text"),
            )
        })
        .collect();
    assert_eq!(found, expected);
}

/// What a reader of a field sees of `value`.
fn on_one_line(value: &str) -> String {
    let line: String = value
        .chars()
        .map(|character| match character {
            '\t' => '\t',
            _ if character.is_ascii_control() => ' ',
            _ => character,
        })
        .collect();
    line.trim_matches([' ', '\t']).to_owned()
}
