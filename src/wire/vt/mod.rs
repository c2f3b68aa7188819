//! Old terminal output without what would act again.
//!
//! In: retained output of a terminal, cut anywhere. Out: the same bytes less what has the viewer's
//! terminal answer, since an answer that comes late is typed into the shell, and less what it does
//! besides drawing; and the questions by themselves, for somebody who is to hear them after all.
//! Owns the sequence that is arriving. Knows no process and no socket; live output does not pass
//! here.
//!
//! Cut are: ENQ, DSR, DA1 (`ESC Z` too), DA2, DA3, DECRQM, XTVERSION, window
//! reports and operations, kitty's keyboard mode, XTQMODKEYS, XTSMGRAPHICS and older reports
//! ([`csi`]); the colour queries of OSC 4, 5 and 10 to 19 and both queries and writes of the
//! clipboard, OSC 52 ([`osc`]); DECRQSS and XTGETTCAP; BEL; notifications (OSC 9, 99, 777) and OSC
//! 1337. Sequences as in ECMA-48 and xterm's ctlseqs. What single terminals ask in strings of their
//! own (kitty's graphics) passes.
//!
//! - Everything else passes byte for byte, also what never ends.
//! - At most [`HELD_BYTES_MAX`] bytes are held back; a longer sequence passes.
//! - A cut never joins what stands before and behind it to a new sequence:
//!   where the query also ended an unfinished sequence, an ST takes its place.
//! - C1 controls count as the characters U+0080 to U+009F, as viewers decode them. As bytes (0x80 to
//!   0x9f) they are text: in UTF-8 these continue characters.

mod csi;
mod osc;
pub mod screen;

use crate::wire::prefix;

use self::csi::Deed;
use self::osc::May;

/// Most bytes of an unfinished sequence that are held back.
pub const HELD_BYTES_MAX: usize = 4096;

const ENQ: u8 = 0x05;
const BEL: u8 = 0x07;
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;
const ESC: u8 = 0x1b;
const DEL: u8 = 0x7f;

/// String Terminator.
const ST: &[u8] = b"\x1b\\";

/// The first byte of U+0080 to U+00BF in UTF-8, among them the C1 controls.
const C1_LEAD: u8 = 0xc2;

/// The second byte of those that begin a sequence or end a string, or ask who the terminal is.
const C1_DCS: u8 = 0x90;
const C1_SOS: u8 = 0x98;
const C1_DECID: u8 = 0x9a;
const C1_CSI: u8 = 0x9b;
const C1_ST: u8 = 0x9c;
const C1_OSC: u8 = 0x9d;
const C1_PM: u8 = 0x9e;
const C1_APC: u8 = 0x9f;

/// Most bytes of questions that are kept for later.
const ASKED_BYTES_MAX: usize = 4096;

/// Copies terminal output without what would act again.
#[derive(Debug, Default)]
pub struct QueryFilter {
    state: State,
    /// The sequence that is arriving, from its ESC or C1 control on. Empty outside of one.
    held: Vec<u8>,
    /// A [`C1_LEAD`] has come, and what follows it has not.
    lead: bool,
    /// What was passed on ends inside a sequence that the held ESC would end.
    unfinished: bool,
    /// The questions that were cut.
    asked: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Ground,
    /// Behind an ESC.
    Escape,
    /// Behind an ESC and an intermediate byte, as in `ESC ( B`.
    EscapeIntermediate,
    /// Behind `ESC [`.
    Csi,
    /// Behind `ESC ]`, in the number that says what the string is for.
    OscCode,
    /// In an OSC that can hold a query.
    OscBody,
    /// Behind `ESC P`, before the byte that says what the string is for.
    DcsHead,
    /// In a DECRQSS or XTGETTCAP.
    DcsBody,
    /// Behind an ESC in one of the two bodies: the beginning of an ST, or of
    /// something else that ends the string as well.
    BodyEscape { is_osc: bool },
    /// In a string that asks nothing; nothing is held.
    Passing { is_osc: bool },
    /// In a string that acts; nothing of it passes.
    Dropping { is_osc: bool },
    /// Behind an ESC in such a string.
    DroppingEscape { is_osc: bool },
}

impl QueryFilter {
    /// Appends `input` to `out`, less what is a query or may become one with
    /// the bytes that follow.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        out.reserve(input.len());
        let mut rest = input;
        while let Some((&byte, tail)) = rest.split_first() {
            if std::mem::take(&mut self.lead) {
                match byte {
                    0x80..=0x9f => {
                        self.c1(byte, out);
                        rest = tail;
                    }
                    _ => self.lead_of_text(byte, out),
                }
                continue;
            }
            let plain = match self.state {
                State::Ground => {
                    prefix::len_until(rest, |byte| acts_alone(byte) || byte == C1_LEAD)
                }
                State::Passing { is_osc } => {
                    prefix::len_until(rest, |byte| ends_string(byte, is_osc))
                }
                State::Dropping { is_osc } => {
                    prefix::len_until(rest, |byte| ends_string(byte, is_osc))
                }
                _ => 0,
            };
            if plain > 0 {
                let (text, tail) = rest.split_at(plain);
                if !matches!(self.state, State::Dropping { .. }) {
                    out.extend_from_slice(text);
                }
                rest = tail;
                continue;
            }
            rest = tail;
            match byte {
                C1_LEAD => self.lead = true,
                _ => self.step(byte, out),
            }
            if self.held.len() + usize::from(self.lead) >= HELD_BYTES_MAX {
                self.pass_overlong(out);
            }
        }
    }

    /// Appends what is held back: the output ended inside a sequence. What was asked stays.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        let drops = matches!(self.state, State::Dropping { .. });
        if self.lead && !drops {
            out.push(C1_LEAD);
        }
        match self.state {
            // What follows belongs to a string that does nothing; whoever draws it knows no better.
            State::Dropping { is_osc: true } => out.extend_from_slice(b"\x1b]!"),
            State::Dropping { is_osc: false } => out.extend_from_slice(b"\x1bX"),
            State::DroppingEscape { .. } => out.push(ESC),
            _ => {}
        }
        *self = Self {
            asked: std::mem::take(&mut self.asked),
            ..Self::default()
        };
    }

    /// The questions that were cut so far, in their order; the first ones, if there are many.
    pub fn asked(&self) -> &[u8] {
        &self.asked
    }

    fn note_question(&mut self) {
        if self.asked.len() + self.held.len() <= ASKED_BYTES_MAX {
            self.asked.extend_from_slice(&self.held);
        }
    }

    /// A [`C1_LEAD`] that `byte` makes no control. By itself it is no character either, and what is
    /// cut behind it must not have it meet what makes it one.
    fn lead_of_text(&mut self, byte: u8, out: &mut Vec<u8>) {
        match self.state {
            State::Ground | State::Passing { .. } => out.push(C1_LEAD),
            State::Dropping { .. } => {}
            _ => self.step(C1_LEAD, out),
        }
        if self.state == State::Ground {
            match byte {
                ESC | C1_LEAD => self.unfinished = true,
                ENQ | BEL => out.extend_from_slice(ST),
                _ => {}
            }
        }
    }

    /// A C1 control as a character. It ends whatever is arriving.
    fn c1(&mut self, byte: u8, out: &mut Vec<u8>) {
        match self.state {
            State::BodyEscape { is_osc } => {
                self.held.pop();
                self.end_string(is_osc, b"", out);
                self.begin();
            }
            State::DroppingEscape { .. } => self.begin(),
            _ => {}
        }
        let control = [C1_LEAD, byte];
        match self.state {
            State::Dropping { .. } => {
                self.cut(out);
                if byte == C1_ST {
                    return;
                }
            }
            State::OscBody | State::DcsBody => {
                let is_osc = self.state == State::OscBody;
                if byte == C1_ST {
                    self.held.extend_from_slice(&control);
                    return self.end_string(is_osc, &control, out);
                }
                self.end_string(is_osc, b"", out);
            }
            State::Ground => {}
            _ if byte == C1_ST => {}
            _ => self.pass_unfinished(out),
        }
        self.held.extend_from_slice(&control);
        match byte {
            C1_CSI => self.state = State::Csi,
            C1_OSC => self.state = State::OscCode,
            C1_DCS => self.state = State::DcsHead,
            C1_DECID => {
                self.note_question();
                self.cut(out);
            }
            _ => {
                self.pass(out);
                if let C1_SOS | C1_PM | C1_APC = byte {
                    self.state = State::Passing { is_osc: false };
                }
            }
        }
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) {
        if let State::BodyEscape { is_osc } = self.state {
            if byte == b'\\' {
                self.held.push(byte);
                self.end_string(is_osc, ST, out);
                return;
            }
            // The ESC ends the string and begins the next sequence.
            self.held.pop();
            self.end_string(is_osc, b"", out);
            self.begin();
        }
        if let State::DroppingEscape { .. } = self.state {
            if byte == b'\\' {
                self.cut(out);
                return;
            }
            self.begin();
        }
        match byte {
            ESC => match self.state {
                State::Dropping { is_osc } => self.state = State::DroppingEscape { is_osc },
                State::OscBody => self.hold(byte, State::BodyEscape { is_osc: true }),
                State::DcsBody => self.hold(byte, State::BodyEscape { is_osc: false }),
                State::Ground => self.begin(),
                _ => {
                    self.pass_unfinished(out);
                    self.begin();
                }
            },
            CAN | SUB if matches!(self.state, State::Dropping { .. }) => self.cut(out),
            CAN | SUB => self.pass_with(byte, out),
            _ => self.step_inside(byte, out),
        }
    }

    /// One byte of a sequence that neither begins nor cancels one.
    fn step_inside(&mut self, byte: u8, out: &mut Vec<u8>) {
        match (self.state, byte) {
            (State::OscCode | State::Passing { is_osc: true }, BEL) => self.pass_with(byte, out),
            (State::Dropping { .. }, BEL) => self.cut(out),
            (State::Ground, ENQ) => {
                if self.asked.len() < ASKED_BYTES_MAX {
                    self.asked.push(ENQ);
                }
            }
            (State::Ground, BEL) => {}
            // Terminals obey these in the middle of a sequence, too.
            (State::Escape | State::EscapeIntermediate | State::Csi, ENQ | BEL) => {}
            (State::OscBody, BEL) => {
                self.held.push(byte);
                self.end_string(true, &[BEL], out);
            }
            // Terminals obey or ignore a control byte and stay in the sequence.
            (state, 0..0x20 | DEL) => self.hold(byte, state),

            (State::Escape | State::EscapeIntermediate, 0x20..=0x2f) => {
                self.hold(byte, State::EscapeIntermediate);
            }
            (State::Escape, b'[') => self.hold(byte, State::Csi),
            (State::Escape, b']') => self.hold(byte, State::OscCode),
            (State::Escape, b'P') => self.hold(byte, State::DcsHead),
            (State::Escape, b'Z') => {
                self.held.push(byte);
                self.note_question();
                self.cut(out);
            }
            (State::Escape, b'X' | b'^' | b'_') => self.pass_string_with(byte, false, out),

            (State::Csi, 0x20..=0x3f) => self.hold(byte, State::Csi),
            (State::Csi, 0x40..=0x7e) => {
                self.held.push(byte);
                match csi::deed(self.printable()) {
                    Deed::Nothing => self.pass(out),
                    Deed::Acts => self.cut(out),
                    Deed::Answers => {
                        self.note_question();
                        self.cut(out);
                    }
                }
            }

            (State::OscCode, b'0'..=b'9') => self.hold(byte, State::OscCode),
            (State::OscCode, b';') => match osc::may(self.printable()) {
                May::Ask => self.hold(byte, State::OscBody),
                May::Act => self.drop_string(out),
                May::Set => self.pass_string_with(byte, true, out),
            },
            (State::OscBody, _) => {
                self.hold(byte, State::OscBody);
                if self.held.len() < 80 && osc::writes_clipboard(self.printable()) {
                    self.drop_string(out);
                }
            }
            (State::OscCode, _) => self.pass_string_with(byte, true, out),
            (State::DcsBody, _) => self.hold(byte, self.state),

            (State::DcsHead, 0x20..=0x3f) => self.hold(byte, State::DcsHead),
            (State::DcsHead, b'q') if csi::asks_for_string(self.printable()) => {
                self.hold(byte, State::DcsBody);
            }
            (State::DcsHead, _) => self.pass_string_with(byte, false, out),

            // Some terminals give the sequence up here, some go on with it.
            (_, 0x80..) => {
                self.held.push(byte);
                self.pass_unfinished(out);
                self.state = State::Ground;
            }
            _ => self.pass_with(byte, out),
        }
    }

    fn begin(&mut self) {
        self.held.push(ESC);
        self.state = State::Escape;
    }

    fn hold(&mut self, byte: u8, state: State) {
        self.held.push(byte);
        self.state = state;
    }

    /// The held sequence is whole and asks nothing.
    fn pass(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        self.state = State::Ground;
        self.unfinished = false;
    }

    fn pass_with(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.held.push(byte);
        self.pass(out);
    }

    /// The held bytes begin a string that asks nothing, whatever follows.
    fn pass_string_with(&mut self, byte: u8, is_osc: bool, out: &mut Vec<u8>) {
        self.pass_with(byte, out);
        self.state = State::Passing { is_osc };
    }

    /// The held bytes begin an OSC that acts: nothing of it passes.
    fn drop_string(&mut self, out: &mut Vec<u8>) {
        self.cut(out);
        self.state = State::Dropping { is_osc: true };
    }

    /// The held sequence is broken off by the next one.
    fn pass_unfinished(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        self.unfinished = true;
    }

    fn pass_overlong(&mut self, out: &mut Vec<u8>) {
        if self.state == State::OscBody && osc::is_clipboard(self.printable()) {
            return self.drop_string(out);
        }
        let escape = matches!(self.state, State::BodyEscape { .. });
        if escape {
            self.held.pop();
        }
        let state = self.state;
        self.pass_unfinished(out);
        self.state = match state {
            // The BEL that ends it must not be taken for a bell.
            State::OscCode | State::OscBody => State::Passing { is_osc: true },
            State::DcsHead | State::DcsBody => State::Passing { is_osc: false },
            _ => State::Ground,
        };
        if escape {
            self.begin();
        }
    }

    /// Throws the held query away, except for control bytes inside it, which
    /// the terminal would have obeyed. ENQ and BEL act outside of a string only, and there they
    /// would be left by themselves.
    fn cut(&mut self, out: &mut Vec<u8>) {
        if self.unfinished {
            out.extend_from_slice(ST);
        }
        let obeyed = |byte: &u8| *byte < 0x20 && !acts_alone(*byte);
        out.extend(self.held.drain(..).skip(1).filter(obeyed));
        self.state = State::Ground;
        self.unfinished = false;
    }

    /// A held string is whole. `terminator` is what it ends with; empty where
    /// the ESC of the next sequence ended it.
    fn end_string(&mut self, is_osc: bool, terminator: &[u8], out: &mut Vec<u8>) {
        let end = self.held.len().saturating_sub(terminator.len());
        self.held.truncate(end);
        let kept = if is_osc {
            osc::without_queries(self.printable())
        } else {
            Kept::Nothing
        };
        if matches!(kept, Kept::Some(_) | Kept::Nothing) {
            let len = self.held.len();
            self.held.extend_from_slice(ST);
            self.note_question();
            self.held.truncate(len);
        }
        match kept {
            Kept::Everything => {}
            Kept::Some(bytes) if !has_c1(&bytes) => self.held = bytes,
            Kept::Some(_) | Kept::Nothing | Kept::Act => {
                self.held.clear();
                self.cut(out);
                return;
            }
        }
        self.held.extend_from_slice(terminator);
        self.pass(out);
        self.unfinished = terminator.is_empty();
    }

    /// What follows the introducer (`ESC [` and the like), without the control
    /// bytes that terminals skip.
    fn printable(&self) -> impl Iterator<Item = u8> + '_ {
        let printable = |byte: &u8| *byte >= 0x20 && *byte != DEL;
        let (held, introducer) = match self.held.as_slice() {
            [C1_LEAD, _, held @ ..] => (held, 0),
            held => (held, 1),
        };
        held.iter().copied().filter(printable).skip(introducer)
    }
}

/// What remains of a string without the queries in it.
#[derive(Debug, PartialEq, Eq)]
enum Kept {
    /// It asks nothing.
    Everything,
    /// These bytes in its place, up to its terminator.
    Some(Vec<u8>),
    /// It does nothing else than ask.
    Nothing,
    /// It asks nothing and acts.
    Act,
}

/// What does something without an ESC: BEL and ENQ; and ESC, which begins the rest.
fn acts_alone(byte: u8) -> bool {
    matches!(byte, ESC | ENQ | BEL)
}

/// Ends a string that is not looked into, or may do so. BEL ends an OSC only.
fn ends_string(byte: u8, is_osc: bool) -> bool {
    matches!(byte, ESC | CAN | SUB | C1_LEAD) || (is_osc && byte == BEL)
}

/// Whether there is a C1 control in it.
fn has_c1(bytes: &[u8]) -> bool {
    let mut pairs = bytes.windows(2);
    pairs.any(|pair| matches!(pair, [C1_LEAD, 0x80..=0x9f]))
}

#[cfg(test)]
mod tests;
