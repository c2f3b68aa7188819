//! The right name nearest to a wrong one, for messages.

/// Letters of a beginning that says enough to be taken for one.
const BEGINNING_MIN: usize = 3;

/// The one of `known` that is nearest to `name`; None if there are none.
pub(crate) fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let name = plain(name);
    let known = known.into_iter();
    known.min_by_key(|known| distance(&name, &plain(known)))
}

/// The one of `known` that `name` may be a slip of: at most a letter in three is another one. None
/// where nothing is so near that it would help to name it.
pub(crate) fn slip<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let near = nearest(name, known)?;
    let (name, letters) = (plain(name), plain(near));
    let slips = distance(&name, &letters);
    (slips <= (name.len().max(letters.len()) / 3).max(1)).then_some(near)
}

/// The same, or one that is the beginning of the other.
pub(crate) fn meant<'k>(
    name: &str,
    known: impl IntoIterator<Item = &'k str, IntoIter: Clone>,
) -> Option<&'k str> {
    let known = known.into_iter();
    let letters = plain(name);
    let begins = |known: &&str| {
        let known = plain(known);
        let is_beginning = known.starts_with(&letters) || letters.starts_with(&known);
        is_beginning && letters.len().min(known.len()) >= BEGINNING_MIN
    };
    slip(name, known.clone()).or_else(|| known.filter(begins).min_by_key(|known| known.len()))
}

/// A name without what is not told apart: case and separators.
fn plain(name: &str) -> Vec<char> {
    let letters = name.chars().filter(|c| c.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

/// How many letters must be changed, swapped with their neighbour, added or left out to make one
/// name of the other (the restricted Damerau-Levenshtein distance).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let changed = row[j] + usize::from(x != y);
            let mut least = changed.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slip_of_the_hand_is_nearer_than_another_word() {
        let known = ["run", "logs", "top", "stop"];
        for (wrong, right) in [
            ("lgos", "logs"),
            ("rnu", "run"),
            ("Stop", "stop"),
            ("tpo", "top"),
        ] {
            assert_eq!(nearest(wrong, known), Some(right), "{wrong}");
        }
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn what_is_not_near_is_not_named() {
        let known = ["run", "logs", "tty", "timeout", "inspect"];
        for (wrong, right) in [
            ("xyzzy", None),
            ("frobnicate", None),
            ("foo", None),
            ("time", Some("timeout")),
            ("insp", Some("inspect")),
            ("logs-all", Some("logs")),
            ("ti", None),
        ] {
            assert_eq!(meant(wrong, known), right, "{wrong}");
            assert_eq!(slip(wrong, known), None, "{wrong}");
        }
    }
}
