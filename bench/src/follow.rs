//! Many followers of one log on one thread: opens them, reads them, accounts for losses.
//!
//! In: sockets of `GET .../logs?follow=true`. Out: entries, and per follower what arrived
//! and what did not. Knows no scenario.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use base64::Engine;

use crate::chunked::ChunkDecoder;
use crate::http::{Body, parse_head, request};
use crate::payload::{RECORD, offset_of};
use crate::poll::Poll;
use crate::sse::{Entry, Event, EventDecoder};
use crate::trouble::{During, Result, Trouble};

/// Bytes read from one socket in one turn.
const READ_BYTES: usize = 256 * 1024;
/// Base64 characters that decode to two whole records (33 bytes).
const PROBE: usize = 44;

/// What one follower got.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    /// Entries received.
    pub(crate) entries: u64,
    /// Decoded bytes received.
    pub(crate) bytes: u64,
    /// Sequence numbers that were skipped.
    pub(crate) skipped: u64,
    /// Entries that came out of order or twice.
    pub(crate) repeated: u64,
    /// `gap` events.
    pub(crate) gaps: u64,
    /// Bytes missing in front of what arrived, by the records' own numbers.
    pub(crate) bytes_skipped: u64,
    /// Entries whose place in the stream was not the expected one and went backwards.
    pub(crate) misplaced: u64,
    last_sequence: Option<u64>,
    /// Stream offset behind the last byte that arrived or was found missing.
    pub(crate) offset: u64,
}

impl Tally {
    /// Accounts for one entry by its sequence number.
    fn count(&mut self, entry: &Entry<'_>) {
        match self.last_sequence {
            Some(last) if entry.sequence <= last => self.repeated += 1,
            Some(last) => self.skipped += entry.sequence - last - 1,
            None => {}
        }
        self.last_sequence = Some(entry.sequence);
        self.entries += 1;
        self.bytes += entry.bytes;
    }

    /// Accounts for one entry of a burst by the record numbers in its content.
    pub(crate) fn place(&mut self, entry: &Entry<'_>) {
        if entry.bytes >= 2 * RECORD as u64 {
            let mut piece = [0; PROBE];
            let text = &entry.data[..entry.data.len().min(PROBE)];
            let decoded = base64::engine::general_purpose::STANDARD.decode_slice(text, &mut piece);
            match decoded.ok().and_then(|count| offset_of(&piece[..count])) {
                Some(offset) if offset >= self.offset => {
                    self.bytes_skipped += offset - self.offset;
                    self.offset = offset;
                }
                _ => self.misplaced += 1,
            }
        }
        self.offset += entry.bytes;
    }
}

struct Follower {
    stream: TcpStream,
    chunks: ChunkDecoder,
    events: EventDecoder,
    tally: Tally,
    ended: bool,
}

/// A set of followers.
pub(crate) struct Followers {
    poll: Poll,
    members: Vec<Follower>,
    buffer: Vec<u8>,
    ready: Vec<usize>,
}

impl Followers {
    /// An empty set.
    pub(crate) fn new() -> Result<Followers> {
        Ok(Followers {
            poll: Poll::new()?,
            members: Vec::new(),
            buffer: vec![0; READ_BYTES],
            ready: Vec::new(),
        })
    }

    /// Adds a follower of `path` (a log path with its query) and waits for its head.
    pub(crate) fn open(&mut self, address: SocketAddr, path: &str) -> Result<()> {
        self.ask(address, &request("GET", path, b""))
    }

    /// Adds whoever asks this, which is answered with events, and waits for its head.
    pub(crate) fn ask(&mut self, address: SocketAddr, request: &[u8]) -> Result<()> {
        let mut stream = TcpStream::connect(address).during("connect a follower")?;
        stream.set_nodelay(true).during("set nodelay")?;
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .during("set the read timeout")?;
        stream.write_all(request).during("ask to follow")?;
        let mut filled = 0;
        let head = loop {
            match stream
                .read(&mut self.buffer[filled..])
                .during("read a follower's head")?
            {
                0 => {
                    return Err(Trouble::Protocol(
                        "a follow request was closed unanswered".into(),
                    ));
                }
                count => filled += count,
            }
            if let Some(head) = parse_head(&self.buffer[..filled])? {
                break head;
            }
        };
        if head.status == 503 {
            return Err(Trouble::Unavailable("no further follower (503)".into()));
        }
        if head.status != 200 || head.body != Body::Chunked {
            return Err(Trouble::Protocol(format!(
                "a follow request was answered {}",
                head.status
            )));
        }
        stream.set_nonblocking(true).during("set nonblocking")?;
        self.poll.add(&stream, self.members.len())?;
        let mut member = Follower {
            stream,
            chunks: ChunkDecoder::new(),
            events: EventDecoder::default(),
            tally: Tally::default(),
            ended: false,
        };
        member.feed(&self.buffer[head.bytes..filled], 0, &mut |_, _, _| ())?;
        self.members.push(member);
        Ok(())
    }

    /// Waits up to `timeout`, reads whoever is ready, and hands each entry to `on_entry`
    /// with its follower's number. Returns the bytes received.
    pub(crate) fn pump(
        &mut self,
        timeout: Duration,
        on_entry: &mut dyn FnMut(usize, &mut Tally, &Entry<'_>),
    ) -> Result<usize> {
        self.poll.wait(timeout, &mut self.ready)?;
        let mut received = 0;
        for &number in &self.ready {
            let member = &mut self.members[number];
            match member.stream.read(&mut self.buffer) {
                Ok(0) => {
                    member.ended = true;
                    self.poll.remove(&member.stream)?;
                }
                Ok(count) => {
                    received += count;
                    member.feed(&self.buffer[..count], number, on_entry)?;
                    if member.ended {
                        self.poll.remove(&member.stream)?;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).during("read a follower"),
            }
        }
        Ok(received)
    }

    /// Pumps until `done` says so, or until nothing has arrived for `idle`.
    /// Returns when the last byte arrived.
    pub(crate) fn pump_until(
        &mut self,
        idle: Duration,
        done: impl Fn(&Followers) -> bool,
        on_entry: &mut dyn FnMut(usize, &mut Tally, &Entry<'_>),
    ) -> Result<Instant> {
        let mut last = Instant::now();
        while !done(self) && last.elapsed() < idle {
            if self.pump(Duration::from_millis(50), on_entry)? > 0 {
                last = Instant::now();
            }
        }
        Ok(last)
    }

    /// How many followers there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Every follower's account.
    pub(crate) fn tallies(&self) -> impl Iterator<Item = &Tally> + Clone {
        self.members.iter().map(|member| &member.tally)
    }
}

impl Follower {
    fn feed(
        &mut self,
        input: &[u8],
        number: usize,
        on_entry: &mut dyn FnMut(usize, &mut Tally, &Entry<'_>),
    ) -> Result<()> {
        let Follower {
            chunks,
            events,
            tally,
            ..
        } = self;
        let mut outcome = Ok(());
        chunks.feed(input, &mut |data| {
            let fed = events.feed(data, &mut |event| match event {
                Event::Log(entry) => {
                    tally.count(&entry);
                    on_entry(number, tally, &entry);
                }
                Event::Gap => tally.gaps += 1,
                Event::Exit => {}
            });
            if outcome.is_ok() {
                outcome = fed;
            }
        })?;
        self.ended = self.ended || self.chunks.ended();
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_sequence_numbers_are_losses() {
        let mut tally = Tally::default();
        for sequence in [3, 4, 9, 9] {
            tally.count(&Entry {
                sequence,
                data: b"aGkK",
                bytes: 3,
            });
        }
        assert_eq!(
            (tally.entries, tally.bytes, tally.skipped, tally.repeated),
            (4, 12, 4, 1)
        );
    }

    #[test]
    fn bytes_missing_within_a_burst_are_counted() {
        let text: Vec<u8> = (0..8)
            .flat_map(|n| format!("{n:015}\n").into_bytes())
            .collect();
        let encode = |piece: &[u8]| base64::engine::general_purpose::STANDARD.encode(piece);
        let mut tally = Tally::default();
        for range in [0..32, 70..128] {
            let data = encode(&text[range.clone()]);
            tally.place(&Entry {
                sequence: 1,
                data: data.as_bytes(),
                bytes: range.len() as u64,
            });
        }
        assert_eq!(
            (tally.bytes_skipped, tally.offset, tally.misplaced),
            (38, 128, 0)
        );
    }
}
