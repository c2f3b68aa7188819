//! Bytes as padded base64 (RFC 4648, section 4).
//!
//! In: bytes. Out: text behind what a buffer holds already. Half of what a fetch of a log costs
//! is this, so the front of long data takes the way of `avx2` where the processor knows it; the
//! rest, and everything elsewhere, is encoded by the library.

#[cfg(target_arch = "x86_64")]
mod avx2;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How many characters `len` bytes take. Slices in memory are far below where this saturates.
pub(super) fn text_len(len: usize) -> usize {
    len.div_ceil(3).saturating_mul(4)
}

/// Appends `data` as text.
pub(super) fn write(data: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + text_len(data.len()), 0);
    let room = out.get_mut(start..).unwrap_or_default();
    let encoded = encode_front(data, room);
    let (data, room) = (&data[encoded..], &mut room[text_len(encoded)..]);
    // The room is exactly what the padded encoding takes, so nothing is left of it.
    let written = STANDARD.encode_slice(data, room).unwrap_or(0);
    debug_assert_eq!(written, text_len(data.len()));
}

/// Encodes as much as can be done fast: so many bytes, a multiple of three.
#[cfg(target_arch = "x86_64")]
fn encode_front(data: &[u8], text: &mut [u8]) -> usize {
    avx2::encode_front(data, text)
}

/// Elsewhere there is no fast way.
#[cfg(not(target_arch = "x86_64"))]
fn encode_front(_: &[u8], _: &mut [u8]) -> usize {
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::Rng;

    fn written(data: &[u8]) -> String {
        let mut out = b"before".to_vec();
        write(data, &mut out);
        String::from_utf8(out.split_off(6)).unwrap()
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn whole_blocks_take_the_fast_way_where_there_is_one() {
        let fast = usize::from(is_x86_feature_detected!("avx2"));
        // A block is read with four bytes behind it.
        for (len, blocks) in [(27, 0), (28, 1), (51, 1), (52, 2), (65_536, 2730)] {
            let mut text = vec![0; text_len(len)];
            assert_eq!(encode_front(&vec![0; len], &mut text), fast * blocks * 24);
        }
    }

    #[test]
    fn every_length_is_encoded_as_the_library_encodes_it() {
        let mut rng = Rng(7);
        for len in (0..400).chain([8190, 8191, 8192, 65_535, 65_536]) {
            let data: Vec<u8> = (0..len).map(|_| rng.next() as u8).collect();
            assert_eq!(written(&data), STANDARD.encode(&data), "{len} bytes");
        }
    }

    #[test]
    fn every_pair_of_bytes_is_encoded_as_the_library_encodes_it() {
        // At each place of a block of 24 bytes.
        for place in 0..8 {
            let mut data = vec![0xa5; 48];
            for pair in 0..=u16::MAX {
                let [high, low] = pair.to_be_bytes();
                data[3 * place..][..3].copy_from_slice(&[high, low, high ^ low]);
                assert_eq!(written(&data), STANDARD.encode(&data));
            }
        }
    }
}
