//! The keys that leave a terminal without ending anything.

use super::error::{CliError, Result};

/// A sequence of keys, and how far the user is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    keys: Vec<u8>,
    at: usize,
}

impl Keys {
    /// Reads `ctrl-\`, `ctrl-p,ctrl-q`, `a`; nothing is Ctrl-\.
    pub(super) fn parse(text: Option<&str>) -> Result<Self> {
        let text = text.unwrap_or("ctrl-\\");
        let key = |key: &str| {
            let (ctrl, letter) = match key.strip_prefix("ctrl-") {
                Some(letter) => (true, letter),
                None => (false, key),
            };
            let [byte] = letter.as_bytes() else {
                return None;
            };
            match (ctrl, byte.to_ascii_uppercase()) {
                (false, _) => Some(*byte),
                (true, upper @ b'@'..=b'_') => Some(upper - b'@'),
                (true, _) => None,
            }
        };
        let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
        let keys = keys.ok_or_else(|| {
            CliError::Usage(format!(
                "--detach-keys {text:?}: must be keys such as ctrl-p,ctrl-q or a"
            ))
        })?;
        Ok(Self { keys, at: 0 })
    }

    /// What of `typed` is for the process, and whether the user wants out. What may be the
    /// beginning of the sequence is held back until it is not.
    pub(super) fn feed(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut through = Vec::with_capacity(typed.len());
        for &byte in typed {
            while byte != self.keys[self.at] && self.at > 0 {
                let kept = self.begins_again();
                through.extend_from_slice(&self.keys[..self.at - kept]);
                self.at = kept;
            }
            if byte != self.keys[self.at] {
                through.push(byte);
                continue;
            }
            self.at += 1;
            if self.at == self.keys.len() {
                return (through, true);
            }
        }
        (through, false)
    }

    /// How many of the keys that are held back may be the beginning of another try.
    fn begins_again(&self) -> usize {
        let held = &self.keys[..self.at];
        let found = (1..self.at).rev().find(|n| held.ends_with(&held[..*n]));
        found.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_sequence_leaves_and_nothing_else_is_swallowed() {
        let mut keys = Keys::parse(Some("ctrl-p,ctrl-q")).unwrap();
        assert_eq!(keys.feed(b"a\x10"), (b"a".to_vec(), false));
        assert_eq!(keys.feed(b"b"), (b"\x10b".to_vec(), false));
        assert_eq!(keys.feed(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(keys.feed(b"\x11rest"), (b"".to_vec(), true));
        let mut usual = Keys::parse(None).unwrap();
        assert_eq!(usual.feed(b"x\x1cy"), (b"x".to_vec(), true));
        let mut twice = Keys::parse(Some("a,a,b")).unwrap();
        assert_eq!(twice.feed(b"aaab"), (b"a".to_vec(), true));
        let mut often = Keys::parse(Some("a,b,a,b,c")).unwrap();
        assert_eq!(often.feed(b"abab"), (b"".to_vec(), false));
        assert_eq!(often.feed(b"a"), (b"ab".to_vec(), false));
        assert_eq!(often.feed(b"x"), (b"abax".to_vec(), false));
        assert_eq!(often.feed(b"ababababc"), (b"abab".to_vec(), true));
        for wrong in ["", "ctrl-", "ctrl-1", "ab", "a,,b"] {
            assert!(Keys::parse(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
