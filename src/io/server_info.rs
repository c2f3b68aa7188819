//! The answer of `GET /v1/server`.
//!
//! In: everything that the I/O thread knows of itself. Out: the answer, once the supervisor has
//! said whether there are cgroups, which takes a moment after the start.

use std::pin::pin;

use rustix::process::{Resource, getrlimit};

use crate::api::Reply;
use crate::api::server_info::{self, Counted};
use crate::budget::Kind;
use crate::config::timeouts;
use crate::log::SLOT_BYTES;
use crate::wire::say::server::{Bounds, Memory};

use crate::io::conn::reader::Reader;
use crate::io::conn::receive::BODY_BYTES_MAX;
use crate::io::host::backlog;
use crate::io::server::Server;
use crate::io::wait::{Limits, Waited, for_client, until};
use crate::io::ws::MESSAGE_BYTES_MAX;

/// None if the client is gone.
pub(super) async fn server_info(server: &Server, client: &mut Reader) -> Option<Reply> {
    let known = until(|| match server.info.borrow().groups {
        Some(_) => Ok(()),
        None => Err(server.groups_known.clone()),
    });
    let limits = Limits {
        // The supervisor does nothing else before that; if it is stuck, the rest is true.
        in_all: Some(timeouts::START_MAX),
        half_closed: timeouts::HALF_CLOSED_MAX,
    };
    if for_client(pin!(known), limits, client).await == Waited::Gone {
        return None;
    }
    let table = server.table.borrow();
    Some(server_info::reply(
        &server.info.borrow(),
        &server.settings.get(),
        bounds(server),
        memory(server),
        Counted {
            of_table: table.counts(),
            queued_runs: server.runs.queued(),
            connections: server.connections.get(),
        },
    ))
}

fn memory(server: &Server) -> Memory {
    let (budget, held) = (&server.budget, server.table.borrow().held());
    Memory {
        logs_bytes: held.logs,
        captures_bytes: held.captures,
        bodies_bytes: budget.held(Kind::Bodies),
        answers_bytes: budget.held(Kind::Answers),
        records_bytes: budget.held(Kind::Records),
        total_bytes: budget.total(),
    }
}

fn bounds(server: &Server) -> Bounds {
    let table = server.table.borrow();
    let idle = timeouts::IDLE_TIME_MAX.as_millis();
    Bounds {
        max_connections: server.connections_max.get(),
        max_exited: table.exited_max(),
        max_leftovers: table.leftovers_max(),
        max_exited_log_bytes: crate::process::table::EXITED_LOG_BYTES_MAX,
        max_log_entry_bytes: SLOT_BYTES,
        max_request_body_bytes: BODY_BYTES_MAX,
        max_request_head_bytes: server.options.head_limits.head_bytes_max,
        max_web_socket_message_bytes: MESSAGE_BYTES_MAX,
        max_typed_ahead_bytes: backlog::BYTES_MAX,
        memory_max_bytes: server.budget.max(),
        max_concurrent_runs: server.runs.bounds().concurrent_max,
        max_queued_runs: server.runs.bounds().queued_max,
        max_descriptors: getrlimit(Resource::Nofile).current,
        idle_connection_ms: u64::try_from(idle).unwrap_or(u64::MAX),
    }
}
