use std::str::FromStr;

/// A value of a flag makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// `=value`, or nothing.
    #[error("there is no name before the equals sign")]
    NoName,
    /// No equals sign.
    #[error("there is no equals sign in it: KEY=VALUE")]
    NoEquals,
    /// A NUL byte.
    #[error("there is a NUL byte in it")]
    Nul,
    /// Neither seconds nor a date.
    #[error("a time is a number of seconds since 1970, or a date as 2026-01-31T12:00:00Z, from 1970 to 9999")]
    Time,
}

/// `NAME=VALUE`, or `NAME` alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Not empty.
    pub name: String,
    /// What is behind the first equals sign, if there is one.
    pub value: Option<String>,
}

impl FromStr for Assignment {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if name.is_empty() {
            return Err(ValueError::NoName);
        }
        if text.contains('\0') {
            return Err(ValueError::Nul);
        }
        Ok(Assignment { name: name.to_owned(), value })
    }
}

/// A time: seconds since 1970, never negative, at most the year 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Returns the time that `text` means where it is a decimal number of seconds, as in SOURCE_DATE_EPOCH.
    pub fn from_seconds(text: &str) -> Option<Self> {
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        text.parse().ok().and_then(Timestamp::checked)
    }

    fn checked(seconds: i64) -> Option<Self> {
        (seconds >= 0 && jiff::Timestamp::from_second(seconds).is_ok()).then_some(Timestamp(seconds))
    }
}

impl FromStr for Timestamp {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Timestamp::from_seconds(text)
            .or_else(|| Timestamp::checked(text.parse::<jiff::Timestamp>().ok()?.as_second()))
            .ok_or(ValueError::Time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_cut_at_the_first_equals_sign() {
        let parse = |text: &str| text.parse::<Assignment>().map(|a| (a.name, a.value));
        assert_eq!(parse("A=b=c"), Ok(("A".into(), Some("b=c".into()))));
        assert_eq!(parse("A="), Ok(("A".into(), Some(String::new()))));
        assert_eq!(parse("A"), Ok(("A".into(), None)));
        assert_eq!(parse("=b"), Err(ValueError::NoName));
        assert_eq!(parse(""), Err(ValueError::NoName));
    }

    #[test]
    fn times() {
        for (text, seconds) in [
            ("0", 0),
            ("1700000000", 1_700_000_000),
            ("1970-01-01T00:00:01Z", 1),
            ("2026-01-31T13:00:00.9+01:00", 1_769_860_800),
        ] {
            assert_eq!(text.parse(), Ok(Timestamp(seconds)), "{text}");
        }
        for text in ["", "-1", "+1", "1.5", "yesterday", "1969-12-31T23:59:59Z", "9223372036854775807", "2026-01-31"] {
            assert_eq!(text.parse::<Timestamp>(), Err(ValueError::Time), "{text}");
        }
    }
}
