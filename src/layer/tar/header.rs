//! The 512 bytes of a header: fields and numbers.

use super::BLOCK;

/// Largest number in the 8-byte fields (mode, owner, device).
pub(super) const MAX_SHORT: u64 = 0o7_777_777;
/// Largest number in the 12-byte fields (size, time): 8 GiB - 1.
pub(super) const MAX_LONG: u64 = 0o77_777_777_777;
/// Bytes of the two name fields.
pub(super) const NAME: usize = 100;

/// A header as it lies in the archive.
pub(super) struct Header(pub [u8; BLOCK]);

/// Who wrote a header; decides what the bytes after the device numbers mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Before POSIX: no devices, no prefix.
    V7,
    /// POSIX: a prefix of 155 bytes.
    Ustar,
    /// Schilling's tar: a prefix of 131 bytes.
    Star,
    /// GNU: no prefix.
    Gnu,
}

impl Header {
    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|&b| b == 0)
    }

    /// Returns whether the checksum is right: over unsigned bytes, or over signed ones as some old programs had it.
    pub(super) fn checksum_is_right(&self) -> bool {
        let (unsigned, signed) = self.checksums();
        matches!(octal(&self.0[148..156]), Some(sum) if sum == unsigned || sum == signed)
    }

    fn checksums(&self) -> (i64, i64) {
        let mut sums = (0, 0);
        for (at, &byte) in self.0.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { byte };
            sums.0 += i64::from(byte);
            sums.1 += i64::from(byte.cast_signed());
        }
        sums
    }

    pub(super) fn dialect(&self) -> Dialect {
        match &self.0[257..265] {
            b"ustar  \0" => Dialect::Gnu,
            magic if magic.starts_with(b"ustar\0") && &self.0[508..512] == b"tar\0" => Dialect::Star,
            magic if magic.starts_with(b"ustar") => Dialect::Ustar,
            _ => Dialect::V7,
        }
    }

    /// Returns the name, with its prefix.
    pub(super) fn name(&self) -> Vec<u8> {
        let prefix = match self.dialect() {
            Dialect::Ustar => text(&self.0[345..500]),
            Dialect::Star => text(&self.0[345..476]),
            Dialect::V7 | Dialect::Gnu => b"",
        };
        let name = text(&self.0[..NAME]);
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.0[157..157 + NAME]).to_vec()
    }

    pub(super) fn flag(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn mode(&self) -> Option<i64> {
        number(&self.0[100..108])
    }

    pub(super) fn uid(&self) -> Option<i64> {
        number(&self.0[108..116])
    }

    pub(super) fn gid(&self) -> Option<i64> {
        number(&self.0[116..124])
    }

    pub(super) fn size(&self) -> Option<i64> {
        number(&self.0[124..136])
    }

    pub(super) fn mtime(&self) -> Option<i64> {
        number(&self.0[136..148])
    }

    /// Returns major and minor number.
    pub(super) fn device(&self) -> Option<(u32, u32)> {
        if self.dialect() == Dialect::V7 {
            return Some((0, 0));
        }
        let part = |range: std::ops::Range<usize>| number(&self.0[range]).and_then(|n| u32::try_from(n).ok());
        Some((part(329..337)?, part(337..345)?))
    }

    /// Returns an empty ustar header.
    pub(super) fn new(flag: u8) -> Self {
        let mut header = Header([0; BLOCK]);
        header.0[156] = flag;
        header.0[257..265].copy_from_slice(b"ustar\x0000");
        for at in [100, 108, 116, 329, 337] {
            header.put(at, 7, 0);
        }
        header.put(124, 11, 0);
        header.put(136, 11, 0);
        header
    }

    /// Writes the ASCII part of `name` that fits.
    pub(super) fn set_name(&mut self, name: &[u8]) {
        put_text(&mut self.0[..NAME], name);
    }

    pub(super) fn set_link(&mut self, link: &[u8]) {
        put_text(&mut self.0[157..157 + NAME], link);
    }

    pub(super) fn set_mode(&mut self, mode: u32) {
        self.put(100, 7, u64::from(mode & 0o7777));
    }

    /// Writes the owner where it fits, else 0 (a PAX record has it then).
    pub(super) fn set_owner(&mut self, uid: u32, gid: u32) {
        for (at, id) in [(108, u64::from(uid)), (116, u64::from(gid))] {
            self.put(at, 7, if id > MAX_SHORT { 0 } else { id });
        }
    }

    /// Writes the size where it fits, else 0.
    pub(super) fn set_size(&mut self, size: u64) {
        self.put(124, 11, if size > MAX_LONG { 0 } else { size });
    }

    /// Writes the time where it fits, else 0.
    pub(super) fn set_mtime(&mut self, secs: i64) {
        self.put(136, 11, u64::try_from(secs).ok().filter(|&s| s <= MAX_LONG).unwrap_or(0));
    }

    /// Writes major and minor number, which are at most [`MAX_SHORT`].
    pub(super) fn set_device(&mut self, device: (u32, u32)) {
        self.put(329, 7, u64::from(device.0));
        self.put(337, 7, u64::from(device.1));
    }

    /// Returns the bytes, with the checksum.
    pub(super) fn seal(mut self) -> [u8; BLOCK] {
        let sum = self.checksums().0.unsigned_abs();
        self.put(148, 6, sum);
        self.0[154..156].copy_from_slice(b"\0 ");
        self.0
    }

    fn put(&mut self, at: usize, digits: usize, mut value: u64) {
        for digit in self.0[at..at + digits].iter_mut().rev() {
            *digit = b'0' + (value & 7) as u8;
            value >>= 3;
        }
    }
}

/// Returns `field` up to its first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|&b| b == 0).unwrap_or(field.len())]
}

fn put_text(field: &mut [u8], text: &[u8]) {
    for (to, &from) in field.iter_mut().zip(text.iter().filter(|b| b.is_ascii())) {
        *to = from;
    }
}

/// Returns the number in `field`: octal digits, or GNU's base 256 with the top bit set. An empty field is 0.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    if field.first()? & 0x80 == 0 { octal(field) } else { base256(field) }
}

fn octal(field: &[u8]) -> Option<i64> {
    let pad = |b: &u8| *b == b' ' || *b == 0;
    let start = field.iter().position(|b| !pad(b)).unwrap_or(field.len());
    let digits = text(&field[start..]).trim_ascii_end();
    digits.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Two's complement, big endian, where the top bit only says that it is this.
fn base256(field: &[u8]) -> Option<i64> {
    let negative = field.first()? & 0x40 != 0;
    let mut value: i64 = if negative { -1 } else { 0 };
    for (at, &byte) in field.iter().enumerate() {
        let byte = match (at, negative) {
            (0, false) => byte & 0x3f,
            (0, true) => byte | 0xc0,
            _ => byte,
        };
        value = value.checked_mul(256)?.checked_add(i64::from(byte))?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256_and_nothing_else() {
        let table: &[(&[u8], Option<i64>)] = &[
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"00000644", Some(0o644)),
            (b"000064x\0", None),
            (b"12 34  \0", None),
            (b"-000001\0", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\x80\0\0\0\xff\xff\xff\xff", Some(0xffff_ffff)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00", Some(-256)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ];
        for (field, value) in table {
            assert_eq!(number(field), *value, "{field:?}");
        }
    }

    #[test]
    fn a_sealed_header_has_a_right_checksum() {
        let mut header = Header::new(b'0');
        header.set_name(b"a");
        header.set_owner(1000, u32::MAX - 1);
        let mut header = Header(header.seal());
        assert!(header.checksum_is_right());
        assert_eq!((header.uid(), header.gid()), (Some(1000), Some(0)));
        header.0[0] = b'b';
        assert!(!header.checksum_is_right());
    }
}
