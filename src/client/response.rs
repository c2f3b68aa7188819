//! An answer: its head, and its body as it comes (RFC 9112, 6 and 7).

use std::io::{self, BufRead, Read};

use httparse::{EMPTY_HEADER, Status};
use serde_json::Value;

use super::connection::Connection;
use super::error::{ClientError, Problem, Result};

/// Bytes of a head, at most.
const HEAD_MAX: usize = 64 << 10;

/// Lines of a head, at most.
const HEADERS_MAX: usize = 64;

/// Bytes of a JSON answer, at most: a list of all records of a large server.
const JSON_MAX: u64 = 256 << 20;

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// So many bytes.
    Known(u64),
    /// So many of a chunk.
    Chunk(u64),
    /// The size of the next chunk comes now.
    BetweenChunks,
    /// Until the connection closes, which an HTTP/1.0 server does.
    UntilClose,
    /// Nothing.
    Over,
}

/// See the module. Reading it gives the body; an end that comes too early is an error.
#[derive(Debug)]
pub(crate) struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    rest: Rest,
    connection: Connection,
}

impl Response {
    pub(super) fn read(mut connection: Connection, method: &str) -> Result<Self> {
        loop {
            let (status, headers) = read_head(&mut connection)?;
            // 100 Continue and its like come before the answer.
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let mut response = Self {
                status,
                headers,
                rest: Rest::UntilClose,
                connection,
            };
            response.rest = response.framing(method)?;
            return Ok(response);
        }
    }

    fn framing(&self, method: &str) -> Result<Rest> {
        if method == "HEAD" || matches!(self.status, 101 | 204 | 304) {
            return Ok(Rest::Over);
        }
        if let Some(coding) = self.header("transfer-encoding") {
            if !coding.eq_ignore_ascii_case("chunked") {
                return Err(ClientError::Foreign(
                    "a transfer coding that nobody asked for",
                ));
            }
            return Ok(Rest::BetweenChunks);
        }
        match self.header("content-length") {
            Some(length) => match length.parse() {
                Ok(0) => Ok(Rest::Over),
                Ok(length) => Ok(Rest::Known(length)),
                Err(_) => Err(ClientError::Foreign("a length that is no number")),
            },
            None => Ok(Rest::UntilClose),
        }
    }

    /// The status.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// The first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        all.find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
    }

    pub(super) fn into_connection(self) -> Connection {
        self.connection
    }

    /// The whole body, as JSON.
    ///
    /// # Errors
    /// For a body that breaks off, is too long or is no JSON.
    pub(crate) fn json(self) -> Result<Value> {
        serde_json::from_slice(&self.whole()?)
            .map_err(|_| ClientError::Foreign("its answer is no JSON"))
    }

    /// The whole body.
    ///
    /// # Errors
    /// For a body that breaks off or is too long.
    pub(crate) fn whole(mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        (&mut self).take(JSON_MAX).read_to_end(&mut body)?;
        if self.rest != Rest::Over && body.len() as u64 == JSON_MAX {
            return Err(ClientError::Foreign("its answer is too long"));
        }
        Ok(body)
    }

    /// The body of an answer that refuses.
    pub(super) fn problem(self) -> Result<Problem> {
        let status = self.status;
        let body = self.whole()?;
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let text = |key: &str| body[key].as_str().map(str::to_owned);
        let detail = text("detail").unwrap_or_else(|| match status {
            404 | 405 => {
                "the server does not know this; it is the reference, or too old".to_owned()
            }
            _ => format!("the server answers with status {status}"),
        });
        Ok(Problem {
            status,
            detail,
            kind: text("type").and_then(|kind| Some(kind.rsplit(':').next()?.to_owned())),
            code: text("code"),
            path: body["details"]["path"].as_str().map(str::to_owned),
            taken: body["details"]["bytesWritten"].as_u64(),
        })
    }

    /// The next line of the head of a chunk.
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        (&mut self.connection).take(1024).read_line(&mut line)?;
        if !line.ends_with('\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim().to_owned())
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let line = self.line()?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        if size > 0 {
            self.rest = Rest::Chunk(size);
            return Ok(());
        }
        // Trailers, and the empty line behind them.
        while !self.line()?.is_empty() {}
        self.rest = Rest::Over;
        Ok(())
    }
}

impl Read for Response {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        if self.rest == Rest::BetweenChunks {
            self.next_chunk()?;
        }
        let (Rest::Known(left) | Rest::Chunk(left)) = self.rest else {
            return match self.rest {
                Rest::UntilClose => self.connection.read(out),
                _ => Ok(0),
            };
        };
        let room = usize::try_from(left).map_or(out.len(), |left| left.min(out.len()));
        let len = self.connection.read(&mut out[..room])?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let left = left - len as u64;
        self.rest = match (self.rest, left) {
            (Rest::Known(_), 0) => Rest::Over,
            (Rest::Known(_), left) => Rest::Known(left),
            (_, 0) => {
                self.line()?;
                Rest::BetweenChunks
            }
            (_, left) => Rest::Chunk(left),
        };
        Ok(len)
    }
}

fn read_head(connection: &mut Connection) -> Result<(u16, Vec<(String, String)>)> {
    let mut head = Vec::new();
    loop {
        let there = connection.fill_buf()?;
        if there.is_empty() {
            return Err(ClientError::cut());
        }
        let before = head.len();
        head.extend_from_slice(there);
        let used = there.len();
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut headers);
        let status = parsed.parse(&head);
        let foreign = |_| ClientError::Foreign("it does not speak HTTP");
        if let Status::Complete(len) = status.map_err(foreign)? {
            let code = parsed.code.unwrap_or_default();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let headers = parsed.headers.iter();
            let headers = headers.map(|h| (h.name.to_owned(), text(h.value)));
            let headers = headers.collect();
            connection.consume(len - before);
            return Ok((code, headers));
        }
        if head.len() > HEAD_MAX {
            return Err(ClientError::Foreign("its head is too long"));
        }
        connection.consume(used);
    }
}
