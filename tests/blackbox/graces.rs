//! `stop?graceMs=`: one grace for a process, whoever asks and however often.

use std::io::Write as _;
use std::time::Duration;

use serde_json::json;

use crate::harness::books::Books;
use crate::harness::{Backend, Server, on_both, sh};

on_both!(
    the_earliest_end_of_several_graces_holds,
    a_grace_that_is_asked_for_again_and_again_costs_no_memory,
);

/// A year.
const LONG_MS: u64 = 31_536_000_000;

fn spawn_deaf(server: &Server) -> String {
    let id = server.spawn(&sh("trap '' TERM; echo ready; while :; do sleep 1; done"));
    server.await_output(&id, "ready");
    id
}

fn the_earliest_end_of_several_graces_holds(backend: Backend) {
    let server = Server::open(backend);
    for graces in [[100, LONG_MS], [LONG_MS, 100]] {
        let id = spawn_deaf(&server);
        for grace in graces {
            server
                .post_empty(&format!("/v1/processes/{id}/stop?waitMs=0&graceMs={grace}"))
                .expect(200);
        }
        // Another stop without a grace takes none away.
        let target = format!("/v1/processes/{id}/stop?waitMs=20000");
        let info = server.post_empty(&target).json();
        assert_eq!(info["signal"], "SIGKILL", "{graces:?}");
    }
}

fn a_grace_that_is_asked_for_again_and_again_costs_no_memory(backend: Backend) {
    const STOPS: usize = 20_000;
    let _heavy = crate::harness::one_heavy_test_at_a_time();
    let server = Server::open(backend);
    let id = spawn_deaf(&server);
    let one = format!(
        "POST /v1/processes/{id}/stop?waitMs=0&graceMs={LONG_MS} HTTP/1.1\r\nHost: h\r\n\r\n"
    );
    let ask = |times: usize| {
        let mut conn = server.conn();
        conn.send(&one);
        conn.response("POST").expect(200);
        let (mut reading, mut writing) = conn.split();
        reading
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || std::io::copy(&mut reading, &mut std::io::sink()));
            for _ in 0..times / 100 {
                writing.write_all(one.repeat(100).as_bytes()).unwrap();
            }
            // The answers end the copy.
            writing.shutdown(std::net::Shutdown::Write).unwrap();
        });
    };
    // Grows what is kept for the next ones.
    ask(2000);
    let before = Books::at_rest(&server);
    ask(STOPS);
    // An entry of 40 bytes for each would be 780 KiB. Seen: up to 60 KiB.
    before.await_balance(&server, 256);
    let signal = server.kill(&id)["signal"].clone();
    assert_eq!(signal, json!("SIGKILL"));
}
