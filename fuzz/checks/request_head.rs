//! Heads: no split changes the result, httparse agrees, and no reader that is laxer
//! than we are finds another body length in a head that we accept.

use procring::wire::Parsed;
use procring::wire::http::{BodyFraming, Head, HeadError, HeadLimits, HeadScan, parse_head};

use super::split_point;

/// Small, so that inputs of a few hundred bytes reach them.
const LIMITS: HeadLimits = HeadLimits {
    target_bytes_max: 128,
    head_bytes_max: 512,
    header_lines_max: 8,
};

type Outcome = Result<Option<(String, usize)>, HeadError>;

/// Checks one input.
pub fn request_head(data: &[u8]) {
    let whole = feed(data, &[data.len()]);
    assert_eq!(feed(data, &[split_point(data), data.len()]), whole);
    assert_eq!(feed(data, &(0..=data.len()).collect::<Vec<_>>()), whole);
    assert_ne!(whole, Err(HeadError::Disagreement));

    let mut storage = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut storage);
    match request.parse(data) {
        Ok(httparse::Status::Complete(used)) => match whole {
            Ok(Some((_, ours))) => assert_eq!(ours, used),
            Ok(None) => panic!("waits for more of a complete head"),
            Err(_) => {}
        },
        Ok(httparse::Status::Partial) => assert!(!matches!(whole, Ok(Some(_)))),
        Err(_) => assert!(whole.is_err()),
    }
    if let Ok(Parsed::Done { value, used }) = parse_head(data, &mut HeadScan::default(), &LIMITS) {
        check_framing(&value, &data[..used]);
    }
}

/// The outcome when the input ends first at `ends[0]`, then at `ends[1]`, and so on.
fn feed(data: &[u8], ends: &[usize]) -> Outcome {
    let mut scan = HeadScan::default();
    for &end in ends {
        if let Parsed::Done { value, used } = parse_head(&data[..end], &mut scan, &LIMITS)? {
            return Ok(Some((format!("{value:?}"), used)));
        }
    }
    Ok(None)
}

/// A careless reader: any CR or LF ends a line, blanks around a name do not matter,
/// and fields are told by what their names hold.
fn check_framing(head: &Head<'_>, bytes: &[u8]) {
    let mut lengths = Vec::new();
    let mut codings = 0;
    let mut hosts = 0;
    for line in bytes.split(|byte| matches!(byte, b'\r' | b'\n')) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts.next().unwrap_or_default().trim_ascii();
        let value = parts.next().unwrap_or_default().trim_ascii();
        match name.to_ascii_lowercase().as_slice() {
            b"content-length" => lengths.push(value),
            b"transfer-encoding" => codings += 1,
            b"host" => hosts += 1,
            _ => {}
        }
    }
    assert!(codings <= 1 && lengths.len() <= 1 && hosts <= 1);
    match head.body() {
        BodyFraming::Chunked => {
            assert_eq!((codings, head.http_minor()), (1, 1));
            assert!(lengths.is_empty() || head.close());
        }
        BodyFraming::Length(length) => {
            let text = std::str::from_utf8(lengths[0]).expect("digits");
            assert_eq!((text.parse(), codings), (Ok(length), 0));
        }
        BodyFraming::Empty => {
            assert_eq!(codings, 0);
            assert!(
                lengths
                    .iter()
                    .all(|text| text.iter().all(|digit| *digit == b'0'))
            );
        }
    }
    assert!(head.http_minor() == 0 || (hosts == 1 && head.host().is_some()));
    assert!(
        head.target()
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#')
    );
}
