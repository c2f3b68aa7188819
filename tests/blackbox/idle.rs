//! A server that nobody asks for anything sleeps.

use std::time::Duration;

use serde_json::json;

use crate::harness::sse::Follow;
use crate::harness::ws::Ws;
use crate::harness::{Backend, Server, on_both, procfs};

on_both!(an_idle_server_does_not_wake);

/// Longer than anything that follows activity: pages of freed slots are given back after a second.
const SETTLE: Duration = Duration::from_millis(2500);

/// Shorter than the pause before the first keep-alive.
const IDLE: Duration = Duration::from_secs(4);

/// A timer that was given up may wake the server once.
const WAKES_MAX: u64 = 2;

fn an_idle_server_does_not_wake(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let _follower = Follow::process(&server, &id);
    let terminal = server.spawn(&json!({"command": "cat", "tty": true}));
    let _viewer = Ws::attach(&server, &terminal, "");
    let _connection = server.conn();
    std::thread::sleep(SETTLE);
    let before = procfs::switches(server.pid);
    std::thread::sleep(IDLE);
    let wakes = procfs::switches(server.pid) - before;
    assert!(wakes <= WAKES_MAX, "{wakes} wakes in {IDLE:?}");
}
