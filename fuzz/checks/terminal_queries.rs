//! Replayed output: no split changes what is cut, one pass leaves no query, and of text
//! without escapes and C1 controls only the bell and ENQ are.

use procring::wire::vt::{HELD_BYTES_MAX, QueryFilter};

use super::split_point;

/// Checks one input, as retained output of a terminal.
pub fn terminal_queries(data: &[u8]) {
    let once = filter(&[data]);
    let (front, back) = data.split_at(split_point(data));
    assert_eq!(filter(&[front, back]), once);
    assert_eq!(filter(&data.chunks(1).collect::<Vec<_>>()), once);
    assert_eq!(filter(&[&once]), once);

    // Text always stays, so it leaves by the same measure as it came.
    // A lead of C1 controls alone is kept from meeting what would make it one.
    let begins = |pair: &[u8]| matches!(pair, [0xc2, 0x80..=0x9f | 0x05 | 0x07]);
    if !data.contains(&0x1b) && !data.windows(2).any(begins) {
        let is_silent = |byte: &u8| !matches!(byte, 0x05 | 0x07);
        let silent: Vec<u8> = data.iter().copied().filter(is_silent).collect();
        assert_eq!(once, silent);
    }
    let beyond_ascii = |bytes: &[u8]| bytes.iter().filter(|byte| **byte >= 0x80).count();
    assert!(beyond_ascii(&once) <= beyond_ascii(data));

    // Held back is at most what was promised.
    let mut out = Vec::new();
    QueryFilter::default().push(data, &mut out);
    assert!(once.len() < out.len() + HELD_BYTES_MAX);
}

fn filter(parts: &[&[u8]]) -> Vec<u8> {
    let (mut filter, mut out) = (QueryFilter::default(), Vec::new());
    for part in parts {
        filter.push(part, &mut out);
    }
    filter.finish(&mut out);
    out
}
