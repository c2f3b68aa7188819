//! Upgrades to a program that cannot take over: what was there before goes on.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Backend, Launch, WAIT, eventually, on_both, sh};
use crate::upgrade::{
    ask, assert_counted, built, counter, kept, log, program, upgrade, upgrades, version, with,
};

on_both!(
    a_program_that_cannot_take_over_is_refused_before,
    a_program_that_dies_or_hangs_before_it_serves_is_replaced,
    a_program_that_exits_when_it_should_take_over_ends_all_in_order,
    a_program_that_fails_later_is_replaced_by_the_one_before,
);

fn a_program_that_cannot_take_over_is_refused_before(backend: Backend) {
    let name = format!("refused-{backend:?}");
    let path = program(&name, &built());
    let server = Launch::new(backend)
        .program(&path)
        .args(&["--no-token", "--keep"])
        .start();
    let id = server.spawn(&counter(5));
    let serving = server.kept();
    for (text, why) in [
        (std::fs::read("/bin/true").unwrap(), "it is no procring"),
        (std::fs::read("/bin/ls").unwrap(), "option"),
        (b"nothing that runs".to_vec(), "nothing was upgraded"),
    ] {
        program(&name, &text);
        let before = server.stderr().matches("nothing was upgraded").count();
        server.signal(libc::SIGUSR2);
        let stderr = eventually("a refusal", || {
            let stderr = server.stderr();
            (stderr.matches("nothing was upgraded").count() > before).then_some(stderr)
        });
        assert!(stderr.lines().last().unwrap().contains(why), "{stderr}");
    }
    assert_eq!(server.kept(), serving);
    server.await_output(&id, "line");
    program(&name, &built());
    let refused = server.stderr().matches("nothing was upgraded").count();
    server.signal(libc::SIGUSR2);
    eventually("an upgrade", || (upgrades(&server) == 1).then_some(()));
    assert_eq!(
        server.stderr().matches("nothing was upgraded").count(),
        refused
    );
    let _ = std::fs::remove_dir_all(path.parent().unwrap());
}

fn a_program_that_dies_or_hangs_before_it_serves_is_replaced(backend: Backend) {
    let server = kept(backend);
    let id = server.spawn(&counter(5));
    server.await_output(&id, "line 3");
    let mut waits = ask(&server, &format!("/v1/processes/{id}/wait?timeoutMs=60000"));
    let ways = [
        ("a", "its server died before it served (SIGABRT)"),
        ("e", "its server died before it served (exit code 3)"),
        ("h", "its server died before it served (SIGKILL)"),
        ("p", "it panicked before it had a server"),
    ];
    for (kind, why) in ways {
        let Some(path) = version(backend, kind, &format!("dies-{kind}")) else {
            return;
        };
        let target = format!("/v1/server/upgrade?binary={}", path.display());
        let mut asks = server.conn();
        asks.send(format!(
            "POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
        ));
        let refused = asks.try_response("POST", Duration::from_secs(40)).unwrap();
        assert_eq!(refused.status, 409, "{kind}");
        let problem: Value = serde_json::from_slice(&refused.body).unwrap();
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(why), "{kind}: {detail}");
        let _ = std::fs::remove_dir_all(path.parent().unwrap());
    }
    let pid = server.info(&id)["pid"].as_i64().unwrap() as i32;
    upgrade(&server);
    assert_eq!(server.info(&id)["pid"], pid);
    assert_counted(&server, &id);
    crate::harness::server::send_signal(pid, libc::SIGUSR1);
    assert_eq!(waits.response("GET").json()["process"]["exitCode"], 5);
}

fn a_program_that_exits_when_it_should_take_over_ends_all_in_order(backend: Backend) {
    // It is the main process then, whose end is that of everything.
    let Some(path) = version(backend, "x", "exits") else {
        return;
    };
    let mut server = kept(backend);
    let id = server.spawn(&sh(
        "trap '' TERM; setsid sleep 1000 & echo ready; wait; sleep 1000",
    ));
    server.await_output(&id, "ready");
    let target = format!("/v1/server/upgrade?binary={}", path.display());
    let mut asks = server.conn();
    asks.send(format!(
        "POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
    ));
    assert_eq!(server.await_end(WAIT).code(), Some(3));
    eventually("nobody to be left", || {
        server.survivors().is_empty().then_some(())
    });
    let _ = std::fs::remove_dir_all(path.parent().unwrap());
}

fn a_program_that_fails_later_is_replaced_by_the_one_before(backend: Backend) {
    let name = format!("fails-{backend:?}");
    // What it asks before it keeps anything is not there.
    let path = program(&name, &with(b"/proc/self/stat", b"/proc/self/stax"));
    let server = kept(backend);
    let id = server.spawn(&counter(5));
    let mut waits = ask(&server, &format!("/v1/processes/{id}/wait?timeoutMs=60000"));
    let target = format!("/v1/server/upgrade?binary={}", path.display());
    let refused = server.post_empty(&target);
    assert_eq!(refused.status, 409);
    let problem: Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(problem["code"], "upgrade_refused", "{problem}");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("it needs /proc"),
        "{problem}"
    );
    // It has its trap by then, and the log its line.
    server.await_output(&id, "line");
    eventually("a line of the refusal", || {
        server
            .stderr()
            .contains("nothing was upgraded")
            .then_some(())
    });
    let pid = server.info(&id)["pid"].as_i64().unwrap() as i32;
    crate::harness::server::send_signal(pid, libc::SIGUSR1);
    assert_eq!(waits.response("GET").json()["process"]["exitCode"], 5);
    upgrade(&server);
    let text = log(&server, &id);
    let lines: String = (0..text.lines().count())
        .map(|n| format!("line {n}\n"))
        .collect();
    assert_eq!(text, lines);
    let _ = std::fs::remove_dir_all(path.parent().unwrap());
}
