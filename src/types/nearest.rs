//! The right name nearest to a wrong one, for messages.

/// The one of `known` that is nearest to `name`; None if there are none.
pub fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let known = known.into_iter();
    known.min_by_key(|known| distance(name, known))
}

/// How many letters must be changed, swapped with their neighbour, added or left out to make one
/// name of the other (the restricted Damerau-Levenshtein distance); case and separators do not
/// count.
fn distance(a: &str, b: &str) -> usize {
    let plain = |name: &str| -> Vec<char> {
        let letters = name.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    let (a, b) = (plain(a), plain(b));
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
}
