//! What a server starts in and ends among: a standard error that nobody reads, an address that was
//! used a moment ago, a terminal, another program's environment.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::pipe::pipe;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use serde_json::json;

use crate::harness::{Backend, Launch, Server, eventually, on_both, procfs, sh, skipped_anywhere};

on_both!(
    a_start_line_that_cannot_be_written_keeps_no_server_from_serving,
    the_address_of_a_server_that_ended_is_free_at_once,
    a_server_that_was_killed_can_be_started_again_at_once,
    a_server_whose_terminal_is_closed_ends_with_its_children,
    a_server_under_nohup_outlives_its_terminal,
    a_hangup_ends_no_server_without_a_terminal,
    quit_begins_the_end_as_term_does,
    ctrl_z_stops_the_server_and_it_goes_on_where_it_was,
    an_image_with_nothing_in_it_will_do,
);

/// A pipe that holds all it can, and its reader.
fn full_pipe() -> (OwnedFd, OwnedFd) {
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

/// Both sides of a new terminal, close-on-exec.
fn terminal() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
    (master, slave)
}

fn a_server_whose_terminal_is_closed_ends_with_its_children(backend: Backend) {
    let (master, slave) = terminal();
    let launch = Launch::new(backend).args(&["--no-token"]);
    let mut server = launch.on_terminal(&slave).start();
    server.spawn(&json!({"command": "sleep", "args": ["77"]}));
    // The window is closed.
    drop((master, slave));
    assert_eq!(server.await_end(Duration::from_secs(20)).code(), Some(0));
    assert_eq!(server.survivors(), [0; 0], "left behind");
}

fn a_server_under_nohup_outlives_its_terminal(backend: Backend) {
    let (master, slave) = terminal();
    let launch = Launch::new(backend).args(&["--no-token"]);
    let server = launch.ignoring_hangup().on_terminal(&slave).start();
    drop((master, slave));
    server.signal(libc::SIGHUP);
    assert_serves_on(&server);
}

fn a_hangup_ends_no_server_without_a_terminal(backend: Backend) {
    let launch = Launch::new(backend).args(&["--no-token"]);
    let server = launch.through_exec(&["setsid"]).start();
    server.signal(libc::SIGHUP);
    assert_serves_on(&server);
}

/// A signal that was sent before is handled before the end of a run that begins now, or rather
/// a hundred of them: the supervisor hears of both.
fn assert_serves_on(server: &Server) {
    for _ in 0..100 {
        assert_eq!(server.run(&sh("exit 3"))["exitCode"], 3);
    }
}

fn quit_begins_the_end_as_term_does(backend: Backend) {
    let mut server = Server::open(backend);
    server.spawn(&json!({"command": "sleep", "args": ["77"]}));
    server.signal(libc::SIGQUIT);
    assert_eq!(server.await_end(Duration::from_secs(20)).code(), Some(0));
    assert_eq!(server.survivors(), [0; 0], "left behind");
}

fn ctrl_z_stops_the_server_and_it_goes_on_where_it_was(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    for signal in [libc::SIGTTIN, libc::SIGTTOU] {
        // A server in the background is not stopped by what it has to say.
        server.signal(signal);
    }
    assert_serves_on(&server);
    server.signal(libc::SIGTSTP);
    let stopped = || (procfs::state(server.pid) == Some('T')).then_some(());
    eventually("the server to stop", stopped);
    server.signal(libc::SIGCONT);
    assert_eq!(server.info(&id)["status"], "running");
    assert_serves_on(&server);
}

/// Neither /dev/null nor /proc, and no terminals.
fn an_image_with_nothing_in_it_will_do(backend: Backend) {
    let name = format!("bare-{}-{}", std::process::id(), backend.word());
    let image = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&image).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_procring"), image.join("procring")).unwrap();
    let chroot = ["chroot", image.to_str().unwrap()];
    let mut probe = Command::new(chroot[0]);
    let can = probe.args([chroot[1], "/procring", "--version"]).output();
    if can.is_ok_and(|output| output.status.success()) {
        let launch = Launch::new(backend).args(&["--no-token"]);
        let launch = launch.program(Path::new("/procring")).cwd(Path::new("/"));
        let server = launch.through_exec(&chroot).start();
        let run = server.run(&json!({"command": "/procring", "args": ["--version"]}));
        let version = concat!("procring ", env!("CARGO_PKG_VERSION"), "\n");
        assert_eq!(run["stdout"], version, "{run}");
        let body = json!({"command": "/procring", "tty": true});
        let refused = server.post("/v1/processes", &body);
        assert_eq!(refused.status, 502, "{}", refused.text());
        let code = |text: &str, code: &str| text.ends_with(&format!(r#""code":"{code}"}}"#));
        assert!(
            code(refused.text(), "pty_unavailable"),
            "{}",
            refused.text()
        );
        let body = json!({"command": "/missing", "tty": false});
        let missing = server.post("/v1/processes", &body);
        assert!(code(missing.text(), "ENOENT"), "{}", missing.text());
    } else {
        skipped_anywhere("chroot(1) is refused");
    }
    std::fs::remove_dir_all(&image).unwrap();
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
