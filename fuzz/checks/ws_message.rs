//! Client bytes: no split changes what is read, limits hold, and tungstenite reads the
//! same messages.

use std::io::{self, Cursor, Read, Write};

use procring::wire::ws::error::ProtocolError;
use procring::wire::ws::message::{Event, Reader, ReaderLimits};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use super::split_point;

/// Small, so that inputs of a few hundred bytes reach them.
const LIMITS: ReaderLimits = ReaderLimits {
    frame_bytes_max: 200,
    message_bytes_max: 300,
};

type Outcome = (Vec<Event>, Option<ProtocolError>);

/// Checks one input, as what a client sent after the handshake.
pub fn ws_message(data: &[u8]) {
    let whole = read(&[data]);
    let (front, back) = data.split_at(split_point(data));
    assert_eq!(read(&[front, back]), whole);
    assert_eq!(read(&data.chunks(1).collect::<Vec<_>>()), whole);

    let (events, error) = whole;
    for event in &events {
        match event {
            Event::Text(text) => assert!(text.len() as u64 <= LIMITS.message_bytes_max),
            Event::Binary(bytes) => assert!(bytes.len() as u64 <= LIMITS.message_bytes_max),
            Event::Ping(payload) | Event::Pong(payload) => assert!(payload.len() <= 125),
            Event::Close(_) => {}
        }
    }
    if let Some(error) = error {
        assert!(matches!(error.close_code(), 1002 | 1007 | 1009));
        assert!(error.to_string().len() <= 123);
    }

    // It takes long forms of a length, and sees an error only when a frame is whole.
    // So what it refuses we refuse, and we read no more than it does.
    let (messages, refused) = tungstenite_reads(data);
    let ours: Vec<Message> = events.into_iter().map(message).collect();
    assert!(messages.starts_with(&ours), "{ours:?} begins {messages:?}");
    if refused {
        assert!(error.is_some());
    }
    if error.is_none() {
        assert_eq!(ours, messages);
    }
}

fn read(parts: &[&[u8]]) -> Outcome {
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
        assert!(input.is_empty());
    }
    (events, None)
}

fn message(event: Event) -> Message {
    match event {
        Event::Text(text) => Message::Text(text.into()),
        Event::Binary(bytes) => Message::Binary(bytes.into()),
        Event::Ping(payload) => Message::Ping(payload.into()),
        Event::Pong(payload) => Message::Pong(payload.into()),
        Event::Close(None) => Message::Close(None),
        // It does not know 1014 and answers it as a violation.
        Event::Close(Some(close)) if close.code == 1014 => violation(),
        Event::Close(Some(close)) => Message::Close(Some(tungstenite::protocol::CloseFrame {
            code: close.code.into(),
            reason: close.reason.into(),
        })),
    }
}

/// What tungstenite reports in place of a Close with a code that is not allowed.
fn violation() -> Message {
    Message::Close(Some(tungstenite::protocol::CloseFrame {
        code: 1002.into(),
        reason: "Protocol violation".into(),
    }))
}

/// The messages, and whether the input was refused.
fn tungstenite_reads(data: &[u8]) -> (Vec<Message>, bool) {
    let config = WebSocketConfig::default()
        .read_buffer_size(512)
        .max_frame_size(Some(LIMITS.frame_bytes_max as usize))
        .max_message_size(Some(LIMITS.message_bytes_max as usize));
    let peer = Peer(Cursor::new(data));
    let mut socket = WebSocket::from_raw_socket(peer, Role::Server, Some(config));
    let mut messages = Vec::new();
    loop {
        match socket.read() {
            Ok(message) => {
                let over = message.is_close();
                messages.push(message);
                if over {
                    return (messages, false);
                }
            }
            Err(Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )) => return (messages, false),
            Err(_) => return (messages, true),
        }
    }
}

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
