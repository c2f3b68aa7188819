//! `GET /v1/events`: what happens to records, for who was there and for who comes back.

use serde_json::{Value, json};

use crate::harness::server::send_signal;
use crate::harness::sse::Follow;
use crate::harness::{Backend, Conn, Item, Launch, Server, WAIT, eventually, on_both, sh};
use crate::upgrade::{kept, upgrade};

on_both!(
    a_stream_tells_the_whole_story_of_a_process,
    what_never_ran_or_is_no_record_is_not_told,
    a_run_that_leaves_something_is_created_and_exited_at_once,
    a_record_that_makes_room_says_so,
    who_comes_back_goes_on_where_it_was,
    an_id_of_another_life_is_refused,
    no_number_comes_twice_when_a_server_is_killed_and_a_gap_is_told,
    an_upgrade_loses_no_event,
    what_the_ring_has_lost_is_told_as_a_gap,
    a_reader_that_does_not_read_holds_up_nobody_and_is_told_what_it_missed,
    a_stream_may_be_about_some_processes_only,
    the_end_of_the_server_tells_every_exit_first,
    many_readers_are_told_the_same,
    heads_old_clients_and_bad_queries_are_answered_like_elsewhere,
    a_client_that_hangs_up_gives_its_connection_back,
);

fn open(server: &Server, query: &str) -> Follow {
    Follow::open(server, &format!("/v1/events{query}"), &[])
}

/// The next event, which must be called `name`: its number and its record.
#[track_caller]
fn next(stream: &mut Follow, name: &str) -> (u64, Value) {
    let item = stream.next();
    let event = item.event(name);
    let Item::Event { id, .. } = item else {
        unreachable!("it is an event");
    };
    assert_eq!(event["type"], name);
    assert_eq!(event["sequence"].as_u64(), id);
    assert!(event["timestampMs"].as_u64().unwrap() > 1_700_000_000_000);
    (id.unwrap(), event["process"].clone())
}

#[track_caller]
fn names_of(stream: &mut Follow, count: usize) -> Vec<(String, String)> {
    let items = stream.take(count);
    let name_of = |item: Item| match item {
        Item::Event { name, data, .. } => {
            let event: Value = serde_json::from_str(&data).unwrap();
            let id = event["process"]["id"].as_str().unwrap_or_default();
            (name, id.to_owned())
        }
        other => panic!("{other:?}"),
    };
    items.into_iter().map(name_of).collect()
}

fn a_stream_tells_the_whole_story_of_a_process(backend: Backend) {
    let server = Server::open(backend);
    let mut stream = open(&server, "");
    assert_eq!(stream.head.header("x-accel-buffering"), Some("no"));
    for tty in [false, true] {
        let body = json!({
            "command": "sh", "args": ["-c", "read x; exit 3"], "cwd": "/", "tty": tty,
            "name": "one", "labels": {"k": "v"}
        });
        let created = server.create(&body);
        let id = created["id"].as_str().unwrap();
        let (first, told) = next(&mut stream, "created");
        assert_eq!(told, created);
        server.feed(id, "\n");
        let (second, told) = next(&mut stream, "exited");
        assert_eq!(told["exitCode"], 3);
        assert_eq!(told, server.info(id));
        server.delete(&format!("/v1/processes/{id}")).expect(204);
        let (third, gone) = next(&mut stream, "deleted");
        assert_eq!(gone, told);
        assert_eq!((second, third), (first + 1, first + 2));
    }
}

fn what_never_ran_or_is_no_record_is_not_told(backend: Backend) {
    let server = Server::open(backend);
    let mut stream = open(&server, "");
    server
        .post("/v1/processes", &json!({"command": "/no/such"}))
        .problem(502, "stream_error");
    assert_eq!(server.run(&sh("exit 4"))["exitCode"], 4);
    let id = server.spawn(&sh("exit 5"));
    assert_eq!(next(&mut stream, "created").1["id"], id.as_str());
}

fn a_run_that_leaves_something_is_created_and_exited_at_once(backend: Backend) {
    let server = Server::open(backend);
    let mut stream = open(&server, "");
    let answer = server.run(&sh("setsid sleep 600 </dev/null >/dev/null 2>&1 & true"));
    let id = answer["processId"].as_str().unwrap();
    for name in ["created", "exited"] {
        let (_, told) = next(&mut stream, name);
        assert_eq!(
            (&told["id"], &told["status"]),
            (&json!(id), &json!("exited"))
        );
    }
    server
        .delete(&format!("/v1/processes/{id}?tree=true"))
        .expect(204);
    assert_eq!(next(&mut stream, "deleted").1["id"], id);
}

fn a_record_that_makes_room_says_so(backend: Backend) {
    let args = ["--no-token", "--max-exited", "1"];
    let server = Launch::new(backend).args(&args).start();
    let mut stream = open(&server, "");
    let first = server.spawn(&sh("true"));
    server.await_exit(&first);
    let second = server.spawn(&sh("true"));
    for (name, id) in [
        ("created", &first),
        ("exited", &first),
        ("created", &second),
        ("exited", &second),
    ] {
        assert_eq!(next(&mut stream, name).1["id"], id.as_str());
    }
    let item = stream.next();
    let event = item.event("deleted");
    assert_eq!(event["process"]["id"], first.as_str());
    assert_eq!(event["reason"], "evicted");
    server
        .delete(&format!("/v1/processes/{second}"))
        .expect(204);
    let event = stream.next().event("deleted");
    assert_eq!(event.get("reason"), None);
}

fn who_comes_back_goes_on_where_it_was(backend: Backend) {
    let server = Server::open(backend);
    let mut first = open(&server, "");
    let ids: Vec<String> = (0..3).map(|_| server.spawn(&sh("sleep 60"))).collect();
    let seen: Vec<u64> = ids
        .iter()
        .map(|id| {
            let (number, told) = next(&mut first, "created");
            assert_eq!(told["id"], id.as_str());
            number
        })
        .collect();
    drop(first);
    let begins_with = |mut stream: Follow, id: &str| {
        assert_eq!(next(&mut stream, "created").1["id"], id);
    };
    begins_with(open(&server, "?since=0"), &ids[0]);
    begins_with(open(&server, &format!("?since={}", seen[0])), &ids[1]);
    let header = |id: u64| {
        let id = id.to_string();
        Follow::open(&server, "/v1/events?since=0", &[("Last-Event-ID", &id)])
    };
    begins_with(header(seen[0]), &ids[1]);
    begins_with(header(seen[1]), &ids[2]);
    // The place before the first event is one of this life, too.
    begins_with(open(&server, &format!("?since={}", seen[0] - 1)), &ids[0]);
    let (mut last, mut now) = (header(seen[2]), open(&server, ""));
    let next_id = server.spawn(&sh("sleep 60"));
    for stream in [&mut last, &mut now] {
        assert_eq!(next(stream, "created").1["id"], next_id.as_str());
    }
}

fn an_id_of_another_life_is_refused(backend: Backend) {
    let server = Server::open(backend);
    let mut stream = open(&server, "");
    server.spawn(&sh("true"));
    let (seen, _) = next(&mut stream, "created");
    drop(server);
    let server = Server::open(backend);
    server.spawn(&sh("true"));
    for other in [seen, seen - 1, 1, seen + (1 << 40), u64::MAX] {
        let answer = server.get(&format!("/v1/events?since={other}"));
        let problem = answer.problem(410, "gone");
        assert_eq!(problem["code"], "stale_cursor");
        let id = other.to_string();
        let resumed = [("Last-Event-ID", &*id)];
        let answer = server.request("GET", "/v1/events", &resumed, b"");
        answer.problem(410, "gone");
    }
}

/// Behind this event, where the server may be another one by now.
#[track_caller]
fn behind(server: &Server, seen: u64) -> Follow {
    let seen = seen.to_string();
    Follow::open(server, "/v1/events", &[("Last-Event-ID", &seen)])
}

fn no_number_comes_twice_when_a_server_is_killed_and_a_gap_is_told(backend: Backend) {
    let server = kept(backend);
    let mut stream = open(&server, "");
    let mut numbers = Vec::new();
    for _ in 0..2 {
        server.spawn(&sh("sleep 60"));
        numbers.push(next(&mut stream, "created").0);
    }
    for seen in 0..2 {
        let before = server.kept().expect("a server");
        send_signal(before, libc::SIGKILL);
        eventually("another server", || {
            server.kept().filter(|pid| *pid != before)
        });
        let id = server.spawn(&sh("sleep 60"));
        // Something may have happened that nobody was told of, so who has seen all is told, too.
        let last = *numbers.last().unwrap();
        for seen in [numbers[seen], last] {
            let mut stream = behind(&server, seen);
            let gap = stream.next().event("gap");
            assert_eq!(gap["from"].as_u64(), Some(seen + 1));
            let to = gap["to"].as_u64().unwrap();
            assert!(to > last, "{gap} behind {last}");
            let (number, told) = next(&mut stream, "created");
            assert_eq!((number, &told["id"]), (to + 1, &json!(id)));
        }
        let (number, _) = next(&mut open(&server, "?since=0"), "created");
        assert!(number > last);
        numbers.push(number);
    }
}

fn an_upgrade_loses_no_event(backend: Backend) {
    let server = kept(backend);
    let mut stream = open(&server, "");
    let body = json!({"command": "sh", "args": ["-c", "read x; exit 3"], "cwd": "/", "tty": true,
        "name": "one", "labels": {"k": "v"}});
    let id = server.spawn(&body);
    let (first, created) = next(&mut stream, "created");
    server.feed(&id, "\n");
    let (second, exited) = next(&mut stream, "exited");
    server.delete("/v1/processes/one").expect(204);
    let (third, deleted) = next(&mut stream, "deleted");
    let mut seen = third;
    for _ in 0..2 {
        upgrade(&server);
        let mut stream = behind(&server, first - 1);
        assert_eq!(next(&mut stream, "created"), (first, created.clone()));
        assert_eq!(next(&mut stream, "exited"), (second, exited.clone()));
        assert_eq!(next(&mut stream, "deleted"), (third, deleted.clone()));
        let mut last = behind(&server, seen);
        let id = server.spawn(&sh("sleep 60"));
        let (number, told) = next(&mut last, "created");
        assert_eq!((number, &told["id"]), (seen + 1, &json!(id)));
        seen = number;
    }
}

/// A request whose record is more in memory than on the wire: some ten events about such are more
/// than the ring holds.
fn long() -> Value {
    let args = vec!["x"; 35_000];
    json!({"command": "true", "args": args})
}

/// Lets the ring pass, which holds 8 MiB; waits for the last event of it.
fn pass_the_ring(server: &Server) {
    for _ in 0..8 {
        let id = server.spawn(&long());
        server.await_exit(&id);
    }
}

fn what_the_ring_has_lost_is_told_as_a_gap(backend: Backend) {
    let server = Server::open(backend);
    let mut stream = open(&server, "");
    server.spawn(&sh("sleep 60"));
    let (seen, _) = next(&mut stream, "created");
    drop(stream);
    pass_the_ring(&server);
    let mut stream = open(&server, &format!("?since={seen}"));
    let item = stream.next();
    let gap = item.event("gap");
    assert_eq!(gap["from"], seen + 1);
    let to = gap["to"].as_u64().unwrap();
    let Item::Event { name, id, .. } = stream.next() else {
        panic!("an event behind the gap");
    };
    assert!(name == "created" || name == "exited", "{name}");
    assert_eq!(id, Some(to + 1));
    // Who asks for all there is has missed nothing.
    let mut all = open(&server, "?since=0");
    let Item::Event { id, .. } = all.next() else {
        panic!("an event");
    };
    assert_eq!(id, Some(to + 1));
}

fn a_reader_that_does_not_read_holds_up_nobody_and_is_told_what_it_missed(backend: Backend) {
    let server = Server::open(backend);
    let mut conn = Conn::narrow(server.address);
    conn.send("GET /v1/events HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut other = open(&server, "");
    // More than the sockets between hold, and what is being sent.
    for _ in 0..24 {
        let id = server.spawn(&long());
        for name in ["created", "exited"] {
            assert_eq!(next(&mut other, name).1["id"], id.as_str());
        }
    }
    let last = server.spawn(&sh("sleep 60"));
    conn.widen();
    let head = conn.head(WAIT).unwrap();
    let mut slow = Follow::over(conn, head);
    let mut gaps = 0;
    let mut expected = None;
    loop {
        let Item::Event { name, id, data, .. } = slow.next() else {
            panic!("an event");
        };
        let event: Value = serde_json::from_str(&data).unwrap();
        if name == "gap" {
            gaps += 1;
            assert!(expected.is_none_or(|expected| event["from"] == expected));
            expected = event["to"].as_u64().map(|to| to + 1);
            continue;
        }
        assert!(expected.is_none_or(|expected| id == Some(expected)));
        expected = id.map(|id| id + 1);
        if event["process"]["id"] == last.as_str() {
            break;
        }
    }
    assert!(gaps >= 1);
}

fn a_stream_may_be_about_some_processes_only(backend: Backend) {
    let server = Server::open(backend);
    let mut some = open(&server, "?label=app=web&label=tier=1");
    let mut all = open(&server, "");
    let spawn = |labels: Value| {
        let mut body = sh("true");
        body["labels"] = labels;
        server.spawn(&body)
    };
    for labels in [json!({}), json!({"app": "web"}), json!({"tier": "1"})] {
        spawn(labels);
    }
    let id = spawn(json!({"app": "web", "tier": "1", "more": ""}));
    for name in ["created", "exited"] {
        assert_eq!(next(&mut some, name).1["id"], id.as_str());
    }
    assert_eq!(names_of(&mut all, 8).len(), 8);
    let answer = server.get("/v1/events?label=web");
    let problem = answer.problem(400, "invalid_request");
    assert!(problem["detail"].as_str().unwrap().contains("KEY=VALUE"));
}

fn the_end_of_the_server_tells_every_exit_first(backend: Backend) {
    let args = ["--no-token", "--shutdown-grace", "0.2"];
    let mut server = Launch::new(backend).args(&args).start();
    let mut streams = [open(&server, ""), open(&server, "")];
    let mut ids = Vec::new();
    for at in 0..12 {
        let script = match at % 3 {
            0 => "exec sleep 60",
            1 => "trap '' TERM; echo ready; while :; do sleep 1; done",
            _ => "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.05; done",
        };
        let mut body = sh(script);
        body["tty"] = json!(at % 2 == 0);
        let id = server.spawn(&body);
        if at % 3 > 0 {
            server.await_output(&id, "ready");
        }
        ids.push(id);
    }
    server.signal(libc::SIGTERM);
    ids.sort();
    for stream in &mut streams {
        assert!(
            names_of(stream, 12)
                .iter()
                .all(|(name, _)| name == "created")
        );
        let told = names_of(stream, 12);
        assert!(told.iter().all(|(name, _)| name == "exited"), "{told:?}");
        let mut told: Vec<String> = told.into_iter().map(|(_, id)| id).collect();
        told.sort();
        assert_eq!(told, ids);
        assert_eq!(stream.next(), Item::End);
    }
    server.await_end(WAIT);
}

fn many_readers_are_told_the_same(backend: Backend) {
    let server = Server::open(backend);
    let mut streams: Vec<Follow> = (0..50).map(|_| open(&server, "")).collect();
    let ids: Vec<String> = (0..20).map(|_| server.spawn(&sh("true"))).collect();
    ids.iter().for_each(|id| drop(server.await_exit(id)));
    let mut first = None;
    for stream in &mut streams {
        let told = names_of(stream, 40);
        assert_eq!(&told, first.get_or_insert(told.clone()));
    }
}

fn heads_old_clients_and_bad_queries_are_answered_like_elsewhere(backend: Backend) {
    let mut server = Server::open(backend);
    let mut conn = server.conn();
    for _ in 0..2 {
        conn.send("HEAD /v1/events HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = conn.response("HEAD").expect(200);
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
    }
    for query in ["?since=x", "?since=-1", "?since=1&since=1"] {
        server
            .get(&format!("/v1/events{query}"))
            .problem(400, "invalid_request");
    }
    let header = [("Last-Event-ID", "x")];
    server
        .request("GET", "/v1/events", &header, b"")
        .problem(400, "invalid_request");
    assert_eq!(server.post_empty("/v1/events").status, 405);
    let prefer = [("Prefer", "handling=strict")];
    let strict = server.request("GET", "/v1/events?sinse=1", &prefer, b"");
    let problem = strict.problem(400, "invalid_request");
    assert!(problem["detail"].as_str().unwrap().contains("since"));

    // A body until the connection closes.
    let mut old = server.conn();
    old.send("GET /v1/events HTTP/1.0\r\n\r\n");
    let head = old.head(WAIT).unwrap();
    assert_eq!(head.header("transfer-encoding"), None);
    server.spawn(&sh("sleep 60"));
    server.signal(libc::SIGTERM);
    let body = String::from_utf8(old.read_to_end()).unwrap();
    let names: Vec<&str> = body
        .lines()
        .filter(|line| line.starts_with("event:"))
        .collect();
    assert_eq!(names, ["event: created", "event: exited"], "{body}");
    server.await_end(WAIT);
}

fn a_client_that_hangs_up_gives_its_connection_back(backend: Backend) {
    let server = Server::open(backend);
    for _ in 0..5 {
        open(&server, "").into_conn().reset();
        drop(open(&server, ""));
    }
    eventually("the connections to be given up", || {
        (server.connections() == 0).then_some(())
    });
}
