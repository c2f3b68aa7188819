//! Memory after a burst: what a server needed for a moment, it does not keep.

use crate::harness::books::Books;
use crate::harness::{Backend, Conn, Server, eventually, on_both, sh};

on_both!(the_memory_of_a_burst_of_connections_is_given_back);

/// What the allocator keeps in pieces smaller than a page. Seen: up to 1 MiB.
const KEPT_KIB: u64 = 4 << 10;

/// A connection that stays and has been used, so that what it holds lies above the burst.
fn stay(server: &Server) -> Conn {
    let mut conn = server.conn();
    conn.send("GET /v1/health HTTP/1.1\r\nHost: h\r\n\r\n");
    conn.response("GET").expect(200);
    conn
}

/// At rest with some connections open, as they will be afterwards.
fn before(server: &Server) -> Books {
    server.run(&sh("true"));
    Books {
        connections: 8,
        ..Books::at_rest(server)
    }
}

#[track_caller]
fn check(server: &Server, before: &Books, peak: u64, staying: Vec<Conn>) {
    let peak = peak - before.private_kib;
    assert!(peak > 2 * KEPT_KIB, "no burst: {peak} KiB at its peak");
    let allowed = Books {
        descriptors: before.descriptors + staying.len(),
        threads: before.threads.max(4),
        ..before.clone()
    };
    let after = allowed.await_balance(server, KEPT_KIB);
    eprintln!("{before:?}, {peak} KiB more at the peak, {after:?}");
}

fn the_memory_of_a_burst_of_connections_is_given_back(backend: Backend) {
    let _heavy = crate::harness::one_heavy_test_at_a_time();
    let server = Server::open(backend);
    let before = before(&server);
    let head = format!(
        "GET /v1/health HTTP/1.1\r\nHost: h\r\nX: {}",
        "a".repeat(30_000)
    );
    let mut staying = Vec::new();
    let mut held: Vec<Conn> = Vec::new();
    for n in 0..400 {
        let mut conn = server.conn();
        conn.send(&head);
        held.push(conn);
        if n % 50 == 49 {
            staying.push(stay(&server));
        }
    }
    let peak = eventually("heads that are not finished", || {
        let now = Books::of(&server).private_kib;
        (now > before.private_kib + (9 << 10)).then_some(now)
    });
    drop(held);
    check(&server, &before, peak, staying);
}
