//! Targets: percent-decoding agrees with a plain model, and encoding undoes it.

use std::borrow::Cow;

use procring::wire::http::target::{Query, decode_segment, split_target};

/// Checks one input.
pub fn query_path(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (path, query) = split_target(&text);
    for segment in path.split('/') {
        let decoded = decode_segment(segment);
        assert_eq!(
            decoded.as_deref().ok(),
            std::str::from_utf8(&model(segment)).ok()
        );
        assert_eq!(
            matches!(decoded, Ok(Cow::Borrowed(_))),
            !segment.contains('%')
        );
    }

    let query = Query::parse(query.unwrap_or(&text));
    let pairs: Vec<_> = query.pairs().collect();
    // A few are enough: each of them is compared with all.
    for (name, value) in pairs.iter().take(8) {
        let same = pairs.iter().filter(|(other, _)| other == name).count();
        assert_eq!(query.unique(name).is_ok(), same == 1);
        if same == 1 {
            assert_eq!(query.unique(name), Ok(Some(value.clone())));
        }
    }
    let encoded: Vec<_> = pairs
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    let encoded = encoded.join("&");
    assert_eq!(Query::parse(&encoded).pairs().collect::<Vec<_>>(), pairs);
}

/// Percent-decoding, spelled out.
fn model(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes
            .get(at + 1..at + 3)
            .filter(|digits| bytes[at] == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        match digits.and_then(|digits| std::str::from_utf8(digits).ok()) {
            Some(digits) => {
                out.extend(u8::from_str_radix(digits, 16));
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}
