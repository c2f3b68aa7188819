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
mod tests {
    use super::super::testing::{Chance, for_each_split, masked};
    use super::*;

    const LIMITS: ReaderLimits = ReaderLimits {
        frame_bytes_max: 1000,
        message_bytes_max: 2000,
    };
    const KEY: [u8; 4] = [0x11, 0x22, 0x83, 0xf4];

    /// All events of `parts`, and the error that ended them, if any.
    fn read(parts: &[&[u8]]) -> (Vec<Event>, Option<ProtocolError>) {
        let mut reader = Reader::new(LIMITS);
        let mut events = Vec::new();
        for part in parts {
            let mut input = *part;
            loop {
                match reader.next(&mut input) {
                    Ok(Some(event)) => events.push(event),
                    Ok(None) => break,
                    Err(error) => return (events, Some(error)),
                }
            }
            assert!(input.is_empty(), "None promises that all was taken");
        }
        (events, None)
    }

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        masked(first, KEY, payload)
    }

    fn text(text: &str) -> Event {
        Event::Text(text.to_owned())
    }

    #[test]
    fn a_conversation_reads_the_same_at_every_split() {
        let long = vec![0x5a; 300];
        let wire = [
            frame(0x81, "grüße".as_bytes()),
            frame(0x01, b"\xe2\x82"),
            frame(0x89, b"now?"),
            frame(0x00, b"\xac and "),
            frame(0x8a, b""),
            frame(0x80, b"more"),
            frame(0x82, &long),
            frame(0x02, b""),
            frame(0x00, b""),
            frame(0x80, b""),
            frame(0x81, b""),
            frame(0x88, b"\x03\xe8bye"),
            b"whatever follows".to_vec(),
        ]
        .concat();
        let expected = vec![
            text("grüße"),
            Event::Ping(b"now?".to_vec()),
            Event::Pong(Vec::new()),
            text("€ and more"),
            Event::Binary(long),
            Event::Binary(Vec::new()),
            text(""),
            Event::Close(Some(CloseFrame {
                code: 1000,
                reason: "bye".to_owned(),
            })),
        ];
        for_each_split(&wire, |parts| {
            assert_eq!(read(parts), (expected.clone(), None));
        });
    }

    #[test]
    fn every_violation_is_the_same_error_at_every_split() {
        use ProtocolError::*;
        let huge_head = |len: u64| {
            let mut head = vec![0x82, 0xff];
            head.extend_from_slice(&len.to_be_bytes());
            head
        };
        for (wire, error, code) in [
            (frame(0xc1, b"x"), ReservedBits, 1002),
            (frame(0x83, b"x"), ReservedOpcode { opcode: 3 }, 1002),
            (frame(0x8f, b""), ReservedOpcode { opcode: 15 }, 1002),
            (vec![0x81, 1, b'x'], Unmasked, 1002),
            (vec![0x82, 0xfe, 0, 125], LengthNotMinimal, 1002),
            (huge_head(1 << 63), LengthTopBit, 1002),
            (frame(0x09, b""), ControlFragmented, 1002),
            (frame(0x89, &[0; 126]), ControlTooLong, 1002),
            (frame(0x80, b"x"), ContinuationUnexpected, 1002),
            (
                [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
                ContinuationMissing,
                1002,
            ),
            (frame(0x88, b"\x03"), CloseTruncated, 1002),
            (frame(0x88, b"\x03\xed"), CloseCode { code: 1005 }, 1002),
            (frame(0x88, b"\x03\xe8\xff"), InvalidUtf8, 1007),
            (frame(0x81, b"\xff"), InvalidUtf8, 1007),
            (
                [frame(0x01, b"\xe2"), frame(0x80, b"")].concat(),
                InvalidUtf8,
                1007,
            ),
            (
                [huge_head((1 << 63) - 1), KEY.to_vec()].concat(),
                FrameTooLong,
                1009,
            ),
            (
                [frame(0x02, &[0; 1000]), frame(0x02, b"")].concat(),
                ContinuationMissing,
                1002,
            ),
        ] {
            for_each_split(&wire, |parts| {
                assert_eq!(read(parts), (Vec::new(), Some(error)));
            });
            assert_eq!(error.close_code(), code);
        }
    }

    #[test]
    fn the_message_limit_counts_all_fragments() {
        let full = [frame(0x02, &[1; 1000]), frame(0x80, &[2; 1000])].concat();
        let (events, error) = read(&[&full]);
        assert_eq!(error, None);
        assert_eq!(events, [Event::Binary([[1; 1000], [2; 1000]].concat())]);

        // One byte more is refused by its head alone.
        let head = [
            frame(0x02, &[1; 1000]),
            frame(0x00, &[2; 1000]),
            vec![0x80, 0x81, 0, 0, 0, 0],
        ];
        assert_eq!(
            read(&[&head.concat()]).1,
            Some(ProtocolError::MessageTooLong)
        );
        assert_eq!(
            read(&[&frame(0x82, &[0; 1001])]).1,
            Some(ProtocolError::FrameTooLong)
        );
    }

    #[test]
    fn an_announced_length_allocates_nothing() {
        let mut reader = Reader::new(ReaderLimits {
            frame_bytes_max: u64::MAX,
            message_bytes_max: u64::MAX,
        });
        let mut head = vec![0x82, 0xff];
        head.extend_from_slice(&(1u64 << 62).to_be_bytes());
        head.extend_from_slice(&KEY);
        head.extend_from_slice(&[0; 10]);
        assert_eq!(reader.next(&mut &head[..]), Ok(None));
        let message = reader.message.as_ref().unwrap();
        assert_eq!(message.bytes.len(), 10);
        assert!(message.bytes.capacity() < 100);
    }

    #[test]
    fn nothing_is_kept_between_messages_and_messages_have_no_slack() {
        let mut reader = Reader::new(ReaderLimits {
            frame_bytes_max: 1 << 20,
            message_bytes_max: 1 << 20,
        });
        let wire = [frame(0x82, &vec![3; 100_000]), frame(0x89, b"ping")].concat();
        let mut got = Vec::new();
        for mut part in wire.chunks(777) {
            while let Some(event) = reader.next(&mut part).unwrap() {
                got.push(event);
            }
        }
        let [Event::Binary(bytes), Event::Ping(_)] = &got[..] else {
            panic!("{} events", got.len());
        };
        assert_eq!((bytes.len(), bytes.capacity()), (100_000, 100_000));
        assert!(reader.message.is_none());
        assert_eq!(reader.control.capacity(), 0);
    }

    #[test]
    fn text_fails_at_the_byte_that_proves_it_wrong() {
        // Autobahn 6.4: U+110000 is hopeless at its second byte.
        let mut reader = Reader::new(LIMITS);
        let mut wire = frame(0x01, b"\xce\xba\xe1\xbd\xb9\xf4");
        wire.extend(frame(0x00, b"\x90\x80\x80"));
        let proof = wire.len() - 2;
        for at in 0..proof - 1 {
            assert_eq!(reader.next(&mut &wire[at..=at]), Ok(None));
        }
        let last = &wire[proof - 1..proof];
        assert_eq!(reader.next(&mut &last[..]), Err(ProtocolError::InvalidUtf8));
    }

    #[test]
    fn a_failed_reader_stays_failed() {
        let mut reader = Reader::new(LIMITS);
        let error = Err(ProtocolError::ReservedBits);
        assert_eq!(reader.next(&mut &b"\xf1"[..]), error);
        assert_eq!(reader.next(&mut &frame(0x81, b"fine")[..]), error);
    }

    #[test]
    fn random_messages_come_back_whole_whatever_their_fragments_and_cuts() {
        for seed in 0..300 {
            let mut chance = Chance::new(seed);
            let mut wire = Vec::new();
            let mut expected = Vec::new();
            for _ in 0..chance.below(8) {
                let len = [0, 5, 125, 126, 900][chance.below(5)];
                let is_text = chance.below(2) == 0;
                let payload = if is_text {
                    "aé€\u{1f600}"
                        .chars()
                        .cycle()
                        .take(len / 3)
                        .collect::<String>()
                        .into_bytes()
                } else {
                    chance.bytes(len)
                };
                let mut first = if is_text { 0x01 } else { 0x02 };
                let mut rest = &payload[..];
                loop {
                    let (piece, tail) = rest.split_at(chance.below(rest.len() + 1));
                    rest = tail;
                    let last = rest.is_empty();
                    let fin = if last { 0x80 } else { 0 };
                    wire.extend(masked(first | fin, chance.key(), piece));
                    first = 0;
                    if last {
                        break;
                    }
                    if chance.below(3) == 0 {
                        let len = chance.below(126);
                        let ping = chance.bytes(len);
                        wire.extend(masked(0x89, chance.key(), &ping));
                        expected.push(Event::Ping(ping));
                    }
                }
                expected.push(if is_text {
                    Event::Text(String::from_utf8(payload).unwrap())
                } else {
                    Event::Binary(payload)
                });
            }
            let mut parts = Vec::new();
            let mut rest = &wire[..];
            while !rest.is_empty() {
                let (part, tail) = rest.split_at(1 + chance.below(rest.len().min(300)));
                parts.push(part);
                rest = tail;
            }
            assert_eq!(read(&parts), (expected, None), "seed {seed}");
        }
    }
}
