//! Frames to messages (RFC 6455, 5.4 to 5.6): what the server reads.
//!
//! In: the bytes a client sent after the handshake, cut anywhere. Out: whole
//! messages and control frames, or the violation that ends the connection.
//! Owns the state of one reading side and the message that is arriving. Knows no
//! socket, and writes nothing: Pongs and Close frames are the caller's.
//!
//! - An announced length allocates nothing: memory follows the bytes that have
//!   arrived, and both limits are checked before the first of them is kept.
//! - Between messages nothing is kept on the heap.
//! - A violation is reported at the byte that proves it, so text fails before
//!   its message ends (8.1).

use super::close::{CloseFrame, parse_close};
use super::error::ProtocolError;
use super::frame::{CLIENT_HEAD_BYTES_MAX, FrameHead, Opcode, parse_head};
use super::{mask, utf8};
use crate::wire::Parsed;

/// How much a client may send at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderLimits {
    /// Payload bytes of one data frame.
    pub frame_bytes_max: u64,
    /// Payload bytes of one message over all its fragments.
    pub message_bytes_max: u64,
}

/// What a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A whole text message.
    Text(String),
    /// A whole binary message.
    Binary(Vec<u8>),
    /// Answer with a Pong of the same payload (at most 125 bytes).
    Ping(Vec<u8>),
    /// Answers a Ping of ours, or came unasked.
    Pong(Vec<u8>),
    /// The client sends nothing after this; answer it once and end.
    Close(Option<CloseFrame>),
}

/// The reading side of one server connection.
#[derive(Debug)]
pub struct Reader {
    limits: ReaderLimits,
    state: State,
    /// The message whose last fragment is still to come.
    message: Option<Message>,
    /// The payload of the control frame that is arriving.
    control: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Between frames or inside a head, whose first `len` bytes are here.
    Head {
        bytes: [u8; CLIENT_HEAD_BYTES_MAX],
        len: usize,
    },
    /// Inside a frame, `received` bytes into its payload.
    Payload { head: FrameHead, received: u64 },
    /// A Close has been read; what follows it is thrown away (5.5.1).
    Closed,
    /// The connection has been failed.
    Failed(ProtocolError),
}

const BETWEEN_FRAMES: State = State::Head {
    bytes: [0; CLIENT_HEAD_BYTES_MAX],
    len: 0,
};

#[derive(Debug)]
struct Message {
    is_text: bool,
    bytes: Vec<u8>,
    /// Bytes of a text that are known to be whole valid characters.
    checked: usize,
}

impl Reader {
    /// A reader for a connection that has just been upgraded.
    pub fn new(limits: ReaderLimits) -> Self {
        Self {
            limits,
            state: BETWEEN_FRAMES,
            message: None,
            control: Vec::new(),
        }
    }

    /// Bytes that are kept of a message that has not ended.
    pub fn held_bytes(&self) -> usize {
        let message = self.message.as_ref();
        message.map_or(0, |message| message.bytes.capacity())
    }

    /// Takes bytes from the front of `input` up to the end of the next event.
    ///
    /// `None` means that all of `input` has been taken and more is needed. Call
    /// again with the rest until then; the caller keeps no bytes back.
    /// After [`Event::Close`] all further input is taken and gives `None`.
    ///
    /// # Errors
    /// The client's violation, again on each later call. Send a Close with
    /// [`ProtocolError::close_code`] and end the connection.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Event>, ProtocolError> {
        let result = self.advance(input);
        let over = match &result {
            Ok(Some(Event::Close(_))) => State::Closed,
            Err(error) => State::Failed(*error),
            Ok(_) => return result,
        };
        self.state = over;
        self.message = None;
        self.control = Vec::new();
        result
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Event>, ProtocolError> {
        loop {
            let (head, received) = match self.state {
                State::Head { bytes, len } => match self.take_head(bytes, len, input)? {
                    Some(head) => {
                        self.begin_frame(&head)?;
                        (head, 0)
                    }
                    None => return Ok(None),
                },
                State::Payload { head, received } => (head, received),
                State::Closed => {
                    *input = &[];
                    return Ok(None);
                }
                State::Failed(error) => return Err(error),
            };
            let piece = take(input, head.payload_len - received);
            self.take_piece(&head, received, piece)?;
            // At most the announced length, so it does not overflow.
            let received = received + piece.len() as u64;
            if received < head.payload_len {
                self.state = State::Payload { head, received };
                return Ok(None);
            }
            self.state = BETWEEN_FRAMES;
            if let Some(event) = self.end_frame(&head)? {
                return Ok(Some(event));
            }
        }
    }

    /// Reads a head whose first `len` bytes came with earlier input.
    fn take_head(
        &mut self,
        mut bytes: [u8; CLIENT_HEAD_BYTES_MAX],
        len: usize,
        input: &mut &[u8],
    ) -> Result<Option<FrameHead>, ProtocolError> {
        if len == 0 {
            // The usual case: the head is whole, nothing has to be kept.
            if let Parsed::Done { value: head, used } = parse_head(input)? {
                *input = input.get(used..).unwrap_or_default();
                return Ok(Some(head));
            }
        }
        let mut filled = len;
        for (slot, byte) in bytes.iter_mut().skip(len).zip(input.iter()) {
            *slot = *byte;
            filled += 1;
        }
        let parsed = parse_head(bytes.get(..filled).unwrap_or_default())?;
        let (head, end) = match parsed {
            Parsed::Done { value: head, used } => (Some(head), used),
            Parsed::NeedMore => {
                self.state = State::Head { bytes, len: filled };
                (None, filled)
            }
        };
        // `len` bytes were not a whole head, so the end lies behind them.
        *input = input.get(end.saturating_sub(len)..).unwrap_or_default();
        Ok(head)
    }

    /// Checks what a head means here, before any of its payload is kept.
    fn begin_frame(&mut self, head: &FrameHead) -> Result<(), ProtocolError> {
        if head.opcode.is_control() {
            return Ok(());
        }
        let held = match (head.opcode, &self.message) {
            (Opcode::Continuation, Some(message)) => message.bytes.len() as u64,
            (Opcode::Continuation, None) => return Err(ProtocolError::ContinuationUnexpected),
            (_, Some(_)) => return Err(ProtocolError::ContinuationMissing),
            (_, None) => 0,
        };
        if head.payload_len > self.limits.frame_bytes_max {
            return Err(ProtocolError::FrameTooLong);
        }
        match held.checked_add(head.payload_len) {
            Some(total) if total <= self.limits.message_bytes_max => {}
            _ => return Err(ProtocolError::MessageTooLong),
        }
        if self.message.is_none() {
            self.message = Some(Message {
                is_text: head.opcode == Opcode::Text,
                bytes: Vec::new(),
                checked: 0,
            });
        }
        Ok(())
    }

    /// Unmasks `piece`, which starts `offset` bytes into the payload, behind
    /// what the message or control frame has so far.
    fn take_piece(
        &mut self,
        head: &FrameHead,
        offset: u64,
        piece: &[u8],
    ) -> Result<(), ProtocolError> {
        let remaining = head.payload_len - offset;
        let Some(message) = self.message.as_mut().filter(|_| !head.opcode.is_control()) else {
            append_unmasked(&mut self.control, piece, head, offset, remaining);
            return Ok(());
        };
        let most = if head.fin {
            remaining
        } else {
            self.limits
                .message_bytes_max
                .saturating_sub(message.bytes.len() as u64)
        };
        append_unmasked(&mut message.bytes, piece, head, offset, most);
        // The last piece is checked with the whole message, when it becomes a
        // String; checking it here as well would only read it twice.
        let is_last = head.fin && piece.len() as u64 == remaining;
        if message.is_text && !is_last {
            let tail = message.bytes.get(message.checked..).unwrap_or_default();
            message.checked += utf8::checked_prefix(tail)?;
        }
        Ok(())
    }

    fn end_frame(&mut self, head: &FrameHead) -> Result<Option<Event>, ProtocolError> {
        let control = std::mem::take(&mut self.control);
        Ok(Some(match head.opcode {
            Opcode::Ping => Event::Ping(control),
            Opcode::Pong => Event::Pong(control),
            Opcode::Close => Event::Close(parse_close(&control)?),
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                let Some(message) = self.message.take_if(|_| head.fin) else {
                    return Ok(None);
                };
                if message.is_text {
                    let text = String::from_utf8(message.bytes);
                    Event::Text(text.map_err(|_| ProtocolError::InvalidUtf8)?)
                } else {
                    Event::Binary(message.bytes)
                }
            }
        }))
    }
}

/// Takes at most `wanted` bytes from the front of `input`.
fn take<'a>(input: &mut &'a [u8], wanted: u64) -> &'a [u8] {
    let len = usize::try_from(wanted).map_or(input.len(), |wanted| wanted.min(input.len()));
    let (piece, rest) = input.split_at(len);
    *input = rest;
    piece
}

/// Appends `piece` to `bytes` and unmasks it there.
///
/// Room grows by doubling with the bytes that arrive, but not past the `most`
/// bytes that can still come, so a large message ends without slack.
fn append_unmasked(bytes: &mut Vec<u8>, piece: &[u8], head: &FrameHead, offset: u64, most: u64) {
    let start = bytes.len();
    if bytes.capacity() - start < piece.len() {
        let doubled = bytes.capacity().saturating_mul(2) - start;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        bytes.reserve_exact(doubled.min(most).max(piece.len()));
    }
    bytes.extend_from_slice(piece);
    mask::apply(bytes.get_mut(start..).unwrap_or_default(), head.key, offset);
}

#[cfg(test)]
mod tests;
