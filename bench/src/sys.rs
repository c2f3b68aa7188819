//! The few system calls that neither `std` nor `rustix` offers.
//!
//! Safety: every block passes pointers to locals that outlive the call, and the kernel
//! keeps none of them.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// CPU time of a whole process, threads that have ended included (clock_getcpuclockid(3)).
///
/// # Errors
/// `ESRCH` once the process is gone.
pub(crate) fn process_cpu(pid: i32) -> io::Result<Duration> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` is a live local of the right type; the call writes it or fails.
    let code = unsafe { libc::clock_getcpuclockid(pid, &mut clock) };
    if code != 0 {
        return Err(io::Error::from_raw_os_error(code));
    }
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `now` is a live local with room for one timespec.
    if unsafe { libc::clock_gettime(clock, now.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: clock_gettime returned 0, so it has filled the whole struct.
    let now = unsafe { now.assume_init() };
    Ok(Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    ))
}

/// Has the child killed when the thread that started it ends, so that a crash of the
/// benchmark leaves no server behind (PR_SET_PDEATHSIG, prctl(2)).
pub(crate) fn die_with_parent(command: &mut Command) {
    let set = || {
        // SAFETY: PR_SET_PDEATHSIG takes one integer and touches no memory.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec the closure makes one system call and reads errno; it
    // allocates nothing and takes no lock.
    unsafe { command.pre_exec(set) };
}
