//! A streamed run: its head, and the JSON objects that come one a line.

use std::time::Instant;

use serde_json::Value;

use super::{Conn, Response, Server, WAIT};

/// What streams a run as lines.
pub(crate) const NDJSON: (&str, &str) = ("Accept", "application/x-ndjson");

/// A request to run `body`.
pub(crate) fn run_request(version: &str, headers: &[(&str, &str)], body: &Value) -> String {
    let body = body.to_string();
    let mut head = format!(
        "POST /v1/processes/run HTTP/{version}\r\nHost: localhost\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head + "\r\n" + &body
}

/// A stream of lines that is being read.
pub(crate) struct Lines {
    conn: Conn,
    pub(crate) head: Response,
    text: Vec<u8>,
    taken: usize,
    ended: bool,
}

impl Lines {
    /// Runs `body`, which must be started.
    #[track_caller]
    pub(crate) fn run(server: &Server, body: &Value) -> Self {
        Self::over(server.conn(), body)
    }

    /// The same on a connection that is there.
    #[track_caller]
    pub(crate) fn over(mut conn: Conn, body: &Value) -> Self {
        conn.send(run_request("1.1", &[NDJSON], body));
        let head = conn.head(WAIT).expect("a head").expect(200);
        assert_eq!(head.header("content-type"), Some("application/x-ndjson"));
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
        Self {
            conn,
            head,
            text: Vec::new(),
            taken: 0,
            ended: false,
        }
    }

    /// The next line; `None` at the clean end.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<Value> {
        let until = Instant::now() + WAIT;
        loop {
            let rest = &self.text[self.taken..];
            if let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                let line = serde_json::from_slice(&rest[..at]).expect("JSON in a line");
                self.taken += at + 1;
                return Some(line);
            }
            if self.ended {
                assert!(rest.is_empty(), "the stream ended inside a line: {rest:?}");
                return None;
            }
            self.text.drain(..self.taken);
            self.taken = 0;
            match self.conn.chunk(until) {
                Some(chunk) => self.text.extend_from_slice(&chunk),
                None => self.ended = true,
            }
        }
    }

    /// The `start`; gives the process id.
    #[track_caller]
    pub(crate) fn start(&mut self) -> i32 {
        let start = self.next().expect("a start");
        assert_eq!(start["type"], "start", "{start}");
        i32::try_from(start["pid"].as_i64().expect("a pid")).expect("a pid")
    }

    /// Everything up to the clean end.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// The `exit`, which must be the last of `lines`.
    #[track_caller]
    pub(crate) fn exit(&mut self) -> Value {
        let mut rest = self.rest();
        let exit = rest.pop().expect("an exit");
        assert_eq!(exit["type"], "exit", "{exit}");
        exit
    }

    /// The connection, to end it in the middle or to go on with after the end.
    pub(crate) fn into_conn(self) -> Conn {
        self.conn
    }

    /// The connection, while the stream is under way.
    pub(crate) fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }
}

/// The text of one stream in these lines, in order.
pub(crate) fn text_of(lines: &[Value], stream: &str) -> String {
    let of = lines.iter().filter(|line| line["type"] == stream);
    let bytes: Vec<u8> = of
        .flat_map(|line| match line["encoding"].as_str() {
            Some("utf8") => line["data"].as_str().expect("text").as_bytes().to_vec(),
            _ => super::server::entry_bytes(line),
        })
        .collect();
    String::from_utf8(bytes).expect("UTF-8")
}
