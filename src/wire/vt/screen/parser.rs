//! Terminal output, cut into text, controls and sequences.
//!
//! In: bytes, cut anywhere. Out: calls of a [`Handler`]. Owns the sequence and the character that
//! are arriving, which [`Parser::unfinished`] gives back as bytes that any terminal goes on with.
//! Knows no screen.
//!
//! The states are those of Paul Williams' parser (vt100.net/emu/dec_ansi_parser) with xterm.js's
//! answers where implementations differ: an ESC ends a string and has it obeyed, CAN and SUB throw
//! it away, U+0080 to U+009F are C1 controls, and bytes that are no UTF-8 are skipped.
//!
//! - At most [`HELD_BYTES_MAX`] bytes are held. A longer sequence or string means nothing to us,
//!   and what is given back for it means nothing to anybody.

use crate::wire::prefix;

/// Most bytes of an unfinished sequence that are kept.
pub(super) const HELD_BYTES_MAX: usize = 4096;

/// Text handed over at once, so that a handler can be stopped in between.
const TEXT_BYTES_MAX: usize = 8 << 10;

const BEL: u8 = 0x07;
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;
const ESC: u8 = 0x1b;
const DEL: u8 = 0x7f;

/// The first byte of U+0080 to U+00BF in UTF-8, among them the C1 controls.
const C1_LEAD: u8 = 0xc2;

/// The second byte of those that do something.
const C1_IND: u8 = 0x84;
const C1_NEL: u8 = 0x85;
const C1_HTS: u8 = 0x88;
const C1_DCS: u8 = 0x90;
const C1_SOS: u8 = 0x98;
const C1_CSI: u8 = 0x9b;
const C1_ST: u8 = 0x9c;
const C1_APC: u8 = 0x9f;

/// Stands for sequences that are too long or malformed: a marker behind a digit is never right.
const NO_CSI: &[u8] = b"\x1b[0<";
const NO_OSC: &[u8] = b"\x1b]!";
/// SOS: nobody looks into it.
const NO_STRING: &[u8] = b"\x1bX";

/// What is done with the parts.
pub(super) trait Handler {
    /// Characters that are printed.
    fn text(&mut self, text: &str);
    /// A C0 control.
    fn control(&mut self, byte: u8);
    /// `ESC`, perhaps an intermediate byte, and a final one.
    fn escape(&mut self, intermediate: Option<u8>, byte: u8);
    /// A whole control sequence; `body` is what follows `ESC [`.
    fn csi(&mut self, body: &[u8]);
    /// A whole OSC; `body` is what stands between `ESC ]` and its end.
    fn osc(&mut self, body: &[u8]);
    /// Whether to stop after this part.
    fn is_tired(&self) -> bool;
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    Escape,
    EscapeIntermediate,
    Csi,
    Osc,
    /// DCS, SOS, PM or APC: not looked into.
    Other,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Parser {
    state: State,
    /// The sequence that is arriving, from its ESC on.
    held: Vec<u8>,
    /// The character that is arriving; in a string its bytes are held as well.
    half: Vec<u8>,
}

impl Parser {
    /// Whether it is between two parts.
    pub(super) fn is_at_rest(&self) -> bool {
        self.state == State::Ground && self.half.is_empty()
    }

    /// Appends what has arrived of a part that is not whole.
    pub(super) fn unfinished(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.held);
        // A string holds its half character already, unless it has been given up.
        if self.held.last() != self.half.last() {
            out.extend_from_slice(&self.half);
        }
    }

    /// Hands `input` over, until the handler is tired. Returns how many bytes that were.
    pub(super) fn push(&mut self, input: &[u8], handler: &mut impl Handler) -> usize {
        let mut rest = input;
        while !rest.is_empty() && !handler.is_tired() {
            let used = match self.state {
                State::Ground if self.half.is_empty() => self.ground(rest, handler),
                State::Ground => self.more_of_half(rest[0], handler),
                State::Osc | State::Other => self.string(rest, handler),
                _ => {
                    self.step(rest[0], handler);
                    1
                }
            };
            rest = &rest[used..];
        }
        input.len() - rest.len()
    }

    fn ground(&mut self, rest: &[u8], handler: &mut impl Handler) -> usize {
        let stops = |byte: u8| byte < 0x20 || byte == DEL || byte == C1_LEAD;
        let window = &rest[..rest.len().min(TEXT_BYTES_MAX)];
        let run = prefix::len_until(window, stops);
        if run > 0 {
            return self
                .print(&window[..run], run == rest.len(), handler)
                .max(1);
        }
        match rest {
            [C1_LEAD] => self.half.push(C1_LEAD),
            [C1_LEAD, byte @ 0x80..=0x9f, ..] => {
                self.c1(*byte, handler);
                return 2;
            }
            [C1_LEAD, 0xa0..=0xbf, ..] => return self.print(&rest[..2], false, handler),
            [byte, ..] => self.step(*byte, handler),
            [] => {}
        }
        1
    }

    /// Prints what is UTF-8. Returns how much of it was looked at: a character at the end of a
    /// window is left for the next one, at the end of the input it becomes the half.
    fn print(&mut self, bytes: &[u8], at_end: bool, handler: &mut impl Handler) -> usize {
        let mut at = 0;
        for chunk in bytes.utf8_chunks() {
            if !chunk.valid().is_empty() {
                handler.text(chunk.valid());
            }
            at += chunk.valid().len();
            let invalid = chunk.invalid();
            if at + invalid.len() == bytes.len() && is_half(invalid) {
                if at_end {
                    self.half.extend_from_slice(invalid);
                    return bytes.len();
                }
                // The window may have cut it; alone it is looked at to its end.
                return if at > 0 { at } else { invalid.len() };
            }
            at += invalid.len();
        }
        bytes.len()
    }

    fn more_of_half(&mut self, byte: u8, handler: &mut impl Handler) -> usize {
        self.half.push(byte);
        match std::str::from_utf8(&self.half) {
            Ok(text) => {
                if let [C1_LEAD, byte @ 0x80..=0x9f] = *self.half {
                    self.half.clear();
                    self.c1(byte, handler);
                } else {
                    handler.text(text);
                    self.half.clear();
                }
                1
            }
            Err(error) if error.error_len().is_none() => 1,
            Err(_) => {
                self.half.clear();
                0
            }
        }
    }

    /// Does what xterm.js does: of the controls that draw it knows IND, NEL and HTS, and an OSC that is
    /// ended by anything but ST is thrown away.
    fn c1(&mut self, byte: u8, handler: &mut impl Handler) {
        if byte != C1_ST {
            self.reset();
        }
        match byte {
            C1_IND | C1_NEL | C1_HTS | C1_DCS | C1_SOS | C1_CSI..=C1_APC => {
                self.step(ESC, handler);
                self.step(byte - 0x40, handler);
            }
            _ => {}
        }
    }

    /// Bytes of a string up to what may end it, or one byte that does something.
    fn string(&mut self, rest: &[u8], handler: &mut impl Handler) -> usize {
        let lead = std::mem::take(&mut self.half) == [C1_LEAD];
        let byte = rest[0];
        if lead && (0x80..=0x9f).contains(&byte) {
            if self.held.last() == Some(&C1_LEAD) {
                self.held.pop();
            }
            self.c1(byte, handler);
            return 1;
        }
        if byte == C1_LEAD {
            self.hold(byte);
            self.half.push(byte);
            return 1;
        }
        let stops = |byte: u8| byte < 0x20 || byte == C1_LEAD;
        let run = prefix::len_until(rest, stops);
        if run > 0 {
            self.hold_all(&rest[..run]);
            return run;
        }
        self.step(byte, handler);
        1
    }

    fn step(&mut self, byte: u8, handler: &mut impl Handler) {
        match (self.state, byte) {
            (state, ESC) => {
                if state == State::Osc {
                    self.end_osc(handler);
                }
                self.reset();
                self.held.push(ESC);
                self.state = State::Escape;
            }
            (_, CAN | SUB) => self.reset(),
            (State::Osc, BEL) => {
                self.end_osc(handler);
                self.reset();
            }
            // Between the brackets of a string nothing is obeyed; else controls always are.
            (State::Osc | State::Other, 0..0x20) => {}
            (_, 0..0x20) => handler.control(byte),
            (_, DEL) | (State::Ground, _) => {}

            (State::Escape | State::EscapeIntermediate, 0x20..=0x2f) => {
                // Several of them mean nothing, whatever they are.
                if self.held.len() < 3 {
                    self.held.push(byte);
                }
                self.state = State::EscapeIntermediate;
            }
            (State::Escape, b'[') => self.begin(byte, State::Csi),
            (State::Escape, b']') => self.begin(byte, State::Osc),
            (State::Escape, b'P' | b'X' | b'^' | b'_') => self.begin(byte, State::Other),
            (State::Escape, 0x30..=0x7e) => {
                self.reset();
                handler.escape(None, byte);
            }
            (State::EscapeIntermediate, 0x30..=0x7e) => {
                let intermediate = match *self.held {
                    [_, one] => Some(one),
                    _ => Some(0),
                };
                self.reset();
                handler.escape(intermediate, byte);
            }
            (State::Csi, 0x20..=0x3f) => {
                let is_misplaced = (b'<'..=b'?').contains(&byte) && self.held.len() > 2;
                if is_misplaced {
                    self.give_up(NO_CSI);
                } else {
                    self.hold(byte);
                }
            }
            (State::Csi, 0x40..=0x7e) => {
                self.hold(byte);
                let held = std::mem::take(&mut self.held);
                self.reset();
                if !held.starts_with(NO_CSI) {
                    handler.csi(&held[2..]);
                }
                self.held = held;
                self.held.clear();
            }
            // No byte of a sequence: the character is dropped with it.
            _ => self.reset(),
        }
    }

    fn begin(&mut self, byte: u8, state: State) {
        self.held.push(byte);
        self.state = state;
    }

    fn hold(&mut self, byte: u8) {
        self.hold_all(&[byte]);
    }

    fn hold_all(&mut self, bytes: &[u8]) {
        let given_up = match self.state {
            State::Csi => NO_CSI,
            State::Osc => NO_OSC,
            _ => NO_STRING,
        };
        // A final byte still counts.
        if self.held.starts_with(given_up) && !(self.state == State::Csi && bytes[0] >= 0x40) {
            return;
        }
        if self.held.len() + bytes.len() > HELD_BYTES_MAX {
            self.give_up(given_up);
            return;
        }
        self.held.extend_from_slice(bytes);
        if self.state == State::Osc && self.held.starts_with(NO_OSC) {
            self.give_up(NO_OSC);
        }
    }

    fn give_up(&mut self, instead: &[u8]) {
        self.held.clear();
        self.held.extend_from_slice(instead);
    }

    fn end_osc(&mut self, handler: &mut impl Handler) {
        let held = std::mem::take(&mut self.held);
        if !held.starts_with(NO_OSC) {
            handler.osc(held.get(2..).unwrap_or_default());
        }
        self.held = held;
    }

    fn reset(&mut self) {
        self.held.clear();
        self.half.clear();
        self.state = State::Ground;
        // Long strings are rare.
        if self.held.capacity() > 256 {
            self.held = Vec::new();
        }
    }
}

/// Whether `bytes` may become one character with those that follow.
fn is_half(bytes: &[u8]) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(_) => false,
        Err(error) => error.valid_up_to() == 0 && error.error_len().is_none(),
    }
}
