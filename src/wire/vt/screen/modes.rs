//! What a terminal keeps besides its screen: modes of input, the shape of the cursor, the title.
//!
//! In: control sequences and OSCs. Out: sequences that bring another terminal to the same point.
//! Owns a few words, a title and two small stacks, all bounded. Knows no cells.

use std::io::Write;

use super::params::Params;

/// Characters of a title that are kept.
const TITLE_CHARS_MAX: usize = 256;

/// Titles, and keyboard modes of one screen, that are kept.
const STACK_MAX: usize = 16;

/// The DEC private modes that are kept, by number. Those of the screen itself are not among them.
const KEPT: [u16; 16] = [
    9,    // mouse: X10
    12,   // the cursor blinks
    45,   // reverse wraparound
    66,   // application keypad
    1000, // mouse: buttons
    1002, // mouse: drags
    1003, // mouse: all motion
    1004, // focus
    1005, // mouse: UTF-8 coordinates
    1006, // mouse: SGR coordinates
    1007, // the wheel sends arrows on the alternate screen
    1015, // mouse: urxvt coordinates
    1016, // mouse: pixels
    1036, // meta sends ESC
    2004, // bracketed paste
    2031, // changes of the colour scheme are told
];

/// Only one of these at a time.
const MOUSE_PROTOCOLS: [u16; 4] = [9, 1000, 1002, 1003];
const MOUSE_ENCODINGS: [u16; 4] = [1005, 1006, 1015, 1016];

/// Those that DECSTR resets.
const SOFT: [u16; 5] = [12, 45, 66, 1004, 2004];

/// Which screen a keyboard mode belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Primary,
    Alternate,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Modes {
    /// A bit for each of [`KEPT`].
    set: u16,
    /// DECSCUSR; 0 is the viewer's own.
    shape: u16,
    pub(super) title: String,
    titles: Vec<String>,
    /// Kitty's keyboard modes, the last one in force.
    keyboard: [Vec<u8>; 2],
    /// XTMODKEYS 4.
    other_keys: u16,
}

fn bit(mode: u16) -> u16 {
    let place = KEPT.iter().position(|kept| *kept == mode);
    place.map_or(0, |place| 1 << place)
}

fn bits(modes: &[u16]) -> u16 {
    modes.iter().fold(0, |all, mode| all | bit(*mode))
}

impl Modes {
    /// RIS. Titles outlive it, as in xterm.js.
    pub(super) fn reset(&mut self) {
        *self = Self {
            title: std::mem::take(&mut self.title),
            titles: std::mem::take(&mut self.titles),
            ..Self::default()
        };
    }

    /// DECSTR.
    pub(super) fn soft_reset(&mut self) {
        self.set &= !bits(&SOFT);
        self.shape = 0;
    }

    /// DECKPAM and DECKPNM.
    pub(super) fn keypad(&mut self, application: bool) {
        self.private(66, application);
    }

    /// DECSET or DECRST of one mode.
    pub(super) fn private(&mut self, mode: u16, on: bool) {
        for group in [MOUSE_PROTOCOLS, MOUSE_ENCODINGS] {
            if group.contains(&mode) {
                self.set &= !bits(&group);
            }
        }
        match on {
            true => self.set |= bit(mode),
            false => self.set &= !bit(mode),
        }
    }

    /// A control sequence that is not the screen's.
    pub(super) fn csi(&mut self, params: &Params<'_>, side: Side) {
        let first = params.number(0);
        let keyboard = &mut self.keyboard[side as usize];
        let flags = u8::try_from(first & 0x1f).unwrap_or_default();
        match (params.marker, params.intermediate, params.end) {
            (0, b' ', b'q') => self.shape = if first <= 6 { first } else { self.shape },
            (b'>', 0, b'u') => {
                if keyboard.len() == STACK_MAX {
                    keyboard.remove(0);
                }
                keyboard.push(flags);
            }
            (b'<', 0, b'u') => {
                let left = keyboard.len().saturating_sub(first.max(1).into());
                keyboard.truncate(left);
            }
            (b'=', 0, b'u') => {
                let now = keyboard.pop().unwrap_or_default();
                keyboard.push(match params.number(1) {
                    2 => now | flags,
                    3 => now & !flags,
                    _ => flags,
                });
            }
            (b'>', 0, b'm') if first == 4 => self.other_keys = params.number(1).min(9),
            (b'>', 0, b'm') if params.is_empty() => self.other_keys = 0,
            (b'>', 0, b'n') if first == 4 => self.other_keys = 0,
            (0, 0, b't') if first == 22 && params.number(1) != 1 => {
                self.titles.push(self.title.clone());
                self.titles.truncate(STACK_MAX);
            }
            (0, 0, b't') if first == 23 && params.number(1) != 1 => {
                if let Some(title) = self.titles.pop() {
                    self.title = title;
                }
            }
            _ => {}
        }
    }

    /// An OSC: only those that set the title.
    pub(super) fn osc(&mut self, body: &[u8]) {
        let (b"0" | b"2", Some(title)) = split(body) else {
            return;
        };
        let title = String::from_utf8_lossy(title);
        let shown = title.chars().filter(|c| !c.is_control());
        self.title = shown.take(TITLE_CHARS_MAX).collect();
    }

    /// Appends what sets all of it but the keyboard modes.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for (place, mode) in KEPT.iter().enumerate() {
            if self.set & 1 << place != 0 {
                let _ = write!(out, "\x1b[?{mode}h");
            }
        }
        if self.shape != 0 {
            let _ = write!(out, "\x1b[{} q", self.shape);
        }
        if self.other_keys != 0 {
            let _ = write!(out, "\x1b[>4;{}m", self.other_keys);
        }
        for title in &self.titles {
            let _ = write!(out, "\x1b]2;{title}\x1b\\\x1b[22;2t");
        }
        if !self.title.is_empty() || !self.titles.is_empty() {
            let _ = write!(out, "\x1b]2;{}\x1b\\", self.title);
        }
    }

    /// Appends the keyboard modes of one screen, which must be the active one there.
    pub(super) fn write_keyboard(&self, side: Side, out: &mut Vec<u8>) {
        for flags in &self.keyboard[side as usize] {
            let _ = write!(out, "\x1b[>{flags}u");
        }
    }

    /// Whether a screen has keyboard modes.
    pub(super) fn has_keyboard(&self, side: Side) -> bool {
        !self.keyboard[side as usize].is_empty()
    }
}

/// What stands before the first semicolon, and what behind it.
fn split(body: &[u8]) -> (&[u8], Option<&[u8]>) {
    match body.iter().position(|byte| *byte == b';') {
        Some(at) => (&body[..at], Some(&body[at + 1..])),
        None => (body, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csi(modes: &mut Modes, body: &str) {
        modes.csi(&Params::parse(body.as_bytes()).unwrap(), Side::Primary);
    }

    fn written(modes: &Modes) -> String {
        let mut out = Vec::new();
        modes.write(&mut out);
        modes.write_keyboard(Side::Primary, &mut out);
        out.escape_ascii().to_string().replace("\\x1b", "^")
    }

    #[test]
    fn one_mouse_protocol_and_one_encoding_are_in_force() {
        let mut modes = Modes::default();
        for mode in [1000, 1002, 1003, 1006, 2004, 1015, 1006] {
            modes.private(mode, true);
        }
        assert_eq!(written(&modes), "^[?1003h^[?1006h^[?2004h");
        modes.private(1000, false);
        modes.private(2004, false);
        assert_eq!(written(&modes), "^[?1006h");
    }

    #[test]
    fn stacks_are_kept_as_far_as_they_are_bounded() {
        let mut modes = Modes::default();
        modes.osc(b"0;one");
        csi(&mut modes, "22;0t");
        modes.osc(b"2;two;2\x07");
        csi(&mut modes, ">1u");
        csi(&mut modes, ">5u");
        csi(&mut modes, "=2;2u");
        assert_eq!(
            written(&modes),
            "^]2;one^\\\\^[22;2t^]2;two;2^\\\\^[>1u^[>7u"
        );
        csi(&mut modes, "23t");
        csi(&mut modes, "<9u");
        assert_eq!(written(&modes), "^]2;one^\\\\");
        for _ in 0..100 {
            csi(&mut modes, "22t");
            csi(&mut modes, ">1u");
        }
        assert_eq!((modes.titles.len(), modes.keyboard[0].len()), (16, 16));
        modes.osc(format!("2;{}", "é".repeat(5000)).as_bytes());
        assert_eq!(modes.title.chars().count(), TITLE_CHARS_MAX);
    }
}
