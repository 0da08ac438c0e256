//! How the bytes of a file get to disk.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::io_error;
use crate::layer::LayerError;
use crate::tree::{FileDigest, TreePath};

/// Bytes read and written at once.
const BUFFER: usize = 256 << 10;

/// Bytes from which on a buffer full of zeros is left out as a hole.
const HOLE: usize = 64 << 10;

/// Writes the contents of files, with one buffer for all.
#[derive(Debug, Default)]
pub(super) struct Copier {
    buffer: Vec<u8>,
    /// The file system cannot share blocks between files.
    no_clone: bool,
}

/// What was written.
#[derive(Debug)]
pub(super) struct Written {
    /// Bytes, holes included.
    pub(super) length: u64,
    /// SHA-256, where the bytes passed through here.
    pub(super) digest: Option<FileDigest>,
}

impl Copier {
    /// Writes what `reader` gives to the empty file `to`.
    pub(super) fn stream(
        &mut self,
        reader: &mut dyn Read,
        to: &OwnedFd,
        path: &TreePath,
    ) -> Result<Written, LayerError> {
        let mut hasher = Sha256::new();
        let length = self.copy(&mut |buf, _| reader.read(buf), to, path, &mut |bytes| hasher.update(bytes))?;
        Ok(Written { length, digest: Some(FileDigest(hasher.finalize().into())) })
    }

    /// Makes the empty file `to` a copy of `from`: shares its blocks, else lets the kernel copy, else copies.
    pub(super) fn clone_file(&mut self, from: &File, to: &OwnedFd, path: &TreePath) -> Result<Written, LayerError> {
        let fail = |error: Errno| io_error("write", path, error);
        let size = rustix::fs::fstat(from).map_err(fail)?.st_size.unsigned_abs();
        if size > 0 && !self.no_clone {
            match rustix::fs::ioctl_ficlone(to, from) {
                Ok(()) => {
                    let length = rustix::fs::fstat(to).map_err(fail)?.st_size.unsigned_abs();
                    return Ok(Written { length, digest: None });
                }
                Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS) => self.no_clone = true,
                // Another file system, a special file: the next one may be better.
                Err(_) => {}
            }
        }
        let (mut read, mut written) = (0, 0);
        loop {
            match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), 1 << 30) {
                // Files of /proc and the like say that they are empty, and are not.
                Ok(0) if written == 0 => break,
                Ok(0) => return Ok(Written { length: written, digest: None }),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => return Err(fail(error)),
                Err(_) if written == 0 => break,
                Err(error) => return Err(fail(error)),
            }
        }
        let mut read = |buf: &mut [u8], offset| rustix::io::pread(from, buf, offset).map_err(io::Error::from);
        let length = self.copy(&mut read, to, path, &mut |_| {})?;
        Ok(Written { length, digest: None })
    }

    /// Writes what `read` gives for a buffer and an offset, until it gives nothing; returns the length.
    fn copy(
        &mut self,
        read: &mut dyn FnMut(&mut [u8], u64) -> io::Result<usize>,
        to: &OwnedFd,
        path: &TreePath,
        seen: &mut dyn FnMut(&[u8]),
    ) -> Result<u64, LayerError> {
        self.buffer.resize(BUFFER, 0);
        let mut length = 0u64;
        let mut hole_at_end = false;
        loop {
            let n = match read(&mut self.buffer, length) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(io_error("read the contents of", path, source)),
            };
            let bytes = &self.buffer[..n];
            seen(bytes);
            hole_at_end = n >= HOLE && is_zero(bytes);
            if !hole_at_end {
                write_all(to, bytes, length).map_err(|error| io_error("write", path, error))?;
            }
            length += n as u64;
        }
        if hole_at_end {
            rustix::fs::ftruncate(to, length).map_err(|error| io_error("write", path, error))?;
        }
        Ok(length)
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    // Each byte is the one before it, and the first is 0: one memcmp.
    bytes.first() == Some(&0) && bytes[1..] == bytes[..bytes.len() - 1]
}

fn write_all(to: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(to, bytes, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(n) => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
