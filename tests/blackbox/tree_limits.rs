//! `limits` of a whole tree, kept by a cgroup: memory, swap, processor time and processes; and the
//! truth about an end for want of memory.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::delegated::{Delegated, unified};
use crate::harness::json::keys;
use crate::harness::sse::Follow;
use crate::harness::{Backend, Launch, Server, eventually, on_both, procfs, sh};

on_both!(
    a_run_that_takes_too_much_memory_says_so_and_nobody_else_notices,
    a_process_that_takes_too_much_memory_says_so_and_an_event_before,
    when_only_a_grandchild_is_killed_the_process_goes_on,
    a_fork_bomb_is_stopped_by_one_kill,
    limits_are_there_before_the_first_instruction,
    a_group_is_as_new_for_the_next_tree,
    a_tree_that_exceeded_its_memory_leaves_its_group_to_nobody,
    what_lies_in_shared_memory_is_not_charged_to_the_next,
    usage_of_a_limited_tree_has_the_peak_of_all_of_it,
    an_unprivileged_server_has_them_where_they_are_delegated,
    a_server_with_company_says_why_it_cannot,
    limits_beyond_those_of_the_server_itself_do_not_loosen_them,
    all_is_as_it_was_when_the_server_has_ended,
    what_a_killed_server_left_in_limited_groups_is_ended,
    without_groups_limits_of_trees_are_501_and_say_what_is_missing,
);

const MIB: u64 = 1 << 20;

/// A gigabyte, where there may be 64 MiB.
const GREEDY: &str = "x = bytearray(10**9)";

fn greedy() -> Value {
    limited(
        json!({"command": "python3", "args": ["-c", GREEDY]}),
        json!({"memoryBytes": 64 * MIB}),
    )
}

fn limited(mut body: Value, limits: Value) -> Value {
    body["limits"] = limits;
    body
}

fn a_run_that_takes_too_much_memory_says_so_and_nobody_else_notices(backend: Backend) {
    let Some(group) = Delegated::new() else {
        return;
    };
    let server = group.launch(backend).start();
    let plain = server.spawn(&json!({"command": "cat"}));
    let neighbour = limited(json!({"command": "cat"}), json!({"memoryBytes": 64 * MIB}));
    let neighbour = server.spawn(&neighbour);
    for _ in 0..3 {
        let run = server.post("/v1/processes/run", &greedy()).expect(200);
        let order = keys(run.text());
        assert_eq!(order[order.len() - 2..], ["exitReason", "signal"]);
        let run = run.json();
        assert_eq!(run["exitReason"], "oom", "{run}");
        assert_eq!(
            (&run["signal"], &run["exitCode"]),
            (&json!("SIGKILL"), &Value::Null)
        );
        assert_eq!(run["timedOut"], false);
    }
    // Who keeps to it, and who has no limit, has no reason.
    let modest = limited(sh("exit 3"), json!({"memoryBytes": 64 * MIB}));
    let run = server.run(&modest);
    assert_eq!(run["exitCode"], 3, "{run}");
    assert!(run.get("exitReason").is_none());
    let killed = server.run(&limited(sh("kill -9 $$"), json!({"memoryBytes": 64 * MIB})));
    assert_eq!(killed["signal"], "SIGKILL");
    assert!(killed.get("exitReason").is_none(), "{killed}");
    for id in [&plain, &neighbour] {
        server.feed(id, "alive\n");
        server.await_output(id, "alive");
        assert_eq!(server.info(id)["status"], "running");
    }
    server.get("/v1/health").expect(200);
}

/// The next event: its name, and the record in it.
#[track_caller]
fn next(stream: &mut Follow, name: &str) -> Value {
    stream.next().event(name)["process"].clone()
}

fn a_process_that_takes_too_much_memory_says_so_and_an_event_before(backend: Backend) {
    let Some(group) = Delegated::new() else {
        return;
    };
    let server = group.launch(backend).start();
    let mut stream = Follow::open(&server, "/v1/events", &[]);
    let id = server.spawn(&greedy());
    let info = server.await_exit(&id);
    assert_eq!(info["exitReason"], "oom", "{info}");
    assert_eq!(info["signal"], "SIGKILL", "{info}");
    next(&mut stream, "created");
    assert_eq!(next(&mut stream, "oom")["id"], id.as_str());
    assert_eq!(next(&mut stream, "exited"), info);
}

fn when_only_a_grandchild_is_killed_the_process_goes_on(backend: Backend) {
    let Some(group) = Delegated::new() else {
        return;
    };
    let server = group.launch(backend).start();
    let script = format!("python3 -c '{GREEDY}'; echo $?; read line; eval \"$line\"; exit 3");
    let body = limited(sh(&script), json!({"memoryBytes": 64 * MIB}));
    // By itself, by a signal of its own, and by a client.
    for (line, code) in [("true", 3), ("kill -9 $$", 0), ("sleep 777", 0)] {
        let mut stream = Follow::open(&server, "/v1/events", &[]);
        let id = server.spawn(&body);
        next(&mut stream, "created");
        let told = next(&mut stream, "oom");
        assert_eq!(
            (&told["id"], &told["status"]),
            (&json!(id), &json!("running"))
        );
        server.await_output(&id, "137\n");
        server.feed(&id, &format!("{line}\n"));
        if line.starts_with("sleep") {
            server.kill(&id);
        }
        let info = server.await_exit(&id);
        assert!(info.get("exitReason").is_none(), "{line}: {info}");
        match code {
            0 => assert_eq!(info["signal"], "SIGKILL", "{info}"),
            code => assert_eq!(info["exitCode"], code, "{info}"),
        }
        assert_eq!(next(&mut stream, "exited"), info);
    }
}

fn a_fork_bomb_is_stopped_by_one_kill(backend: Backend) {
    let Some(group) = Delegated::new() else {
        return;
    };
    let server = group.launch(backend).start();
    let bomb = "import os, time\n\
                print('begun', flush=True)\n\
                while True:\n try: os.fork()\n except OSError: time.sleep(0.2)";
    let body = json!({"command": "python3", "args": ["-c", bomb]});
    let id = server.spawn(&limited(body, json!({"pids": 50})));
    let usage = || server.get(&format!("/v1/processes/{id}?usage=true")).json()["usage"].clone();
    eventually("the bomb to be as large as it may be", || {
        (usage()["processes"] == 50).then_some(())
    });
    // Others go on beside it.
    assert_eq!(server.run(&sh("exit 4"))["exitCode"], 4);
    assert!(usage()["processes"].as_u64().unwrap() <= 50);
    let killed = server.kill(&id);
    assert_eq!(killed["signal"], "SIGKILL", "{killed}");
    assert!(killed.get("exitReason").is_none(), "{killed}");
    eventually("all of it to be gone", || {
        server.survivors().is_empty().then_some(())
    });
}

/// Shows files of the group that it is in.
fn show(files: &str) -> Value {
    let unified = unified().unwrap();
    sh(&format!(
        "cd {}/$(sed -n s/^0::.//p /proc/self/cgroup) && cat {files}",
        unified.display()
    ))
}

fn limits_are_there_before_the_first_instruction(backend: Backend) {
    let Some(group) = Delegated::new() else {
        return;
    };
    let server = group.launch(backend).start();
    let all = json!({"memoryBytes": 64 * MIB, "swapBytes": 4096, "cpuMillis": 500, "pids": 20});
    let files = "memory.max memory.swap.max cpu.max pids.max";
    for _ in 0..3 {
        let run = server.run(&limited(show(files), all.clone()));
        assert_eq!(run["stdout"], "67108864\n4096\n50000 100000\n20\n", "{run}");
    }
    // Each by itself; without swap, where that is not asked for.
    let run = server.run(&limited(
        show("memory.swap.max pids.max"),
        json!({"memoryBytes": 64 * MIB}),
    ));
    assert_eq!(run["stdout"], "0\nmax\n", "{run}");
    let id = server.spawn(&limited(show("pids.max"), json!({"pids": 3})));
    server.await_exit(&id);
    assert_eq!(server.output(&id, "stdout"), b"3\n");
    // What has none is in a group without controllers.
    let run = server.run(&show("pids.max"));
    assert_ne!(run["exitCode"], 0, "{run}");
}

fn a_group_is_as_new_for_the_next_tree(backend: Backend) {
    let Some(group) = Delegated::new() else {
        return;
    };
    let server = group.launch(backend).start();
    let limits = || json!({"memoryBytes": 64 * MIB, "pids": 20});
    let mut names = Vec::new();
    for _ in 0..20 {
        let body = limited(
            show("pids.max pids.current memory.events pids.events"),
            limits(),
        );
        let run = server.run(&body);
        let text = run["stdout"].as_str().unwrap();
        let numbers: Vec<&str> = text.lines().collect();
        assert_eq!(numbers[0], "20", "{run}");
        assert!(
            numbers[2..].iter().all(|line| line.ends_with(" 0")),
            "{run}"
        );
        let run = server.run(&limited(sh("sed -n s/^0:://p /proc/self/cgroup"), limits()));
        names.push(run["stdout"].as_str().unwrap().to_owned());
    }
    names.sort_unstable();
    names.dedup();
    assert!(names.len() < 20, "groups are used again: {names:?}");
    // Other limits, in the same groups or others.
    for pids in [21, 5, 20] {
        let run = server.run(&limited(show("pids.max memory.max"), json!({"pids": pids})));
        assert_eq!(run["stdout"], format!("{pids}\nmax\n"), "{run}");
        let run = server.run(&limited(show("pids.max memory.max"), limits()));
        assert_eq!(run["stdout"], "20\n67108864\n", "{run}");
    }
}

fn a_tree_that_exceeded_its_memory_leaves_its_group_to_nobody(backend: Backend) {
    let Some(group) = Delegated::new() else {
        return;
    };
    let server = group.launch(backend).start();
    let name = "sed -n s/^0:://p /proc/self/cgroup";
    let limits = json!({"memoryBytes": 64 * MIB});
    let script = format!("{name}; python3 -c '{GREEDY}'; true");
    let before = server.run(&limited(sh(&script), limits.clone()));
    for _ in 0..5 {
        let after = server.run(&limited(sh(name), limits.clone()));
        assert_ne!(after["stdout"], before["stdout"]);
    }
    let events = server.run(&limited(show("memory.events"), limits));
    assert!(
        events["stdout"].as_str().unwrap().contains("oom_kill 0\n"),
        "{events}"
    );
}

fn what_lies_in_shared_memory_is_not_charged_to_the_next(backend: Backend) {
    let Some(group) = Delegated::new() else {
        return;
    };
    let server = group.launch(backend).start();
    let limits = || json!({"memoryBytes": 64 * MIB});
    let path = format!(
        "/dev/shm/procring-test-{}-{}",
        std::process::id(),
        backend.word()
    );
    let fill = format!("head -c 40000000 /dev/zero > {path}");
    assert_eq!(server.run(&limited(sh(&fill), limits()))["exitCode"], 0);
    for _ in 0..3 {
        let fits = json!({"command": "python3", "args": ["-c", "x = bytearray(40 << 20)"]});
        let run = server.run(&limited(fits, limits()));
        assert_eq!(run["exitCode"], 0, "{run}");
    }
    fs::remove_file(path).unwrap();
}

fn usage_of_a_limited_tree_has_the_peak_of_all_of_it(backend: Backend) {
    let Some(group) = Delegated::new() else {
        return;
    };
    let server = group.launch(backend).start();
    // Two that are there at the same time.
    let hold = "python3 -c 'x = bytearray(30 << 20); print(1, flush=True); input()'";
    let script = format!("{hold} <&3 & {hold} <&3 & wait");
    let body = limited(
        sh(&format!("exec 3<&0; {script}")),
        json!({"memoryBytes": 256 * MIB}),
    );
    for _ in 0..2 {
        let id = server.spawn(&body);
        eventually("both to hold it", || {
            (server.output(&id, "stdout") == b"1\n1\n").then_some(())
        });
        let path = format!("/v1/processes/{id}?usage=true");
        let usage = server.get(&path).expect(200).json()["usage"].clone();
        assert_eq!(
            (&usage["scope"], &usage["processes"]),
            (&json!("tree"), &json!(3))
        );
        let peak = usage["maxRssBytes"].as_u64().unwrap();
        assert!((60 * MIB..256 * MIB).contains(&peak), "{usage}");
        server.kill(&id);
        // A group that tells of another tree tells nothing.
        let small = limited(sh("exit 0"), json!({"memoryBytes": 256 * MIB}));
        let run = server
            .post("/v1/processes/run?usage=true", &small)
            .expect(200)
            .json();
        assert!(
            run["usage"]["maxRssBytes"].as_u64().unwrap() < 30 * MIB,
            "{run}"
        );
    }
}

fn capabilities(server: &Server) -> Vec<String> {
    let told = server.get("/v1/server").expect(200).json();
    serde_json::from_value(told["capabilities"].clone()).unwrap()
}

fn has_all(server: &Server) -> bool {
    let told = capabilities(server);
    let wanted = ["limits", "memoryLimit", "cpuLimit", "pidsLimit"];
    wanted
        .iter()
        .all(|word| told.iter().any(|told| told == word))
}

fn an_unprivileged_server_has_them_where_they_are_delegated(backend: Backend) {
    let Some(group) = Delegated::new() else {
        return;
    };
    let Some(launch) = group.launch_unprivileged(backend) else {
        return;
    };
    let mut server = launch.start();
    assert!(has_all(&server));
    // What it is told of itself needs nothing that is root's alone, whatever the kernel.
    server.get("/metrics").expect(200);
    let run = server.run(&greedy());
    assert_eq!(run["exitReason"], "oom", "{run}");
    let limits = json!({"cpuMillis": 2000, "pids": 9});
    let run = server.run(&limited(show("cpu.max pids.max"), limits));
    assert_eq!(run["stdout"], "200000 100000\n9\n", "{run}");
    server.signal(libc::SIGTERM);
    assert_eq!(server.await_end(Duration::from_secs(20)).code(), Some(0));
    assert_eq!(group.switched_on(), "");
}

fn a_server_with_company_says_why_it_cannot(backend: Backend) {
    let Some(group) = Delegated::new() else {
        return;
    };
    let mut company = std::process::Command::new("sleep")
        .arg("77")
        .spawn()
        .unwrap();
    fs::write(group.0.join("cgroup.procs"), company.id().to_string()).unwrap();
    let server = group.launch(backend).start();
    assert!(!has_all(&server));
    let refused = server.post("/v1/processes/run", &greedy());
    let detail = refused.problem(501, "not_implemented").to_string();
    assert!(detail.contains("limits_unavailable"), "{detail}");
    assert!(detail.contains("limits.memoryBytes"), "{detail}");
    assert!(
        detail.contains("other processes in the server's group: 1"),
        "{detail}"
    );
    assert!(
        server
            .stderr()
            .contains("other processes in the server's group: 1")
    );
    assert_eq!(server.run(&sh("exit 5"))["exitCode"], 5);
    drop(server);
    // Somebody who comes later is met when a limit is first asked for.
    let _ = (company.kill(), company.wait());
    let server = group.launch(backend).start();
    assert!(has_all(&server));
    let mut company = std::process::Command::new("sleep")
        .arg("77")
        .spawn()
        .unwrap();
    fs::write(group.0.join("cgroup.procs"), company.id().to_string()).unwrap();
    let refused = server.post("/v1/processes/run", &greedy());
    let detail = refused.problem(501, "not_implemented").to_string();
    assert!(detail.contains("limits_unavailable"), "{detail}");
    let told = server.get("/v1/server").expect(200).json();
    assert!(
        told["missing"].to_string().contains("memoryBytes"),
        "{told}"
    );
    assert!(
        !capabilities(&server).contains(&"memoryLimit".to_owned()),
        "{told}"
    );
    // And who has gone is not in the way.
    let _ = (company.kill(), company.wait());
    assert_eq!(server.run(&greedy())["exitReason"], "oom");
    assert!(has_all(&server));
    let told = server.get("/v1/server").expect(200).json();
    assert!(
        !told["missing"].to_string().contains("memoryBytes"),
        "{told}"
    );
}

fn limits_beyond_those_of_the_server_itself_do_not_loosen_them(backend: Backend) {
    let Some(group) = Delegated::new() else {
        return;
    };
    fs::write(group.0.join("memory.max"), (256 * MIB).to_string()).unwrap();
    fs::write(group.0.join("cpu.max"), "50000 100000").unwrap();
    let mut server = group.launch(backend).start();
    let shown = |limits: Value| {
        let run = server.run(&limited(show("memory.max cpu.max pids.max"), limits));
        run["stdout"].as_str().unwrap().to_owned()
    };
    let none = "268435456\n50000 100000\n";
    assert_eq!(shown(json!({"pids": 7})), format!("{none}7\n"));
    assert_eq!(
        shown(json!({"memoryBytes": 1_u64 << 40, "pids": 7})),
        format!("{none}7\n")
    );
    let less = json!({"memoryBytes": 64 * MIB, "cpuMillis": 400, "pids": 7});
    assert_eq!(shown(less), "67108864\n40000 100000\n7\n");
    server.signal(libc::SIGTERM);
    assert_eq!(server.await_end(Duration::from_secs(20)).code(), Some(0));
    assert_eq!(group.switched_on(), "");
}

fn all_is_as_it_was_when_the_server_has_ended(backend: Backend) {
    let Some(group) = Delegated::new() else {
        return;
    };
    let mut server = group.launch(backend).start();
    assert_eq!(group.switched_on(), "", "before a limit is asked for");
    server.spawn(&limited(
        sh("setsid sleep 777 & exec sleep 777"),
        json!({"pids": 5}),
    ));
    assert_eq!(group.switched_on(), "pids");
    let tree = server.survivors();
    assert!(!tree.is_empty());
    server.signal(libc::SIGTERM);
    assert_eq!(server.await_end(Duration::from_secs(20)).code(), Some(0));
    assert!(tree.iter().all(|pid| !procfs::alive(*pid)));
    assert_eq!(group.switched_on(), "");
    assert!(group.groups().is_empty(), "{:?}", group.groups());
}

fn what_a_killed_server_left_in_limited_groups_is_ended(backend: Backend) {
    let Some(group) = Delegated::new() else {
        return;
    };
    let name = format!("tree-limits-{}-{}", std::process::id(), backend.word());
    let dir = std::env::temp_dir().join(name);
    let dir = dir.to_str().unwrap();
    let state = ["--state-dir", dir];
    let mut server = group.launch(backend).args(&state).start();
    let id = server.spawn(&limited(
        sh("setsid sleep 777 & echo $!; exec sleep 777"),
        json!({"pids": 5}),
    ));
    let daemon: i32 = server.await_output(&id, "\n").trim().parse().unwrap();
    server.signal(libc::SIGKILL);
    server.await_end(Duration::from_secs(20));
    assert!(procfs::alive(daemon));
    // From elsewhere: nobody can join a group whose controllers are on.
    let next = Launch::new(backend)
        .args(&["--no-token"])
        .args(&state)
        .start();
    eventually("the daemon to be gone", || {
        (!procfs::alive(daemon)).then_some(())
    });
    next.get("/v1/health").expect(200);
    drop(next);
    fs::remove_dir_all(dir).unwrap();
}

fn without_groups_limits_of_trees_are_501_and_say_what_is_missing(backend: Backend) {
    let args = ["--no-token", "--cgroup", "off"];
    let server = Launch::new(backend).args(&args).start();
    for (limit, value) in [
        ("memoryBytes", MIB),
        ("swapBytes", 0),
        ("cpuMillis", 10),
        ("pids", 5),
    ] {
        let body = limited(
            json!({"command": "touch", "args": ["/no/such"]}),
            json!({limit: value}),
        );
        for path in ["/v1/processes", "/v1/processes/run"] {
            let refused = server.post(path, &body);
            let text = refused.text().to_owned();
            refused.problem(501, "not_implemented");
            assert!(text.contains(r#""code":"limits_unavailable""#), "{text}");
            assert!(text.contains(&format!("limits.{limit} ")), "{text}");
        }
    }
    // 400 comes before 501.
    let wrong = limited(json!({"command": "true"}), json!({"pids": 0}));
    assert_eq!(server.post("/v1/processes", &wrong).status, 400);
    let told = server.get("/v1/server").expect(200).json();
    let missing = told["missing"].to_string();
    assert!(
        missing.contains("memoryBytes and swapBytes, cpuMillis, pids"),
        "{missing}"
    );
    let words = capabilities(&server);
    assert!(
        !words.iter().any(|word| word.ends_with("Limit")),
        "{words:?}"
    );
    assert_eq!(server.get("/v1/processes").json()["processes"], json!([]));
}
