//! WebSocket clients of terminals (RFC 6455): one thread, any number of them.
//!
//! In: keys to type. Out: the terminal's output bytes, counted. Frames to the server are
//! masked with a key of zero, which is the cheapest valid mask for the generator.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::http::parse_head;
use crate::poll::Poll;
use crate::trouble::{During, Result, Trouble};

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const MASK_BIT: u8 = 0x80;
const FINAL_BIT: u8 = 0x80;

/// Splits a byte stream into frame payloads, at any split of the input.
#[derive(Default)]
pub(crate) struct FrameDecoder {
    head: Vec<u8>,
    opcode: u8,
    left: u64,
    in_payload: bool,
}

impl FrameDecoder {
    /// Decodes `input`; `part` gets the opcode and a piece of the payload.
    pub(crate) fn feed(&mut self, mut input: &[u8], part: &mut impl FnMut(u8, &[u8])) {
        while !input.is_empty() {
            if self.in_payload {
                let take = usize::try_from(self.left)
                    .unwrap_or(usize::MAX)
                    .min(input.len());
                part(self.opcode, &input[..take]);
                input = &input[take..];
                self.left -= take as u64;
                self.in_payload = self.left > 0;
                continue;
            }
            self.head.push(input[0]);
            input = &input[1..];
            let Some(length) = payload_length(&self.head) else {
                continue;
            };
            // A continuation frame keeps the opcode of the frame it continues.
            if self.head[0] & 0x0f != 0 {
                self.opcode = self.head[0] & 0x0f;
            }
            self.head.clear();
            self.left = length;
            self.in_payload = length > 0;
            if length == 0 {
                part(self.opcode, &[]);
            }
        }
    }
}

/// The payload's length, once the head of an unmasked frame is complete.
fn payload_length(head: &[u8]) -> Option<u64> {
    match (head.get(1)? & 0x7f, head.len()) {
        (126, 4) => Some(u64::from(u16::from_be_bytes([head[2], head[3]]))),
        (127, 10) => Some(
            head[2..]
                .iter()
                .fold(0, |value, byte| value << 8 | u64::from(*byte)),
        ),
        (length @ 0..=125, 2) => Some(u64::from(length)),
        _ => None,
    }
}

/// A masked frame of up to 125 bytes.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![
        FINAL_BIT | opcode,
        MASK_BIT | payload.len().min(125) as u8,
        0,
        0,
        0,
        0,
    ];
    bytes.extend_from_slice(&payload[..payload.len().min(125)]);
    bytes
}

struct Terminal {
    stream: TcpStream,
    frames: FrameDecoder,
    output: u64,
    closed: bool,
}

/// A set of attached terminals.
pub(crate) struct Terminals {
    poll: Poll,
    members: Vec<Terminal>,
    buffer: Vec<u8>,
    ready: Vec<usize>,
}

impl Terminals {
    /// An empty set.
    pub(crate) fn new() -> Result<Terminals> {
        Ok(Terminals {
            poll: Poll::new()?,
            members: Vec::new(),
            buffer: vec![0; 256 * 1024],
            ready: Vec::new(),
        })
    }

    /// How many terminals there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Attaches to the terminal at `path` and waits for the server's `ready` frame.
    /// Output from before the attach is not asked for.
    pub(crate) fn attach(&mut self, address: SocketAddr, path: &str) -> Result<()> {
        let mut stream = TcpStream::connect(address).during("connect a terminal")?;
        stream.set_nodelay(true).during("set nodelay")?;
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .during("set the read timeout")?;
        let request = format!(
            "GET {path}/terminal/ws?replay=none HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAECAwQFBgcICQoLDA0ODw==\r\n\r\n"
        );
        stream
            .write_all(request.as_bytes())
            .during("ask for a terminal")?;
        let mut filled = 0;
        let head = loop {
            match stream
                .read(&mut self.buffer[filled..])
                .during("read a terminal's head")?
            {
                0 => return Err(Trouble::Protocol("an upgrade was closed unanswered".into())),
                count => filled += count,
            }
            if let Some(head) = parse_head(&self.buffer[..filled])? {
                break head;
            }
        };
        match head.status {
            101 => {}
            501 => return Err(Trouble::Unavailable("terminal/ws answers 501".into())),
            status => {
                return Err(Trouble::Protocol(format!(
                    "an upgrade was answered {status}"
                )));
            }
        }
        let mut member = Terminal {
            stream,
            frames: FrameDecoder::default(),
            output: 0,
            closed: false,
        };
        let mut ready = false;
        let mut note = |opcode: u8, _: &[u8]| ready = ready || opcode == TEXT;
        member
            .frames
            .feed(&self.buffer[head.bytes..filled], &mut note);
        while !ready {
            let count = member
                .stream
                .read(&mut self.buffer)
                .during("wait for a terminal's ready frame")?;
            if count == 0 {
                return Err(Trouble::Protocol(
                    "a terminal closed before its ready frame".into(),
                ));
            }
            member.frames.feed(&self.buffer[..count], &mut |opcode, _| {
                ready = ready || opcode == TEXT
            });
        }
        member
            .stream
            .set_nonblocking(true)
            .during("set nonblocking")?;
        self.poll.add(&member.stream, self.members.len())?;
        self.members.push(member);
        Ok(())
    }

    /// Types one character.
    pub(crate) fn press(&mut self, number: usize, key: char) -> Result<()> {
        let text = format!(r#"{{"type":"input","data":"{key}"}}"#);
        self.members[number]
            .stream
            .write_all(&frame(TEXT, text.as_bytes()))
            .during("type a key")
    }

    /// Waits up to `timeout` and reads whoever is ready; `on_output` gets the terminal's
    /// number and how many bytes of output came. Returns the bytes of all.
    pub(crate) fn pump(
        &mut self,
        timeout: Duration,
        on_output: &mut dyn FnMut(usize, u64),
    ) -> Result<u64> {
        self.poll.wait(timeout, &mut self.ready)?;
        let mut received = 0;
        for &number in &self.ready {
            let member = &mut self.members[number];
            let count = match member.stream.read(&mut self.buffer) {
                Ok(0) => {
                    member.closed = true;
                    self.poll.remove(&member.stream)?;
                    continue;
                }
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error).during("read a terminal"),
            };
            let mut output = 0;
            let mut ping = None;
            member
                .frames
                .feed(&self.buffer[..count], &mut |opcode, part| match opcode {
                    BINARY => output += part.len() as u64,
                    PING => ping = Some(part.to_vec()),
                    CLOSE => member.closed = true,
                    _ => {}
                });
            if let Some(payload) = ping {
                member
                    .stream
                    .write_all(&frame(PONG, &payload))
                    .during("answer a ping")?;
            }
            member.output += output;
            received += output;
            if output > 0 {
                on_output(number, output);
            }
        }
        Ok(received)
    }

    /// Whether any terminal has been closed by the server.
    pub(crate) fn any_closed(&self) -> bool {
        self.members.iter().any(|member| member.closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_decode_the_same_at_every_split() {
        let mut stream = vec![0x82, 3, b'a', b'b', b'c', 0x82, 126, 0, 200];
        stream.extend([b'x'; 200]);
        stream.extend([0x88, 0]);
        for cut in 0..=stream.len() {
            let mut decoder = FrameDecoder::default();
            let (mut output, mut closes) = (Vec::new(), 0);
            for part in [&stream[..cut], &stream[cut..]] {
                decoder.feed(part, &mut |opcode, bytes| match opcode {
                    BINARY => output.extend_from_slice(bytes),
                    _ => closes += 1,
                });
            }
            assert_eq!((output.len(), &output[..4], closes), (203, &b"abcx"[..], 1));
        }
    }
}
