//! What all black-box tests share: servers, connections, event streams, JSON in order.
//!
//! Every wait has an end (`WAIT`), far above what the contract promises: machines are
//! slow and noisy, and a test must fail by what it saw, never hang.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(crate) mod backend;
pub(crate) mod books;
pub(crate) mod cli;
pub(crate) mod delegated;
pub(crate) mod folder;
pub(crate) mod http;
pub(crate) mod json;
pub(crate) mod launch;
pub(crate) mod lines;
pub(crate) mod node;
pub(crate) mod procfs;
pub(crate) mod proxy;
pub(crate) mod server;
#[cfg(target_arch = "x86_64")]
pub(crate) mod short;
pub(crate) mod sse;
pub(crate) mod ws;

pub(crate) use backend::{Backend, on_both};
pub(crate) use folder::Folder;
pub(crate) use http::{Conn, Response};
pub(crate) use json::{Problem, sh};
pub(crate) use launch::Launch;
pub(crate) use server::Server;
pub(crate) use sse::{Follow, Item};
pub(crate) use ws::Ws;

/// The end of every wait whose length the contract does not promise.
pub(crate) const WAIT: Duration = Duration::from_secs(30);

/// For tests that keep the whole machine busy: one of them at a time, so that what they wait for
/// comes in time.
pub(crate) fn one_heavy_test_at_a_time() -> MutexGuard<'static, ()> {
    static BUSY: Mutex<()> = Mutex::new(());
    // A test that failed has nothing to do with the next one.
    BUSY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Polls `look` every 10 ms until it gives something, for at most `WAIT`.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + WAIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {WAIT:?} for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Says in plain sight that something was not run: past the test runner's capture.
/// With `CI=true` a thing that is not run is a failure.
pub(crate) fn skipped(why: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "skipped, which CI does not allow: {why}"
    );
    skipped_anywhere(why);
}

/// The same for what a CI machine, too, may be unable to run.
pub(crate) fn skipped_anywhere(why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}
