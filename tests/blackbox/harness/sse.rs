//! A follower of a log: raw bytes kept, events cut out of them by the contract's shape.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::server::entry_bytes;
use super::{Conn, Response, Server, WAIT};

/// One block of an event stream, or its clean end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    /// `event:` and its other fields.
    Event {
        name: String,
        id: Option<u64>,
        data: String,
        /// The block as sent, with its blank line.
        raw: String,
    },
    /// A comment block, or a place to come back to, as sent.
    Comment(String),
    /// The body ended with its last chunk.
    End,
}

impl Item {
    /// The JSON of an event called `name`.
    #[track_caller]
    pub(crate) fn event(&self, expected: &str) -> Value {
        match self {
            Item::Event { name, data, .. } if name == expected => {
                serde_json::from_str(data).expect("JSON in data")
            }
            other => panic!("expected an event {expected:?}, got {other:?}"),
        }
    }
}

/// An open follow request.
pub(crate) struct Follow {
    conn: Conn,
    pub(crate) head: Response,
    text: Vec<u8>,
    taken: usize,
    ended: bool,
}

impl Follow {
    /// Follows `target`, which must answer with an event stream.
    #[track_caller]
    pub(crate) fn open(server: &Server, target: &str, headers: &[(&str, &str)]) -> Self {
        let mut conn = server.conn();
        let mut head = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n", server.address);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        conn.send(head);
        let head = conn.head(WAIT).expect("a head");
        Self::over(conn, head)
    }

    /// Goes on after a head that was read already.
    #[track_caller]
    pub(crate) fn over(conn: Conn, head: Response) -> Self {
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        assert_eq!(head.header("cache-control"), Some("no-cache"));
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
        assert_eq!(head.header("content-length"), None);
        Self {
            conn,
            head,
            text: Vec::new(),
            taken: 0,
            ended: false,
        }
    }

    /// Follows a process from the start of its retained log.
    #[track_caller]
    pub(crate) fn process(server: &Server, id: &str) -> Self {
        Self::open(server, &format!("/v1/processes/{id}/logs?follow=true"), &[])
    }

    /// The next block, comments included; `None` where `wait` passes in silence.
    #[track_caller]
    pub(crate) fn poll(&mut self, wait: Duration) -> Option<Item> {
        let until = Instant::now() + wait;
        loop {
            let rest = &self.text[self.taken..];
            if let Some(at) = rest.windows(2).position(|w| w == b"\n\n") {
                let raw = String::from_utf8(rest[..at + 2].to_vec()).expect("UTF-8");
                self.taken += at + 2;
                return Some(parse(raw));
            }
            if self.ended {
                assert!(rest.is_empty(), "the stream ended inside a block: {rest:?}");
                return Some(Item::End);
            }
            if !self.conn.chunk_ready(until) {
                return None;
            }
            match self.conn.chunk(until) {
                Some(chunk) => self.text.extend_from_slice(&chunk),
                None => self.ended = true,
            }
        }
    }

    /// The next event or the end; skips comments.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Item {
        let end = Instant::now() + WAIT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.poll(left) {
                Some(Item::Comment(_)) => {}
                Some(item) => return item,
                None => panic!("no event in {WAIT:?}; so far: {}", self.so_far()),
            }
        }
    }

    /// The next `count` events.
    #[track_caller]
    pub(crate) fn take(&mut self, count: usize) -> Vec<Item> {
        (0..count).map(|_| self.next()).collect()
    }

    /// Everything up to the clean end.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<Item> {
        let mut items = Vec::new();
        loop {
            match self.next() {
                Item::End => return items,
                item => items.push(item),
            }
        }
    }

    /// The connection, for what comes after the stream.
    pub(crate) fn conn(&mut self) -> &mut Conn {
        assert!(self.ended, "the stream is still open");
        &mut self.conn
    }

    /// The connection, to end it in the middle.
    pub(crate) fn into_conn(self) -> Conn {
        self.conn
    }

    fn so_far(&self) -> String {
        let text = String::from_utf8_lossy(&self.text);
        text.chars()
            .rev()
            .take(2000)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect()
    }
}

/// The decoded bytes of one stream in the `log` events among `items`, in order.
pub(crate) fn bytes_of(items: &[Item], stream: &str) -> Vec<u8> {
    let entries = items.iter().filter_map(|item| match item {
        Item::Event { name, data, .. } if name == "log" => serde_json::from_str(data).ok(),
        _ => None,
    });
    entries
        .filter(|e: &Value| e["stream"] == stream)
        .flat_map(|e| entry_bytes(&e))
        .collect()
}

/// The sequence numbers of the `log` events among `items`.
pub(crate) fn sequences(items: &[Item]) -> Vec<u64> {
    let id = |item: &Item| match item {
        Item::Event { name, id, .. } if name == "log" => *id,
        _ => None,
    };
    items.iter().filter_map(id).collect()
}

fn parse(raw: String) -> Item {
    if raw.starts_with(':') {
        assert_eq!(
            raw.matches('\n').count(),
            2,
            "a comment of one line: {raw:?}"
        );
        return Item::Comment(raw);
    }
    let (mut name, mut id, mut data) = (None, None, None);
    for line in raw.trim_end_matches('\n').split('\n') {
        let (field, value) = line
            .split_once(": ")
            .expect("a field, a colon and one space");
        let slot = match field {
            "event" => &mut name,
            "id" => &mut id,
            "data" => &mut data,
            _ => panic!("unknown field in {raw:?}"),
        };
        assert!(
            slot.replace(value.to_owned()).is_none(),
            "doubled field in {raw:?}"
        );
    }
    let Some(name) = name else {
        assert!(id.is_some() && data.is_none(), "no event: {raw:?}");
        return Item::Comment(raw);
    };
    let id: Option<u64> = id.map(|id| id.parse().expect("a number"));
    let data = data.expect("data");
    // The exact bytes of the contract's section 9.1, ids only where they belong.
    let id_line = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    assert_eq!(raw, format!("event: {name}\n{id_line}data: {data}\n\n"));
    assert_eq!(
        id.is_some(),
        !matches!(&*name, "gap" | "activity"),
        "an id line belongs to log and exit events only: {raw:?}"
    );
    Item::Event {
        name,
        id,
        data,
        raw,
    }
}
