//! Clients that go while their request waits: nobody holds a connection for as long as a request
//! asks for, and who only half-closes is answered all the same.

use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use serde_json::json;

use crate::harness::books::Books;
use crate::harness::{Backend, Conn, Launch, Server, eventually, on_both, procfs, sh};

on_both!(
    abandoned_waits_do_not_use_up_the_connections,
    what_a_client_has_sent_ahead_does_not_hide_its_end,
    a_half_closed_client_is_answered_within_a_bound,
    an_abandoned_create_frees_its_connection_and_the_process_is_listed_once_it_runs,
    a_follower_that_hangs_up_is_gone_soon_and_one_that_half_closes_goes_on,
    a_start_that_hangs_is_given_up_and_says_so,
    a_start_that_hangs_is_listed_and_can_be_killed,
    starts_that_hang_keep_nobody_else_from_starting,
    clients_that_vanish_at_any_step_cost_nothing_that_lasts,
);

/// How a client goes.
#[derive(Clone, Copy, Debug)]
enum Way {
    Reset,
    Close,
}

impl Way {
    const BOTH: [Self; 2] = [Self::Reset, Self::Close];

    fn leave(self, conn: Conn) {
        match self {
            Self::Reset => conn.reset(),
            Self::Close => drop(conn),
        }
    }
}

fn post(target: &str, body: &str) -> String {
    format!(
        "POST /v1/processes{target} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The process does not end by SIGTERM, and reads nothing.
fn spawn_deaf(server: &Server) -> String {
    let id = server.spawn(&sh("trap '' TERM; echo ready; while :; do sleep 1; done"));
    server.await_output(&id, "ready");
    id
}

fn stop_for_a_year(id: &str) -> String {
    post(&format!("/{id}/stop?waitMs=31536000000"), "")
}

#[track_caller]
fn await_no_connections(server: &Server, what: &str) {
    eventually(&format!("{what}: no connections"), || {
        (server.connections() == 0).then_some(())
    });
}

fn abandoned_waits_do_not_use_up_the_connections(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token", "--max-connections", "20"])
        .start();
    let id = spawn_deaf(&server);
    for way in Way::BOTH {
        for _ in 0..30 {
            let mut conn = server.conn();
            conn.send_some(stop_for_a_year(&id));
            way.leave(conn);
        }
        let health = || server.get("/v1/health").status == 200;
        eventually("a place for a new client", || health().then_some(()));
        await_no_connections(&server, &format!("{way:?}"));
    }
    assert_eq!(server.kill(&id)["signal"], "SIGKILL");
}

fn what_a_client_has_sent_ahead_does_not_hide_its_end(backend: Backend) {
    let server = Server::open(backend);
    let id = spawn_deaf(&server);
    let run = post("/run", r#"{"command":"sleep","args":["77"]}"#);
    // More than the server reads ahead, and less than the kernel keeps.
    let ahead = "GET /v1/health HTTP/1.1\r\nHost: h\r\n\r\n".repeat(3000);
    for way in Way::BOTH {
        for request in [stop_for_a_year(&id), run.clone()] {
            let mut conn = server.conn();
            conn.send(&request);
            conn.send_for(ahead.as_bytes());
            way.leave(conn);
        }
        await_no_connections(&server, &format!("{way:?}"));
    }
    assert_eq!(server.kill(&id)["signal"], "SIGKILL");
    eventually("the runs to be ended", || {
        server.survivors().is_empty().then_some(())
    });
}

fn a_half_closed_client_is_answered_within_a_bound(backend: Backend) {
    let server = Server::open(backend);
    let deaf = spawn_deaf(&server);
    let half_closed = |request: String| {
        let mut conn = server.conn();
        conn.send(request);
        conn.finish_writing();
        conn
    };
    let create = post("", r#"{"command":"cat"}"#);
    let created = half_closed(create).response("POST").expect(200).json();
    let id = created["id"].as_str().unwrap();
    let input = post(
        &format!("/{id}/input"),
        r#"{"data":"hi","encoding":"utf8"}"#,
    );
    half_closed(input).response("POST").expect(200);
    let killed = half_closed(post(&format!("/{id}/kill"), "")).response("POST");
    assert_eq!(killed.expect(200).json()["signal"], "SIGKILL");
    let delete = format!("DELETE /v1/processes/{id} HTTP/1.1\r\nHost: h\r\n\r\n");
    half_closed(delete).response("DELETE").expect_empty(204);
    // As it is, long before the year is over.
    let stopped = half_closed(stop_for_a_year(&deaf)).response("POST");
    assert_eq!(stopped.expect(200).json()["status"], "running");
    // A full pipe: the answer of the input's own limit.
    let full = half_closed(post(
        &format!("/{deaf}/input"),
        &json!({"data": "x".repeat(65536), "encoding": "utf8"}).to_string(),
    ));
    let more = half_closed(post(
        &format!("/{deaf}/input"),
        &json!({"data": "y", "encoding": "utf8"}).to_string(),
    ));
    for mut conn in [full, more] {
        let status = conn.response("POST").status;
        assert!(matches!(status, 200 | 503), "{status}");
    }
    await_no_connections(&server, "answered");
    server.kill(&deaf);
}

/// `F_SETSIG` of fcntl(2), which libc does not name.
const F_SETSIG: libc::c_int = 10;

/// A program that cannot be opened as long as this lives (fcntl(2), F_SETLEASE), or for
/// /proc/sys/fs/lease-break-time, 45 s.
pub(crate) struct Leased {
    pub(crate) path: PathBuf,
    _file: std::fs::File,
}

impl Leased {
    pub(crate) fn new(whose: &str, backend: Backend) -> Self {
        let name = format!("leased-{whose}-{}-{}", std::process::id(), backend.word());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::copy("/bin/sleep", &path).unwrap();
        let file = eventually("a lease", || {
            let file = std::fs::File::open(&path).unwrap();
            let fd = file.as_raw_fd();
            // SAFETY: plain integers on an open descriptor. SIGURG, because SIGIO would end us.
            let result = unsafe {
                libc::fcntl(fd, F_SETSIG, libc::SIGURG);
                libc::fcntl(fd, libc::F_SETLEASE, libc::F_WRLCK)
            };
            (result == 0).then_some(file)
        });
        Self { path, _file: file }
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn an_abandoned_create_frees_its_connection_and_the_process_is_listed_once_it_runs(
    backend: Backend,
) {
    let server = Server::open(backend);
    server.run(&sh("true"));
    let before = server.connections();
    let leased = Leased::new("abandoned", backend);
    let path = leased.path.to_str().unwrap();
    let create = post("", &json!({"command": path, "args": ["77"]}).to_string());
    let conns: Vec<_> = Way::BOTH
        .map(|way| {
            let mut conn = server.conn();
            conn.send(&create);
            (way, conn)
        })
        .into();
    eventually("two hung starts", || {
        (procfs::starting(server.pid).len() == 2).then_some(())
    });
    for (way, conn) in conns {
        way.leave(conn);
    }
    eventually("the connections to be free", || {
        (server.connections() == before).then_some(())
    });
    drop(leased);
    let listed = eventually("both to run", || {
        let list = server.get("/v1/processes").json();
        let processes = list["processes"].as_array().unwrap().clone();
        (processes.len() == 2).then_some(processes)
    });
    for info in listed {
        let id = info["id"].as_str().unwrap();
        server.kill(id);
        server
            .delete(&format!("/v1/processes/{id}"))
            .expect_empty(204);
    }
}

fn a_follower_that_hangs_up_is_gone_soon_and_one_that_half_closes_goes_on(backend: Backend) {
    for of_log in [true, false] {
        let server = Server::open(backend);
        let id = server.spawn(&json!({"command": "cat"}));
        let base = server.connections();
        let target = match of_log {
            true => format!("/v1/processes/{id}/logs?follow=true"),
            false => "/v1/events".to_owned(),
        };
        let end = std::time::Instant::now() + crate::harness::WAIT;
        let follow = || {
            let mut conn = server.conn();
            conn.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
            assert!(conn.fill(end).expect("the head") > 0);
            conn
        };
        let mut half_closed = follow();
        half_closed.finish_writing();
        drop(follow());
        eventually("one to be gone", || {
            (server.connections() == base + 1).then_some(())
        });
        server.spawn(&json!({"command": "true"}));
        let line = json!({"data": "line\n", "encoding": "utf8"});
        server
            .post(&format!("/v1/processes/{id}/input"), &line)
            .expect(200);
        while !half_closed.ahead_text().contains("data:") {
            assert!(half_closed.fill(end).expect("an event") > 0);
        }
    }
}

fn a_start_that_hangs_is_given_up_and_says_so(backend: Backend) {
    let keeps = Launch::new(backend).args(&["--no-token", "--keep"]);
    let servers = [Server::open(backend), keeps.start()];
    let leased = Leased::new("given-up", backend);
    let path = leased.path.to_str().unwrap();
    let body = json!({"command": path, "args": ["77"], "timeoutMs": 40_000}).to_string();
    let conns = servers.iter().flat_map(|server| {
        ["/run", ""].map(|target| {
            let mut conn = server.conn();
            conn.send(post(target, &body));
            conn
        })
    });
    for mut conn in conns.collect::<Vec<_>>() {
        let answer = conn.response("POST");
        // What never began may be tried again.
        let problem = answer.problem(503, "unavailable");
        assert_eq!(problem["code"], "ETIMEDOUT");
        assert!(answer.text().contains("in time"), "{}", answer.text());
        assert!(answer.header("retry-after").is_some());
    }
    for server in &servers {
        assert_eq!(server.survivors(), [0; 0]);
        assert_eq!(server.get("/v1/processes").json()["processes"], json!([]));
    }
}

fn a_start_that_hangs_is_listed_and_can_be_killed(backend: Backend) {
    let server = Server::open(backend);
    let leased = Leased::new("listed", backend);
    let path = leased.path.to_str().unwrap();
    let body = json!({"command": path, "args": ["77"], "labels": {"of": "create"}});
    let send = |target: &str, body: &serde_json::Value| {
        let mut conn = server.conn();
        conn.send(post(target, &body.to_string()));
        conn
    };
    let run = json!({"command": path, "args": ["77"], "record": true, "timeoutMs": 40_000});
    let mut asked = [send("", &body), send("/run", &run)];
    for way in Way::BOTH {
        way.leave(send("", &body));
    }
    let listed = eventually("four starts to be listed", || {
        let list = server.get("/v1/processes?status=running").json();
        let listed = list["processes"].as_array().unwrap().clone();
        (listed.len() == 4).then_some(listed)
    });
    for info in listed {
        assert_eq!(
            (&info["status"], &info["pid"]),
            (&json!("running"), &json!(null))
        );
        let id = info["id"].as_str().unwrap();
        let delete = server.delete(&format!("/v1/processes/{id}"));
        delete.problem(409, "conflict");
        let killed = server.kill(id);
        assert_eq!(
            (&killed["status"], &killed["signal"]),
            (&json!("exited"), &json!("SIGKILL"))
        );
    }
    // Long before a start is given up for itself.
    for conn in &mut asked {
        conn.response("POST").expect(200);
    }
    assert_eq!(server.survivors(), [0; 0]);
}

fn starts_that_hang_keep_nobody_else_from_starting(backend: Backend) {
    let _heavy = crate::harness::one_heavy_test_at_a_time();
    let server = Server::open(backend);
    server.configure(&[("maxConcurrentProcesses", 1000)]);
    let leased = Leased::new("crowd", backend);
    let create = json!({"command": leased.path.to_str().unwrap(), "args": ["77"]}).to_string();
    let conns: Vec<_> = (0..270)
        .map(|_| {
            let mut conn = server.conn();
            conn.send(post("", &create));
            conn
        })
        .collect();
    for _ in 0..3 {
        let answer = server.run(&json!({"command": "true", "timeoutMs": 9000}));
        assert_eq!(answer["exitCode"], 0, "{answer}");
    }
    drop(conns);
    drop(leased);
}

/// Requests that wait for something, to be left at any step.
fn waiting_requests(pipe: &str, tty: &str) -> Vec<String> {
    let get = |target: &str| format!("GET /v1/processes{target} HTTP/1.1\r\nHost: h\r\n\r\n");
    let input = json!({"data": "x".repeat(30_000), "encoding": "utf8"}).to_string();
    vec![
        stop_for_a_year(pipe),
        post(&format!("/{pipe}/stop?waitMs=0&graceMs=31536000000"), ""),
        post(&format!("/{pipe}/input"), &input),
        post(&format!("/{tty}/input"), &input),
        post("", r#"{"command":"true"}"#),
        post("/run", r#"{"command":"sleep","args":["77"]}"#),
        post("/run", r#"{"command":"echo","args":["hi"]}"#),
        get(&format!("/{pipe}/logs?follow=true")),
        format!(
            "GET /v1/processes/{tty}/terminal/ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ),
    ]
}

fn clients_that_vanish_at_any_step_cost_nothing_that_lasts(backend: Backend) {
    let _heavy = crate::harness::one_heavy_test_at_a_time();
    let server = Launch::new(backend)
        .args(&["--no-token", "--max-exited", "4"])
        .start();
    server.configure(&[("maxConcurrentProcesses", 1000)]);
    let pipe = spawn_deaf(&server);
    let tty = server.spawn(&json!({"command": "sleep", "args": ["777"], "tty": true}));
    let requests = waiting_requests(&pipe, &tty);
    let vanish = |rounds: usize| {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (server, requests) = (&server, &requests);
                scope.spawn(move || {
                    for n in 0..rounds {
                        for (number, request) in requests.iter().enumerate() {
                            // From nothing at all to all of it, and a moment in the wait.
                            let step = (n * 4 + thread + number) % 8;
                            let part = &request.as_bytes()[..request.len() * step.min(5) / 5];
                            let mut conn = server.conn();
                            conn.send_some(part);
                            if step == 6 {
                                std::thread::yield_now();
                            } else if step == 7 {
                                server.get("/v1/health");
                            }
                            Way::BOTH[(n + number) % 2].leave(conn);
                        }
                    }
                });
            }
        });
        await_no_connections(&server, "vanished");
        eventually("the short ones to be over", || {
            let list = server.get("/v1/processes").json();
            let processes = list["processes"].as_array().unwrap().clone();
            let running = processes.iter().filter(|info| info["status"] == "running");
            (running.count() == 2).then_some(())
        });
    };
    vanish(8);
    let before = Books::at_rest(&server);
    vanish(16);
    // 576 clients: less than 2 KiB for each. Seen: up to 300 KiB.
    before.await_balance(&server, 1 << 10);
    for id in [&pipe, &tty] {
        assert_eq!(server.kill(id)["signal"], "SIGKILL");
    }
    eventually("the runs to be ended", || {
        server.survivors().is_empty().then_some(())
    });
}
