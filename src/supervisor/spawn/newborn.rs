//! How a child is scheduled until exec: behind those that have begun.
//!
//! In: nothing. Out: sched_setattr(2) on the calling process, and its undoing. Knows no child.
//!
//! Each child leads a session, and with that an autogroup of its own (sched(7)) wherever tasks have
//! no cpu controller. On a busy machine the scheduler (EEVDF, seen on kernel 6.18) then serves one
//! newcomer after the other before it returns to a child that it has interrupted, be it for its
//! last 20 us: of runs that take a millisecond, one in a hundred took 110 ms, some 600 ms. A longer
//! slice (kernel 6.12) means a later deadline, so that a newcomer waits for who is there already.
//! Figures are in docs/design/014-many-runs.md.
//!
//! # Safety
//! Two system calls that libc has no wrapper for, on a structure of the size they are told.
#![allow(unsafe_code)]

/// So many times as long is the slice until exec.
const LONGER: u64 = 2;

/// A process with a longer slice. It keeps its policy and nice value.
#[derive(Debug)]
pub(crate) struct Newborn(libc::sched_attr);

impl Newborn {
    /// Gives the calling process the longer slice. Fit for a child between vfork and exec. None
    /// where there are no slices or it is refused; then nothing has changed.
    pub(crate) fn begin() -> Option<Self> {
        let mut attr = own()?;
        // Where there are no slices, this reads 0.
        let has_slice = matches!(
            attr.sched_policy.cast_signed(),
            libc::SCHED_OTHER | libc::SCHED_BATCH
        ) && attr.sched_runtime != 0;
        attr.sched_flags = 0;
        // The kernel has an upper limit of 100 ms.
        attr.sched_runtime = attr.sched_runtime.saturating_mul(LONGER);
        (has_slice && set(&attr)).then_some(Self(attr))
    }

    /// Gives it the usual slice again. A deadline that was set meanwhile stays until it is used up.
    pub(crate) fn end(mut self) {
        // The usual one.
        self.0.sched_runtime = 0;
        set(&self.0);
    }
}

fn own() -> Option<libc::sched_attr> {
    let size = u32::try_from(size_of::<libc::sched_attr>()).ok()?;
    // SAFETY: all zeros is a valid value of a structure of integers; the kernel writes at most
    // `size` bytes to it, which is how long it is.
    unsafe {
        let mut attr: libc::sched_attr = std::mem::zeroed();
        let result = libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, size, 0);
        attr.size = size;
        (result == 0).then_some(attr)
    }
}

fn set(attr: &libc::sched_attr) -> bool {
    // SAFETY: the kernel reads `attr.size` bytes, which is how long the structure is.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, attr, 0) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slice_is_longer_in_between_and_nice_and_policy_stay() {
        std::thread::spawn(|| {
            // SAFETY: plain numbers; it is about this thread, which ends here.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 3) };
            let before = own().unwrap();
            let Some(newborn) = Newborn::begin() else {
                // A kernel without slices says so.
                assert_eq!(before.sched_runtime, 0);
                return;
            };
            let during = own().unwrap();
            assert_eq!(during.sched_runtime, before.sched_runtime * LONGER);
            newborn.end();
            let after = own().unwrap();
            assert_eq!(after.sched_runtime, before.sched_runtime);
            for attr in [before, during, after] {
                assert_eq!(
                    (attr.sched_nice, attr.sched_policy),
                    (3, before.sched_policy)
                );
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_process_under_another_policy_is_left_alone() {
        std::thread::spawn(|| {
            let idle = libc::sched_param { sched_priority: 0 };
            // SAFETY: a valid structure; it is about this thread, which ends here.
            let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &idle) };
            assert_eq!(result, 0);
            assert!(Newborn::begin().is_none());
            assert_eq!(own().unwrap().sched_policy, libc::SCHED_IDLE as u32);
        })
        .join()
        .unwrap();
    }
}
