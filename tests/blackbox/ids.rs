//! Section 16, `--state-dir`: ids of processes go on after a restart, and never come again.

use crate::harness::launch::run_binary;
use crate::harness::{Backend, Folder, Launch, Problem, Server, WAIT, on_both, sh};

on_both!(
    ids_go_on_after_an_end_in_order_and_after_a_kill,
    a_follower_of_another_life_gets_no_other_process,
    without_a_state_directory_ids_begin_anew,
);

/// A directory for `--state-dir`, which is not there yet.
struct Dir(Folder);

impl Dir {
    fn new(name: &str, backend: Backend) -> Self {
        Self(Folder::new(&format!("ids-{name}"), backend))
    }

    fn path(&self) -> String {
        self.0.file("state")
    }

    fn start(&self, backend: Backend) -> Server {
        Launch::new(backend)
            .args(&["--no-token", "--state-dir", &self.path()])
            .start()
    }
}

fn end(mut server: Server, signal: i32) {
    server.signal(signal);
    server.await_end(WAIT);
}

fn number(id: &str) -> u64 {
    id.strip_prefix("proc_").unwrap().parse().unwrap()
}

fn ids_go_on_after_an_end_in_order_and_after_a_kill(backend: Backend) {
    let dir = Dir::new("go-on", backend);
    let first = dir.start(backend);
    assert_eq!(first.spawn(&sh("exit 0")), "proc_1");
    // One that could not be started has used up its number, too.
    let missing = serde_json::json!({"command": "/no/such"});
    first.post("/v1/processes", &missing).expect(502);
    end(first, libc::SIGTERM);
    let second = dir.start(backend);
    let mut last = number(&second.spawn(&sh("exit 0")));
    assert_eq!(last, 3, "no gap after an end in order");
    end(second, libc::SIGKILL);
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGKILL] {
        let next = dir.start(backend);
        for _ in 0..3 {
            let id = number(&next.spawn(&sh("exit 0")));
            assert!(id > last, "{id} after {last}");
            last = id;
        }
        end(next, signal);
    }
}

fn a_follower_of_another_life_gets_no_other_process(backend: Backend) {
    let dir = Dir::new("follower", backend);
    let before = dir.start(backend);
    let id = before.spawn(&sh("echo a; echo b; exec sleep 600"));
    before.await_output(&id, "b\n");
    end(before, libc::SIGKILL);
    let after = dir.start(backend);
    let other = after.spawn(&sh("exit 0"));
    after.await_exit(&other);
    let target = format!("/v1/processes/{id}/logs?follow=true");
    let answer = after.request("GET", &target, &[("Last-Event-ID", "2")], b"");
    Problem::no_process(&id).check(&answer);
}

fn without_a_state_directory_ids_begin_anew(backend: Backend) {
    for _ in 0..2 {
        let server = Server::open(backend);
        assert_eq!(server.spawn(&sh("exit 0")), "proc_1");
        end(server, libc::SIGTERM);
    }
}

#[test]
fn a_damaged_note_stops_the_start_and_says_what_to_do() {
    let dir = Dir::new("damaged", Backend::Epoll);
    let path = &*dir.path();
    std::fs::create_dir_all(path).unwrap();
    std::fs::write(format!("{path}/process-ids"), "x").unwrap();
    let args = ["server", "-n", "--port", "0", "--state-dir", path];
    let (code, _, stderr) = run_binary(&args, None);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains("process-ids is damaged") && stderr.contains("remove it"),
        "{stderr}"
    );
}
