//! What a terminal's client sends: bytes, to WebSocket messages, to frames; the frames are those
//! that serde reads with an enum tagged by `type`.

use procring::api::body;
use procring::api::frame::{ClientFrame, client_frame};
use procring::wire::ws::message::{Event, Reader, ReaderLimits};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// The other opinion.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Tagged {
    Input {
        data: String,
        encoding: Option<String>,
    },
    Resize {
        #[serde(deserialize_with = "side")]
        cols: u16,
        #[serde(deserialize_with = "side")]
        rows: u16,
    },
    Close,
}

/// A number without a fraction, however it is written.
fn side<'de, D: Deserializer<'de>>(decoder: D) -> Result<u16, D::Error> {
    let value = f64::deserialize(decoder)?;
    let fits = value.fract() == 0.0 && (0.0..=65_535.0).contains(&value);
    fits.then_some(value as u16)
        .ok_or_else(|| D::Error::custom("not a side"))
}

/// Checks one input twice: as one frame's text, and as the bytes of a connection.
pub fn terminal_text(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        check(text);
        let whole = Event::Text(text.to_owned());
        assert_eq!(texts(&masked(text.as_bytes())), [whole]);
    }
    for event in texts(data) {
        if let Event::Text(text) = event {
            check(&text);
        }
    }
}

fn check(text: &str) {
    let ours = client_frame(text);
    let tagged = body::object_in::<Tagged>("the frame", text.as_bytes());
    match (&ours, tagged) {
        (Ok(frame), Ok(tagged)) => assert_eq!(*frame, plain(tagged)),
        (Err(problem), Err(_)) => {
            assert!(problem.detail().chars().count() < 1000);
            assert!(matches!(problem.reply().status, 400 | 422));
        }
        // A tree is made of ignored fields too: of numbers out of range, of half a surrogate pair.
        (Ok(_), Err(_)) => assert!(serde_json::from_str::<serde_json::Value>(text).is_err()),
        (Err(problem), Ok(tagged)) => panic!("{tagged:?} refused: {}", problem.detail()),
    }
}

fn plain(tagged: Tagged) -> ClientFrame {
    match tagged {
        Tagged::Input { data, encoding } => ClientFrame::Input { data, encoding },
        Tagged::Resize { cols, rows } => ClientFrame::Resize { cols, rows },
        Tagged::Close => ClientFrame::Close,
    }
}

/// One final text frame, masked.
fn masked(text: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    procring::wire::ws::frame::write_frame(
        procring::wire::ws::frame::Opcode::Text,
        text,
        &mut frame,
    );
    let head = frame.len() - text.len();
    let key = [0x1f, 0xa2, 0x00, 0xff];
    procring::wire::ws::mask::apply(&mut frame[head..], key, 0);
    frame[1] |= 0x80;
    frame.splice(head..head, key);
    frame
}

fn texts(mut bytes: &[u8]) -> Vec<Event> {
    let limits = ReaderLimits {
        frame_bytes_max: 4096,
        message_bytes_max: 4096,
    };
    let mut reader = Reader::new(limits);
    let mut events = Vec::new();
    while let Ok(Some(event)) = reader.next(&mut bytes) {
        events.push(event);
    }
    events
}
