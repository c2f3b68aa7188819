//! Requests that have come in part, and bodies under way to a process, at an upgrade: another server
//! goes on with them.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::harness::lines::run_request;
use crate::harness::{Backend, Conn, Server, on_both, sh};
use crate::stdin::stdin;
use crate::upgrade::{kept, upgrade};

on_both!(
    a_request_that_has_come_in_part_goes_on,
    who_waits_to_be_told_to_send_is_told_once,
    a_body_that_stands_still_goes_on_where_it_was,
    a_body_in_chunks_may_be_cut_anywhere,
    a_process_that_reads_slowly_gets_all_of_a_body_over_upgrades,
    bodies_in_line_keep_their_order,
);

/// The head of a body for a process.
fn head(server: &Server, target: &str, framing: &str) -> String {
    let host = server.address;
    format!("PUT {target} HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n\r\n")
}

fn a_request_that_has_come_in_part_goes_on(backend: Backend) {
    let server = kept(backend);
    let whole = run_request("1.1", &[], &sh("echo out; exit 3"));
    let body = whole.find("\r\n\r\n").unwrap() + 4;
    let mut conns: Vec<(Conn, usize)> = [1, body - 3, body, body + 5, whole.len() - 1]
        .into_iter()
        .map(|cut| {
            let mut conn = server.conn();
            conn.send(&whole[..cut]);
            (conn, cut)
        })
        .collect();
    let (first, second) = whole[body..].split_at(7);
    let mut in_chunks = server.conn();
    in_chunks.send(format!(
        "POST /v1/processes/run HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n7\r\n{first}\r\n{:x}",
        second.len()
    ));
    for _ in 0..2 {
        upgrade(&server);
    }
    for (conn, cut) in &mut conns {
        conn.send(&whole[*cut..]);
        let answer = conn.response("POST").expect(200).json();
        assert_eq!(
            (&answer["stdout"], &answer["exitCode"]),
            (&json!("out\n"), &json!(3))
        );
    }
    in_chunks.send(format!("\r\n{second}\r\n0\r\n\r\n"));
    let answer = in_chunks.response("POST").expect(200).json();
    assert_eq!(answer["exitCode"], 3);
}

fn who_waits_to_be_told_to_send_is_told_once(backend: Backend) {
    let server = kept(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let run = run_request("1.1", &[("Expect", "100-continue")], &sh("exit 3"));
    let body = run.find("\r\n\r\n").unwrap() + 4;
    let mut told = server.conn();
    told.send(&run[..body]);
    told.response("POST").expect(100);
    let mut feeds = server.conn();
    let framing = "Content-Length: 2\r\nExpect: 100-continue";
    feeds.send(head(&server, &stdin(&id), framing));
    feeds.response("PUT").expect(100);
    upgrade(&server);
    told.send(&run[body..]);
    assert_eq!(told.response("POST").expect(200).json()["exitCode"], 3);
    feeds.send("fg");
    let answer = feeds.response("PUT").expect(200).json();
    assert_eq!(answer, json!({"bytesWritten": 2, "offset": 2}));
}

fn a_body_that_stands_still_goes_on_where_it_was(backend: Backend) {
    let server = kept(backend);
    let id = server.spawn(&json!({"command": "cat", "args": ["-u"]}));
    let mut conn = server.conn();
    let target = format!("{}?eof=true&offset=0", stdin(&id));
    conn.send(head(&server, &target, "Content-Length: 15"));
    conn.send("first");
    server.await_output(&id, "first");
    upgrade(&server);
    conn.send("secon");
    server.await_output(&id, "firstsecon");
    upgrade(&server);
    upgrade(&server);
    conn.send("third");
    let answer = conn.response("PUT").expect(200).json();
    assert_eq!(answer, json!({"bytesWritten": 15, "offset": 15}));
    assert_eq!(server.await_exit(&id)["exitCode"], 0);
    assert_eq!(server.output(&id, "stdout"), b"firstseconthird");
}

fn a_body_in_chunks_may_be_cut_anywhere(backend: Backend) {
    let server = kept(backend);
    let body = "3;a=\"b\\\\c\";d=e\r\nabc\r\n00a\r\n0123456789\r\n0\r\nx: y\r\n\r\n";
    let conns: Vec<(String, Conn, usize)> = (0..body.len())
        .map(|cut| {
            let id = server.spawn(&json!({"command": "cat"}));
            let mut conn = server.conn();
            let target = format!("{}?eof=true", stdin(&id));
            conn.send(head(&server, &target, "Transfer-Encoding: chunked"));
            conn.send(&body[..cut]);
            (id, conn, cut)
        })
        .collect();
    upgrade(&server);
    for (id, mut conn, cut) in conns {
        conn.send(&body[cut..]);
        let answer = conn.response("PUT").expect(200).json();
        assert_eq!(answer["bytesWritten"], 13, "cut at {cut}");
        assert_eq!(server.await_exit(&id)["exitCode"], 0);
        assert_eq!(
            server.output(&id, "stdout"),
            b"abc0123456789",
            "cut at {cut}"
        );
    }
}

fn a_process_that_reads_slowly_gets_all_of_a_body_over_upgrades(backend: Backend) {
    const LEN: usize = 6 << 20;
    let server = kept(backend);
    let id = server.spawn(&sh(
        "for i in 1 2 3 4 5 6; do head -c 1048576 | sha256sum; sleep 0.2; done; wc -c",
    ));
    let data: Vec<u8> = (0..LEN).map(|at| (at * 31 + at / 251) as u8).collect();
    let conn = server.conn();
    let (mut to, mut from) = conn.split();
    let done = AtomicBool::new(false);
    let answer = std::thread::scope(|scope| {
        scope.spawn(|| {
            let target = format!("{}?eof=true", stdin(&id));
            let framing = format!("Content-Length: {LEN}\r\nConnection: close");
            to.write_all(head(&server, &target, &framing).as_bytes())
                .unwrap();
            to.write_all(&data).unwrap();
        });
        let upgrades = scope.spawn(|| {
            let mut count = 0;
            while !done.load(Ordering::SeqCst) {
                upgrade(&server);
                count += 1;
            }
            count
        });
        let mut answer = String::new();
        from.read_to_string(&mut answer).unwrap();
        done.store(true, Ordering::SeqCst);
        assert!(upgrades.join().unwrap() > 0);
        answer
    });
    assert!(
        answer.contains(&format!("\"bytesWritten\":{LEN}")),
        "{answer}"
    );
    assert_eq!(server.await_exit(&id)["exitCode"], 0);
    let other = server.spawn(&sh(
        "for i in 1 2 3 4 5 6; do head -c 1048576 | sha256sum; done; wc -c",
    ));
    let target = format!("{}?eof=true", stdin(&other));
    server.request("PUT", &target, &[], &data).expect(200);
    server.await_exit(&other);
    assert_eq!(
        server.output(&id, "stdout"),
        server.output(&other, "stdout")
    );
}

fn bodies_in_line_keep_their_order(backend: Backend) {
    let server = kept(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let mut conns: Vec<Conn> = Vec::new();
    for number in 0..4 {
        let mut conn = server.conn();
        conn.send(head(&server, &stdin(&id), "Content-Length: 4"));
        conn.send(format!("<{number}"));
        if number == 0 {
            server.await_output(&id, "<0");
        }
        // Answered behind what came before.
        for _ in 0..2 {
            server.get("/v1/health").expect(200);
        }
        conns.push(conn);
    }
    upgrade(&server);
    for (number, conn) in conns.iter_mut().enumerate().rev() {
        conn.send(format!("{number}>"));
    }
    for conn in &mut conns {
        assert_eq!(conn.response("PUT").expect(200).json()["bytesWritten"], 4);
    }
    let end = json!({"data": "", "eof": true});
    server
        .post(&format!("/v1/processes/{id}/input"), &end)
        .expect(200);
    server.await_exit(&id);
    assert_eq!(server.output(&id, "stdout"), b"<00><11><22><33>");
}
