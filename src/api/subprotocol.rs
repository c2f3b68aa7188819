//! Subprotocols of a WebSocket that are ours: a name, and a credential of pages.
//!
//! In: the values of `Sec-WebSocket-Protocol`. Out: the credentials in them, and what may be
//! selected. A browser cannot set another header on a WebSocket, and a token in the query comes
//! into logs and histories. Knows no token.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::wire::ws::handshake::elements;

/// What is selected where it is offered with a credential.
const OURS: &[u8] = b"procring.v1";

/// What a credential begins with; the token follows in unpadded base64url, whose characters are
/// those of a subprotocol.
const BEARER: &[u8] = b"procring.bearer.v1.";

/// What a request offers.
#[derive(Debug)]
pub(super) struct Offered<'a>(Vec<&'a [u8]>);

impl<'a> Offered<'a> {
    /// Reads the values of all lines.
    pub(super) fn new(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        Self(lines.collect())
    }

    /// The credentials, still encoded.
    fn bearers(&self) -> impl Iterator<Item = &'a [u8]> {
        elements(&self.0).filter_map(|offered| offered.strip_prefix(BEARER))
    }

    /// How many credentials there are.
    pub(super) fn credentials(&self) -> usize {
        self.bearers().count()
    }

    /// The token of the first credential; None also for what is no token.
    pub(super) fn token(&self) -> Option<String> {
        let decoded = URL_SAFE_NO_PAD.decode(self.bearers().next()?).ok()?;
        String::from_utf8(decoded).ok()
    }

    /// What the client may be answered. A credential never is: whoever offers one, or our name,
    /// gets our name, if it is there.
    pub(super) fn selectable(&self) -> Cow<'_, [&'a [u8]]> {
        let named = elements(&self.0).any(|offered| offered == OURS);
        match (named, self.credentials()) {
            (true, _) => Cow::Borrowed(&[OURS]),
            (false, 1..) => Cow::Borrowed(&[]),
            (false, 0) => Cow::Borrowed(&self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered<'a>(lines: &[&'a str]) -> Offered<'a> {
        Offered::new(lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn a_token_comes_in_unpadded_base64url_and_in_nothing_else() {
        // "s3cret-Token~?>" has both characters that base64url changes.
        let right = "procring.v1 , procring.bearer.v1.czNjcmV0LVRva2Vufj8-";
        assert_eq!(
            offered(&[right]).token().as_deref(),
            Some("s3cret-Token~?>")
        );
        for wrong in [
            "procring.v1",
            "czNjcmV0LVRva2Vufj8-",
            "procring.bearer.v2.czNjcmV0",
            "Procring.bearer.v1.czNjcmV0",
            "procring.bearer.v1.czNjcmV0LVRva2Vufj8+",
            "procring.bearer.v1.czNjcmV0LQ==",
            "procring.bearer.v1.czNjcmV0L",
            "procring.bearer.v1._w",
        ] {
            assert_eq!(offered(&[wrong]).token(), None, "{wrong}");
        }
        assert_eq!(
            offered(&["procring.bearer.v1."]).token().as_deref(),
            Some("")
        );
    }

    #[test]
    fn credentials_are_counted_over_lines_and_commas_and_never_selected() {
        for (lines, credentials, selectable) in [
            (
                &["tty.v1, tty.v2", "other"][..],
                0,
                &["tty.v1, tty.v2", "other"][..],
            ),
            (&["tty.v1, procring.v1"], 0, &["procring.v1"]),
            (
                &["procring.v1", "procring.bearer.v1.YQ"],
                1,
                &["procring.v1"],
            ),
            (&["procring.bearer.v1.YQ,procring.v1"], 1, &["procring.v1"]),
            (&["procring.bearer.v1.YQ"], 1, &[]),
            (&["tty.v1,procring.bearer.v1.!"], 1, &[]),
            (
                &["procring.bearer.v1.YQ,x", "procring.bearer.v1.YQ"],
                2,
                &[],
            ),
        ] {
            let offered = offered(lines);
            assert_eq!(offered.credentials(), credentials, "{lines:?}");
            let expected: Vec<_> = selectable.iter().map(|line| line.as_bytes()).collect();
            assert_eq!(*offered.selectable(), expected, "{lines:?}");
        }
    }
}
