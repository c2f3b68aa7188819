//! `GET …/wait`: for the exit, for a text in the log, for a port that somebody of the tree opens.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::json::keys;
use crate::harness::procfs::kib;
use crate::harness::{
    Backend, Conn, Launch, Problem, Response, Server, WAIT, eventually, on_both, procfs, sh,
};
use crate::supervision_trees::{Way, every_way};

on_both!(
    a_wait_ends_with_the_exit_before_it_and_during_it,
    a_wait_has_an_end_and_says_how_things_are_then,
    a_wait_that_cannot_be_is_refused_by_name,
    the_head_of_a_wait_comes_at_once,
    a_client_of_http_1_0_waits_like_any_other,
    what_a_client_sends_while_it_waits_comes_after_its_answer,
    a_client_that_hangs_up_is_waited_for_no_longer,
    the_end_of_the_server_ends_every_wait,
    what_the_end_of_the_server_ends_is_no_exit_that_was_waited_for,
    a_text_is_found_wherever_it_is_cut,
    a_text_is_found_in_what_is_retained_and_nowhere_else,
    a_text_that_never_comes_ends_with_the_exit,
    a_text_is_seen_before_it_is_evicted_however_many_wait,
    a_text_in_the_pipes_at_the_exit_is_seen_however_small_the_log,
    who_waits_for_a_text_and_reads_nothing_holds_no_program,
    a_port_is_found_whoever_of_the_tree_opens_it,
    a_port_that_is_open_already_is_found_at_once,
    a_port_of_somebody_else_is_not_found,
    a_port_in_a_network_namespace_of_its_own_is_found,
    a_daemon_that_outlives_its_starter_is_waited_for,
    a_record_that_goes_meanwhile_ends_its_waits,
    a_thousand_waiters_cost_little_and_are_all_answered,
);

/// A request that waits, on a connection of its own.
fn begin(server: &Server, id: &str, query: &str) -> Conn {
    let mut conn = server.conn();
    conn.send(format!(
        "GET /v1/processes/{id}/wait{query} HTTP/1.1\r\nHost: h\r\n\r\n"
    ));
    conn
}

#[track_caller]
fn answer(conn: &mut Conn) -> Value {
    conn.response("GET").json()
}

#[track_caller]
fn wait(server: &Server, id: &str, query: &str) -> Value {
    server
        .get(&format!("/v1/processes/{id}/wait{query}"))
        .json()
}

/// Whether the server has taken a request of so many connections: it answers in order, so what is
/// asked for later is answered later.
fn taken(server: &Server) {
    server.get("/v1/health").expect(200);
}

fn a_wait_ends_with_the_exit_before_it_and_during_it(backend: Backend) {
    let server = Server::open(backend);
    for tty in [false, true] {
        let command = json!({"command": "sh", "args": ["-c", "read x; exit 7"], "tty": tty});
        let id = server.spawn(&command);
        let mut waiters: Vec<Conn> = (0..3).map(|_| begin(&server, &id, "")).collect();
        taken(&server);
        server.feed(&id, "\n");
        for waiter in &mut waiters {
            let response = waiter.response("GET");
            assert_eq!(keys(response.text()), ["outcome", "process"]);
            assert_eq!(response.header("cache-control"), Some("no-store"));
            let told = response.json();
            assert_eq!(told["outcome"], "exited");
            assert_eq!(told["process"], server.info(&id));
            assert_eq!(told["process"]["exitCode"], 7);
        }
        // It has exited already, and is there to be asked again on the same connection.
        assert_eq!(wait(&server, &id, "?timeoutMs=0")["outcome"], "exited");
        waiters[0].send(format!(
            "GET /v1/processes/{id}/wait HTTP/1.1\r\nHost: h\r\n\r\n"
        ));
        assert_eq!(answer(&mut waiters[0])["outcome"], "exited");
    }
}

fn a_wait_has_an_end_and_says_how_things_are_then(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("sleep 60"));
    for query in [
        "?timeoutMs=0",
        "?timeoutMs=30",
        "?timeoutMs=0&log=x",
        "?timeoutMs=30&log=x",
        "?timeoutMs=0&port=1",
        "?timeoutMs=30&port=1",
    ] {
        let told = wait(&server, &id, query);
        assert_eq!(told["outcome"], "timeout", "{query}");
        assert_eq!(told["process"], server.info(&id), "{query}");
    }
}

fn a_wait_that_cannot_be_is_refused_by_name(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("sleep 60"));
    let get = |query: &str| server.get(&format!("/v1/processes/{id}/wait{query}"));
    for (query, named) in [
        ("?timeoutMs=x", "timeoutMs"),
        ("?timeoutMs=-1", "timeoutMs"),
        ("?port=0", "port"),
        ("?port=65536", "port"),
        ("?log=", "log"),
        ("?log=x&stream=in", "stream"),
        ("?log=x&since=-1", "since"),
        ("?log=x&port=1", "log and port"),
    ] {
        let problem = get(query).problem(400, "invalid_request");
        assert!(
            problem["detail"].as_str().unwrap().contains(named),
            "{query}"
        );
    }
    let long = format!("?log={}", "x".repeat(4097));
    get(&long).problem(400, "invalid_request");
    // As long as it may be, though every byte of it is written as three.
    let longest = format!("?timeoutMs=0&log={}", "%20".repeat(4096));
    assert_eq!(get(&longest).json()["outcome"], "timeout");
    let unknown = server.get("/v1/processes/proc_99/wait");
    Problem::no_process("proc_99").check(&unknown);
    let target = format!("/v1/processes/{id}/wait");
    assert_eq!(server.post_empty(&target).status, 405);
    let prefer = [("Prefer", "handling=strict")];
    let strict = server.request("GET", &format!("{target}?timeoutms=1"), &prefer, b"");
    let problem = strict.problem(400, "invalid_request");
    assert!(problem["detail"].as_str().unwrap().contains("timeoutMs"));
}

fn the_head_of_a_wait_comes_at_once(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("sleep 60"));
    let mut conn = server.conn();
    for query in ["", "?log=x", "?port=1"] {
        conn.send(format!(
            "HEAD /v1/processes/{id}/wait{query} HTTP/1.1\r\nHost: h\r\n\r\n"
        ));
        let response = conn.response("HEAD").expect(200);
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!(response.header("content-length"), None);
    }
    conn.send("HEAD /v1/processes/proc_99/wait HTTP/1.1\r\nHost: h\r\n\r\n");
    conn.response("HEAD").expect(404);
}

fn a_client_of_http_1_0_waits_like_any_other(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("read x"));
    let mut conn = server.conn();
    conn.send(format!("GET /v1/processes/{id}/wait HTTP/1.0\r\n\r\n"));
    taken(&server);
    server.feed(&id, "\n");
    assert_eq!(answer(&mut conn)["outcome"], "exited");
    conn.expect_closed();
}

fn what_a_client_sends_while_it_waits_comes_after_its_answer(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("read x"));
    let mut conn = begin(&server, &id, "");
    conn.send("GET /v1/health HTTP/1.1\r\nHost: h\r\n\r\n\u{1}nonsense\r\n\r\n");
    taken(&server);
    server.feed(&id, "\n");
    assert_eq!(answer(&mut conn)["outcome"], "exited");
    conn.response("GET").expect(200);
    conn.response("GET").expect(400);
    conn.expect_closed();
}

fn a_client_that_hangs_up_is_waited_for_no_longer(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("sleep 60"));
    for query in ["?timeoutMs=3600000", "?log=x", "?port=1"] {
        let conn = begin(&server, &id, query);
        taken(&server);
        conn.reset();
    }
    eventually("the connections to be given up", || {
        (server.connections() == 0).then_some(())
    });
    // Nobody looks at ports any more, which is 20 times a second.
    let before = switches(server.pid);
    std::thread::sleep(Duration::from_secs(1));
    let wakes = switches(server.pid) - before;
    assert!(wakes <= 5, "{wakes} wakes");
}

/// How often threads of a process have gone to sleep (proc_pid_status(5)).
fn switches(pid: i32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |status: String| {
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    tasks
        .map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).unwrap())
        .map(of)
        .sum()
}

fn the_end_of_the_server_ends_every_wait(backend: Backend) {
    let mut server = Server::open(backend);
    let id = server.spawn(&sh("trap '' TERM; echo deaf; while :; do sleep 0.1; done"));
    server.await_output(&id, "deaf");
    let mut waiters: Vec<Conn> = ["", "?log=never", "?port=1"]
        .iter()
        .map(|query| begin(&server, &id, query))
        .collect();
    taken(&server);
    server.signal(libc::SIGTERM);
    for waiter in &mut waiters {
        let told = answer(waiter);
        assert_eq!(told["outcome"], "timeout");
        assert_eq!(told["process"]["status"], "running");
    }
    server.signal(libc::SIGTERM);
    server.await_end(WAIT);
}

fn what_the_end_of_the_server_ends_is_no_exit_that_was_waited_for(backend: Backend) {
    let mut server = Server::open(backend);
    // They die of the signal at once, so their exits come with the news of the end.
    let ids: Vec<String> = (0..8)
        .map(|_| server.spawn(&json!({"command": "cat"})))
        .collect();
    let mut waiters: Vec<Conn> = ids
        .iter()
        .flat_map(|id| ["", "?log=never"].map(|query| begin(&server, id, query)))
        .collect();
    taken(&server);
    server.signal(libc::SIGTERM);
    for waiter in &mut waiters {
        assert_eq!(answer(waiter)["outcome"], "timeout");
    }
    server.await_end(WAIT);
}

/// Writes `text` in pieces of `len` bytes, each when the one before it has been read.
fn write_in_pieces(server: &Server, text: &str, len: usize) -> String {
    let script = "\
import os, sys
text, step = sys.argv[1].encode(), int(sys.argv[2])
for at in range(0, len(text), step):
    sys.stdin.readline()
    os.write(1, text[at:at + step])
sys.stdin.readline()
";
    server.spawn(&json!({
        "command": "python3", "args": ["-c", script, text, len.to_string()]
    }))
}

fn a_text_is_found_wherever_it_is_cut(backend: Backend) {
    let server = Server::open(backend);
    let text = "reread ready!";
    for len in [1, 2, 3, 50] {
        let id = write_in_pieces(&server, text, len);
        let mut waiters = [
            begin(&server, &id, "?log=ready"),
            begin(&server, &id, "?log=ready%21&stream=stdout"),
            begin(&server, &id, "?log=READY"),
        ];
        let pieces: Vec<String> = (0..text.len())
            .step_by(len)
            .map(|at| text[..(at + len).min(text.len())].to_owned())
            .collect();
        for piece in &pieces {
            server.feed(&id, "\n");
            server.await_output(&id, piece);
        }
        for (waiter, end) in waiters.iter_mut().zip([12, 13]) {
            let response = waiter.response("GET");
            assert_eq!(keys(response.text()), ["outcome", "process", "sequence"]);
            let told = response.json();
            assert_eq!(told["outcome"], "matched");
            let sequence = told["sequence"].as_u64().unwrap();
            assert_eq!(sequence, u64::div_ceil(end, len as u64), "{len}");
        }
        server.feed(&id, "\n");
        assert_eq!(answer(&mut waiters[2])["outcome"], "exited");
    }
}

fn a_text_is_found_in_what_is_retained_and_nowhere_else(backend: Backend) {
    let server = Server::open(backend);
    let script = "printf rea; read x; printf ady >&2; read x; printf dy; read x; printf ready >&2";
    let id = server.spawn(&sh(script));
    server.feed_after_each(&id, &["rea", "reaady", "reaadydy"]);
    server.await_exit(&id);
    let found = |query: &str| {
        let told = wait(&server, &id, query);
        let matched = told["outcome"] == "matched";
        assert!(matched || told["outcome"] == "exited", "{told}");
        told["sequence"].as_u64()
    };
    assert_eq!(found("?log=ready"), Some(3));
    assert_eq!(found("?log=ready&stream=stderr"), Some(4));
    assert_eq!(found("?log=ready&since=1"), Some(4));
    assert_eq!(found("?log=ready&since=4"), None);
    assert_eq!(found("?log=ready&since=18446744073709551615"), None);
    assert_eq!(found("?log=dydy"), None);
    assert_eq!(found("?log=ady&stream=pty"), None);

    // What has been evicted is not there, and a text does not go on over the hole.
    server.configure(&[("maxLogBytesPerProcess", 16)]);
    let script = "printf early-rea; read x; printf 0123456789abcdef; read x; printf dy; read x";
    let id = server.spawn(&sh(script));
    server.feed_after_each(&id, &["early-rea", "0123456789abcdef"]);
    server.await_output(&id, "dy");
    for text in ["early", "ready", "fdy"] {
        let query = format!("?timeoutMs=0&log={text}");
        assert_eq!(wait(&server, &id, &query)["outcome"], "timeout", "{text}");
    }
    assert_eq!(wait(&server, &id, "?log=dy")["sequence"], 3);
}

fn a_text_that_never_comes_ends_with_the_exit(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("read x; printf 'the last word'"));
    let mut waiters = [
        begin(&server, &id, "?log=never"),
        begin(&server, &id, "?log=last%20word"),
    ];
    taken(&server);
    server.feed(&id, "\n");
    let told = answer(&mut waiters[0]);
    assert_eq!(told["outcome"], "exited");
    assert_eq!(told["process"]["status"], "exited");
    assert_eq!(answer(&mut waiters[1])["outcome"], "matched");
}

fn a_text_is_seen_before_it_is_evicted_however_many_wait(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 1 << 20)]);
    for tty in [false, true] {
        // What is looked for is many times the log, and as alike as texts can be.
        let lines = if tty { 399_999 } else { 2_999_999 };
        let script = format!("read go; seq -f %07.0f 0 {lines}");
        let command = json!({"command": "sh", "args": ["-c", script], "tty": tty});
        let id = server.spawn(&command);
        let mut waiters: Vec<Conn> = (1..60)
            .map(|nth| {
                // On a busy machine all of it takes longer than who does not say waits.
                let text = format!("{:07}", nth * (lines / 60));
                begin(&server, &id, &format!("?log={text}&timeoutMs=600000"))
            })
            .collect();
        taken(&server);
        server.feed(&id, "\n");
        for (nth, waiter) in waiters.iter_mut().enumerate() {
            assert_eq!(answer(waiter)["outcome"], "matched", "{nth}, tty: {tty}");
        }
        assert_eq!(server.await_exit(&id)["exitCode"], 0);
    }
}

fn a_text_in_the_pipes_at_the_exit_is_seen_however_small_the_log(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 4096)]);
    for after in ["", "sleep 600 & "] {
        // Less than a pipe holds.
        let id = server.spawn(&sh(&format!("read go; {after}seq -f %07.0f 0 4999")));
        let mut waiters: Vec<Conn> = (0..50)
            .map(|nth| begin(&server, &id, &format!("?log={:07}", nth * 100)))
            .collect();
        taken(&server);
        server.feed(&id, "\n");
        for (nth, waiter) in waiters.iter_mut().enumerate() {
            assert_eq!(
                answer(waiter)["outcome"],
                "matched",
                "{nth}, after: {after}"
            );
        }
        assert_eq!(server.await_exit(&id)["exitCode"], 0);
    }
}

fn who_waits_for_a_text_and_reads_nothing_holds_no_program(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 4096)]);
    let id = server.spawn(&sh("read go; seq 1 100000; read go; seq 1 100000"));
    // Answers that nobody takes, requests behind them, clients that go.
    let mut silent = begin(&server, &id, "?log=50000");
    silent.send(format!(
        "GET /v1/processes/{id}/wait?log=never HTTP/1.1\r\nHost: h\r\n\r\n"
    ));
    let gone = begin(&server, &id, "?log=never");
    taken(&server);
    server.feed(&id, "\n");
    server.await_output(&id, "100000\n");
    gone.reset();
    server.feed(&id, "\n");
    assert_eq!(server.await_exit(&id)["exitCode"], 0);
    assert_eq!(answer(&mut silent)["outcome"], "matched");
    assert_eq!(answer(&mut silent)["outcome"], "exited");
}

/// Binds a port of the kernel's choice, says which, and listens on it after a line of input.
const LISTENER: &str = "\
import os, socket, sys, time
def listen(address):
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    listener = socket.socket(family)
    listener.bind((address, 0))
    print('port=%d.' % listener.getsockname()[1], flush=True)
    os.read(0, 1)
    listener.listen()
    time.sleep(600)
def fork():
    return os.fork() == 0
";

fn spawn_listener(server: &Server, how: &str) -> (String, u16) {
    let script = format!("{LISTENER}{how}");
    let id = server.spawn(&json!({"command": "python3", "args": ["-c", script]}));
    let output = server.await_output(&id, ".");
    let digits = output.strip_prefix("port=").unwrap();
    let (digits, _) = digits.split_once('.').unwrap();
    (id, digits.parse().unwrap())
}

fn a_port_is_found_whoever_of_the_tree_opens_it(backend: Backend) {
    for (way, server) in every_way(backend) {
        for how in [
            "listen('127.0.0.1')",
            "listen('::1')",
            "if fork() and fork():\n    listen('127.0.0.1')\ntime.sleep(600)",
            "if fork():\n    os.setsid()\n    if fork():\n        os.setsid()\n        listen('0.0.0.0')\n    os._exit(0)\nos.wait()\ntime.sleep(600)",
        ] {
            let (id, port) = spawn_listener(&server, how);
            let query = format!("?port={port}&timeoutMs=0");
            assert_eq!(wait(&server, &id, &query)["outcome"], "timeout", "{how}");
            let mut waiters: Vec<Conn> = (0..3)
                .map(|_| begin(&server, &id, &format!("?port={port}")))
                .collect();
            taken(&server);
            server.feed(&id, "\n");
            for waiter in &mut waiters {
                let told = answer(waiter);
                assert_eq!(told["outcome"], "matched", "{way:?} {how}");
                assert_eq!(told["process"], server.info(&id));
                assert!(told.get("sequence").is_none());
            }
            server.kill(&id);
        }
    }
}

fn a_port_that_is_open_already_is_found_at_once(backend: Backend) {
    let server = Server::open(backend);
    let (id, port) = spawn_listener(&server, "listen('127.0.0.1')");
    server.feed(&id, "\n");
    let query = format!("?port={port}");
    assert_eq!(wait(&server, &id, &query)["outcome"], "matched");
    // Also when nobody has the time to wait.
    let query = format!("?port={port}&timeoutMs=0");
    for _ in 0..20 {
        assert_eq!(wait(&server, &id, &query)["outcome"], "matched");
    }
}

fn a_port_of_somebody_else_is_not_found(backend: Backend) {
    for (way, server) in every_way(backend) {
        let stranger = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let strangers = stranger.local_addr().unwrap().port();
        let (other, others) = spawn_listener(&server, "listen('127.0.0.1')");
        server.feed(&other, "\n");
        let query = format!("?port={others}");
        assert_eq!(wait(&server, &other, &query)["outcome"], "matched");
        let id = server.spawn(&sh("sleep 60"));
        for port in [strangers, others, server.address.port()] {
            let query = format!("?port={port}&timeoutMs=200");
            let told = wait(&server, &id, &query);
            assert_eq!(told["outcome"], "timeout", "{way:?} {port}");
        }
        // Who is connected to a port does not listen on it.
        let script = format!(
            "import socket, time\ns = socket.create_connection(('127.0.0.1', {strangers}))\n\
             print('up', flush=True)\ntime.sleep(60)"
        );
        let id = server.spawn(&json!({"command": "python3", "args": ["-c", script]}));
        server.await_output(&id, "up");
        let query = format!("?port={strangers}&timeoutMs=200");
        assert_eq!(wait(&server, &id, &query)["outcome"], "timeout", "{way:?}");
    }
}

fn a_port_in_a_network_namespace_of_its_own_is_found(backend: Backend) {
    for (way, server) in every_way(backend) {
        if way == Way::SweepAsNobody {
            continue;
        }
        // The leader stays in the server's namespace.
        let script = format!("{LISTENER}listen('0.0.0.0')");
        let inner = json!({
            "command": "sh",
            "args": ["-c", "unshare -n python3 -c \"$1\"; true", "sh", script]
        });
        let id = server.spawn(&inner);
        let output = server.await_output(&id, ".");
        let port = output.trim().trim_start_matches("port=").replace('.', "");
        let mut waiter = begin(&server, &id, &format!("?port={port}"));
        taken(&server);
        server.feed(&id, "\n");
        assert_eq!(answer(&mut waiter)["outcome"], "matched", "{way:?}");
    }
}

fn a_daemon_that_outlives_its_starter_is_waited_for(backend: Backend) {
    for (way, server) in every_way(backend) {
        let how = "if fork():\n    os.setsid()\n    listen('127.0.0.1')\n\
                   os.read(0, 1)";
        let (id, port) = spawn_listener(&server, how);
        let query = format!("?port={port}");
        let mut waiter = begin(&server, &id, &query);
        taken(&server);
        // One byte for each of the two, which share the pipe; the starter leaves the other behind.
        server.feed(&id, "\n\n");
        assert_eq!(answer(&mut waiter)["outcome"], "matched", "{way:?}");
        assert_eq!(wait(&server, &id, "")["outcome"], "exited", "{way:?}");
        let told = wait(&server, &id, &query);
        assert_eq!(told["outcome"], "matched", "{way:?} {told}");
        let mut waiter = begin(&server, &id, "?port=1");
        taken(&server);
        server.kill(&id);
        assert_eq!(answer(&mut waiter)["outcome"], "exited", "{way:?}");
    }
}

fn a_record_that_goes_meanwhile_ends_its_waits(backend: Backend) {
    let args = ["--no-token", "--max-exited", "1"];
    let server = Launch::new(backend).args(&args).start();
    let leave = || {
        let id = server.spawn(&sh("setsid sleep 600 </dev/null >/dev/null 2>&1 & true"));
        server.await_exit(&id);
        let waiter = begin(&server, &id, "?port=1");
        taken(&server);
        (id, waiter)
    };
    let (id, mut waiter) = leave();
    server.delete(&format!("/v1/processes/{id}")).expect(204);
    let gone = |response: Response, id: &str| Problem::no_process(id).check(&response);
    gone(waiter.response("GET"), &id);
    let (id, mut waiter) = leave();
    let next = server.spawn(&sh("true"));
    gone(waiter.response("GET"), &id);
    gone(server.get(&format!("/v1/processes/{id}/wait")), &id);
    assert_eq!(wait(&server, &next, "")["outcome"], "exited");
}

fn a_thousand_waiters_cost_little_and_are_all_answered(backend: Backend) {
    const WAITERS: usize = 1000;
    let _heavy = crate::harness::one_heavy_test_at_a_time();
    let server = Server::open(backend);
    let id = server.spawn(&sh(
        "read x; yes | head -c 300000; read x; printf done; read x",
    ));
    let anonymous = || kib(server.pid, "RssAnon");
    let before = anonymous();
    let mut waiters: Vec<Conn> = (0..WAITERS).map(|_| begin(&server, &id, "")).collect();
    let mut texts: Vec<Conn> = (0..WAITERS)
        .map(|_| begin(&server, &id, "?log=done"))
        .collect();
    taken(&server);
    eventually("all of them to be counted", || {
        (server.connections() >= 2 * WAITERS).then_some(())
    });
    let grown = anonymous() - before;
    assert!(grown <= 2 * WAITERS as u64 * 4, "{grown} KiB");
    server.feed(&id, "\n");
    eventually("the output", || {
        (server.output(&id, "stdout").len() == 300_000).then_some(())
    });
    server.feed(&id, "\n");
    for text in &mut texts {
        assert_eq!(answer(text)["outcome"], "matched");
    }
    server.feed(&id, "\n");
    for waiter in &mut waiters {
        assert_eq!(answer(waiter)["outcome"], "exited");
    }
    assert!(procfs::alive(server.pid));
}
