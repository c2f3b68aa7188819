//! Finds the end of a request head, byte by byte and resumable.
//!
//! In: a growing slice. Out: where the head starts and ends, or why it is refused.
//! Knows the shape of lines, not what a field means; `head` reads those.
//!
//! Every byte is looked at once, however the peer splits the head, so a head
//! dripped byte by byte costs as much as one that comes whole. A head is refused at
//! its first wrong byte, not when it is complete.

use super::head::{HeadError, HeadLimits};
use crate::wire::prefix;

/// Empty lines tolerated before the request line (RFC 9112, 2.2): some old clients
/// send one after a body.
const LEADING_LINES_MAX: u8 = 2;

/// The longest method that is read to its end; the longest registered one
/// (`UPDATEREDIRECTREF`) has 17 bytes.
const METHOD_BYTES_MAX: usize = 64;

/// Progress of the scan of one head. `Default` is the start of a head.
#[derive(Debug, Default, Clone)]
pub struct HeadScan {
    /// What the next byte may be.
    place: Place,
    /// Bytes of the input already looked at.
    pos: usize,
    /// Where the request line starts, after tolerated empty lines.
    start: usize,
    /// Where the method or the target starts.
    part_start: usize,
    /// Field lines begun.
    lines: usize,
    /// Empty lines seen before the request line.
    leading_lines: u8,
}

impl HeadScan {
    /// Has a byte of the request line been seen? Empty lines before it do not count,
    /// so a connection that got only those is idle.
    #[must_use]
    pub fn started(&self) -> bool {
        !matches!(self.place, Place::Start | Place::StartLf)
    }

    /// Where the request line starts; valid once [`HeadScan::advance`] was `Ok`.
    pub(super) fn start(&self) -> usize {
        self.start
    }
}

/// What the next byte may be.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The first byte of the method, or the CR of an empty line.
    #[default]
    Start,
    StartLf,
    Method,
    Target,
    /// `matched` bytes of the version have been seen.
    Version {
        matched: u8,
    },
    RequestLf,
    /// The first byte of a field line, or the CR of the last, empty one.
    LineStart,
    Name,
    Value,
    LineLf,
    EndLf,
}

impl HeadScan {
    /// Looks at the bytes behind those already seen. `Some(end)` once the head is
    /// complete: its bytes are `input[start..end]`, blank line included.
    pub(super) fn advance(
        &mut self,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<usize>, HeadError> {
        loop {
            let window_end = match self.place {
                Place::Start | Place::StartLf => input.len(),
                _ => input
                    .len()
                    .min(self.start.saturating_add(limits.head_bytes_max)),
            };
            let Some(rest) = input.get(self.pos..window_end) else {
                return Ok(None);
            };
            let Some(&byte) = rest.first() else {
                // The window ends before the input does: the byte at its end is
                // the first one too many.
                return if window_end < input.len() {
                    Err(HeadError::TooLong)
                } else {
                    Ok(None)
                };
            };
            match self.place {
                Place::Start => match byte {
                    b'\r' if self.leading_lines < LEADING_LINES_MAX => {
                        self.step(Place::StartLf);
                    }
                    b'\r' => return Err(HeadError::LeadingLines),
                    b'\n' => return Err(HeadError::BareLf),
                    _ if is_token(byte) => {
                        self.start = self.pos;
                        self.part_start = self.pos;
                        self.place = Place::Method;
                    }
                    _ => return Err(HeadError::MethodByte),
                },
                Place::StartLf => {
                    expect_lf(byte)?;
                    self.leading_lines += 1;
                    self.step(Place::Start);
                }
                Place::Method => {
                    self.pos += rest.iter().take_while(|&&byte| is_token(byte)).count();
                    if self.pos - self.part_start > METHOD_BYTES_MAX {
                        return Err(HeadError::MethodTooLong);
                    }
                    match input.get(self.pos..window_end).and_then(<[u8]>::first) {
                        None => {}
                        Some(b' ') => {
                            self.step(Place::Target);
                            self.part_start = self.pos;
                        }
                        Some(b'\n') => return Err(HeadError::BareLf),
                        Some(_) => return Err(HeadError::MethodByte),
                    }
                }
                Place::Target => {
                    self.skip(rest, |byte| !is_target(byte));
                    let target_len = self.pos - self.part_start;
                    if target_len > limits.target_bytes_max {
                        return Err(HeadError::TargetTooLong);
                    }
                    match input.get(self.pos..window_end).and_then(<[u8]>::first) {
                        None => {}
                        Some(b' ') if target_len > 0 => {
                            self.step(Place::Version { matched: 0 });
                        }
                        Some(b'\n') => return Err(HeadError::BareLf),
                        Some(_) => return Err(HeadError::TargetByte),
                    }
                }
                // The whole rest of the line at once, where it is there.
                Place::Version { matched: 0 }
                    if rest.starts_with(b"HTTP/1.1\r\n") || rest.starts_with(b"HTTP/1.0\r\n") =>
                {
                    self.pos += b"HTTP/1.1\r\n".len();
                    self.place = Place::LineStart;
                }
                Place::Version { matched } => {
                    let fits = match matched {
                        0..=6 => b"HTTP/1.".get(usize::from(matched)) == Some(&byte),
                        7 => matches!(byte, b'0' | b'1'),
                        _ => byte == b'\r',
                    };
                    if !fits {
                        return Err(match byte {
                            b'\n' => HeadError::BareLf,
                            _ => HeadError::Version,
                        });
                    }
                    self.step(match matched {
                        0..=7 => Place::Version {
                            matched: matched + 1,
                        },
                        _ => Place::RequestLf,
                    });
                }
                Place::RequestLf | Place::LineLf => {
                    expect_lf(byte)?;
                    self.step(Place::LineStart);
                }
                Place::LineStart => match byte {
                    b'\r' => self.step(Place::EndLf),
                    b'\n' => return Err(HeadError::BareLf),
                    b' ' | b'\t' => return Err(HeadError::Folded),
                    _ if is_token(byte) => {
                        self.lines += 1;
                        if self.lines > limits.header_lines_max {
                            return Err(HeadError::TooManyLines);
                        }
                        self.step(Place::Name);
                    }
                    _ => return Err(HeadError::NameByte),
                },
                Place::Name => {
                    self.pos += rest.iter().take_while(|&&byte| is_token(byte)).count();
                    match input.get(self.pos..window_end).and_then(<[u8]>::first) {
                        None => {}
                        Some(b':') => self.step(Place::Value),
                        Some(b' ' | b'\t') => return Err(HeadError::SpaceBeforeColon),
                        Some(b'\n') => return Err(HeadError::BareLf),
                        Some(_) => return Err(HeadError::NameByte),
                    }
                }
                Place::Value => {
                    self.skip(rest, |byte| !is_value(byte));
                    match input.get(self.pos..window_end).and_then(<[u8]>::first) {
                        None => {}
                        Some(b'\r') => self.step(Place::LineLf),
                        Some(b'\n') => return Err(HeadError::BareLf),
                        Some(_) => return Err(HeadError::ValueByte),
                    }
                }
                Place::EndLf => {
                    expect_lf(byte)?;
                    return Ok(Some(self.pos + 1));
                }
            }
        }
    }

    /// Takes one byte and goes to `place`.
    fn step(&mut self, place: Place) {
        self.pos += 1;
        self.place = place;
    }

    /// Takes the bytes at the front of `rest` up to one that stops.
    fn skip(&mut self, rest: &[u8], stop: impl Fn(u8) -> bool) {
        self.pos += prefix::len_until(rest, stop);
    }
}

/// A CR was read: only a LF may follow.
fn expect_lf(byte: u8) -> Result<(), HeadError> {
    if byte == b'\n' {
        Ok(())
    } else {
        Err(HeadError::BareCr)
    }
}

/// Is `byte` a `tchar` (RFC 9110, 5.6.2)?
pub(super) fn is_token(byte: u8) -> bool {
    TOKENS[usize::from(byte)]
}

/// Visible ASCII without `#`, which starts a fragment and is never sent (RFC 9112, 3.2).
fn is_target(byte: u8) -> bool {
    byte > b' ' && byte < 0x7f && byte != b'#'
}

/// HTAB, SP, visible ASCII, or `obs-text` (RFC 9110, 5.5).
pub(super) fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

static TOKENS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x7f {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || (byte.is_ascii_punctuation()
                && !matches!(
                    byte,
                    b'"' | b'('
                        | b')'
                        | b','
                        | b'/'
                        | b':'
                        | b';'
                        | b'<'
                        | b'='
                        | b'>'
                        | b'?'
                        | b'@'
                        | b'['
                        | b'\\'
                        | b']'
                        | b'{'
                        | b'}'
                ));
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_is_looked_at_twice() {
        let head = b"\r\nGET /a?b HTTP/1.1\r\nHost: h\r\nX:\r\nY: z\r\n\r\n";
        let limits = HeadLimits::default();
        for step in 1..=head.len() {
            let mut scan = HeadScan::default();
            for end in (0..head.len()).step_by(step) {
                assert_eq!(scan.advance(&head[..end], &limits), Ok(None));
                // The next call starts where this slice ended.
                assert_eq!(scan.pos, end);
            }
            assert_eq!(scan.advance(head, &limits), Ok(Some(head.len())));
        }
    }

    #[test]
    fn tokens_are_those_of_the_rfc() {
        let tokens =
            "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        for byte in 0..=255_u8 {
            assert_eq!(is_token(byte), tokens.as_bytes().contains(&byte), "{byte}");
        }
    }
}
