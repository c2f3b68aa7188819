//! Request heads (RFC 9112, 2 to 7).
//!
//! In: the front of a connection's bytes. Out: a [`Head`] that borrows them, with the
//! framing of the body that follows. Owns nothing. Knows no route and no policy.
//!
//! - `scan` refuses wrong bytes and lines as they come; only a head that passed it
//!   reaches `httparse`, which must agree.
//! - Whatever two readers could understand differently is refused, not repaired.

mod error;
#[cfg(test)]
mod tests;

use std::mem::MaybeUninit;

use super::authority::parse_authority;
pub use super::scan::HeadScan;
use crate::wire::Parsed;
pub use error::HeadError;

/// Upper bound of [`HeadLimits::header_lines_max`]; larger values behave as this one.
pub const HEADER_LINES_CEILING: usize = 128;

/// The request method (RFC 9110, 9). Names are case-sensitive: `get` is [`Method::Other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
    /// Any other token, `CONNECT` included.
    Other,
}

impl Method {
    /// As it stands in a request; other tokens have no word.
    pub fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Other => "other",
        }
    }
}

impl Method {
    fn of(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }
}

/// What one head may cost before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the request target; more is answered 414.
    pub target_bytes_max: usize,
    /// Bytes from the method to the blank line, both included; more is answered 431.
    pub head_bytes_max: usize,
    /// Field lines, at most [`HEADER_LINES_CEILING`]; more is answered 431.
    pub header_lines_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            target_bytes_max: 65_534,
            head_bytes_max: 131_072,
            header_lines_max: 100,
        }
    }
}

/// How the body behind a head is delimited (RFC 9112, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFraming {
    /// No body: neither field is present, or `Content-Length: 0`.
    Empty,
    /// This many bytes, at least one.
    Length(u64),
    /// Chunks; see `chunked::ChunkDecoder`.
    Chunked,
}

/// One complete request head.
#[derive(Debug, Clone)]
pub struct Head<'b> {
    method: Method,
    target: &'b str,
    http_minor: u8,
    host: Option<&'b str>,
    body: BodyFraming,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    headers: Vec<httparse::Header<'b>>,
}

impl<'b> Head<'b> {
    /// The method.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// Path and query as sent, without scheme and authority. `*` for the asterisk form
    /// of `OPTIONS`. Where an absolute form has no path, this is `/` or starts with
    /// `?` (`target::split_target` knows both). For `CONNECT` it is whatever was sent.
    #[must_use]
    pub fn target(&self) -> &'b str {
        self.target
    }

    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    #[must_use]
    pub fn http_minor(&self) -> u8 {
        self.http_minor
    }

    /// The value of the first field named `name` (any case), without the white space
    /// around it.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'b [u8]> {
        self.headers(name).next()
    }

    /// The values of all fields named `name` (any case), in order.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }

    /// How the body that follows is delimited.
    #[must_use]
    pub fn body(&self) -> BodyFraming {
        self.body
    }

    /// Must the connection be closed after the answer? True for `Connection: close`,
    /// for HTTP/1.0 without `Connection: keep-alive`, and for `Content-Length` together
    /// with `Transfer-Encoding` (RFC 9112, 6.1).
    #[must_use]
    pub fn close(&self) -> bool {
        self.close
    }

    /// Did the client say `Connection: keep-alive`, whatever becomes of it?
    #[must_use]
    pub fn asks_keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Does the client wait for `100 Continue` before it sends the body? Never true
    /// with HTTP/1.0 or without a body (RFC 9110, 10.1.1).
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// The well-formed authority of the request: that of an absolute-form target, else
    /// that of `Host` (RFC 9112, 3.2.2). `None` only for HTTP/1.0 without either.
    #[must_use]
    pub fn host(&self) -> Option<&'b str> {
        self.host
    }
}

/// Reads one request head from the front of `input` (RFC 9112, 2 to 6).
///
/// `NeedMore` leaves `input` unread; call again with the same bytes, more behind
/// them, and the same `scan`. `used` counts the bytes up to and including the blank
/// line, tolerated empty lines at the front included. After `Done`, `scan` is ready
/// for the head of the next request.
///
/// # Errors
/// [`HeadError`], at the first wrong byte or the first byte past a limit. Answer
/// [`HeadError::status`] and close.
pub fn parse_head<'b>(
    input: &'b [u8],
    scan: &mut HeadScan,
    limits: &HeadLimits,
) -> Result<Parsed<Head<'b>>, HeadError> {
    let limits = HeadLimits {
        header_lines_max: limits.header_lines_max.min(HEADER_LINES_CEILING),
        ..*limits
    };
    let Some(end) = scan.advance(input, &limits)? else {
        return Ok(Parsed::NeedMore);
    };
    let bytes = input
        .get(scan.start()..end)
        .ok_or(HeadError::Disagreement)?;
    let value = read_head(bytes)?;
    *scan = HeadScan::default();
    Ok(Parsed::Done { value, used: end })
}

/// Reads a complete head that passed the scan.
fn read_head(bytes: &[u8]) -> Result<Head<'_>, HeadError> {
    let mut storage = [const { MaybeUninit::uninit() }; HEADER_LINES_CEILING];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut storage) {
        Ok(httparse::Status::Complete(used)) if used == bytes.len() => {}
        _ => return Err(HeadError::Disagreement),
    }
    let (Some(method_name), Some(raw_target), Some(http_minor)) =
        (request.method, request.path, request.version)
    else {
        return Err(HeadError::Disagreement);
    };
    let method = Method::of(method_name);
    let fields = Fields::collect(request.headers)?;
    let (target, target_host) = read_target(raw_target, method_name)?;
    let host = match (fields.host, http_minor) {
        (Some(value), _) => Some(parse_authority(value).ok_or(HeadError::HostMalformed)?),
        (None, 0) => None,
        (None, _) => return Err(HeadError::HostMissing),
    };
    let (body, framing_doubt) = body_framing(&fields, http_minor)?;
    let persistent = fields.keep_alive || http_minor == 1;
    Ok(Head {
        method,
        target,
        http_minor,
        host: target_host.or(host),
        body,
        close: fields.close || framing_doubt || !persistent,
        keep_alive: fields.keep_alive,
        expects_continue: fields.expects_continue && http_minor == 1 && body != BodyFraming::Empty,
        headers: request.headers.to_vec(),
    })
}

/// The fields that decide about framing and connection.
#[derive(Default)]
struct Fields<'b> {
    host: Option<&'b [u8]>,
    content_length: Option<&'b [u8]>,
    transfer_encoding: Option<&'b [u8]>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl<'b> Fields<'b> {
    fn collect(headers: &[httparse::Header<'b>]) -> Result<Self, HeadError> {
        let mut fields = Self::default();
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("host") {
                if fields.host.replace(header.value).is_some() {
                    return Err(HeadError::HostRepeated);
                }
            } else if is("content-length") {
                if fields.content_length.replace(header.value).is_some() {
                    return Err(HeadError::LengthRepeated);
                }
            } else if is("transfer-encoding") {
                if fields.transfer_encoding.replace(header.value).is_some() {
                    return Err(HeadError::CodingRepeated);
                }
            } else if is("connection") {
                for option in list(header.value) {
                    fields.close |= option.eq_ignore_ascii_case(b"close");
                    fields.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            } else if is("expect") {
                fields.expects_continue |= header.value.eq_ignore_ascii_case(b"100-continue");
            }
        }
        Ok(fields)
    }
}

/// The elements of a comma-separated field value, without white space around them.
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Path and query, and the authority of an absolute form (RFC 9112, 3.2).
fn read_target<'b>(
    raw: &'b str,
    method_name: &str,
) -> Result<(&'b str, Option<&'b str>), HeadError> {
    if raw.starts_with('/') || method_name == "CONNECT" {
        return Ok((raw, None));
    }
    if raw == "*" && method_name == "OPTIONS" {
        return Ok((raw, None));
    }
    let (scheme, rest) = raw.split_once("://").ok_or(HeadError::TargetForm)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(HeadError::TargetForm);
    }
    let authority_len = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_len);
    let host = parse_authority(authority.as_bytes()).ok_or(HeadError::TargetForm)?;
    Ok((if path.is_empty() { "/" } else { path }, Some(host)))
}

/// The framing of the body, and whether it was stated twice (RFC 9112, 6.3).
fn body_framing(fields: &Fields<'_>, http_minor: u8) -> Result<(BodyFraming, bool), HeadError> {
    let length = fields.content_length.map(content_length).transpose()?;
    if let Some(coding) = fields.transfer_encoding {
        if http_minor == 0 || !coding.eq_ignore_ascii_case(b"chunked") {
            return Err(HeadError::Coding);
        }
        return Ok((BodyFraming::Chunked, length.is_some()));
    }
    Ok(match length {
        None | Some(0) => (BodyFraming::Empty, false),
        Some(length) => (BodyFraming::Length(length), false),
    })
}

/// `1*DIGIT`, no sign, no list.
fn content_length(value: &[u8]) -> Result<u64, HeadError> {
    if value.is_empty() {
        return Err(HeadError::LengthMalformed);
    }
    value.iter().try_fold(0_u64, |sum, byte| {
        let digit = match byte {
            b'0'..=b'9' => u64::from(byte - b'0'),
            _ => return Err(HeadError::LengthMalformed),
        };
        sum.checked_mul(10)
            .and_then(|sum| sum.checked_add(digit))
            .ok_or(HeadError::LengthMalformed)
    })
}
