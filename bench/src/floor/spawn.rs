//! Starting and reaping, one after the other, in three ways.
//!
//! Safety: argument vectors are NUL-terminated statics. The CLONE_VM child runs on a stack
//! of its own while the parent is stopped (CLONE_VFORK), calls only execve and _exit, and
//! writes no memory of ours but that stack.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::process::Command;
use std::ptr;
use std::time::Instant;

use rustix::process::{Pid, WaitOptions, waitpid};

use crate::account::{own_cpu, reaped_cpu};
use crate::trouble::{During, Result, Trouble};

const PROGRAM: &CStr = c"/bin/true";
const STACK: usize = 64 * 1024;

/// Starts and reaps `count` children in way `index`: own CPU, wall and children's CPU, µs each.
pub(super) fn measure(index: usize, count: u32) -> Result<Vec<f64>> {
    let own_pid = i32::try_from(std::process::id()).unwrap_or(0);
    let mut stack = vec![0u128; STACK / size_of::<u128>()];
    let (began, own, reaped) = (Instant::now(), own_cpu(), reaped_cpu(own_pid)?);
    for _ in 0..count {
        let pid = match index {
            0 => posix_spawn(),
            1 => clone_vfork(&mut stack),
            _ => Command::new("/bin/true")
                .spawn()
                .map(|child| child.id().cast_signed()),
        }
        .during("start /bin/true")?;
        let pid = Pid::from_raw(pid).ok_or_else(|| Trouble::Setup("pid 0".into()))?;
        waitpid(Some(pid), WaitOptions::empty()).during("reap /bin/true")?;
    }
    let each = |seconds: f64| seconds * 1e6 / f64::from(count);
    Ok(vec![
        each((own_cpu() - own).as_secs_f64()),
        each(began.elapsed().as_secs_f64()),
        each(reaped_cpu(own_pid)? - reaped),
    ])
}

fn posix_spawn() -> io::Result<i32> {
    let argv: [*mut c_char; 2] = [PROGRAM.as_ptr().cast_mut(), ptr::null_mut()];
    let envp: [*mut c_char; 1] = [ptr::null_mut()];
    let mut pid = 0;
    // SAFETY: the vectors are NUL-terminated locals; no actions and no attributes are given.
    let code = unsafe {
        libc::posix_spawn(
            &mut pid,
            PROGRAM.as_ptr(),
            ptr::null(),
            ptr::null(),
            argv.as_ptr(),
            envp.as_ptr(),
        )
    };
    if code == 0 {
        Ok(pid)
    } else {
        Err(io::Error::from_raw_os_error(code))
    }
}

extern "C" fn exec(_: *mut c_void) -> c_int {
    let argv: [*const c_char; 2] = [PROGRAM.as_ptr(), ptr::null()];
    let envp: [*const c_char; 1] = [ptr::null()];
    // SAFETY: NUL-terminated vectors on the child's own stack; _exit does not return and
    // runs nothing of the parent's.
    unsafe {
        libc::execve(PROGRAM.as_ptr(), argv.as_ptr(), envp.as_ptr());
        libc::_exit(127)
    }
}

fn clone_vfork(stack: &mut [u128]) -> io::Result<i32> {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the pointer is one past the end of a live, 16-byte aligned stack, which grows
    // down; the parent is stopped until the child has called execve or _exit.
    let pid = unsafe {
        libc::clone(
            exec,
            stack.as_mut_ptr_range().end.cast(),
            flags,
            ptr::null_mut(),
        )
    };
    if pid > 0 {
        Ok(pid)
    } else {
        Err(io::Error::last_os_error())
    }
}
