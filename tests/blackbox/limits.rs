//! Section 16, 503 `unavailable`: too many connections, no descriptors, shutting down.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Backend, Conn, Launch, Response, Server, eventually, on_both, sh};

on_both!(
    a_connection_past_the_limit_is_answered_503,
    without_descriptors_creates_are_503_and_the_rest_goes_on,
    idle_connections_cannot_use_up_the_descriptors,
    a_server_that_shuts_down_takes_no_new_work,
);

#[track_caller]
fn assert_unavailable(answer: &Response) {
    answer.problem(503, "unavailable");
    let wait = answer.header("retry-after").expect("retry-after");
    assert!(wait.parse::<u32>().is_ok(), "{wait:?} seconds");
}

fn get_health(server: &Server, conn: &mut Conn) -> Response {
    conn.send_some(format!(
        "GET /v1/health HTTP/1.1\r\nHost: {}\r\n\r\n",
        server.address
    ));
    conn.response("GET")
}

fn a_connection_past_the_limit_is_answered_503(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token", "--max-connections", "3"])
        .start();
    let mut held: Vec<_> = (0..3).map(|_| server.conn()).collect();
    for conn in &mut held {
        get_health(&server, conn).expect(200);
    }
    let mut fourth = server.conn();
    let refused = get_health(&server, &mut fourth);
    assert_unavailable(&refused);
    assert!(refused.says_close());
    fourth.expect_closed();
    // Those that were there are not disturbed, and a place that is free is given.
    for conn in &mut held {
        get_health(&server, conn).expect(200);
    }
    held.pop();
    eventually("a free place", || {
        (get_health(&server, &mut server.conn()).status == 200).then_some(())
    });
}

/// A server with at most 72 descriptors: room for three processes, whatever is just being closed.
fn poor(backend: Backend) -> Server {
    let wrapper = ["sh", "-c", "ulimit -n 72; exec \"$@\"", "sh"];
    Launch::new(backend)
        .args(&["--no-token"])
        .through_exec(&wrapper)
        .start()
}

fn without_descriptors_creates_are_503_and_the_rest_goes_on(backend: Backend) {
    let server = poor(backend);
    let mut made = Vec::new();
    let refused = loop {
        let answer = server.post("/v1/processes", &json!({"command": "cat"}));
        if answer.status != 200 {
            break answer;
        }
        made.push(answer.json()["id"].as_str().unwrap().to_owned());
        assert!(made.len() < 40, "40 processes on 72 descriptors");
    };
    assert!(made.len() >= 3, "only {} processes", made.len());
    assert_unavailable(&refused);
    for id in &made {
        assert_eq!(server.info(id)["status"], "running");
    }
    let input = json!({"data": "still here", "encoding": "utf8"});
    server
        .post(&format!("/v1/processes/{}/input", made[0]), &input)
        .expect(200);
    server.await_output(&made[0], "still here");
    for id in &made {
        server.kill(id);
        server.delete(&format!("/v1/processes/{id}")).expect(204);
    }
    // Nothing leaked: the same number fits again, once the last of theirs and of the connections that
    // asked for it are closed.
    for _ in 0..made.len() {
        eventually("room for as many", || {
            let answer = server.post("/v1/processes", &json!({"command": "cat"}));
            (answer.status == 200).then_some(())
        });
    }
}

fn idle_connections_cannot_use_up_the_descriptors(backend: Backend) {
    let server = poor(backend);
    let idle: Vec<_> = (0..100).map(|_| server.conn()).collect();
    // Whoever asks is answered: those who say nothing make room.
    for _ in 0..5 {
        get_health(&server, &mut server.conn()).expect(200);
    }
    assert_eq!(server.run(&sh("echo x"))["stdout"], "x\n");
    drop(idle);
}

fn a_server_that_shuts_down_takes_no_new_work(backend: Backend) {
    let mut server = Server::open(backend);
    let id = server.spawn(&sh("trap '' TERM; echo ready; while :; do sleep 0.1; done"));
    server.await_output(&id, "ready");
    let mut early = server.conn();
    get_health(&server, &mut early).expect(200);
    server.signal(libc::SIGTERM);
    // The deaf process holds the server for its grace of three seconds.
    std::thread::sleep(Duration::from_millis(500));
    let body = json!({"command": "true"}).to_string();
    for target in ["/v1/processes/run", "/v1/processes"] {
        early.send_some(format!(
            "POST {target} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            server.address,
            body.len()
        ));
        let answer = early.response("POST");
        assert_unavailable(&answer);
        if answer.says_close() {
            break;
        }
    }
    let status = server.await_end(Duration::from_secs(20));
    assert!(matches!(status.code(), Some(0 | 143)), "{status:?}");
    assert_eq!(server.survivors(), [0; 0], "left behind");
}
