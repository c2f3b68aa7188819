//! The same bytes, judged by `tungstenite` and by this module.
//!
//! Frames are whole and well formed in their lengths, since there the two
//! differ on purpose: tungstenite takes lengths in long forms and does not know
//! close code 1014.

use super::close::{write_close, write_echo};
use super::frame::{Opcode, write_frame};
use super::message::{Event, Reader, ReaderLimits};
use super::testing::{masked, random_bytes, random_key};
use crate::wire::testing::Rng;
use std::io::{self, Cursor, Read, Write};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket, error::ProtocolError as TheirError};

const LIMITS: ReaderLimits = ReaderLimits {
    frame_bytes_max: 600,
    message_bytes_max: 900,
};

/// Input from a slice; what is written is thrown away.
struct Peer<'a>(Cursor<&'a [u8]>);

impl Read for Peer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Peer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, PartialEq)]
enum Outcome {
    /// The bytes are used up, or a Close was read.
    Ended,
    Refused,
}

fn theirs(wire: &[u8], role: Role) -> (Vec<Message>, Outcome) {
    let config = WebSocketConfig::default()
        .max_frame_size(Some(LIMITS.frame_bytes_max as usize))
        .max_message_size(Some(LIMITS.message_bytes_max as usize));
    let mut socket = WebSocket::from_raw_socket(Peer(Cursor::new(wire)), role, Some(config));
    let mut messages = Vec::new();
    loop {
        match socket.read() {
            // Its way to say that the code is not allowed.
            Ok(Message::Close(Some(frame))) if frame.reason == "Protocol violation" => {
                return (messages, Outcome::Refused);
            }
            Ok(message @ Message::Close(_)) => {
                messages.push(message);
                return (messages, Outcome::Ended);
            }
            Ok(message) => messages.push(message),
            Err(Error::Protocol(TheirError::ResetWithoutClosingHandshake)) => {
                return (messages, Outcome::Ended);
            }
            Err(Error::Io(error)) => panic!("{error}"),
            Err(_) => return (messages, Outcome::Refused),
        }
    }
}

fn ours(wire: &[u8]) -> (Vec<Message>, Outcome) {
    let mut reader = Reader::new(LIMITS);
    let mut input = wire;
    let mut messages = Vec::new();
    loop {
        messages.push(match reader.next(&mut input) {
            Ok(Some(Event::Text(text))) => Message::Text(text.into()),
            Ok(Some(Event::Binary(bytes))) => Message::Binary(bytes.into()),
            Ok(Some(Event::Ping(payload))) => Message::Ping(payload.into()),
            Ok(Some(Event::Pong(payload))) => Message::Pong(payload.into()),
            Ok(Some(Event::Close(close))) => {
                Message::Close(close.map(|close| tungstenite::protocol::CloseFrame {
                    code: close.code.into(),
                    reason: close.reason.into(),
                }))
            }
            Ok(None) => return (messages, Outcome::Ended),
            Err(_) => return (messages, Outcome::Refused),
        });
    }
}

/// A client's frames, most of them in order.
fn conversation(rng: &mut Rng) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut open = false;
    for _ in 0..1 + rng.below(8) {
        let usual = match rng.below(6) {
            0 => 0x89,
            1 => 0x8a,
            2 if rng.below(4) == 0 => 0x88,
            _ => {
                let opcode = if open { 0 } else { 1 + rng.below(2) as u8 };
                open = rng.below(2) == 0;
                opcode | if open { 0 } else { 0x80 }
            }
        };
        let first = match rng.below(25) {
            0 => rng.next() as u8,
            1 => usual ^ 0x80,
            _ => usual,
        };
        let payload = if first & 0x0f == 8 {
            let code = [
                999, 1000, 1004, 1005, 1007, 1011, 1013, 1015, 1016, 2999, 3000, 4999, 5000,
            ][rng.below(13)];
            let whole = [&u16::to_be_bytes(code)[..], "é!".as_bytes()].concat();
            whole[..rng.below(whole.len() + 1)].to_vec()
        } else if usual & 0x08 != 0 {
            let len = [0, 4, 125, 125, 126][rng.below(5)];
            random_bytes(rng, len)
        } else {
            let len = [0, 3, 10, 126, 599, 600, 601][rng.below(7)];
            match rng.below(4) {
                0 => random_bytes(rng, len),
                1 => "aé€\u{1f600}".bytes().cycle().take(len).collect(),
                _ => vec![b'a'; len],
            }
        };
        let mut frame = masked(first, random_key(rng), &payload);
        if rng.below(60) == 0 {
            frame[1] &= 0x7f;
        }
        wire.extend(frame);
    }
    wire
}

#[test]
fn both_read_the_same_events_and_refuse_the_same_input() {
    let (mut ended, mut refused) = (0, 0);
    for seed in 0..30_000 {
        let wire = conversation(&mut Rng(seed));
        let expected = theirs(&wire, Role::Server);
        match expected.1 {
            Outcome::Ended => ended += 1,
            Outcome::Refused => refused += 1,
        }
        assert_eq!(ours(&wire), expected, "seed {seed}: {wire:02x?}");
    }
    // Both kinds must be plenty, or the comparison says little.
    assert!(
        ended > 5000 && refused > 5000,
        "{ended} ended, {refused} refused"
    );
}

#[test]
fn what_the_server_writes_is_what_a_client_reads() {
    let mut wire = Vec::new();
    let mut expected = Vec::new();
    for len in [0, 1, 125, 126, 127, 599, 600] {
        write_frame(Opcode::Binary, &vec![9; len], &mut wire);
        expected.push(Message::binary(vec![9; len]));
        write_frame(Opcode::Text, "x".repeat(len).as_bytes(), &mut wire);
        expected.push(Message::text("x".repeat(len)));
    }
    write_frame(Opcode::Ping, b"", &mut wire);
    expected.push(Message::Ping(Default::default()));
    write_frame(Opcode::Pong, &[1; 125], &mut wire);
    expected.push(Message::Pong(vec![1; 125].into()));
    let close = tungstenite::protocol::CloseFrame {
        code: 4008.into(),
        reason: "overtaken".into(),
    };
    let mut with_close = wire.clone();
    write_close(4008, "overtaken", &mut with_close);
    write_echo(None, &mut wire);

    for (wire, close) in [(with_close, Some(close)), (wire, None)] {
        let mut expected = expected.clone();
        expected.push(Message::Close(close));
        assert_eq!(theirs(&wire, Role::Client), (expected, Outcome::Ended));
    }
}
