//! Numbers as a reader wants them.

/// Three significant digits, with separators from ten thousand up.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".into();
    }
    if size < 10_000.0 && value.fract() == 0.0 {
        return format!("{value}");
    }
    let decimals = match size {
        _ if size < 0.001 => return format!("{value:.1e}"),
        _ if size < 0.1 => 4,
        _ if size < 1.0 => 3,
        _ if size < 10.0 => 2,
        _ if size < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    if size < 10_000.0 {
        return text;
    }
    let mut grouped = String::new();
    for (index, digit) in text.chars().enumerate() {
        if index > 0 && (text.len() - index) % 3 == 0 && digit.is_ascii_digit() && grouped != "-" {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A figure with its unit.
pub(super) fn figure(value: Option<f64>, unit: &str) -> String {
    match value {
        None => "n/a".into(),
        Some(value) if unit.is_empty() || unit.starts_with('/') => number(value) + unit,
        Some(value) => format!("{} {unit}", number(value)),
    }
}

/// A factor, such as `×3.1`.
pub(super) fn factor(value: f64) -> String {
    match value {
        _ if value >= 1000.0 => ">×1000".into(),
        _ if value >= 100.0 => format!("×{value:.0}"),
        _ if value >= 10.0 => format!("×{value:.1}"),
        _ => format!("×{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        let cases = [
            (0.0, "0"),
            (2.0, "2"),
            (0.0123, "0.0123"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (1234.5, "1234"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
        assert_eq!(number(1_234_567.0), "1,234,567");
        assert_eq!(figure(Some(2.5), "/s"), "2.50/s");
    }
}
