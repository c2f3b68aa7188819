//! A WebSocket client by hand (RFC 6455): it can also send what no client may.
//!
//! In: a terminal's id, frames or raw bytes to send. Out: what the server sent, frame by
//! frame. Anything that RFC 6455 forbids a server to send fails the test at once.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Conn, Response, Server, WAIT};

/// The key and the accept value of RFC 6455, 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// Something the server sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Got {
    Text(Value),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// Code and reason; no code for an empty Close.
    Close(Option<u16>, String),
    /// The end of the TCP connection.
    End,
}

/// How a terminal session ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ending {
    pub(crate) output: Vec<u8>,
    /// Text frames other than `ready`, in order.
    pub(crate) texts: Vec<Value>,
    pub(crate) close: Option<u16>,
    pub(crate) reason: String,
}

/// An upgraded connection.
#[derive(Debug)]
pub(crate) struct Ws {
    stream: TcpStream,
    ahead: Vec<u8>,
    /// Output behind what `until` was to find.
    unread: Vec<u8>,
    pub(crate) head: Response,
}

/// The path of a terminal, `query` included (`?mode=ro`).
pub(crate) fn path(id: &str, query: &str) -> String {
    format!("/v1/processes/{id}/terminal/ws{query}")
}

/// The headers of a handshake.
pub(crate) const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", KEY),
];

/// One client frame, masked.
pub(crate) fn frame(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut out = vec![opcode | if fin { 0x80 } else { 0 }];
    match payload.len() {
        len @ 0..126 => out.push(0x80 | len as u8),
        len @ 126..65536 => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    out
}

impl Ws {
    /// Asks for an upgrade; the answer where there is none.
    pub(crate) fn ask(
        server: &Server,
        target: &str,
        more: &[(&str, &str)],
    ) -> Result<Self, Response> {
        Self::ask_over(server.conn(), server, target, more)
    }

    /// The same on a connection that is there already.
    pub(crate) fn ask_over(
        mut conn: Conn,
        server: &Server,
        target: &str,
        more: &[(&str, &str)],
    ) -> Result<Self, Response> {
        let mut head = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n", server.address);
        for (name, value) in UPGRADE.iter().chain(more) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        conn.send(head + "\r\n");
        let head = conn.response("GET");
        if head.status != 101 {
            return Err(head);
        }
        assert_eq!(head.header("sec-websocket-accept"), Some(ACCEPT));
        assert_eq!(head.header("sec-websocket-extensions"), None);
        let upgrade = head.header("upgrade").unwrap_or_default();
        assert!(upgrade.eq_ignore_ascii_case("websocket"));
        let connection = head.header("connection").unwrap_or_default();
        assert!(connection.eq_ignore_ascii_case("upgrade"));
        let (stream, ahead) = conn.into_parts();
        Ok(Self {
            stream,
            ahead,
            unread: Vec::new(),
            head,
        })
    }

    /// Attaches to a terminal and takes its `ready`.
    #[track_caller]
    pub(crate) fn attach(server: &Server, id: &str, query: &str) -> Self {
        let ws = Self::ask(server, &path(id, query), &[]);
        let mut ws = ws.expect("an upgrade");
        let ready = Got::Text(json!({"processId": id, "type": "ready"}));
        assert_eq!(ws.next(), ready);
        ws
    }

    /// Sends bytes as they stand; the server may have closed meanwhile.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub(crate) fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.raw(&frame(true, opcode, payload));
    }

    pub(crate) fn json(&mut self, value: &Value) {
        self.send(TEXT, value.to_string().as_bytes());
    }

    /// Types text.
    pub(crate) fn input(&mut self, data: &str) {
        self.json(&json!({"type": "input", "data": data}));
    }

    pub(crate) fn resize(&mut self, cols: u64, rows: u64) {
        self.json(&json!({"type": "resize", "cols": cols, "rows": rows}));
    }

    /// Half-closes: sends nothing more.
    pub(crate) fn finish_writing(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends without a Close.
    pub(crate) fn cut(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Reads until `count` bytes are there: false at the end of the connection before, `None`
    /// where the time passes before.
    fn fill(&mut self, count: usize, until: Instant) -> Option<bool> {
        let mut piece = [0; 65536];
        while self.ahead.len() < count {
            let left = until.saturating_duration_since(Instant::now());
            let left = left.max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut piece) {
                Ok(0) => return Some(false),
                Ok(count) => self.ahead.extend_from_slice(&piece[..count]),
                Err(e) => match e.kind() {
                    io::ErrorKind::ConnectionReset => return Some(false),
                    // A stopped and continued test process (signal(7), receive timeouts).
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return None,
                    _ => panic!("reading a frame: {e}"),
                },
            }
        }
        Some(true)
    }

    /// The next frame; `None` where `wait` passes before it is whole.
    #[track_caller]
    pub(crate) fn poll(&mut self, wait: Duration) -> Option<Got> {
        if !self.unread.is_empty() {
            return Some(Got::Binary(std::mem::take(&mut self.unread)));
        }
        let until = Instant::now() + wait;
        if !self.fill(2, until)? {
            assert!(self.ahead.is_empty(), "the connection ended inside a frame");
            return Some(Got::End);
        }
        let (first, second) = (self.ahead[0], self.ahead[1]);
        assert_eq!(first & 0x70, 0, "reserved bits");
        assert_ne!(first & 0x80, 0, "the server fragments nothing");
        assert_eq!(second & 0x80, 0, "a server frame is not masked");
        let start = match second {
            127 => 10,
            126 => 4,
            _ => 2,
        };
        assert!(
            self.fill(start, until)?,
            "the connection ended inside a head"
        );
        let len = match start {
            2 => usize::from(second),
            _ => self.ahead[2..start]
                .iter()
                .fold(0, |len, byte| len << 8 | usize::from(*byte)),
        };
        let shortest = [0, 126, 65536][start / 4];
        assert!(len >= shortest, "the length is not in its shortest form");
        let whole = self.fill(start + len, until)?;
        assert!(whole, "the connection ended inside a frame");
        let payload = self.ahead[start..start + len].to_vec();
        self.ahead.drain(..start + len);
        Some(parse(first & 0x0f, payload))
    }

    #[track_caller]
    pub(crate) fn next(&mut self) -> Got {
        self.poll(WAIT).expect("a frame in time")
    }

    /// The next frame, which is a text frame of type `error`; gives its message.
    #[track_caller]
    pub(crate) fn error(&mut self) -> String {
        loop {
            match self.next() {
                Got::Binary(_) => {}
                Got::Text(value) => {
                    assert_eq!(value["type"], "error", "{value}");
                    return value["message"].as_str().expect("a message").to_owned();
                }
                other => panic!("no error frame but {other:?}"),
            }
        }
    }

    /// Reads output up to and including `text`; gives it.
    #[track_caller]
    pub(crate) fn until(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        let end = Instant::now() + WAIT;
        loop {
            let mut windows = seen.windows(text.len());
            if let Some(at) = windows.position(|window| window == text.as_bytes()) {
                self.unread = seen.split_off(at + text.len());
                return String::from_utf8(seen).expect("output of text");
            }
            let shown = String::from_utf8_lossy(&seen);
            match self.poll(end.saturating_duration_since(Instant::now())) {
                Some(Got::Binary(data)) => seen.extend(data),
                other => panic!("{other:?} before {text:?}; so far {shown:?}"),
            }
        }
    }

    /// Everything up to the end of the connection; answers the server's Close.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Ending {
        let mut ending = Ending {
            output: Vec::new(),
            texts: Vec::new(),
            close: None,
            reason: String::new(),
        };
        loop {
            match self.next() {
                Got::Binary(data) => {
                    assert!(ending.texts.is_empty() || ending.texts[0]["type"] != "exit");
                    ending.output.extend(data);
                }
                Got::Text(value) => ending.texts.push(value),
                Got::Ping(payload) => self.send(PONG, &payload),
                Got::Pong(_) => {}
                Got::Close(code, reason) => {
                    (ending.close, ending.reason) = (code, reason);
                    let code = code.map(u16::to_be_bytes);
                    self.send(CLOSE, code.as_ref().map_or(&[], |code| &code[..]));
                    assert_eq!(self.next(), Got::End);
                    return ending;
                }
                Got::End => return ending,
            }
        }
    }
}

fn parse(opcode: u8, payload: Vec<u8>) -> Got {
    let text = |payload| String::from_utf8(payload).expect("UTF-8");
    match opcode {
        TEXT => Got::Text(serde_json::from_slice(&payload).expect("JSON in a text frame")),
        BINARY => Got::Binary(payload),
        _ if payload.len() > 125 => panic!("a control frame of {} bytes", payload.len()),
        PING => Got::Ping(payload),
        PONG => Got::Pong(payload),
        CLOSE => match &payload[..] {
            [] => Got::Close(None, String::new()),
            [a, b, reason @ ..] => {
                Got::Close(Some(u16::from_be_bytes([*a, *b])), text(reason.to_vec()))
            }
            _ => panic!("a Close of one byte"),
        },
        _ => panic!("opcode {opcode}"),
    }
}
