//! The opening handshake, server side (RFC 6455, 4.2).
//!
//! In: the header values of a GET request that asks for an upgrade. Out: the
//! accept value and the subprotocol of the 101, or why there is none. Owns
//! nothing. Does not know who may connect (token, origin, host), nor HTTP.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use sha1::{Digest as _, Sha1};
use std::fmt;

/// Appended to the key before hashing (1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Keys are checked for their length, not for canonical base64: the four spare
/// bits of a 16-byte value may be set (RFC 4648, 3.5), as some clients do.
const KEY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The headers that decide an upgrade, as the client sent them.
///
/// Lists hold one item per header line, in order. A single-valued header that
/// is missing, or sent more than once, is `None`.
#[derive(Debug, Clone, Copy)]
pub struct UpgradeRequest<'a> {
    /// Values of all `Connection` lines.
    pub connection: &'a [&'a [u8]],
    /// Values of all `Upgrade` lines.
    pub upgrade: &'a [&'a [u8]],
    /// Value of `Sec-WebSocket-Version`.
    pub version: Option<&'a [u8]>,
    /// Value of `Sec-WebSocket-Key`.
    pub key: Option<&'a [u8]>,
    /// Values of all `Sec-WebSocket-Protocol` lines.
    pub protocols: &'a [&'a [u8]],
}

/// What the 101 answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// Value of `Sec-WebSocket-Accept`: base64 of a SHA-1, ASCII.
    pub accept: [u8; 28],
    /// Value of `Sec-WebSocket-Protocol`: the first one offered, an RFC 9110
    /// token. `None` if none was offered; the header is then left out.
    pub protocol: Option<String>,
}

/// Why a request is not upgraded. All answer 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeError {
    /// No `Connection` line lists `upgrade`.
    ConnectionMissing,
    /// No `Upgrade` line lists `websocket`.
    UpgradeMissing,
    /// `Sec-WebSocket-Version` is not exactly 13. The answer carries
    /// `sec-websocket-version: 13` (4.4).
    VersionUnsupported,
    /// There is no (single) `Sec-WebSocket-Key`.
    KeyMissing,
    /// The key is not base64 of 16 bytes.
    KeyInvalid,
    /// The first offered subprotocol is not a token, so it cannot be echoed.
    ProtocolInvalid,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConnectionMissing => "Connection header did not include 'upgrade'",
            Self::UpgradeMissing => "`Upgrade` header did not include 'websocket'",
            Self::VersionUnsupported => "`Sec-WebSocket-Version` header did not include '13'",
            Self::KeyMissing => "`Sec-WebSocket-Key` header missing",
            Self::KeyInvalid => "`Sec-WebSocket-Key` header is not base64 of 16 bytes",
            Self::ProtocolInvalid => "`Sec-WebSocket-Protocol` header is not a list of tokens",
        })
    }
}

impl std::error::Error for HandshakeError {}

/// Decides an upgrade (4.2.1) and makes the values of the 101 (4.2.2).
///
/// The caller has checked that the request is an HTTP/1.1 GET.
///
/// # Errors
/// The first [`HandshakeError`], in the order of its variants.
pub fn accept(request: &UpgradeRequest<'_>) -> Result<Accept, HandshakeError> {
    if !lists(request.connection, b"upgrade") {
        return Err(HandshakeError::ConnectionMissing);
    }
    if !lists(request.upgrade, b"websocket") {
        return Err(HandshakeError::UpgradeMissing);
    }
    if request.version.map(<[u8]>::trim_ascii) != Some(b"13") {
        return Err(HandshakeError::VersionUnsupported);
    }
    let key = request.key.ok_or(HandshakeError::KeyMissing)?.trim_ascii();
    if !is_key(key) {
        return Err(HandshakeError::KeyInvalid);
    }
    let protocol = match elements(request.protocols).next() {
        Some(first) => Some(token(first).ok_or(HandshakeError::ProtocolInvalid)?),
        None => None,
    };
    Ok(Accept {
        accept: accept_value(key),
        protocol: protocol.map(str::to_owned),
    })
}

/// The non-empty elements of a comma-separated list over several header lines
/// (RFC 9110, 5.6.1).
pub fn elements<'a>(lines: &[&'a [u8]]) -> impl Iterator<Item = &'a [u8]> {
    lines
        .iter()
        .flat_map(|line| line.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

fn lists(lines: &[&[u8]], wanted: &[u8]) -> bool {
    elements(lines).any(|element| element.eq_ignore_ascii_case(wanted))
}

/// `element` as text if it is a token (RFC 9110, 5.6.2).
fn token(element: &[u8]) -> Option<&str> {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if !element.iter().all(is_tchar) {
        return None;
    }
    std::str::from_utf8(element).ok()
}

fn is_key(key: &[u8]) -> bool {
    // What 24 characters can hold; a longer text does not fit and is an error.
    let mut decoded = [0; 18];
    KEY_BASE64.decode_slice(key, &mut decoded) == Ok(16)
}

/// What a server answers to `Sec-WebSocket-Key` (1.3).
pub fn accept_value(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut value = [0; 28];
    // 20 bytes are always 28 characters.
    let written = STANDARD.encode_slice(digest, &mut value);
    debug_assert_eq!(written, Ok(value.len()));
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> UpgradeRequest<'static> {
        UpgradeRequest {
            connection: &[b"Upgrade"],
            upgrade: &[b"websocket"],
            version: Some(b"13"),
            key: Some(b"dGhlIHNhbXBsZSBub25jZQ=="),
            protocols: &[],
        }
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted_with_its_value() {
        assert_eq!(
            accept(&request()),
            Ok(Accept {
                accept: *b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
                protocol: None
            })
        );
    }

    #[test]
    fn lists_are_read_over_lines_commas_blanks_and_case() {
        let lists = UpgradeRequest {
            connection: &[b"keep-alive", b" ,\tUPGRADE , x"],
            upgrade: &[b"h2c, WebSocket"],
            ..request()
        };
        assert!(accept(&lists).is_ok());
    }

    #[test]
    fn each_missing_or_wrong_header_is_named() {
        let none: &[&[u8]] = &[];
        for (wrong, error) in [
            (
                UpgradeRequest {
                    connection: none,
                    ..request()
                },
                HandshakeError::ConnectionMissing,
            ),
            (
                UpgradeRequest {
                    connection: &[b"upgraded, up grade"],
                    ..request()
                },
                HandshakeError::ConnectionMissing,
            ),
            (
                UpgradeRequest {
                    upgrade: &[b"websocket2"],
                    ..request()
                },
                HandshakeError::UpgradeMissing,
            ),
            (
                UpgradeRequest {
                    version: None,
                    ..request()
                },
                HandshakeError::VersionUnsupported,
            ),
            (
                UpgradeRequest {
                    version: Some(b"13, 8"),
                    ..request()
                },
                HandshakeError::VersionUnsupported,
            ),
            (
                UpgradeRequest {
                    key: None,
                    ..request()
                },
                HandshakeError::KeyMissing,
            ),
        ] {
            assert_eq!(accept(&wrong), Err(error), "{wrong:?}");
        }
        assert_eq!(
            HandshakeError::ConnectionMissing.to_string(),
            "Connection header did not include 'upgrade'"
        );
    }

    #[test]
    fn a_key_is_base64_of_sixteen_bytes_and_nothing_else() {
        let canonical = STANDARD.encode([0xff; 16]);
        let spare_bits_set = "xxxxxxxxxxxxxxxxxxxxxx==";
        for good in [canonical.as_str(), spare_bits_set] {
            let key = Some(good.as_bytes());
            assert!(
                accept(&UpgradeRequest { key, ..request() }).is_ok(),
                "{good}"
            );
        }
        let fifteen = STANDARD.encode([1; 15]);
        let seventeen = STANDARD.encode([1; 17]);
        let eighteen = STANDARD.encode([1; 18]);
        for bad in [
            "",
            "abc",
            fifteen.as_str(),
            seventeen.as_str(),
            eighteen.as_str(),
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ=!",
            "dGhlIHNhbXBsZSBub25jZ-==",
            "dGhlIHNhbXBs ZSBub25jZQ==",
        ] {
            let key = Some(bad.as_bytes());
            assert_eq!(
                accept(&UpgradeRequest { key, ..request() }),
                Err(HandshakeError::KeyInvalid),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_first_offered_subprotocol_is_selected() {
        let protocols: &[&[u8]] = &[b" , tty.v1 , tty.v2", b"other"];
        let answer = accept(&UpgradeRequest {
            protocols,
            ..request()
        });
        assert_eq!(answer.unwrap().protocol.as_deref(), Some("tty.v1"));
    }

    #[test]
    fn a_subprotocol_that_could_split_a_header_is_refused() {
        for bad in [
            &b"a b"[..],
            b"a\r\nset-cookie:x",
            b"a\x00",
            b"\xffx",
            b"a;b",
        ] {
            let protocols = [bad];
            let answer = accept(&UpgradeRequest {
                protocols: &protocols,
                ..request()
            });
            assert_eq!(answer, Err(HandshakeError::ProtocolInvalid), "{bad:?}");
        }
    }
}
