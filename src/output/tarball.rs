use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use super::out::Out;

const BLOCK: u64 = 512;

/// Writes a tar whose bytes depend on names and contents only: no times, no owners.
#[derive(Debug)]
pub(super) struct Tarball<W> {
    out: W,
    /// Bytes of the members that have ended.
    at: u64,
}

impl<W: Write> Tarball<W> {
    pub(super) fn new(out: W) -> Self {
        Tarball { out, at: 0 }
    }

    /// Writes the directory `name`.
    pub(super) fn dir(&mut self, name: &str) -> io::Result<()> {
        self.header(&format!("{name}/"), EntryType::Directory, 0o755, 0)
    }

    /// Writes the file `name` with the content `bytes`.
    pub(super) fn file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.begin(name, bytes.len() as u64)?;
        self.out.write_all(bytes)?;
        self.end(bytes.len() as u64)
    }

    /// Begins the file `name`: exactly `size` bytes must be written to [`Tarball::out`] then.
    pub(super) fn begin(&mut self, name: &str, size: u64) -> io::Result<()> {
        self.header(name, EntryType::Regular, 0o644, size)
    }

    /// Ends a file of `size` bytes.
    pub(super) fn end(&mut self, size: u64) -> io::Result<()> {
        self.at += size.next_multiple_of(BLOCK);
        let padding = size.next_multiple_of(BLOCK) - size;
        io::copy(&mut io::repeat(0).take(padding), &mut self.out).map(drop)
    }

    /// Returns where the content of a file goes.
    pub(super) fn out(&mut self) -> &mut W {
        &mut self.out
    }

    /// Ends the archive and returns what it was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK as usize])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn header(&mut self, name: &str, kind: EntryType, mode: u32, size: u64) -> io::Result<()> {
        self.at += BLOCK;
        self.out.write_all(header(name, kind, mode, size)?.as_bytes())
    }
}

impl<W: Out> Tarball<W> {
    /// Begins the file `name`, whose length is said when it ends.
    pub(super) fn begin_open(&mut self, name: &str) -> io::Result<Open> {
        let header_at = self.at;
        self.begin(name, 0)?;
        Ok(Open { name: name.into(), header_at })
    }

    /// Ends a file that got `size` bytes.
    pub(super) fn end_open(&mut self, open: &Open, size: u64) -> io::Result<()> {
        let header = header(&open.name, EntryType::Regular, 0o644, size)?;
        self.out.rewrite(open.header_at, header.as_bytes())?;
        self.end(size)
    }
}

/// A file whose length is not known yet.
#[derive(Debug)]
pub(super) struct Open {
    name: String,
    header_at: u64,
}

fn header(name: &str, kind: EntryType, mode: u32, size: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}
