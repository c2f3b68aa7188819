//! Response heads (RFC 9112, 4 and 5) and the `date` they carry.
//!
//! In: a status and fields. Out: bytes up to the blank line. Owns only the text of the
//! current second. Knows no clock: the caller says what time it is.
//!
//! Control bytes in anything a caller passes become spaces, CR, LF and NUL among them,
//! so no value can end the line it stands in and begin another field or another
//! response.

use std::time::{Duration, SystemTime};

use super::scan::is_value;
use crate::wire::decimal;

/// How the body of a response is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// `content-length` of this many bytes.
    Known(u64),
    /// `transfer-encoding: chunked`; only for HTTP/1.1 clients.
    Chunked,
    /// The end of the connection ends the body; `connection: close` is sent.
    UntilClose,
    /// Neither field: 1xx, 204 and 304 have no body (RFC 9110, 8.6).
    Absent,
}

/// One response head.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'a> {
    /// The status code, 100 to 999.
    pub status: u16,
    /// The value of `content-type`.
    pub content_type: Option<&'a str>,
    /// How the body is delimited.
    pub length: Length,
    /// Send `connection: close`.
    pub close: bool,
    /// Send `connection: keep-alive`, and how many seconds a connection may be idle, to a
    /// client that asked for it: one of HTTP/1.0 needs the first, and every other can
    /// close before the server does (RFC 2068, 19.7.1.1). `close` wins.
    pub keep_alive: Option<u64>,
    /// Further fields, names in lower case, in the order they are sent.
    pub headers: &'a [(&'a str, &'a str)],
}

impl ResponseHead<'_> {
    /// Appends the head to `out`, blank line included. `date` is an IMF-fixdate, as
    /// [`DateCache::at`] gives it; without one (`""`), no `date` is sent.
    pub fn write_to(&self, date: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        decimal::write(u64::from(self.status), out);
        out.push(b' ');
        out.extend_from_slice(reason(self.status).as_bytes());
        out.extend_from_slice(b"\r\n");
        if let Some(value) = self.content_type {
            write_field("content-type", value, out);
        }
        for (name, value) in self.headers {
            write_field(name, value, out);
        }
        match self.length {
            Length::Known(bytes) => {
                out.extend_from_slice(b"content-length: ");
                decimal::write(bytes, out);
                out.extend_from_slice(b"\r\n");
            }
            Length::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            Length::UntilClose | Length::Absent => {}
        }
        if self.close || self.length == Length::UntilClose {
            out.extend_from_slice(b"connection: close\r\n");
        } else if let Some(seconds) = self.keep_alive {
            out.extend_from_slice(b"connection: keep-alive\r\nkeep-alive: timeout=");
            decimal::write(seconds, out);
            out.extend_from_slice(b"\r\n");
        }
        if !date.is_empty() {
            write_field("date", date, out);
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn write_field(name: &str, value: &str, out: &mut Vec<u8>) {
    write_on_one_line(name, out);
    out.extend_from_slice(b": ");
    write_on_one_line(value, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends `text` with a space for every byte that no field value can hold (RFC 9110,
/// 5.5): all control bytes but HTAB.
fn write_on_one_line(text: &str, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(text.as_bytes());
    for byte in out.iter_mut().skip(start) {
        if !is_value(*byte) {
            *byte = b' ';
        }
    }
}

/// The reason phrase of `status` (RFC 9110, 15); empty for one that is not known here.
#[must_use]
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Payload Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        422 => "Unprocessable Entity",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}

/// The interim response that lets a client send its body (RFC 9110, 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// 9999-12-31 23:59:59, the last second that the date format can say.
const SECOND_MAX: u64 = 253_402_300_799;

/// The text of `date`, made anew only when the second changes.
#[derive(Debug, Clone, Default)]
pub struct DateCache {
    second: u64,
    text: String,
}

impl DateCache {
    /// The IMF-fixdate (RFC 9110, 5.6.7) of `unix_seconds`, such as
    /// `Sun, 06 Nov 1994 08:49:37 GMT`. Times after the year 9999 stay at its end.
    pub fn at(&mut self, unix_seconds: u64) -> &str {
        let second = unix_seconds.min(SECOND_MAX);
        if second != self.second || self.text.is_empty() {
            self.second = second;
            self.text =
                httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn written(head: &ResponseHead<'_>, date: &str) -> String {
        let mut out = b"before".to_vec();
        head.write_to(date, &mut out);
        let text = String::from_utf8(out).unwrap();
        text.strip_prefix("before").unwrap().to_owned()
    }

    const OK: ResponseHead<'_> = ResponseHead {
        status: 200,
        content_type: None,
        length: Length::Known(0),
        close: false,
        keep_alive: None,
        headers: &[],
    };

    #[test]
    fn fields_come_in_the_order_of_the_reference() {
        let head = ResponseHead {
            status: 404,
            content_type: Some("application/problem+json"),
            length: Length::Known(113),
            close: true,
            headers: &[("vary", "origin"), ("allow", "GET,HEAD")],
            ..OK
        };
        assert_eq!(
            written(&head, DATE),
            "HTTP/1.1 404 Not Found\r\ncontent-type: application/problem+json\r\n\
             vary: origin\r\nallow: GET,HEAD\r\ncontent-length: 113\r\nconnection: close\r\n\
             date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
        );
    }

    #[test]
    fn the_length_decides_which_fields_are_sent() {
        for (length, close, keep_alive, fields) in [
            (Length::Known(0), false, None, "content-length: 0\r\n"),
            (
                Length::Known(u64::MAX),
                false,
                Some(120),
                "content-length: 18446744073709551615\r\nconnection: keep-alive\r\n\
                 keep-alive: timeout=120\r\n",
            ),
            (
                Length::Known(1),
                true,
                Some(120),
                "content-length: 1\r\nconnection: close\r\n",
            ),
            (
                Length::Chunked,
                false,
                None,
                "transfer-encoding: chunked\r\n",
            ),
            (Length::UntilClose, false, Some(1), "connection: close\r\n"),
            (Length::Absent, false, None, ""),
            (Length::Absent, true, None, "connection: close\r\n"),
        ] {
            let head = ResponseHead {
                length,
                close,
                keep_alive,
                ..OK
            };
            assert_eq!(
                written(&head, ""),
                format!("HTTP/1.1 200 OK\r\n{fields}\r\n")
            );
        }
    }

    #[test]
    fn no_value_can_split_the_response() {
        let evil = "a\r\nset-cookie: x\r\n\r\nHTTP/1.1 200 OK\n\0\u{1b}\u{7f}\r";
        let head = ResponseHead {
            content_type: Some(evil),
            headers: &[("x", evil), (evil, "y")],
            ..OK
        };
        let text = written(&head, evil);
        assert_eq!(text.matches("\r\n").count(), 7, "{text}");
        assert_eq!(text.matches(['\r', '\n']).count(), 14, "{text}");
        assert!(text.ends_with("\r\n\r\n") && !text.contains(['\0', '\u{1b}', '\u{7f}']));
    }

    #[test]
    fn values_keep_tabs_and_text_outside_ascii() {
        let head = ResponseHead {
            headers: &[("x", "a\tb \u{e9}")],
            ..OK
        };
        assert!(written(&head, "").contains("\r\nx: a\tb \u{e9}\r\n"));
    }

    #[test]
    fn an_unknown_status_has_an_empty_reason() {
        let head = ResponseHead { status: 299, ..OK };
        assert!(written(&head, "").starts_with("HTTP/1.1 299 \r\n"));
    }

    #[test]
    fn dates_are_imf_fixdates_and_follow_the_second() {
        let mut cache = DateCache::default();
        assert_eq!(cache.at(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(cache.at(784_111_777), DATE);
        assert_eq!(cache.at(784_111_777), DATE);
        assert_eq!(cache.at(784_111_778), "Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(cache.at(784_111_777), DATE);
        assert_eq!(cache.at(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(cache.at(SECOND_MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(cache.at(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
