//! Where in a block a JSON string needs escapes.
//!
//! In: a block of bytes. Out: a bit for each of them. Knows no string around it.
//!
//! # Safety
//! SSE2 is a part of x86-64, and loads are of arrays of exactly their size.
#![allow(unsafe_code)]

/// Bytes that are looked at together: a bit of a word for each.
pub(super) const BLOCK: usize = u64::BITS as usize;

/// Whether a byte of a string needs an escape (RFC 8259, 7).
pub(super) fn needs_escape(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// A bit for each byte of `block` that needs an escape, the lowest for the first.
#[inline]
pub(super) fn stops(block: &[u8; BLOCK]) -> u64 {
    let steps = block.as_chunks().0.iter().rev();
    steps.fold(0, |bits, step| bits << 16 | u64::from(of_step(step)))
}

#[cfg(not(target_arch = "x86_64"))]
fn of_step(step: &[u8; 16]) -> u16 {
    let bytes = step.iter().rev();
    bytes.fold(0, |bits, &byte| bits << 1 | u16::from(needs_escape(byte)))
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn of_step(step: &[u8; 16]) -> u16 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_max_epu8, _mm_movemask_epi8, _mm_or_si128,
        _mm_set1_epi8,
    };

    // SAFETY: 16 bytes that can be read, by an instruction that asks for no alignment; the rest is
    // arithmetic that every x86-64 processor knows.
    let bits = unsafe {
        let bytes = _mm_loadu_si128(step.as_ptr().cast());
        let is = |byte: u8| _mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte.cast_signed()));
        let last_control = _mm_set1_epi8(0x1f);
        let is_control = _mm_cmpeq_epi8(_mm_max_epu8(bytes, last_control), last_control);
        _mm_movemask_epi8(_mm_or_si128(is_control, _mm_or_si128(is(b'"'), is(b'\\'))))
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the mask of 16 bytes"
    )]
    let bits = bits as u16;
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_its_bit_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for at in 0..BLOCK {
                let mut block = [b'a'; BLOCK];
                block[at] = byte;
                let expected = u64::from(needs_escape(byte)) << at;
                assert_eq!(stops(&block), expected, "{byte} at {at}");
            }
        }
        assert_eq!(stops(&[b'\n'; BLOCK]), u64::MAX);
    }
}
