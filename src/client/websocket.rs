//! A WebSocket of the client's side (RFC 6455): frames are masked on the way out.
//!
//! One thread reads, one of its own writes what others ask it to: so a server that takes no more
//! input for a while keeps nobody from reading its output.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::rand::{GetRandomFlags, getrandom};

use super::connection::{Breaker, Connection, Socket};
use super::endpoint::Endpoint;
use super::error::{ClientError, Result};
use super::request::Request;
use crate::wire::ws::handshake::accept_value;

/// Bytes of one message, at most.
const MESSAGE_MAX: u64 = 64 << 20;

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
    /// The answer to a ping. Whoever has read that has read all that came before it.
    Pong(Vec<u8>),
    /// The server has said good-bye, with this code.
    Close(u16),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct WebSocket {
    connection: Connection,
    sender: Sender,
    writer: JoinHandle<()>,
}

/// The writing side. Clones write to the same connection, a frame at a time.
#[derive(Clone, Debug)]
pub(crate) struct Sender(mpsc::Sender<Outgoing>);

/// Called when a frame is with the kernel; dropped where it never got there, or not whole, so that
/// nobody has seen it.
pub(super) type Written = Box<dyn FnOnce() + Send>;

struct Outgoing {
    opcode: u8,
    payload: Vec<u8>,
    written: Option<Written>,
}

impl WebSocket {
    pub(super) fn open(
        connection: Connection,
        endpoint: &Endpoint,
        path: &str,
        token: Option<&str>,
    ) -> Result<Self> {
        let key = STANDARD.encode(random::<16>());
        let request = Request::get(path)
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", key.clone());
        let response = request.send_upgrade(connection, endpoint, token)?;
        if response.status() >= 400 {
            return Err(ClientError::Refused(response.problem()?));
        }
        let expected = accept_value(key.as_bytes());
        let accepted = response.header("sec-websocket-accept");
        if response.status() != 101 || accepted.map(str::as_bytes) != Some(&expected) {
            return Err(ClientError::Foreign("it does not upgrade to a WebSocket"));
        }
        let connection = response.into_connection();
        let (sender, outgoing) = mpsc::channel();
        let socket = connection.socket.clone();
        let writer = thread::Builder::new().spawn(move || write_all(socket, &outgoing))?;
        Ok(Self {
            connection,
            sender: Sender(sender),
            writer,
        })
    }

    /// Something to write with from another thread.
    pub(crate) fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Something that ends it from another thread.
    pub(crate) fn breaker(&self) -> Breaker {
        self.connection.breaker()
    }

    /// Ends it. After that nothing more is written: what [`Written`] was told of is all there was.
    /// Senders must be gone by then.
    pub(crate) fn end(self) {
        self.breaker().end();
        drop(self.sender);
        // A writer that panics has said so.
        let _ = self.writer.join();
    }

    /// The next message. Pings are answered on the way.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no WebSocket.
    pub(crate) fn receive(&mut self) -> Result<Message> {
        let mut message = Vec::new();
        let mut kind = None;
        loop {
            let mut head = [0; 2];
            self.fill(&mut head)?;
            let (fin, opcode) = (head[0] & 0x80 != 0, head[0] & 0x0f);
            let len = match head[1] {
                126 => {
                    let mut len = [0; 2];
                    self.fill(&mut len)?;
                    u16::from_be_bytes(len).into()
                }
                127 => {
                    let mut len = [0; 8];
                    self.fill(&mut len)?;
                    u64::from_be_bytes(len)
                }
                // A server does not mask (5.1).
                128.. => return Err(ClientError::Foreign("a masked frame")),
                len => len.into(),
            };
            if head[0] & 0x70 != 0 || len > MESSAGE_MAX - message.len() as u64 {
                return Err(ClientError::Foreign("a frame that nobody asked for"));
            }
            let mut payload = vec![0; usize::try_from(len).unwrap_or(0)];
            self.fill(&mut payload)?;
            match opcode {
                PING => self.sender.frame(PONG, payload, None)?,
                PONG => return Ok(Message::Pong(payload)),
                CLOSE => {
                    let code = payload.first_chunk().copied().map(u16::from_be_bytes);
                    payload.truncate(2);
                    // The echo (5.5.1); the server may be gone already.
                    let _ = self.sender.frame(CLOSE, payload, None);
                    return Ok(Message::Close(code.unwrap_or(1005)));
                }
                0 | TEXT | BINARY if (opcode == 0) == kind.is_some() => {
                    let kind = *kind.get_or_insert(opcode);
                    message.append(&mut payload);
                    if fin {
                        return match kind {
                            TEXT => String::from_utf8(message)
                                .map(Message::Text)
                                .map_err(|_| ClientError::Foreign("text that is no UTF-8")),
                            _ => Ok(Message::Binary(message)),
                        };
                    }
                }
                _ => return Err(ClientError::Foreign("a frame out of order")),
            }
        }
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<()> {
        Ok(self.connection.read_exact(out)?)
    }
}

impl Sender {
    /// Sends text.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(crate) fn text(&self, text: String) -> Result<()> {
        self.frame(TEXT, text.into_bytes(), None)
    }

    /// Sends text, and tells when it is with the kernel.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(crate) fn text_told(&self, text: String, written: Written) -> Result<()> {
        self.frame(TEXT, text.into_bytes(), Some(written))
    }

    /// Asks for a [`Message::Pong`] with the same bytes, at most 125.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(crate) fn ping(&self, payload: Vec<u8>) -> Result<()> {
        self.frame(PING, payload, None)
    }

    fn frame(&self, opcode: u8, payload: Vec<u8>, written: Option<Written>) -> Result<()> {
        let outgoing = Outgoing {
            opcode,
            payload,
            written,
        };
        self.0.send(outgoing).map_err(|_| ClientError::cut())
    }
}

/// Writes until nobody asks for it any more, or the connection breaks; who reads it is told of that.
fn write_all(mut socket: Socket, outgoing: &mpsc::Receiver<Outgoing>) {
    for Outgoing {
        opcode,
        payload,
        written,
    } in outgoing
    {
        if socket.write_all(&masked(opcode, &payload)).is_err() {
            return;
        }
        if let Some(written) = written {
            written();
        }
    }
}

/// A whole frame (5.2).
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(0x80 | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len @ 0..126), _) => frame.push(0x80 | len),
        (_, Ok(len)) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    let key: [u8; 4] = random();
    frame.extend_from_slice(&key);
    let begin = frame.len();
    frame.extend_from_slice(payload);
    crate::wire::ws::mask::apply(&mut frame[begin..], key, 0);
    frame
}

/// Bytes that nobody can foresee (10.3).
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Fails only before the kernel has any, or on kernels that have no such call: a mask that
    // can be foreseen is a weaker protection of proxies, nothing else.
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    bytes
}
