//! Sections 1 and 16: flags, the start line, and the exit codes of what cannot start.

use std::net::TcpListener;
use std::process::Command;

use crate::harness::launch::run_binary;
use crate::harness::{Backend, Launch, Server, on_both};

on_both!(
    the_start_line_says_where_how_and_on_what,
    long_and_short_flags_are_accepted,
    io_backend_epoll_is_taken_without_a_warning,
    a_taken_port_exits_1_and_is_named,
    other_loopback_addresses_are_listened_on,
    a_strange_address_needs_a_token_or_no_token,
    a_server_with_too_few_descriptors_to_answer_does_not_start,
);

fn the_start_line_says_where_how_and_on_what(backend: Backend) {
    let server = Server::open(backend);
    let expected = format!(
        "procring: listening on http://{} (no token, {}",
        server.address,
        backend.word()
    );
    assert!(
        server.start_line.contains(&expected),
        "{:?}",
        server.start_line
    );
    assert!(server.start_line.ends_with(')'), "{:?}", server.start_line);
    assert_ne!(server.address.port(), 0);

    let locked = Launch::new(backend).args(&["--token", "s3cret"]).start();
    let rest = locked.start_line.split_once(" (").expect("a parenthesis").1;
    assert!(
        rest.contains("token") && !rest.contains("no token"),
        "{:?}",
        locked.start_line
    );
    assert!(!locked.stderr().contains("s3cret"), "{:?}", locked.stderr());
}

fn long_and_short_flags_are_accepted(backend: Backend) {
    for args in [
        &["--no-token", "--no-telemetry"][..],
        &["-n"],
        &["-t", "T"],
        &["--token=T"],
        &[
            "-O",
            "http://a.example",
            "-M",
            "GET",
            "-A",
            "x-a",
            "-C",
            "-n",
        ],
        &[
            "--cors-allow-origin",
            "http://a.example",
            "--cors-allow-origin",
            "http://b.example",
        ],
        &[
            "--cors-allow-method",
            "GET",
            "--cors-allow-header",
            "x",
            "--cors-allow-credentials",
        ],
        &["--io-backend", "auto"],
        &["--allowed-host", "a.example", "--allowed-host", "*"],
    ] {
        Launch::new(backend)
            .args(args)
            .start()
            .request("OPTIONS", "/", &[], b"")
            .expect(200);
    }
    let short = Launch::new(backend)
        .listen(&["-H", "127.0.0.1", "-p", "0"])
        .start();
    short.get("/v1/health").expect(200);
}

fn io_backend_epoll_is_taken_without_a_warning(backend: Backend) {
    // Asked for, so it is the same where io_uring is there and where it is denied.
    let deny = (backend == Backend::Epoll).then_some(libc::EPERM);
    let asked = Launch::new(Backend::Epoll).args(&["--no-token", "--io-backend", "epoll"]);
    let server = asked.deny(deny).start();
    server.get("/v1/health").expect(200);
    assert!(
        !server.stderr().contains("warning"),
        "{:?}",
        server.stderr()
    );
}

fn a_taken_port_exits_1_and_is_named(backend: Backend) {
    let holder = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    let deny = (backend == Backend::Epoll).then_some(libc::EPERM);
    let args = [
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        &port,
        "--no-token",
    ];
    let (code, _, stderr) = run_binary(&args, deny);
    assert_eq!(code, Some(1), "{stderr}");
    let line = stderr
        .lines()
        .find(|l| l.contains(&port))
        .expect("a line that names the port");
    assert!(line.contains("in use"), "{line:?}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

fn other_loopback_addresses_are_listened_on(backend: Backend) {
    let server = Launch::new(backend)
        .listen(&["--host", "127.0.0.2", "--port", "0"])
        .start();
    assert_eq!(server.address.ip().to_string(), "127.0.0.2");
    server.get("/v1/health").expect(200);
    if TcpListener::bind(("::1", 0)).is_ok() {
        let server = Launch::new(backend)
            .listen(&["--host", "::1", "--port", "0"])
            .start();
        assert!(server.address.is_ipv6(), "{}", server.start_line);
        server.get("/v1/health").expect(200);
    }
}

fn a_strange_address_needs_a_token_or_no_token(backend: Backend) {
    for host in ["0.0.0.0", "::"] {
        let deny = (backend == Backend::Epoll).then_some(libc::EPERM);
        let (code, _, stderr) = run_binary(&["server", "--host", host, "--port", "0"], deny);
        assert_eq!(code, Some(2), "{host}: {stderr}");
        assert!(
            stderr.contains("--no-token") && stderr.contains("--token"),
            "{stderr}"
        );
    }
    let everywhere = ["--host", "0.0.0.0", "--port", "0"];
    for args in [&["--no-token"][..], &["--token", "T"]] {
        let server = Launch::new(backend).listen(&everywhere).args(args).start();
        server.get("/").expect(200);
    }
}

fn a_server_with_too_few_descriptors_to_answer_does_not_start(backend: Backend) {
    // Among them numbers with which it once listened, and accepted nobody.
    for few in ["8", "14", "23", "63"] {
        let limit = format!("--nofile={few}");
        let program = env!("CARGO_BIN_EXE_procring");
        let output = Command::new("prlimit")
            .args([&limit, program, "server", "--port", "0"])
            .args(["--io-backend", backend.word().trim_start_matches("io_")])
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{few}: {stderr}");
        assert!(stderr.contains("RLIMIT_NOFILE"), "{few}: {stderr}");
        assert!(!stderr.contains("listening"), "{few}: {stderr}");
    }
}

/// Whether `text` tells the errno, by its name or as the standard library writes it.
fn names_errno(text: &str, errno: i32, name: &str) -> bool {
    text.contains(name) || text.contains(&format!("(os error {errno})"))
}

#[test]
fn io_backend_uring_unmet_exits_78_and_names_the_cause() {
    for (errno, name) in [(libc::EPERM, "EPERM"), (libc::ENOSYS, "ENOSYS")] {
        let args = [
            "server",
            "--port",
            "0",
            "--no-token",
            "--io-backend",
            "uring",
        ];
        let (code, _, stderr) = run_binary(&args, Some(errno));
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.contains("io_uring"), "{stderr}");
        assert!(names_errno(&stderr, errno, name), "{stderr}");
    }
}

#[test]
fn io_backend_uring_met_serves() {
    if Backend::Uring.available() {
        let server = Launch::new(Backend::Uring)
            .args(&["--no-token", "--io-backend", "uring"])
            .start();
        server.get("/v1/health").expect(200);
    }
}

#[test]
fn denied_io_uring_falls_back_to_epoll_with_one_warning_line() {
    for (errno, name) in [(libc::EPERM, "EPERM"), (libc::ENOSYS, "ENOSYS")] {
        let server = Launch::new(Backend::Epoll)
            .deny(Some(errno))
            .args(&["--no-token"])
            .start();
        server.get("/v1/health").expect(200);
        let stderr = server.stderr();
        let warnings: Vec<_> = stderr.lines().filter(|l| l.contains("warning")).collect();
        assert_eq!(warnings.len(), 1, "{stderr}");
        assert!(warnings[0].contains("io_uring"), "{stderr}");
        assert!(names_errno(warnings[0], errno, name), "{stderr}");
    }
}

#[test]
fn wrong_usage_exits_2_and_says_what_is_wrong() {
    for (args, named) in [
        (&["--nonsense"][..], "--nonsense"),
        (&["frobnicate"], "frobnicate"),
        (&["server", "--nonsense"], "--nonsense"),
        (&["server", "stray"], "stray"),
        (&["server", "--port"], "port"),
        (&["server", "--port", "x"], "port"),
        (&["server", "--port", "65536"], "port"),
        (&["server", "--port", "-1"], "port"),
        (&["server", "--host"], "host"),
        (&["server", "--token"], "token"),
        (&["server", "--io-backend", "kqueue"], "io-backend"),
        (&["server", "--cors-allow-origin"], "cors-allow-origin"),
        // No browser sends these: they would never match.
        (&["server", "-n", "-O", "foo.example"], "https://HOST"),
        (&["server", "-n", "-O", "http://a/b"], "\"http://a/b\""),
        (&["server", "-n", "-O", "ws://a"], "http://"),
        // No Host is ever like these.
        (&["server", "-n", "--allowed-host", ""], "allowed-host"),
        (&["server", "-n", "--allowed-host", "http://a"], "a name"),
        (
            &["server", "-n", "--allowed-host", "*.a.example"],
            "no pattern",
        ),
    ] {
        let (code, stdout, stderr) = run_binary(args, None);
        assert_eq!(code, Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(named), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
        assert_eq!(stdout, "", "{args:?}");
    }
}

#[test]
fn an_empty_token_is_wrong_usage() {
    // It would lock nobody out and look as if it did.
    let (code, _, stderr) = run_binary(&["server", "--port", "0", "--token", ""], None);
    assert_eq!(code, Some(2), "{stderr}");
}

#[test]
fn help_and_version_go_to_stdout_and_exit_0() {
    for args in [&["--help"][..], &["-h"], &["server", "--help"]] {
        let (code, stdout, stderr) = run_binary(args, None);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{args:?}");
        assert!(
            stdout.contains("procring") && stdout.contains("server"),
            "{stdout}"
        );
    }
    let (_, stdout, _) = run_binary(&["server", "--help"], None);
    for flag in [
        "--host",
        "--port",
        "--token",
        "--no-token",
        "--cors-allow-origin",
        "--cors-allow-method",
        "--cors-allow-header",
        "--cors-allow-credentials",
        "--allowed-host",
        "--io-backend",
    ] {
        assert!(stdout.contains(flag), "{flag} is not in {stdout}");
    }
    let (code, stdout, stderr) = run_binary(&["--version"], None);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(stdout, format!("procring {}\n", env!("CARGO_PKG_VERSION")));
}
