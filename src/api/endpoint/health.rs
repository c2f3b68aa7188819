//! `GET /healthz` and `GET /readyz`: for whoever restarts a server, and for whoever sends it work.
//!
//! In: what is known of both loops, and whether the server is ending. Out: the answer.

use crate::api::problem::Problem;
use crate::api::reply::Reply;
use crate::wire::say::server;

/// Whether the process answers: its I/O loop does, since it says so, and the supervisor's has or
/// has not within the time that it had.
pub(crate) fn healthz(supervisor_answers: bool) -> Reply {
    match supervisor_answers {
        true => Reply::json(server::OK),
        false => {
            let message = "the supervisor's thread does not answer; nothing can be started or \
                           ended: restart the server";
            Problem::unavailable(message, Some("supervisor_stuck")).reply()
        }
    }
    .header("cache-control", "no-store")
}

/// Whether new work is taken.
pub(crate) fn readyz(shutting_down: bool) -> Reply {
    match shutting_down {
        false => Reply::json(server::READY),
        true => {
            let message = "the server is shutting down";
            Problem::unavailable(message, Some("shutting_down")).reply()
        }
    }
    .header("cache-control", "no-store")
}
