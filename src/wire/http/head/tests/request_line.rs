//! Request lines: methods, targets, versions, and what may stand before them.

use super::*;

#[test]
fn methods_are_case_sensitive() {
    for (name, method) in [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("DELETE", Method::Delete),
        ("OPTIONS", Method::Options),
        ("PUT", Method::Put),
        ("get", Method::Other),
        ("GETT", Method::Other),
        ("!#$%&'*+-.^_`|~", Method::Other),
    ] {
        let read = accepted(format!("{name} / HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        assert_eq!(read.method, method, "{name}");
    }
}

#[test]
fn empty_lines_before_the_request_line_are_skipped_twice_at_most() {
    let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    for lines in 0..3 {
        let input = [&b"\r\n".repeat(lines)[..], request].concat();
        assert_eq!(accepted(&input).used, input.len());
    }
    let input = [&b"\r\n\r\n\r\n"[..], request].concat();
    assert_eq!(every_way(&input), Err(HeadError::LeadingLines));
}

#[test]
fn a_scan_has_started_with_the_first_byte_of_the_method() {
    let mut scan = HeadScan::default();
    let limits = HeadLimits::default();
    for (input, started) in [
        (&b""[..], false),
        (b"\r", false),
        (b"\r\n", false),
        (b"\r\n\r\n", false),
        (b"\r\n\r\nG", true),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n", true),
    ] {
        let parsed = parse_head(input, &mut scan, &limits);
        assert!(matches!(parsed, Ok(Parsed::NeedMore)));
        assert_eq!(scan.started(), started, "{}", input.escape_ascii());
    }
}

#[test]
fn one_scan_serves_pipelined_requests_one_after_another() {
    let input: &[u8] = b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n\r\nGET /2 HTTP/1.0\r\n\r\nGET /3 ";
    let mut scan = HeadScan::default();
    let mut rest = input;
    let mut targets = Vec::new();
    while let Ok(Parsed::Done { value, used }) = parse_head(rest, &mut scan, &HeadLimits::default())
    {
        targets.push(value.target());
        rest = &rest[used..];
    }
    assert_eq!(targets, ["/1", "/2"]);
    assert_eq!(rest, b"GET /3 ");
    assert!(scan.started());
}

#[test]
fn target_forms_follow_the_method() {
    for (line, target, host) in [
        ("GET / ", "/", "h"),
        ("GET //a//b ", "//a//b", "h"),
        ("GET /a?b=http://x/ ", "/a?b=http://x/", "h"),
        ("GET http://x.example:81/p?q=1 ", "/p?q=1", "x.example:81"),
        ("GET HTTPS://X/p ", "/p", "X"),
        ("GET http://x ", "/", "x"),
        ("GET http://x?q ", "?q", "x"),
        ("GET http://[::1]:80/a/b ", "/a/b", "[::1]:80"),
        ("OPTIONS * ", "*", "h"),
        ("OPTIONS http://x ", "/", "x"),
        ("CONNECT example.com:443 ", "example.com:443", "h"),
    ] {
        let read = accepted(format!("{line}HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        assert_eq!(
            (read.target.as_str(), read.host.as_deref()),
            (target, Some(host))
        );
    }
    for line in [
        "GET * ",
        "GET a ",
        "GET a/b ",
        "GET ?q ",
        "GET h:80 ",
        "GET http:/x ",
        "GET http://user@x/ ",
        "GET http:///p ",
        "GET http://x:99999/ ",
        "GET http://x\\y/ ",
        "GET ftp://x/ ",
        "GET ://x/ ",
        "OPTIONS ** ",
        "PUT * ",
    ] {
        let input = format!("{line}HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(
            every_way(input.as_bytes()),
            Err(HeadError::TargetForm),
            "{line}"
        );
    }
}

#[test]
fn an_absolute_target_does_not_excuse_a_missing_host() {
    let input = b"GET http://x/ HTTP/1.1\r\n\r\n";
    assert_eq!(every_way(input), Err(HeadError::HostMissing));
    let read = accepted(b"GET http://x/ HTTP/1.0\r\n\r\n");
    assert_eq!(read.host.as_deref(), Some("x"));
}

#[test]
fn wrong_request_lines_are_refused() {
    let after = "\r\nHost: h\r\n\r\n";
    for (line, error) in [
        (" GET / HTTP/1.1", HeadError::MethodByte),
        ("GET\t/ HTTP/1.1", HeadError::MethodByte),
        ("GET", HeadError::MethodByte),
        ("G(T / HTTP/1.1", HeadError::MethodByte),
        ("G\0T / HTTP/1.1", HeadError::MethodByte),
        ("\u{16}\u{3}\u{1}", HeadError::MethodByte),
        ("GET  / HTTP/1.1", HeadError::TargetByte),
        ("GET  HTTP/1.1", HeadError::TargetByte),
        ("GET /", HeadError::TargetByte),
        ("GET /\tHTTP/1.1", HeadError::TargetByte),
        ("GET /#f HTTP/1.1", HeadError::TargetByte),
        ("GET /\u{e9} HTTP/1.1", HeadError::TargetByte),
        ("GET /\u{7f} HTTP/1.1", HeadError::TargetByte),
        ("GET /\0 HTTP/1.1", HeadError::TargetByte),
        ("GET / ", HeadError::Version),
        ("GET /  HTTP/1.1", HeadError::Version),
        ("GET /a b HTTP/1.1", HeadError::Version),
        ("GET / HTTP/1.1 ", HeadError::Version),
        ("GET / HTTP/1.10", HeadError::Version),
        ("GET / HTTP/1.2", HeadError::Version),
        ("GET / HTTP/2.0", HeadError::Version),
        ("GET / HTTP/0.9", HeadError::Version),
        ("GET / HTTP/11", HeadError::Version),
        ("GET / http/1.1", HeadError::Version),
        ("GET / HTTP /1.1", HeadError::Version),
        ("PRI * HTTP/2.0", HeadError::Version),
    ] {
        let input = format!("{line}{after}");
        assert_eq!(every_way(input.as_bytes()), Err(error), "{line}");
        assert_eq!(error.status(), 400);
    }
}
