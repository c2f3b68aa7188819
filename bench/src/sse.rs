//! Reads the server-sent events of a follow stream and keeps account of what is missing.
//!
//! In: decoded body bytes, at any split. Out: one [`Entry`] per log event. The account is
//! by sequence number and by decoded bytes; neither needs the base64 text to be decoded.

use crate::trouble::{Result, Trouble};

/// One log entry, borrowed from the receive buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry<'b> {
    /// The entry's sequence number.
    pub(crate) sequence: u64,
    /// Its content, still base64.
    pub(crate) data: &'b [u8],
    /// Bytes it decodes to.
    pub(crate) bytes: u64,
}

/// Splits a body into events, across any split of the input.
#[derive(Default)]
pub(crate) struct EventDecoder {
    carry: Vec<u8>,
    kind: Kind,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Kind {
    #[default]
    Other,
    Log,
    Gap,
    Exit,
}

/// What a line of the stream turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'b> {
    /// A log entry.
    Log(Entry<'b>),
    /// The server says that entries were evicted before this reader got them.
    Gap,
    /// The process is over.
    Exit,
}

impl EventDecoder {
    /// Decodes `input`, handing every complete event's data line to `event`.
    ///
    /// # Errors
    /// `Trouble::Protocol` for a log event that is no entry.
    pub(crate) fn feed(
        &mut self,
        mut input: &[u8],
        event: &mut impl FnMut(Event<'_>),
    ) -> Result<()> {
        while let Some(end) = memchr::memchr(b'\n', input) {
            let (line, rest) = (&input[..end], &input[end + 1..]);
            if self.carry.is_empty() {
                Self::line(&mut self.kind, line, event)?;
            } else {
                self.carry.extend_from_slice(line);
                let result = Self::line(&mut self.kind, &self.carry, event);
                self.carry.clear();
                result?;
            }
            input = rest;
        }
        self.carry.extend_from_slice(input);
        Ok(())
    }

    fn line(kind: &mut Kind, line: &[u8], event: &mut impl FnMut(Event<'_>)) -> Result<()> {
        if let Some(name) = line.strip_prefix(b"event: ") {
            *kind = match name {
                // The second in the stream of a run.
                b"log" | b"stdout" => Kind::Log,
                b"gap" => Kind::Gap,
                b"exit" => Kind::Exit,
                _ => Kind::Other,
            };
        } else if let Some(data) = line.strip_prefix(b"data: ") {
            match kind {
                Kind::Log => event(Event::Log(entry(data)?)),
                Kind::Gap => event(Event::Gap),
                Kind::Exit => event(Event::Exit),
                Kind::Other => {}
            }
        } else if line.is_empty() {
            *kind = Kind::Other;
        }
        Ok(())
    }
}

/// Reads one entry without decoding its content. Key order is part of the contract.
fn entry(json: &[u8]) -> Result<Entry<'_>> {
    let bad = || {
        Trouble::Protocol(format!(
            "entry {:?}",
            String::from_utf8_lossy(&json[..json.len().min(120)])
        ))
    };
    let of_run = json.strip_prefix(br#"{"type":"stdout","#);
    let rest = match of_run {
        Some(rest) => rest.strip_prefix(br#""sequence":"#),
        None => json.strip_prefix(br#"{"sequence":"#),
    };
    let rest = rest.ok_or_else(bad)?;
    let digits = rest
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .ok_or_else(bad)?;
    let sequence = std::str::from_utf8(&rest[..digits])
        .ok()
        .and_then(|t| t.parse().ok())
        .ok_or_else(bad)?;
    let head = &json[..json.len().min(160)];
    let key = br#""data":""#;
    let start = memchr::memmem::find(head, key).ok_or_else(bad)? + key.len();
    let tail = br#"","encoding":"base64"}"#;
    let end = json.len().checked_sub(tail.len()).ok_or_else(bad)?;
    if end < start || !json.ends_with(tail) {
        return Err(bad());
    }
    let data = &json[start..end];
    let padding = data
        .iter()
        .rev()
        .take(2)
        .filter(|byte| **byte == b'=')
        .count();
    Ok(Entry {
        sequence,
        data,
        bytes: (data.len() / 4 * 3).saturating_sub(padding) as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b":\n\nevent: log\nid: 7\ndata: {\"sequence\":7,\"stream\":\"stdout\",\
\"timestampMs\":1,\"data\":\"aGkK\",\"encoding\":\"base64\"}\n\nevent: gap\ndata: {}\n\n";

    #[test]
    fn events_are_the_same_at_every_split() {
        for cut in 0..=STREAM.len() {
            let mut decoder = EventDecoder::default();
            let mut seen = Vec::new();
            for part in [&STREAM[..cut], &STREAM[cut..]] {
                decoder
                    .feed(part, &mut |event| match event {
                        Event::Log(entry) => {
                            seen.push((entry.sequence, entry.data.to_vec(), entry.bytes))
                        }
                        Event::Gap => seen.push((0, Vec::new(), 0)),
                        Event::Exit => {}
                    })
                    .expect("valid stream");
            }
            assert_eq!(seen, [(7, b"aGkK".to_vec(), 3), (0, Vec::new(), 0)]);
        }
    }

    #[test]
    fn padding_is_taken_off_the_decoded_length() {
        let json =
            br#"{"sequence":1,"stream":"pty","timestampMs":1,"data":"aA==","encoding":"base64"}"#;
        assert_eq!(entry(json).expect("valid").bytes, 1);
    }
}
