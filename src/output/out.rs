//! Where an archive goes: a file in which the length of a member can be filled in later, or a stream, which is gone as it is written.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;

/// What is collected before it is written.
pub(super) const BUFFER: usize = 256 << 10;

/// Takes an archive.
pub(super) trait Out: Write {
    /// Returns whether what was written can be changed.
    fn can_rewrite(&self) -> bool;

    /// Changes what was written `at` bytes behind the beginning.
    fn rewrite(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
}

/// A file that is written from its beginning.
pub(super) struct FileOut<'a> {
    file: &'a File,
    buffer: BufWriter<&'a File>,
}

impl<'a> FileOut<'a> {
    /// Returns `file`, which is empty, as a place for an archive.
    pub(super) fn new(file: &'a File) -> Self {
        FileOut { file, buffer: BufWriter::with_capacity(BUFFER, file) }
    }
}

impl Write for FileOut<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.buffer.flush()
    }
}

impl Out for FileOut<'_> {
    fn can_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.buffer.flush()?;
        self.file.write_all_at(bytes, at)
    }
}

/// A pipe, or anything else that can only be written on.
pub(super) struct Streamed<'a>(pub(super) &'a mut dyn Write);

impl Write for Streamed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Out for Streamed<'_> {
    fn can_rewrite(&self) -> bool {
        false
    }

    fn rewrite(&mut self, _at: u64, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl<T: Out + ?Sized> Out for &mut T {
    fn can_rewrite(&self) -> bool {
        (**self).can_rewrite()
    }

    fn rewrite(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        (**self).rewrite(at, bytes)
    }
}
