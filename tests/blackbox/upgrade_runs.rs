//! Runs under way at an upgrade: another server goes on with them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::lines::{Lines, run_request, text_of};
use crate::harness::procfs::{children_of, kib};
use crate::harness::server::send_signal;
use crate::harness::{Backend, Conn, Folder, Launch, eventually, on_both, sh};
use crate::upgrade::{kept, upgrade};

on_both!(
    runs_in_flight_are_answered_by_the_next_server,
    runs_with_a_record_a_key_or_an_input_go_on,
    streams_go_on_where_they_were,
    who_is_in_line_stays_there_and_waits_no_longer_for_it,
    what_is_handed_over_of_runs_is_bounded_and_does_not_stay_in_memory,
    what_runs_have_written_goes_on_however_much_it_is,
);

fn runs_in_flight_are_answered_by_the_next_server(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token", "--keep", "--max-concurrent-runs", "6"])
        .start();
    let folder = Folder::new("upgrade-runs", backend);
    let gate = folder.file("gate");
    let gated = |script: &str, more: Value| {
        let mut body = sh(&format!(
            "{script}; while [ ! -e {gate} ]; do sleep 0.02; done; {script}; \
                                    echo err >&2; exit 3"
        ));
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        body
    };
    let asks = |body: &Value| {
        let mut conn = server.conn();
        conn.send(run_request("1.1", &[], body));
        conn
    };
    let flood = "seq 1 60000";
    let bodies = [
        gated("echo out", json!({})),
        gated(flood, json!({})),
        gated(flood, json!({"maxOutputBytes": 70_001})),
        gated(flood, json!({"maxOutputBytes": 70_001, "keep": "tail"})),
        gated(flood, json!({"maxOutputBytes": 70_001, "keep": "both"})),
        gated("echo slow", json!({"timeoutMs": 3000})),
        // In line behind the others.
        gated("echo late", json!({})),
    ];
    let gone = {
        let mut answered: Vec<Conn> = bodies.iter().map(&asks).collect();
        eventually("all runs", || {
            let counts = &server.get("/v1/server").json()["counts"];
            (counts["runs"] == 6).then_some(())
        });
        std::thread::sleep(Duration::from_millis(300));
        // Behind a run comes another request.
        answered[0].send("GET /v1/health HTTP/1.1\r\nHost: h\r\n\r\n");
        upgrade(&server);
        upgrade(&server);
        assert_eq!(server.get("/v1/server").json()["counts"]["runs"], 6);
        let late = answered[5].response("POST").json();
        assert_eq!(late["timedOut"], true, "{late}");
        assert_eq!(late["stdout"], "slow\n");
        assert!(late["durationMs"].as_u64() >= Some(3000), "{late}");
        std::fs::write(&gate, "").unwrap();
        for (at, body) in bodies.iter().enumerate().filter(|(at, _)| *at != 5) {
            let answer = answered[at].response("POST").json();
            // The same that is not interrupted.
            let plain = server.run(body);
            for key in [
                "stdout",
                "stderr",
                "exitCode",
                "timedOut",
                "stdoutTruncated",
            ] {
                assert_eq!(answer[key], plain[key], "{key} of run {at}");
            }
            assert_eq!(answer["exitCode"], 3);
        }
        assert_eq!(answered[0].response("GET").status, 200);
        std::fs::remove_file(&gate).unwrap();
        asks(&bodies[0])
    };
    // Who waits goes away behind an upgrade: the run ends with that.
    let begun = || server.get("/v1/server").json()["counts"]["runs"].as_u64();
    eventually("a run", || (begun() == Some(1)).then_some(()));
    upgrade(&server);
    assert_eq!(begun(), Some(1));
    drop(gone);
    eventually("no run", || (begun() == Some(0)).then_some(()));
    // And so it does behind a crash.
    let _lost = asks(&bodies[0]);
    eventually("a run", || (begun() == Some(1)).then_some(()));
    upgrade(&server);
    send_signal(server.kept().unwrap(), libc::SIGKILL);
    let children = || {
        let mut all = children_of(server.pid);
        all.retain(|pid| Some(*pid) != server.kept());
        all
    };
    eventually("nobody of the run", || children().is_empty().then_some(()));
}

fn runs_with_a_record_a_key_or_an_input_go_on(backend: Backend) {
    let server = kept(backend);
    let folder = Folder::new("upgrade-runs-kinds", backend);
    let gate = folder.file("gate");
    let gated = |script: &str, more: Value| {
        let mut body = sh(&format!(
            "echo begun; while [ ! -e {gate} ]; do sleep 0.02; done; {script}; exit 3"
        ));
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        body
    };
    let asks = |key: Option<&str>, body: &Value| {
        let mut conn = server.conn();
        let key: Vec<_> = key
            .map(|key| ("Idempotency-Key", key))
            .into_iter()
            .collect();
        conn.send(run_request("1.1", &key, body));
        conn
    };
    let input = "0123456789abcdef".repeat(16 << 10);
    let recorded = gated(
        "echo out; echo err >&2",
        json!({"record": true, "name": "recorded"}),
    );
    let fed = gated("cat | md5sum", json!({"stdin": input}));
    let fed_record = gated("cat | md5sum", json!({"stdin": input, "record": true}));
    let open = gated(
        "cat",
        json!({"stdinOpen": true, "record": true, "name": "open"}),
    );
    let keyed = gated("echo keyed", json!({}));
    let mark = folder.file("mark");
    let alone = gated(
        &format!("echo $$ > {mark}"),
        json!({"killOnDisconnect": false}),
    );
    let lost = gated("echo lost", json!({"record": true, "name": "lost"}));
    let mut waiting: Vec<Conn> = [
        (None, &recorded),
        (None, &fed),
        (None, &fed_record),
        (None, &open),
        (Some("first"), &keyed),
        (Some("first"), &keyed),
    ]
    .into_iter()
    .map(|(key, body)| asks(key, body))
    .collect();
    let gone = [
        asks(None, &alone),
        asks(Some("second"), &alone.clone()),
        asks(Some("third"), &keyed),
    ];
    let left = asks(Some("third"), &keyed);
    let lost = asks(None, &lost);
    let all = |runs: usize, running: usize| {
        eventually("all that is under way", || {
            let counts = &server.get("/v1/server").json()["counts"];
            (counts["runs"] == runs && counts["runningProcesses"] == running).then_some(())
        });
    };
    all(5, 4);
    server.await_output("recorded", "begun");
    gone.into_iter().for_each(Conn::reset);
    eventually("few connections", || {
        (server.connections() <= 9).then_some(())
    });
    upgrade(&server);
    upgrade(&server);
    all(5, 4);
    // Its client goes, and with that the run.
    lost.reset();
    eventually("its end", || {
        (server.info("lost")["status"] == "exited").then_some(())
    });
    waiting.push(left);
    let listed = server.info("recorded");
    assert_eq!(listed["status"], "running", "{listed}");
    server.feed("open", "typed\n");
    server
        .post_empty("/v1/processes/open/stdin/close")
        .expect(204);
    // Somebody else asks for the same.
    waiting.push(asks(Some("first"), &keyed));
    std::fs::write(&gate, "").unwrap();
    let answers: Vec<_> = waiting
        .iter_mut()
        .map(|conn| conn.response("POST"))
        .collect();
    let outputs: Vec<_> = answers
        .iter()
        .map(|answer| {
            let json = answer.json();
            assert_eq!(json["exitCode"], 3, "{json}");
            json["stdout"]
                .as_str()
                .unwrap()
                .trim_start_matches("begun\n")
                .to_owned()
        })
        .collect();
    let sum = server.run(&json!({"command": "md5sum", "stdin": input}));
    let sum = sum["stdout"].as_str().unwrap();
    assert_eq!(
        outputs,
        [
            "out\n", sum, sum, "typed\n", "keyed\n", "keyed\n", "keyed\n", "keyed\n"
        ]
    );
    let repeats = answers
        .iter()
        .map(|answer| answer.header("idempotency-replayed").is_some());
    assert_eq!(
        repeats.collect::<Vec<_>>(),
        [false, false, false, false, false, true, true, true]
    );
    let answer = answers[0].json();
    assert_eq!(
        (&answer["stderr"], &answer["stderrBytes"]),
        (&json!("err\n"), &json!(4))
    );
    assert_eq!(answer["processId"], listed["id"]);
    server.await_exit("recorded");
    assert_eq!(server.output("recorded", "stdout"), b"begun\nout\n");
    for answer in [&answers[1], &answers[4]] {
        assert!(answer.json().get("processId").is_none());
    }
    eventually("what nobody waits for", || {
        Some(std::fs::read_to_string(&mark).ok()?.ends_with('\n')).filter(|is| *is)
    });
    all(0, 0);
    // What was asked for with a key is not done again.
    let again = asks(Some("second"), &alone).response("POST");
    assert_eq!(again.json()["stdout"], "begun\n", "{}", again.text());
}

fn streams_go_on_where_they_were(backend: Backend) {
    let server = kept(backend);
    let folder = Folder::new("upgrade-runs-streams", backend);
    let gate = folder.file("gate");
    let wait = format!("while [ ! -e {gate} ]; do sleep 0.02; done");
    let text = |script: String, more: Value| {
        let mut body = sh(&script);
        body["outputEncoding"] = json!("utf8");
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        body
    };
    let half = text(
        format!("printf 'a\\360\\237'; echo 1 >&2; {wait}; printf '\\230\\200b'; exit 3"),
        json!({"stdin": "unread", "maxOutputBytes": 6}),
    );
    let recorded = text(
        format!("echo out; {wait}; echo out"),
        json!({"record": true, "name": "recorded"}),
    );
    // Its client reads nothing of what it is sent for long, and it waits for that.
    let flood = text(format!("seq 1 900000; {wait}; echo end"), json!({}));
    let over = text("seq 1 60000".to_owned(), json!({}));
    let busy = text(
        format!("i=0; while [ ! -e {gate} ]; do i=$((i+1)); echo $i; done; echo end"),
        json!({}),
    );
    let started = |conn: Conn, body: &Value| {
        let mut lines = Lines::over(conn, body);
        lines.start();
        lines
    };
    let mut half = started(server.conn(), &half);
    assert_eq!(half.next().unwrap()["data"], "a");
    assert_eq!(half.next().unwrap()["data"], "1\n");
    let mut recorded = started(server.conn(), &recorded);
    let mut flood = started(Conn::narrow(server.address), &flood);
    let mut over = started(Conn::narrow(server.address), &over);
    let mut busy = started(server.conn(), &busy);
    let lost = started(server.conn(), &text(wait.clone(), json!({})));
    let mut events = server.conn();
    let form = [("Accept", "text/event-stream")];
    events.send(run_request("1.0", &form, &text(wait.clone(), json!({}))));
    eventually("all that is under way", || {
        let counts = &server.get("/v1/server").json()["counts"];
        (counts["runs"] == 5 && counts["runningProcesses"] == 1).then_some(())
    });
    upgrade(&server);
    assert_eq!(recorded.next().unwrap()["data"], "out\n");
    busy.next();
    upgrade(&server);
    assert_eq!(server.info("recorded")["status"], "running");
    lost.into_conn().reset();
    eventually("one less", || {
        (server.get("/v1/server").json()["counts"]["runs"] == 4).then_some(())
    });
    std::fs::write(&gate, "").unwrap();
    let lines = half.rest();
    assert_eq!(text_of(&lines, "stdout"), "\u{1f600}b", "{lines:?}");
    let exit = lines.last().unwrap();
    assert_eq!(
        (&exit["exitCode"], &exit["stdoutBytes"]),
        (&json!(3), &json!(6)),
        "{exit}"
    );
    assert_eq!(text_of(&recorded.rest(), "stdout"), "out\n");
    assert_eq!(server.output("recorded", "stdout"), b"out\nout\n");
    let all = |last: u32| (1..=last).map(|i| format!("{i}\n")).collect::<String>();
    flood.conn().widen();
    let lines = flood.rest();
    let numbers = lines.iter().filter_map(|line| line["sequence"].as_u64());
    assert!(
        numbers.eq(1..lines.len() as u64),
        "each entry once, in order"
    );
    assert_eq!(text_of(&lines, "stdout"), all(900_000) + "end\n");
    over.conn().widen();
    assert_eq!(text_of(&over.rest(), "stdout"), all(60_000));
    let text = text_of(&busy.rest(), "stdout");
    let said = text.strip_suffix("end\n").unwrap();
    let first: u32 = said.lines().next().unwrap().parse().unwrap();
    assert!(
        said.lines()
            .zip(first..)
            .all(|(line, i)| line == i.to_string())
    );
    let events = String::from_utf8(events.read_to_end()).unwrap();
    assert_eq!(events.matches("event: start").count(), 1, "{events}");
    assert!(events.contains("event: exit\n"), "{events}");
}

fn who_is_in_line_stays_there_and_waits_no_longer_for_it(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token", "--keep", "--max-concurrent-runs", "1"])
        .start();
    let folder = Folder::new("upgrade-runs-line", backend);
    let gate = folder.file("gate");
    let asks = |key: &str, body: Value| {
        let mut conn = server.conn();
        conn.send(run_request("1.1", &[("Idempotency-Key", key)], &body));
        eventually("one more", || {
            let counts = &server.get("/v1/server").json()["counts"];
            let all = counts["runs"].as_u64()? + counts["queuedRuns"].as_u64()?;
            (all.to_string() == key).then_some(())
        });
        conn
    };
    let order = folder.file("order");
    let mut first = asks(
        "1",
        sh(&format!("while [ ! -e {gate} ]; do sleep 0.02; done")),
    );
    let mut patient: Vec<Conn> = (2..8)
        .map(|key| asks(&key.to_string(), sh(&format!("echo {key} >> {order}"))))
        .collect();
    let mut hurried = sh("echo never");
    hurried["timeoutMs"] = json!(2000);
    let asked = Instant::now();
    let mut hurried = asks("8", hurried);
    // It is in line twice, and not for longer.
    while asked.elapsed() < Duration::from_millis(1500) {
        upgrade(&server);
    }
    let refused = hurried.response("POST");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("within"), "{}", refused.text());
    std::fs::write(&gate, "").unwrap();
    assert_eq!(first.response("POST").json()["exitCode"], 0);
    for conn in &mut patient {
        assert_eq!(conn.response("POST").json()["exitCode"], 0);
    }
    assert_eq!(
        std::fs::read_to_string(&order).unwrap(),
        "2\n3\n4\n5\n6\n7\n"
    );
}

fn what_is_handed_over_of_runs_is_bounded_and_does_not_stay_in_memory(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token", "--keep", "--max-concurrent-runs", "2"])
        .start();
    let folder = Folder::new("upgrade-runs-memory", backend);
    let ask = |gate: &str, runs: usize| -> Vec<Conn> {
        let mut body = sh(&format!(
            "while [ ! -e {gate} ]; do sleep 0.02; done; echo done"
        ));
        // A megabyte each, two of which have begun.
        let long: serde_json::Map<String, Value> = (0..10)
            .map(|at| (format!("LONG_{at}"), json!("x".repeat(100_000))))
            .collect();
        body["env"] = long.into();
        let mut waiting = Vec::new();
        for _ in 0..runs {
            let mut conn = server.conn();
            conn.send(run_request("1.1", &[], &body));
            waiting.push(conn);
        }
        eventually("all runs", || {
            let info = server.get("/v1/server").json();
            let all = info["counts"]["runs"].as_u64()? + info["counts"]["queuedRuns"].as_u64()?;
            (all == runs as u64).then_some(())
        });
        waiting
    };
    let answered = |waiting: Vec<Conn>| {
        for mut conn in waiting {
            assert_eq!(conn.response("POST").json()["stdout"], "done\n");
        }
    };
    let gate = folder.file("few");
    let few = ask(&gate, 12);
    upgrade(&server);
    std::fs::write(&gate, "").unwrap();
    answered(few);
    eventually("little memory", || {
        let pids = [server.pid, server.kept()?];
        (pids.map(|pid| kib(pid, "RssAnon")).iter().sum::<u64>() < 8 << 10).then_some(())
    });
    // More than 16 MiB of them are waited for.
    let gate = folder.file("many");
    let many = ask(&gate, 20);
    server.signal(libc::SIGUSR2);
    eventually("a refusal", || {
        server
            .stderr()
            .contains("nothing was upgraded: after 5 s")
            .then_some(())
    });
    std::fs::write(&gate, "").unwrap();
    answered(many);
    upgrade(&server);
}

fn what_runs_have_written_goes_on_however_much_it_is(backend: Backend) {
    let args = ["--no-token", "--keep", "--max-output-bytes", "40M"];
    let server = Launch::new(backend).args(&args).start();
    let folder = Folder::new("upgrade-runs-much", backend);
    let gate = folder.file("gate");
    let script = format!(
        "i=0; while [ $i -lt 20 ]; do seq 100000 300000; i=$((i+1)); done; \
         while [ ! -e {gate} ]; do sleep 0.02; done; echo end"
    );
    let asks = ["head", "tail", "both"].map(|keep| {
        let mut body = sh(&script);
        body["maxOutputBytes"] = json!(20_000_000);
        body["keep"] = json!(keep);
        body
    });
    let mut conns = asks.each_ref().map(|body| {
        let mut conn = server.conn();
        conn.send(run_request("1.1", &[], body));
        conn
    });
    eventually("all that they write", || {
        let metrics = server.get("/metrics").expect(200);
        let mut lines = metrics.text().lines();
        let written = lines.find_map(|line| line.strip_prefix("procring_output_bytes_total "))?;
        (written.parse::<f64>().ok()? >= 60.0 * 7.0 * 200_001.0).then_some(())
    });
    for _ in 0..2 {
        upgrade(&server);
    }
    std::fs::write(&gate, "").unwrap();
    let numbers: String = (100_000..=300_000).map(|n| format!("{n}\n")).collect();
    let all = numbers.repeat(20) + "end\n";
    let (first, last) = (&all[..10_000_000], &all[all.len() - 10_000_000..]);
    for (conn, body) in conns.iter_mut().zip(&asks) {
        let answer = conn.response("POST").expect(200).json();
        let stdout = answer["stdout"].as_str().unwrap();
        let is_right = match body["keep"].as_str() {
            Some("head") => stdout == &all[..20_000_000],
            Some("tail") => stdout == &all[all.len() - 20_000_000..],
            _ => stdout == first && answer["stdoutTail"].as_str() == Some(last),
        };
        assert!(is_right, "{} bytes of {}", stdout.len(), body["keep"]);
        assert_eq!(answer["exitCode"], 0);
    }
}
