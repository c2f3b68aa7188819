//! Unsigned integers in decimal, appended without a temporary string.
//!
//! In: a number. Out: its digits. Knows no format that they stand in.

/// Digits of `u64::MAX`.
const DIGITS_MAX: usize = 20;

/// Appends `value` in decimal, without leading zeros.
pub(super) fn write(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [b'0'; DIGITS_MAX];
    let mut len = 0;
    for place in digits.iter_mut().rev() {
        // A remainder by ten always fits.
        *place = b'0' + (value % 10) as u8;
        value /= 10;
        len += 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[DIGITS_MAX - len..]);
}

/// How many bytes [`write()`] appends for `value`: 1 to 20.
pub(super) fn len(value: u64) -> usize {
    value.checked_ilog10().map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_length_are_those_of_the_standard_formatter() {
        let mut values = vec![0, u64::MAX, u64::MAX - 1];
        let mut power = 1_u64;
        for _ in 0..19 {
            values.extend([power - 1, power, power + 1]);
            power = power.saturating_mul(10);
        }
        values.extend([power - 1, power, power + 1]);
        for value in values {
            let mut out = b"x".to_vec();
            write(value, &mut out);
            assert_eq!(out, format!("x{value}").into_bytes());
            assert_eq!(len(value), out.len() - 1);
        }
    }
}
