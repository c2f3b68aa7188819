//! `--keep`: what the next server says again, and what it must not forget of who may ask.

use serde_json::Value;

use crate::harness::{Backend, Launch, eventually, on_both};
use crate::keep::kill_server;

on_both!(
    what_the_first_server_has_said_is_not_said_again,
    a_token_that_was_taken_back_stays_so,
);

fn what_the_first_server_has_said_is_not_said_again(backend: Backend) {
    let args = [
        "--no-token",
        "--keep",
        "--cgroup",
        "off",
        "--log-format",
        "json",
    ];
    let server = Launch::new(backend).args(&args).start();
    let deaths = || {
        let metrics = server.get("/metrics").expect(200);
        let line = metrics
            .text()
            .lines()
            .find(|line| line.starts_with("procring_server_deaths_total "));
        line.map(str::to_owned)
    };
    assert_eq!(deaths().as_deref(), Some("procring_server_deaths_total 0"));
    // What a server has not had the time to say nobody says.
    eventually("what the supervisor has found out", || {
        let said = server.told_so_far();
        (said.contains("the limits memoryBytes") && said.contains("no cgroup for each process"))
            .then_some(())
    });
    for _ in 0..2 {
        kill_server(&server);
    }
    assert_eq!(deaths().as_deref(), Some("procring_server_deaths_total 2"));
    let said = server.told_so_far();
    let times = |what: &str| said.matches(what).count();
    for once in [
        "the limits memoryBytes",
        "no cgroup for each process",
        "\"event\":\"start\"",
    ] {
        assert_eq!(times(once), 1, "{once}: {said}");
    }
    assert_eq!(times("another one goes on"), 2, "{said}");
    // The keeper's lines are like all others.
    for line in said.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(
            line["ts"].is_string() && line["level"].is_string(),
            "{line}"
        );
    }
}

fn a_token_that_was_taken_back_stays_so(backend: Backend) {
    let name = format!("procring-kept-{}-{}", std::process::id(), backend.word());
    let secret = std::env::temp_dir().join(name);
    std::fs::write(&secret, "first\n").unwrap();
    let args = ["--keep", "--token-file", secret.to_str().unwrap()];
    let server = Launch::new(backend)
        .args(&args)
        .through(&["setsid", "--wait"])
        .start();
    let ask = |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        server.request("GET", "/v1/processes", &headers, b"").status
    };
    let change = |token: &str, line: &str| {
        let times = || server.stderr().matches(line).count();
        let before = times();
        std::fs::write(&secret, token).unwrap();
        server.signal(libc::SIGHUP);
        eventually(line, || (times() > before).then_some(()));
    };
    // One that dies before it serves has no other one after it.
    assert_eq!((ask("first"), ask("second")), (200, 401));
    kill_server(&server);
    assert_eq!((ask("first"), ask("second")), (200, 401));
    change("second\n", "was read again");
    assert_eq!((ask("first"), ask("second")), (401, 200));
    kill_server(&server);
    assert_eq!((ask("first"), ask("second")), (401, 200));
    // Nobody knows the token now.
    std::fs::write(&secret, "\n").unwrap();
    kill_server(&server);
    assert_eq!((ask("first"), ask("second"), ask("")), (401, 401, 401));
    change("third\n", "was read again");
    assert_eq!((ask("second"), ask("third")), (401, 200));
    drop(server);
    std::fs::remove_file(&secret).unwrap();
}
