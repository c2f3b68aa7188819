//! What a server starts in and ends among: a standard error that nobody reads, an address that was
//! used a moment ago, a terminal, another program's environment.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::pipe::pipe;

use crate::harness::{Backend, Launch, Server, on_both};

on_both!(
    a_start_line_that_cannot_be_written_keeps_no_server_from_serving,
    the_address_of_a_server_that_ended_is_free_at_once,
    a_server_that_was_killed_can_be_started_again_at_once,
);

/// A pipe that holds all it can, and its reader.
fn full_pipe() -> (std::os::fd::OwnedFd, std::os::fd::OwnedFd) {
    let (reader, writer) = pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while rustix::io::write(&writer, &[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}

fn a_start_line_that_cannot_be_written_keeps_no_server_from_serving(backend: Backend) {
    let full_disk = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (reader, nobody_reads) = pipe().unwrap();
    drop(reader);
    let (_reader, full) = full_pipe();
    for stderr in [Stdio::from(full_disk), nobody_reads.into(), full.into()] {
        // With more than one line to say where io_uring is denied.
        let launch = Launch::new(backend).args(&["--no-token"]).stderr(stderr);
        let mut server = launch.start();
        server.get("/v1/health").expect(200);
        server.signal(libc::SIGTERM);
        assert_eq!(server.await_end(Duration::from_secs(20)).code(), Some(0));
    }
}

/// One address for servers one after the other.
fn start_at(backend: Backend, port: u16) -> Server {
    let port = port.to_string();
    let listen = ["--host", "127.0.0.1", "--port", &port];
    let launch = Launch::new(backend).listen(&listen).args(&["--no-token"]);
    launch.start()
}

fn the_address_of_a_server_that_ended_is_free_at_once(backend: Backend) {
    let mut server = Server::open(backend);
    let port = server.address.port();
    // Half of the ends left it taken, for some 10 ms.
    for _ in 0..10 {
        let _idle = server.conn();
        server.get("/v1/health").expect(200);
        server.signal(libc::SIGTERM);
        assert_eq!(server.await_end(Duration::from_secs(20)).code(), Some(0));
        // As every server does it: SO_REUSEADDR is set.
        drop(TcpListener::bind(("127.0.0.1", port)).expect("a free address"));
        server = start_at(backend, port);
    }
}

fn a_server_that_was_killed_can_be_started_again_at_once(backend: Backend) {
    let mut server = Server::open(backend);
    let port = server.address.port();
    for _ in 0..6 {
        let _idle = server.conn();
        server.signal(libc::SIGKILL);
        server.await_end(Duration::from_secs(20));
        server = start_at(backend, port);
    }
    server.get("/v1/health").expect(200);
}

#[test]
fn what_was_asked_for_goes_to_whoever_reads_it() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let closed = || Stdio::from(writer.as_fd().try_clone_to_owned().unwrap());
    for (argument, stdout, stderr, code) in [
        // As `procring --help | head -n 1` does it.
        ("--help", closed(), Stdio::piped(), 0),
        ("--version", closed(), Stdio::piped(), 0),
        ("--help", full().into(), Stdio::piped(), 1),
        ("--help", full().into(), closed(), 1),
        ("--nonsense", Stdio::null(), closed(), 2),
        ("--nonsense", Stdio::null(), full().into(), 2),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_procring"));
        let output = command.arg(argument).stdout(stdout).stderr(stderr).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(code), "{argument}: {output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("panicked"), "{argument}: {stderr}");
    }
}
