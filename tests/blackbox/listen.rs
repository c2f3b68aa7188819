//! `--listen`: several addresses, unix sockets that know their users, sockets of a service manager.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};

use crate::harness::backend::denial_errno;
use crate::harness::launch::{Before, before_exec, run_binary};
use crate::harness::server::send_signal;
use crate::harness::{Backend, on_both, skipped_anywhere};

on_both!(
    a_unix_socket_answers_some_users_and_nobody_else,
    a_unix_socket_asks_for_the_token_where_it_is_told_to,
    several_addresses_are_served_and_the_path_goes_with_the_server,
    sockets_of_the_service_manager_are_taken_over,
    sockets_of_the_service_manager_outlive_the_server,
    a_socket_of_the_service_manager_that_others_reach_needs_a_token,
    a_server_that_is_handed_its_connections_ends_with_its_starter,
);

/// A server that is told where to listen; killed when dropped.
struct Listener {
    child: Child,
    lines: BufReader<ChildStderr>,
    dir: PathBuf,
}

impl Listener {
    /// `DIR` in the arguments is a folder of the test's own.
    fn start(backend: Backend, name: &str, args: &[&str], stdin: Stdio, shell: bool) -> Self {
        let dir = std::env::temp_dir().join(format!(
            "procring-listen-{name}-{}-{}",
            std::process::id(),
            backend.word()
        ));
        std::fs::create_dir_all(&dir).expect("a folder");
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).expect("its mode");
        let program = env!("CARGO_BIN_EXE_procring");
        let mut command = if shell {
            // The process id stays what it is.
            let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
            let mut command = Command::new("sh");
            command.args(["-c", script, program]);
            command
        } else {
            Command::new(program)
        };
        let path = dir.to_str().expect("UTF-8");
        command
            .arg("server")
            .args(args.iter().map(|arg| arg.replace("DIR", path)))
            .stdin(stdin)
            .stderr(Stdio::piped());
        let before = Before {
            deny: (backend == Backend::Epoll).then(denial_errno),
            ..Before::default()
        };
        before_exec(&mut command, before);
        let mut child = command.spawn().expect("a server");
        let lines = BufReader::new(child.stderr.take().expect("a pipe"));
        Self { child, lines, dir }
    }

    /// What it says that it listens on.
    fn listening(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(
                self.lines.read_line(&mut line).expect("a line"),
                0,
                "it has ended"
            );
            if let Some((_, rest)) = line.split_once("procring: listening on ") {
                let (name, _) = rest.split_once(" (").expect("a parenthesis");
                return name.to_owned();
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("s")
    }

    fn end(&mut self) {
        send_signal(self.child.id().cast_signed(), libc::SIGTERM);
        assert!(self.child.wait().expect("an end").success());
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

const REQUEST: &[u8] = b"GET /v1/health HTTP/1.1\r\nHost: x.example\r\nConnection: close\r\n\r\n";

fn status(mut socket: impl std::io::Read + std::io::Write, request: &[u8]) -> String {
    socket.write_all(request).expect("a request");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    answer.get(9..12).unwrap_or_default().to_owned()
}

/// The status that a user gets.
fn status_for(uid: u32, path: &std::path::Path) -> String {
    let output = Command::new("curl")
        .args([
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--unix-socket",
        ])
        .arg(path)
        .arg("http://localhost/v1/health")
        .uid(uid)
        .gid(uid)
        .output()
        .expect("curl");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn a_unix_socket_answers_some_users_and_nobody_else(backend: Backend) {
    let args = [
        "--listen",
        "unix:DIR/s",
        "--unix-mode",
        "666",
        "--unix-allow-uid",
        "65533",
        "--unix-allow-uid",
        "daemon",
    ];
    let mut server = Listener::start(backend, "users", &args, Stdio::null(), false);
    assert_eq!(
        server.listening(),
        format!("unix:{}", server.path().display())
    );
    let socket = UnixStream::connect(server.path()).expect("a socket");
    // A name that no address is behind is nobody's trick here.
    assert_eq!(status(socket, REQUEST), "200");
    if !rustix::process::geteuid().is_root() {
        skipped_anywhere("other users than the test's own: not root");
        return;
    }
    assert_eq!(status_for(65533, &server.path()), "200");
    // The one that base-passwd gives this name (passwd(5)).
    assert_eq!(status_for(1, &server.path()), "200");
    assert_eq!(status_for(65532, &server.path()), "403");
    server.end();
}

fn a_unix_socket_asks_for_the_token_where_it_is_told_to(backend: Backend) {
    let args = [
        "--listen",
        "unix:DIR/s",
        "--unix-token",
        "--token",
        "s3cret",
    ];
    let mut server = Listener::start(backend, "token", &args, Stdio::null(), false);
    server.listening();
    let connect = || UnixStream::connect(server.path()).expect("a socket");
    assert_eq!(status(connect(), REQUEST), "401");
    let with_token = String::from_utf8_lossy(REQUEST)
        .replace("Connection:", "Authorization: Bearer s3cret\r\nConnection:");
    assert_eq!(status(connect(), with_token.as_bytes()), "200");
    let mode = std::fs::metadata(server.path())
        .expect("a socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    server.end();
}

fn several_addresses_are_served_and_the_path_goes_with_the_server(backend: Backend) {
    let args = [
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "unix:DIR/s",
        "--listen",
        "[::1]:0",
    ];
    let mut server = Listener::start(backend, "several", &args, Stdio::null(), false);
    let names = [server.listening(), server.listening(), server.listening()];
    let address = |name: &str| name.strip_prefix("http://").expect("an address").to_owned();
    let request = |host: &str| String::from_utf8_lossy(REQUEST).replace("x.example", host);
    for name in [&names[0], &names[2]] {
        let socket = TcpStream::connect(address(name)).expect("a socket");
        assert_eq!(status(socket, request("localhost").as_bytes()), "200");
        // Others' names lead here only by a trick.
        let socket = TcpStream::connect(address(name)).expect("a socket");
        assert_eq!(status(socket, REQUEST), "403");
    }
    assert_eq!(
        status(
            UnixStream::connect(server.path()).expect("a socket"),
            REQUEST
        ),
        "200"
    );
    // A second server takes nothing away, one after a killed server takes over.
    let path = format!("unix:{}", server.path().display());
    let (code, _, stderr) = run_binary(&["server", "--listen", &path], None);
    assert_eq!(code, Some(1), "{stderr}");
    server.end();
    assert!(!server.path().exists());
    let mut killed = Listener::start(
        backend,
        "several",
        &["--listen", &path],
        Stdio::null(),
        false,
    );
    killed.listening();
    let _ = killed.child.kill();
    let _ = killed.child.wait();
    assert!(killed.path().exists());
    let mut next = Listener::start(
        backend,
        "several",
        &["--listen", &path],
        Stdio::null(),
        false,
    );
    next.listening();
    assert_eq!(
        status(UnixStream::connect(next.path()).expect("a socket"), REQUEST),
        "200"
    );
    next.end();
}

fn sockets_of_the_service_manager_are_taken_over(backend: Backend) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("an address");
    // Before the server is there, connections wait.
    let early = TcpStream::connect(address).expect("a connection");
    let stdin = Stdio::from(std::os::fd::OwnedFd::from(listener));
    let mut server = Listener::start(backend, "systemd", &["--listen", "systemd"], stdin, true);
    assert_eq!(server.listening(), format!("http://{address}"));
    let request = String::from_utf8_lossy(REQUEST).replace("x.example", "localhost");
    assert_eq!(status(early, request.as_bytes()), "200");
    server.end();
    let (code, _, stderr) = run_binary(&["server", "--listen", "systemd"], None);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("LISTEN_FDS"), "{stderr}");
}

fn sockets_of_the_service_manager_outlive_the_server(backend: Backend) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("an address");
    let request = String::from_utf8_lossy(REQUEST).replace("x.example", "localhost");
    let start = || {
        let stdin = Stdio::from(listener.as_fd().try_clone_to_owned().expect("a copy"));
        let args = ["--listen", "systemd"];
        let mut server = Listener::start(backend, "outlive", &args, stdin, true);
        server.listening();
        server
    };
    let mut first = start();
    let socket = TcpStream::connect(address).expect("a connection");
    assert_eq!(status(socket, request.as_bytes()), "200");
    first.end();
    // Nobody is refused between two servers: who connects now is answered by the next one.
    let between = TcpStream::connect(address).expect("a connection");
    let mut second = start();
    assert_eq!(status(between, request.as_bytes()), "200");
    second.end();
}

fn a_socket_of_the_service_manager_that_others_reach_needs_a_token(backend: Backend) {
    for (args, refused) in [
        (&["--listen", "systemd"][..], true),
        (&["--listen", "systemd", "--no-token"], false),
        (&["--listen", "systemd", "--token", "s3cret"], false),
    ] {
        let listener = TcpListener::bind("0.0.0.0:0").expect("a socket");
        let stdin = Stdio::from(OwnedFd::from(listener));
        let mut server = Listener::start(backend, "reach", args, stdin, true);
        if !refused {
            server.listening();
            server.end();
            continue;
        }
        let mut said = String::new();
        server.lines.read_to_string(&mut said).expect("lines");
        assert_eq!(
            server.child.wait().expect("an end").code(),
            Some(2),
            "{said}"
        );
        assert!(
            said.contains("0.0.0.0:") && said.contains("--token"),
            "{said}"
        );
    }
}

fn a_server_that_is_handed_its_connections_ends_with_its_starter(backend: Backend) {
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    let stdin = Stdio::from(std::os::fd::OwnedFd::from(theirs));
    let mut server = Listener::start(backend, "starter", &["--listen", "starter"], stdin, false);
    drop(ours);
    let mut said = String::new();
    server.lines.read_to_string(&mut said).expect("lines");
    assert!(server.child.wait().expect("an end").success(), "{said}");
    assert!(
        !said.contains("listening"),
        "nobody else can reach it: {said}"
    );
}

#[test]
fn wrong_addresses_are_refused_with_what_they_may_be() {
    for (args, word) in [
        (&["--listen", "unix:"][..], "107"),
        (&["--listen", "nowhere"], "unix:PATH"),
        (&["--listen", "127.0.0.1:x"], "65535"),
        (&["--listen", "0.0.0.0:0"], "--no-token"),
        (&["--unix-mode", "999"], "octal"),
        (&["--unix-token"], "--token"),
        (&["--unix-allow-uid", ""], "name or the number"),
        (&["--unix-allow-uid", "a:b"], "name or the number"),
    ] {
        let args: Vec<&str> = std::iter::once("server")
            .chain(args.iter().copied())
            .collect();
        let (code, _, stderr) = run_binary(&args, None);
        assert_eq!(code, Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(word), "{args:?}: {stderr}");
    }
}
