//! Sizes as people write them.

/// Reads a number of bytes, or of anything: `64M` is 64 times 1024 times 1024. A `B` or `iB` behind
/// the unit says the same.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let (digits, factor) = match text.trim_end_matches(['B', 'i']).char_indices().last()? {
        (at, 'K' | 'k') => (&text[..at], 1 << 10),
        (at, 'M' | 'm') => (&text[..at], 1 << 20),
        (at, 'G' | 'g') => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    // A sign is no digit, though `parse` takes one.
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .parse::<u64>()
        .ok()
        .filter(|_| is_number)?
        .checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_digits_and_a_unit() {
        for (text, size) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("4K", Some(4096)),
            ("4k", Some(4096)),
            ("64M", Some(64 << 20)),
            ("64MiB", Some(64 << 20)),
            ("2G", Some(2 << 30)),
            ("", None),
            ("M", None),
            ("+1", None),
            ("-1", None),
            ("1.5M", None),
            ("1 M", None),
            ("17179869184G", None),
        ] {
            assert_eq!(parse(text), size, "{text}");
        }
    }
}
