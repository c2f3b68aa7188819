//! Response heads (RFC 9112, 4 and 5) and the `date` they carry.
//!
//! In: a status and fields. Out: bytes up to the blank line. Owns only the text of the
//! current second. Knows no clock: the caller says what time it is.
//!
//! CR, LF and NUL in anything a caller passes become a space, so no value can end the
//! line it stands in and begin another field or another response.

use std::time::{Duration, SystemTime};

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
    /// Send `connection: keep-alive`, which an HTTP/1.0 client that asked for it needs
    /// to see. `close` wins.
    pub keep_alive_http10: bool,
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
        } else if self.keep_alive_http10 {
            out.extend_from_slice(b"connection: keep-alive\r\n");
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

/// Appends `text` with CR, LF and NUL as spaces (RFC 9110, 5.5).
fn write_on_one_line(text: &str, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(text.as_bytes());
    for byte in out.iter_mut().skip(start) {
        if matches!(byte, b'\r' | b'\n' | 0) {
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
