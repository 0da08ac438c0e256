use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::image::Descriptor;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::OutputError;
use crate::oci::{Digest, DigestReader, ImageError, MAX_DOCUMENT, digest_of};
use crate::progress::{Event, Sink};
use crate::store::{Store, StoreError};

/// How many bytes are copied at once.
const CHUNK: usize = 256 << 10;
/// How many bytes pass between two [`Event::Transfer`].
const REPORT: u64 = 8 << 20;

/// A file that was opened in a [`Source`], and its length in bytes.
pub(super) type Opened<'a> = (Box<dyn Read + Send + 'a>, u64);

/// Files of a layout: in a folder or in an archive.
pub(super) trait Source {
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

/// Returns the manifest, index or configuration that `descriptor` leads to, verified. `what` names it in errors.
pub(super) fn read_document(source: &dyn Source, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, OutputError> {
    let digest = digest_of(descriptor)?;
    let missing = || OutputError::Missing { what: what.into(), path: source.path().to_path_buf() };
    if descriptor.size() > MAX_DOCUMENT {
        let (found, limit) = (descriptor.size(), MAX_DOCUMENT);
        return Err(ImageError::TooLarge { what: what.into(), found, unit: "bytes", limit }.into());
    }
    let bytes = read_file(source, &blob_name(&digest))?.ok_or_else(missing)?;
    check_length(what, descriptor.size(), bytes.len() as u64)?;
    let found = Digest::of(&bytes);
    if found != digest {
        return Err(OutputError::Digest { what: what.into(), expected: digest, found });
    }
    Ok(bytes)
}

/// Copies the blob of `size` bytes that `opened` gives into the store as `digest`, verified; length first.
pub(super) fn copy_in(
    source: &dyn Source,
    (mut reader, length): Opened<'_>,
    (digest, size): (&Digest, u64),
    store: &Store,
    meter: &mut Meter<'_>,
) -> Result<(), OutputError> {
    let what = format!("blob {digest} in {}", source.path().display());
    check_length(&what, size, length)?;
    let mut writer = store.blob_writer()?;
    let read = |error| OutputError::io("read", source.path(), error);
    let copied = copy(&mut reader, &mut writer, size, meter);
    let copied = copied.map_err(|failure| match failure {
        Failure::Read(error) => read(error),
        Failure::Write(error) => writer.error(error).into(),
    })?;
    check_length(&what, size, copied)?;
    match writer.finish_as(digest, size) {
        Err(StoreError::Mismatch { expected, found, .. }) => Err(OutputError::Digest { what, expected, found }),
        other => Ok(other?),
    }
}

/// Copies a blob of the store to `out`, verified. `size` is its length.
pub(super) fn copy_out(
    store: &Store,
    (digest, size): (&Digest, u64),
    out: &mut dyn Write,
    meter: &mut Meter<'_>,
    write_error: &dyn Fn(io::Error) -> OutputError,
) -> Result<(), OutputError> {
    let mut reader = DigestReader::new(store.open_blob(digest)?);
    let failed = |failure| match failure {
        Failure::Read(source) => StoreError::Io { call: "read", path: store.blob_path(digest), source }.into(),
        Failure::Write(source) => write_error(source),
    };
    copy(&mut reader, out, size, meter).map_err(failed)?;
    let (mut rest, found, found_size) = reader.finish();
    // One byte more would not be read by the copy.
    let longer = rest.read(&mut [0]).is_ok_and(|n| n > 0);
    if found == *digest && found_size == size && !longer {
        return Ok(());
    }
    let what = format!("blob {digest} of the store");
    Err(StoreError::Mismatch { what, expected: *digest, expected_size: size, found, found_size }.into())
}

/// Which side of a copy failed.
pub(super) enum Failure {
    Read(io::Error),
    Write(io::Error),
}

/// Copies at most `limit` bytes and returns how many they were.
pub(super) fn copy(
    reader: &mut dyn Read,
    writer: &mut dyn Write,
    limit: u64,
    meter: &mut Meter<'_>,
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

/// Counts bytes and reports them, not too often.
pub(super) struct Meter<'a> {
    sink: &'a dyn Sink,
    what: String,
    done: u64,
    total: Option<u64>,
    reported: u64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(sink: &'a dyn Sink, what: String, total: Option<u64>) -> Self {
        Meter { sink, what, done: 0, total, reported: 0 }
    }

    pub(super) fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        if self.done - self.reported >= REPORT || (self.total == Some(self.done) && self.done > self.reported) {
            self.reported = self.done;
            self.sink.emit(Event::Transfer { what: self.what.clone(), done: self.done, total: self.total });
        }
    }
}
