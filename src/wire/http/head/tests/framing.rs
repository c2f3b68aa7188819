//! Where the body ends, and whether the connection goes on.

use super::*;

#[test]
fn content_length_is_one_run_of_digits() {
    for (value, body) in [
        ("0", BodyFraming::Empty),
        ("000", BodyFraming::Empty),
        ("5", BodyFraming::Length(5)),
        ("  5\t ", BodyFraming::Length(5)),
        ("0005", BodyFraming::Length(5)),
        ("18446744073709551615", BodyFraming::Length(u64::MAX)),
    ] {
        let read = accepted(&with_fields(format!("Content-Length:{value}").as_bytes()));
        assert_eq!(read.body, body, "{value}");
        assert!(!read.close);
    }
    for value in [
        "",
        " ",
        "+5",
        "-5",
        "5,5",
        "5, 5",
        "5 5",
        "0x5",
        "5.0",
        "5e0",
        "5;",
        "\"5\"",
        "five",
        "\u{665}",
        "18446744073709551616",
        "99999999999999999999999999",
    ] {
        let input = with_fields(format!("Content-Length: {value}").as_bytes());
        assert_eq!(
            every_way(&input),
            Err(HeadError::LengthMalformed),
            "{value}"
        );
    }
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\ncontent-length: 5",
        "Content-Length: 5\r\nContent-Length:",
    ] {
        let input = with_fields(fields.as_bytes());
        assert_eq!(
            every_way(&input),
            Err(HeadError::LengthRepeated),
            "{fields}"
        );
    }
}

#[test]
fn the_only_transfer_coding_is_chunked() {
    for fields in [
        "Transfer-Encoding: chunked",
        "transfer-ENCODING:ChUnKeD",
        "Transfer-Encoding: \t chunked \t",
    ] {
        let read = accepted(&with_fields(fields.as_bytes()));
        assert_eq!((read.body, read.close), (BodyFraming::Chunked, false));
    }
    for value in [
        "",
        "xchunked",
        "chunkedx",
        "chunke",
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, identity",
        "identity, chunked",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "chunked;q=1",
        "\"chunked\"",
        "'chunked'",
        "ch\u{fc}nked",
        "x: chunked",
    ] {
        let input = with_fields(format!("Transfer-Encoding: {value}").as_bytes());
        assert_eq!(every_way(&input), Err(HeadError::Coding), "{value}");
    }
    let input = with_fields(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked");
    assert_eq!(every_way(&input), Err(HeadError::CodingRepeated));
    let input = with_fields(b"Transfer-Encoding: chunked\r\nTransfer-encoding: identity");
    assert_eq!(every_way(&input), Err(HeadError::CodingRepeated));
    let input = b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(every_way(input), Err(HeadError::Coding));
}

#[test]
fn hidden_transfer_codings_are_refused_by_their_bytes() {
    for (fields, error) in [
        (
            &b"Transfer-Encoding : chunked"[..],
            HeadError::SpaceBeforeColon,
        ),
        (b"Transfer-Encoding\t: chunked", HeadError::SpaceBeforeColon),
        (b" Transfer-Encoding: chunked", HeadError::Folded),
        (b"X: y\n Transfer-Encoding: chunked", HeadError::BareLf),
        (b"X: y\nTransfer-Encoding: chunked", HeadError::BareLf),
        (b"X: y\rTransfer-Encoding: chunked", HeadError::BareCr),
        (b"X: y\r\n\r Transfer-Encoding: chunked", HeadError::BareCr),
        (b"Transfer-Encoding\r\n : chunked", HeadError::NameByte),
        (b"Transfer-Encoding:\r\n chunked", HeadError::Folded),
        (b"Transfer-Encoding:\n chunked", HeadError::BareLf),
        (b"Transfer-Encoding: chunked\x0b", HeadError::ValueByte),
        (b"Transfer-Encoding:\x0bchunked", HeadError::ValueByte),
        (b"Transfer-Encoding: \x00chunked", HeadError::ValueByte),
        (b"Transfer-Encoding: chunked\x1f", HeadError::ValueByte),
        (b"Transfer-Encoding\xa0: chunked", HeadError::NameByte),
        (
            b"\xef\xbb\xbfTransfer-Encoding: chunked",
            HeadError::NameByte,
        ),
        (b"Transfer-Encoding\x00: chunked", HeadError::NameByte),
        (b"Transfer-Encoding;: chunked", HeadError::NameByte),
        (b"\"Transfer-Encoding\": chunked", HeadError::NameByte),
    ] {
        let input = with_fields(&[b"Content-Length: 4\r\n", fields].concat());
        assert_eq!(every_way(&input), Err(error), "{}", fields.escape_ascii());
    }
}

#[test]
fn chunked_beats_content_length_and_ends_the_connection() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
    ] {
        let read = accepted(&with_fields(fields.as_bytes()));
        assert_eq!((read.body, read.close), (BodyFraming::Chunked, true));
    }
    let input = with_fields(b"Transfer-Encoding: chunked\r\nContent-Length: x");
    assert_eq!(every_way(&input), Err(HeadError::LengthMalformed));
}

#[test]
fn the_connection_closes_where_the_client_or_its_version_says_so() {
    for (version, connection, close) in [
        ("1.1", "", false),
        ("1.1", "Connection: close\r\n", true),
        ("1.1", "Connection: CLOSE\r\n", true),
        ("1.1", "Connection: keep-alive , Close\r\n", true),
        (
            "1.1",
            "Connection: keep-alive\r\nConnection: close\r\n",
            true,
        ),
        ("1.1", "Connection: closed\r\n", false),
        ("1.1", "Connection: Upgrade\r\n", false),
        ("1.0", "", true),
        ("1.0", "Connection: Keep-Alive\r\n", false),
        ("1.0", "Connection: keep-alive, close\r\n", true),
        ("1.0", "Connection: x\r\n", true),
    ] {
        let input = format!("GET / HTTP/{version}\r\nHost: h\r\n{connection}\r\n");
        assert_eq!(
            accepted(input.as_bytes()).close,
            close,
            "{version} {connection}"
        );
    }
}

#[test]
fn continue_is_expected_only_with_a_body_and_http_1_1() {
    for (version, fields, expects) in [
        ("1.1", "Expect: 100-Continue\r\nContent-Length: 1\r\n", true),
        (
            "1.1",
            "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n",
            true,
        ),
        (
            "1.1",
            "Expect: 100-continue\r\nContent-Length: 0\r\n",
            false,
        ),
        ("1.1", "Expect: 100-continue\r\n", false),
        ("1.1", "Expect: x\r\nContent-Length: 1\r\n", false),
        ("1.1", "Content-Length: 1\r\n", false),
        (
            "1.0",
            "Expect: 100-continue\r\nContent-Length: 1\r\n",
            false,
        ),
    ] {
        let input = format!("POST / HTTP/{version}\r\nHost: h\r\n{fields}\r\n");
        assert_eq!(
            accepted(input.as_bytes()).expects_continue,
            expects,
            "{fields}"
        );
    }
}
