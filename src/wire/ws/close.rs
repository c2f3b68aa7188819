//! Close frames: status codes and reasons (RFC 6455, 5.5.1 and 7.4).
//!
//! In: the payload of a received Close, or a code and words to send. Out: a
//! [`CloseFrame`], or the bytes of a server Close frame. Owns nothing.

use super::error::ProtocolError;
use super::frame::{CONTROL_BYTES_MAX, Opcode, write_frame};

/// Bytes a reason can have: a control payload less the status code.
const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// Code and reason of a Close frame that has a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseFrame {
    /// Status code (7.4).
    pub code: u16,
    /// Words for a log, not for a user; often empty.
    pub reason: String,
}

/// Reads the unmasked payload of a Close frame; `None` if it is empty.
///
/// # Errors
/// [`ProtocolError::CloseTruncated`] for one byte, [`ProtocolError::CloseCode`]
/// for a code nobody may send, [`ProtocolError::InvalidUtf8`] for the reason.
pub fn parse_close(payload: &[u8]) -> Result<Option<CloseFrame>, ProtocolError> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(ProtocolError::CloseTruncated),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !may_be_sent(code) {
        return Err(ProtocolError::CloseCode { code });
    }
    let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::InvalidUtf8)?;
    Ok(Some(CloseFrame {
        code,
        reason: reason.to_owned(),
    }))
}

/// Codes that may appear in a Close frame (7.4.1, 7.4.2 and the IANA registry
/// up to 1014). 1004 is reserved; 1005, 1006 and 1015 only ever stand for what
/// an endpoint saw; below 1000 and 1016 to 2999 nothing is assigned.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Appends a Close frame with `code` and `reason` to `out`.
///
/// A reason longer than 123 bytes is cut at a character boundary.
pub fn write_close(code: u16, reason: &str, out: &mut Vec<u8>) {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = Vec::with_capacity(2 + end);
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(reason.as_bytes().get(..end).unwrap_or_default());
    write_frame(Opcode::Close, &payload, out);
}

/// Appends the answer to a received Close: its code without its reason, and an
/// empty Close for an empty one (5.5.1: "typically echoes the status code").
pub fn write_echo(received: Option<&CloseFrame>, out: &mut Vec<u8>) {
    match received {
        Some(frame) => write_close(frame.code, "", out),
        None => write_frame(Opcode::Close, &[], out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(code: u16, reason: &[u8]) -> Vec<u8> {
        [&code.to_be_bytes()[..], reason].concat()
    }

    #[test]
    fn exactly_the_sendable_codes_are_accepted() {
        for code in 0..=u16::MAX {
            let sendable = (1000..=1003).contains(&code)
                || (1007..=1014).contains(&code)
                || (3000..=4999).contains(&code);
            let expected = if sendable {
                Ok(Some(CloseFrame {
                    code,
                    reason: "bye".to_owned(),
                }))
            } else {
                Err(ProtocolError::CloseCode { code })
            };
            assert_eq!(parse_close(&payload(code, b"bye")), expected);
        }
    }

    #[test]
    fn empty_is_no_code_and_one_byte_is_an_error() {
        assert_eq!(parse_close(b""), Ok(None));
        assert_eq!(parse_close(b"\x03"), Err(ProtocolError::CloseTruncated));
    }

    #[test]
    fn a_reason_that_is_not_utf8_is_1007() {
        let error = parse_close(&payload(1000, b"\xce\xba\xed\xa0\x80")).unwrap_err();
        assert_eq!(error.close_code(), 1007);
        // A character may not be left open at the end either.
        assert!(parse_close(&payload(1000, b"\xce")).is_err());
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        write_close(1002, &"é".repeat(100), &mut out);
        // 61 characters of two bytes: 122, for 123 would cut one.
        assert_eq!(out[..4], [0x88, 124, 0x03, 0xea]);
        assert_eq!(out[4..], *"é".repeat(61).as_bytes());

        out.clear();
        write_close(1002, &"x".repeat(124), &mut out);
        assert_eq!(out.len(), 2 + 125);
    }

    #[test]
    fn the_echo_has_the_code_and_no_reason() {
        let mut out = Vec::new();
        let received = CloseFrame {
            code: 3000,
            reason: "done".to_owned(),
        };
        write_echo(Some(&received), &mut out);
        write_echo(None, &mut out);
        assert_eq!(out, [0x88, 2, 0x0b, 0xb8, 0x88, 0]);
    }
}
