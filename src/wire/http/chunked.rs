//! The chunked transfer coding (RFC 9112, 7.1), both ways.
//!
//! In: the bytes behind a head, in any pieces. Out: the body, appended to a buffer of
//! the caller. Owns only the state between two pieces. Knows no head; trailers are
//! checked and thrown away.
//!
//! - Lines end with CR LF. White space beside the size or within an extension is
//!   refused, though the RFC lets a recipient skip it: other readers do not, and then
//!   see another request.
//! - What comes beside the data (extensions, trailers) is bounded, so a body costs
//!   bounded work however it is cut.

use super::scan::{is_token, is_value};

/// Bytes of chunk extensions in one body, the semicolons included.
pub const EXTENSION_BYTES_MAX: usize = 4096;

/// Bytes of the trailer section of one body.
pub const TRAILER_BYTES_MAX: usize = 8192;

/// Digits of a chunk size: 64 bits, leading zeros included.
const SIZE_DIGITS_MAX: u8 = 16;

/// Why a chunked body was refused. The connection must be closed after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkError {
    /// A size line begins with something else than a hexadecimal digit.
    SizeMissing,
    /// A size of more than 16 digits.
    SizeOverflow,
    /// A byte behind the size that is neither `;` nor CR.
    SizeByte,
    /// A CR that no LF follows.
    BareCr,
    /// A LF without a CR before it.
    BareLf,
    /// An extension that is not `name`, `name=token` or `name="text"`.
    ExtensionByte,
    /// The extensions passed [`EXTENSION_BYTES_MAX`].
    ExtensionsTooLong,
    /// Data is not followed by CR LF; `found` is the first wrong byte.
    DataUnterminated {
        /// The byte in the place of the CR or LF.
        found: u8,
    },
    /// A trailer line that is no field line (RFC 9112, 5.1).
    TrailerByte,
    /// The trailers passed [`TRAILER_BYTES_MAX`].
    TrailersTooLong,
    /// The sizes announced so far exceed the maximum for a body.
    BodyTooLong,
}

impl ChunkError {
    /// The status to answer with: 413 for a body too long, else 400.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::BodyTooLong => 413,
            _ => 400,
        }
    }
}

impl std::fmt::Display for ChunkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SizeMissing => "chunk without a size",
            Self::SizeOverflow => "chunk size too large",
            Self::SizeByte => "malformed chunk size",
            Self::BareCr => "CR without LF in a chunked body",
            Self::BareLf => "LF without CR in a chunked body",
            Self::ExtensionByte => "malformed chunk extension",
            Self::ExtensionsTooLong => "chunk extensions too long",
            Self::DataUnterminated { .. } => "chunk data longer than its size",
            Self::TrailerByte => "malformed trailer",
            Self::TrailersTooLong => "trailers too long",
            Self::BodyTooLong => "body too long",
        })
    }
}

impl std::error::Error for ChunkError {}

/// What one call of [`ChunkDecoder::decode`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that belong to this body: all of them unless `done`.
    pub used: usize,
    /// The body is complete. What follows in the input is the next request.
    pub done: bool,
}

/// Decodes one chunked body, piece by piece.
#[derive(Debug, Clone)]
pub struct ChunkDecoder {
    place: Place,
    /// Body bytes that may still be announced.
    budget: u64,
    extension_bytes: usize,
    trailer_bytes: usize,
}

/// What the next byte may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Size {
        value: u64,
        digits: u8,
    },
    Extension {
        size: u64,
        part: Part,
    },
    SizeLf {
        size: u64,
    },
    /// At least one byte of data is left.
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// Where in a chunk extension a byte stands (RFC 9112, 7.1.1, without the white space
/// that it calls bad).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    NameStart,
    Name,
    ValueStart,
    Token,
    Quoted,
    Escaped,
    QuotedEnd,
}

/// The first byte of a size line.
const SIZE_START: Place = Place::Size {
    value: 0,
    digits: 0,
};

impl ChunkDecoder {
    /// A decoder for a body of at most `body_bytes_max` decoded bytes.
    #[must_use]
    pub fn new(body_bytes_max: u64) -> Self {
        Self {
            place: SIZE_START,
            budget: body_bytes_max,
            extension_bytes: 0,
            trailer_bytes: 0,
        }
    }

    /// Decodes the next piece of the body and appends its data to `out`.
    ///
    /// After `done`, further calls use nothing. `out` grows by at most the size of the
    /// piece, and over all calls by at most the maximum given to [`ChunkDecoder::new`].
    ///
    /// # Errors
    /// [`ChunkError`], at the first wrong byte. A body too long is refused when its
    /// size is announced, before its data. `out` may have grown; the decoder is of no
    /// further use.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Progress, ChunkError> {
        let mut rest = input;
        while self.place != Place::Done {
            if let Place::Data { left } = self.place {
                let take = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                let (data, behind) = rest.split_at(take);
                out.extend_from_slice(data);
                rest = behind;
                self.place = match left - take as u64 {
                    0 => Place::DataCr,
                    left => Place::Data { left },
                };
                if rest.is_empty() {
                    break;
                }
                continue;
            }
            let Some((&byte, behind)) = rest.split_first() else {
                break;
            };
            self.place = self.take(byte)?;
            rest = behind;
        }
        Ok(Progress {
            used: input.len() - rest.len(),
            done: self.place == Place::Done,
        })
    }

    /// What brings another decoder to where this one is, and how many bytes of data that has in it,
    /// which are no part of this body. What was counted of extensions and trailers is not.
    #[must_use]
    pub fn way(&self) -> (Vec<u8>, u64) {
        let sized = |size: u64, rest: &str| format!("{size:x}{rest}");
        let text = match self.place {
            Place::Size { digits: 0, .. } | Place::Done => String::new(),
            Place::Size { value, digits } => {
                format!("{value:0width$x}", width = usize::from(digits))
            }
            Place::Extension { size, part } => {
                let rest = match part {
                    Part::NameStart => ";",
                    Part::Name => ";a",
                    Part::ValueStart => ";a=",
                    Part::Token => ";a=b",
                    Part::Quoted => ";a=\"",
                    Part::Escaped => ";a=\"\\",
                    Part::QuotedEnd => ";a=\"\"",
                };
                sized(size, rest)
            }
            Place::SizeLf { size } => sized(size, "\r"),
            Place::Data { left } => sized(left, "\r\n"),
            Place::DataCr => return (b"1\r\n.".to_vec(), 1),
            Place::DataLf => return (b"1\r\n.\r".to_vec(), 1),
            Place::TrailerStart => "0\r\n".to_owned(),
            Place::TrailerName => "0\r\na".to_owned(),
            Place::TrailerValue => "0\r\na:".to_owned(),
            Place::TrailerLf => "0\r\na:\r".to_owned(),
            Place::EndLf => "0\r\n\r".to_owned(),
        };
        (text.into_bytes(), 0)
    }

    /// Where one byte of framing leads.
    fn take(&mut self, byte: u8) -> Result<Place, ChunkError> {
        Ok(match self.place {
            Place::Size { value, digits } => match (hex_digit(byte), byte) {
                (Some(_), _) if digits == SIZE_DIGITS_MAX => return Err(ChunkError::SizeOverflow),
                (Some(digit), _) => Place::Size {
                    // 16 digits of 4 bits fill the value exactly.
                    value: (value << 4) | u64::from(digit),
                    digits: digits + 1,
                },
                (None, b'\n') => return Err(ChunkError::BareLf),
                (None, _) if digits == 0 => return Err(ChunkError::SizeMissing),
                (None, b'\r') => {
                    self.announce(value)?;
                    Place::SizeLf { size: value }
                }
                (None, b';') => {
                    self.announce(value)?;
                    self.extension_byte()?;
                    Place::Extension {
                        size: value,
                        part: Part::NameStart,
                    }
                }
                (None, _) => return Err(ChunkError::SizeByte),
            },
            Place::Extension { size, part } => match extension(part, byte)? {
                None => Place::SizeLf { size },
                Some(part) => {
                    self.extension_byte()?;
                    Place::Extension { size, part }
                }
            },
            Place::SizeLf { size } => match (byte, size) {
                (b'\n', 0) => Place::TrailerStart,
                (b'\n', left) => Place::Data { left },
                _ => return Err(ChunkError::BareCr),
            },
            Place::DataCr if byte == b'\r' => Place::DataLf,
            Place::DataLf if byte == b'\n' => SIZE_START,
            Place::DataCr | Place::DataLf => {
                return Err(ChunkError::DataUnterminated { found: byte });
            }
            Place::TrailerStart if byte == b'\r' => Place::EndLf,
            Place::EndLf if byte == b'\n' => Place::Done,
            Place::TrailerLf if byte == b'\n' => {
                self.trailer_byte()?;
                Place::TrailerStart
            }
            Place::EndLf | Place::TrailerLf => return Err(ChunkError::BareCr),
            Place::TrailerStart | Place::TrailerName | Place::TrailerValue => {
                self.trailer_byte()?;
                self.trailer(byte)?
            }
            // `decode` takes data as a block and stops at the end.
            Place::Data { .. } | Place::Done => self.place,
        })
    }

    /// Where one byte of a trailer line leads.
    fn trailer(&self, byte: u8) -> Result<Place, ChunkError> {
        match self.place {
            _ if byte == b'\n' => Err(ChunkError::BareLf),
            Place::TrailerValue if byte == b'\r' => Ok(Place::TrailerLf),
            Place::TrailerValue if is_value(byte) => Ok(Place::TrailerValue),
            Place::TrailerName if byte == b':' => Ok(Place::TrailerValue),
            Place::TrailerStart | Place::TrailerName if is_token(byte) => Ok(Place::TrailerName),
            _ => Err(ChunkError::TrailerByte),
        }
    }

    /// Counts an announced chunk against the maximum.
    fn announce(&mut self, size: u64) -> Result<(), ChunkError> {
        self.budget = self
            .budget
            .checked_sub(size)
            .ok_or(ChunkError::BodyTooLong)?;
        Ok(())
    }

    fn extension_byte(&mut self) -> Result<(), ChunkError> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(ChunkError::ExtensionsTooLong);
        }
        Ok(())
    }

    fn trailer_byte(&mut self) -> Result<(), ChunkError> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(ChunkError::TrailersTooLong);
        }
        Ok(())
    }
}

/// Where one byte of an extension leads; `None` is the CR behind the last one.
fn extension(part: Part, byte: u8) -> Result<Option<Part>, ChunkError> {
    Ok(Some(match (part, byte) {
        (_, b'\n') => return Err(ChunkError::BareLf),
        (Part::Name | Part::Token | Part::QuotedEnd, b'\r') => return Ok(None),
        (Part::Name | Part::Token | Part::QuotedEnd, b';') => Part::NameStart,
        (Part::Name, b'=') => Part::ValueStart,
        (Part::NameStart | Part::Name, _) if is_token(byte) => Part::Name,
        (Part::ValueStart, b'"') => Part::Quoted,
        (Part::ValueStart | Part::Token, _) if is_token(byte) => Part::Token,
        (Part::Quoted, b'"') => Part::QuotedEnd,
        (Part::Quoted, b'\\') => Part::Escaped,
        (Part::Quoted | Part::Escaped, _) if is_value(byte) => Part::Quoted,
        _ => return Err(ChunkError::ExtensionByte),
    }))
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Ends a chunked body: the last chunk, no trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Ends the data of one chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Writes the size line of a chunk of `len` bytes to the front of `out` and returns
/// its length, 3 to 18 bytes. `len` must not be 0: that would end the body.
pub fn chunk_head(len: usize, out: &mut [u8; 18]) -> usize {
    debug_assert!(len != 0, "a chunk of no bytes ends the body");
    let digits = (len.checked_ilog2().unwrap_or(0) / 4) as usize + 1;
    let mut left = len;
    for place in out.iter_mut().take(digits).rev() {
        *place = b"0123456789abcdef"[left & 15];
        left >>= 4;
    }
    for (place, byte) in out.iter_mut().skip(digits).zip(CHUNK_END) {
        *place = *byte;
    }
    digits + CHUNK_END.len()
}

/// `data`, which is not empty, as one chunk.
pub fn chunk(data: &[u8]) -> Vec<u8> {
    let mut head = [0; 18];
    let len = chunk_head(data.len(), &mut head);
    [&head[..len], data, CHUNK_END].concat()
}

#[cfg(test)]
mod tests;
