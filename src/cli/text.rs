//! Text for people: made safe for a terminal, measured, cut.

use unicode_width::UnicodeWidthChar;

/// Returns `text` in one line, with all that a terminal would obey escaped.
pub fn visible(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if harmful(c) { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// Returns whether a terminal would obey `c`: control characters, and those that turn the direction of a line around.
pub fn harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// Returns how many columns `text` takes. It must have no control characters.
pub fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// Returns the beginning of `text` that fits in `columns`, with `…` at its end where something is missing.
pub fn cut(text: &str, columns: usize) -> String {
    // Most text is short: all of it fits when even its bytes do.
    if text.len() <= columns || width(text) <= columns {
        return text.to_owned();
    }
    let mut used = 0;
    let room = columns.saturating_sub(1);
    let mut line: String = text
        .chars()
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= room
        })
        .collect();
    if columns > 0 {
        line.push('…');
    }
    line
}

/// Returns the beginning of `text` of at most `bytes` bytes; no character is cut in two.
pub fn beginning(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Returns a number of bytes for people: "116.4 MiB".
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Integers only: the tenths are exact, and 1023.95 KiB is 1.0 MiB rather than 1024.0 KiB.
    let mut unit: u128 = 1024;
    for name in UNITS {
        let tenths = (u128::from(bytes) * 10 + unit / 2) / unit;
        if tenths < 10_240 {
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
        unit *= 1024;
    }
    unreachable!("an u64 is less than 16 EiB")
}

/// Returns a duration for people: "0.4s", "12.3s", "2m 05s", "1h 02m".
pub fn duration(duration: std::time::Duration) -> String {
    let tenths = (duration.as_millis() + 50) / 100;
    match tenths {
        0..600 => format!("{}.{}s", tenths / 10, tenths % 10),
        600..36_000 => format!("{}m {:02}s", tenths / 600, tenths % 600 / 10),
        _ => format!("{}h {:02}m", tenths / 36_000, tenths % 36_000 / 600),
    }
}

/// Returns how long before `now` the time `then` is, an RFC 3339 date as configurations have it: "3 hours ago". A time that
/// is none comes back as it is, escaped; an empty one as "-".
pub fn ago(then: &str, now: jiff::Timestamp) -> String {
    if then.is_empty() {
        return "-".into();
    }
    let Ok(then) = then.parse::<jiff::Timestamp>() else { return visible(then) };
    let seconds = now.as_second() - then.as_second();
    let (distance, direction) = (seconds.unsigned_abs(), if seconds < 0 { "from now" } else { "ago" });
    let (count, unit) = match distance {
        0..10 => return "just now".into(),
        10..60 => (distance, "second"),
        60..3_600 => (distance / 60, "minute"),
        3_600..86_400 => (distance / 3_600, "hour"),
        86_400..1_209_600 => (distance / 86_400, "day"),
        1_209_600..5_184_000 => (distance / 604_800, "week"),
        5_184_000..63_072_000 => (distance / 2_592_000, "month"),
        _ => (distance / 31_536_000, "year"),
    };
    format!("{count} {unit}{} {direction}", if count == 1 { "" } else { "s" })
}

/// Returns how long `text` says, as "90s", "24h", "1h30m" or "7d"; a number alone is seconds. `None` where it is none.
pub fn span(text: &str) -> Option<std::time::Duration> {
    let (mut seconds, mut rest) = (0u64, text);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..end].parse().ok()?;
        let behind = &rest[end..];
        let unit = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let factor = match &behind[..unit] {
            "s" | "" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return None,
        };
        seconds = seconds.checked_add(number.checked_mul(factor)?)?;
        rest = &behind[unit..];
    }
    Some(std::time::Duration::from_secs(seconds))
}

/// Returns the time that `text` says: a date as RFC 3339 has it, a day, or how long before `now`.
pub fn moment(text: &str, now: jiff::Timestamp) -> Option<jiff::Timestamp> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time);
    }
    if let Ok(time) = format!("{text}T00:00:00Z").parse::<jiff::Timestamp>() {
        return Some(time);
    }
    let span = i64::try_from(span(text)?.as_secs()).ok()?;
    jiff::Timestamp::from_second(now.as_second().checked_sub(span)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_moments() {
        let seconds = |text: &str| span(text).map(|span| span.as_secs());
        for (text, wanted) in [
            ("90", Some(90)),
            ("90s", Some(90)),
            ("1h30m", Some(5_400)),
            ("7d", Some(604_800)),
            ("2w", Some(1_209_600)),
            ("", None),
            ("h", None),
            ("1y", None),
            ("-1h", None),
            ("99999999999999999999d", None),
        ] {
            assert_eq!(seconds(text), wanted, "{text}");
        }
        let now: jiff::Timestamp = "2026-03-01T12:00:00Z".parse().expect("a time");
        let said = |text: &str| moment(text, now).map(|time| time.to_string());
        assert_eq!(said("24h").as_deref(), Some("2026-02-28T12:00:00Z"));
        assert_eq!(said("2026-02-01").as_deref(), Some("2026-02-01T00:00:00Z"));
        assert_eq!(said("2026-02-01T01:00:00Z").as_deref(), Some("2026-02-01T01:00:00Z"));
        assert_eq!(said("yesterday"), None);
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(visible("a\x1b[31mb\nc\u{202e}d é"), "a\\u{1b}[31mb\\nc\\u{202e}d é");
    }

    #[test]
    fn text_is_cut_by_columns_not_by_bytes() {
        assert_eq!(cut("hello", 5), "hello");
        assert_eq!(cut("hello!", 5), "hell…");
        assert_eq!(cut("ünïcödé", 7), "ünïcödé");
        assert_eq!(cut("日本語日本語", 7), "日本語…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("e\u{301}e\u{301}e\u{301}", 2), "e\u{301}…");
        assert_eq!((cut("abc", 1), cut("abc", 0)), ("…".into(), String::new()));
    }

    #[test]
    fn no_character_is_cut_in_two() {
        let beginnings = [0, 1, 2, 3, 4, 9].map(|bytes| beginning("aéb", bytes));
        assert_eq!(beginnings, ["", "a", "a", "aé", "aéb", "aéb"]);
    }

    #[test]
    fn sizes() {
        for (bytes, words) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1_048_575, "1.0 MiB"),
            (122_054_246, "116.4 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), words);
        }
    }

    #[test]
    fn durations() {
        for (millis, words) in [
            (0, "0.0s"),
            (312, "0.3s"),
            (59_949, "59.9s"),
            (59_950, "1m 00s"),
            (125_000, "2m 05s"),
            (3_723_000, "1h 02m"),
        ] {
            assert_eq!(duration(std::time::Duration::from_millis(millis)), words);
        }
    }

    #[test]
    fn times_are_told_from_now() {
        let now: jiff::Timestamp = "2026-03-01T12:00:00Z".parse().expect("a time");
        for (then, words) in [
            ("2026-03-01T11:59:55Z", "just now"),
            ("2026-03-01T11:59:00.5Z", "1 minute ago"),
            ("2026-03-01T09:00:00Z", "3 hours ago"),
            ("2026-02-28T12:00:00Z", "1 day ago"),
            ("2026-02-10T12:00:00+01:00", "2 weeks ago"),
            ("2025-11-01T12:00:00Z", "4 months ago"),
            ("1970-01-01T00:00:00Z", "56 years ago"),
            ("2026-03-01T14:00:00Z", "2 hours from now"),
            ("", "-"),
            ("\x07 never", "\\u{7} never"),
        ] {
            assert_eq!(ago(then, now), words, "{then}");
        }
    }
}
