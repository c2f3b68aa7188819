//! The two I/O backends a promise is checked on, and the filter that denies the first.
//!
//! Safety: this file reopens `unsafe` for three raw calls: `io_uring_setup` as a probe,
//! and `prctl` twice in a forked child before exec.

use std::io;
use std::sync::OnceLock;

/// Which backend a server under test has to end up on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// io_uring, as the machine offers it.
    Uring,
    /// epoll, because a seccomp filter denies io_uring.
    Epoll,
}

impl Backend {
    /// The word that the start line must hold.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Uring => "io_uring",
            Self::Epoll => "epoll",
        }
    }

    /// Whether this machine can run this half; says so in plain sight where it cannot.
    pub(crate) fn available(self) -> bool {
        static URING: OnceLock<bool> = OnceLock::new();
        self == Self::Epoll
            || *URING.get_or_init(|| {
                let denied = probe_uring();
                if let Some(error) = &denied {
                    super::skipped(&format!(
                        "io_uring is denied on this machine ({error}); only the epoll half runs"
                    ));
                }
                denied.is_none()
            })
    }
}

/// Runs each named `fn(Backend)` of the calling module on both backends.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod uring {
            $(#[test] fn $name() {
                if crate::harness::Backend::Uring.available() {
                    super::$name(crate::harness::Backend::Uring);
                }
            })+
        }
        mod epoll {
            $(#[test] fn $name() { super::$name(crate::harness::Backend::Epoll); })+
        }
    };
}
pub(crate) use on_both;

/// The error of `io_uring_setup(2)` where it is not to be had.
fn probe_uring() -> Option<io::Error> {
    // `struct io_uring_params` is 120 bytes; all zero asks for a plain ring.
    let mut params = [0u64; 15];
    // SAFETY: the kernel reads and writes 120 bytes at `params`, which has them and
    // outlives the call; the descriptor it may return is closed below.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 2, params.as_mut_ptr()) };
    if fd < 0 {
        return Some(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just made by the kernel for us and nobody else holds it.
    unsafe { libc::close(fd as libc::c_int) };
    None
}

/// The errno with which the epoll half denies io_uring.
pub(crate) fn denial_errno() -> i32 {
    match std::env::var("PROCRING_TEST_DENIAL").as_deref() {
        Ok("ENOSYS") => libc::ENOSYS,
        _ => libc::EPERM,
    }
}

/// A seccomp program that answers `errno` to the three io_uring calls and lets all
/// others pass. Built before the fork, since the child must not allocate.
pub(crate) struct Denial {
    code: [libc::sock_filter; 6],
}

impl Denial {
    pub(crate) fn new(errno: i32) -> Self {
        // BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K.
        let load = |k| libc::sock_filter {
            code: 0x20,
            jt: 0,
            jf: 0,
            k,
        };
        let jump_if = |k: i64, jt| libc::sock_filter {
            code: 0x15,
            jt,
            jf: 0,
            k: k as u32,
        };
        let answer = |k| libc::sock_filter {
            code: 0x06,
            jt: 0,
            jf: 0,
            k,
        };
        Self {
            code: [
                load(0), // seccomp_data.nr
                jump_if(libc::SYS_io_uring_setup, 3),
                jump_if(libc::SYS_io_uring_enter, 2),
                jump_if(libc::SYS_io_uring_register, 1),
                answer(libc::SECCOMP_RET_ALLOW),
                answer(libc::SECCOMP_RET_ERRNO | errno as u32),
            ],
        }
    }

    /// Puts the filter on the calling process for good. Only raw calls: fit for
    /// the time between fork and exec.
    pub(crate) fn install(&mut self) -> io::Result<()> {
        let program = libc::sock_fprog {
            len: self.code.len() as libc::c_ushort,
            filter: self.code.as_mut_ptr(),
        };
        // SAFETY: plain integers; PR_SET_NO_NEW_PRIVS has no pointer argument.
        if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `program` and the code it points to live through the call, which
        // copies them; its length is the array's.
        let done = unsafe {
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            )
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}
