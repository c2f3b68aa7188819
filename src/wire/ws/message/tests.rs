//! The promises of the reader, at every split and on random conversations.

use super::super::testing::{masked, random_bytes, random_key};
use super::*;
use crate::wire::testing::{Rng, for_each_split};

const LIMITS: ReaderLimits = ReaderLimits {
    frame_bytes_max: 1000,
    message_bytes_max: 2000,
};
const KEY: [u8; 4] = [0x11, 0x22, 0x83, 0xf4];

/// All events of `parts`, and the error that ended them, if any.
fn read(parts: &[&[u8]]) -> (Vec<Event>, Option<ProtocolError>) {
    let mut reader = Reader::new(LIMITS);
    let mut events = Vec::new();
    for part in parts {
        let mut input = *part;
        loop {
            match reader.next(&mut input) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
        assert!(input.is_empty(), "None promises that all was taken");
    }
    (events, None)
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    masked(first, KEY, payload)
}

fn text(text: &str) -> Event {
    Event::Text(text.to_owned())
}

#[test]
fn a_conversation_reads_the_same_at_every_split() {
    let long = vec![0x5a; 300];
    let wire = [
        frame(0x81, "grüße".as_bytes()),
        frame(0x01, b"\xe2\x82"),
        frame(0x89, b"now?"),
        frame(0x00, b"\xac and "),
        frame(0x8a, b""),
        frame(0x80, b"more"),
        frame(0x82, &long),
        frame(0x02, b""),
        frame(0x00, b""),
        frame(0x80, b""),
        frame(0x81, b""),
        frame(0x88, b"\x03\xe8bye"),
        b"whatever follows".to_vec(),
    ]
    .concat();
    let expected = vec![
        text("grüße"),
        Event::Ping(b"now?".to_vec()),
        Event::Pong(Vec::new()),
        text("€ and more"),
        Event::Binary(long),
        Event::Binary(Vec::new()),
        text(""),
        Event::Close(Some(CloseFrame {
            code: 1000,
            reason: "bye".to_owned(),
        })),
    ];
    for_each_split(&wire, |parts| {
        assert_eq!(read(parts), (expected.clone(), None));
    });
}

#[test]
fn every_violation_is_the_same_error_at_every_split() {
    use ProtocolError::*;
    let huge_head = |len: u64| {
        let mut head = vec![0x82, 0xff];
        head.extend_from_slice(&len.to_be_bytes());
        head
    };
    for (wire, error, code) in [
        (frame(0xc1, b"x"), ReservedBits, 1002),
        (frame(0x83, b"x"), ReservedOpcode { opcode: 3 }, 1002),
        (frame(0x8f, b""), ReservedOpcode { opcode: 15 }, 1002),
        (vec![0x81, 1, b'x'], Unmasked, 1002),
        (vec![0x82, 0xfe, 0, 125], LengthNotMinimal, 1002),
        (huge_head(1 << 63), LengthTopBit, 1002),
        (frame(0x09, b""), ControlFragmented, 1002),
        (frame(0x89, &[0; 126]), ControlTooLong, 1002),
        (frame(0x80, b"x"), ContinuationUnexpected, 1002),
        (
            [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
            ContinuationMissing,
            1002,
        ),
        (frame(0x88, b"\x03"), CloseTruncated, 1002),
        (frame(0x88, b"\x03\xed"), CloseCode { code: 1005 }, 1002),
        (frame(0x88, b"\x03\xe8\xff"), InvalidUtf8, 1007),
        (frame(0x81, b"\xff"), InvalidUtf8, 1007),
        (
            [frame(0x01, b"\xe2"), frame(0x80, b"")].concat(),
            InvalidUtf8,
            1007,
        ),
        (
            [huge_head((1 << 63) - 1), KEY.to_vec()].concat(),
            FrameTooLong,
            1009,
        ),
        (
            [frame(0x02, &[0; 1000]), frame(0x02, b"")].concat(),
            ContinuationMissing,
            1002,
        ),
    ] {
        for_each_split(&wire, |parts| {
            assert_eq!(read(parts), (Vec::new(), Some(error)));
        });
        assert_eq!(error.close_code(), code);
    }
}

#[test]
fn the_message_limit_counts_all_fragments() {
    let full = [frame(0x02, &[1; 1000]), frame(0x80, &[2; 1000])].concat();
    let (events, error) = read(&[&full]);
    assert_eq!(error, None);
    assert_eq!(events, [Event::Binary([[1; 1000], [2; 1000]].concat())]);

    // One byte more is refused by its head alone.
    let head = [
        frame(0x02, &[1; 1000]),
        frame(0x00, &[2; 1000]),
        vec![0x80, 0x81, 0, 0, 0, 0],
    ];
    assert_eq!(
        read(&[&head.concat()]).1,
        Some(ProtocolError::MessageTooLong)
    );
    assert_eq!(
        read(&[&frame(0x82, &[0; 1001])]).1,
        Some(ProtocolError::FrameTooLong)
    );
}

#[test]
fn an_announced_length_allocates_nothing() {
    let mut reader = Reader::new(ReaderLimits {
        frame_bytes_max: u64::MAX,
        message_bytes_max: u64::MAX,
    });
    let mut head = vec![0x82, 0xff];
    head.extend_from_slice(&(1u64 << 62).to_be_bytes());
    head.extend_from_slice(&KEY);
    head.extend_from_slice(&[0; 10]);
    assert_eq!(reader.next(&mut &head[..]), Ok(None));
    let message = reader.message.as_ref().unwrap();
    assert_eq!(message.bytes.len(), 10);
    assert!(message.bytes.capacity() < 100);
}

#[test]
fn nothing_is_kept_between_messages_and_messages_have_no_slack() {
    let mut reader = Reader::new(ReaderLimits {
        frame_bytes_max: 1 << 20,
        message_bytes_max: 1 << 20,
    });
    let wire = [frame(0x82, &vec![3; 100_000]), frame(0x89, b"ping")].concat();
    let mut got = Vec::new();
    for mut part in wire.chunks(777) {
        while let Some(event) = reader.next(&mut part).unwrap() {
            got.push(event);
        }
    }
    let [Event::Binary(bytes), Event::Ping(_)] = &got[..] else {
        panic!("{} events", got.len());
    };
    assert_eq!((bytes.len(), bytes.capacity()), (100_000, 100_000));
    assert!(reader.message.is_none());
    assert_eq!(reader.control.capacity(), 0);
}

#[test]
fn text_fails_at_the_byte_that_proves_it_wrong() {
    // Autobahn 6.4: U+110000 is hopeless at its second byte.
    let mut reader = Reader::new(LIMITS);
    let mut wire = frame(0x01, b"\xce\xba\xe1\xbd\xb9\xf4");
    wire.extend(frame(0x00, b"\x90\x80\x80"));
    let proof = wire.len() - 2;
    for at in 0..proof - 1 {
        assert_eq!(reader.next(&mut &wire[at..=at]), Ok(None));
    }
    let last = &wire[proof - 1..proof];
    assert_eq!(reader.next(&mut &last[..]), Err(ProtocolError::InvalidUtf8));
}

#[test]
fn a_failed_reader_stays_failed() {
    let mut reader = Reader::new(LIMITS);
    let error = Err(ProtocolError::ReservedBits);
    assert_eq!(reader.next(&mut &b"\xf1"[..]), error);
    assert_eq!(reader.next(&mut &frame(0x81, b"fine")[..]), error);
}

#[test]
fn random_messages_come_back_whole_whatever_their_fragments_and_cuts() {
    for seed in 0..300 {
        let mut rng = Rng(seed);
        let mut wire = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..rng.below(8) {
            let len = [0, 5, 125, 126, 900][rng.below(5)];
            let is_text = rng.below(2) == 0;
            let payload = if is_text {
                "aé€\u{1f600}"
                    .chars()
                    .cycle()
                    .take(len / 3)
                    .collect::<String>()
                    .into_bytes()
            } else {
                random_bytes(&mut rng, len)
            };
            let mut first = if is_text { 0x01 } else { 0x02 };
            let mut rest = &payload[..];
            loop {
                let (piece, tail) = rest.split_at(rng.below(rest.len() + 1));
                rest = tail;
                let last = rest.is_empty();
                let fin = if last { 0x80 } else { 0 };
                wire.extend(masked(first | fin, random_key(&mut rng), piece));
                first = 0;
                if last {
                    break;
                }
                if rng.below(3) == 0 {
                    let len = rng.below(126);
                    let ping = random_bytes(&mut rng, len);
                    wire.extend(masked(0x89, random_key(&mut rng), &ping));
                    expected.push(Event::Ping(ping));
                }
            }
            expected.push(if is_text {
                Event::Text(String::from_utf8(payload).unwrap())
            } else {
                Event::Binary(payload)
            });
        }
        let mut parts = Vec::new();
        let mut rest = &wire[..];
        while !rest.is_empty() {
            let (part, tail) = rest.split_at(1 + rng.below(rest.len().min(300)));
            parts.push(part);
            rest = tail;
        }
        assert_eq!(read(&parts), (expected, None), "seed {seed}");
    }
}
