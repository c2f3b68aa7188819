//! Limits, and properties that hold for any input.

use super::*;
use crate::wire::testing::Rng;

#[test]
fn limits_hold_to_the_byte() {
    let limits = HeadLimits {
        target_bytes_max: 8,
        head_bytes_max: 64,
        header_lines_max: 3,
    };
    let target = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(len - 1));
    assert!(matches!(
        every_way_within(target(8).as_bytes(), &limits),
        Ok(Some(_))
    ));
    assert_eq!(
        every_way_within(target(9).as_bytes(), &limits),
        Err(HeadError::TargetTooLong)
    );
    let lines = |count: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
            "a:\r\n".repeat(count - 1)
        )
    };
    assert!(matches!(
        every_way_within(lines(3).as_bytes(), &limits),
        Ok(Some(_))
    ));
    assert_eq!(
        every_way_within(lines(4).as_bytes(), &limits),
        Err(HeadError::TooManyLines)
    );
    let head = |len: usize| {
        let start = "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\nX:";
        format!("{start}{}\r\n\r\n", "a".repeat(len + 4 - start.len() - 4))
    };
    assert_eq!(head(64).len(), 68);
    assert!(matches!(
        every_way_within(head(64).as_bytes(), &limits),
        Ok(Some(_))
    ));
    assert_eq!(
        every_way_within(head(65).as_bytes(), &limits),
        Err(HeadError::TooLong)
    );
    let method = |len: usize| format!("{} / HTTP/1.1\r\nHost: h\r\n\r\n", "M".repeat(len));
    assert!(matches!(every_way(method(64).as_bytes()), Ok(Some(_))));
    assert_eq!(
        every_way(method(65).as_bytes()),
        Err(HeadError::MethodTooLong)
    );
}

#[test]
fn what_is_too_long_is_refused_before_it_ends() {
    let limits = HeadLimits::default();
    let fresh =
        |input: &[u8]| parse_head(input, &mut HeadScan::default(), &limits).map(|_| "no error yet");
    let mut target = b"GET /".to_vec();
    target.resize(4 + limits.target_bytes_max, b'a');
    assert_eq!(fresh(&target), Ok("no error yet"));
    target.push(b'a');
    assert_eq!(fresh(&target), Err(HeadError::TargetTooLong));
    assert_eq!(HeadError::TargetTooLong.status(), 414);

    let mut head = b"GET / HTTP/1.1\r\nX: ".to_vec();
    head.resize(limits.head_bytes_max, b'a');
    assert_eq!(fresh(&head), Ok("no error yet"));
    head.push(b'a');
    assert_eq!(fresh(&head), Err(HeadError::TooLong));
    assert_eq!(HeadError::TooLong.status(), 431);

    let mut lines = b"GET / HTTP/1.1\r\n".to_vec();
    lines.extend_from_slice(&b"a:\r\n".repeat(100));
    assert_eq!(fresh(&lines), Ok("no error yet"));
    lines.push(b'a');
    assert_eq!(fresh(&lines), Err(HeadError::TooManyLines));
    assert_eq!(HeadError::TooManyLines.status(), 431);
}

#[test]
fn more_lines_than_the_ceiling_are_refused_whatever_the_limit() {
    let limits = HeadLimits {
        header_lines_max: usize::MAX,
        ..HeadLimits::default()
    };
    let lines = |count: usize| format!("GET / HTTP/1.0\r\n{}\r\n", "a:\r\n".repeat(count));
    let parse = |input: String| feed(&[input.as_bytes()], &limits);
    assert!(matches!(parse(lines(HEADER_LINES_CEILING)), Ok(Some(_))));
    assert_eq!(
        parse(lines(HEADER_LINES_CEILING + 1)),
        Err(HeadError::TooManyLines)
    );
}

#[test]
fn limits_of_any_size_do_not_overflow() {
    for extreme in [0, 1, usize::MAX] {
        let limits = HeadLimits {
            target_bytes_max: extreme,
            head_bytes_max: extreme,
            header_lines_max: extreme,
        };
        let result = every_way_within(b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", &limits);
        assert_eq!(result.is_ok(), extreme == usize::MAX, "{result:?}");
    }
}

/// Heads made of fragments that mean something, in orders that mostly do not.
#[test]
fn the_scan_is_never_laxer_than_httparse_and_no_split_changes_a_result() {
    const FRAGMENTS: &[u8] = b"GET |POST |CONNECT |OPTIONS |/|*|/a?b=%20|http://h/p|http://|\
         HTTP/1.1\r\n| HTTP/1.1\r\n| HTTP/1.0\r\n| HTTP/1.|Host: h\r\n|Host:|Content-Length: 5\r\n|\
        Content-Length: |Transfer-Encoding: chunked\r\n|Transfer-Encoding:|chunked|\
        Connection: close\r\n|Expect: 100-continue\r\n|X-A: b\r\n|x|:| |\t|\r|\n|\r\n|\r\n\r\n|\
        \0|\x0b|\x7f|\x80|\xff|\"|@|#|5|[::1]:80";
    let fragments: Vec<&[u8]> = FRAGMENTS.split(|&byte| byte == b'|').collect();
    let mut rng = Rng(1);
    let mut done = 0;
    for _ in 0..20_000 {
        let mut input = match rng.below(4) {
            0 => Vec::new(),
            1 => b"GET / HTTP/1.1\r\n".to_vec(),
            _ => b"POST /p HTTP/1.1\r\nHost: h\r\n".to_vec(),
        };
        for _ in 0..rng.below(6) {
            input.extend_from_slice(rng.pick(&fragments));
        }
        if rng.below(2) == 0 {
            input.extend_from_slice(b"\r\n");
        }
        let whole = feed(&[&input], &HeadLimits::default());
        assert_ne!(
            whole,
            Err(HeadError::Disagreement),
            "{}",
            input.escape_ascii()
        );
        let at = rng.below(input.len() + 1);
        let split = feed(&[&input[..at], &input[at..]], &HeadLimits::default());
        assert_eq!(split, whole, "{} at {at}", input.escape_ascii());
        done += usize::from(matches!(whole, Ok(Some(_))));
    }
    assert!(done > 1000, "the generator makes whole heads, too: {done}");
}
