//! The parameters of a control sequence (ECMA-48, 5.4).
//!
//! In: what follows `ESC [`. Out: numbers. Owns nothing.

/// A parameter is at most this: more than any screen has.
const NUMBER_MAX: u16 = 9999;

/// A sequence that is well-formed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Params<'a> {
    /// `<`, `=`, `>` or `?`; 0 for none.
    pub(super) marker: u8,
    /// Digits, colons and semicolons.
    pub(super) digits: &'a [u8],
    /// The byte before the end; 0 for none.
    pub(super) intermediate: u8,
    /// The final byte.
    pub(super) end: u8,
}

impl<'a> Params<'a> {
    /// None for what no terminal understands.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (&end, rest) = body.split_last()?;
        let (marker, rest) = match rest.split_first() {
            Some((&marker @ b'<'..=b'?', rest)) => (marker, rest),
            _ => (0, rest),
        };
        let (intermediate, digits) = match rest.split_last() {
            Some((&byte @ 0x20..=0x2f, rest)) => (byte, rest),
            _ => (0, rest),
        };
        let is_digits = |byte: &u8| matches!(byte, b'0'..=b';');
        digits.iter().all(is_digits).then_some(Self {
            marker,
            digits,
            intermediate,
            end,
        })
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.digits.is_empty()
    }

    /// Each parameter with its colons.
    pub(super) fn fields(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.digits.split(|byte| *byte == b';')
    }

    /// Parameters, of those with colons the first number; a missing one is 0.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u16> + use<'a> {
        self.fields().map(first)
    }

    /// The parameter at this place; 0 if there is none.
    pub(super) fn number(&self, place: usize) -> u16 {
        self.numbers().nth(place).unwrap_or_default()
    }
}

/// The numbers of one parameter.
pub(super) fn parts(field: &[u8]) -> impl Iterator<Item = u16> {
    field.split(|byte| *byte == b':').map(number)
}

fn first(field: &[u8]) -> u16 {
    parts(field).next().unwrap_or_default()
}

fn number(digits: &[u8]) -> u16 {
    let add = |number: u16, digit: &u8| {
        let digit = u16::from(digit.wrapping_sub(b'0'));
        number
            .saturating_mul(10)
            .saturating_add(digit)
            .min(NUMBER_MAX)
    };
    digits.iter().fold(0, add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_taken_apart() {
        let params = Params::parse(b"?12;;99999:3;4h").unwrap();
        assert_eq!((params.marker, params.end), (b'?', b'h'));
        assert_eq!(params.numbers().collect::<Vec<_>>(), [12, 0, 9999, 4]);
        assert_eq!(params.number(7), 0);
        let params = Params::parse(b"2 q").unwrap();
        assert_eq!((params.intermediate, params.number(0)), (b' ', 2));
        assert!(Params::parse(b"m").unwrap().is_empty());
        for refused in [&b""[..], b"?1?2h", b"1$2p", b"1 $p"] {
            assert!(Params::parse(refused).is_none());
        }
    }
}
