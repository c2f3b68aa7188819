//! Events: an independent reader gets back what was written.

use procring::wire::sse;

use super::{split_point, take_u64};

/// Checks one input: an id, then a name and data.
pub fn sse_writer(bytes: &[u8]) {
    let (number, rest) = take_u64(bytes);
    let id = (number % 3 != 0).then_some(number);
    let (name, data) = rest.split_at(split_point(rest));
    let name = String::from_utf8_lossy(name);
    let data = String::from_utf8_lossy(data);

    let mut out = Vec::new();
    sse::write_event(&name, id, &data, &mut out);
    out.extend_from_slice(sse::KEEP_ALIVE);
    sse::write_event("end", None, "", &mut out);

    let expected = Event {
        name: name.replace(['\r', '\n'], " "),
        id: id.map(|id| id.to_string()),
        data: data.replace("\r\n", "\n").replace('\r', "\n"),
    };
    let end = Event {
        name: "end".to_owned(),
        ..Event::default()
    };
    let text = std::str::from_utf8(&out).expect("text");
    assert_eq!(read_stream(text), [expected, end]);
}

#[derive(Debug, Default, PartialEq)]
struct Event {
    name: String,
    id: Option<String>,
    data: String,
}

/// The events of a stream, by the rules of WHATWG HTML, 9.2.6, except that an id is
/// that of its own event only, and an empty name stays empty.
fn read_stream(stream: &str) -> Vec<Event> {
    let mut events = Vec::new();
    let mut event = Event::default();
    let lines = stream.replace("\r\n", "\n").replace('\r', "\n");
    for line in lines.split_terminator('\n') {
        if line.is_empty() {
            if let Some(data) = event.data.strip_suffix('\n') {
                event.data = data.to_owned();
                events.push(std::mem::take(&mut event));
            }
            event = Event::default();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => event.name = value.to_owned(),
            "id" => event.id = Some(value.to_owned()),
            "data" => event.data += &format!("{value}\n"),
            _ => assert_eq!(field, "", "only comments beside the known fields"),
        }
    }
    events
}
