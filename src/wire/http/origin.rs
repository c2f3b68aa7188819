//! Origins as browsers write them (WHATWG HTML, 7.1.1; RFC 6454, 6.2).
//!
//! In: an origin as a person writes it. Out: the text that an `Origin` header has, or why no
//! header ever has it. Knows no policy: who may do what is decided in `api`.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::authority::parse_authority;

/// Why no browser sends this as an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OriginError {
    /// There is no `scheme://` in front.
    SchemeMissing,
    /// Pages do not have this scheme: a WebSocket has the origin of the page that opened it.
    WebSocket,
    /// The origin of such pages is `null`.
    Opaque,
    /// The host is not ASCII: browsers write the `xn--` form.
    HostNotAscii,
    /// There are no patterns.
    Pattern,
    /// Host and port are not well-formed.
    Authority,
    /// There is something behind host and port.
    TooLong,
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SchemeMissing => "the scheme is missing; write https://HOST or http://HOST:PORT",
            Self::WebSocket => {
                "a WebSocket has the origin of its page; write http:// or https:// instead"
            }
            Self::Opaque => "pages of this scheme have the origin null",
            Self::HostNotAscii => "browsers write such a host in its xn-- form; do so, too",
            Self::Pattern => "there are no patterns; name each origin",
            Self::Authority => "host or port is malformed; write https://HOST or http://HOST:PORT",
            Self::TooLong => "an origin ends behind host and port",
        })
    }
}

impl std::error::Error for OriginError {}

/// What browsers send for the origin `text`: scheme and host in lower case, no default port, no
/// slash behind it, addresses in their shortest form.
///
/// # Errors
/// [`OriginError`] for what no browser sends in any spelling.
pub(crate) fn serialized(text: &str) -> Result<String, OriginError> {
    if text == "null" {
        return Ok(text.to_owned());
    }
    let (scheme, rest) = text.split_once("://").ok_or(OriginError::SchemeMissing)?;
    let scheme = scheme.to_ascii_lowercase();
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let default_port = match scheme.as_str() {
        _ if !is_scheme => return Err(OriginError::SchemeMissing),
        "ws" | "wss" => return Err(OriginError::WebSocket),
        "about" | "blob" | "data" | "file" => return Err(OriginError::Opaque),
        "http" => Some(80),
        "https" => Some(443),
        // Of extensions and applications, whose hosts are their own business.
        _ => None,
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#', '\\']) {
        return Err(OriginError::TooLong);
    }
    if !authority.is_ascii() {
        return Err(OriginError::HostNotAscii);
    }
    if authority.contains('*') {
        return Err(OriginError::Pattern);
    }
    let authority = parse_authority(authority.as_bytes()).ok_or(OriginError::Authority)?;
    if default_port.is_none() {
        return Ok(format!("{scheme}://{authority}"));
    }
    let host_end = authority.find(']').map_or(0, |end| end + 1);
    let port_at = authority[host_end..].find(':').map(|at| host_end + at);
    let (host, port) = authority.split_at(port_at.unwrap_or(authority.len()));
    let host = host_of_browsers(host).ok_or(OriginError::Authority)?;
    // Empty, or digits that fit: `parse_authority` has looked.
    let port = port.trim_start_matches(':').parse::<u16>().ok();
    Ok(match port.filter(|port| Some(*port) != default_port) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

/// A host as the URL standard serialises it (WHATWG URL, 3.5), if it is one there.
fn host_of_browsers(host: &str) -> Option<String> {
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        let address: Ipv6Addr = address.parse().ok()?;
        return Some(match (address.to_ipv4_mapped(), address.segments()) {
            // Never with dots.
            (Some(_), [.., high, low]) => format!("[::ffff:{high:x}:{low:x}]"),
            _ => format!("[{address}]"),
        });
    }
    let host = host.to_ascii_lowercase();
    let last = host.trim_end_matches('.').rsplit('.').next()?;
    let numeric = last.starts_with(|first: char| first.is_ascii_digit())
        && (last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x"));
    // A host whose last part is a number is an address, and those have one spelling.
    let address_fits = !numeric || host.parse::<Ipv4Addr>().is_ok();
    (address_fits && !host.contains('%')).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_become_what_browsers_send() {
        for (text, sent) in [
            ("http://a.example", "http://a.example"),
            ("http://a:1/", "http://a:1"),
            ("HTTP://B:80", "http://b"),
            ("https://B.Example:443/", "https://b.example"),
            ("https://b:80", "https://b:80"),
            ("http://b:", "http://b"),
            ("http://b:0080", "http://b"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[0:0::0:1]:3000", "http://[::1]:3000"),
            ("https://[::FFFF:1.2.3.4]:443", "https://[::ffff:102:304]"),
            (
                "http://xn--bcher-kva.example",
                "http://xn--bcher-kva.example",
            ),
            ("http://my_service:80", "http://my_service"),
            ("http://a.example.", "http://a.example."),
            ("http://1password.example", "http://1password.example"),
            ("Chrome-Extension://abcdef", "chrome-extension://abcdef"),
            ("tauri://localhost/", "tauri://localhost"),
            ("null", "null"),
        ] {
            assert_eq!(serialized(text).as_deref(), Ok(sent), "{text}");
            assert_eq!(serialized(sent).as_deref(), Ok(sent), "{sent}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_refused() {
        use OriginError::*;
        for (text, error) in [
            ("foo.example", SchemeMissing),
            ("foo.example:80", SchemeMissing),
            ("", SchemeMissing),
            ("://a", SchemeMissing),
            ("1http://a", SchemeMissing),
            ("http:/a", SchemeMissing),
            ("ws://a", WebSocket),
            ("WSS://a:1", WebSocket),
            ("file:///", Opaque),
            ("http://b\u{fc}cher.example", HostNotAscii),
            ("http://", Authority),
            ("http://a:99999", Authority),
            ("http://user@a", Authority),
            ("http://a b", Authority),
            ("http://*.a.example", Pattern),
            ("http://127.1", Authority),
            ("http://1.2.3.04", Authority),
            ("http://1.2.3.0x4", Authority),
            ("http://[::1", Authority),
            ("http://a%41", Authority),
            ("http://a/b", TooLong),
            ("http://a//", TooLong),
            ("http://a/?x", TooLong),
            ("http://a?x", TooLong),
        ] {
            assert_eq!(serialized(text), Err(error), "{text}");
        }
    }
}
