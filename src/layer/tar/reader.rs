use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};

use super::header::{Dialect, Header, text};
use super::pax::{self, Pax};
use super::sparse::{self, PaxSparse, Run, Sparse};
use super::{BLOCK, MAX_EXTENDED, TarError, shown};

/// One entry of an archive, as it stands there: the name is not cleaned, the type not doubted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The name. Any bytes, also `..`, a slash in front, or nothing at all.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits with setuid, setgid and sticky; never more than 07777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970, rounded down.
    pub mtime: i64,
    /// All extended attributes, also those that must not be used.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The type of an entry, and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file; its contents are read from the [`Reader`]. Sparse and contiguous files are this, too.
    File {
        /// Length in bytes, with holes.
        size: u64,
    },
    /// A directory.
    Dir,
    /// A symbolic link and its text.
    Symlink {
        /// What the link says.
        target: Vec<u8>,
    },
    /// Another name of a file.
    Hardlink {
        /// The name of that file in the archive.
        target: Vec<u8>,
    },
    /// A character device: major and minor number.
    Char(u32, u32),
    /// A block device: major and minor number.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// Reads an archive, entry by entry; as [`Read`] it gives the contents of the entry that came last.
///
/// Where programs differ it does what Go's archive/tar does, because that is what container runtimes read layers
/// with: global PAX headers are skipped (git writes a comment into them, nobody attributes), a second extended
/// header replaces the first, a GNU long name wins over a PAX path, and an archive may end without zero blocks.
#[derive(Debug)]
pub struct Reader<R> {
    input: BufReader<R>,
    /// Bytes read so far.
    offset: u64,
    /// Bytes of the present entry that are still in the archive, without padding.
    stored: u64,
    padding: u64,
    sparse: Option<Sparse>,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Returns a reader of the uncompressed archive `input`.
    pub fn new(input: R) -> Self {
        let input = BufReader::with_capacity(128 << 10, input);
        Reader { input, offset: 0, stored: 0, padding: 0, sparse: None, ended: false }
    }

    /// Returns the next entry, or `None` after the last one. What is left of the entry before is skipped.
    ///
    /// # Errors
    /// [`TarError`] for anything that is no archive.
    pub fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        self.skip(self.stored + self.padding)?;
        (self.stored, self.padding, self.sparse) = (0, 0, None);
        let (mut pax, mut long_name, mut long_link) = (Pax::default(), None, None);
        let mut extended = false;
        while let Some(header) = self.header()? {
            match header.flag() {
                b'x' => {
                    let records = self.extended(&header, "extended header")?;
                    pax = Pax::parse(&records, self.offset - records.len() as u64)?;
                    self.pad(records.len() as u64)?;
                    extended = true;
                }
                b'g' => {
                    let records = self.extended(&header, "global header")?;
                    self.pad(records.len() as u64)?;
                    (pax, long_name, long_link) = (Pax::default(), None, None);
                }
                flag @ (b'L' | b'K') => {
                    let name = self.extended(&header, "long name")?;
                    self.pad(name.len() as u64)?;
                    let name = Some(text(&name).to_vec()).filter(|name| !name.is_empty());
                    if flag == b'L' {
                        long_name = name
                    } else {
                        long_link = name
                    }
                    extended = true;
                }
                // The label of a tape.
                b'V' => {
                    let size = header.size().and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
                    self.skip(size)?;
                    self.pad(size)?;
                }
                _ => return self.member(&header, &mut pax, long_name, long_link).map(Some),
            }
        }
        if extended { Err(TarError::Truncated { offset: self.offset }) } else { Ok(None) }
    }

    /// Reads what follows after the end of the archive, to the end of the input. It is part of the layer's digest.
    ///
    /// # Errors
    /// [`TarError::Read`].
    pub fn drain(&mut self) -> Result<(), TarError> {
        loop {
            match self.input.fill_buf() {
                Ok([]) => return Ok(()),
                Ok(bytes) => {
                    let n = bytes.len();
                    self.input.consume(n);
                    self.offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Read { offset: self.offset, source }),
            }
        }
    }

    fn member(
        &mut self,
        header: &Header,
        pax: &mut Pax,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Member, TarError> {
        let sparse_name = pax.get("GNU.sparse.name").map(<[u8]>::to_vec);
        let pax_name = sparse_name.or_else(|| pax.get("path").map(<[u8]>::to_vec));
        let name = long_name.or(pax_name).unwrap_or_else(|| header.name());
        let target = long_link.or_else(|| pax.get("linkpath").map(<[u8]>::to_vec)).unwrap_or_else(|| header.link());
        let bad = |field| TarError::Field { name: shown(&name), field };

        let number = |key, field: Option<i64>| match pax.get(key) {
            Some(value) => pax::decimal(value).and_then(|n| i64::try_from(n).ok()),
            None => field,
        };
        // -1 is "no id" to the kernel.
        let id = |n: i64| u32::try_from(n).ok().filter(|&id| id != u32::MAX);
        let uid = number("uid", header.uid()).and_then(id).ok_or_else(|| bad("uid"))?;
        let gid = number("gid", header.gid()).and_then(id).ok_or_else(|| bad("gid"))?;
        let size = number("size", header.size());
        let size = size.and_then(|n| u64::try_from(n).ok()).ok_or_else(|| bad("size"))?;
        let mtime = match pax.get("mtime") {
            Some(time) => pax::seconds(time),
            None => header.mtime(),
        };
        let mtime = mtime.ok_or_else(|| bad("time"))?;
        let mode = (header.mode().ok_or_else(|| bad("mode"))? & 0o7777) as u32;

        let kind = match header.flag() {
            // Before POSIX a slash was all that made a directory.
            0 if name.last() == Some(&b'/') => MemberKind::Dir,
            0 | b'0' | b'7' | b'S' => {
                let size = self.contents(header, pax, size, &name)?;
                MemberKind::File { size }
            }
            // The names in a directory, by "tar --listed-incremental": contents that say nothing here.
            b'D' => {
                self.store(size);
                MemberKind::Dir
            }
            // Old programs give these the size of the file, but no contents.
            b'1' => MemberKind::Hardlink { target },
            b'2' => MemberKind::Symlink { target },
            b'5' => MemberKind::Dir,
            b'6' => MemberKind::Fifo,
            flag @ (b'3' | b'4') => {
                let (major, minor) = header.device().ok_or_else(|| bad("device number"))?;
                if flag == b'3' { MemberKind::Char(major, minor) } else { MemberKind::Block(major, minor) }
            }
            flag => return Err(TarError::UnknownType { name: shown(&name), flag: char::from(flag) }),
        };
        Ok(Member { name, kind, mode, uid, gid, mtime, xattrs: std::mem::take(&mut pax.xattrs) })
    }

    /// Prepares the contents of a regular file, and returns its length.
    fn contents(&mut self, header: &Header, pax: &Pax, stored: u64, name: &[u8]) -> Result<u64, TarError> {
        let bad = || TarError::Sparse { name: shown(name) };
        self.store(stored);
        let (fragments, size) = match sparse::pax(pax).ok_or_else(bad)? {
            PaxSparse::InHeader(fragments) => (fragments, sparse::pax_size(pax)),
            PaxSparse::InData => (self.sparse_map(name)?, sparse::pax_size(pax)),
            PaxSparse::No if header.flag() == b'S' && header.dialect() == Dialect::Gnu => {
                (self.old_sparse_map(header, name)?, sparse::old_gnu_size(header))
            }
            PaxSparse::No => return Ok(stored),
        };
        let size = size.filter(|&size| i64::try_from(size).is_ok()).ok_or_else(bad)?;
        self.sparse = Some(Sparse::new(fragments, size, self.stored).ok_or_else(bad)?);
        Ok(size)
    }

    /// Reads the blocks that continue the map in an old GNU header.
    fn old_sparse_map(&mut self, header: &Header, name: &[u8]) -> Result<Vec<(u64, u64)>, TarError> {
        let bad = || TarError::Sparse { name: shown(name) };
        let mut fragments = Vec::new();
        let mut more = sparse::old_gnu(header, 386, 4, &mut fragments).ok_or_else(bad)?;
        while more {
            let mut block = Header([0; BLOCK]);
            self.fill(&mut block.0)?;
            more = sparse::old_gnu(&block, 0, 21, &mut fragments).ok_or_else(bad)?;
            if fragments.len() > sparse::MAX_FRAGMENTS {
                return Err(bad());
            }
        }
        Ok(fragments)
    }

    /// Reads the map that stands before the data in PAX 1.0: a number a line, padded to a block.
    fn sparse_map(&mut self, name: &[u8]) -> Result<Vec<(u64, u64)>, TarError> {
        let bad = || TarError::Sparse { name: shown(name) };
        let mut block = [0; BLOCK];
        let mut at = BLOCK;
        let mut line = || -> Result<u64, TarError> {
            let mut digits = Vec::new();
            loop {
                if at == BLOCK {
                    self.stored = self.stored.checked_sub(BLOCK as u64).ok_or_else(bad)?;
                    self.fill(&mut block)?;
                    at = 0;
                }
                at += 1;
                match block[at - 1] {
                    b'\n' => return pax::decimal(&digits).ok_or_else(bad),
                    _ if digits.len() >= 20 => return Err(bad()),
                    digit => digits.push(digit),
                }
            }
        };
        let count = line()?;
        if count > sparse::MAX_FRAGMENTS as u64 {
            return Err(bad());
        }
        (0..count).map(|_| Ok((line()?, line()?))).collect()
    }

    /// Tells that `size` bytes of contents follow.
    fn store(&mut self, size: u64) {
        self.stored = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// Returns the next header, or `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let start = self.offset;
        let mut header = Header([0; BLOCK]);
        if self.at_end()? {
            self.ended = true;
            return Ok(None);
        }
        self.fill(&mut header.0)?;
        if header.is_zero() {
            self.ended = true;
            // One block of zeros and nothing after it is good enough; one block of zeros and then a header is not.
            if !self.at_end()? {
                self.fill(&mut header.0)?;
                if !header.is_zero() {
                    return Err(TarError::Checksum { offset: start });
                }
            }
            return Ok(None);
        }
        if !header.checksum_is_right() {
            return Err(TarError::Checksum { offset: start });
        }
        Ok(Some(header))
    }

    /// Reads what follows a header that only describes the next one.
    fn extended(&mut self, header: &Header, what: &'static str) -> Result<Vec<u8>, TarError> {
        let offset = self.offset;
        let size = header.size().and_then(|n| u64::try_from(n).ok()).ok_or(TarError::Checksum { offset })?;
        if size > MAX_EXTENDED {
            return Err(TarError::TooLong { offset, what, limit: MAX_EXTENDED });
        }
        let mut bytes = vec![0; size as usize];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Skips the padding after `size` bytes.
    fn pad(&mut self, size: u64) -> Result<(), TarError> {
        self.skip(size.wrapping_neg() % BLOCK as u64)
    }

    fn at_end(&mut self) -> Result<bool, TarError> {
        loop {
            match self.input.fill_buf() {
                Ok(bytes) => return Ok(bytes.is_empty()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Read { offset: self.offset, source }),
            }
        }
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<(), TarError> {
        match self.input.read_exact(buf) {
            Ok(()) => {
                self.offset += buf.len() as u64;
                Ok(())
            }
            // A decompressor says the same of its own input, but with a reason inside.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(TarError::Truncated { offset: self.offset })
            }
            Err(source) => Err(TarError::Read { offset: self.offset, source }),
        }
    }

    fn skip(&mut self, mut count: u64) -> Result<(), TarError> {
        while count > 0 {
            match self.input.fill_buf() {
                Ok([]) => return Err(TarError::Truncated { offset: self.offset }),
                Ok(bytes) => {
                    let n = usize::try_from(count).unwrap_or(usize::MAX).min(bytes.len());
                    self.input.consume(n);
                    self.offset += n as u64;
                    count -= n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Read { offset: self.offset, source }),
            }
        }
        Ok(())
    }

    /// Reads at most `limit` bytes of what is stored.
    fn read_stored(&mut self, buf: &mut [u8], limit: u64) -> io::Result<usize> {
        let length = usize::try_from(limit.min(self.stored)).unwrap_or(usize::MAX).min(buf.len());
        if length == 0 {
            return Ok(0);
        }
        let n = self.input.read(&mut buf[..length])?;
        if n == 0 {
            let error = TarError::Truncated { offset: self.offset };
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
        }
        self.offset += n as u64;
        self.stored -= n as u64;
        Ok(n)
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(sparse) = &mut self.sparse else {
            return self.read_stored(buf, u64::MAX);
        };
        let n = match sparse.run() {
            Run::End => 0,
            Run::Hole(length) => {
                let n = usize::try_from(length).unwrap_or(usize::MAX).min(buf.len());
                buf[..n].fill(0);
                n
            }
            Run::Data(length) => self.read_stored(buf, length)?,
        };
        if let Some(sparse) = &mut self.sparse {
            sparse.advance(n as u64);
        }
        Ok(n)
    }
}
