//! Which control sequences have the terminal answer or act (xterm's ctlseqs).
//!
//! In: a sequence without its introducer and without control bytes. Out: which of it. Owns nothing.

/// What the terminal does with a control sequence besides drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Nothing: it draws or sets a mode.
    Nothing,
    /// It answers.
    Answers,
    /// It acts on its window.
    Acts,
}

/// What does `CSI` followed by `bytes`, final byte included? Questions are DSR, DA1 to DA3, DECRQM,
/// XTVERSION, window reports, kitty's keyboard mode, XTQMODKEYS, XTSMGRAPHICS and the reports that
/// the VT300 and later have; an act is every other window operation but the stack of titles.
///
/// Where terminals look at the first parameter only, so does this; a missing
/// one is 0. `CSI 0 n` or `CSI ? 1 c` are answers, which terminals ignore.
pub(crate) fn deed(bytes: impl Iterator<Item = u8>) -> Deed {
    let mut marker = 0;
    let mut first = 0_u32;
    let mut in_first = true;
    let mut intermediate = 0;
    for (place, byte) in bytes.enumerate() {
        match byte {
            // ECMA-48, 5.4: parameters, then intermediates, then the final.
            0x30..=0x3f if intermediate != 0 => return Deed::Nothing,
            b'<'..=b'?' if place == 0 => marker = byte,
            b'<'..=b'?' => return Deed::Nothing,
            b'0'..=b'9' if in_first => {
                let digit = u32::from(byte - b'0');
                first = first.saturating_mul(10).saturating_add(digit);
            }
            b'0'..=b'9' => {}
            b':' | b';' => in_first = false,
            0x20..=0x2f if intermediate == 0 => intermediate = byte,
            0x20..=0x2f => return Deed::Nothing,
            _ => {
                let asks = match (marker, intermediate, byte) {
                    (0, 0, b'n') => matches!(first, 5 | 6),
                    (0, 0, b'c') | (b'>', 0, b'q') => first == 0,
                    (b'?', 0, b'n' | b'm' | b'S') | (b'>' | b'=', 0, b'c') => true,
                    (0 | b'?', b'$', b'p') => true,
                    (0, 0, b't') => matches!(first, 11 | 13..=16 | 18..=21),
                    (b'?', 0, b'u') => first == 0,
                    // DECREQTPARM.
                    (0, 0, b'x') => matches!(first, 0 | 1),
                    // DECRQPSR, DECRQTSR, DECRQCRA, DECRQDE, DECRQLP, DECRQUPSS, XTREPORTSGR.
                    (0, b'$', b'w' | b'u') | (0, b'*', b'y') | (0, b'"', b'v') => true,
                    (0, b'\'', b'|') | (0, b'&', b'u') | (0, b'#', b'|') => true,
                    _ => false,
                };
                return match (marker, intermediate, byte) {
                    _ if asks => Deed::Answers,
                    (0, 0, b't') if !matches!(first, 22 | 23) => Deed::Acts,
                    _ => Deed::Nothing,
                };
            }
        }
    }
    Deed::Nothing
}

/// Is `DCS` followed by `bytes` and `q` DECRQSS (`$`) or XTGETTCAP (`+`)?
pub(crate) fn asks_for_string(bytes: impl Iterator<Item = u8>) -> bool {
    let mut behind_parameters = bytes.skip_while(|byte| matches!(byte, b'0'..=b';'));
    matches!(behind_parameters.next(), Some(b'$' | b'+')) && behind_parameters.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_is_known_and_its_neighbours_are_not() {
        for query in [
            "5n",
            "6n",
            "06n",
            "6;1n",
            "?n",
            "?6n",
            "?996n",
            "c",
            "0c",
            "00c",
            "0;1c",
            ">c",
            ">0c",
            ">1c",
            "=c",
            "=0c",
            "4$p",
            "$p",
            "?2026$p",
            ">q",
            ">0q",
            "11t",
            "13;2t",
            "14t",
            "15t",
            "16t",
            "18t",
            "19t",
            "20t",
            "21t",
            "?u",
            "?0u",
            "?4m",
            "?m",
            "?1;1;0S",
            "x",
            "1x",
            "1$w",
            "1$u",
            "1;1;1;1;9;9*y",
            "\"v",
            "'|",
            "&u",
            "1;1;9;9#|",
        ] {
            assert_eq!(deed(query.bytes()), Deed::Answers, "{query}");
        }
        for act in ["t", "8;24;80t", "2t", "9;1t", "12t", "17t", "30t"] {
            assert_eq!(deed(act.bytes()), Deed::Acts, "{act}");
        }
        for other in [
            "n", "0n", "3n", "7n", ">4n", "1c", "?1;2c", "!p", "61;1\"p", "p", ">4$p", "?1$$p",
            "$1p", "?4$q", "q", "0q", ">1q", " q", "2 q", "1;?6n", "m", ">4;2m", "H", "?25h", "6R",
            "22;0t", "23t", "?18t", ">18t", "u", "?1u", ">1u", "=1;1u", "<u", "2S", "2x",
        ] {
            assert_eq!(deed(other.bytes()), Deed::Nothing, "{other}");
        }
    }

    #[test]
    fn only_one_dollar_or_plus_asks_for_a_string() {
        for query in ["$", "+", "1$", "0;1+"] {
            assert!(asks_for_string(query.bytes()), "{query}");
        }
        for other in ["", "0;1", "$$", "$+", "!", "?$", "$1"] {
            assert!(!asks_for_string(other.bytes()), "{other}");
        }
    }
}
