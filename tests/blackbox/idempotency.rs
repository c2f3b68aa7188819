//! `Idempotency-Key`: a request that comes again is answered as it was, and nothing is done twice.

use serde_json::{Value, json};

use crate::harness::server::send_signal;
use crate::harness::{Backend, Conn, Folder, Response, Server, eventually, on_both, procfs, sh};
use crate::harness::{Launch, WAIT, skipped_anywhere};
use crate::supervision_bounds::DeadMount;

on_both!(
    a_create_that_comes_again_makes_one_process,
    a_run_that_comes_again_runs_once_and_is_answered_byte_for_byte,
    who_comes_while_it_runs_waits_for_it,
    a_key_of_another_body_is_refused_and_belongs_to_its_path,
    keys_that_cannot_be_are_refused_and_elsewhere_nobody_looks,
    a_failure_is_not_kept,
    who_waits_for_a_start_that_fails_gets_its_failure,
    a_run_goes_on_while_anybody_waits_and_dies_with_the_last,
    a_run_that_may_go_on_alone_is_answered_to_whoever_comes_later,
    a_create_whose_client_has_gone_answers_its_repeat,
    an_answer_that_has_made_room_is_not_made_again,
    pipelined_repeats_and_old_clients_are_answered_alike,
    a_server_that_ends_answers_all_who_wait,
    keys_go_on_after_a_crash_and_an_upgrade,
    what_was_under_way_at_a_crash_is_not_done_twice,
);

const REPLAYED: &str = "idempotency-replayed";
const CREATE: &str = "/v1/processes";
const RUN: &str = "/v1/processes/run";

fn ask(server: &Server, target: &str, key: &str, body: &Value) -> Response {
    let headers = [
        ("Content-Type", "application/json"),
        ("Idempotency-Key", key),
    ];
    server.request("POST", target, &headers, body.to_string().as_bytes())
}

/// The bytes of such a request, for a connection that stays.
fn request(server: &Server, target: &str, key: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST {target} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Idempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n{body}",
        server.address,
        body.len()
    )
}

/// What commands of a test leave in its folder.
struct Files(Folder);

impl Files {
    fn new(name: &str, backend: Backend) -> Self {
        Self(Folder::new(&format!("repeats-{name}"), backend))
    }

    fn file(&self, name: &str) -> String {
        self.0.file(name)
    }

    /// Lines of a file; how often something was done that leaves one.
    fn lines(&self, name: &str) -> usize {
        std::fs::read_to_string(self.file(name)).map_or(0, |text| text.lines().count())
    }

    fn make(&self, name: &str) {
        std::fs::write(self.file(name), "").unwrap();
    }

    /// A script that leaves a line and goes on when there is a file `gate`.
    fn gated(&self) -> Value {
        let (done, gate) = (self.file("done"), self.file("gate"));
        sh(&format!(
            "echo $$ >> {done}; while [ ! -e {gate} ]; do sleep 0.02; done; echo through"
        ))
    }

    fn await_lines(&self, name: &str, count: usize) {
        eventually("lines of what runs", || {
            (self.lines(name) >= count).then_some(())
        });
    }
}

#[track_caller]
fn check_replay(answer: &Response, first: &Response) {
    assert_eq!(answer.status, first.status);
    assert_eq!(answer.header(REPLAYED), Some("true"));
    assert_eq!(first.header(REPLAYED), None);
    assert_eq!(answer.header("content-type"), first.header("content-type"));
    assert!(answer.body == first.body, "the bodies differ");
}

fn a_create_that_comes_again_makes_one_process(backend: Backend) {
    let server = Server::open(backend);
    let body = json!({"command": "cat", "name": "one"});
    let first = ask(&server, CREATE, "k-1", &body).expect(200);
    check_replay(&ask(&server, CREATE, "k-1", &body), &first);
    assert_eq!(
        server.get(CREATE).json()["processes"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    // Also when the process has ended, and when its record is gone.
    server.kill("one");
    check_replay(&ask(&server, CREATE, "k-1", &body), &first);
    server.delete("/v1/processes/one").expect(204);
    check_replay(&ask(&server, CREATE, "k-1", &body), &first);
    assert_eq!(server.get(CREATE).json(), json!({"processes": []}));
    let other = ask(&server, CREATE, "k-2", &body).expect(200);
    assert_eq!(other.json()["id"], "proc_2");
    assert_eq!(other.header(REPLAYED), None);
    // Without a key nobody remembers.
    server.post(CREATE, &json!({"command": "true"})).expect(200);
    server.post(CREATE, &json!({"command": "true"})).expect(200);
}

fn a_run_that_comes_again_runs_once_and_is_answered_byte_for_byte(backend: Backend) {
    let server = Server::open(backend);
    let folder = Files::new("once", backend);
    let script = format!(
        "echo x >> {}; echo out; echo err >&2; exit 3",
        folder.file("done")
    );
    let first = ask(&server, RUN, "k", &sh(&script)).expect(200);
    assert_eq!(first.json()["exitCode"], 3);
    for _ in 0..3 {
        check_replay(&ask(&server, RUN, "k", &sh(&script)), &first);
    }
    assert_eq!(folder.lines("done"), 1);
    // A long answer as well, however slowly it is read.
    let long = sh("head -c 1000000 /dev/zero | tr '\\0' '\\1'");
    let first = ask(&server, RUN, "long", &long).expect(200);
    assert!(first.body.len() > 6_000_000);
    check_replay(&ask(&server, RUN, "long", &long), &first);
}

fn who_comes_while_it_runs_waits_for_it(backend: Backend) {
    let server = Server::open(backend);
    let folder = Files::new("waits", backend);
    let body = folder.gated();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| ask(&server, RUN, "k", &body)))
            .collect();
        eventually("eight clients that wait", || {
            (server.connections() == 8).then_some(())
        });
        folder.await_lines("done", 1);
        ask(&server, RUN, "k", &sh("exit 0")).problem(409, "conflict");
        folder.make("gate");
        let answers: Vec<Response> = all.into_iter().map(|one| one.join().unwrap()).collect();
        let (replays, firsts): (Vec<_>, Vec<_>) =
            answers.iter().partition(|of| of.header(REPLAYED).is_some());
        assert_eq!((firsts.len(), replays.len()), (1, 7));
        assert_eq!(firsts[0].json()["stdout"], "through\n");
        replays.iter().for_each(|of| check_replay(of, firsts[0]));
    });
    assert_eq!(folder.lines("done"), 1);
}

fn a_key_of_another_body_is_refused_and_belongs_to_its_path(backend: Backend) {
    let server = Server::open(backend);
    let first = ask(&server, RUN, "k", &sh("exit 1")).expect(200);
    let other = ask(&server, RUN, "k", &sh("exit 2")).problem(409, "conflict");
    assert_eq!(other["code"], "idempotency_mismatch");
    // Bodies are compared as bytes, not as JSON.
    let headers = [
        ("Content-Type", "application/json"),
        ("Idempotency-Key", "k"),
    ];
    let spaced = format!("{} ", sh("exit 1"));
    server
        .request("POST", RUN, &headers, spaced.as_bytes())
        .problem(409, "conflict");
    check_replay(&ask(&server, RUN, "k", &sh("exit 1")), &first);
    // The same key elsewhere is another one, and case counts.
    let created = ask(&server, CREATE, "k", &sh("exit 1")).expect(200);
    assert_eq!(created.header(REPLAYED), None);
    let upper = ask(&server, RUN, "K", &sh("exit 2")).expect(200);
    assert_eq!(
        (upper.header(REPLAYED), &upper.json()["exitCode"]),
        (None, &json!(2))
    );
}

fn keys_that_cannot_be_are_refused_and_elsewhere_nobody_looks(backend: Backend) {
    let server = Server::open(backend);
    let long = "k".repeat(255);
    ask(&server, RUN, &long, &sh("exit 0")).expect(200);
    ask(&server, RUN, "!\"#~", &sh("exit 0")).expect(200);
    let longer = "k".repeat(256);
    for key in ["", " ", &longer, "a b", "a\tb", "\u{e9}"] {
        for target in [RUN, CREATE] {
            let problem = ask(&server, target, key, &sh("exit 0")).problem(400, "invalid_request");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("Idempotency-Key"), "{key:?}: {detail}");
        }
    }
    let twice = [
        ("Content-Type", "application/json"),
        ("Idempotency-Key", "a"),
        ("Idempotency-Key", "a"),
    ];
    let body = sh("exit 0").to_string();
    server
        .request("POST", RUN, &twice, body.as_bytes())
        .problem(400, "invalid_request");
    assert_eq!(server.get(CREATE).json(), json!({"processes": []}));
    let bad = [("Idempotency-Key", "")];
    server.request("GET", CREATE, &bad, b"").expect(200);
    let id = server.spawn(&json!({"command": "cat"}));
    let kill = format!("/v1/processes/{id}/kill");
    server.request("POST", &kill, &bad, b"").expect(200);
}

fn a_failure_is_not_kept(backend: Backend) {
    let server = Server::open(backend);
    let folder = Files::new("failure", backend);
    let cwd = folder.file("later");
    for target in [RUN, CREATE] {
        let body = json!({"command": "true", "cwd": cwd});
        let failed = ask(&server, target, "k", &body).expect(502);
        assert_eq!(failed.header(REPLAYED), None);
        std::fs::create_dir(&cwd).unwrap();
        let done = ask(&server, target, "k", &body).expect(200);
        assert_eq!(done.header(REPLAYED), None);
        std::fs::remove_dir(&cwd).unwrap();
        check_replay(&ask(&server, target, "k", &body), &done);
        // A refusal has not used the key up for another body either.
        ask(&server, target, "bad", &json!({"command": ""})).expect(400);
        ask(&server, target, "bad", &sh("exit 0")).expect(200);
    }
}

fn who_waits_for_a_start_that_fails_gets_its_failure(backend: Backend) {
    let server = Server::open(backend);
    let Some(mount) = DeadMount::new(backend) else {
        return skipped_anywhere("no FUSE file system can be mounted; hung starts are not tested");
    };
    let program = format!("{}/program", mount.path.to_str().unwrap());
    let body = json!({"command": program});
    std::thread::scope(|scope| {
        // The first client goes away; what it asked for is still under way.
        let mut gone = server.conn();
        gone.send(request(&server, CREATE, "k", &body));
        eventually("a start that hangs", || procfs::starting(server.pid).pop());
        gone.reset();
        let waiting: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| ask(&server, CREATE, "k", &body)))
            .collect();
        eventually("two clients that wait", || {
            (server.connections() == 2).then_some(())
        });
        drop(mount);
        let answers: Vec<Response> = waiting.into_iter().map(|one| one.join().unwrap()).collect();
        for answer in &answers {
            answer.problem(502, "stream_error");
            assert_eq!(answer.header(REPLAYED), Some("true"));
        }
        assert_eq!(answers[0].body, answers[1].body);
    });
    let anew = ask(&server, CREATE, "k", &body).expect(502);
    assert_eq!(anew.header(REPLAYED), None);
}

fn a_run_goes_on_while_anybody_waits_and_dies_with_the_last(backend: Backend) {
    let server = Server::open(backend);
    let folder = Files::new("last", backend);
    let body = folder.gated();
    let text = request(&server, RUN, "k", &body);
    let mut first = server.conn();
    first.send(&text);
    folder.await_lines("done", 1);
    let mut second = server.conn();
    second.send(&text);
    // One that is answered at once shows that the second has been read before.
    let mut third = server.conn();
    third.send(request(&server, RUN, "k", &sh("exit 0")));
    third.response("POST").problem(409, "conflict");
    first.reset();
    eventually("the first to be gone", || {
        (server.connections() <= 2).then_some(())
    });
    folder.make("gate");
    let answer = second.response("POST").expect(200);
    assert_eq!(answer.header(REPLAYED), Some("true"));
    assert_eq!(answer.json()["stdout"], "through\n");
    assert_eq!(folder.lines("done"), 1);
    // With nobody left it is ended, and whoever comes later begins anew.
    std::fs::remove_file(folder.file("gate")).unwrap();
    let text = request(&server, RUN, "other", &body);
    let mut clients = [server.conn(), server.conn()];
    clients.iter_mut().for_each(|client| client.send(&text));
    folder.await_lines("done", 2);
    let pid = std::fs::read_to_string(folder.file("done")).unwrap();
    let pid: i32 = pid.lines().last().unwrap().parse().unwrap();
    clients.into_iter().for_each(Conn::reset);
    eventually("the run to be ended", || {
        (!procfs::alive(pid)).then_some(())
    });
    folder.make("gate");
    let anew = eventually("a run of its own", || {
        let answer = ask(&server, RUN, "other", &body);
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(anew.header(REPLAYED), None);
    assert_eq!(folder.lines("done"), 3);
}

fn a_run_that_may_go_on_alone_is_answered_to_whoever_comes_later(backend: Backend) {
    let server = Server::open(backend);
    let folder = Files::new("alone", backend);
    let mut body = folder.gated();
    body["killOnDisconnect"] = json!(false);
    let mut gone = server.conn();
    gone.send(request(&server, RUN, "k", &body));
    folder.await_lines("done", 1);
    gone.reset();
    eventually("nobody to be connected", || {
        (server.connections() == 0).then_some(())
    });
    folder.make("gate");
    let answer = ask(&server, RUN, "k", &body).expect(200);
    assert_eq!(answer.header(REPLAYED), Some("true"));
    assert_eq!(answer.json()["stdout"], "through\n");
    assert_eq!(folder.lines("done"), 1);
}

fn a_create_whose_client_has_gone_answers_its_repeat(backend: Backend) {
    let server = Server::open(backend);
    let body = json!({"command": "cat"});
    let mut gone = server.conn();
    gone.send(request(&server, CREATE, "k", &body));
    let id = eventually("the process", || {
        let list = server.get(CREATE).json();
        Some(list["processes"].get(0)?["id"].clone())
    });
    gone.reset();
    let answer = ask(&server, CREATE, "k", &body).expect(200);
    assert_eq!(answer.header(REPLAYED), Some("true"));
    assert_eq!(answer.json()["id"], id);
    assert_eq!(
        server.get(CREATE).json()["processes"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

fn an_answer_that_has_made_room_is_not_made_again(backend: Backend) {
    let server = Server::open(backend);
    let folder = Files::new("room", backend);
    // Each of these answers has 6 MB, and 16 MiB are kept.
    let body = |n: u32| {
        let done = folder.file("done");
        sh(&format!("echo {n} >> {done}; head -c 1000000 /dev/zero"))
    };
    let first = ask(&server, RUN, "1", &body(1)).expect(200);
    check_replay(&ask(&server, RUN, "1", &body(1)), &first);
    ask(&server, RUN, "2", &body(2)).expect(200);
    let third = ask(&server, RUN, "3", &body(3)).expect(200);
    let expired = ask(&server, RUN, "1", &body(1)).problem(409, "conflict");
    assert_eq!(expired["code"], "idempotency_expired");
    let mismatch = ask(&server, RUN, "1", &body(9)).problem(409, "conflict");
    assert_eq!(mismatch["code"], "idempotency_mismatch");
    check_replay(&ask(&server, RUN, "3", &body(3)), &third);
    assert_eq!(folder.lines("done"), 3);
}

fn pipelined_repeats_and_old_clients_are_answered_alike(backend: Backend) {
    let server = Server::open(backend);
    let folder = Files::new("pipelined", backend);
    let body = sh(&format!("echo x >> {}", folder.file("done")));
    let text = request(&server, RUN, "k", &body);
    let mut conn = server.conn();
    conn.send(text.repeat(3));
    let answers: Vec<Response> = (0..3).map(|_| conn.response("POST")).collect();
    check_replay(&answers[1], &answers[0]);
    check_replay(&answers[2], &answers[0]);
    let mut old = server.conn();
    old.send(text.replace("HTTP/1.1", "HTTP/1.0"));
    check_replay(&old.response("POST"), &answers[0]);
    old.expect_closed();
    let strict = [
        ("Content-Type", "application/json"),
        ("Idempotency-Key", "k"),
        ("Prefer", "handling=strict"),
    ];
    let answer = server.request("POST", RUN, &strict, body.to_string().as_bytes());
    check_replay(&answer, &answers[0]);
    assert_eq!(answer.header("preference-applied"), Some("handling=strict"));
    assert_eq!(folder.lines("done"), 1);
}

fn a_server_that_ends_answers_all_who_wait(backend: Backend) {
    let mut server = Server::open(backend);
    let folder = Files::new("ends", backend);
    let text = request(&server, RUN, "k", &folder.gated());
    let mut clients = [server.conn(), server.conn(), server.conn()];
    clients.iter_mut().for_each(|client| client.send(&text));
    folder.await_lines("done", 1);
    // The others have been read when one that comes later is answered.
    let mut later = server.conn();
    later.send(request(&server, RUN, "k", &sh("exit 0")));
    later.response("POST").problem(409, "conflict");
    server.signal(libc::SIGTERM);
    for client in &mut clients {
        let answer = client.response("POST").expect(200);
        assert_eq!(answer.json()["signal"], "SIGTERM");
    }
    assert!(server.await_end(WAIT).success());
}

/// Kills the server of a keeper, or has it upgraded, and waits for the next one.
fn change_server(server: &Server, signal: i32) {
    let before = server.kept().expect("a keeper's server");
    match signal {
        libc::SIGUSR2 => server.signal(signal),
        _ => send_signal(before, signal),
    }
    eventually("the next server", || {
        let next = server.kept().filter(|pid| *pid != before)?;
        (server.get("/v1/health").status == 200).then_some(next)
    });
}

/// The code of a refusal.
fn code_of(refused: &Response) -> String {
    let problem: Value = serde_json::from_slice(&refused.body).unwrap();
    problem["code"].as_str().unwrap_or_default().to_owned()
}

fn keys_go_on_after_a_crash_and_an_upgrade(backend: Backend) {
    let files = Files::new("kept", backend);
    let done = files.file("done");
    let server = Launch::new(backend).args(&["--no-token", "--keep"]).start();
    let create = sh(&format!("echo c >> {done}; exec sleep 1000"));
    let run = sh(&format!("echo r >> {done}; echo out; echo err >&2; exit 3"));
    let long = sh("head -c 200000 /dev/zero | tr '\\0' x");
    let first = [
        ask(&server, CREATE, "create", &create),
        ask(&server, RUN, "run", &run),
        ask(&server, RUN, "long", &long),
    ];
    files.await_lines("done", 2);
    for signal in [libc::SIGUSR2, libc::SIGKILL, libc::SIGKILL, libc::SIGUSR2] {
        change_server(&server, signal);
        for (at, (target, key, body)) in [(CREATE, "create", &create), (RUN, "run", &run)]
            .iter()
            .enumerate()
        {
            let again = ask(&server, target, key, body);
            assert_eq!(again.status, 200, "{}", again.text());
            assert_eq!(again.body, first[at].body, "{key}");
            assert_eq!(again.header(REPLAYED), Some("true"));
        }
        let other = ask(&server, RUN, "run", &sh("echo other"));
        assert_eq!(code_of(&other), "idempotency_mismatch");
        // Its answer was too much to be written down; nothing is done again.
        let long = ask(&server, RUN, "long", &long);
        assert_eq!(code_of(&long), "idempotency_expired");
        let new = ask(&server, RUN, &format!("new-{signal}"), &run);
        assert_eq!(new.status, 200);
    }
    // Twice for each of the two signals: the second time it is a repeat.
    assert_eq!(files.lines("done"), 4);
}

fn what_was_under_way_at_a_crash_is_not_done_twice(backend: Backend) {
    let files = Files::new("crash", backend);
    let server = Launch::new(backend).args(&["--no-token", "--keep"]).start();
    let body = files.gated();
    let mut asks = server.conn();
    asks.send(request(&server, RUN, "run", &body));
    files.await_lines("done", 1);
    // Its client is lost before the answer is read.
    let mut create = files.gated();
    create["name"] = json!("made");
    let mut lost = server.conn();
    lost.send(request(&server, CREATE, "create", &create));
    files.await_lines("done", 2);
    change_server(&server, libc::SIGKILL);
    let run = ask(&server, RUN, "run", &body);
    assert_eq!(code_of(&run), "idempotency_expired");
    let made = ask(&server, CREATE, "create", &create);
    assert_eq!(made.status, 200, "{}", made.text());
    assert_eq!(made.json()["id"], server.info("made")["id"]);
    files.make("gate");
    assert_eq!(server.await_exit("made")["exitCode"], 0);
    assert_eq!(files.lines("done"), 2);
}
