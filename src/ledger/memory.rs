//! Memory that outlives its process: a sealed memfd and its mapping.
//!
//! In: a name and sizes to try. Out: bytes of the arena ([`Shared`]) or numbers ([`Words`]), which
//! another process that has the descriptor, or the mapping from before a fork, sees as they were
//! when this one died at any instruction. Knows nothing of what is kept there.
//!
//! A store that has happened stays, also after SIGKILL, and a store of one aligned word happens or
//! does not. So what must not be seen in part is committed by the store of one word.
//!
//! # Safety
//! The mapping, what the kernel is told of it, and its end; slices of it, of types that others may
//! change meanwhile (atomic words, of which one may be used as an int); and that threads may share it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, SealFlags, SeekFrom, fallocate, fcntl_get_seals, fstat, seek};
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// A memfd that can neither grow nor shrink, mapped as a whole.
#[derive(Debug)]
pub(crate) struct Shared {
    file: File,
    base: NonNull<u8>,
    bytes: usize,
}

impl Shared {
    /// Makes one of the first of these sizes that is to be had; only touched pages cost memory. A
    /// limit on the address space or on file sizes (`RLIMIT_AS`, `RLIMIT_FSIZE`) lets a smaller
    /// one through. No size may be 0.
    ///
    /// # Errors
    /// If not even the last one can be mapped (memfd_create(2), kernel 3.17).
    pub(crate) fn new(name: &str, sizes: &[usize]) -> io::Result<Self> {
        let mut last = io::Error::from_raw_os_error(libc::ENOMEM);
        for &size in sizes {
            match Self::with_size(name, size) {
                Ok(shared) => return Ok(shared),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn with_size(name: &str, bytes: usize) -> io::Result<Self> {
        let other = |error: memfd::Error| match error {
            memfd::Error::Create(e) | memfd::Error::AddSeals(e) | memfd::Error::GetSeals(e) => e,
        };
        let memfd = memfd::MemfdOptions::new()
            .allow_sealing(true)
            .close_on_exec(true)
            .create(name)
            .map_err(other)?;
        memfd.as_file().set_len(bytes as u64)?;
        // Sealed against shrinking, so that no holder of the descriptor can take a mapped page
        // away under us (SIGBUS); against growing, because the mapping would not follow.
        memfd
            .add_seals(&[
                memfd::FileSeal::SealShrink,
                memfd::FileSeal::SealGrow,
                memfd::FileSeal::SealSeal,
            ])
            .map_err(other)?;
        Self::map(memfd.into_file(), bytes)
    }

    /// Goes on with one that another program has made, at its descriptor.
    ///
    /// # Errors
    /// If it is none, or cannot be mapped.
    pub(crate) fn again(fd: OwnedFd) -> io::Result<Self> {
        let other = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        if !fcntl_get_seals(&fd).is_ok_and(|seals| seals.contains(SealFlags::SHRINK)) {
            return other("a descriptor is no memory of a server");
        }
        match usize::try_from(fstat(&fd)?.st_size) {
            Ok(bytes @ 1..) => Self::map(fd.into(), bytes),
            _ => other("the memory of a server is empty"),
        }
    }

    fn map(file: File, bytes: usize) -> io::Result<Self> {
        // SAFETY: a null hint lets the kernel choose an unused range, so no existing mapping is
        // replaced; `bytes` is not 0; the memfd is that long and sealed against shrinking.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::NORESERVE,
                &file,
                0,
            )
        }?;
        // SAFETY: the range was mapped just above and nothing was lent from it yet; the advice
        // only keeps other people's output out of core dumps. Failing changes nothing.
        let _ = unsafe { rustix::mm::madvise(base, bytes, Advice::LinuxDontDump) };
        let base = NonNull::new(base.cast::<u8>()).ok_or(rustix::io::Errno::NOMEM)?;
        Ok(Self { file, base, bytes })
    }

    /// Where it is mapped: [`Shared::bytes`] initialised bytes, since a memfd reads as zeros, as
    /// long as this lives.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// How large it is.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its descriptor.
    pub(crate) fn number(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Whether there is a page behind this place: nothing was ever written where there is none.
    pub(crate) fn is_touched(&self, at: u64) -> bool {
        at < self.bytes as u64 && seek(&self.file, SeekFrom::Data(at)) == Ok(at)
    }

    /// Where the first page is that there is none of.
    pub(crate) fn untouched_from(&self) -> u64 {
        seek(&self.file, SeekFrom::Hole(0)).unwrap_or(self.bytes as u64)
    }

    /// Gives pages back to the kernel; they read as zeros then. A refusal leaves them resident,
    /// which is only a missed saving.
    pub(crate) fn punch(&self, start: u64, bytes: u64) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let _ = fallocate(&self.file, flags, start, bytes);
    }

    /// Takes pages out of this mapping and leaves them in the memory: they are mapped again when they
    /// are used. What is outside stays as it is.
    pub(crate) fn unmap(&self, start: usize, bytes: usize) {
        if start.saturating_add(bytes) <= self.bytes {
            // SAFETY: the range lies inside the mapping, which is shared: its bytes are those of the
            // memfd, so whoever has a slice of them reads and writes the same ones as before.
            let _ = unsafe {
                rustix::mm::madvise(
                    self.base.as_ptr().add(start).cast(),
                    bytes,
                    Advice::LinuxDontNeed,
                )
            };
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `with_size` mapped; whoever lends parts of it borrows
        // this, so none is lent.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// The same, as numbers.
#[derive(Debug)]
pub(crate) struct Words {
    shared: Shared,
    /// In the order in which they happened: what a model replays.
    #[cfg(test)]
    stores: std::sync::Mutex<Vec<(usize, u64)>>,
}

// SAFETY: the mapping belongs to no thread, and its numbers are atomic.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

/// What is lent for a place outside, which only a damaged number could lead to.
static OUTSIDE: AtomicU64 = AtomicU64::new(0);

impl Words {
    /// As [`Shared::new`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn new(name: &str, sizes: &[usize]) -> io::Result<Self> {
        Ok(Self::of(Shared::new(name, sizes)?))
    }

    /// As [`Shared::again`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn again(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self::of(Shared::again(fd)?))
    }

    fn of(shared: Shared) -> Self {
        Self {
            shared,
            #[cfg(test)]
            stores: std::sync::Mutex::default(),
        }
    }

    /// Its descriptor.
    pub(crate) fn number(&self) -> RawFd {
        self.shared.number()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.shared.bytes / size_of::<u64>()
    }

    /// The number at this place; 0 outside.
    pub(crate) fn get(&self, at: usize) -> u64 {
        // What is committed by one word is read after it.
        self.word(at).load(Ordering::Acquire)
    }

    /// Stores a number, after all that was stored before. Nothing happens outside.
    pub(crate) fn set(&self, at: usize, value: u64) {
        if at < self.len() {
            #[cfg(test)]
            self.stores.lock().unwrap().push((at, value));
            self.word(at).store(value, Ordering::Release);
        }
    }

    /// Sets some bits of a number that others set bits of, too.
    pub(crate) fn set_bits(&self, at: usize, bits: u64) {
        if at < self.len() {
            self.word(at).fetch_or(bits, Ordering::AcqRel);
        }
    }

    /// A place that is used as an int from the beginning, which the kernel may write to; see
    /// [`Words::get`] for the others.
    pub(crate) fn int(&self, at: usize) -> &AtomicI32 {
        // SAFETY: an aligned place of 8 bytes in the mapping, or the static one; nobody uses it as
        // another type, and it lives as long as `self`.
        unsafe { &*std::ptr::from_ref(self.word(at)).cast::<AtomicI32>() }
    }

    /// As [`Shared::is_touched`], of the number at this place.
    pub(crate) fn is_touched(&self, at: usize) -> bool {
        self.shared.is_touched((at * size_of::<u64>()) as u64)
    }

    /// As [`Shared::untouched_from`]: so many numbers are before that.
    pub(crate) fn touched(&self) -> usize {
        usize::try_from(self.shared.untouched_from()).map_or(0, |bytes| bytes / size_of::<u64>())
    }

    /// Gives the pages of a range back; its numbers are 0 then.
    pub(crate) fn punch(&self, start: usize, count: usize) {
        let bytes = |words: usize| (words * size_of::<u64>()) as u64;
        self.shared.punch(bytes(start), bytes(count));
    }

    /// All stores so far.
    #[cfg(test)]
    pub(crate) fn stores(&self) -> std::sync::MutexGuard<'_, Vec<(usize, u64)>> {
        self.stores.lock().unwrap()
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: the mapping is page-aligned, `len` numbers long, initialised, and lives as long
        // as `self`; nobody has a slice of plain numbers or bytes of it, and an atomic may be
        // changed by others while it is lent.
        let words = unsafe {
            std::slice::from_raw_parts(self.shared.base.as_ptr().cast::<AtomicU64>(), self.len())
        };
        words.get(at).unwrap_or(&OUTSIDE)
    }
}
