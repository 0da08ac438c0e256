//! Records of PAX extended headers: `length key=value\n`.

use std::collections::BTreeMap;

use super::TarError;

/// The records that matter, as they stand in one extended header.
#[derive(Debug, Default)]
pub(super) struct Pax {
    /// All records but those below; an empty value is the same as none.
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    /// `SCHILY.xattr.`, without that prefix.
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// `GNU.sparse.offset` and `GNU.sparse.numbytes`, in their order: they come many times.
    pub(super) sparse: Vec<u64>,
}

const XATTR: &[u8] = b"SCHILY.xattr.";

impl Pax {
    /// Returns the records in `bytes`, which begin at `offset` of the archive.
    pub(super) fn parse(mut bytes: &[u8], offset: u64) -> Result<Self, TarError> {
        let bad = || TarError::Pax { offset };
        let mut pax = Pax::default();
        while !bytes.is_empty() {
            let space = bytes.iter().take(20).position(|&b| b == b' ').ok_or_else(bad)?;
            let length = decimal(&bytes[..space]).and_then(|n| usize::try_from(n).ok()).ok_or_else(bad)?;
            if length < space + 3 || length > bytes.len() || bytes[length - 1] != b'\n' {
                return Err(bad());
            }
            let record = &bytes[space + 1..length - 1];
            let equals = record.iter().position(|&b| b == b'=').filter(|&at| at > 0).ok_or_else(bad)?;
            pax.add(&record[..equals], &record[equals + 1..]).ok_or_else(bad)?;
            bytes = &bytes[length..];
        }
        Ok(pax)
    }

    fn add(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                if self.sparse.len().is_multiple_of(2) != (key == b"GNU.sparse.offset") {
                    return None;
                }
                self.sparse.push(decimal(value)?);
            }
            _ => match key.strip_prefix(XATTR) {
                Some(b"") => return None,
                Some(name) => {
                    self.xattrs.insert(name.to_vec(), value.to_vec());
                }
                None => {
                    self.records.insert(key.to_vec(), value.to_vec());
                }
            },
        }
        Some(())
    }

    /// Returns the value of `key`, where there is one that is not empty.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        self.records.get(key.as_bytes()).map(Vec::as_slice).filter(|value| !value.is_empty())
    }
}

/// Returns the number that `digits` say; `None` for anything but decimal digits.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Returns the seconds of a time such as `-12.5`, rounded down.
pub(super) fn seconds(time: &[u8]) -> Option<i64> {
    let (whole, fraction) = match time.iter().position(|&b| b == b'.') {
        Some(dot) => (&time[..dot], &time[dot + 1..]),
        None => (time, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let (negative, digits) = match whole.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, whole),
    };
    let secs = i64::try_from(decimal(digits)?).ok()?;
    match negative {
        false => Some(secs),
        true => Some(-secs - i64::from(fraction.iter().any(|&digit| digit != b'0'))),
    }
}

/// Adds a record to `out`.
pub(super) fn append(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // The length counts its own digits.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_their_own_length() {
        for length in [1, 80, 90, 91, 92, 93, 94, 95, 986, 987, 988, 989, 990, 5000] {
            let mut bytes = Vec::new();
            append(&mut bytes, b"path", &vec![b'x'; length]);
            append(&mut bytes, b"SCHILY.xattr.user.a", b"=\n\0");
            let pax = Pax::parse(&bytes, 0).expect("a good header");
            assert_eq!(pax.get("path").map(<[u8]>::len), Some(length));
            assert_eq!(pax.xattrs[&b"user.a"[..]], b"=\n\0");
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for bad in ["99 a=b\n", "6 a=bX", "x a=b\n", "a=b\n", "6 =bb\n", "6 abb\n", "0 a=b\n", "-6 a=b\n"] {
            assert!(Pax::parse(bad.as_bytes(), 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_rounded_down() {
        let table: &[(&str, Option<i64>)] = &[
            ("0", Some(0)),
            ("12.999", Some(12)),
            ("-1", Some(-1)),
            ("-1.5", Some(-2)),
            ("-1.0", Some(-1)),
            ("-0.5", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("1e5", None),
            ("", None),
            ("--1", None),
            ("1.-5", None),
        ];
        for (text, secs) in table {
            assert_eq!(seconds(text.as_bytes()), *secs, "{text}");
        }
    }
}
