//! Only in debug builds: what a program of another version would write. A test of upgrades changes
//! the last byte of [`TEXT`] in a copy of the program, which is another version then.

/// Ends with `0` in this version, `+` in one whose records have a field more, and `-` in one whose
/// records have a field less.
static TEXT: [u8; 26] = *b"procring-record-variant: 0";

/// Records have a field more: in numbers ([`super::Records::next`]) and in the text.
pub(crate) fn has_more() -> bool {
    std::hint::black_box(&TEXT).last() == Some(&b'+')
}

/// Records have a field less: nobody knows of labels.
pub(crate) fn has_less() -> bool {
    std::hint::black_box(&TEXT).last() == Some(&b'-')
}
