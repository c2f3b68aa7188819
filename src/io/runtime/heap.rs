//! The heap, given back to the kernel when a burst is over.
//!
//! In: what passes through connections, and what screens took. Out: free memory of the C library's
//! allocator, back to the kernel, once, a moment after the last of it. Knows no connection.
//!
//! glibc keeps what is freed below something that is not, and of large buffers as much as it has
//! ever seen at once (mallopt(3), M_MMAP_THRESHOLD): 470 MB after a burst of long answers, for as
//! long as the server lives. A fixed threshold would give each large buffer back at once and have
//! the next one fault all of its pages in again (docs/design/026-heap.md).
//!
//! # Safety
//! One call into the C library that takes a number.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::time::Duration;

use crate::io::runtime::timer::sleep;

/// Bytes that must have passed before anything is given back: less is used again soon.
const WORTH_BYTES: usize = 1 << 20;

/// What a connection has held besides what has passed through it, about.
pub(crate) const CONNECTION_BYTES: usize = 16 << 10;

/// A burst is over when less than [`WORTH_BYTES`] have passed in this time.
const QUIET: Duration = Duration::from_secs(1);

/// A server that is never quiet gives back every so many times [`QUIET`].
const ROUNDS_MAX: u32 = 60;

thread_local! {
    /// Bytes since memory was last given back.
    static PASSED: Cell<usize> = const { Cell::new(0) };
    /// A task will give it back.
    static DUE: Cell<bool> = const { Cell::new(false) };
}

/// Notes that so many bytes have passed through buffers on the heap.
pub(crate) fn passed(bytes: usize) {
    let all = PASSED.get().saturating_add(bytes);
    PASSED.set(all);
    if all >= WORTH_BYTES && !DUE.replace(true) {
        monoio::spawn(give_back_when_quiet());
    }
}

async fn give_back_when_quiet() {
    for _ in 0..ROUNDS_MAX {
        let before = PASSED.get();
        sleep(QUIET).await;
        if PASSED.get().saturating_sub(before) < WORTH_BYTES {
            break;
        }
    }
    give_back();
    PASSED.set(0);
    DUE.set(false);
}

#[cfg(target_env = "gnu")]
fn give_back() {
    // SAFETY: takes a number: how much to keep at the heap's top. It takes the allocator's own
    // locks, and frees nothing that is in use.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries give memory back as it is freed, or have no such call.
#[cfg(not(target_env = "gnu"))]
fn give_back() {}
