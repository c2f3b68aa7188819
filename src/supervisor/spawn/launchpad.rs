//! What a child stands on until exec: a stack, room for a path, and numbers for its descriptors.
//!
//! In: the descriptors that become 0, 1 and 2. Out: low numbers that they can be found under.
//! Belongs to one spawner thread and is used for one child after the other.
//!
//! A child begins with a copy of the server's descriptor table, and copying it takes as long as
//! the table is (0.1 ms for 10,000 descriptors, and as much again to close them at exec). A child
//! that shares the table until it calls close_range(2) with CLOSE_RANGE_UNSHARE
//! (used from kernel 6.11 on), copies only the numbers below that range. So its own three are put
//! there first.
//! It also means that a child whose exec hangs holds no socket and no other child's pipe open.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::{DupFlags, dup3, fcntl_dupfd_cloexec};

use crate::supervisor::spawn::clone;
use crate::supervisor::spawn::search::PATH_BYTES_MAX;

/// Bytes of the child's stack until exec; the child calls nothing deep.
const STACK_BYTES: usize = 32 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Launchpad {
    // u128 keeps the top 16-byte aligned, as the ABIs want it.
    pub(crate) stack: Box<[u128]>,
    /// Where the child joins a directory of PATH with the program's name.
    pub(super) path: Box<[u8; PATH_BYTES_MAX]>,
    pub(crate) staging: Option<Staging>,
}

impl Default for Launchpad {
    /// One whose children copy the whole table.
    fn default() -> Self {
        Self {
            stack: vec![0; STACK_BYTES / size_of::<u128>()].into_boxed_slice(),
            path: Box::new([0; PATH_BYTES_MAX]),
            staging: None,
        }
    }
}

impl Launchpad {
    /// One with numbers of its own, where the kernel can do it. To be made before there are many
    /// descriptors; `null` takes the place of what is not there.
    pub(crate) fn with_staging(null: BorrowedFd<'_>) -> Self {
        let usable = kernel_copies_tables_right() && clone::can_close_ranges();
        let staging = usable.then(|| Staging::new(null).ok());
        Self {
            staging: staging.flatten(),
            ..Self::default()
        }
    }
}

/// Whether the kernel is 6.11 or later. Before, and where the mend was not ported back, a table cut
/// by CLOSE_RANGE_UNSHARE may keep marks of numbers that are not in it, and a child that opens more
/// than 64 files would be refused some.
fn kernel_copies_tables_right() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || parts.next().and_then(|part| part.parse::<u32>().ok());
    (next(), next()) >= (Some(6), Some(11))
}

/// Three descriptors below a number from which on a child keeps none.
#[derive(Debug)]
pub(crate) struct Staging {
    slots: [OwnedFd; 3],
    end: u32,
}

impl Staging {
    fn new(null: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        let slot = || fcntl_dupfd_cloexec(null, 3);
        let slots = [slot()?, slot()?, slot()?];
        let last = slots.iter().map(AsRawFd::as_raw_fd).max();
        let end = last.and_then(|last| u32::try_from(last).ok()).unwrap_or(0) + 1;
        Ok(Self { slots, end })
    }

    /// Puts descriptors into the slots. On an error some may be there.
    pub(crate) fn put(&mut self, fds: [BorrowedFd<'_>; 3]) -> rustix::io::Result<()> {
        for (slot, fd) in self.slots.iter_mut().zip(fds) {
            dup3(fd, slot, DupFlags::CLOEXEC)?;
        }
        Ok(())
    }

    /// Lets go of what was put there.
    pub(crate) fn clear(&mut self, null: BorrowedFd<'_>) {
        // Fails for no reason that could be mended: both exist.
        let _ = self.put([null; 3]);
    }

    /// The numbers of the slots.
    pub(crate) fn numbers(&self) -> [RawFd; 3] {
        self.slots.each_ref().map(AsRawFd::as_raw_fd)
    }

    /// A child closes everything from here on.
    pub(crate) fn end(&self) -> u32 {
        self.end
    }
}
