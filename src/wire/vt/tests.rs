//! The promises of the filter, at every split and on random output.

use super::*;
use crate::wire::testing::{Rng, for_each_split};

const QUERIES: &[&str] = &[
    "\x1b[5n",
    "\x1b[6n",
    "\x1b[?6n",
    "\x1b[?996n",
    "\x1b[c",
    "\x1b[0c",
    "\x1bZ",
    "\x1b[>c",
    "\x1b[>0c",
    "\x1b[=c",
    "\x1b[=0c",
    "\x1b[4$p",
    "\x1b[?2026$p",
    "\x1b[>q",
    "\x1b[>0q",
    "\x1bP$qm\x1b\\",
    "\x1bP$q q\x1b\\",
    "\x1bP+q544e;524742\x1b\\",
    "\x1b]4;1;?\x07",
    "\x1b]4;1;?;2;?\x1b\\",
    "\x1b]5;0;?\x07",
    "\x1b]10;?\x07",
    "\x1b]11;?\x1b\\",
    "\x1b]10;?;?;?\x07",
    "\x1b]19;?\x1b\\",
    "\x1b[18t",
    "\x1b[14;2t",
    "\x1b[?u",
    "\x1b]52;c;?\x07",
    "\x1b[?4m",
    "\x1b[?1;1;0S",
    "\x1b[x",
    "\x1b[1;1;1;1;24;80*y",
];

/// Sequences that make a sound, show something elsewhere or move the window.
const ACTS: &[&str] = &[
    "\x1b]9;done\x07",
    "\x1b]99;i=1;title\x1b\\",
    "\x1b]777;notify;a;b\x07",
    "\x1b]1337;File=name=eA==:AAAA\x07",
    "\x1b]52;c;aGk=\x07",
    "\x1b]52;;aGk=\x1b\\",
    "\x1b]52;c;!\x07",
    "\x1b[8;24;80t",
    "\x1b[2t",
    "\x1b[t",
    "\x07",
];

/// Sequences that ask nothing, among them the answers to the queries.
const OTHERS: &[&str] = &[
    "\x1b[0n",
    "\x1b[24;80R",
    "\x1b[?64;1;2c",
    "\x1b[>4n",
    "\x1b[m",
    "\x1b[38;2;1;2;3m",
    "\x1b[?1049h",
    "\x1b[!p",
    "\x1b[61;1\"p",
    "\x1b[2 q",
    "\x1b[22;0t",
    "\x1b[u",
    "\x1b[>1u",
    "\x1b7",
    "\x1b(B",
    "\x1b\\",
    "\x1bP1$r0m\x1b\\",
    "\x1bP+r544e\x1b\\",
    "\x1bP0;1q#0;2;0;0;0~~\x1b\\",
    "\x1bPtmux;x\x1b\\",
    "\x1b]0;title?\x07",
    "\x1b]2;what\x1b\\",
    "\x1b]4;1;rgb:ff/00/00\x07",
    "\x1b]11;#123456\x1b\\",
    "\x1b]8;;http://x/?\x1b\\",
    "\x1b]112\x07",
    "\x1b_Gi=1;AAAA\x1b\\",
    "\x1bX6n\x1b\\",
    "plain 6n text\r\n",
    "grüße \u{1f600} \u{2713}\u{15b}\u{1d}",
    "\x08\t",
];

fn filter(parts: &[&[u8]]) -> Vec<u8> {
    let (mut filter, mut out) = (QueryFilter::default(), Vec::new());
    for part in parts {
        filter.push(part, &mut out);
        assert!(filter.held.len() < HELD_BYTES_MAX);
    }
    filter.finish(&mut out);
    out
}

/// Filters `input` whole and at every split, and checks the result.
fn expect(input: &[u8], expected: &[u8]) {
    let show = |bytes: &[u8]| bytes.escape_ascii().to_string();
    for_each_split(input, |parts| {
        assert_eq!(show(&filter(parts)), show(expected), "{}", show(input));
    });
}

#[test]
fn every_query_is_cut_and_its_surroundings_are_not() {
    for query in QUERIES {
        expect(query.as_bytes(), b"");
        expect(
            format!("a\x1b[1m{query}6n\r\n").as_bytes(),
            b"a\x1b[1m6n\r\n",
        );
    }
    expect(QUERIES.concat().as_bytes(), b"");
}

#[test]
fn what_acts_is_cut_however_long_it_is() {
    for act in ACTS {
        expect(act.as_bytes(), b"");
        expect(format!("a\x1b[1m{act}6n\r\n").as_bytes(), b"a\x1b[1m6n\r\n");
    }
    expect(ACTS.concat().as_bytes(), b"");
    for start in ["\x1b]52;c;", "\x1b]9;", "\x1b]1337;File=:", "\x1b]52;"] {
        let long = format!("<{start}{}\x07>", "QUJD".repeat(HELD_BYTES_MAX));
        assert_eq!(filter(&[long.as_bytes()]), b"<>");
        let endless = format!("<{start}{}", "QUJD".repeat(HELD_BYTES_MAX));
        assert_eq!(filter(&[endless.as_bytes()]), b"<\x1b]!");
    }
    // The ESC of the next sequence ends a string; CAN throws it away.
    expect(b"\x1b]9;x\x1b[1my", b"\x1b[1my");
    expect(b"\x1b]9;x\x18y", b"y");
}

#[test]
fn questions_are_kept_for_somebody_who_may_answer_them() {
    let mut all = QUERIES.to_vec();
    all.push("\x05");
    let output: String = all
        .iter()
        .map(|query| format!("text{query}m\x07"))
        .collect();
    for_each_split(output.as_bytes(), |parts| {
        let (mut filter, mut out) = (QueryFilter::default(), Vec::new());
        for part in parts {
            filter.push(part, &mut out);
        }
        let st = |text: &str| text.replace('\x07', "\x1b\\");
        let asked = String::from_utf8_lossy(filter.asked()).into_owned();
        assert_eq!(st(&asked), st(&all.concat()));
    });
    let many = "\x1b[6n".repeat(10_000);
    let mut filter = QueryFilter::default();
    filter.push(many.as_bytes(), &mut Vec::new());
    assert_eq!(filter.asked().len(), ASKED_BYTES_MAX);
}

#[test]
fn everything_else_passes_byte_for_byte() {
    for other in OTHERS {
        expect(other.as_bytes(), other.as_bytes());
    }
    let all = OTHERS.concat();
    expect(all.as_bytes(), all.as_bytes());
    // Not UTF-8, and 8-bit forms, which are no controls in UTF-8.
    let bytes: Vec<u8> = (0x80..=0xff).chain(*b"\x9b6n\x9d11;?\x9c").collect();
    expect(&bytes, &bytes);
}

/// The same with its controls as characters: `ESC [` as U+009B, `ESC \\` as U+009C.
fn with_c1(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars().peekable();
    while let Some(char) = rest.next() {
        let next = rest.peek().map(|next| u32::from(*next));
        match next.and_then(|next| char::from_u32(next + 0x40)) {
            Some(c1) if char == '\x1b' && ('\u{90}'..='\u{9f}').contains(&c1) => {
                out.push(c1);
                rest.next();
            }
            _ => out.push(char),
        }
    }
    out
}

#[test]
fn controls_as_characters_are_what_they_are_with_an_escape() {
    for query in QUERIES {
        let query = with_c1(query);
        expect(query.as_bytes(), b"");
        expect(
            format!("\u{a9}{query}\u{a9}").as_bytes(),
            "\u{a9}\u{a9}".as_bytes(),
        );
        let mut filter = QueryFilter::default();
        filter.push(query.as_bytes(), &mut Vec::new());
        assert!(filter.asked().starts_with(b"\xc2"), "{query:?}");
    }
    for act in ACTS {
        expect(format!("<{}>", with_c1(act)).as_bytes(), b"<>");
    }
    for other in OTHERS {
        let other = with_c1(other);
        expect(other.as_bytes(), other.as_bytes());
    }
    // Those that draw, and those that nobody knows.
    let drawing = "a\u{84}b\u{85}\u{88}c\u{8d}d\u{80}\u{99}e";
    expect(drawing.as_bytes(), drawing.as_bytes());
    // Each ends what is arriving, as ESC does.
    expect("\x1b[3\u{9b}6n1m".as_bytes(), b"\x1b[3\x1b\\1m");
    expect(
        "\x1b]0;title\u{9b}6nrest".as_bytes(),
        b"\x1b]0;title\x1b\\rest",
    );
    expect("\x1b]9;x\u{9b}1my".as_bytes(), "\u{9b}1my".as_bytes());
    expect("\x1b]11;?\u{85}x".as_bytes(), "\u{85}x".as_bytes());
    expect("\x1b]9;x\x1b\u{9b}6ny".as_bytes(), b"\x1b\x1b\\y");
}

#[test]
fn a_cut_makes_no_control_of_what_is_left() {
    expect(b"\xc2\x1b[6n\x9b6n", b"\xc2\x1b\\\x9b6n");
    expect(b"\xc2\x07\x9b6n", b"\xc2\x1b\\\x9b6n");
    expect(b"\xc2\xc2\x9a\x9b6n", b"\xc2\x1b\\\x9b6n");
    expect(b"\x1b[1\xc2\x05\x9b6n", b"\x1b[1\xc2\x1b\\\x9b6n");
    expect(b"\x1b]4;1;?;2;a\xc2\n\x9b6n\x07>", b">");
}

#[test]
fn a_sequence_that_never_ends_passes_at_the_end() {
    for query in QUERIES {
        for end in 1..query.len() {
            let start = &query[..end];
            // An ESC that ends a string is enough for some terminals.
            if !QUERIES.contains(&start) && !start.ends_with('\x1b') {
                expect(start.as_bytes(), start.as_bytes());
            }
        }
    }
    expect(b"\x1b]11;?\x1b", b"\x1b]11;?\x1b");
    expect(b"\x1b]11;?\x18", b"\x1b]11;?\x18");
    expect(b"\x1b[6\x1an", b"\x1b[6\x1an");
}

#[test]
fn a_mixed_colour_osc_keeps_what_it_sets() {
    expect(b"<\x1b]4;1;?;2;red\x07>", b"<\x1b]4;2;red\x07>");
    expect(b"<\x1b]4;2;red;1;?\x1b\\>", b"<\x1b]4;2;red\x1b\\>");
    expect(b"<\x1b]10;?;#111\x07>", b"<\x1b]11;#111\x07>");
}

#[test]
fn the_escape_of_the_next_sequence_ends_a_string() {
    expect(b"\x1b]11;?\x1b[1mx", b"\x1b[1mx");
    expect(b"\x1bP$qm\x1b]11;?\x1b[6nx", b"x");
    expect(b"\x1b]4;1;?;2;red\x1b[1mx", b"\x1b]4;2;red\x1b[1mx");
}

#[test]
fn a_cut_joins_nothing_to_a_new_sequence() {
    // Without the ST these would read `ESC [6n`, `ESC [31m` and a long title.
    expect(b"\x1b\x1b[6n[6n", b"\x1b\x1b\\[6n");
    expect(b"\x1b[3\x1b[6n1m", b"\x1b[3\x1b\\1m");
    expect("\x1b[1?é\x1b[6nm".as_bytes(), "\x1b[1?é\x1b\\m".as_bytes());
    expect(b"\x1b(\x1b[6n0", b"\x1b(\x1b\\0");
    expect(b"\x1b]0;title\x1b[6nrest", b"\x1b]0;title\x1b\\rest");
    expect(b"\x1b]11;red\x1b[6nrest", b"\x1b]11;red\x1b\\rest");
    expect(b"\x1b]0;title\x1b]11;?\x07rest", b"\x1b]0;title\x1b\\rest");
    // Once a sequence in between has ended it, none is needed.
    expect(b"\x1b[3\x1b[m\x1b[6n1m", b"\x1b[3\x1b[m1m");
}

#[test]
fn control_bytes_inside_a_query_are_still_obeyed() {
    expect(b"a\x1b[6\r\nnb", b"a\r\nb");
    expect(b"a\x1b[\x7f?\t6$pb", b"a\tb");
    expect(b"\x1b]1\n1;?\x07", b"");
}

#[test]
fn what_is_held_back_is_bounded() {
    for (start, fill, end) in [
        ("\x1b[", "0", "6n"),
        ("\x1b]", "0", "11;?\x07"),
        ("\x1b]11;", "x", ";?\x07"),
        ("\x1bP", "0", "$qm\x1b\\"),
        ("\x1bP+q", "6", "\x1b\\"),
    ] {
        let long = [start, &fill.repeat(HELD_BYTES_MAX), end].concat();
        let (mut filter, mut out) = (QueryFilter::default(), Vec::new());
        for part in long.as_bytes().chunks(100) {
            filter.push(part, &mut out);
            assert!(filter.held.len() < HELD_BYTES_MAX);
        }
        assert_eq!(out, long.as_bytes());
    }
}

#[test]
fn the_longest_query_that_is_held_is_still_cut() {
    let body = HELD_BYTES_MAX - "\x1bP+q\x1b\\".len();
    let fits = format!("\x1bP+q{}\x1b\\", "6".repeat(body));
    assert_eq!(filter(&[fits.as_bytes()]), b"");
    let too_long = format!("\x1bP+q{}\x1b\\", "6".repeat(body + 1));
    assert_eq!(filter(&[too_long.as_bytes()]), too_long.as_bytes());
}

#[test]
fn a_query_that_ends_an_overlong_string_is_still_cut() {
    for fill in HELD_BYTES_MAX - 10..HELD_BYTES_MAX + 10 {
        let start = format!("\x1b]11;{}", "x".repeat(fill));
        let output = [&start, "\x1b[6nrest"].concat();
        let expected = [&start, "\x1b\\rest"].concat();
        assert_eq!(filter(&[output.as_bytes()]), expected.as_bytes());
    }
}

#[test]
fn output_without_queries_passes_unchanged_whatever_its_order_and_cuts() {
    for seed in 0..500_u64 {
        let mut rng = Rng(seed);
        let mut text = Vec::new();
        for _ in 0..40 {
            text.extend_from_slice(rng.pick(OTHERS).as_bytes());
        }
        let mut parts = Vec::new();
        let mut rest = &text[..];
        while !rest.is_empty() {
            let (part, tail) = rest.split_at(1 + rng.below(rest.len().min(30)));
            parts.push(part);
            rest = tail;
        }
        assert_eq!(filter(&parts), text, "seed {seed}");
    }
}

#[test]
fn random_output_is_clean_after_one_pass_and_alike_at_every_cut() {
    let pieces = [
        &b"\x1b"[..],
        b"\x1b[",
        b"\x1b]",
        b"\x1bP",
        b"\x1b\\",
        b"\x07",
        b"\x18",
        b"[",
        b"?",
        b">",
        b"=",
        b"$",
        b"+",
        b"q",
        b"p",
        b"n",
        b"c",
        b"m",
        b"t",
        b"u",
        b"18",
        b"52;",
        b"6",
        b"0",
        b"4",
        b"10",
        b"11;",
        b";",
        b"\n",
        b"\\",
        b"x",
        b"\xc3\xa9",
        b"\xc2",
        b"\x9b",
        b"\x9d",
        b"\x90",
        b"\x9c",
        b"\x85",
        b"\x9a",
        b"\xa9",
        b"\x05",
        b"Z",
        b"]",
    ];
    for seed in 0..40_000_u64 {
        let mut rng = Rng(seed);
        let mut soup = Vec::new();
        for _ in 0..1 + rng.below(24) {
            soup.extend_from_slice(rng.pick(&pieces));
        }
        let once = filter(&[&soup]);
        let (a, b) = soup.split_at(rng.below(soup.len() + 1));
        assert_eq!(filter(&[a, b]), once, "{}", soup.escape_ascii());
        assert_eq!(
            filter(&[&once]).escape_ascii().to_string(),
            once.escape_ascii().to_string(),
            "{}",
            soup.escape_ascii()
        );
    }
}

/// A string that acts is dropped with its ENQ: it asks nothing inside of a string, and must not
/// begin to ask where the string is gone.
#[test]
fn what_asks_only_outside_of_a_string_does_not_leave_a_dropped_one() {
    expect(
        b"\x1b]0;a\x1b]\x05\n9;a\x07b\x1b]52\x05;c;\x05aGk=\x07c",
        b"\x1b]0;a\x1b\\\nbc",
    );
}
