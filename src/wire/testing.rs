//! Helpers of the tests in this room: pieces of input, and numbers that look random.

/// SplitMix64: the same numbers on every run.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Calls `check` with `input` whole, in two pieces split anywhere, and byte by byte.
pub(crate) fn for_each_split(input: &[u8], mut check: impl FnMut(&[&[u8]])) {
    check(&[input]);
    for at in 0..=input.len() {
        check(&[&input[..at], &input[at..]]);
    }
    check(&input.chunks(1).collect::<Vec<_>>());
}
