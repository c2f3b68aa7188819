//! Times as RFC 3339 writes them: UTC, to the millisecond.
//!
//! In: Unix milliseconds. Out: such as `2026-11-26T10:43:55.123Z`. Knows no clock.

/// Bytes of one time.
pub(crate) const LEN: usize = 24;

/// 9999-12-31T23:59:59.999Z, the last moment that the format can say.
const MS_MAX: u64 = 253_402_300_799_999;

/// The time of `unix_ms`; later ones than the year 9999 stay at its end.
pub(crate) fn of(unix_ms: u64) -> [u8; LEN] {
    let ms = unix_ms.min(MS_MAX);
    let (days, in_day) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = date(days);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let mut write = |at: usize, digits: usize, number: u64| {
        let mut rest = number;
        for place in text[at..at + digits].iter_mut().rev() {
            *place += u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
    };
    write(0, 4, year);
    write(5, 2, month);
    write(8, 2, day);
    write(11, 2, in_day / 3_600_000);
    write(14, 2, in_day / 60_000 % 60);
    write(17, 2, in_day / 1000 % 60);
    write(20, 3, in_day % 1000);
    text
}

/// Year, month and day of the Gregorian calendar, so many days after 1970-01-01. Years are counted
/// from 1 March of the year 0, so that a leap day is the last of its year.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let days = days + 719_468;
    let (era, in_era) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year + year / 4 - year / 100);
    // 153 days are five months from March on.
    let month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::response::DateCache;

    fn text(ms: u64) -> String {
        String::from_utf8(of(ms).to_vec()).unwrap()
    }

    #[test]
    fn known_moments_are_written_as_they_should() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_001, "2000-02-29T00:00:00.001Z"),
            (784_111_777_999, "1994-11-06T08:49:37.999Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (MS_MAX, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(text(ms), expected);
        }
    }

    #[test]
    fn the_days_are_those_of_another_calendar() {
        let months = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let mut other = DateCache::default();
        for day in (0..2_932_896).step_by(17) {
            let second = day * 86_400 + day % 86_400;
            let http = other.at(second).to_owned();
            let ours = text(second * 1000);
            let month = months
                .iter()
                .position(|name| *name == &http[8..11])
                .unwrap()
                + 1;
            let (year, day, time) = (&http[12..16], &http[5..7], &http[17..25]);
            assert_eq!(ours, format!("{year}-{month:02}-{day}T{time}.000Z"));
        }
    }
}
