//! Server-sent events (HTML standard, section 9.2), read line by line.

use std::io::{self, BufRead, BufReader, Read};

/// Bytes of one line, at most: an entry of a log is 64 KiB before base64.
const LINE_MAX: u64 = 4 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its name; `message` where none was given.
    pub name: String,
    /// Its id, if it brought one.
    pub id: Option<String>,
    /// Its data; empty where only a place is told.
    pub data: String,
}

/// The events of a stream, in order. Ends without a word where the stream does; a stream that
/// breaks off gives an error first.
#[derive(Debug)]
pub(crate) struct Events<R> {
    lines: BufReader<R>,
}

impl<R: Read> Events<R> {
    /// The events that `body` holds.
    pub(crate) fn new(body: R) -> Self {
        Self {
            lines: BufReader::new(body),
        }
    }

    /// None at the end.
    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        (&mut self.lines)
            .take(LINE_MAX)
            .read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        if line.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }

    fn event(&mut self) -> io::Result<Option<Event>> {
        let mut event = Event::default();
        let mut has_data = false;
        while let Some(line) = self.line()? {
            if line.is_empty() {
                // An id alone is a place to come back to.
                if has_data || event.id.is_some() {
                    return Ok(Some(event));
                }
                event = Event::default();
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut event.name),
                "id" => event.id = Some(value.to_owned()),
                "data" => {
                    if std::mem::replace(&mut has_data, true) {
                        event.data.push('\n');
                    }
                    event.data.push_str(value);
                }
                // Comments keep a connection alive.
                _ => {}
            }
        }
        Ok(None)
    }
}

impl<R: Read> Iterator for Events<R> {
    type Item = io::Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut event = self.event().transpose()?;
        if let Ok(event) = &mut event
            && event.name.is_empty()
        {
            "message".clone_into(&mut event.name);
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_the_standard_says_and_so_is_a_place_without_one() {
        let text = ": hello\n\nevent: log\r\nid: 7\ndata: a\ndata:b\n\nid: 8\n\ndata\n\ndata: cut";
        let mut events = Events::new(text.as_bytes());
        let first = events.next().unwrap().unwrap();
        assert_eq!((&*first.name, &*first.data), ("log", "a\nb"));
        assert_eq!(first.id.as_deref(), Some("7"));
        let place = events.next().unwrap().unwrap();
        assert_eq!((&*place.data, place.id.as_deref()), ("", Some("8")));
        let second = events.next().unwrap().unwrap();
        assert_eq!(
            (&*second.name, &*second.data, second.id),
            ("message", "", None)
        );
        assert!(events.next().unwrap().is_err(), "a line that breaks off");
    }
}
