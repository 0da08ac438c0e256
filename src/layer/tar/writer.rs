use std::io::{self, Read, Write};

use super::header::{Header, MAX_LONG, MAX_SHORT, NAME};
use super::{BLOCK, Member, MemberKind, TarError, pax, shown};

/// Writes an archive, entry by entry: ustar, with a PAX extended header before entries that ustar cannot say.
///
/// The same entries give the same bytes. There are no user names and no times but that of modification.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Returns a writer of an archive into `out`, which need not be buffered.
    pub fn new(out: W) -> Self {
        Writer { out, buffer: Vec::new() }
    }

    /// Writes `member`; `contents` are those of a regular file, and read for nothing else. After an error the archive
    /// is of no use any more.
    ///
    /// # Errors
    /// [`TarError::Unrepresentable`], [`TarError::Write`], [`TarError::Contents`] with what `contents` reports, or
    /// [`TarError::Length`] where they have not just the length that `member` says.
    pub fn append(&mut self, member: &Member, contents: &mut dyn Read) -> Result<(), TarError> {
        self.headers(member)?;
        match member.kind {
            MemberKind::File { size } => self.contents(member, size, contents),
            _ => Ok(()),
        }
    }

    /// Writes the end of the archive and returns the inner writer.
    ///
    /// # Errors
    /// [`TarError::Write`].
    pub fn finish(mut self) -> Result<W, TarError> {
        self.put(&[0; 2 * BLOCK])?;
        self.flush()?;
        self.out.flush().map_err(|source| TarError::Write { source })?;
        Ok(self.out)
    }

    fn headers(&mut self, member: &Member) -> Result<(), TarError> {
        let cannot = |what| TarError::Unrepresentable { name: shown(&member.name), what };
        let (flag, link, size): (u8, &[u8], u64) = match &member.kind {
            MemberKind::File { size } => (b'0', b"", *size),
            MemberKind::Hardlink { target } => (b'1', target, 0),
            MemberKind::Symlink { target } => (b'2', target, 0),
            MemberKind::Char(..) => (b'3', b"", 0),
            MemberKind::Block(..) => (b'4', b"", 0),
            MemberKind::Dir => (b'5', b"", 0),
            MemberKind::Fifo => (b'6', b"", 0),
        };
        if member.name.contains(&0) || link.contains(&0) {
            return Err(cannot("a name with a NUL byte"));
        }
        let mut header = Header::new(flag);
        if let MemberKind::Char(major, minor) | MemberKind::Block(major, minor) = member.kind {
            if u64::from(major.max(minor)) > MAX_SHORT {
                return Err(cannot("so large a device number"));
            }
            header.set_device((major, minor));
        }
        header.set_name(&member.name);
        header.set_link(link);
        header.set_mode(member.mode);
        header.set_owner(member.uid, member.gid);
        header.set_size(size);
        header.set_mtime(member.mtime);

        let mut records = Vec::new();
        // Sorted by key.
        for (name, value) in &member.xattrs {
            if name.is_empty() || name.contains(&b'=') || name.contains(&0) {
                return Err(cannot("an extended attribute with such a name"));
            }
            pax::append(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
        }
        let gid = u64::from(member.gid);
        if gid > MAX_SHORT {
            pax::append(&mut records, b"gid", gid.to_string().as_bytes());
        }
        if is_long(link) {
            pax::append(&mut records, b"linkpath", link);
        }
        if !u64::try_from(member.mtime).is_ok_and(|secs| secs <= MAX_LONG) {
            pax::append(&mut records, b"mtime", member.mtime.to_string().as_bytes());
        }
        if is_long(&member.name) {
            pax::append(&mut records, b"path", &member.name);
        }
        if size > MAX_LONG {
            pax::append(&mut records, b"size", size.to_string().as_bytes());
        }
        let uid = u64::from(member.uid);
        if uid > MAX_SHORT {
            pax::append(&mut records, b"uid", uid.to_string().as_bytes());
        }
        if records.len() as u64 > super::MAX_EXTENDED {
            return Err(cannot("so long names and attributes"));
        }
        if !records.is_empty() {
            let mut extended = Header::new(b'x');
            // Seen only by programs that do not know PAX.
            let base = member.name.split(|&b| b == b'/').rfind(|part| !part.is_empty()).unwrap_or_default();
            extended.set_name(&[b"PaxHeaders.0/", base].concat());
            extended.set_mode(0o644);
            extended.set_size(records.len() as u64);
            self.put(&extended.seal())?;
            records.resize(records.len().next_multiple_of(BLOCK), 0);
            self.put(&records)?;
        }
        self.put(&header.seal())
    }

    fn contents(&mut self, member: &Member, size: u64, contents: &mut dyn Read) -> Result<(), TarError> {
        let wrong = |found| TarError::Length { name: shown(&member.name), expected: size, found };
        let mut left = size;
        while left > 0 {
            if self.buffer.len() >= BUFFER {
                self.flush()?;
            }
            let start = self.buffer.len();
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER - start);
            self.buffer.resize(start + length, 0);
            let n = read(contents, &mut self.buffer[start..], member)?;
            self.buffer.truncate(start + n);
            if n == 0 {
                return Err(wrong(size - left));
            }
            left -= n as u64;
        }
        if read(contents, &mut [0], member)? != 0 {
            return Err(wrong(size + 1));
        }
        let padding = size.wrapping_neg() % BLOCK as u64;
        self.put(&[0; BLOCK][..padding as usize])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), TarError> {
        self.out.write_all(&self.buffer).map_err(|source| TarError::Write { source })?;
        self.buffer.clear();
        Ok(())
    }
}

fn read(contents: &mut dyn Read, buf: &mut [u8], member: &Member) -> Result<usize, TarError> {
    loop {
        match contents.read(buf) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map_err(|source| TarError::Contents { name: shown(&member.name), source }),
        }
    }
}

/// Bytes gathered before they are written.
const BUFFER: usize = 256 << 10;

/// Returns whether a name needs a PAX record: too long, or not ASCII, which ustar leaves undefined.
fn is_long(name: &[u8]) -> bool {
    name.len() > NAME || !name.is_ascii()
}
