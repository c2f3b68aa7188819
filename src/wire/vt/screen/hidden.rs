//! What `avt` knows of a terminal and shows in its dump only.
//!
//! In: a dump. Out: tab stops, what DECSC has saved, the attributes of the next character, and
//! modes. The cells in the dump are skipped; they can be read by other means.

/// What DECSC has saved for one screen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Saved<'a> {
    /// Parameters of CUP.
    pub(super) at: &'a str,
    /// Parameters of SGR.
    pub(super) pen: &'a str,
    pub(super) is_origin: bool,
    pub(super) is_without_wrap: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Hidden<'a> {
    /// Columns from 1, where they are not the usual ones.
    pub(super) tabs: Option<Vec<&'a str>>,
    /// Of the primary and the alternate screen.
    pub(super) saved: [Option<Saved<'a>>; 2],
    /// Parameters of CUP for the cursor of the screen beneath the alternate one.
    pub(super) beneath: &'a str,
    /// Parameters of SGR.
    pub(super) pen: &'a str,
    pub(super) is_origin: bool,
    pub(super) is_without_wrap: bool,
    pub(super) is_inserting: bool,
    pub(super) is_new_line: bool,
    pub(super) has_cursor_keys: bool,
    /// Whether G0 and G1 hold the line drawing set.
    pub(super) is_drawing: [bool; 2],
    /// SO: G1 is in use.
    pub(super) is_shifted: bool,
}

impl<'a> Hidden<'a> {
    /// Reads a dump.
    pub(super) fn of(dump: &'a str) -> Self {
        let mut hidden = Self::default();
        let mut on_alternate = false;
        let (mut at, mut column) = ("", "");
        for part in dump.split('\x1b').skip(1) {
            let Some(sequence) = part.strip_prefix('[') else {
                match part.as_bytes() {
                    [b'7', ..] => {
                        hidden.saved[usize::from(on_alternate)] = Some(Saved {
                            at,
                            pen: hidden.pen,
                            is_origin: hidden.is_origin,
                            is_without_wrap: hidden.is_without_wrap,
                        });
                    }
                    [b'(', set, ..] => hidden.is_drawing[0] = *set == b'0',
                    [b')', set, ..] => hidden.is_drawing[1] = *set == b'0',
                    _ => {}
                }
                hidden.is_shifted |= part.ends_with('\x0e');
                continue;
            };
            let is_final = |c: char| ('\x40'..='\x7e').contains(&c);
            let Some((params, rest)) = sequence.find(is_final).map(|end| sequence.split_at(end))
            else {
                continue;
            };
            match (params, rest.as_bytes()[0]) {
                ("5", b'W') => hidden.tabs = Some(Vec::new()),
                ("0", b'W') => hidden.tabs.get_or_insert_default().push(column),
                (_, b'G') => column = params,
                (_, b'H') => at = params,
                (_, b'm') => hidden.pen = params,
                ("?1047", b'h') => {
                    hidden.beneath = at;
                    on_alternate = true;
                }
                ("?6", end) => hidden.is_origin = end == b'h',
                ("?7", end) => hidden.is_without_wrap = end == b'l',
                ("?1", b'h') => hidden.has_cursor_keys = true,
                ("4", b'h') => hidden.is_inserting = true,
                ("20", b'h') => hidden.is_new_line = true,
                _ => {}
            }
            hidden.is_shifted |= rest.ends_with('\x0e');
        }
        hidden
    }
}
