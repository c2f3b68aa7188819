//! `--memory-max`: one budget for what clients can make the server hold, and what happens at it.

use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::server::entry_bytes;
use crate::harness::ws::{TEXT, frame};
use crate::harness::{
    Backend, Conn, Launch, Response, Server, WAIT, Ws, eventually, on_both, sh, skipped_anywhere,
};

on_both!(
    all_that_is_held_is_told_by_its_kind,
    at_the_bound_logs_of_the_exited_go_first_the_oldest_first,
    running_logs_keep_what_they_were_promised_and_a_create_that_would_break_it_is_refused,
    running_floods_leave_memory_for_requests,
    a_body_that_decodes_to_too_much_is_refused_and_the_next_one_is_not,
    a_long_answer_is_made_of_what_the_run_wrote_while_it_is_read,
    a_list_of_long_records_comes_in_pieces_and_cuts_their_arguments,
    fetches_that_begin_at_once_are_not_all_let_in_for_the_same_room,
    what_only_a_stalled_fetch_holds_is_taken_from_it,
    where_a_limit_makes_the_arena_small_nobodys_log_is_empty,
    an_unfinished_message_is_charged_and_its_client_is_told,
    a_server_in_a_group_of_64_mib_takes_an_eighth_and_lives_through_all_of_it,
);

const KINDS: [&str; 5] = [
    "logsBytes",
    "capturesBytes",
    "bodiesBytes",
    "answersBytes",
    "recordsBytes",
];

/// A server that may hold so much.
fn with(backend: Backend, memory: &str) -> Server {
    Launch::new(backend)
        .args(&["--no-token", "--memory-max", memory])
        .start()
}

/// RLIMIT_FSIZE holds for the memory that logs are in.
fn where_a_limit_makes_the_arena_small_nobodys_log_is_empty(backend: Backend) {
    let _heavy = crate::harness::one_heavy_test_at_a_time();
    let server = Launch::new(backend)
        .args(&["--no-token"])
        .through_exec(&["prlimit", "--fsize=70000000"])
        .start();
    for _ in 0..8 {
        let flood = "yes | head -c 12000000; echo written; exec sleep 60";
        let id = server.spawn(&sh(flood));
        eventually("all of it", || {
            let logs = server.logs(&id, "?tail=1");
            let last = entry_bytes(logs["entries"].as_array()?.last()?);
            last.ends_with(b"written\n").then_some(())
        });
    }
    let small = server.spawn(&sh("echo small; exec sleep 60"));
    server.await_output(&small, "small");
    assert_eq!(server.run(&sh("echo run"))["stdout"], "run\n");
    memory(&server);
}

fn memory(server: &Server) -> Value {
    let told = server.get("/v1/server").expect(200).json();
    let of = told["memory"].clone();
    let total: u64 = KINDS.iter().map(|kind| of[kind].as_u64().unwrap()).sum();
    assert_eq!(of["totalBytes"], total, "{of}");
    let max = told["limits"]["memoryMaxBytes"].as_u64().unwrap();
    assert!(total <= max, "{of} of {max}");
    of
}

fn held(server: &Server, kind: &str) -> u64 {
    memory(server)[kind].as_u64().unwrap()
}

#[track_caller]
fn assert_no_memory(answer: &Response) {
    let problem = answer.problem(503, "unavailable");
    assert_eq!(problem["code"], "memory", "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("--memory-max"), "{detail}");
    let wait = answer.header("retry-after").expect("retry-after");
    assert!(wait.parse::<u32>().is_ok_and(|wait| wait > 0), "{wait}");
}

/// Writes so much and stays.
fn writer(bytes: usize) -> Value {
    sh(&format!("head -c {bytes} /dev/zero; exec sleep 1000"))
}

/// Until all that a [`writer`] writes has been read. Its log is not fetched: where memory is short,
/// a fetch that takes nothing for a moment is broken off. Nor is there a word at its end: on the
/// other pipe that may be read before the rest, and be the first to be evicted.
fn await_written(server: &Server, id: &str, bytes: u64) {
    eventually("all output to be read", || {
        (offsets(server, id).end == bytes).then_some(())
    });
}

/// Where the standard output begins that is retained, and where it ends.
fn offsets(server: &Server, id: &str) -> Range<u64> {
    let target = format!("/v1/processes/{id}/logs/raw?stream=stdout");
    let answer = server.request("HEAD", &target, &[], b"");
    let offset = |name: &str| -> u64 { answer.header(name).unwrap().parse().unwrap() };
    offset("procring-first-offset")..offset("procring-end-offset")
}

/// Bytes of the standard output that are retained.
fn retained(server: &Server, id: &str) -> u64 {
    let kept = offsets(server, id);
    kept.end - kept.start
}

fn all_that_is_held_is_told_by_its_kind(backend: Backend) {
    let server = with(backend, "64M");
    let before = memory(&server);
    assert_eq!(before["totalBytes"], 0, "{before}");
    let long = "x".repeat(100_000);
    let id = server.spawn(&json!({
        "command": "sh",
        "args": ["-c", "head -c 1000000 /dev/zero; exec sleep 1000", long],
    }));
    await_written(&server, &id, 1_000_000);
    let with_log = memory(&server);
    assert!(
        with_log["logsBytes"].as_u64().unwrap() >= 1_000_000,
        "{with_log}"
    );
    assert!(
        with_log["recordsBytes"].as_u64().unwrap() >= 100_000,
        "{with_log}"
    );
    // A run holds what it has written until it is answered.
    let mut runner = server.conn();
    let body = sh("head -c 500000 /dev/zero; exec sleep 1000").to_string();
    let head = format!(
        "POST /v1/processes/run HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        server.address,
        body.len()
    );
    runner.send([head, body].concat());
    eventually("the run to hold its output", || {
        (held(&server, "capturesBytes") >= 500_000).then_some(())
    });
    runner.reset();
    server.kill(&id);
    server
        .delete(&format!("/v1/processes/{id}"))
        .expect_empty(204);
    eventually("all of it to be given back", || {
        let now = memory(&server);
        // What has happened to the record is still told, by events.
        let rest = ["logsBytes", "capturesBytes", "bodiesBytes", "answersBytes"];
        rest.iter().all(|kind| now[kind] == 0).then_some(())
    });
}

fn at_the_bound_logs_of_the_exited_go_first_the_oldest_first(backend: Backend) {
    let server = with(backend, "8M");
    let running = server.spawn(&writer(300_000));
    await_written(&server, &running, 300_000);
    let exited: Vec<String> = (0..9)
        .map(|n| {
            let id = server.spawn(&sh(&format!("head -c 1000000 /dev/zero; echo last {n}")));
            server.await_exit(&id);
            id
        })
        .collect();
    let kept: Vec<u64> = exited.iter().map(|id| retained(&server, id)).collect();
    let gone = kept.iter().take_while(|bytes| **bytes == 0).count();
    assert!(gone >= 1 && gone < kept.len(), "{kept:?}");
    assert!(
        kept[gone..].iter().all(|bytes| *bytes > 1_000_000),
        "the oldest first, and each of them whole: {kept:?}"
    );
    // Its record is there, and says what is missing.
    let oldest = server.logs(&exited[0], "");
    assert_eq!(oldest["entries"], json!([]), "{oldest}");
    assert!(
        oldest["droppedBytes"].as_u64().unwrap() > 1_000_000,
        "{oldest}"
    );
    assert_eq!(server.info(&exited[0])["exitCode"], 0);
    assert_eq!(retained(&server, &running), 300_000);
}

fn running_logs_keep_what_they_were_promised_and_a_create_that_would_break_it_is_refused(
    backend: Backend,
) {
    let server = with(backend, "2M");
    // One that is there before the others, and had the memory for itself.
    let first = server.spawn(&writer(3_000_000));
    await_written(&server, &first, 3_000_000);
    assert!(retained(&server, &first) > 500_000);
    let mut ids = vec![first];
    let refused = loop {
        let answer = server.post("/v1/processes", &writer(1_000_000));
        if answer.status != 200 {
            break answer;
        }
        ids.push(answer.json()["id"].as_str().unwrap().to_owned());
        assert!(ids.len() <= 16, "16 times 128 KiB are 2 MiB");
    };
    assert!(ids.len() >= 10, "{}", ids.len());
    assert_no_memory(&refused);
    for id in &ids[1..] {
        await_written(&server, id, 1_000_000);
    }
    for id in &ids {
        assert_eq!(server.info(id)["status"], "running");
        let kept = retained(&server, id);
        assert!(kept >= 64 << 10, "{id} keeps {kept}");
    }
    memory(&server);
    // One less, one more.
    let gone = ids.pop().unwrap();
    server.kill(&gone);
    server.spawn(&writer(10));
}

fn running_floods_leave_memory_for_requests(backend: Backend) {
    let server = with(backend, "8M");
    let floods: Vec<String> = (0..4).map(|_| server.spawn(&sh("exec yes"))).collect();
    for id in &floods {
        eventually("the flood to have filled its part", || {
            (server.logs(id, "?tail=1")["droppedBytes"].as_u64() > Some(4_000_000)).then_some(())
        });
    }
    for _ in 0..5 {
        let answer = server.run(&json!({"command": "head", "args": ["-c", "400000", "/dev/zero"]}));
        assert_eq!(answer["stdoutTruncated"], false);
        assert_eq!(answer["stdout"].as_str().unwrap().len(), 400_000);
    }
    let input = "x".repeat(300_000);
    let answer = server.run(&json!({"command": "wc", "args": ["-c"], "stdin": input}));
    assert_eq!(answer["stdout"].as_str().unwrap().trim(), "300000");
    memory(&server);
    for id in &floods {
        server.kill(id);
    }
}

fn a_body_that_decodes_to_too_much_is_refused_and_the_next_one_is_not(backend: Backend) {
    let server = with(backend, "8M");
    // 400,000 strings of one letter: some twenty times as much once they are strings.
    let args = vec!["a"; 400_000];
    for target in ["/v1/processes", "/v1/processes/run"] {
        assert_no_memory(&server.post(target, &json!({"command": "true", "args": args})));
    }
    assert_eq!(held(&server, "bodiesBytes"), 0);
    let args = vec!["a"; 4_000];
    let args = [&["-c", "echo $#"][..], &args].concat();
    let few = json!({"command": "sh", "args": args});
    assert_eq!(server.run(&few)["stdout"], "3999\n");
}

fn a_long_answer_is_made_of_what_the_run_wrote_while_it_is_read(backend: Backend) {
    let server = with(backend, "4M");
    // One with a key is made so, too, if it is more than is kept for another of its kind.
    for key in ["", "Idempotency-Key: k\r\n"] {
        check_long_answer(&server, key);
    }
}

fn check_long_answer(server: &Server, key: &str) {
    // Six bytes of answer for each byte of output.
    let body = json!({"command": "head", "args": ["-c", "1000000", "/dev/zero"]}).to_string();
    let mut conn = server.conn();
    let head = format!(
        "POST /v1/processes/run HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{key}\
         Content-Length: {}\r\n\r\n",
        server.address,
        body.len()
    );
    conn.send([head, body].concat());
    // Nobody reads, and what is held is what was written.
    eventually("the run to be answered", || {
        let counts = &server.get("/v1/server").json()["counts"];
        (counts["runs"] == 0 && held(server, "capturesBytes") > 1_000_000).then_some(())
    });
    assert!(held(server, "answersBytes") < 1_000_000);
    let answer = conn.response("POST").expect(200);
    let length: usize = answer.header("content-length").unwrap().parse().unwrap();
    assert_eq!(length, answer.text().len());
    let answer = answer.json();
    assert_eq!(answer["stdoutTruncated"], false);
    let text = answer["stdout"].as_str().unwrap();
    assert!(text.len() == 1_000_000 && text.bytes().all(|byte| byte == 0));
    eventually("the output to be given back", || {
        (held(server, "capturesBytes") == 0).then_some(())
    });
    // Another request may follow on the same connection.
    conn.send_some(format!(
        "GET /v1/health HTTP/1.1\r\nHost: {}\r\n\r\n",
        server.address
    ));
    conn.response("GET").expect(200);
}

fn a_list_of_long_records_comes_in_pieces_and_cuts_their_arguments(backend: Backend) {
    let server = with(backend, "64M");
    let long = vec!["x".repeat(1000); 100];
    let args = |n: usize| {
        let mut args = vec![n.to_string()];
        args.extend_from_slice(&long);
        args
    };
    let ids: Vec<String> = (0..20)
        .map(|n| {
            server.spawn(&json!({"command": "true", "args": args(n), "name": format!("n{n}")}))
        })
        .collect();
    let short = server.spawn(&json!({"command": "true", "args": ["a"]}));
    for query in ["", "?limit=21", "?usage=true"] {
        let answer = server.get(&format!("/v1/processes{query}")).expect(200);
        assert!(answer.text().len() > 20 * 60_000);
        let list = answer.json();
        let records = list["processes"].as_array().unwrap();
        assert_eq!(records.len(), 21);
        for (n, (record, id)) in records.iter().zip(&ids).enumerate() {
            assert_eq!(record["id"], **id);
            assert_eq!(record["args"][0], n.to_string());
            let shown = record["args"].as_array().unwrap().len();
            assert!((60..70).contains(&shown), "{shown}");
            assert_eq!(record["argsTruncated"], true);
        }
        let last = records.last().unwrap();
        assert_eq!(last["id"], *short);
        assert!(last.get("argsTruncated").is_none());
    }
    for query in ["", "&usage=true"] {
        let page = server.get(&format!("/v1/processes?limit=7{query}")).json();
        assert_eq!(page["processes"].as_array().unwrap().len(), 7);
        assert_eq!(page["nextAfter"], *ids[6]);
        // A client that reads nothing holds a piece, once the socket has taken what it can.
        let mut stalled = Conn::narrow(server.address);
        let list = format!(
            "GET /v1/processes?limit=20{query} HTTP/1.1\r\nHost: {}\r\n\r\n",
            server.address
        );
        stalled.send(list.repeat(8));
        eventually("a piece to be held", || {
            (held(&server, "answersBytes") > 0).then_some(())
        });
        assert!(held(&server, "answersBytes") < 400_000);
        stalled.reset();
        eventually("it to be given back", || {
            (held(&server, "answersBytes") == 0).then_some(())
        });
    }
    // The record itself shows all of them.
    let record = server.info(&ids[3]);
    assert_eq!(record["args"].as_array().unwrap().len(), 101);
    assert!(record.get("argsTruncated").is_none());
}

fn fetches_that_begin_at_once_are_not_all_let_in_for_the_same_room(backend: Backend) {
    let server = with(backend, "24M");
    let id = server.spawn(&writer(5_000_000));
    await_written(&server, &id, 5_000_000);
    let mut readers: Vec<_> = (0..300).map(|_| Conn::narrow(server.address)).collect();
    for reader in &mut readers {
        reader.send(format!(
            "GET /v1/processes/{id}/logs HTTP/1.1\r\nHost: {}\r\n\r\n",
            server.address
        ));
    }
    let mut most = 0;
    let [mut begun, mut refused] = [0, 0];
    for reader in &mut readers {
        match reader.head(WAIT).expect("a head").status {
            200 => begun += 1,
            _ => refused += 1,
        }
        most = memory(&server)["totalBytes"].as_u64().unwrap().max(most);
    }
    assert!(begun > 10 && refused > 10, "{begun} and {refused}");
    assert!(most <= 24 << 20, "{most} with {begun} readers");
}

fn what_only_a_stalled_fetch_holds_is_taken_from_it(backend: Backend) {
    let server = with(backend, "8M");
    let old = server.spawn(&sh("head -c 4000000 /dev/zero"));
    server.await_exit(&old);
    let mut stalled = Conn::narrow(server.address);
    stalled.send(format!(
        "GET /v1/processes/{old}/logs HTTP/1.1\r\nHost: {}\r\n\r\n",
        server.address
    ));
    let head = stalled.head(WAIT).expect("a head");
    let length: usize = head.header("content-length").unwrap().parse().unwrap();
    server
        .delete(&format!("/v1/processes/{old}"))
        .expect_empty(204);
    assert!(held(&server, "logsBytes") > 3_000_000, "it is still read");
    let new = server.spawn(&writer(6_000_000));
    await_written(&server, &new, 6_000_000);
    let kept = retained(&server, &new);
    assert!(kept > 4_000_000, "{kept}");
    // The reader sees that it has not got all of it.
    stalled.widen();
    let got = stalled.read_to_end();
    assert!(got.len() < length, "{} of {length}", got.len());
    memory(&server);
}

fn an_unfinished_message_is_charged_and_its_client_is_told(backend: Backend) {
    let server = with(backend, "2M");
    let id = server.spawn(&json!({"command": "cat", "tty": true}));
    let mut ws = Ws::attach(&server, &id, "");
    // No end of it comes; there is room for some of it.
    ws.raw(&frame(false, TEXT, &[b'x'; 400_000]));
    eventually("the message to be charged", || {
        (held(&server, "bodiesBytes") >= 400_000).then_some(())
    });
    ws.raw(&frame(false, 0, &[b'x'; 2_000_000]));
    let ending = ws.rest();
    assert_eq!(ending.close, Some(1013));
    let told = ending.texts.iter().any(|text| {
        let message = text["message"].as_str();
        message.is_some_and(|message| message.contains("--memory-max"))
    });
    assert!(told, "{:?}", ending.texts);
    eventually("it to be given back", || {
        (held(&server, "bodiesBytes") == 0).then_some(())
    });
    // The process goes on, with another client.
    let mut ws = Ws::attach(&server, &id, "");
    ws.input("still here\n");
    ws.until("still here");
}

/// A group of 64 MiB; removed when dropped, empty by then.
struct Small(PathBuf);

impl Small {
    const BYTES: u64 = 64 << 20;

    /// Version 2 where the controller is on for children of the root, else version 1.
    fn new(backend: Backend) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let mounted = |wanted: &dyn Fn(&str) -> bool| {
            let line = mounts.lines().find(|line| wanted(line))?;
            line.split(' ').nth(4).map(PathBuf::from)
        };
        let is_memory = |line: &str| line.ends_with("memory") || line.contains(",memory");
        let unified = mounted(&|line| line.contains(" - cgroup2 "));
        let own = mounted(&|line| line.contains(" - cgroup ") && is_memory(line));
        let name = format!("procring-small-{}-{}", std::process::id(), backend.word());
        let files = ["memory.max", "memory.limit_in_bytes"];
        let roots = [unified, own].into_iter().zip(files);
        roots
            .filter_map(|(root, file)| Some((root?, file)))
            .find_map(|(root, file)| {
                let dir = root.join(&name);
                std::fs::create_dir(&dir).ok()?;
                // Dropped, and so removed, where the controller is not there.
                let group = Self(dir);
                let file = group.0.join(file);
                std::fs::write(&file, Self::BYTES.to_string()).ok()?;
                let set = std::fs::read_to_string(file).ok()?;
                (set.trim() == Self::BYTES.to_string()).then_some(group)
            })
    }

    /// A server that is in the group before it is a server; its children are in it, too.
    fn start(&self, backend: Backend) -> Server {
        let procs = self.0.join("cgroup.procs");
        let enter = format!("echo $$ > '{}' && exec \"$@\"", procs.display());
        Launch::new(backend)
            .args(&["--no-token", "--cgroup", "off"])
            .through_exec(&["sh", "-c", &enter, "sh"])
            .start()
    }

    /// How many of the group have been killed for want of memory.
    fn killed(&self) -> u64 {
        let text = ["memory.events", "memory.oom_control"]
            .iter()
            .find_map(|file| std::fs::read_to_string(self.0.join(file)).ok());
        let text = text.expect("memory.events or memory.oom_control");
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.expect("oom_kill").trim().parse().unwrap()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Its last members may be on their way out.
        for _ in 0..500 {
            if !Path::new(&self.0).exists() || std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn a_server_in_a_group_of_64_mib_takes_an_eighth_and_lives_through_all_of_it(backend: Backend) {
    let _heavy = crate::harness::one_heavy_test_at_a_time();
    let Some(group) = Small::new(backend) else {
        return skipped_anywhere("no memory controller; bounds in a small group are not tested");
    };
    let server = group.start(backend);
    let told = server.get("/v1/server").json();
    assert_eq!(told["limits"]["memoryMaxBytes"], Small::BYTES / 8);
    let cat = server.spawn(&json!({"command": "cat"}));
    // Whatever is larger than the whole group.
    server.configure(&[
        ("maxOutputBytes", 1 << 30),
        ("maxLogBytesPerProcess", 1 << 30),
        ("maxInputBytesPerRequest", 1 << 30),
        ("maxConcurrentProcesses", 100_000),
    ]);
    let exited = server.spawn(&sh("head -c 20000000 /dev/zero"));
    server.await_exit(&exited);
    // Letters, which are a byte of the answer each; zeros would be six.
    let run = server.run(&sh("head -c 20000000 /dev/zero | tr '\\0' x; echo e >&2"));
    assert_eq!(run["stdoutTruncated"], true);
    assert_eq!(run["exitCode"], 0);
    // Many bodies at once, none of them whole: all are refused, or wait for their rest.
    let part = "x".repeat(1 << 20);
    let head = format!(
        "POST /v1/processes/run HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: 2000000\r\n\r\n{{\"command\":\"true\",\"stdin\":\"",
        server.address
    );
    let mut unfinished: Vec<_> = (0..60)
        .map(|_| {
            let mut conn = server.conn();
            conn.send_some(&head);
            conn.send_some(&part);
            conn
        })
        .collect();
    let refused = unfinished.drain(..).map(|conn| {
        let (mut stream, _writer) = conn.split();
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let mut answer = [0; 4096];
        let len = stream.read(&mut answer).unwrap_or(0);
        let answer = String::from_utf8_lossy(&answer[..len]).into_owned();
        (stream, answer)
    });
    let (held_back, refused): (Vec<_>, Vec<_>) = refused.partition(|(_, answer)| answer.is_empty());
    for (_, answer) in &refused {
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
        assert!(answer.contains(r#""code":"memory""#), "{answer}");
    }
    assert!(refused.len() >= 40, "60 MiB do not fit: {}", refused.len());
    drop((held_back, refused));
    eventually("what they sent to be given back", || {
        (held(&server, "bodiesBytes") == 0).then_some(())
    });
    // Whoever was there is served on.
    server.feed(&cat, "still here\n");
    server.await_output(&cat, "still here");
    assert_eq!(server.run(&sh("exit 3"))["exitCode"], 3);
    memory(&server);
    assert_eq!(group.killed(), 0);
    drop(server);
}
