//! Is this a well-formed authority (RFC 3986, 3.2; RFC 9110, 7.2)?
//!
//! In: the value of `Host`, or the authority of an absolute-form target. Out: the
//! same text, or nothing. Knows no name, no policy: which hosts may talk to the server
//! is decided in `api`.

use std::net::Ipv6Addr;

/// `input` as text if it is `host [":" port]` and nothing else.
///
/// The host is a non-empty registered name or IPv4 address in the grammar of RFC 3986,
/// or an IPv6 address in brackets. The port may be empty, as the grammar says, and is
/// at most 65535. User information (`user@`), zone ids and `IPvFuture` are refused.
#[must_use]
pub(crate) fn parse_authority(input: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(input).ok()?;
    let port = if let Some(rest) = text.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        address.parse::<Ipv6Addr>().ok()?;
        match after.strip_prefix(':') {
            Some(port) => port,
            None if after.is_empty() => "",
            None => return None,
        }
    } else {
        let (name, port) = text.split_once(':').unwrap_or((text, ""));
        if name.is_empty() || !is_reg_name(name.as_bytes()) {
            return None;
        }
        port
    };
    let port_fits = port.is_empty()
        || (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok());
    port_fits.then_some(text)
}

/// `*( unreserved / pct-encoded / sub-delims )`; an IPv4 address is one of these, too.
fn is_reg_name(name: &[u8]) -> bool {
    let mut rest = name;
    loop {
        rest = match rest {
            [] => return true,
            [b'%', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                after
            }
            [byte, after @ ..]
                if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte) =>
            {
                after
            }
            _ => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_authorities_are_taken_as_they_are() {
        for text in [
            "localhost",
            "LocalHost:2468",
            "127.0.0.1:80",
            "a.example.",
            "x_y-z~1",
            "%41b",
            "h:",
            "h:65535",
            "h:00080",
            "[::1]",
            "[::1]:2468",
            "[::ffff:1.2.3.4]:",
        ] {
            assert_eq!(parse_authority(text.as_bytes()), Some(text));
        }
    }

    #[test]
    fn malformed_authorities_are_refused() {
        let refused: [&[u8]; 28] = [
            b"",
            b":80",
            b"h:65536",
            b"h:8o",
            b"h:+80",
            b"h:-1",
            b"h: 80",
            b"h:80:80",
            b"a b",
            b"a/b",
            b"a?b",
            b"a#b",
            b"a\\b",
            b"user@h",
            b"@h",
            b"%4",
            b"%zz",
            b"%",
            b"[::1",
            b"::1",
            b"[]",
            b"[1.2.3.4]",
            b"[::1]80",
            b"[fe80::1%eth0]",
            b"[v1.x]",
            b"h\xc3\xa9",
            b"h\xff",
            b"h\0",
        ];
        for input in refused {
            assert_eq!(parse_authority(input), None, "{}", input.escape_ascii());
        }
    }
}
