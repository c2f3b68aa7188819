//! Field lines: their bytes, their ends, and `Host`.

use super::*;

#[test]
fn a_plain_request_is_read_whole() {
    let input = b"GET /v1/processes?owner=user HTTP/1.1\r\nHost: localhost:2468\r\nACCEPT:  \t*/* \t\r\nX-A: 1\r\nx-a: 2\r\nX-Empty:\r\n\r\nGET /next";
    let read = accepted(input);
    assert_eq!(read.method, Method::Get);
    assert_eq!(read.target, "/v1/processes?owner=user");
    assert_eq!(read.http_minor, 1);
    assert_eq!(read.host.as_deref(), Some("localhost:2468"));
    assert_eq!(read.body, BodyFraming::Empty);
    assert!(!read.close && !read.expects_continue);
    assert_eq!(read.used, input.len() - b"GET /next".len());

    let mut scan = HeadScan::default();
    let Ok(Parsed::Done { value: head, .. }) = parse_head(input, &mut scan, &HeadLimits::default())
    else {
        panic!("not done");
    };
    assert_eq!(head.header("accept"), Some(&b"*/*"[..]));
    assert_eq!(head.header("x-EMPTY"), Some(&b""[..]));
    assert_eq!(head.header("x"), None);
    assert_eq!(head.header("X-A"), Some(&b"1"[..]));
    assert_eq!(head.headers("x-A").collect::<Vec<_>>(), [b"1", b"2"]);
}

#[test]
fn lines_end_with_cr_lf_and_nothing_else() {
    let lines: [&[u8]; 4] = [b"GET / HTTP/1.1", b"Host: h", b"X: y", b""];
    for wrong in 0..lines.len() {
        for (ending, error) in [
            (&b"\n"[..], HeadError::BareLf),
            (b"\r", HeadError::BareCr),
            (b"\r\r\n", HeadError::BareCr),
            (b"\rX", HeadError::BareCr),
        ] {
            let mut input = Vec::new();
            for (index, line) in lines.iter().enumerate() {
                input.extend_from_slice(line);
                input.extend_from_slice(if index == wrong { ending } else { b"\r\n" });
            }
            // Behind the last line the next request would hide the missing byte.
            input.extend_from_slice(b"GET");
            assert_eq!(every_way(&input), Err(error), "{}", input.escape_ascii());
        }
    }
    assert_eq!(every_way(b"\nGET /"), Err(HeadError::BareLf));
    assert_eq!(every_way(b"\r\rGET /"), Err(HeadError::BareCr));
    assert_eq!(every_way(b"GET\n"), Err(HeadError::BareLf));
    assert_eq!(every_way(b"GET /\n"), Err(HeadError::BareLf));
    assert_eq!(every_way(b"GET / \n"), Err(HeadError::BareLf));
}

#[test]
fn wrong_field_lines_are_refused() {
    for (fields, error) in [
        (&b"X : y"[..], HeadError::SpaceBeforeColon),
        (b"X\t: y", HeadError::SpaceBeforeColon),
        (b"X y", HeadError::SpaceBeforeColon),
        (b": y", HeadError::NameByte),
        (b":", HeadError::NameByte),
        (b"X", HeadError::NameByte),
        (b"X(: y", HeadError::NameByte),
        (b"X\0: y", HeadError::NameByte),
        (b"X\xe9: y", HeadError::NameByte),
        (b"X\x0b: y", HeadError::NameByte),
        (b"\x0bX: y", HeadError::NameByte),
        (b"\0", HeadError::NameByte),
        (b" X: y", HeadError::Folded),
        (b"X: y\r\n z", HeadError::Folded),
        (b"X: y\r\n\tz", HeadError::Folded),
        (b"X: y\r\n ", HeadError::Folded),
        (b"X: a\0b", HeadError::ValueByte),
        (b"X: a\x0bb", HeadError::ValueByte),
        (b"X: a\x0cb", HeadError::ValueByte),
        (b"X: a\x7fb", HeadError::ValueByte),
        (b"X: a\x1b[0m", HeadError::ValueByte),
        (b"X:\x01", HeadError::ValueByte),
        (b"X: a\rb", HeadError::BareCr),
        (b"X: a\nb", HeadError::BareLf),
    ] {
        let input = with_fields(fields);
        assert_eq!(every_way(&input), Err(error), "{}", fields.escape_ascii());
        assert_eq!(error.status(), 400);
    }
}

#[test]
fn white_space_before_the_first_field_is_refused() {
    let input = b"GET / HTTP/1.1\r\n Host: h\r\n\r\n";
    assert_eq!(every_way(input), Err(HeadError::Folded));
}

#[test]
fn values_may_hold_tabs_and_bytes_above_ascii() {
    let read = accepted(&with_fields(b"X: a\tb \xc3\xa9\xff"));
    assert_eq!(read.headers[1].1, b"a\tb \xc3\xa9\xff");
}

#[test]
fn host_is_one_and_well_formed() {
    for (fields, error) in [
        ("", HeadError::HostMissing),
        ("X-Host: h\r\n", HeadError::HostMissing),
        ("Host: h\r\nHost: h\r\n", HeadError::HostRepeated),
        ("Host: h\r\nhOST: i\r\n", HeadError::HostRepeated),
        ("Host: h\r\nHost:\r\n", HeadError::HostRepeated),
        ("Host:\r\n", HeadError::HostMalformed),
        ("Host:  \t\r\n", HeadError::HostMalformed),
        ("Host: a b\r\n", HeadError::HostMalformed),
        ("Host: a, b\r\n", HeadError::HostMalformed),
        ("Host: a/b\r\n", HeadError::HostMalformed),
        ("Host: u@h\r\n", HeadError::HostMalformed),
        ("Host: http://h\r\n", HeadError::HostMalformed),
        ("Host: h:x\r\n", HeadError::HostMalformed),
        ("Host: [::1\r\n", HeadError::HostMalformed),
        ("Host: \u{e9}\r\n", HeadError::HostMalformed),
    ] {
        let input = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(every_way(input.as_bytes()), Err(error), "{fields}");
        let input = format!("GET / HTTP/1.0\r\n{fields}\r\n");
        if error == HeadError::HostMissing {
            assert_eq!(accepted(input.as_bytes()).host, None);
        } else {
            assert_eq!(every_way(input.as_bytes()), Err(error), "{fields}");
        }
    }
}
