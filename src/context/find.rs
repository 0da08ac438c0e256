//! Finds and reads the files beside the sources: the Dockerfile and the ignore file.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::files::Files;
use super::host_dir::word;
use super::{Context, ContextError, IgnoreRules};
use crate::tree::{self, TreePath};

/// The largest Dockerfile, in bytes.
const DOCKERFILE: u64 = 16 << 20;

/// The largest ignore file, in bytes.
const IGNORE_FILE: u64 = 1 << 20;

/// Whether a link in the last component of a path outside of the context is followed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LastLink {
    Follow,
    Refuse,
}

pub(super) fn dockerfile(context: &Context, file: Option<&Path>) -> Result<(PathBuf, String), ContextError> {
    let (path, bytes) = match file {
        Some(path) => {
            let missing = || ContextError::Read { path: path.to_path_buf(), source: Errno::NOENT.into() };
            let bytes = read_anywhere(context, path, DOCKERFILE, LastLink::Follow)?.ok_or_else(missing)?;
            (path.to_path_buf(), bytes)
        }
        None => ["Containerfile", "Dockerfile", "dockerfile"]
            .iter()
            .find_map(|name| {
                let path = context.named(name);
                read_inside(context, name.as_bytes(), &path, DOCKERFILE).map(|read| Some((path, read?))).transpose()
            })
            .transpose()?
            .ok_or_else(|| ContextError::NoDockerfile { dir: context.path.clone() })?,
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok((path, text)),
        Err(bad) => Err(ContextError::NotUtf8 { path, at: bad.utf8_error().valid_up_to() }),
    }
}

/// Returns the ignore file that counts, and its rules. Bytes that are no UTF-8 match nothing.
pub(super) fn ignore_rules(
    context: &Context,
    dockerfile: Option<&Path>,
) -> Result<Option<(PathBuf, IgnoreRules)>, ContextError> {
    let mut found = None;
    for suffix in [".containerignore", ".dockerignore"] {
        let Some(dockerfile) = dockerfile.filter(|_| found.is_none()) else { continue };
        let mut name = dockerfile.as_os_str().to_owned();
        name.push(suffix);
        let path = PathBuf::from(name);
        found = read_anywhere(context, &path, IGNORE_FILE, LastLink::Refuse)?.map(|bytes| (path, bytes));
    }
    for name in [".containerignore", ".dockerignore"] {
        if found.is_none() {
            let path = context.named(name);
            found = read_inside(context, name.as_bytes(), &path, IGNORE_FILE)?.map(|bytes| (path, bytes));
        }
    }
    found.map(|(path, bytes)| parsed(path, &bytes)).transpose()
}

/// Returns the rules in the file `path` of the host, which the user named.
pub(super) fn named_rules(context: &Context, path: &Path) -> Result<(PathBuf, IgnoreRules), ContextError> {
    let bytes = match &context.files {
        Files::Host(_) => read_anywhere(context, path, IGNORE_FILE, LastLink::Follow)?,
        Files::Known(_) => read_outside(path, IGNORE_FILE, LastLink::Follow)?,
    };
    let missing = || ContextError::Read { path: path.to_path_buf(), source: Errno::NOENT.into() };
    parsed(path.to_path_buf(), &bytes.ok_or_else(missing)?)
}

fn parsed(path: PathBuf, bytes: &[u8]) -> Result<(PathBuf, IgnoreRules), ContextError> {
    match IgnoreRules::parse(&String::from_utf8_lossy(bytes)) {
        Ok(rules) => Ok((path, rules)),
        Err(source) => Err(ContextError::Ignore { path, source }),
    }
}

/// Reads `path` of the host; `None` where nothing is. A path that leads into the context is read inside of it, so that
/// a link there cannot show a file of the host.
fn read_anywhere(context: &Context, path: &Path, limit: u64, last: LastLink) -> Result<Option<Vec<u8>>, ContextError> {
    if let Files::Known(_) = context.files {
        return read_inside(context, path.as_os_str().as_bytes(), path, limit);
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let (Ok(parent), Ok(root), Some(name)) = (parent.canonicalize(), context.path.canonicalize(), path.file_name())
        && let Ok(inside) = parent.strip_prefix(&root)
    {
        return read_inside(context, inside.join(name).as_os_str().as_bytes(), path, limit);
    }
    read_outside(path, limit, last)
}

/// Reads `path` of the host, wherever it is; `None` where nothing is.
fn read_outside(path: &Path, limit: u64, last: LastLink) -> Result<Option<Vec<u8>>, ContextError> {
    let fail = |source| ContextError::Read { path: path.to_path_buf(), source };
    let stat = match last {
        LastLink::Follow => path.metadata(),
        LastLink::Refuse => path.symlink_metadata(),
    };
    // Opening a device can do something; look first.
    let found = match stat {
        Ok(stat) => stat.file_type(),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(fail(source)),
    };
    let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    if last == LastLink::Refuse {
        flags |= OFlags::NOFOLLOW;
    }
    if !found.is_file() {
        return Err(ContextError::NotAFile { path: path.to_path_buf(), found: std_word(found) });
    }
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path).map_err(fail)?;
    let found = file.metadata().map_err(fail)?.file_type();
    if !found.is_file() {
        return Err(ContextError::NotAFile { path: path.to_path_buf(), found: std_word(found) });
    }
    read(file, path, limit).map(Some)
}

/// Reads `inside`, a path in the context, which the user knows as `path`; `None` where nothing is. Links are followed,
/// but not out of the context.
fn read_inside(context: &Context, inside: &[u8], path: &Path, limit: u64) -> Result<Option<Vec<u8>>, ContextError> {
    // The rules do not count here: what finds files has not read them yet, or need not obey them.
    let place = tree::resolve(&Unfiltered(context), inside)?.path;
    let found = match context.files.file_type(&place)? {
        Some(found) => found,
        // A link that leads nowhere is an error, not the same as no file.
        None if tree::resolve_parent(&Unfiltered(context), inside)?.node.is_some() => {
            return Err(ContextError::NotAFile {
                path: path.to_path_buf(),
                found: "link to nothing in the build context",
            });
        }
        None => return Ok(None),
    };
    if found != FileType::RegularFile {
        return Err(ContextError::NotAFile { path: path.to_path_buf(), found: word(found) });
    }
    let file = context.files.open_file(&place)?;
    read(File::from(file), path, limit).map(Some)
}

fn read(file: File, path: &Path, limit: u64) -> Result<Vec<u8>, ContextError> {
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|source| ContextError::Read { path: path.to_path_buf(), source })?;
    if bytes.len() as u64 > limit {
        return Err(ContextError::TooLarge { path: path.to_path_buf(), limit });
    }
    Ok(bytes)
}

fn std_word(found: std::fs::FileType) -> &'static str {
    if found.is_fifo() {
        word(FileType::Fifo)
    } else if found.is_socket() {
        word(FileType::Socket)
    } else if found.is_char_device() {
        word(FileType::CharacterDevice)
    } else if found.is_block_device() {
        word(FileType::BlockDevice)
    } else if found.is_symlink() {
        word(FileType::Symlink)
    } else {
        word(FileType::Directory)
    }
}

/// The context without its rules: for links to the files of this module only.
struct Unfiltered<'a>(&'a Context);

impl tree::Tree for Unfiltered<'_> {
    fn lookup(&self, path: &TreePath) -> Result<Option<tree::Node>, tree::Error> {
        self.0.files.node(path)
    }

    fn read_dir(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, tree::Node)>, tree::Error> {
        self.0.read_dir(path)
    }

    fn open(&self, path: &TreePath) -> Result<File, tree::Error> {
        self.0.open(path)
    }

    fn digests(&self, paths: &[TreePath]) -> Result<Vec<tree::FileDigest>, tree::Error> {
        self.0.digests(paths)
    }
}
