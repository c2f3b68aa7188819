//! Base64 on 24 bytes at a time, with AVX2.
//!
//! In: bytes, and room for their text. Out: the text of whole blocks. How: Wojciech Muła and
//! Daniel Lemire, "Faster Base64 Encoding and Decoding Using AVX2 Instructions" (2018).
//!
//! # Safety
//! The processor is asked before its instructions are used, and loads and stores are of arrays of
//! exactly their size.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, __m256i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm256_add_epi8,
    _mm256_and_si256, _mm256_cmpgt_epi8, _mm256_mulhi_epu16, _mm256_mullo_epi16, _mm256_or_si256,
    _mm256_set_m128i, _mm256_set1_epi8, _mm256_set1_epi32, _mm256_setr_epi8, _mm256_shuffle_epi8,
    _mm256_storeu_si256, _mm256_subs_epu8,
};

/// Bytes that become text in one step. One half of a register holds 12 of them.
const BLOCK_BYTES: usize = 24;

/// So far ahead bytes are asked for: a page, since the processor by itself does not look beyond one.
const AHEAD_BYTES: usize = 4096;

/// Encodes blocks from the front of `data` into the front of `text`, while `data` has 28 bytes left
/// (a block, and 4 more that the second load touches) and `text` 32. Returns how many bytes of
/// `data` that were.
pub(super) fn encode_front(data: &[u8], text: &mut [u8]) -> usize {
    if data.len() < BLOCK_BYTES || !is_x86_feature_detected!("avx2") {
        return 0;
    }
    // SAFETY: the processor has just said that it has AVX2.
    unsafe { encode_blocks(data, text) }
}

#[target_feature(enable = "avx2")]
fn encode_blocks(data: &[u8], text: &mut [u8]) -> usize {
    let mut encoded = 0;
    for text in text.as_chunks_mut().0 {
        let rest = &data[encoded..];
        let halves = (
            rest.first_chunk(),
            rest.get(BLOCK_BYTES / 2..).and_then(<[u8]>::first_chunk),
        );
        let (Some(low), Some(high)) = halves else {
            break;
        };
        prefetch(rest);
        let bytes = _mm256_set_m128i(load(high), load(low));
        store(characters(sextets(bytes)), text);
        encoded += BLOCK_BYTES;
    }
    encoded
}

/// The first 12 bytes of each half as 16 numbers below 64.
#[target_feature(enable = "avx2")]
fn sextets(bytes: __m256i) -> __m256i {
    // Three bytes a, b, c to a word b, a, c, b: each sextet then lies within 16 bits.
    #[rustfmt::skip]
    let places = _mm256_setr_epi8(
        1, 0, 2, 1,  4, 3, 5, 4,  7, 6, 8, 7,  10, 9, 11, 10,
        1, 0, 2, 1,  4, 3, 5, 4,  7, 6, 8, 7,  10, 9, 11, 10,
    );
    let words = _mm256_shuffle_epi8(bytes, places);
    // The first and third are moved down by a multiplication's upper half, the others up.
    let odd = _mm256_and_si256(words, _mm256_set1_epi32(0x0fc0_fc00));
    let odd = _mm256_mulhi_epu16(odd, _mm256_set1_epi32(0x0400_0040));
    let even = _mm256_and_si256(words, _mm256_set1_epi32(0x003f_03f0));
    let even = _mm256_mullo_epi16(even, _mm256_set1_epi32(0x0100_0010));
    _mm256_or_si256(odd, even)
}

/// The alphabet's character for each number.
#[target_feature(enable = "avx2")]
fn characters(sextets: __m256i) -> __m256i {
    // 13 for a capital letter, 0 for a small one, 1 to 10 for a digit, 11 for `+`, 12 for `/`.
    let capital = _mm256_cmpgt_epi8(_mm256_set1_epi8(26), sextets);
    let kind = _mm256_or_si256(
        _mm256_subs_epu8(sextets, _mm256_set1_epi8(51)),
        _mm256_and_si256(capital, _mm256_set1_epi8(13)),
    );
    // What is to be added for each kind.
    const SMALL: i8 = b'a'.cast_signed() - 26;
    const DIGIT: i8 = b'0'.cast_signed() - 52;
    const PLUS: i8 = b'+'.cast_signed() - 62;
    const SLASH: i8 = b'/'.cast_signed() - 63;
    const CAPITAL: i8 = b'A'.cast_signed();
    #[rustfmt::skip]
    let distances = _mm256_setr_epi8(
        SMALL, DIGIT, DIGIT, DIGIT, DIGIT, DIGIT, DIGIT, DIGIT,
        DIGIT, DIGIT, DIGIT, PLUS, SLASH, CAPITAL, 0, 0,
        SMALL, DIGIT, DIGIT, DIGIT, DIGIT, DIGIT, DIGIT, DIGIT,
        DIGIT, DIGIT, DIGIT, PLUS, SLASH, CAPITAL, 0, 0,
    );
    _mm256_add_epi8(sextets, _mm256_shuffle_epi8(distances, kind))
}

fn prefetch(rest: &[u8]) {
    let ahead = rest.as_ptr().wrapping_add(AHEAD_BYTES);
    // SAFETY: a hint; what cannot be read is not, and nothing else happens.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(ahead.cast()) }
}

#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: 16 bytes that can be read; the instruction asks for no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn store(characters: __m256i, text: &mut [u8; 32]) {
    // SAFETY: 32 bytes that can be written; the instruction asks for no alignment.
    unsafe { _mm256_storeu_si256(text.as_mut_ptr().cast(), characters) }
}
