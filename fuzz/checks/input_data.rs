//! Input data: a plain decoder of RFC 4648, section 4, accepts the same texts and gives the same
//! bytes; the limit counts decoded bytes.

use procring::api::body::{InputEncoding, input_bytes};

/// Checks one input: a byte for the limit, then the text of `data`.
pub fn input_data(bytes: &[u8]) {
    let Some((&small, rest)) = bytes.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(rest).into_owned();
    let limit = u64::from(small);
    check(&text, InputEncoding::Base64, base64(&text), limit);
    let utf8 = Some(text.clone().into_bytes());
    check(&text, InputEncoding::Utf8, utf8, limit);
}

fn check(text: &str, encoding: InputEncoding, expected: Option<Vec<u8>>, small: u64) {
    let decode = |limit| input_bytes(text.to_owned(), encoding, limit);
    let status = |limit| decode(limit).map_err(|problem| problem.reply().status);
    let Some(expected) = expected else {
        assert_eq!(status(u64::MAX), Err(400), "{text:?}");
        // What is not base64 is that at any limit.
        assert_eq!(status(0), Err(400), "{text:?}");
        return;
    };
    let len = expected.len() as u64;
    assert_eq!(status(small).is_ok(), len <= small);
    if let Some(less) = len.checked_sub(1) {
        assert_eq!(status(less), Err(413));
    }
    assert_eq!(status(len), Ok(expected));
}

/// Base64 with the standard alphabet, padded, with nothing between, and no bits lost.
fn base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = match text.as_bytes() {
        [digits @ .., b'=', b'='] | [digits @ .., b'='] => digits,
        digits => digits,
    };
    let mut bits = String::new();
    for digit in digits {
        let value = ALPHABET.iter().position(|letter| letter == digit)?;
        bits.push_str(&format!("{value:06b}"));
    }
    let (whole, lost) = bits.split_at(bits.len() / 8 * 8);
    if lost.contains('1') {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(&whole[at..at + 8], 2);
    let bytes = (0..whole.len()).step_by(8).map(byte);
    bytes.collect::<Result<_, _>>().ok()
}
