//! Keeps descriptors for accepting and answering.
//!
//! In: the limit. Out: whether work that needs descriptors may begin. Counts what the whole
//! process holds, since the supervisor's share lies in the same table.

use rustix::fs::stat;

use crate::api::Problem;

use super::server::Server;

/// Kept for connections, and for looking into /proc while a tree is killed.
const RESERVED: u64 = 16;

/// Three pipes with both ends, a pidfd, a cgroup with its events.
const PER_CHILD: u64 = 9;

/// Of the descriptors that are not reserved, connections may hold this share.
const CONNECTIONS_SHARE: u64 = 2;

/// Connections that a table of `limit` descriptors allows.
pub(super) fn connections_max(limit: u64) -> usize {
    let share = limit.saturating_sub(2 * RESERVED) / CONNECTIONS_SHARE;
    usize::try_from(share.max(4)).unwrap_or(usize::MAX)
}

/// Whether a child may be started.
///
/// # Errors
/// 503, naming the limit.
pub(super) fn check(server: &Server) -> Result<(), Problem> {
    let limit = server.options.descriptors_max;
    // The size of this directory is the number of open descriptors (kernel 6.2; 0 before).
    let used = stat("/proc/self/fd").map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
    if used + PER_CHILD + RESERVED <= limit {
        return Ok(());
    }
    let what = format!("{used} of {limit} descriptors (RLIMIT_NOFILE) in use");
    Err(Problem::resource(&what, libc::EMFILE))
}
