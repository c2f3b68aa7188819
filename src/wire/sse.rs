//! Server-sent events (WHATWG HTML, 9.2).
//!
//! In: name, id and data of an event. Out: its lines. Knows no log and no connection.

use super::decimal;

/// A comment: keeps a silent stream open, and readers skip it.
pub const KEEP_ALIVE: &[u8] = b":\n\n";

/// Appends an id without an event: who reads it comes back behind there, and sees nothing.
pub fn write_place(id: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"id: ");
    decimal::write(id, out);
    out.extend_from_slice(b"\n\n");
}

/// Appends one event: `event`, `id` where there is one, `data`, and a blank line.
///
/// Each line of `data` (ended by LF, CR or CR LF) becomes a `data` field; the reader
/// joins them with LF. `name` is one line: a CR or LF in it becomes a space.
pub fn write_event(name: &str, id: Option<u64>, data: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend(name.bytes().map(|byte| match byte {
        b'\r' | b'\n' => b' ',
        _ => byte,
    }));
    if let Some(id) = id {
        out.extend_from_slice(b"\nid: ");
        decimal::write(id, out);
    }
    let mut rest = data;
    loop {
        let end = rest.find(['\r', '\n']);
        let (line, behind) = rest.split_at(end.unwrap_or(rest.len()));
        out.extend_from_slice(b"\ndata: ");
        out.extend_from_slice(line.as_bytes());
        if end.is_none() {
            break;
        }
        rest = behind
            .strip_prefix("\r\n")
            .or_else(|| behind.get(1..))
            .unwrap_or("");
    }
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &str, id: Option<u64>, data: &str) -> String {
        let mut out = Vec::new();
        write_event(name, id, data, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn events_have_the_fields_of_the_reference() {
        assert_eq!(
            written("log", Some(7), "{\"a\":1}"),
            "event: log\nid: 7\ndata: {\"a\":1}\n\n"
        );
        assert_eq!(written("exit", None, "{}"), "event: exit\ndata: {}\n\n");
    }

    #[test]
    fn each_line_of_data_is_a_field_whatever_ends_it() {
        assert_eq!(
            written("e", None, "a\nb\r\nc\rd\n\ne"),
            "event: e\ndata: a\ndata: b\ndata: c\ndata: d\ndata: \ndata: e\n\n"
        );
        assert_eq!(written("e", None, ""), "event: e\ndata: \n\n");
        assert_eq!(written("e", None, "\n"), "event: e\ndata: \ndata: \n\n");
        assert_eq!(
            written("e", None, "\r\n\u{e9}"),
            "event: e\ndata: \ndata: \u{e9}\n\n"
        );
    }

    #[test]
    fn a_name_cannot_begin_another_field() {
        assert_eq!(
            written("a\ndata: x\r\rid: 1", None, "b"),
            "event: a data: x  id: 1\ndata: b\n\n"
        );
    }
}
