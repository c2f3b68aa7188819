//! Bodies that are read, bodies that are refused, and that the split never matters.

use super::*;
use crate::wire::testing::{Rng, for_each_split};

/// The decoded body and the bytes behind it; `None` where the body never ends.
type Decoded = Option<(Vec<u8>, Vec<u8>)>;

fn feed(parts: &[&[u8]], body_bytes_max: u64) -> Result<Decoded, ChunkError> {
    let mut decoder = ChunkDecoder::new(body_bytes_max);
    let mut out = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let before = out.len();
        let progress = decoder.decode(part, &mut out)?;
        assert!(out.len() - before <= part.len());
        assert!(out.len() as u64 <= body_bytes_max);
        if progress.done {
            let mut behind = part[progress.used..].to_vec();
            behind.extend(parts[index + 1..].concat());
            let more = decoder.decode(b"0\r\n\r\n", &mut out);
            assert_eq!(
                more,
                Ok(Progress {
                    used: 0,
                    done: true
                })
            );
            return Ok(Some((out, behind)));
        }
        assert_eq!(progress.used, part.len());
    }
    Ok(None)
}

fn every_way_within(input: &[u8], body_bytes_max: u64) -> Result<Decoded, ChunkError> {
    let whole = feed(&[input], body_bytes_max);
    for_each_split(input, |parts| {
        assert_eq!(
            feed(parts, body_bytes_max),
            whole,
            "{}",
            input.escape_ascii()
        );
    });
    whole
}

fn every_way(input: &[u8]) -> Result<Decoded, ChunkError> {
    every_way_within(input, 1000)
}

fn body(text: &[u8], behind: &[u8]) -> Result<Decoded, ChunkError> {
    Ok(Some((text.to_vec(), behind.to_vec())))
}

#[test]
fn chunked_body_decodes_the_same_at_every_split() {
    for (input, text, behind) in [
        (&b"0\r\n\r\n"[..], &b""[..], &b""[..]),
        (b"3\r\nabc\r\n0\r\n\r\n", b"abc", b""),
        (b"3\r\nabc\r\n0\r\n\r\nGET /", b"abc", b"GET /"),
        (b"0003\r\nabc\r\n000\r\n\r\n", b"abc", b""),
        (
            b"1\r\na\r\nA\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
            b"a01234567890123456789",
            b"",
        ),
        (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n", b""),
        (
            b"1;a\r\nx\r\n2;a=b;c=\"d;\t\"\r\nyz\r\n0;e\r\n\r\n",
            b"xyz",
            b"",
        ),
        (
            b"1;a=\"\\\"\xe9;\\\\\";b\r\nx\r\n0;a=\"\"\r\n\r\n",
            b"x",
            b"",
        ),
        (b"1\r\nx\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\nZ", b"x", b"Z"),
        (
            b"1\r\nx\r\n0\r\nContent-Length: 5\r\nHost: a\r\n\r\n",
            b"x",
            b"",
        ),
    ] {
        assert_eq!(
            every_way(input),
            body(text, behind),
            "{}",
            input.escape_ascii()
        );
    }
}

#[test]
fn an_unfinished_body_waits_for_more() {
    let input = b"1;a=b\r\nx\r\n0\r\nX: y\r\n\r\n";
    for end in 0..input.len() {
        assert_eq!(every_way(&input[..end]), Ok(None));
    }
}

#[test]
fn wrong_framing_is_refused_at_its_first_byte() {
    for (input, error) in [
        (&b"\r\n"[..], ChunkError::SizeMissing),
        (b";a\r\n", ChunkError::SizeMissing),
        (b" 5\r\n", ChunkError::SizeMissing),
        (b"\t5\r\n", ChunkError::SizeMissing),
        (b"+5\r\n", ChunkError::SizeMissing),
        (b"-5\r\n", ChunkError::SizeMissing),
        (b"g\r\n", ChunkError::SizeMissing),
        (b"\n", ChunkError::BareLf),
        (b"0x5\r\n", ChunkError::SizeByte),
        (b"5 \r\n", ChunkError::SizeByte),
        (b"5\t\r\n", ChunkError::SizeByte),
        (b"5 ;a\r\n", ChunkError::SizeByte),
        (b"5_0\r\n", ChunkError::SizeByte),
        (b"5,\r\n", ChunkError::SizeByte),
        (b"5\0\r\n", ChunkError::SizeByte),
        (b"5\x0b\r\n", ChunkError::SizeByte),
        (b"5\n", ChunkError::BareLf),
        (b"5\rX", ChunkError::BareCr),
        (b"5\r\r\n", ChunkError::BareCr),
        (b"5;\n", ChunkError::BareLf),
        (b"5;a\nabcde", ChunkError::BareLf),
        (b"5;a\rb", ChunkError::BareCr),
        (b"5;\r\n", ChunkError::ExtensionByte),
        (b"5;;a\r\n", ChunkError::ExtensionByte),
        (b"5; a\r\n", ChunkError::ExtensionByte),
        (b"5;a \r\n", ChunkError::ExtensionByte),
        (b"5;a =b\r\n", ChunkError::ExtensionByte),
        (b"5;a= b\r\n", ChunkError::ExtensionByte),
        (b"5;=b\r\n", ChunkError::ExtensionByte),
        (b"5;a=\r\n", ChunkError::ExtensionByte),
        (b"5;a=;b\r\n", ChunkError::ExtensionByte),
        (b"5;a=b=c\r\n", ChunkError::ExtensionByte),
        (b"5;a=b\"c\"\r\n", ChunkError::ExtensionByte),
        (b"5;a=\"b\r\n", ChunkError::ExtensionByte),
        (b"5;a=\"b\\\r\n", ChunkError::ExtensionByte),
        (b"5;a=\"b\"c\r\n", ChunkError::ExtensionByte),
        (b"5;a=\"b\n\"\r\n", ChunkError::BareLf),
        (b"5;a=\"\0\"\r\n", ChunkError::ExtensionByte),
        (b"5;a\xe9\r\n", ChunkError::ExtensionByte),
        (b"5;a\0\r\n", ChunkError::ExtensionByte),
        (b"5;a\x7f\r\n", ChunkError::ExtensionByte),
        (b"10000000000000000\r\n", ChunkError::SizeOverflow),
        (b"00000000000000005\r\n", ChunkError::SizeOverflow),
        (b"1\r\nabc", ChunkError::DataUnterminated { found: b'b' }),
        (b"1\r\na\n", ChunkError::DataUnterminated { found: b'\n' }),
        (b"1\r\na\rb", ChunkError::DataUnterminated { found: b'b' }),
        (
            b"1\r\na0\r\n\r\n",
            ChunkError::DataUnterminated { found: b'0' },
        ),
        (b"1\r\na\r\n\r\n", ChunkError::SizeMissing),
        (b"0\r\n\n", ChunkError::BareLf),
        (b"0\r\n\rX", ChunkError::BareCr),
        (b"0\n\r\n", ChunkError::BareLf),
        (b"0\r\n X: y\r\n\r\n", ChunkError::TrailerByte),
        (b"0\r\nX : y\r\n\r\n", ChunkError::TrailerByte),
        (b"0\r\n: y\r\n\r\n", ChunkError::TrailerByte),
        (b"0\r\nX\r\n\r\n", ChunkError::TrailerByte),
        (b"0\r\nX: \0\r\n\r\n", ChunkError::TrailerByte),
        (b"0\r\nX: y\n\r\n", ChunkError::BareLf),
        (b"0\r\nX: y\rz", ChunkError::BareCr),
        (b"0\r\nX: y\r\n z\r\n\r\n", ChunkError::TrailerByte),
        (b"0\r\nGET / HTTP/1.1\r\n", ChunkError::TrailerByte),
    ] {
        assert_eq!(every_way(input), Err(error), "{}", input.escape_ascii());
        assert_eq!(error.status(), 400);
    }
}

#[test]
fn a_body_too_long_is_refused_when_its_size_is_announced() {
    assert_eq!(
        every_way_within(b"5\r\nabcde\r\n0\r\n\r\n", 5),
        body(b"abcde", b"")
    );
    assert_eq!(every_way_within(b"0\r\n\r\n", 0), body(b"", b""));
    for input in [
        &b"6\r"[..],
        b"6;",
        b"3\r\nabc\r\n3\r",
        b"ffffffffffffffff\r",
    ] {
        assert_eq!(every_way_within(input, 5), Err(ChunkError::BodyTooLong));
    }
    assert_eq!(ChunkError::BodyTooLong.status(), 413);
}

#[test]
fn sizes_of_64_bits_do_not_wrap_around() {
    let input = b"ffffffffffffffff\r\nab";
    assert_eq!(every_way_within(input, u64::MAX), Ok(None));
    let input = b"1\r\na\r\nffffffffffffffff\r\nab";
    assert_eq!(
        every_way_within(input, u64::MAX),
        Err(ChunkError::BodyTooLong)
    );
}

#[test]
fn extensions_are_bounded_over_the_whole_body() {
    let chunk = |extension: usize| format!("1;{}\r\nx\r\n", "e".repeat(extension - 1));
    let within = format!("{}{}0\r\n\r\n", chunk(EXTENSION_BYTES_MAX - 2), chunk(2));
    assert_eq!(feed(&[within.as_bytes()], 10), body(b"xx", b""));
    let beyond = format!("{}1;e", chunk(EXTENSION_BYTES_MAX - 1));
    assert_eq!(
        feed(&[beyond.as_bytes()], 10),
        Err(ChunkError::ExtensionsTooLong)
    );
}

#[test]
fn trailers_are_bounded() {
    let trailers = |bytes: usize| {
        format!(
            "0\r\n{}X:{}\r\n",
            "Y: z\r\n".repeat(10),
            "z".repeat(bytes - 64)
        )
    };
    let within = format!("{}\r\n", trailers(TRAILER_BYTES_MAX));
    assert_eq!(feed(&[within.as_bytes()], 10), body(b"", b""));
    let beyond = trailers(TRAILER_BYTES_MAX + 1);
    assert_eq!(
        feed(&[beyond.as_bytes()], 10),
        Err(ChunkError::TrailersTooLong)
    );
}

#[test]
fn what_chunk_head_writes_is_decoded_back() {
    let mut rng = Rng(2);
    for _ in 0..200 {
        let text: Vec<u8> = (0..rng.below(5000)).map(|_| rng.next() as u8).collect();
        let mut input = Vec::new();
        let mut rest = &text[..];
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(1 + rng.below(rest.len()));
            let mut head = [0; 18];
            let len = chunk_head(chunk.len(), &mut head);
            input.extend_from_slice(&head[..len]);
            input.extend_from_slice(chunk);
            input.extend_from_slice(CHUNK_END);
            rest = behind;
        }
        input.extend_from_slice(LAST_CHUNK);
        let at = rng.below(input.len());
        assert_eq!(feed(&[&input[..at], &input[at..]], 5000), body(&text, b""));
    }
}

#[test]
fn chunk_heads_are_lower_case_hexadecimal_at_every_size() {
    let mut sizes = vec![1, 9, 10, 15, usize::MAX];
    for bits in 4..usize::BITS {
        sizes.extend([(1 << bits) - 1, 1 << bits, (1 << bits) + 1]);
    }
    for size in sizes {
        let mut head = [0; 18];
        let len = chunk_head(size, &mut head);
        assert_eq!(&head[..len], format!("{size:x}\r\n").as_bytes());
    }
}

#[test]
fn another_decoder_is_led_to_any_place_and_goes_on_from_there() {
    let body =
        b"00003;a;b=c;d=\"e\\\"f\";g=\"\"\r\nabc\r\n0a\r\n0123456789\r\n0\r\nx: y\r\nz:\r\n\r\nGET";
    let whole = b"abc0123456789";
    for cut in 0..=body.len() - 3 {
        let mut first = ChunkDecoder::new(u64::MAX);
        let mut out = Vec::new();
        let progress = first.decode(&body[..cut], &mut out).unwrap();
        if progress.done {
            assert_eq!(cut, body.len() - 3);
            continue;
        }
        let (way, made_up) = first.way();
        let mut second = ChunkDecoder::new(u64::MAX);
        let mut more = Vec::new();
        let led = second.decode(&way, &mut more).unwrap();
        assert_eq!((led.used, led.done), (way.len(), false), "cut at {cut}");
        assert_eq!(more.len() as u64, made_up, "cut at {cut}");
        more.clear();
        let progress = second.decode(&body[cut..], &mut more).unwrap();
        assert!(progress.done, "cut at {cut}");
        assert_eq!(progress.used, body.len() - 3 - cut);
        out.extend(more);
        assert_eq!(out, whole, "cut at {cut}");
    }
}
