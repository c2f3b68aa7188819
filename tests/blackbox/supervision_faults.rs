//! Each system call that the server lives by fails once in every thread, by strace(1): no crash,
//! no hang, no leak, and everything works when it is over.
//!
//! The calls of children started meanwhile fail, too, so nothing is asked of their results. Left
//! out are mmap and brk, since a Rust program ends when memory itself is refused.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::server::send_signal;
use crate::harness::{Backend, Server, eventually, on_both, procfs, sh, skipped};

on_both!(any_system_call_may_fail_once);

/// The calls and what they fail with.
const FAULTS: [(&str, &str); 30] = [
    ("accept4", "EMFILE"),
    ("accept4", "ENOMEM"),
    ("accept4", "EINTR"),
    ("pipe2", "EMFILE"),
    ("clone", "EAGAIN"),
    ("clone3", "ENOMEM"),
    ("clone3", "EAGAIN"),
    ("epoll_wait", "EINTR"),
    ("epoll_ctl", "ENOMEM"),
    ("io_uring_enter", "EINTR"),
    ("io_uring_enter", "EAGAIN"),
    ("read", "EINTR"),
    ("read", "EAGAIN"),
    ("write", "EINTR"),
    ("recvfrom", "EINTR"),
    ("recvfrom", "ENOMEM"),
    ("sendto", "EINTR"),
    ("writev", "EINTR"),
    ("waitid", "EINTR"),
    ("pidfd_open", "EMFILE"),
    ("pidfd_send_signal", "ENOMEM"),
    ("kill", "EAGAIN"),
    ("openat", "EMFILE"),
    ("openat", "ENOMEM"),
    ("getdents64", "ENOMEM"),
    ("readlink", "ENOMEM"),
    ("ioctl", "EINTR"),
    ("fcntl", "EMFILE"),
    ("mkdirat", "ENOSPC"),
    ("pread64", "EINTR"),
];

/// strace(1) on every thread of a server; detached when dropped.
struct Faulty(Child);

impl Faulty {
    fn attach(server: &Server, call: &str, errno: &str) -> Self {
        let child = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null"])
            .args(["-e", &format!("trace=?{call}")])
            .args(["-e", &format!("inject=?{call}:error={errno}:when=1")])
            .args(["-p", &server.pid.to_string()])
            .stderr(Stdio::null())
            .spawn()
            .expect("strace");
        let faulty = Self(child);
        eventually("strace on every thread", || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid)).unwrap();
            let mut traced = tasks.flatten().map(|task| {
                let status = std::fs::read_to_string(task.path().join("status"));
                status.is_ok_and(|text| !text.contains("TracerPid:\t0\n"))
            });
            traced.all(|traced| traced).then_some(())
        });
        faulty
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        send_signal(self.0.id() as i32, libc::SIGINT);
        let _ = self.0.wait();
    }
}

/// One request whose answer may be anything, or a connection that ends; but not a hang.
fn ask(server: &Server, method: &str, target: &str, body: &Value) -> Option<Value> {
    eprintln!("  {method} {target} {body}");
    let mut conn = server.conn();
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    conn.send_some(format!(
        "{method} {target} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        server.address,
        body.len()
    ));
    let response = conn.try_response(method, Duration::from_secs(15))?;
    serde_json::from_slice(&response.body).ok()
}

/// A bit of everything.
fn work(server: &Server) {
    let mut run = sh("echo out; (setsid sleep 77 &); exec sleep 77");
    run["timeoutMs"] = json!(150);
    ask(server, "POST", "/v1/processes/run", &run);
    ask(
        server,
        "POST",
        "/v1/processes/run",
        &json!({"command": "true", "timeoutMs": 2000}),
    );
    let created = ask(server, "POST", "/v1/processes", &json!({"command": "cat"}));
    ask(
        server,
        "POST",
        "/v1/processes",
        &json!({"command": "cat", "tty": true}),
    );
    let list = ask(server, "GET", "/v1/processes", &Value::Null);
    if let Some(id) = created.as_ref().and_then(|info| info["id"].as_str()) {
        let input = json!({"data": "aGkK"});
        ask(server, "POST", &format!("/v1/processes/{id}/input"), &input);
        ask(
            server,
            "GET",
            &format!("/v1/processes/{id}/logs"),
            &Value::Null,
        );
        ask(
            server,
            "POST",
            &format!("/v1/processes/{id}/stop?waitMs=500"),
            &Value::Null,
        );
    }
    drop(list);
}

fn any_system_call_may_fail_once(backend: Backend) {
    if !Command::new("strace")
        .arg("-V")
        .output()
        .is_ok_and(|out| out.status.success())
    {
        return skipped("strace(1) is missing; no system call fails");
    }
    let server = Server::open(backend);
    work(&server);
    clear(&server, "at first");
    let descriptors = || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid));
        open.map_or(usize::MAX, Iterator::count)
    };
    let before = descriptors();
    for (call, errno) in FAULTS {
        let what = format!("{call} with {errno}");
        // Shown only if the test fails.
        eprintln!("{what}");
        let faulty = Faulty::attach(&server, call, errno);
        work(&server);
        drop(faulty);
        clear(&server, &what);
        // A pool of cgroups may have grown by a few.
        eventually(
            &format!("{what}: {} descriptors, {before} before", descriptors()),
            || (descriptors() <= before + 12).then_some(()),
        );
        for code in [0, 7] {
            let run = server.run(&sh(&format!("echo {code}; exit {code}")));
            assert_eq!(
                (&run["exitCode"], &run["stdout"]),
                (&json!(code), &json!(format!("{code}\n"))),
                "{what}"
            );
        }
    }
}

/// Kills and removes every process, and waits until no child is left, dead or alive.
fn clear(server: &Server, what: &str) {
    let list = server.get("/v1/processes").json();
    for process in list["processes"].as_array().unwrap() {
        let id = process["id"].as_str().unwrap();
        assert_eq!(server.kill(id)["status"], "exited", "{what}");
        server
            .delete(&format!("/v1/processes/{id}"))
            .expect_empty(204);
    }
    eventually(&format!("{what}: no child"), || {
        procfs::children_of(server.pid).is_empty().then_some(())
    });
    assert_eq!(server.survivors(), [0; 0], "{what}");
}
