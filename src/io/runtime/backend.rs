//! Which driver the runtime gets: io_uring with the best flags the kernel has, else epoll.
//!
//! In: what the command line asks for. Out: a runtime that runs one future to its end, and the
//! name of what won. The ladder is measured (docs/design/002-ring-flags.md): DEFER_TASKRUN makes
//! io_uring as cheap per request as epoll, the kernel's default flags do not.

use std::fmt;
use std::future::Future;
use std::io;

use crate::config::flags::BackendChoice;
use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};

/// Entries of the submission queue; the completion queue has twice as many.
const RING_ENTRIES: u32 = 1024;

/// What won.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// SINGLE_ISSUER and DEFER_TASKRUN (kernel 6.1).
    UringDefer,
    /// COOP_TASKRUN (kernel 5.19).
    UringCoop,
    /// No flags.
    UringPlain,
    /// No io_uring.
    Epoll,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::UringDefer => "io_uring, single issuer, deferred task work",
            Backend::UringCoop => "io_uring, cooperative task work",
            Backend::UringPlain => "io_uring",
            Backend::Epoll => "epoll",
        })
    }
}

/// A runtime on one of the two drivers.
pub(crate) enum Driver {
    /// io_uring.
    Uring(Box<Runtime<IoUringDriver>>),
    /// epoll.
    Epoll(Box<Runtime<LegacyDriver>>),
}

impl Driver {
    /// Runs a future on this thread.
    pub(crate) fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        match self {
            Driver::Uring(runtime) => runtime.block_on(future),
            Driver::Epoll(runtime) => runtime.block_on(future),
        }
    }
}

/// What [`build`] made.
pub(crate) struct Built {
    /// The runtime; must be used on the thread that built it (SINGLE_ISSUER).
    pub driver: Driver,
    /// What it runs on.
    pub backend: Backend,
    /// Why io_uring was not used although `auto` would have liked to.
    pub denied: Option<io::Error>,
}

/// Builds the runtime that `choice` asks for.
///
/// # Errors
/// With [`BackendChoice::Uring`], why there is no io_uring; else why not even epoll works.
pub(crate) fn build(choice: BackendChoice) -> io::Result<Built> {
    let mut denied = None;
    if choice != BackendChoice::Epoll {
        match uring() {
            Ok((runtime, backend)) => {
                return Ok(Built {
                    driver: Driver::Uring(Box::new(runtime)),
                    backend,
                    denied: None,
                });
            }
            Err(error) if choice == BackendChoice::Uring => return Err(error),
            Err(error) => denied = Some(error),
        }
    }
    let runtime = RuntimeBuilder::<LegacyDriver>::new().build()?;
    Ok(Built {
        driver: Driver::Epoll(Box::new(runtime)),
        backend: Backend::Epoll,
        denied,
    })
}

fn uring() -> io::Result<(Runtime<IoUringDriver>, Backend)> {
    let build = |flags: &dyn Fn(&mut io_uring::Builder)| {
        let mut builder = io_uring::IoUring::builder();
        flags(&mut builder);
        RuntimeBuilder::<IoUringDriver>::new()
            .with_entries(RING_ENTRIES)
            .uring_builder(builder)
            .build()
    };
    let defer = build(&|builder| {
        builder.setup_single_issuer().setup_defer_taskrun();
    });
    if let Ok(runtime) = defer {
        return Ok((runtime, Backend::UringDefer));
    }
    let coop = build(&|builder| {
        builder.setup_coop_taskrun();
    });
    if let Ok(runtime) = coop {
        return Ok((runtime, Backend::UringCoop));
    }
    let runtime = build(&|_| {})?;
    // A ring can be made since kernel 5.1, but what is sent through it needs 5.6.
    if !monoio::utils::detect_uring() {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    Ok((runtime, Backend::UringPlain))
}

/// Runs a test to its end, on a runtime of its own.
#[cfg(test)]
pub(crate) fn block_on<F: Future>(test: F) -> F::Output {
    let runtime = RuntimeBuilder::<LegacyDriver>::new().build();
    runtime.expect("a runtime").block_on(test)
}
