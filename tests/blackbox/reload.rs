//! SIGHUP: what requests are carried out by is what the file says from then on.

use std::time::Duration;

use serde_json::{Value, json};

use crate::configuration::{hang_up, launch};
use crate::harness::{Backend, Folder, Server, eventually, on_both, sh, skipped};

on_both!(
    runs_in_line_begin_when_there_are_more_places,
    limits_and_users_of_the_file_hold_for_the_next_request,
    pages_and_users_of_sockets_are_let_in_from_then_on,
    less_memory_is_given_up_at_once,
    the_end_takes_as_long_as_the_file_says_then,
);

/// A file without a token that says this, too.
fn write(folder: &Folder, text: &str) -> String {
    folder.write("c.toml", &format!("no_token = true\n{text}"))
}

#[track_caller]
fn reload(server: &Server) -> String {
    let line = hang_up(server);
    assert!(line.contains("was read again"), "{line}");
    line
}

fn runs_in_line_begin_when_there_are_more_places(backend: Backend) {
    let folder = Folder::new("reload-runs", backend);
    let file = write(&folder, "max_concurrent_runs = 1\nmax_queued_runs = 1\n");
    let server = launch(backend, &file).start();
    let gate = folder.file("gate");
    server.run(&sh("true"));
    let counts = |server: &Server| server.get("/v1/server").json()["counts"].clone();
    let held = sh(&format!("mkfifo {gate}; read line < {gate}"));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| server.run(&held));
        eventually("the first run", || {
            std::fs::exists(&gate).unwrap().then_some(())
        });
        let second = scope.spawn(|| server.run(&sh("exit 7")));
        eventually("another one in line", || {
            (counts(&server)["queuedRuns"] == 1).then_some(())
        });
        write(&folder, "max_concurrent_runs = 2\nmax_queued_runs = 1\n");
        reload(&server);
        assert_eq!(second.join().unwrap()["exitCode"], 7);
        assert!(!first.is_finished());
        std::fs::write(&gate, "\n").unwrap();
        assert_eq!(first.join().unwrap()["exitCode"], 0);
    });
    let limits = &server.get("/v1/server").json()["limits"];
    assert_eq!(limits["maxConcurrentRuns"], 2);
}

fn limits_and_users_of_the_file_hold_for_the_next_request(backend: Backend) {
    let folder = Folder::new("reload-limits", backend);
    let server = launch(backend, &write(&folder, "")).start();
    let open = |server: &Server, body: &Value| {
        server.run(body)["stdout"]
            .as_str()
            .unwrap()
            .trim()
            .to_owned()
    };
    assert_ne!(open(&server, &sh("ulimit -n")), "77");
    write(
        &folder,
        "default_limits = \"nofile=77\"\nmax_limits = \"nofile=99\"\n",
    );
    let line = reload(&server);
    assert!(
        line.contains("default_limits from none to nofile=77"),
        "{line}"
    );
    assert_eq!(open(&server, &sh("ulimit -n")), "77");
    let mut body = sh("ulimit -n");
    body["limits"] = json!({"nofile": 100});
    server.post("/v1/processes/run", &body).expect(400);
    // SAFETY: asks for a number.
    if unsafe { libc::geteuid() } != 0 {
        return skipped("not root: children of other users are not tested");
    }
    let mut body = sh("id -un");
    body["user"] = json!("nobody");
    // From where everybody may start.
    body["cwd"] = json!("/");
    server.post("/v1/processes/run", &body).expect(403);
    write(&folder, "allow_user = [\"nobody\"]\n");
    reload(&server);
    assert_eq!(open(&server, &body), "nobody");
    assert_ne!(open(&server, &sh("ulimit -n")), "77");
}

fn pages_and_users_of_sockets_are_let_in_from_then_on(backend: Backend) {
    let folder = Folder::new("reload-origin", backend);
    let server = launch(backend, &write(&folder, "")).start();
    let origin = [("Origin", "https://app.example")];
    let allowed = || {
        let answer = server.request("GET", "/v1/processes", &origin, b"");
        answer.header("access-control-allow-origin").is_some()
    };
    assert!(!allowed());
    write(
        &folder,
        "cors_allow_origin = [\"https://app.example\"]\nunix_allow_uid = [7]\n",
    );
    reload(&server);
    assert!(allowed());
    write(&folder, "unix_allow_uid = [\"nobody-has-this-name\"]\n");
    let line = hang_up(&server);
    assert!(line.contains("nothing was reloaded"), "{line}");
    assert!(allowed());
}

fn less_memory_is_given_up_at_once(backend: Backend) {
    let folder = Folder::new("reload-memory", backend);
    let server = launch(backend, &write(&folder, "memory_max = \"64M\"\n")).start();
    let id = server.spawn(&sh("head -c 8000000 /dev/zero"));
    server.await_exit(&id);
    let server_info = || server.get("/v1/server").json();
    let held = || server_info()["memory"]["logsBytes"].as_u64().unwrap();
    assert!(held() >= 8_000_000);
    write(&folder, "memory_max = \"2M\"\n");
    reload(&server);
    assert_eq!(server_info()["limits"]["memoryMaxBytes"], 2 << 20);
    assert!(held() <= 2 << 20, "{}", held());
    assert_eq!(server.run(&sh("exit 7"))["exitCode"], 7);
}

fn the_end_takes_as_long_as_the_file_says_then(backend: Backend) {
    let folder = Folder::new("reload-grace", backend);
    let mut server = launch(backend, &write(&folder, "shutdown_grace = \"1h\"\n")).start();
    let id = server.spawn(&sh("trap '' TERM; echo up; while :; do sleep 1; done"));
    server.await_output(&id, "up");
    write(&folder, "shutdown_grace = 0\n");
    reload(&server);
    server.signal(libc::SIGTERM);
    assert_eq!(server.await_end(Duration::from_secs(60)).code(), Some(0));
}
