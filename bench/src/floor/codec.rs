//! base64 and memory copies, on one thread, from and into warm memory.

use std::hint::black_box;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use base64_simd::AsOut;

use crate::account::own_cpu;
use crate::trouble::{Result, Trouble};

/// What is measured; the first is the floor.
pub(super) const NAMES: [&str; 8] = [
    "copy 64 KiB into recycled memory",
    "copy 64 KiB into fresh pages",
    "base64 crate, 100 B",
    "base64 crate, 4 KiB",
    "base64 crate, 64 KiB",
    "base64-simd, 100 B",
    "base64-simd, 4 KiB",
    "base64-simd, 64 KiB",
];

const SIZES: [usize; 8] = [65536, 65536, 100, 4096, 65536, 100, 4096, 65536];

/// Handles `total` bytes in way `index`: CPU in ms per GiB of input, and GiB/s.
pub(super) fn measure(index: usize, total: usize) -> Result<Vec<f64>> {
    let size = *SIZES
        .get(index)
        .ok_or_else(|| Trouble::Setup("no such codec".into()))?;
    let input: Vec<u8> = (0..size).map(|at| (at * 31 % 251) as u8).collect();
    let mut output = vec![1u8; size * 2];
    let turns = total / size;
    let (began, before) = (Instant::now(), own_cpu());
    for _ in 0..turns {
        match index {
            0 => output[..size].copy_from_slice(black_box(&input)),
            1 => drop(black_box(fresh_copy(&input))),
            2..=4 => {
                STANDARD
                    .encode_slice(black_box(&input), &mut output)
                    .map_err(|error| Trouble::Setup(error.to_string()))?;
            }
            _ => {
                let _ = base64_simd::STANDARD.encode(black_box(&input), output.as_out());
            }
        }
        black_box(&mut output);
    }
    let (seconds, cpu) = (
        began.elapsed().as_secs_f64(),
        (own_cpu() - before).as_secs_f64(),
    );
    let gib = (turns * size) as f64 / f64::from(1 << 30);
    Ok(vec![cpu * 1e3 / gib, gib / seconds])
}

/// Copies into pages that the kernel has to supply: a mapping of its own each time.
fn fresh_copy(input: &[u8]) -> Option<memory::Mapping> {
    memory::Mapping::filled_with(input)
}

mod memory {
    //! An anonymous mapping that holds a copy.
    //!
    //! Safety: the mapping is ours alone from creation to drop.

    #![allow(unsafe_code)]

    use std::ptr::NonNull;

    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

    /// A mapping of its own.
    pub(super) struct Mapping {
        start: NonNull<u8>,
        bytes: usize,
    }

    impl Mapping {
        /// Maps fresh pages and copies `input` into them; `None` when the kernel refuses.
        pub(super) fn filled_with(input: &[u8]) -> Option<Mapping> {
            // SAFETY: an anonymous mapping at an address of the kernel's choice aliases nothing.
            let start = unsafe {
                mmap_anonymous(
                    std::ptr::null_mut(),
                    input.len(),
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::PRIVATE,
                )
            }
            .ok()?;
            let mapping = Mapping {
                start: NonNull::new(start.cast())?,
                bytes: input.len(),
            };
            // SAFETY: the mapping is at least `input.len()` bytes, writable, and new.
            unsafe {
                mapping
                    .start
                    .as_ptr()
                    .copy_from_nonoverlapping(input.as_ptr(), input.len())
            };
            Some(mapping)
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: exactly the range that was mapped; nothing refers to it any more.
            let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
        }
    }
}
