//! UTF-8 checked while it arrives (RFC 6455, 8.1; RFC 3629).
//!
//! In: the not yet checked tail of a message. Out: how much of it is final.
//! Owns nothing: the caller keeps the text, so no partial character is copied.

use super::error::ProtocolError;

/// Returns how many bytes at the front of `tail` are whole, valid characters.
///
/// What remains (at most three bytes) is the beginning of a character whose
/// rest has not arrived; pass it again together with what follows.
///
/// # Errors
/// [`ProtocolError::InvalidUtf8`] as soon as one byte rules out every valid
/// continuation: an overlong form, a surrogate or a value above U+10FFFF is
/// refused at its second byte.
pub(crate) fn checked_prefix(tail: &[u8]) -> Result<usize, ProtocolError> {
    match std::str::from_utf8(tail) {
        Ok(_) => Ok(tail.len()),
        Err(error) if error.error_len().is_none() => Ok(error.valid_up_to()),
        Err(_) => Err(ProtocolError::InvalidUtf8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_cut_anywhere_is_held_back_not_refused() {
        for whole in ["ä", "€", "\u{10ffff}"] {
            for cut in 1..whole.len() {
                let mut text = b"ok".to_vec();
                text.extend_from_slice(&whole.as_bytes()[..cut]);
                assert_eq!(checked_prefix(&text), Ok(2), "{whole:?} cut at {cut}");
            }
            assert_eq!(checked_prefix(whole.as_bytes()), Ok(whole.len()));
        }
    }

    #[test]
    fn a_hopeless_start_is_refused_at_the_byte_that_decides() {
        for bad in [
            &b"\x80"[..],
            b"\xc0",
            b"\xc1",
            b"\xf5",
            b"\xff",
            b"\xe0\x80",
            b"\xed\xa0",
            b"\xf0\x8f",
            b"\xf4\x90",
            b"\xe2\x82a",
        ] {
            assert_eq!(
                checked_prefix(bad),
                Err(ProtocolError::InvalidUtf8),
                "{bad:02x?}"
            );
            let decided = bad.len() - 1;
            assert_eq!(
                checked_prefix(&bad[..decided]),
                Ok(0),
                "{bad:02x?} too early"
            );
        }
    }
}
