//! How much the pipes of children hold (pipe(7)): more for who floods them, as long as they do.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use rustix::pipe::fcntl_getpipe_size;
use serde_json::json;

use crate::harness::server::send_signal;
use crate::harness::{Backend, Server, eventually, on_both, sh};

on_both!(
    a_flood_gets_a_larger_pipe_until_it_is_quiet,
    a_modest_writer_keeps_the_usual_pipe,
);

const USUAL: usize = 64 << 10;

/// The pipe that is a process's standard output.
fn stdout_of(pid: i64) -> File {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(libc::O_NONBLOCK);
    options.open(format!("/proc/{pid}/fd/1")).unwrap()
}

fn a_flood_gets_a_larger_pipe_until_it_is_quiet(backend: Backend) {
    let server = Server::open(backend);
    let process = server.create(&json!({"command": "yes"}));
    let pid = process["pid"].as_i64().unwrap();
    let pipe = stdout_of(pid);
    let size = || fcntl_getpipe_size(&pipe).unwrap();
    for _ in 0..2 {
        eventually("the pipe grows", || (size() > USUAL).then_some(()));
        send_signal(pid as i32, libc::SIGSTOP);
        eventually("the pipe shrinks", || (size() == USUAL).then_some(()));
        send_signal(pid as i32, libc::SIGCONT);
    }
    server.kill(process["id"].as_str().unwrap());
}

fn a_modest_writer_keeps_the_usual_pipe(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh(
        "for n in 1 2 3 4 5 6 7 8; do head -c 20000 /dev/zero; echo $n; read go; done; sleep 60",
    ));
    server.feed_after_each(
        &id,
        &["1\n", "2\n", "3\n", "4\n", "5\n", "6\n", "7\n", "8\n"],
    );
    let pipe = stdout_of(server.info(&id)["pid"].as_i64().unwrap());
    assert_eq!(fcntl_getpipe_size(&pipe).unwrap(), USUAL);
    server.kill(&id);
}
