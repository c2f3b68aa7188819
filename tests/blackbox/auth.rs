//! Section 4 and 14.32: who needs a token, and which spelling of it is one.

use crate::harness::{Backend, Launch, Problem, Response, Server, on_both};
use serde_json::json;

on_both!(
    only_the_exact_token_opens,
    the_scheme_is_case_insensitive_and_401_names_it,
    every_v1_route_needs_the_token,
    root_unknown_routes_and_options_need_none,
    a_wrong_method_without_token_is_401_with_allow,
    the_query_token_opens_the_websocket_route_only,
    the_token_is_in_no_answer_and_no_line,
    token_wins_over_no_token,
    an_open_server_takes_any_credentials,
    the_token_reaches_no_child,
    no_child_finds_the_token_in_what_proc_shows_of_the_server,
    a_server_with_a_token_keeps_its_name,
    a_token_file_is_read,
    a_token_is_taken_without_the_blanks_around_it,
);

const TOKEN: &str = "s3cret-Token";

fn locked(backend: Backend) -> Server {
    Launch::new(backend).args(&["--token", TOKEN]).start()
}

fn with(server: &Server, authorization: &str) -> Response {
    server.request(
        "GET",
        "/v1/health",
        &[("Authorization", authorization)],
        b"",
    )
}

fn only_the_exact_token_opens(backend: Backend) {
    let server = locked(backend);
    assert_eq!(
        with(&server, &format!("Bearer {TOKEN}")).text(),
        r#"{"status":"ok"}"#
    );
    for wrong in [
        "",
        "Bearer",
        "Bearer s3cret-toke",
        "Bearer s3cret-Token2",
        "Bearer s3cret-token",
        "Bearer  s3cret-Token",
        "Basic s3cret-Token",
        "s3cret-Token",
        "Bearer s3cret-Token s3cret-Token",
    ] {
        Problem::no_token().check(&with(&server, wrong));
    }
    Problem::no_token().check(&server.get("/v1/health"));
    // Two headers are a doubt, whichever of them is right.
    let right = format!("Bearer {TOKEN}");
    let both = [
        ("Authorization", right.as_str()),
        ("Authorization", "Bearer x"),
    ];
    let answer = server.request("GET", "/v1/health", &both[..], b"");
    assert!(
        matches!(answer.status, 200 | 400 | 401),
        "{}",
        answer.status
    );
    let both = [
        ("Authorization", "Bearer x"),
        ("Authorization", right.as_str()),
    ];
    let answer = server.request("GET", "/v1/health", &both[..], b"");
    assert!(matches!(answer.status, 400 | 401), "{}", answer.status);
}

fn the_scheme_is_case_insensitive_and_401_names_it(backend: Backend) {
    let server = locked(backend);
    for scheme in ["bearer", "BEARER", "bEaReR"] {
        with(&server, &format!("{scheme} {TOKEN}")).expect(200);
    }
    let refused = server.get("/v1/health");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
}

fn every_v1_route_needs_the_token(backend: Backend) {
    let server = locked(backend);
    let json = [("Content-Type", "application/json")];
    for (method, path) in [
        ("GET", "/v1/health"),
        ("GET", "/v1/processes"),
        ("POST", "/v1/processes"),
        ("GET", "/v1/processes/config"),
        ("POST", "/v1/processes/config"),
        ("POST", "/v1/processes/run"),
        ("GET", "/v1/processes/proc_1"),
        ("DELETE", "/v1/processes/proc_1"),
        ("POST", "/v1/processes/proc_1/stop"),
        ("POST", "/v1/processes/proc_1/kill"),
        ("POST", "/v1/processes/proc_1/input"),
        ("GET", "/v1/processes/proc_1/logs"),
        ("POST", "/v1/processes/proc_1/terminal/resize"),
        ("GET", "/v1/processes/proc_1/terminal/ws"),
    ] {
        let answer = server.request(method, path, &json, b"");
        assert_eq!(answer.status, 401, "{method} {path}");
        Problem::no_token().check(&answer);
    }
    server
        .request("HEAD", "/v1/processes", &[], b"")
        .expect_empty(401);
    let right = format!("Bearer {TOKEN}");
    let answer = server.request("GET", "/v1/processes", &[("Authorization", &right)], b"");
    assert_eq!(answer.json(), json!({"processes": []}));
}

fn root_unknown_routes_and_options_need_none(backend: Backend) {
    let server = locked(backend);
    server.get("/").expect(200);
    Problem::no_route().check(&server.get("/nowhere"));
    Problem::no_route().check(&server.get("/v1/nowhere"));
    for path in [
        "/",
        "/v1/health",
        "/v1/processes",
        "/v1/processes/x/stop",
        "/nowhere",
    ] {
        server.request("OPTIONS", path, &[], b"").expect_empty(200);
    }
}

fn a_wrong_method_without_token_is_401_with_allow(backend: Backend) {
    let server = locked(backend);
    for (method, path, allow) in [
        ("PUT", "/v1/processes", "GET,HEAD,POST"),
        ("GET", "/v1/processes/run", "POST"),
        ("POST", "/v1/health", "GET,HEAD"),
    ] {
        let answer = server.request(method, path, &[], b"");
        Problem::no_token().check(&answer);
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
}

fn the_query_token_opens_the_websocket_route_only(backend: Backend) {
    let server = locked(backend);
    let upgrade = |query: &str| {
        let mut conn = server.conn();
        conn.send(format!(
            "GET /v1/processes/none/terminal/ws{query} HTTP/1.1\r\nHost: {}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            server.address
        ));
        conn.response("GET")
    };
    Problem::no_process("none").check(&upgrade(&format!("?access_token={TOKEN}")));
    Problem::no_process("none").check(&upgrade("?access_token=s3cret%2DToken"));
    for wrong in [
        "",
        "?access_token=",
        "?access_token=x",
        "?access_token=s3cret-Token2",
    ] {
        Problem::no_token().check(&upgrade(wrong));
    }
    assert!(!server.stderr().contains(TOKEN), "{}", server.stderr());
    for path in [
        "/v1/health",
        "/v1/processes",
        "/v1/processes/config",
        "/v1/processes/p/logs",
    ] {
        let answer = server.get(&format!("{path}?access_token={TOKEN}"));
        Problem::no_token().check(&answer);
    }
}

fn the_token_is_in_no_answer_and_no_line(backend: Backend) {
    let server = locked(backend);
    let bearer = format!("Bearer {TOKEN}");
    let mut seen = Vec::new();
    for (method, target) in [
        ("GET", format!("/v1/processes?access_token={TOKEN}")),
        ("GET", format!("/v1/processes/p/logs?tail={TOKEN}x")),
        (
            "GET",
            format!("/v1/processes/p/logs?access_token={TOKEN}&tail=x"),
        ),
        ("PUT", format!("/v1/processes?access_token={TOKEN}")),
        ("GET", format!("/nowhere?access_token={TOKEN}")),
        (
            "GET",
            format!("/v1/processes/p/terminal/ws?access_token={TOKEN}"),
        ),
        (
            "GET",
            format!("/v1/processes/p/terminal/ws?access_token={TOKEN}&replay=x"),
        ),
        ("OPTIONS", "/v1/processes".to_owned()),
    ] {
        for headers in [&[][..], &[("Authorization", bearer.as_str())]] {
            let answer = server.request(method, &target, headers, b"");
            seen.extend(format!("{:?}\n", answer.headers).into_bytes());
            seen.extend(answer.body);
        }
    }
    for bytes in [
        format!("GET / HTTP/1.1\r\nHost: h\r\nAuthorization : {bearer}\r\n\r\n"),
        format!("GET /v1/health HTTP/1.1\r\nAuthorization: {bearer}\r\n\r\n"),
        format!("{bearer}\r\n\r\n"),
    ] {
        let mut conn = server.conn();
        conn.send_some(bytes);
        seen.extend(conn.read_to_end());
    }
    let seen = String::from_utf8_lossy(&seen);
    assert!(seen.len() > 500 && !seen.contains("s3cret"), "{seen}");
    assert!(!server.stderr().contains("s3cret"), "{}", server.stderr());
}

fn token_wins_over_no_token(backend: Backend) {
    for args in [
        ["--token", TOKEN, "--no-token"],
        ["--no-token", "--token", TOKEN],
    ] {
        let server = Launch::new(backend).args(&args).start();
        Problem::no_token().check(&server.get("/v1/health"));
        with(&server, &format!("Bearer {TOKEN}")).expect(200);
    }
}

fn an_open_server_takes_any_credentials(backend: Backend) {
    // Neither flag: open on a loopback address.
    for server in [Server::open(backend), Launch::new(backend).start()] {
        server.get("/v1/health").expect(200);
        with(&server, "Basic dTpw").expect(200);
        with(&server, "nonsense").expect(200);
        server.get("/v1/health?access_token=x").expect(200);
    }
}

fn the_token_reaches_no_child(backend: Backend) {
    let by_flag = locked(backend);
    let by_variable = Launch::new(backend).env("PROCRING_TOKEN", TOKEN).start();
    Problem::no_token().check(&by_variable.get("/v1/health"));
    for server in [by_flag, by_variable] {
        let bearer = format!("Bearer {TOKEN}");
        let headers = [
            ("Content-Type", "application/json"),
            ("Authorization", &bearer),
        ];
        let body = json!({"command": "env"}).to_string();
        let answer = server.request("POST", "/v1/processes/run", &headers, body.as_bytes());
        let environment = answer.json()["stdout"].as_str().unwrap().to_owned();
        assert!(environment.contains("PATH="), "{environment}");
        assert!(!environment.contains(TOKEN), "{environment}");
        assert!(!server.stderr().contains(TOKEN), "{}", server.stderr());
    }
}

/// Arguments, environment and descriptors of the server, as a child sees them that may be root.
const LOOK: &str = "cat /proc/$PPID/cmdline /proc/$PPID/environ; \
                    for fd in /proc/$PPID/fd/*; do readlink $fd; done";

fn no_child_finds_the_token_in_what_proc_shows_of_the_server(backend: Backend) {
    let flag = |args: &[&str]| Launch::new(backend).args(args);
    for (launch, arguments) in [
        (flag(&["--token", TOKEN]), "--token\0xxxxxxxxxxxx\0"),
        (flag(&["--token=s3cret-Token"]), "--token=xxxxxxxxxxxx\0"),
        (flag(&["-nts3cret-Token"]), "-ntxxxxxxxxxxxx\0"),
        (flag(&[]).env("PROCRING_TOKEN", TOKEN), ""),
        (
            flag(&["-t", TOKEN])
                .env("PROCRING_TOKEN", "s3cret-other")
                .env("SAME", TOKEN),
            "-t\0xxxxxxxxxxxx\0",
        ),
    ] {
        let server = launch.env("SEEN_BY_ROOT", "yes").start();
        let bearer = format!("Bearer {TOKEN}");
        let headers = [
            ("Content-Type", "application/json"),
            ("Authorization", &bearer),
        ];
        let body = crate::harness::sh(LOOK).to_string();
        let answer = server.request("POST", "/v1/processes/run", &headers, body.as_bytes());
        let seen = answer.json()["stdout"].as_str().unwrap().to_owned();
        assert!(
            seen.contains("server\0") && seen.contains(arguments),
            "{seen:?}"
        );
        assert!(!seen.contains("s3cret"), "{seen:?}");
        assert!(
            !seen.contains("token") || seen.contains("--token"),
            "{seen:?}"
        );
        // A server of this user shows its environment to root only.
        // SAFETY: no argument, cannot fail.
        if unsafe { libc::geteuid() } == 0 {
            assert!(seen.contains("SEEN_BY_ROOT=yes"), "{seen:?}");
        }
        assert!(
            !server.stderr().contains("can be read"),
            "{}",
            server.stderr()
        );
    }
}

fn a_server_with_a_token_keeps_its_name(backend: Backend) {
    let server = locked(backend);
    let of = |file: &str| std::fs::read(format!("/proc/{}/{file}", server.pid)).unwrap();
    assert_eq!(of("comm"), b"procring\n");
    let arguments = String::from_utf8(of("cmdline")).unwrap();
    let program = arguments.split('\0').next().unwrap();
    assert_eq!(program, env!("CARGO_BIN_EXE_procring"));
}

fn a_token_is_taken_without_the_blanks_around_it(backend: Backend) {
    for server in [
        Launch::new(backend).env("PROCRING_TOKEN", &format!("{TOKEN}\n")),
        Launch::new(backend).args(&["--token", &format!(" {TOKEN} ")]),
    ] {
        let server = server.start();
        Problem::no_token().check(&server.get("/v1/health"));
        with(&server, &format!("Bearer {TOKEN}")).expect(200);
    }
}

/// No server starts open, or locked for everybody, because a secret is not what it should be.
#[test]
fn a_variable_that_can_be_no_token_is_refused() {
    for value in ["", " \n", "a\nb", "a\tb"] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_procring"));
        let output = command
            .args(["server", "--port", "0", "--no-token"])
            .env("PROCRING_TOKEN", value)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{value:?}: {output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("PROCRING_TOKEN"), "{stderr}");
        assert!(!value.contains('a') || !stderr.contains(value), "{stderr}");
    }
}

fn a_token_file_is_read(backend: Backend) {
    let name = format!("token-{}-{}", std::process::id(), backend.word());
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
    let server = Launch::new(backend)
        .args(&["--token-file", path.to_str().unwrap()])
        .start();
    Problem::no_token().check(&server.get("/v1/health"));
    with(&server, &format!("Bearer {TOKEN}")).expect(200);
    std::fs::remove_file(path).unwrap();
}
