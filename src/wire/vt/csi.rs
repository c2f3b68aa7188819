//! Which control sequences ask the terminal something (xterm's ctlseqs).
//!
//! In: a sequence without its introducer and without control bytes. Out: yes or
//! no. Owns nothing.

/// Is `CSI` followed by `bytes`, final byte included, one of DSR, DA1 to DA3,
/// DECRQM, XTVERSION, a window report, and the question for kitty's keyboard
/// mode?
///
/// Where terminals look at the first parameter only, so does this; a missing
/// one is 0. `CSI 0 n` or `CSI ? 1 c` are answers, which terminals ignore.
pub(crate) fn is_query(bytes: impl Iterator<Item = u8>) -> bool {
    let mut marker = 0;
    let mut first = 0_u32;
    let mut in_first = true;
    let mut intermediate = 0;
    for (place, byte) in bytes.enumerate() {
        match byte {
            // ECMA-48, 5.4: parameters, then intermediates, then the final.
            0x30..=0x3f if intermediate != 0 => return false,
            b'<'..=b'?' if place == 0 => marker = byte,
            b'<'..=b'?' => return false,
            b'0'..=b'9' if in_first => {
                let digit = u32::from(byte - b'0');
                first = first.saturating_mul(10).saturating_add(digit);
            }
            b'0'..=b'9' => {}
            b':' | b';' => in_first = false,
            0x20..=0x2f if intermediate == 0 => intermediate = byte,
            0x20..=0x2f => return false,
            _ => {
                return match (marker, intermediate, byte) {
                    (0, 0, b'n') => matches!(first, 5 | 6),
                    (0, 0, b'c') | (b'>', 0, b'q') => first == 0,
                    (b'?', 0, b'n') | (b'>' | b'=', 0, b'c') => true,
                    (0 | b'?', b'$', b'p') => true,
                    (0, 0, b't') => matches!(first, 11 | 13..=16 | 18..=21),
                    (b'?', 0, b'u') => first == 0,
                    _ => false,
                };
            }
        }
    }
    false
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
            "5n", "6n", "06n", "6;1n", "?n", "?6n", "?996n", "c", "0c", "00c", "0;1c", ">c", ">0c",
            ">1c", "=c", "=0c", "4$p", "$p", "?2026$p", ">q", ">0q", "11t", "13;2t", "14t", "15t",
            "16t", "18t", "19t", "20t", "21t", "?u", "?0u",
        ] {
            assert!(is_query(query.bytes()), "{query}");
        }
        for other in [
            "n", "0n", "3n", "7n", ">4n", "1c", "?1;2c", "!p", "61;1\"p", "p", ">4$p", "?1$$p",
            "$1p", "?4$q", "q", "0q", ">1q", " q", "2 q", "1;?6n", "m", "H", "?25h", "6R", "t",
            "8;24;80t", "12t", "17t", "22;0t", "23t", "?18t", ">18t", "u", "?1u", ">1u", "=1;1u",
            "<u",
        ] {
            assert!(!is_query(other.bytes()), "{other}");
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
