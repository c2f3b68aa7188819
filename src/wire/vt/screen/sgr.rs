//! Select Graphic Rendition, in the words that the screen understands.
//!
//! In: the parameters of `CSI … m`. Out: the same, without what the screen would take for something
//! else: underline styles become an underline, the underline's colour is dropped, and colours are
//! written with semicolons.

use std::io::Write;

use super::params::{Params, parts};

/// Whether the screen takes the parameters as they are.
pub(super) fn is_plain(params: &Params<'_>) -> bool {
    let is_odd = |number: u16| matches!(number, 6 | 21 | 58);
    !params.digits.contains(&b':') && !params.numbers().any(is_odd)
}

/// The parameters to use instead; empty where nothing is left.
pub(super) fn plain(params: &Params<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut fields = params.fields();
    while let Some(field) = fields.next() {
        let mut numbers = [0; 6];
        let mut len = 0;
        for (place, number) in numbers.iter_mut().zip(parts(field)) {
            *place = number;
            len += 1;
        }
        let mut add = |text: std::fmt::Arguments<'_>| {
            if !out.is_empty() {
                out.push(b';');
            }
            let _ = out.write_fmt(text);
        };
        match &numbers[..len] {
            [4, 0] => add(format_args!("24")),
            [4, _] | [21] => add(format_args!("4")),
            [what @ (38 | 48 | 58)] => {
                // The colour follows in parameters of its own.
                let what = *what;
                let kind = fields.next().map(|field| parts(field).next());
                let mut next = || {
                    let field = fields.next()?;
                    parts(field).next()
                };
                match kind.flatten() {
                    Some(2) => {
                        if let (Some(r), Some(g), Some(b)) = (next(), next(), next())
                            && what != 58
                        {
                            add(format_args!("{what};2;{r};{g};{b}"));
                        }
                    }
                    Some(5) => {
                        if let Some(index) = next()
                            && what != 58
                        {
                            add(format_args!("{what};5;{index}"));
                        }
                    }
                    _ => {}
                }
            }
            [what @ (38 | 48), 2, r, g, b] | [what @ (38 | 48), 2, _, r, g, b] => {
                add(format_args!("{what};2;{r};{g};{b}"));
            }
            [what @ (38 | 48), 5, index] => add(format_args!("{what};5;{index}")),
            [6] => {}
            [one] => add(format_args!("{one}")),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain_of(digits: &str) -> String {
        let body = format!("{digits}m");
        let params = Params::parse(body.as_bytes()).unwrap();
        String::from_utf8(plain(&params)).unwrap()
    }

    #[test]
    fn styles_and_colours_are_told_in_plain_words() {
        for (written, plain) in [
            ("1;4:3;31", "1;4;31"),
            ("4:0", "24"),
            ("21", "4"),
            ("58;5;196;1", "1"),
            ("58;2;1;2;3;1", "1"),
            ("58:2::1:2:3;1", "1"),
            ("38:2::1:2:3", "38;2;1;2;3"),
            ("38:2:1:2:3;7", "38;2;1;2;3;7"),
            ("48:5:58", "48;5;58"),
            ("38;5;58;6;1", "38;5;58;1"),
            ("38;2;1", ""),
            ("", "0"),
            (";1", "0;1"),
        ] {
            assert_eq!(plain_of(written), plain, "{written}");
        }
    }
}
