//! Waiting for an entry of a log, for a client that asks again and again instead of following.
//!
//! In: what it waits for. Out: that it can be answered. Owns nothing.

use std::pin::pin;

use crate::api::logs::{AwaitEntry, Awaited};
use crate::config::timeouts;
use crate::types::Monotonic;

use crate::io::conn::reader::Reader;
use crate::io::runtime::race::race;
use crate::io::runtime::timer::{instant, sleep_until};
use crate::io::runtime::turn::rest;
use crate::io::server::Server;
use crate::io::wait::{Limits, Waited, for_client};

/// Completes when there is an entry, or none will come, or the client has waited long enough.
/// False if it is gone.
pub(super) async fn await_entry(
    server: &Server,
    wait: &mut AwaitEntry,
    client: &mut Reader,
) -> bool {
    let limits = Limits {
        in_all: wait.query.wait,
        half_closed: timeouts::HALF_CLOSED_MAX,
    };
    for_client(pin!(look(server, wait)), limits, client).await != Waited::Gone
}

async fn look(server: &Server, wait: &mut AwaitEntry) {
    loop {
        let found = match server.table.borrow().get(wait.id) {
            None => return,
            Some(process) => match wait.look(process, Monotonic::now()) {
                Awaited::Ready => return,
                Awaited::More => None,
                Awaited::Nothing(until) => Some((process.changed.clone(), until)),
            },
        };
        match found {
            None => rest().await,
            Some((changed, None)) => changed.changed(changed.version()).await,
            Some((changed, Some(until))) => {
                let news = pin!(changed.changed(changed.version()));
                race(news, pin!(sleep_until(instant(until)))).await;
            }
        }
    }
}
