//! A small blocking HTTP/1.1 client: one keep-alive connection, one request at a time.
//!
//! In: method, path, body. Out: status and body. It reads exactly one answer per request,
//! by `content-length` or chunks, and keeps the connection. Knows no route.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::chunked::ChunkDecoder;
use crate::trouble::{During, Result, Trouble};

/// How long one answer may take before the measurement is given up.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// What an answer's head says about its body.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Body {
    /// Exactly this many bytes.
    Length(usize),
    /// Chunked transfer coding.
    Chunked,
}

/// One answer's head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    /// Status code.
    pub(crate) status: u16,
    /// How the body is framed.
    pub(crate) body: Body,
    /// Bytes of the head, the blank line included.
    pub(crate) bytes: usize,
}

/// Parses an answer's head; `None` while it is incomplete.
///
/// # Errors
/// `Trouble::Protocol` when it is no HTTP answer.
pub(crate) fn parse_head(input: &[u8]) -> Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let status = response
        .parse(input)
        .map_err(|error| Trouble::Protocol(format!("answer head: {error}")))?;
    let httparse::Status::Complete(bytes) = status else {
        return Ok(None);
    };
    let mut body = Body::Length(0);
    for header in response.headers.iter() {
        let text = std::str::from_utf8(header.value).unwrap_or("");
        if header.name.eq_ignore_ascii_case("content-length") {
            let length = text
                .parse()
                .map_err(|_| Trouble::Protocol("content-length".into()))?;
            body = Body::Length(length);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") && text == "chunked" {
            body = Body::Chunked;
        }
    }
    Ok(Some(Head {
        status: response.code.unwrap_or(0),
        body,
        bytes,
    }))
}

/// The bytes of one request.
pub(crate) fn request(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    request_for(method, path, &[], body)
}

/// The same with further header fields.
pub(crate) fn request_for(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if method == "POST" {
        bytes.extend_from_slice(
            format!(
                "content-type: application/json\r\ncontent-length: {}\r\n",
                body.len()
            )
            .as_bytes(),
        );
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// The whole body.
    pub(crate) body: Vec<u8>,
}

/// A keep-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    body: Vec<u8>,
}

impl Connection {
    /// Connects with Nagle's algorithm off.
    pub(crate) fn open(address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(address).during("connect")?;
        stream.set_nodelay(true).during("set nodelay")?;
        stream
            .set_read_timeout(Some(ANSWER_MAX))
            .during("set the read timeout")?;
        Ok(Connection {
            stream,
            buffer: vec![0; 256 * 1024],
            body: Vec::new(),
        })
    }

    /// Sends a prepared request and reads its answer; the body stays in `self.body()`.
    ///
    /// # Errors
    /// `Trouble::Io` when the connection ends first.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> Result<u16> {
        self.send(request)?;
        self.receive()
    }

    /// Sends a prepared request, or a part of one, and reads nothing.
    pub(crate) fn send(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).during("send a request")
    }

    /// Reads the answer to what was sent; the body stays in `self.body()`.
    ///
    /// # Errors
    /// As [`Connection::exchange`].
    pub(crate) fn receive(&mut self) -> Result<u16> {
        self.body.clear();
        let mut filled = 0;
        let head = loop {
            filled += self.fill(filled)?;
            if let Some(head) = parse_head(&self.buffer[..filled])? {
                break head;
            }
            if filled == self.buffer.len() {
                return Err(Trouble::Protocol("answer head too long".into()));
            }
        };
        let first = &self.buffer[head.bytes..filled];
        match head.body {
            Body::Length(length) => {
                self.body.extend_from_slice(first);
                while self.body.len() < length {
                    let count = self.fill(0)?;
                    self.body.extend_from_slice(&self.buffer[..count]);
                }
            }
            Body::Chunked => {
                let mut chunks = ChunkDecoder::new();
                chunks.feed(first, &mut |data| self.body.extend_from_slice(data))?;
                while !chunks.ended() {
                    let count = self.fill(0)?;
                    chunks.feed(&self.buffer[..count], &mut |data| {
                        self.body.extend_from_slice(data)
                    })?;
                }
            }
        }
        Ok(head.status)
    }

    /// The last answer's body.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Sends one request and returns its answer.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
        let status = self.exchange(&request(method, path, body))?;
        Ok(Answer {
            status,
            body: self.body.clone(),
        })
    }

    fn fill(&mut self, at: usize) -> Result<usize> {
        match self
            .stream
            .read(&mut self.buffer[at..])
            .during("read an answer")?
        {
            0 => Err(Trouble::Protocol(
                "the server closed the connection before its answer".into(),
            )),
            count => Ok(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_is_incomplete_until_its_blank_line() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
        for cut in 0..text.len() {
            assert!(parse_head(&text[..cut]).expect("valid so far").is_none());
        }
        let head = parse_head(text).expect("valid").expect("complete");
        assert_eq!(
            (head.status, head.body, head.bytes),
            (200, Body::Length(5), text.len())
        );
    }
}
