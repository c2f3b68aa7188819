//! The XOR mask of client frames (RFC 6455, 5.3).
//!
//! In: a piece of a frame's payload, the frame's key and where the piece starts
//! in the payload. Out: the same bytes, masked or unmasked in place (XOR is its
//! own inverse). Owns nothing.

/// Bytes one step of the loop handles: two SSE2 or one AVX2 register.
const LANE_BYTES: usize = 32;

/// XORs `data` with `key`, where `data` starts `offset` bytes into the payload.
///
/// A payload may be handled in pieces of any size: the key is turned to the
/// piece's offset, so no piece needs to start on a multiple of four.
pub fn apply(data: &mut [u8], key: [u8; 4], offset: u64) {
    let mut turned = key;
    // The remainder is 0 to 3, so no bit is lost.
    turned.rotate_left((offset % 4) as usize);

    // One key pattern as wide as a lane makes the inner loop a plain
    // register XOR; four divides the lane, so each lane starts at phase 0.
    let mut pattern = [0; LANE_BYTES];
    for (byte, key) in pattern.iter_mut().zip(turned.iter().cycle()) {
        *byte = *key;
    }
    let mut lanes = data.chunks_exact_mut(LANE_BYTES);
    for lane in &mut lanes {
        for (byte, key) in lane.iter_mut().zip(&pattern) {
            *byte ^= key;
        }
    }
    for (byte, key) in lanes.into_remainder().iter_mut().zip(&pattern) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formula of RFC 6455, 5.3, byte by byte.
    fn reference(data: &[u8], key: [u8; 4], offset: usize) -> Vec<u8> {
        data.iter()
            .enumerate()
            .map(|(i, byte)| byte ^ key[(i + offset) % 4])
            .collect()
    }

    #[test]
    fn every_length_and_offset_agrees_with_the_formula() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let data: Vec<u8> = (0..=255).cycle().take(200).collect();
        for len in 0..data.len() {
            for offset in 0..9 {
                let mut got = data[..len].to_vec();
                apply(&mut got, key, offset);
                assert_eq!(got, reference(&data[..len], key, offset as usize));
            }
        }
    }

    #[test]
    fn every_start_in_memory_gives_the_same_bytes() {
        let data: Vec<u8> = (0..=255).cycle().take(300).collect();
        for start in 0..40 {
            let mut got = data.clone();
            apply(&mut got[start..], [1, 2, 3, 4], 3);
            assert_eq!(got[..start], data[..start]);
            assert_eq!(got[start..], reference(&data[start..], [1, 2, 3, 4], 3));
        }
    }

    #[test]
    fn offsets_past_32_bits_keep_their_phase() {
        let mut got = [0; 3];
        apply(&mut got, [10, 20, 30, 40], (1 << 40) + 3);
        assert_eq!(got, [40, 10, 20]);
    }
}
