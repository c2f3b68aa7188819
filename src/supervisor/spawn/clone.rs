//! clone(2) and clone3(2) in the manner of vfork(2), with a stack of the child's own.
//!
//! In: what the child runs, its stack, the cgroup to be born in. Out: pid and pidfd. Knows nothing
//! of what the child does.
//!
//! # Safety
//! glibc has no wrapper for clone3, and only clone3 knows CLONE_INTO_CGROUP (kernel 5.7), so
//! [`clone3`] is a few instructions per architecture. The child leaves them only by calling the
//! entry function on its own stack and then by exit(2); it never returns into the parent's frame.
//! Registers the kernel preserves over a system call carry the entry function and its argument.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicI32;

use rustix::process::{WaitId, WaitIdOptions, waitid};

/// What the child runs; its result is the exit code.
pub(crate) type Entry = extern "C" fn(*mut libc::c_void) -> libc::c_int;

/// `CLONE_INTO_CGROUP`; libc's constant is an int, which has no room for it.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// `struct clone_args` (clone3(2)) up to and including the field of kernel 5.7.
#[repr(C, align(8))]
#[derive(Clone, Copy, Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const FLAGS: libc::c_int =
    libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::CLONE_CHILD_SETTID;

/// Whose descriptor table a new process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Files {
    /// A copy of this process's.
    Copied,
    /// This process's own (CLONE_FILES), until it makes a copy itself.
    Shared,
}

/// The cgroup that a process is to be born in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birthplace<'a> {
    /// Its directory.
    pub dir: BorrowedFd<'a>,
    /// If it cannot be born there, there is to be none.
    pub only: bool,
}

/// Whose child a new process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parent {
    /// This process's.
    This,
    /// That of this process's own parent (CLONE_PARENT), which has to reap it.
    Ours,
}

/// A new process.
#[derive(Debug)]
pub(crate) struct Cloned {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    /// Whether it was born in the cgroup asked for.
    pub(crate) in_group: bool,
}

/// Starts a process that shares this one's memory; returns once it has exec'd or is gone.
///
/// Where the process cannot be born in the group, it is born in the server's own, unless it must
/// not. `pid_slot` holds the pid as soon as the process exists.
///
/// # Errors
/// The errno of clone(2).
///
/// # Safety
/// `entry` must keep to what a vfork child may do, on `argument`, which stays valid and untouched
/// until this returns.
pub(crate) unsafe fn vfork(
    entry: Entry,
    argument: *mut libc::c_void,
    stack: &mut [u128],
    (files, parent): (Files, Parent),
    group: Option<Birthplace<'_>>,
    pid_slot: &AtomicI32,
) -> Result<Cloned, i32> {
    let mut flags = FLAGS;
    if files == Files::Shared {
        flags |= libc::CLONE_FILES;
    }
    // With CLONE_PARENT it is this process's own, and clone3(2) wants none.
    let exit_signal = match parent {
        Parent::This => libc::SIGCHLD,
        Parent::Ours => {
            flags |= libc::CLONE_PARENT;
            0
        }
    };
    let mut pidfd: RawFd = -1;
    let mut pid = -1;
    let mut in_group = false;
    let slot = pid_slot.as_ptr() as u64;
    let mut args = CloneArgs {
        flags: u64::from(flags.cast_unsigned()),
        pidfd: &raw mut pidfd as u64,
        exit_signal: u64::from(exit_signal.cast_unsigned()),
        stack: stack.as_mut_ptr() as u64,
        stack_size: size_of_val(stack) as u64,
        ..CloneArgs::default()
    };
    match parent {
        Parent::This => args.child_tid = slot,
        // Whoever goes on without this process must not miss a child that has not run yet.
        Parent::Ours => {
            args.flags &= !u64::from(libc::CLONE_CHILD_SETTID.cast_unsigned());
            args.flags |= u64::from(libc::CLONE_PARENT_SETTID.cast_unsigned());
            args.parent_tid = slot;
        }
    }
    if let Some(group) = group {
        let args = CloneArgs {
            flags: args.flags | CLONE_INTO_CGROUP,
            cgroup: u64::from(group.dir.as_raw_fd().cast_unsigned()),
            ..args
        };
        // SAFETY: `stack` is a mutable slice that outlives the child (CLONE_VFORK) and, being of
        // u128, has an aligned end; `pidfd` and `pid_slot` are valid for the kernel to write an
        // int to; the rest is the caller's promise.
        pid = unsafe { clone3(&args, entry, argument) };
        if pid < 0 && group.only {
            return Err(-pid);
        }
        in_group = pid > 0;
    }
    if pid < 0 && parent == Parent::Ours {
        // SAFETY: as above.
        pid = unsafe { clone3(&args, entry, argument) };
    }
    if pid < 0 {
        // SAFETY: as above; the top of the stack is the end of the slice.
        pid = unsafe {
            libc::clone(
                entry,
                stack.as_mut_ptr_range().end.cast(),
                flags | exit_signal,
                argument,
                &raw mut pidfd,
                std::ptr::null_mut::<libc::c_void>(),
                pid_slot.as_ptr(),
            )
        };
    }
    if pid < 0 {
        return Err(std::io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EAGAIN));
    }
    // SAFETY: the call succeeded, so the kernel stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned {
        pid,
        pidfd,
        in_group,
    })
}

/// Makes a copy of this process that shares its descriptor table: 0 in the copy, its pid here.
///
/// # Errors
/// The errno of clone(2).
///
/// # Safety
/// This thread is the only one: the copy has no other, whatever they were doing.
pub(crate) unsafe fn copy_sharing_files() -> Result<i32, i32> {
    let flags = libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and with no stack of its own the copy goes on here as after fork(2);
    // the four null pointers are for flags that are not given.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match i32::try_from(pid) {
        Ok(pid @ 0..) => Ok(pid),
        _ => Err(std::io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EAGAIN)),
    }
}

/// Closes the descriptors `first..=last`, also where there is no close_range(2).
pub(crate) fn close_between(first: RawFd, last: RawFd) {
    let (first, last) = (first.cast_unsigned(), last.cast_unsigned());
    // SAFETY: plain numbers. They are nobody's: whoever opened them is dead (`supervisor::keeper`).
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if closed < 0 {
        for fd in open_between(first, last) {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
}

/// Kernels before 5.9.
fn open_between(first: u32, last: u32) -> Vec<RawFd> {
    let listed = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    let numbers = listed
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter(|fd: &RawFd| (first..=last).contains(&fd.cast_unsigned()))
        .collect()
}

/// Closes every descriptor from `first` on (close_range(2), kernel 5.9). Fit for a child between
/// vfork and exec. Negative if it cannot be done.
///
/// # Safety
/// Nobody may use such a descriptor afterwards who shares the table; with CLOSE_RANGE_UNSHARE
/// nobody does.
pub(crate) unsafe fn close_from(first: u32, flags: libc::c_uint) -> libc::c_long {
    // SAFETY: plain numbers; what closing means is the caller's promise.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) }
}

/// Marks every descriptor from `first` on as close-on-exec (kernel 5.11); false where that fails.
pub(super) fn mark_from(first: u32) -> bool {
    // SAFETY: nothing is closed before an exec.
    unsafe { close_from(first, libc::CLOSE_RANGE_CLOEXEC) == 0 }
}

/// Whether [`close_from`] works here.
pub(crate) fn can_close_ranges() -> bool {
    // SAFETY: no descriptor has this number.
    unsafe { close_from(libc::c_uint::MAX, 0) == 0 }
}

/// Whether a child can be born there and end in its own way.
pub(crate) fn can_be_born_in(group: Birthplace<'_>) -> bool {
    extern "C" fn end_at_once(_: *mut libc::c_void) -> libc::c_int {
        0
    }
    let mut stack = [0u128; 256];
    let slot = AtomicI32::new(0);
    // SAFETY: the child does nothing, on a stack that outlives it.
    let child = unsafe {
        vfork(
            end_at_once,
            std::ptr::null_mut(),
            &mut stack,
            (Files::Copied, Parent::This),
            Some(group),
            &slot,
        )
    };
    child.is_ok_and(|child| {
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
        child.in_group && matches!(status, Ok(Some(status)) if status.exit_status() == Some(0))
    })
}

/// The system call; the child calls `entry` and exits. Negative is an errno.
///
/// # Safety
/// As [`vfork`], and `args` must describe a valid stack with an end aligned to 16 bytes.
#[cfg(target_arch = "x86_64")]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a pid or a negative errno, both of which the kernel keeps in an int"
)]
unsafe fn clone3(args: &CloneArgs, entry: Entry, argument: *mut libc::c_void) -> i32 {
    let result: i64;
    // SAFETY: the kernel changes rax, rcx and r11 only. The child comes back with its own stack
    // pointer, aligned, so `call` finds the stack as the ABI wants it; it leaves by exit (60).
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "mov edi, eax",
            "mov eax, 60",
            "syscall",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") args,
            in("rsi") size_of_val(args),
            in("r12") entry,
            in("r13") argument,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result as i32
}

/// As for x86-64.
///
/// # Safety
/// As there.
#[cfg(target_arch = "aarch64")]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a pid or a negative errno, both of which the kernel keeps in an int"
)]
unsafe fn clone3(args: &CloneArgs, entry: Entry, argument: *mut libc::c_void) -> i32 {
    let result: i64;
    // SAFETY: the kernel changes x0 only. The child comes back with its own stack pointer,
    // aligned; it leaves by exit (93).
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x21",
            "blr x20",
            "mov x8, #93",
            "svc #0",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") args => result,
            in("x1") size_of_val(args),
            in("x20") entry,
            in("x21") argument,
        );
    }
    result as i32
}

/// Elsewhere nobody is born in a cgroup.
///
/// # Safety
/// None needed.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn clone3(_: &CloneArgs, _: Entry, _: *mut libc::c_void) -> i32 {
    -libc::ENOSYS
}
