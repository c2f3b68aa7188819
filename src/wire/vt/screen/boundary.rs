//! Where output can be cut: in no character and in no sequence.
//!
//! In: output. Out: places. Owns what has arrived of a sequence.

use super::parser::{Handler, Parser};

/// See the module.
#[derive(Debug, Default)]
pub struct Boundary(Parser);

/// Does nothing with the parts.
struct Nothing;

impl Handler for Nothing {
    fn text(&mut self, _: &str) {}
    fn control(&mut self, _: u8) {}
    fn escape(&mut self, _: Option<u8>, _: u8) {}
    fn csi(&mut self, _: &[u8]) {}
    fn osc(&mut self, _: &[u8]) {}
    fn is_tired(&self) -> bool {
        false
    }
}

impl Boundary {
    /// Goes past `bytes`.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.push(bytes, &mut Nothing);
    }

    /// How many of the bytes that come next belong to what is unfinished; None if all do.
    pub fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            if self.0.is_at_rest() {
                return Some(at);
            }
            self.push(&[*byte]);
        }
        self.0.is_at_rest().then_some(bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_moves_behind_what_is_unfinished() {
        for (before, after, place) in [
            ("abc", "def", Some(0)),
            ("\x1b[3", "1mx", Some(2)),
            ("\x1b]0;ti", "tle\x07x", Some(4)),
            ("\x1bP1", "q\x1b\\x", Some(3)),
            ("\x1b]0;ti", "tle", None),
            ("", "", Some(0)),
        ] {
            let mut boundary = Boundary::default();
            boundary.push(before.as_bytes());
            assert_eq!(
                boundary.find(after.as_bytes()),
                place,
                "{before:?} {after:?}"
            );
        }
        let mut boundary = Boundary::default();
        boundary.push(b"\xe2\x82");
        assert_eq!(boundary.find(b"\xac!"), Some(1));
    }
}
