use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::OutputError;
use super::content::Blob;
use crate::oci::{Digest, ImageError, MAX_DOCUMENT};
use crate::progress::{Event, Sink};

/// How many bytes are copied at once.
const CHUNK: usize = 256 << 10;
/// How many bytes pass between two [`Event::Transfer`].
const REPORT: u64 = 8 << 20;

/// A file that was opened in a [`Source`], and its length in bytes.
pub(super) type Opened<'a> = Blob<'a>;

/// Files of a layout: in a folder or in an archive.
pub(super) trait Source: Sync {
    /// Returns the folder or archive, for errors.
    fn path(&self) -> &Path;

    /// Opens the regular file `name`, as "blobs/sha256/…"; `None` where there is none.
    fn open(&self, name: &str) -> Result<Option<Opened<'_>>, OutputError>;
}

/// A folder. Nothing in it is reached through a symbolic link.
#[derive(Debug)]
pub(super) struct Dir {
    path: PathBuf,
    fd: OwnedFd,
}

impl Dir {
    pub(super) fn open(path: &Path) -> Result<Self, OutputError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| OutputError::io("open", path, errno.into()))?;
        Ok(Dir { path: path.to_path_buf(), fd })
    }
}

impl Source for Dir {
    fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self, name: &str) -> Result<Option<Opened<'_>>, OutputError> {
        let path = self.path.join(name);
        let mut at: Option<OwnedFd> = None;
        let mut parts = name.split('/').peekable();
        while let Some(part) = parts.next() {
            let dir: BorrowedFd<'_> = at.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            // Without NONBLOCK the open of a fifo would wait for a writer.
            let kind = if parts.peek().is_some() { OFlags::DIRECTORY } else { OFlags::NONBLOCK };
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | kind;
            match rustix::fs::openat(dir, part, flags, Mode::empty()) {
                Ok(fd) => at = Some(fd),
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::LOOP) => return Err(OutputError::damaged(&path, "it is a symbolic link")),
                Err(Errno::NOTDIR) => {
                    return Err(OutputError::damaged(&path, "a part of its path is not a directory"));
                }
                Err(errno) => return Err(OutputError::io("open", &path, errno.into())),
            }
        }
        let Some(fd) = at else { return Ok(None) };
        let file = File::from(fd);
        let metadata = file.metadata().map_err(|source| OutputError::io("open", &path, source))?;
        if !metadata.is_file() {
            return Err(OutputError::damaged(&path, "it is not a regular file"));
        }
        Ok(Some((Box::new(file), metadata.len())))
    }
}

/// Returns where the blob `digest` lies in a layout.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Returns the content of the file `name`, of at most [`MAX_DOCUMENT`] bytes; `None` where there is none.
pub(super) fn read_file(source: &dyn Source, name: &str) -> Result<Option<Vec<u8>>, OutputError> {
    let Some((reader, size)) = source.open(name)? else { return Ok(None) };
    if size > MAX_DOCUMENT {
        let what = format!("{name:?} in {}", source.path().display());
        return Err(ImageError::TooLarge { what, found: size, unit: "bytes", limit: MAX_DOCUMENT }.into());
    }
    let mut bytes = Vec::with_capacity(size as usize);
    let read = reader.take(MAX_DOCUMENT).read_to_end(&mut bytes);
    read.map_err(|error| OutputError::io("read", source.path(), error))?;
    Ok(Some(bytes))
}

/// Which side of a copy failed.
pub(super) enum Failure {
    Read(io::Error),
    Write(io::Error),
}

/// Copies at most `limit` bytes and returns how many they were.
pub(super) fn copy_bytes(
    reader: &mut dyn Read,
    writer: &mut dyn Write,
    limit: u64,
    meter: &Meter<'_>,
) -> Result<u64, Failure> {
    let mut buffer = vec![0; CHUNK.min(limit.max(1) as usize)];
    let mut copied = 0;
    while copied < limit {
        let want = buffer.len().min((limit - copied) as usize);
        let n = match reader.read(&mut buffer[..want]) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::Read(error)),
        };
        writer.write_all(&buffer[..n]).map_err(Failure::Write)?;
        copied += n as u64;
        meter.advance(n as u64);
    }
    Ok(copied)
}

pub(super) fn check_length(what: &str, expected: u64, found: u64) -> Result<(), OutputError> {
    if expected == found {
        return Ok(());
    }
    Err(OutputError::Length { what: what.into(), expected, found })
}

/// Counts bytes and reports them, not too often. Several threads may count.
pub(super) struct Meter<'a> {
    sink: &'a dyn Sink,
    what: String,
    done: AtomicU64,
    total: Option<u64>,
    reported: AtomicU64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(sink: &'a dyn Sink, what: String, total: Option<u64>) -> Self {
        Meter { sink, what, done: AtomicU64::new(0), total, reported: AtomicU64::new(0) }
    }

    pub(super) fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let reported = self.reported.load(Ordering::Relaxed);
        if done.saturating_sub(reported) >= REPORT || (self.total == Some(done) && done > reported) {
            self.reported.store(done, Ordering::Relaxed);
            self.sink.emit(Event::Transfer { what: self.what.clone(), done, total: self.total });
        }
    }
}
