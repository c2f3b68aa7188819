//! Frame heads (RFC 6455, 5.2): read from a client, written for a server.
//!
//! In: the first bytes of a client frame, or an opcode and a length. Out: a
//! [`FrameHead`], or the bytes of an unmasked frame. Owns nothing. Does not know
//! which frames may follow each other: that is `message`.

use super::error::ProtocolError;
use crate::wire::Parsed;

/// Longest payload of a Close, Ping or Pong (5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// Longest head of a client frame: two bytes, a 64-bit length, the mask key.
pub const CLIENT_HEAD_BYTES_MAX: usize = 14;

/// What a frame is (5.2). The reserved opcodes have no value here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// The next fragment of the open message.
    Continuation,
    /// A text message, or its first fragment.
    Text,
    /// A binary message, or its first fragment.
    Binary,
    /// The last frame of a side.
    Close,
    /// Asks for a Pong with the same payload.
    Ping,
    /// Answers a Ping, or comes unasked.
    Pong,
}

impl Opcode {
    /// Close, Ping and Pong: never fragmented, at most 125 bytes.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }
}

/// The head of a frame that a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// What the frame is.
    pub opcode: Opcode,
    /// Whether it ends its message.
    pub fin: bool,
    /// The mask of the payload (5.3).
    pub key: [u8; 4],
    /// Payload bytes announced, below 2^63. Nothing has been allocated for it.
    pub payload_len: u64,
}

/// Reads the head of a client frame from the front of `input` (5.2).
///
/// Every rule is checked as soon as the byte that decides it is there, so a
/// wrong first byte is refused although the rest never comes. `used` is 6, 8 or
/// 14.
///
/// # Errors
/// A [`ProtocolError`] with code 1002: reserved bits or opcode, no mask, a
/// fragmented or overlong control frame, a length in the wrong form.
pub fn parse_head(input: &[u8]) -> Result<Parsed<FrameHead>, ProtocolError> {
    let Some((&first, rest)) = input.split_first() else {
        return Ok(Parsed::NeedMore);
    };
    if first & 0x70 != 0 {
        return Err(ProtocolError::ReservedBits);
    }
    let bits = first & 0x0f;
    let opcode = Opcode::from_bits(bits).ok_or(ProtocolError::ReservedOpcode { opcode: bits })?;
    let fin = first & 0x80 != 0;
    if opcode.is_control() && !fin {
        return Err(ProtocolError::ControlFragmented);
    }

    let Some((&second, rest)) = rest.split_first() else {
        return Ok(Parsed::NeedMore);
    };
    if second & 0x80 == 0 {
        return Err(ProtocolError::Unmasked);
    }
    let short_len = second & 0x7f;
    if opcode.is_control() && usize::from(short_len) > CONTROL_BYTES_MAX {
        return Err(ProtocolError::ControlTooLong);
    }

    let (payload_len, rest) = match short_len {
        126 => {
            let Some((bytes, rest)) = rest.split_first_chunk() else {
                return Ok(Parsed::NeedMore);
            };
            let len = u64::from(u16::from_be_bytes(*bytes));
            if len < 126 {
                return Err(ProtocolError::LengthNotMinimal);
            }
            (len, rest)
        }
        127 => {
            let Some((bytes, rest)) = rest.split_first_chunk() else {
                return Ok(Parsed::NeedMore);
            };
            let len = u64::from_be_bytes(*bytes);
            if len >> 63 != 0 {
                return Err(ProtocolError::LengthTopBit);
            }
            if len <= u64::from(u16::MAX) {
                return Err(ProtocolError::LengthNotMinimal);
            }
            (len, rest)
        }
        len => (u64::from(len), rest),
    };

    let Some((key, rest)) = rest.split_first_chunk() else {
        return Ok(Parsed::NeedMore);
    };
    Ok(Parsed::Done {
        value: FrameHead {
            opcode,
            fin,
            key: *key,
            payload_len,
        },
        used: input.len() - rest.len(),
    })
}

/// Writes the head of an unmasked server frame to the front of `out` and
/// returns its length: 2, 4 or 10 bytes (5.2).
///
/// `payload_len` is below 2^63, as the length of any slice is.
pub fn frame_head(opcode: Opcode, fin: bool, payload_len: u64, out: &mut [u8; 10]) -> usize {
    debug_assert!(payload_len >> 63 == 0);
    let first = opcode.bits() | if fin { 0x80 } else { 0 };
    if let Ok(len @ 0..=125) = u8::try_from(payload_len) {
        out[0] = first;
        out[1] = len;
        2
    } else if let Ok(len) = u16::try_from(payload_len) {
        let [b0, b1] = len.to_be_bytes();
        [out[0], out[1], out[2], out[3]] = [first, 126, b0, b1];
        4
    } else {
        out[0] = first;
        out[1] = 127;
        out[2..].copy_from_slice(&payload_len.to_be_bytes());
        10
    }
}

/// Appends one whole unmasked frame to `out`.
///
/// For a control opcode `payload` has at most 125 bytes (5.5).
pub fn write_frame(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    debug_assert!(!opcode.is_control() || payload.len() <= CONTROL_BYTES_MAX);
    let mut head = [0; 10];
    let head_len = frame_head(opcode, true, payload.len() as u64, &mut head);
    out.reserve(head_len + payload.len());
    out.extend_from_slice(head.get(..head_len).unwrap_or_default());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::super::testing::masked;
    use super::*;

    const ALL: [Opcode; 6] = [
        Opcode::Continuation,
        Opcode::Text,
        Opcode::Binary,
        Opcode::Close,
        Opcode::Ping,
        Opcode::Pong,
    ];

    fn parse(bytes: &[u8]) -> Result<Parsed<FrameHead>, ProtocolError> {
        // Bytes behind the head must make no difference.
        let result = parse_head(bytes);
        if let Ok(Parsed::Done { used, .. }) = result {
            assert_eq!(parse_head(&bytes[..used]), result);
        }
        result
    }

    #[test]
    fn heads_survive_at_every_length_boundary() {
        for opcode in ALL {
            for len in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 32, (1 << 63) - 1] {
                for fin in [true, false] {
                    if opcode.is_control() && (!fin || len > 125) {
                        continue;
                    }
                    let mut out = [0; 10];
                    let written = frame_head(opcode, fin, len, &mut out);
                    let mut client = out[..written].to_vec();
                    client[1] |= 0x80;
                    client.extend_from_slice(&[1, 2, 3, 4]);
                    let head = FrameHead {
                        opcode,
                        fin,
                        key: [1, 2, 3, 4],
                        payload_len: len,
                    };
                    let used = client.len();
                    assert_eq!(parse(&client), Ok(Parsed::Done { value: head, used }));
                    for cut in 0..used {
                        assert_eq!(parse(&client[..cut]), Ok(Parsed::NeedMore));
                    }
                }
            }
        }
    }

    #[test]
    fn every_first_byte_is_judged_before_the_second_comes() {
        for first in 0..=u8::MAX {
            let opcode = first & 0x0f;
            let expected = if first & 0x70 != 0 {
                Err(ProtocolError::ReservedBits)
            } else if (3..=7).contains(&opcode) || opcode > 10 {
                Err(ProtocolError::ReservedOpcode { opcode })
            } else if opcode >= 8 && first < 0x80 {
                Err(ProtocolError::ControlFragmented)
            } else {
                Ok(Parsed::NeedMore)
            };
            assert_eq!(parse(&[first]), expected, "{first:#x}");
        }
    }

    #[test]
    fn an_unmasked_frame_is_refused_at_its_second_byte() {
        assert_eq!(parse(&[0x81, 5]), Err(ProtocolError::Unmasked));
    }

    #[test]
    fn a_long_control_frame_is_refused_before_its_length_comes() {
        for opcode in [0x88, 0x89, 0x8a] {
            for len in [126, 127] {
                assert_eq!(
                    parse(&[opcode, 0x80 | len]),
                    Err(ProtocolError::ControlTooLong)
                );
            }
        }
    }

    #[test]
    fn a_length_has_only_its_shortest_form() {
        assert_eq!(
            parse(&[0x82, 0xfe, 0, 125]),
            Err(ProtocolError::LengthNotMinimal)
        );
        let mut long = [0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
        assert_eq!(parse(&long), Err(ProtocolError::LengthNotMinimal));
        long[2] = 0x80;
        assert_eq!(parse(&long), Err(ProtocolError::LengthTopBit));
    }

    #[test]
    fn written_frames_hold_their_payload_unmasked() {
        for len in [0, 125, 126, 65_535, 65_536] {
            let payload = vec![7; len];
            let mut out = b"before".to_vec();
            write_frame(Opcode::Binary, &payload, &mut out);
            assert_eq!(&out[..6], b"before");
            assert_eq!(out[out.len() - len..], payload);
            // The same frame from a client differs in the mask bit and key.
            let mut client = masked(0x82, [0; 4], &payload);
            let head_len = client.len() - len - 4;
            client.drain(head_len..head_len + 4);
            client[1] &= 0x7f;
            assert_eq!(out[6..], client);
        }
    }
}
