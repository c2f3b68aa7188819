//! Decodes the chunked transfer coding (RFC 9112, 7.1) as bytes arrive.
//!
//! In: any split of the body. Out: data slices, in order. Copies nothing.

use crate::trouble::{Result, Trouble};

enum State {
    Size { value: usize },
    Extension { value: usize },
    Data { left: usize },
    DataEnd,
    Trailer { line: usize },
    End,
}

/// The decoder's place in one body.
pub(crate) struct ChunkDecoder {
    state: State,
}

impl ChunkDecoder {
    /// At the front of a body.
    pub(crate) fn new() -> ChunkDecoder {
        ChunkDecoder {
            state: State::Size { value: 0 },
        }
    }

    /// Whether the last chunk and the trailer have been read.
    pub(crate) fn ended(&self) -> bool {
        matches!(self.state, State::End)
    }

    /// Decodes `input`, handing every run of data to `data`.
    ///
    /// # Errors
    /// `Trouble::Protocol` for a size that is no hexadecimal number.
    pub(crate) fn feed(&mut self, mut input: &[u8], data: &mut impl FnMut(&[u8])) -> Result<()> {
        while let Some((&byte, rest)) = input.split_first() {
            match &mut self.state {
                State::Data { left } => {
                    let take = input.len().min(*left);
                    data(&input[..take]);
                    input = &input[take..];
                    *left -= take;
                    if *left == 0 {
                        self.state = State::DataEnd;
                    }
                    continue;
                }
                State::Size { value } => match (byte, char::from(byte).to_digit(16)) {
                    (_, Some(digit)) if *value >> 40 == 0 => {
                        *value = (*value << 4) | digit as usize
                    }
                    (b'\r' | b';', _) => self.state = State::Extension { value: *value },
                    _ => return Err(Trouble::Protocol(format!("byte {byte:#x} in a chunk size"))),
                },
                State::Extension { value } => {
                    if byte == b'\n' {
                        self.state = match *value {
                            0 => State::Trailer { line: 0 },
                            left => State::Data { left },
                        };
                    }
                }
                State::DataEnd => {
                    if byte == b'\n' {
                        self.state = State::Size { value: 0 };
                    }
                }
                State::Trailer { line } => match byte {
                    b'\n' if *line == 0 => self.state = State::End,
                    b'\n' => *line = 0,
                    b'\r' => {}
                    _ => *line += 1,
                },
                State::End => return Err(Trouble::Protocol("bytes behind the last chunk".into())),
            }
            input = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_decodes_the_same_at_every_split() {
        let body = b"3\r\nabc\r\n0a;x=y\r\n0123456789\r\n0\r\nt: 1\r\n\r\n";
        for cut in 0..=body.len() {
            let mut decoder = ChunkDecoder::new();
            let mut out = Vec::new();
            for part in [&body[..cut], &body[cut..]] {
                decoder
                    .feed(part, &mut |data| out.extend_from_slice(data))
                    .expect("valid body");
            }
            assert_eq!(out, b"abc0123456789");
            assert!(decoder.ended());
        }
    }

    #[test]
    fn size_without_digits_is_refused() {
        assert!(ChunkDecoder::new().feed(b"zz\r\n", &mut |_| ()).is_err());
    }
}
