//! Queries for colours, OSC 4, 5 and 10 to 19, and for the clipboard, OSC 52
//! (xterm's ctlseqs).
//!
//! In: an OSC without its introducer, terminator and control bytes. Out: what of
//! it sets something. Owns nothing.
//!
//! One OSC may set some colours and ask for others. OSC 4 and 5 take pairs of
//! index and colour; in OSC 10 to 19 each further colour belongs to the next
//! number. `?` as the colour is the query.

use crate::wire::vt::Kept;

const PALETTE: u32 = 4;
const SPECIAL: u32 = 5;
const DYNAMIC_FIRST: u32 = 10;
const DYNAMIC_LAST: u32 = 19;
const CLIPBOARD: u32 = 52;

/// What an OSC may do besides setting something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum May {
    /// Nothing.
    Set,
    /// It may hold a query, and must be looked at.
    Ask,
    /// It acts: a notification, or one of iTerm2's many things.
    Act,
}

/// What may `ESC ]` followed by `digits` and `;` do?
pub(crate) fn may(digits: impl Iterator<Item = u8>) -> May {
    match number(digits) {
        Some(PALETTE | SPECIAL | DYNAMIC_FIRST..=DYNAMIC_LAST | CLIPBOARD) => May::Ask,
        Some(9 | 99 | 777 | 1337) => May::Act,
        _ => May::Set,
    }
}

/// Whether the beginning of an OSC that can ask, with its code, shows that it writes to the
/// clipboard: that may be long, and nothing of it is shown.
pub(crate) fn writes_clipboard(text: impl Iterator<Item = u8>) -> bool {
    let text: Vec<u8> = text.take(CLIPBOARD_HEAD_BYTES).collect();
    let mut fields = text.split(|byte| *byte == b';');
    let code = fields
        .next()
        .and_then(|digits| number(digits.iter().copied()));
    let data = fields.nth(1);
    code == Some(CLIPBOARD) && data.is_some_and(|data| !data.is_empty() && data[0] != b'?')
}

/// Whether an OSC with its code is about the clipboard.
pub(crate) fn is_clipboard(text: impl Iterator<Item = u8>) -> bool {
    number(text.take_while(|byte| *byte != b';')) == Some(CLIPBOARD)
}

/// Where the data of a write to the clipboard has begun: a code and the names of all selections.
const CLIPBOARD_HEAD_BYTES: usize = 64;

/// The OSC without its queries, up to its terminator. `text` begins with the
/// code of one that can ask.
pub(crate) fn without_queries(text: impl Iterator<Item = u8>) -> Kept {
    let text: Vec<u8> = text.collect();
    let mut fields = text.split(|byte| *byte == b';');
    let Some(code) = fields
        .next()
        .and_then(|digits| number(digits.iter().copied()))
    else {
        return Kept::Everything;
    };
    let fields: Vec<&[u8]> = fields.collect();
    match (code, fields.as_slice()) {
        (CLIPBOARD, [_, b"?"]) => Kept::Nothing,
        // A write, or what clears it.
        (CLIPBOARD, _) => Kept::Act,
        (..DYNAMIC_FIRST, fields) => without_pairs(code, fields),
        (_, fields) => without_colours(code, fields),
    }
}

fn without_pairs(code: u32, fields: &[&[u8]]) -> Kept {
    let is_query = |pair: &&[&[u8]]| matches!(pair, [_, b"?"]);
    if !fields.chunks(2).any(|pair| is_query(&pair)) {
        return Kept::Everything;
    }
    let mut kept = Vec::new();
    for field in fields.chunks(2).filter(|pair| !is_query(pair)).flatten() {
        kept.push(b';');
        kept.extend_from_slice(field);
    }
    // A single empty field is what a trailing semicolon leaves.
    if kept.len() < 2 {
        return Kept::Nothing;
    }
    Kept::Some([format!("\x1b]{code}").as_bytes(), &kept].concat())
}

fn without_colours(code: u32, fields: &[&[u8]]) -> Kept {
    // Fields past the last number mean nothing.
    let slots = || (code..=DYNAMIC_LAST).zip(fields.iter().copied());
    if !slots().any(|(_, colour)| colour == b"?") {
        return Kept::Everything;
    }
    // Each colour goes into a sequence of its own, which needs no counting.
    let mut kept = Vec::new();
    for (slot, colour) in slots().filter(|(_, colour)| !matches!(*colour, b"" | b"?")) {
        if !kept.is_empty() {
            kept.extend_from_slice(crate::wire::vt::ST);
        }
        kept.extend_from_slice(format!("\x1b]{slot};").as_bytes());
        kept.extend_from_slice(colour);
    }
    if kept.is_empty() {
        return Kept::Nothing;
    }
    Kept::Some(kept)
}

/// A decimal number; `None` for none. Too large ones saturate.
fn number(mut digits: impl Iterator<Item = u8>) -> Option<u32> {
    let digit = |byte: u8| char::from(byte).to_digit(10);
    let first = digits.next().and_then(digit)?;
    digits.try_fold(first, |number, byte| {
        Some(number.saturating_mul(10).saturating_add(digit(byte)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str) -> Kept {
        without_queries(text.bytes())
    }

    fn some(text: &str) -> Kept {
        Kept::Some(text.as_bytes().to_vec())
    }

    #[test]
    fn exactly_the_codes_that_can_ask_are_held() {
        for code in 0..200_u32 {
            let asks = matches!(code, 4 | 5 | 10..=19 | 52);
            let acts = matches!(code, 9 | 99);
            let expected = match (asks, acts) {
                (true, _) => May::Ask,
                (_, true) => May::Act,
                _ => May::Set,
            };
            assert_eq!(may(code.to_string().bytes()), expected, "{code}");
        }
        assert_eq!(may(b"0011".iter().copied()), May::Ask);
        assert_eq!(may(b"".iter().copied()), May::Set);
        assert_eq!(may(b"4294967300".iter().copied()), May::Set);
    }

    #[test]
    fn an_osc_that_only_sets_is_kept_and_one_that_only_asks_is_not() {
        for sets in [
            "4;1;red",
            "4;1;red;2;blue",
            "4;1",
            "4;",
            "4;?",
            "11;#000",
            "10;a;b",
            "19;a;?",
        ] {
            assert_eq!(kept(sets), Kept::Everything, "{sets}");
        }
        for writes in ["52;c;aGk=", "52;c;", "52;?"] {
            assert_eq!(kept(writes), Kept::Act, "{writes}");
        }
        assert!(writes_clipboard(b"52;c;aGk".iter().copied()));
        assert!(!writes_clipboard(b"52;c;?".iter().copied()));
        assert!(!writes_clipboard(b"4;1;red".iter().copied()));
        for asks in [
            "4;1;?",
            "4;1;?;2;?",
            "5;0;?",
            "4;1;?;",
            "10;?",
            "011;?",
            "10;?;?;?",
            "10;?;",
            "52;c;?",
            "52;;?",
        ] {
            assert_eq!(kept(asks), Kept::Nothing, "{asks}");
        }
    }

    #[test]
    fn a_mixed_osc_keeps_what_it_sets() {
        assert_eq!(kept("4;1;red;2;?;3;blue"), some("\x1b]4;1;red;3;blue"));
        assert_eq!(kept("4;2;?;3"), some("\x1b]4;3"));
        assert_eq!(kept("10;?;#111"), some("\x1b]11;#111"));
        assert_eq!(
            kept("10;#000;?;#222"),
            some("\x1b]10;#000\x1b\\\x1b]12;#222")
        );
        // Nothing moves past the last number, where other things live.
        assert_eq!(kept("18;?;red;green"), some("\x1b]19;red"));
    }
}
