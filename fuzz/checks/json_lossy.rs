//! Lossy JSON text: cut anywhere, it is what the standard library and serde_json make
//! of the whole.

use procring::wire::json::{incomplete_tail, string_len, write_string, write_string_lossy};

use super::split_point;

/// Checks one input.
pub fn json_lossy(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let expected = serde_json::to_vec(&text).expect("JSON");
    let (front, back) = data.split_at(split_point(data));
    let (first, second) = front.split_at(split_point(front));
    for parts in [&[data][..], &[first, second, back], &[front, b"", back]] {
        assert_eq!(lossy(parts), expected);
    }
    assert_eq!(lossy(&data.chunks(1).collect::<Vec<_>>()), expected);

    let mut out = Vec::new();
    write_string(&text, &mut out);
    assert_eq!(out, expected);
    assert_eq!(out.len(), string_len(&text));

    // A cut at the boundary leaves the same text as the uncut bytes begin with.
    let kept = front.len() - incomplete_tail(front);
    let cut = String::from_utf8_lossy(&front[..kept]);
    assert!(text.starts_with(&*cut), "{cut:?} begins {text:?}");
    if std::str::from_utf8(data).is_ok() {
        assert!(std::str::from_utf8(&front[..kept]).is_ok());
    }
}

fn lossy(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    write_string_lossy(parts.iter().copied(), &mut out);
    out
}
