//! Runs of bytes that need no attention.
//!
//! In: a slice and what stops a run. Out: the length of the run at its front. Knows no
//! format.

/// Bytes looked at in one step; the compiler makes one vector comparison of it.
const BLOCK: usize = 16;

/// How many bytes at the front of `bytes` do not `stop`. For tests that are a few
/// comparisons, several times as fast as looking at one byte after another.
#[inline]
pub(crate) fn len_until(bytes: &[u8], stop: impl Fn(u8) -> bool) -> usize {
    let whole: usize = bytes
        .chunks_exact(BLOCK)
        .take_while(|block| !block.iter().fold(false, |any, &byte| any | stop(byte)))
        .map(<[u8]>::len)
        .sum();
    let (_, rest) = bytes.split_at(whole);
    let last = rest.iter().position(|&byte| stop(byte));
    whole + last.unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_at_the_first_byte_that_stops_wherever_it_is() {
        for len in 0..70 {
            let mut bytes = vec![b'a'; len];
            assert_eq!(len_until(&bytes, |byte| byte == b'!'), len);
            for first in 0..len {
                bytes.fill(b'a');
                bytes[first] = b'!';
                bytes[len - 1] = b'!';
                assert_eq!(len_until(&bytes, |byte| byte == b'!'), first);
            }
        }
    }
}
