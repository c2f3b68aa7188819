//! `POST …/signal`: to a leader, its group, its tree, its terminal's foreground; and the one after.

use serde_json::{Value, json};

use crate::harness::{Backend, Problem, Server, eventually, on_both, procfs, sh};
use crate::supervision_trees::every_way;

on_both!(
    a_signal_goes_to_the_group_unless_it_says_otherwise,
    every_member_of_a_tree_gets_a_signal_once,
    a_tree_that_is_killed_leaves_nobody,
    a_stopped_tree_goes_on_when_it_is_told_to,
    the_foreground_of_a_terminal_is_asked_for_when_the_signal_is_sent,
    a_process_that_still_runs_gets_the_next_signal,
    a_signal_just_after_the_start_is_not_lost,
    what_cannot_be_sent_is_refused_by_name,
    an_exited_process_gets_no_signal,
);

fn signal(server: &Server, id: &str, body: &Value) -> Value {
    server
        .post(&format!("/v1/processes/{id}/signal"), body)
        .json()
}

/// A process that starts others, each of which says its name and the signal's when it gets one of
/// the first real-time signals, which queue.
fn spawn_tree(server: &Server) -> String {
    let script = "\
import os, signal, time
def member(name):
    def got(number, frame):
        os.write(1, b'%s-%d\\n' % (name, number - signal.SIGRTMIN))
    for number in range(signal.SIGRTMIN + 1, signal.SIGRTMIN + 4):
        signal.signal(number, got)
    os.write(1, b'%s-here\\n' % name)
    while True:
        time.sleep(60)
if os.fork() == 0:
    member(b'same')
if os.fork() == 0:
    os.setsid()
    member(b'session')
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        member(b'daemon')
    os._exit(0)
os.wait()
member(b'leader')
";
    let id = server.spawn(&json!({"command": "python3", "args": ["-c", script]}));
    for name in ["same", "session", "daemon", "leader"] {
        server.await_output(&id, &format!("{name}-here"));
    }
    id
}

/// Who has got which signal, once `last` have got the one that was sent last.
fn got(server: &Server, id: &str, last: &[&str]) -> Vec<String> {
    for line in last {
        server.await_output(id, line);
    }
    let output = String::from_utf8(server.output(id, "stdout")).unwrap();
    let mut got: Vec<String> = output.lines().map(str::to_owned).collect();
    got.retain(|line| !line.ends_with("-here"));
    got.sort();
    got
}

fn a_signal_goes_to_the_group_unless_it_says_otherwise(backend: Backend) {
    for (way, server) in every_way(backend) {
        let id = spawn_tree(&server);
        let info = signal(&server, &id, &json!({"signal": "RTMIN+1"}));
        assert_eq!(info["status"], "running");
        assert_eq!(
            got(&server, &id, &["leader-1", "same-1"]),
            ["leader-1", "same-1"],
            "{way:?}"
        );
        let leader = json!({"signal": "sigrtmin+2", "scope": "leader"});
        signal(&server, &id, &leader);
        let group = json!({"signal": "SIGRTMIN+3", "scope": "group"});
        signal(&server, &id, &group);
        assert_eq!(
            got(&server, &id, &["leader-3", "same-3"]),
            ["leader-1", "leader-2", "leader-3", "same-1", "same-3"],
            "{way:?}"
        );
    }
}

fn every_member_of_a_tree_gets_a_signal_once(backend: Backend) {
    for (way, server) in every_way(backend) {
        let (id, other) = (spawn_tree(&server), spawn_tree(&server));
        let all = ["daemon", "leader", "same", "session"];
        for number in [1, 2] {
            let tree = json!({"signal": format!("RTMIN+{number}"), "scope": "tree"});
            signal(&server, &id, &tree);
        }
        let last = all.map(|name| format!("{name}-2"));
        let expected: Vec<String> = all
            .iter()
            .flat_map(|name| [format!("{name}-1"), format!("{name}-2")])
            .collect();
        let last: Vec<&str> = last.iter().map(String::as_str).collect();
        assert_eq!(got(&server, &id, &last), expected, "{way:?}");
        assert!(got(&server, &other, &[]).is_empty(), "{way:?}");
    }
}

fn a_tree_that_is_killed_leaves_nobody(backend: Backend) {
    for (way, server) in every_way(backend) {
        let id = spawn_tree(&server);
        signal(&server, &id, &json!({"signal": 9, "scope": "tree"}));
        let info = server.await_exit(&id);
        assert_eq!(info["signal"], "SIGKILL", "{way:?}");
        eventually("the tree's end", || {
            server.survivors().is_empty().then_some(())
        });
    }
}

fn a_stopped_tree_goes_on_when_it_is_told_to(backend: Backend) {
    let server = Server::open(backend);
    let id = spawn_tree(&server);
    let states = |wanted: char| {
        eventually("the state of all", || {
            let members = server.survivors();
            let all = members
                .iter()
                .all(|&pid| procfs::state(pid) == Some(wanted));
            (members.len() == 4 && all).then_some(())
        });
    };
    signal(&server, &id, &json!({"signal": "stop", "scope": "tree"}));
    states('T');
    signal(&server, &id, &json!({"signal": "cont", "scope": "tree"}));
    states('S');
}

fn the_foreground_of_a_terminal_is_asked_for_when_the_signal_is_sent(backend: Backend) {
    let server = Server::open(backend);
    let script = "\
import os, signal, sys
def say(text):
    return lambda number, frame: os.write(1, b'%s-%d.' % (text, number))
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
signal.signal(signal.SIGUSR1, say(b'leader'))
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGUSR1, say(b'front'))
    signal.signal(signal.SIGUSR2, lambda number, frame: os._exit(0))
    os.write(1, b'ready.')
    while True:
        signal.pause()
os.waitpid(child, 0)
os.write(1, b'alone.')
while True:
    signal.pause()
";
    let id = server.spawn(&json!({"command": "python3", "args": ["-c", script], "tty": true}));
    server.await_output(&id, "ready.");
    let foreground = |name: &str| json!({"signal": name, "scope": "foreground"});
    signal(&server, &id, &foreground("usr1"));
    server.await_output(&id, "front-10.");
    signal(&server, &id, &foreground("usr2"));
    server.await_output(&id, "alone.");
    // The group that was in front is gone, and the leader's is not in front.
    let answer = server.post(&format!("/v1/processes/{id}/signal"), &foreground("usr1"));
    answer.problem(409, "conflict");
    signal(&server, &id, &json!({"signal": "usr1"}));
    let seen = server.await_output(&id, "leader-10.");
    assert_eq!(seen, "ready.front-10.alone.leader-10.");

    let pipes = server.spawn(&sh("sleep 60"));
    let target = format!("/v1/processes/{pipes}/signal");
    let answer = server.post(&target, &foreground("INT"));
    Problem::conflict("process is not running in tty mode; only a terminal has a foreground group")
        .check(&answer);
}

fn a_process_that_still_runs_gets_the_next_signal(backend: Backend) {
    const LONG_MS: u64 = 31_536_000_000;
    let server = Server::open(backend);
    let deaf = "trap '' TERM; trap 'echo hup' HUP; echo ready; while :; do sleep 0.1; done";
    let spawn = || {
        let id = server.spawn(&sh(deaf));
        server.await_output(&id, "ready");
        id
    };
    let id = spawn();
    // The earlier one holds, whatever is asked for before and after it.
    for after in [LONG_MS, 50, LONG_MS] {
        let body = json!({"signal": "TERM", "escalateAfterMs": after, "escalateTo": "hup"});
        assert_eq!(signal(&server, &id, &body)["status"], "running");
    }
    server.await_output(&id, "hup");
    let body = json!({"signal": "TERM", "scope": "leader", "escalateAfterMs": 50});
    signal(&server, &id, &body);
    assert_eq!(server.await_exit(&id)["signal"], "SIGKILL");

    // Who ends in time is left alone, and so is whoever comes after.
    let id = server.spawn(&sh("echo ready; exec sleep 60"));
    server.await_output(&id, "ready");
    signal(
        &server,
        &id,
        &json!({"signal": "int", "escalateAfterMs": 500}),
    );
    assert_eq!(server.await_exit(&id)["signal"], "SIGINT");
}

fn a_signal_just_after_the_start_is_not_lost(backend: Backend) {
    let server = Server::open(backend);
    for round in 0..60 {
        let id = server.spawn(&json!({"command": "sleep", "args": ["60"]}));
        let scope = ["leader", "group", "tree"][round % 3];
        let info = signal(&server, &id, &json!({"signal": "15", "scope": scope}));
        assert_eq!(info["id"], id.as_str());
        assert_eq!(server.await_exit(&id)["signal"], "SIGTERM", "{scope}");
        server.delete(&format!("/v1/processes/{id}")).expect(204);
    }
}

fn what_cannot_be_sent_is_refused_by_name(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("sleep 60"));
    let target = format!("/v1/processes/{id}/signal");
    let post = |body: &Value| server.post(&target, body);
    let detail = |body: &Value| {
        let problem = post(body).problem(400, "invalid_request");
        problem["detail"].as_str().unwrap().to_owned()
    };
    for signal in [json!("SIGNOPE"), json!(0), json!(65), json!(-9), json!("")] {
        let detail = detail(&json!({"signal": signal}));
        assert!(detail.contains("SIGHUP, SIGINT"), "{detail}");
    }
    let scope = detail(&json!({"signal": 1, "scope": "all"}));
    assert!(scope.contains("leader, group, tree, foreground"), "{scope}");
    let to = detail(&json!({"signal": 1, "escalateTo": 9}));
    assert!(to.contains("escalateAfterMs"), "{to}");
    for body in [json!({}), json!({"signal": [1]}), json!({"signal": null})] {
        post(&body).problem(422, "invalid_request");
    }
    let typed = [
        ("Content-Type", "application/json"),
        ("Prefer", "handling=strict"),
    ];
    let strict = br#"{"signal":0,"escalateAfterMS":1}"#;
    let answer = server.request("POST", &target, &typed, strict);
    let problem = answer.problem(422, "invalid_request");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("escalateAfterMs")
    );
    assert_eq!(answer.header("preference-applied"), Some("handling=strict"));
    let unknown = server.post("/v1/processes/proc_99/signal", &json!({"signal": 1}));
    Problem::no_process("proc_99").check(&unknown);
    assert_eq!(server.get(&target).status, 405);
    assert_eq!(server.info(&id)["status"], "running");
}

fn an_exited_process_gets_no_signal(backend: Backend) {
    let server = Server::open(backend);
    // Whoever it leaves is not its own any more, as for `stop`.
    let id = server.spawn(&sh("setsid sleep 60 </dev/null >/dev/null 2>&1 &"));
    server.await_exit(&id);
    let target = format!("/v1/processes/{id}/signal");
    for scope in ["leader", "group", "tree"] {
        let answer = server.post(&target, &json!({"signal": 9, "scope": scope}));
        Problem::conflict("process is not running").check(&answer);
    }
    assert_eq!(server.survivors().len(), 1);
    // A client that hangs up has said what it wants all the same.
    // No shell: one that is about to fork hands an interrupt on to nobody.
    let id = server.spawn(&json!({"command": "sleep", "args": ["60"]}));
    let body = r#"{"signal":"INT","scope":"tree"}"#;
    let mut conn = server.conn();
    conn.send(format!(
        "POST /v1/processes/{id}/signal HTTP/1.0\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    conn.reset();
    assert_eq!(server.await_exit(&id)["signal"], "SIGINT");
}
