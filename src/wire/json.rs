//! JSON strings (RFC 8259, 7), written directly.
//!
//! In: text, or bytes that should be text. Out: a JSON string with its quotes. Knows
//! no document around it.

use super::prefix;
use super::stops::{BLOCK, needs_escape, stops};

/// Appends `text` as a JSON string. Escapes are those of `serde_json`: `\"`, `\\`,
/// `\b`, `\f`, `\n`, `\r`, `\t`, and `\u00xx` for other control characters.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    write_escaped(text.as_bytes(), out);
    out.push(b'"');
}

/// How many bytes [`write_string`] appends.
#[must_use]
pub fn string_len(text: &str) -> usize {
    let escaped = text
        .bytes()
        .map(|byte| match escape(byte) {
            Escape::None => 1,
            Escape::Short(_) => 2,
            Escape::Hex => 6,
        })
        .sum::<usize>();
    escaped + 2
}

/// Appends the concatenation of `segments` as one JSON string, with U+FFFD for bytes
/// that are not UTF-8: exactly what `String::from_utf8_lossy` makes of the whole, also
/// where a character crosses from one segment into the next.
pub fn write_string_lossy<'a>(segments: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut text = Lossy::default();
    for segment in segments {
        text.write(segment, out);
    }
    text.end(out);
    out.push(b'"');
}

/// The inside of JSON strings from text that comes in segments; see [`write_string_lossy`].
#[derive(Debug, Default)]
pub struct Lossy {
    tail: Tail,
}

impl Lossy {
    /// Appends a segment, without quotes. A character that it does not end is held back.
    pub fn write(&mut self, segment: &[u8], out: &mut Vec<u8>) {
        let mut rest = self.tail.complete(segment, out);
        while let Err(error) = std::str::from_utf8(rest) {
            let (valid, behind) = rest.split_at(error.valid_up_to());
            write_escaped(valid, out);
            let Some(wrong) = error.error_len() else {
                self.tail.push(behind);
                rest = &[];
                break;
            };
            out.extend_from_slice(REPLACEMENT);
            rest = behind.get(wrong..).unwrap_or_default();
        }
        write_escaped(rest, out);
    }

    /// Of text of which this is held back.
    pub fn holding(bytes: &[u8]) -> Self {
        let mut text = Self::default();
        text.tail.push(bytes);
        text
    }

    /// What is held back.
    pub fn held(&self) -> &[u8] {
        self.tail.bytes.get(..self.tail.len).unwrap_or_default()
    }

    /// Appends what is held back: nothing comes that could complete it.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.tail).len > 0 {
            out.extend_from_slice(REPLACEMENT);
        }
    }
}

/// U+FFFD in UTF-8.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// The bytes of a character whose end has not been seen yet.
#[derive(Debug, Default)]
struct Tail {
    bytes: [u8; 4],
    len: usize,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        for (place, byte) in self.bytes.iter_mut().skip(self.len).zip(bytes) {
            *place = *byte;
            self.len += 1;
        }
    }

    /// Takes from the front of `segment` what the character still needs, writes the
    /// character (or U+FFFD if it cannot be completed), and returns what is left.
    fn complete<'a>(&mut self, segment: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let mut rest = segment;
        while self.len > 0 {
            let Some((byte, behind)) = rest.split_first() else {
                break;
            };
            self.push(std::slice::from_ref(byte));
            match std::str::from_utf8(self.bytes.get(..self.len).unwrap_or_default()) {
                Ok(character) => {
                    write_escaped(character.as_bytes(), out);
                    self.len = 0;
                }
                Err(error) if error.error_len().is_none() => {}
                // The new byte does not belong to it: it is looked at again.
                Err(_) => {
                    out.extend_from_slice(REPLACEMENT);
                    self.len = 0;
                    break;
                }
            }
            rest = behind;
        }
        rest
    }
}

/// How many bytes at the end of `bytes` are the beginning of a UTF-8 character whose
/// rest is missing: 0 to 3. Cutting these off ends the bytes at a character boundary.
/// Bytes that no continuation could make valid are not counted.
#[must_use]
pub fn incomplete_tail(bytes: &[u8]) -> usize {
    for len in 1..=bytes.len().min(3) {
        let (_, tail) = bytes.split_at(bytes.len() - len);
        let is_continuation = tail.first().is_some_and(|byte| byte & 0xc0 == 0x80);
        if is_continuation {
            continue;
        }
        return match std::str::from_utf8(tail) {
            Err(error) if error.valid_up_to() == 0 && error.error_len().is_none() => len,
            _ => 0,
        };
    }
    0
}

/// How many bytes at the beginning of `bytes` are the rest of a UTF-8 character that begins
/// in `before`, the bytes just before them, of which three are enough: 0 to 3.
#[must_use]
pub fn incomplete_front(before: &[u8], bytes: &[u8]) -> usize {
    let begun = incomplete_tail(before);
    let mut character = [0; 4];
    character[..begun].copy_from_slice(&before[before.len() - begun..]);
    let longest = bytes.len().min(4 - begun);
    character[begun..begun + longest].copy_from_slice(&bytes[..longest]);
    let ends = |len: &usize| std::str::from_utf8(&character[..begun + len]).is_ok();
    (1..=longest)
        .find(|len| begun > 0 && ends(len))
        .unwrap_or(0)
}

/// How one byte of a string is written.
enum Escape {
    None,
    /// A backslash and this byte.
    Short(u8),
    /// `\u00` and two hexadecimal digits.
    Hex,
}

const fn escape(byte: u8) -> Escape {
    match byte {
        b'"' | b'\\' => Escape::Short(byte),
        0x08 => Escape::Short(b'b'),
        0x0c => Escape::Short(b'f'),
        b'\n' => Escape::Short(b'n'),
        b'\r' => Escape::Short(b'r'),
        b'\t' => Escape::Short(b't'),
        0..=0x1f => Escape::Hex,
        _ => Escape::None,
    }
}

/// Appends the UTF-8 `text` without quotes.
fn write_escaped(text: &[u8], out: &mut Vec<u8>) {
    let clean = prefix::len_until(text, needs_escape);
    let (run, behind) = text.split_at(clean);
    out.extend_from_slice(run);
    if !behind.is_empty() {
        write_lines(behind, out);
    }
}

/// The same for text that has escapes.
///
/// Lines are short, and each ends in an escape. Where those are is known for a block before any of it
/// is copied, so that no line waits for the one before it; what is between them is copied, a little
/// more than it is, through a buffer that is flushed when it is full. Longer runs go as a block.
#[inline(never)]
fn write_lines(text: &[u8], out: &mut Vec<u8>) {
    let mut buffer = [0; BUFFER_BYTES];
    let (mut rest, mut filled, mut clean) = (text, 0, 0);
    while let Some(block) = rest.first_chunk() {
        if filled > BUFFER_BYTES - BLOCK_ROOM {
            out.extend_from_slice(&buffer[..filled]);
            filled = 0;
        }
        let before = filled;
        filled = put_block(&mut buffer, filled, block, BLOCK);
        clean = if filled - before == BLOCK {
            clean + 1
        } else {
            0
        };
        rest = &rest[BLOCK..];
        if clean == CLEAN_BLOCKS {
            let len = prefix::len_until(rest, needs_escape);
            let (run, behind) = rest.split_at(len);
            out.extend_from_slice(&buffer[..filled]);
            out.extend_from_slice(run);
            (rest, filled, clean) = (behind, 0, 0);
        }
    }
    out.extend_from_slice(&buffer[..filled]);
    filled = 0;
    for part in rest.chunks(BLOCK) {
        if part.len() <= STEP {
            for &byte in part {
                filled = put_escape(&mut buffer, filled, byte);
            }
            continue;
        }
        let mut block = [0; BLOCK + STEP];
        block[..part.len()].copy_from_slice(part);
        filled = put_block(&mut buffer, filled, &block, part.len());
    }
    out.extend_from_slice(&buffer[..filled]);
}

/// Writes the first `len` bytes of a block at `filled`. Returns where they end.
#[inline]
fn put_block(
    buffer: &mut [u8; BUFFER_BYTES],
    mut filled: usize,
    block: &[u8; BLOCK + STEP],
    len: usize,
) -> usize {
    let mut stops = block.first_chunk().map_or(0, stops);
    let mut at = 0;
    loop {
        let stop = (stops.trailing_zeros() as usize).min(len);
        for from in (at..stop).step_by(STEP) {
            let to = filled + from - at;
            buffer[to..to + STEP].copy_from_slice(&block[from..from + STEP]);
        }
        filled += stop - at;
        if stop == len {
            return filled;
        }
        filled = put_escape(buffer, filled, block[stop]);
        at = stop + 1;
        stops &= stops - 1;
    }
}

/// Bytes that are copied at once.
const STEP: usize = 16;

/// Of [`write_lines`]: some lines.
const BUFFER_BYTES: usize = 1024;

/// What a block may take of it, and what is written beyond its end.
const BLOCK_ROOM: usize = BLOCK * ESCAPE_ROOM + STEP;

/// The longest escape, and what is copied with it.
const ESCAPE_ROOM: usize = 8;

/// After so many blocks without an escape the next run is taken for a long one.
const CLEAN_BLOCKS: u32 = 2;

/// How a byte is written, and how long that is.
static ESCAPES: [([u8; ESCAPE_ROOM], u8); 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut escapes = [([0; ESCAPE_ROOM], 0); 256];
    let mut byte = 0;
    while byte < 256 {
        let (high, low) = (DIGITS[byte >> 4], DIGITS[byte & 15]);
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let of = byte as u8;
        escapes[byte] = match escape(of) {
            Escape::None => ([of, 0, 0, 0, 0, 0, 0, 0], 1),
            Escape::Short(letter) => ([b'\\', letter, 0, 0, 0, 0, 0, 0], 2),
            Escape::Hex => ([b'\\', b'u', b'0', b'0', high, low, 0, 0], 6),
        };
        byte += 1;
    }
    escapes
};

/// Writes one byte of a string at `at`, escaped if it needs to be. Returns where it ends.
fn put_escape(buffer: &mut [u8; BUFFER_BYTES], at: usize, byte: u8) -> usize {
    let (text, len) = &ESCAPES[usize::from(byte)];
    buffer[at..at + ESCAPE_ROOM].copy_from_slice(text);
    at + usize::from(*len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{Rng, for_each_split};
    use std::collections::HashSet;

    fn written(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        write_string(text, &mut out);
        out
    }

    #[test]
    fn every_character_is_written_as_serde_json_writes_it() {
        for character in '\0'..=char::MAX {
            if character >= '\u{1000}' && u32::from(character) % 251 != 0 {
                continue;
            }
            let text = character.to_string();
            let out = written(&text);
            assert_eq!(out, serde_json::to_vec(&text).unwrap(), "{character:?}");
            assert_eq!(out.len(), string_len(&text));
        }
    }

    #[test]
    fn mixed_text_is_written_as_serde_json_writes_it() {
        let pieces = [
            "",
            "clean text of some length",
            "\"",
            "\\",
            "\n",
            "\u{7}",
            "\u{7f}",
            "\u{e9}",
            "\u{1f600}",
        ];
        let mut rng = Rng(5);
        for _ in 0..2000 {
            let text: String = (0..rng.below(20)).map(|_| rng.pick(&pieces)).collect();
            assert_eq!(written(&text), serde_json::to_vec(&text).unwrap());
            assert_eq!(written(&text).len(), string_len(&text));
        }
    }

    #[test]
    fn every_byte_is_escaped_at_every_place_of_a_line_whatever_its_length() {
        for byte in 0..0x80u8 {
            for before in 0..2 * BLOCK {
                for behind in [0, STEP - 1, STEP, BLOCK] {
                    let text = "a".repeat(before) + char::from(byte).encode_utf8(&mut [0; 4]);
                    let text = text + &"b\u{80}".repeat(behind);
                    assert_eq!(written(&text), serde_json::to_vec(&text).unwrap());
                }
            }
        }
    }

    #[test]
    fn lines_of_every_length_are_written_as_serde_json_writes_them() {
        let mut rng = Rng(8);
        for len in 0..300 {
            let mut text = String::new();
            while text.len() < 3 * BUFFER_BYTES {
                let line = (0..rng.below(len + 1)).map(|_| char::from(rng.below(256) as u8 | 0x20));
                text.extend(line);
                text.push(rng.pick(&['\n', '\n', '"', '\\', '\0', '\u{1f}']));
            }
            assert_eq!(written(&text), serde_json::to_vec(&text).unwrap());
            assert_eq!(written(&text).len(), string_len(&text));
        }
    }

    /// Checks `bytes` at every split against the standard library's decoding.
    fn check_lossy(bytes: &[u8]) {
        let expected = serde_json::to_vec(&String::from_utf8_lossy(bytes)).unwrap();
        for_each_split(bytes, |parts| {
            let mut out = Vec::new();
            write_string_lossy(parts.iter().copied(), &mut out);
            assert_eq!(out, expected, "{}", bytes.escape_ascii());
        });
    }

    /// Bytes that stand at the edges of the UTF-8 table (Unicode, table 3-7).
    const EDGES: [u8; 22] = [
        b'a', b'"', 0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1,
        0xed, 0xef, 0xf0, 0xf1, 0xf4, 0xf5, 0xff,
    ];

    #[test]
    fn segments_decode_as_their_concatenation_would() {
        check_lossy(b"");
        for a in EDGES {
            check_lossy(&[a]);
            for b in EDGES {
                check_lossy(&[a, b]);
                for c in EDGES {
                    check_lossy(&[a, b, c]);
                }
            }
        }
        let mut rng = Rng(6);
        for _ in 0..5000 {
            let bytes: Vec<u8> = (0..4 + rng.below(8)).map(|_| rng.pick(&EDGES)).collect();
            check_lossy(&bytes);
        }
    }

    #[test]
    fn empty_segments_change_nothing() {
        let mut out = Vec::new();
        let parts: [&[u8]; 7] = [b"", b"\xf0", b"", b"\x9f\x98", b"", b"\x80a", b""];
        write_string_lossy(parts.into_iter(), &mut out);
        assert_eq!(out, "\"\u{1f600}a\"".as_bytes());
        out.clear();
        write_string_lossy(std::iter::empty(), &mut out);
        assert_eq!(out, b"\"\"");
    }

    /// Every proper beginning of every character. No beginning holds the last byte of
    /// its character, so one character of each 64 is enough.
    fn beginnings() -> HashSet<Vec<u8>> {
        let characters = (0..=u32::from(char::MAX)).step_by(64).chain([0x80, 0x800]);
        characters
            .filter_map(char::from_u32)
            .flat_map(|character| {
                let bytes = character.to_string().into_bytes();
                (1..bytes.len()).map(move |len| bytes[..len].to_vec())
            })
            .collect()
    }

    #[test]
    fn an_incomplete_tail_is_the_beginning_of_some_character() {
        let beginnings = beginnings();
        assert_eq!(incomplete_tail(b""), 0);
        for a in 0..=255 {
            for b in 0..=255 {
                for c in EDGES {
                    let bytes = [c, a, b];
                    let expected = (1..=3)
                        .find(|&len| beginnings.contains(&bytes[3 - len..]))
                        .unwrap_or(0);
                    assert_eq!(incomplete_tail(&bytes), expected, "{bytes:x?}");
                }
            }
        }
    }

    #[test]
    fn cutting_the_front_begins_text_at_a_character_boundary() {
        let text = "a\u{e9}\u{20ac}\u{1f600}z";
        for cut in 0..=text.len() {
            let (before, after) = text.as_bytes().split_at(cut);
            let before = &before[before.len().saturating_sub(3)..];
            let front = incomplete_front(before, after);
            assert!(text.is_char_boundary(cut + front), "{cut}");
            assert!(front < 4 && (front == 0 || !text.is_char_boundary(cut)));
        }
        for (before, after) in [
            (&b"\xf0\x9f"[..], &b"a\x98\x80"[..]),
            (b"", b"\x98\x80"),
            (b"a", b"\x80"),
            (b"\xe2\x82", b""),
            (b"\xff\xff\xff", b"\x80"),
        ] {
            assert_eq!(incomplete_front(before, after), 0, "{before:x?} {after:x?}");
        }
    }

    #[test]
    fn cutting_the_tail_ends_text_at_a_character_boundary() {
        let text = "a\u{e9}\u{20ac}\u{1f600}z";
        for cut in 0..=text.len() {
            let bytes = &text.as_bytes()[..cut];
            let kept = cut - incomplete_tail(bytes);
            assert!(text.is_char_boundary(kept));
            assert!(text.len() - kept < 4 || !text.is_char_boundary(cut) || kept == cut);
        }
        assert_eq!(incomplete_tail(b"\xff"), 0);
        assert_eq!(incomplete_tail(b"\x80\x80\x80\x80"), 0);
        assert_eq!(incomplete_tail(b"\xf0\x9f\x98\x80"), 0);
    }
}
