//! Why a WebSocket connection is failed (RFC 6455, 7.1.7).
//!
//! In: a violation found by `frame`, `message`, `close` or `utf8`. Out: the
//! status code and the words of the Close frame that answers it.

use std::fmt;

/// What a client did wrong. The connection ends with a Close frame that
/// carries [`close_code`](Self::close_code); nothing after it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    /// RSV1, RSV2 or RSV3 is set although no extension was negotiated (5.2).
    ReservedBits,
    /// Opcode 3 to 7 or 11 to 15 (5.2).
    ReservedOpcode {
        /// The opcode found.
        opcode: u8,
    },
    /// A client frame without a mask (5.1).
    Unmasked,
    /// A 16- or 64-bit length where a shorter form would do (5.2).
    LengthNotMinimal,
    /// A 64-bit length with its top bit set (5.2).
    LengthTopBit,
    /// A Close, Ping or Pong without FIN (5.5).
    ControlFragmented,
    /// A Close, Ping or Pong of more than 125 bytes (5.5).
    ControlTooLong,
    /// A continuation frame with no message open (5.4).
    ContinuationUnexpected,
    /// A text or binary frame while another message is open (5.4).
    ContinuationMissing,
    /// A Close frame whose payload is a single byte (5.5.1).
    CloseTruncated,
    /// A status code that no endpoint may send (7.4).
    CloseCode {
        /// The code found.
        code: u16,
    },
    /// Text, or the reason of a Close, that is not UTF-8 (8.1).
    InvalidUtf8,
    /// One frame announces more than `frame_bytes_max`.
    FrameTooLong,
    /// The frames of one message announce more than `message_bytes_max`.
    MessageTooLong,
}

impl ProtocolError {
    /// The status code of the Close frame that answers this (7.4.1): 1002
    /// protocol error, 1007 inconsistent data, 1009 too big.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::InvalidUtf8 => 1007,
            Self::FrameTooLong | Self::MessageTooLong => 1009,
            _ => 1002,
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReservedBits => f.write_str("reserved bit set, no extension was negotiated"),
            Self::ReservedOpcode { opcode } => write!(f, "reserved opcode {opcode}"),
            Self::Unmasked => f.write_str("client frame is not masked"),
            Self::LengthNotMinimal => f.write_str("payload length is not in its shortest form"),
            Self::LengthTopBit => f.write_str("payload length has its top bit set"),
            Self::ControlFragmented => f.write_str("control frame is fragmented"),
            Self::ControlTooLong => f.write_str("control frame is longer than 125 bytes"),
            Self::ContinuationUnexpected => f.write_str("continuation frame without a message"),
            Self::ContinuationMissing => f.write_str("new message inside an unfinished one"),
            Self::CloseTruncated => f.write_str("close payload is a single byte"),
            Self::CloseCode { code } => write!(f, "close code {code} must not be sent"),
            Self::InvalidUtf8 => f.write_str("text is not valid UTF-8"),
            Self::FrameTooLong => f.write_str("frame is too big"),
            Self::MessageTooLong => f.write_str("message is too big"),
        }
    }
}

impl std::error::Error for ProtocolError {}
