//! Only in debug builds: what a program of another version would write. A test of upgrades changes
//! the last byte of [`TEXT`] in a copy of the program, which is another version then.

/// Ends with `0` in this version, `+` in one whose records have a field more, and `-` in one whose
/// records have a field less; with `s` in one that knows another form of the state, with `x` or `p` in
/// one that exits or panics before it has a server, and with `a`, `e` or `h` in one whose server aborts,
/// exits or hangs before it serves.
static TEXT: [u8; 26] = *b"procring-record-variant: 0";

/// Records have a field more: in numbers ([`super::Records::next`]) and in the text.
pub(crate) fn has_more() -> bool {
    is(b'+')
}

/// Records have a field less: nobody knows of labels.
pub(crate) fn has_less() -> bool {
    is(b'-')
}

/// Its state has another form.
pub(crate) fn has_another_state() -> bool {
    is(b's')
}

/// Does not take over, if it is such a version.
pub(crate) fn fail_at_once() {
    if is(b'x') {
        std::process::exit(3);
    }
    assert!(!is(b'p'), "a version that panics");
}

/// Does not come to serve, if it is such a version and has taken over.
pub(crate) fn fail(takes_over: bool) {
    if takes_over && is(b'a') {
        std::process::abort();
    }
    if takes_over && is(b'e') {
        std::process::exit(3);
    }
    while takes_over && is(b'h') {
        std::thread::park();
    }
}

fn is(kind: u8) -> bool {
    std::hint::black_box(&TEXT).last() == Some(&kind)
}
