//! What git put on the disk, as entries: with modes and times that depend on the commit alone.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::fetch::FetchError;
use crate::oci::DigestWriter;
use crate::tree::{Entry, FileDigest, Kind, Meta, Mtime, TreePath};

/// Returns all that is in the folder `root`, which only git wrote to.
pub(super) fn entries(root: &Path, time: i64) -> Result<Vec<Entry>, FetchError> {
    let mut entries = Vec::new();
    let mut todo = vec![TreePath::root()];
    while let Some(dir) = todo.pop() {
        let path = root.join(dir.as_os_path());
        let fail = |source| FetchError::Io { call: "read", path: path.clone(), source };
        for file in fs::read_dir(&path).map_err(fail)? {
            let file = file.map_err(fail)?;
            let child = dir.child(file.file_name().as_bytes());
            let (kind, mode) =
                kind(&file.path()).map_err(|source| FetchError::Io { call: "read", path: file.path(), source })?;
            if kind.is_dir() {
                todo.push(child.clone());
            }
            entries.push(entry(child, kind, mode, time));
        }
    }
    entries.push(entry(TreePath::root(), Kind::Dir, 0o755, time));
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

fn entry(path: TreePath, kind: Kind, mode: u32, time: i64) -> Entry {
    Entry { path, kind, meta: Meta { mode, mtime: Mtime::from_secs(time), ..Meta::default() }, implied: false }
}

fn kind(path: &Path) -> io::Result<(Kind, u32)> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_dir() {
        return Ok((Kind::Dir, 0o755));
    }
    if meta.is_symlink() {
        let target = fs::read_link(path)?.into_os_string().as_bytes().to_vec();
        return Ok((Kind::Symlink { target }, 0o777));
    }
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file that git makes"));
    }
    let mut writer = DigestWriter::new(io::sink());
    io::copy(&mut File::open(path)?, &mut writer)?;
    let (_, digest, size) = writer.finish();
    // The owner's bit is what git has; the others depend on the umask.
    let mode = if meta.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
    Ok((Kind::File { size, digest: Some(FileDigest(*digest.raw())) }, mode))
}
