//! A ring of buffers that the kernel takes from when data arrives
//! (io_uring_register_buf_ring(3)).
//!
//! Safety: the ring's memory and the buffers are owned here and freed only after the
//! io_uring that knows them, because `ring::Ring` drops its fields in that order. A buffer
//! is either with the kernel or lent to the caller: `lend` is for a buffer that a completion
//! named, and the caller gives it back with `recycle`.

#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::trouble::{During, Result, Trouble};

/// A buffer ring of one group.
pub(super) struct Buffers {
    ring: NonNull<BufRingEntry>,
    memory: Vec<u8>,
    count: u16,
    size: usize,
    tail: u16,
}

impl Buffers {
    /// Registers `count` buffers (a power of two) of `size` bytes as `group`.
    pub(super) fn register(
        uring: &IoUring,
        group: u16,
        count: u16,
        size: usize,
    ) -> Result<Buffers> {
        if !count.is_power_of_two() {
            return Err(Trouble::Setup("a buffer ring needs a power of two".into()));
        }
        let bytes = usize::from(count) * size_of::<BufRingEntry>();
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
        let ring = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }
        .during("map a buffer ring")?;
        let ring = NonNull::new(ring.cast::<BufRingEntry>())
            .ok_or_else(|| Trouble::Setup("mmap returned null".into()))?;
        let mut buffers = Buffers {
            ring,
            memory: vec![1; usize::from(count) * size],
            count,
            size,
            tail: 0,
        };
        // SAFETY: the mapping is page-aligned, holds `count` entries, and outlives the ring
        // (see the file's Safety section).
        unsafe {
            uring
                .submitter()
                .register_buf_ring_with_flags(ring.as_ptr() as u64, count, group, 0)
        }
        .during("register a buffer ring")?;
        (0..count).for_each(|id| buffers.recycle(id));
        Ok(buffers)
    }

    /// The first `length` bytes of buffer `id`, which a completion has just named.
    pub(super) fn lend(&self, id: u16, length: usize) -> &[u8] {
        let start = usize::from(id) * self.size;
        &self.memory[start..start + length.min(self.size)]
    }

    /// Hands buffer `id` back to the kernel.
    pub(super) fn recycle(&mut self, id: u16) {
        let start = usize::from(id) * self.size;
        let address = self.memory[start..start + self.size].as_mut_ptr() as u64;
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: `slot < count`, so the entry is within the mapping; the kernel reads it
        // only after the store of the tail below.
        let entry = unsafe { &mut *self.ring.as_ptr().add(slot) };
        entry.set_addr(address);
        entry.set_len(u32::try_from(self.size).unwrap_or(u32::MAX));
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the pointer is the ring's first entry, inside a live zeroed mapping; the
        // tail is two aligned bytes in it that the kernel reads and only we write.
        let tail = unsafe { &*BufRingEntry::tail(self.ring.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        let bytes = usize::from(self.count) * size_of::<BufRingEntry>();
        // SAFETY: the mapping is ours, of this size, and nothing refers to it any more; the
        // io_uring was dropped first (see the file's Safety section).
        let _ = unsafe { munmap(self.ring.as_ptr().cast(), bytes) };
    }
}
