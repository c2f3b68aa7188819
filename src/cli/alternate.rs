//! Whether a program has the screen for itself, as far as its output tells.
//!
//! Leaving the alternate screen puts the cursor where it was before; where nobody is in one, some
//! terminals (tmux) put it where it was before the last one, in the middle of what is shown.

/// How far a sequence has come that may change the screen (ECMA-48, 5.4; xterm's private modes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Text,
    /// Behind ESC.
    Escape,
    /// Behind ESC and `[`.
    Control,
    /// Behind those and `?`: the parameter under way, and whether one before was such a mode.
    Private(u16, bool),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Alternate {
    at: At,
    is_on: bool,
}

fn is_alternate(mode: u16) -> bool {
    matches!(mode, 47 | 1047 | 1049)
}

impl Alternate {
    /// Takes output, in pieces of any length.
    pub(super) fn feed(&mut self, output: &[u8]) {
        for &byte in output {
            self.at = match (self.at, byte) {
                (_, 0x1b) => At::Escape,
                (At::Text, _) => continue,
                (At::Escape, b'[') => At::Control,
                (At::Escape, b'c') => {
                    self.is_on = false;
                    At::Text
                }
                (At::Control, b'?') => At::Private(0, false),
                (At::Private(mode, found), b'0'..=b'9') => {
                    let digit = u16::from(byte - b'0');
                    At::Private(mode.saturating_mul(10).saturating_add(digit), found)
                }
                (At::Private(mode, found), b';') => At::Private(0, found || is_alternate(mode)),
                (At::Private(mode, found), b'h' | b'l') => {
                    if found || is_alternate(mode) {
                        self.is_on = byte == b'h';
                    }
                    At::Text
                }
                _ => At::Text,
            };
        }
    }

    /// Whether the alternate screen is shown.
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alternate_screen_is_seen_in_pieces_of_any_length() {
        for (output, is_on) in [
            ("text", false),
            ("\x1b[?1049h", true),
            ("\x1b[?47h~", true),
            ("\x1b[?25;1047;7hx", true),
            ("\x1b[?1049h\x1b[?25l\x1b[1049l", true),
            ("\x1b[?1049h\x1b[?1049l", false),
            ("\x1b[?1049h\x1bc", false),
            ("\x1b[?10\x1b[?1049h", true),
            ("\x1b[?99999999991049h", false),
            ("\x1b[?1049$p\x1b[?2004h", false),
        ] {
            for len in 1..=output.len() {
                let mut alternate = Alternate::default();
                for piece in output.as_bytes().chunks(len) {
                    alternate.feed(piece);
                }
                assert_eq!(alternate.is_on(), is_on, "{output:?} by {len}");
            }
        }
    }
}
