//! Lengths of time, as Go writes and reads them.

/// Why a length of time is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DurationError {
    #[error("`{0}` is not a length of time, as in 30s or 1m30s")]
    NotOne(String),
    #[error("`{0}` is less than a millisecond")]
    TooShort(String),
}

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Returns the nanoseconds that `text` says: numbers with units behind them, `0` alone, and nothing else below a millisecond.
pub(super) fn at_least_a_millisecond(text: &str) -> Result<u64, DurationError> {
    let bad = || DurationError::NotOne(text.into());
    if text.starts_with('-') && text != "-0" {
        return Err(DurationError::TooShort(text.into()));
    }
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total = 0u64;
    while !rest.is_empty() {
        let length = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, after) = rest.split_at(length);
        let length = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(length);
        let unit = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?.1;
        total = total.checked_add(nanoseconds(number, unit).ok_or_else(bad)?).ok_or_else(bad)?;
        rest = after;
    }
    match total {
        1..1_000_000 => Err(DurationError::TooShort(text.into())),
        total if total > i64::MAX as u64 => Err(bad()),
        total => Ok(total),
    }
}

fn nanoseconds(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    // What is behind the 18th digit is below a nanosecond of any unit.
    let fraction = &fraction[..fraction.len().min(18)];
    let parts = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? };
    let below = parts * u128::from(unit) / 10u128.pow(fraction.len() as u32);
    whole.checked_mul(unit)?.checked_add(u64::try_from(below).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_read_as_go_reads_it() {
        const S: u64 = 1_000_000_000;
        for (text, expected) in [
            ("30s", 30 * S),
            ("1m30s", 90 * S),
            ("1.5h", 5400 * S),
            (".5s", S / 2),
            ("1.s", S),
            ("1ms", S / 1000),
            ("1000us", S / 1000),
            ("1000µs", S / 1000),
            ("0", 0),
            ("+0", 0),
            ("0s", 0),
            ("+1s", S),
            ("1h1m1s1ms", 3661 * S + S / 1000),
        ] {
            assert_eq!(at_least_a_millisecond(text), Ok(expected), "{text}");
        }
        for text in ["", "30", "s", ".s", "1d", "1.2.3s", "1 s", "s1", "9999999999h", "5m3", "+"] {
            assert_eq!(at_least_a_millisecond(text), Err(DurationError::NotOne(text.into())));
        }
        for text in ["1ns", "999us", "-1s", "0.1ms"] {
            assert_eq!(at_least_a_millisecond(text), Err(DurationError::TooShort(text.into())));
        }
    }
}
